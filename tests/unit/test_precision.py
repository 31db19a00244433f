"""Models converted to fp16 and bf16: types of weights, inputs and outputs, and values that survive."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from models import FASHION_CNN, OCR_CLS, OCR_DET, SCALE, save
from onnx import TensorProto, numpy_helper
from PIL import Image

from workbench import Model, load_model
from workbench.errors import ConfigError
from workbench.precision import convert
from workbench.reference import Reference

PICTURE = OCR_DET.parents[1] / "pictures" / "coffee.jpg"
TYPES = {"fp16": "float16", "bf16": "bfloat16"}
CONSTANT = "(float[n,2] x) => (float[n,2] y) { [c] c = Constant<value = float[2] {1.5, 100000}>() [mul] y = Mul(x, c) }"
CONSTANT_FLOATS = CONSTANT.replace("value = float[2] {1.5, 100000}", "value_floats = [1.5, 100000.0]")
IN_BODY = """(float[n,2] x, bool c) => (float[n,2] y) {
    [if] y = If (c) <then_branch = yes () => (float[n,2] p) { [const] k = Constant<value = float[2] {1.5, 100000}>()
                                                             [mul] p = Mul(x, k) },
                     else_branch = no () => (float[n,2] q) { [same] q = Identity(x) }> }"""

both = pytest.mark.parametrize("precision", ["fp16", "bf16"])


def weights(model: Model) -> dict[str, np.ndarray]:
    """Every floating-point weight, in initializers and Constant nodes."""
    graph = model.proto.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    tensors |= {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    arrays = {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()}
    return {name: array for name, array in arrays.items() if array.dtype.name.endswith(("float16", "float32"))}


def types(model: Model) -> list[str]:
    return [spec.dtype for spec in (*model.inputs, *model.outputs)]


@both
def test_weights_get_the_lower_type_and_inputs_and_outputs_keep_theirs(
    fashion_cnn: Model, tmp_path: Path, precision: str
) -> None:
    converted = convert(fashion_cnn, precision, tmp_path)
    assert {array.dtype.name for array in weights(converted).values()} == {TYPES[precision]}
    assert types(converted) == ["float32", "float32"]
    assert converted.inputs == fashion_cnn.inputs


@both
def test_inputs_and_outputs_get_it_too_where_asked(fashion_cnn: Model, tmp_path: Path, precision: str) -> None:
    assert types(convert(fashion_cnn, precision, tmp_path, keep_io_types=False)) == [TYPES[precision]] * 2


@both
@pytest.mark.parametrize("path", [FASHION_CNN, OCR_DET, OCR_CLS], ids=lambda path: path.stem)
def test_the_models_nodes_keep_their_names(path: Path, tmp_path: Path, precision: str) -> None:
    model = load_model(path)
    converted = {node.name for node in convert(model, precision, tmp_path).nodes}
    assert {node.name for node in model.nodes} <= converted


@both
def test_the_original_is_left_as_it_was(fashion_cnn: Model, tmp_path: Path, precision: str) -> None:
    before = fashion_cnn.to_bytes()
    convert(fashion_cnn, precision, tmp_path)
    assert fashion_cnn.to_bytes() == before


@both
def test_weights_are_the_originals_rounded_once(fashion_cnn: Model, tmp_path: Path, precision: str) -> None:
    original = weights(fashion_cnn)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(getattr(TensorProto, TYPES[precision].upper()))
    for name, array in weights(convert(fashion_cnn, precision, tmp_path)).items():
        wanted = original[name].astype(dtype).astype(np.float32)
        np.testing.assert_allclose(array.astype(np.float32), wanted, atol=6e-8 if precision == "fp16" else 0)


@pytest.mark.parametrize("graph", [CONSTANT, CONSTANT_FLOATS, SCALE], ids=["Constant", "value_floats", "initializer"])
def test_bf16_keeps_values_beyond_the_range_of_float16(tmp_path: Path, graph: str) -> None:
    initializer = {"w": np.array([1.5, 1e5], np.float32)} if graph is SCALE else {}
    converted = convert(load_model(save(tmp_path / "net.onnx", graph, **initializer)), "bf16", tmp_path)
    (array,) = weights(converted).values()
    assert array.dtype.name == "bfloat16"
    assert array.astype(np.float32).tolist() == [1.5, 99840.0]


@both
def test_weights_up_to_float16s_largest_are_not_clipped(tmp_path: Path, precision: str) -> None:
    values = np.array([60000.0, -60000.0], np.float32)
    converted = convert(load_model(save(tmp_path / "net.onnx", SCALE, w=values)), precision, tmp_path)
    np.testing.assert_allclose(weights(converted)["w"].astype(np.float32), values, rtol=0.005)


@both
def test_bodies_of_if_and_loop_are_converted_with_their_weights(tmp_path: Path, precision: str) -> None:
    converted = convert(load_model(save(tmp_path / "net.onnx", IN_BODY)), precision, tmp_path)
    branch = next(node for node in converted.nodes if node.name == "if")
    constant = next(node for item in branch.attribute for node in item.g.node if node.name == "const")
    value = numpy_helper.to_array(constant.attribute[0].t)
    assert value.dtype.name == TYPES[precision]
    assert value.astype(np.float32)[1] == (99840.0 if precision == "bf16" else 65504.0)


def test_weights_in_external_files_are_converted(fashion_cnn: Model, tmp_path: Path) -> None:
    onnx.save_model(
        onnx.load(FASHION_CNN), tmp_path / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    model = load_model(tmp_path / "net.onnx")
    (tmp_path / "out").mkdir()
    converted = convert(model, "fp16", tmp_path / "out")
    for name, array in weights(convert(fashion_cnn, "fp16", tmp_path)).items():
        np.testing.assert_array_equal(array, weights(converted)[name])


@pytest.mark.parametrize("precision", ["fp32", "tf32", "int8"])
def test_other_precisions_are_not_reached_by_converting(fashion_cnn: Model, tmp_path: Path, precision: str) -> None:
    with pytest.raises(ConfigError, match="only fp16 and bf16 are"):
        convert(fashion_cnn, precision, tmp_path)


@both
def test_kept_nodes_stay_float32_with_their_weights(fashion_cnn: Model, tmp_path: Path, precision: str) -> None:
    converted = convert(fashion_cnn, precision, tmp_path, keep=("/classifier/Gemm",))
    (gemm,) = (node for node in converted.nodes if node.name == "/classifier/Gemm")
    kept = {name: array.dtype.name for name, array in weights(converted).items() if name in gemm.input}
    others = {array.dtype.name for name, array in weights(converted).items() if name not in gemm.input}
    assert len(kept) == 2 and set(kept.values()) == {"float32"}
    assert others == {TYPES[precision]}


@both
def test_the_constants_of_kept_nodes_are_not_rounded(tmp_path: Path, precision: str) -> None:
    model = load_model(save(tmp_path / "net.onnx", CONSTANT))
    (constant,) = weights(convert(model, precision, tmp_path, keep=("mul",))).values()
    assert constant.dtype == np.float32


VARIANCE = """(float[n,2] x) => (float[n,2] y)
    <float[2] scale = {2.0, 3.0}, float[2] bias = {0.5, -1.0}, float[2] mean = {0.0, 100.0}, float[2] var = {4e8, 0.25}>
    { [norm] y = BatchNormalization (x, scale, bias, mean, var) }"""


def test_a_variance_beyond_float16_gives_what_it_gave_before(tmp_path: Path) -> None:
    """PP-OCRv4's detector has variances of 1e7 to 1e8; rounded to 65,504, activations came out 39 times too large."""
    model = load_model(save(tmp_path / "net.onnx", VARIANCE))
    feeds = {"x": np.array([[20_000, 100], [-5000, 101]], np.float32)}
    (wanted,) = Reference(model).run(feeds).values()
    (found,) = Reference(convert(model, "fp16", tmp_path)).run(feeds).values()
    assert np.allclose(found, wanted, rtol=2e-3, atol=2e-3)


def test_the_ocr_detector_answers_in_fp16_as_in_fp32(tmp_path: Path) -> None:
    model = load_model(OCR_DET)
    picture = np.asarray(Image.open(PICTURE).convert("RGB").resize((320, 320)), np.float32) / 255
    feeds = {"x": ((picture - 0.45) / 0.225).transpose(2, 0, 1)[None].astype(np.float32)}
    (wanted,) = Reference(model).run(feeds).values()
    (found,) = Reference(convert(model, "fp16", tmp_path)).run(feeds).values()
    assert wanted.max() > 0.5 and np.linalg.norm(found - wanted) < 0.05 * np.linalg.norm(wanted)
