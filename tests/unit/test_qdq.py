"""Models in int8: where Q/DQ nodes go, what they compute, and what NVIDIA's builder makes of them."""

from __future__ import annotations

import lzma
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from models import FASHION_CNN, MODELS, OCR_CLS, OCR_DET, RELU, parse, save, save_over_2gb
from onnx import NodeProto, TensorProto, helper, numpy_helper

from workbench import BuildConfig, Model, default_profile, load_model
from workbench.backends import rtx
from workbench.backends.onnxruntime import EXACT_INT8
from workbench.errors import ConfigError, ModelError
from workbench.layers import LayerInfo
from workbench.profiles import opt_shapes
from workbench.qdq import quantizable, quantize
from workbench.types import LogLine, ignore

RANDOM = np.random.default_rng(0)
PAIR = ("QuantizeLinear", "DequantizeLinear")


@pytest.fixture(autouse=True)
def same_numbers_in_any_order() -> None:
    """Whichever tests ran before."""
    RANDOM.bit_generator.state = np.random.default_rng(0).bit_generator.state


def weights(*shape: int) -> np.ndarray:
    return (RANDOM.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


BLOCK = """(float[n,8,16,16] x) => (float[n,8,8,8] y) {
    [stem] a = Conv<pads = [1,1,1,1]>(x, w1)
    [relu] b = Relu(a)
    [pool] c = MaxPool<kernel_shape = [2,2], strides = [2,2]>(b)
    [left] d = Conv<pads = [1,1,1,1]>(c, w2)
    [add] e = Add(d, c)
    [relu2] f = Relu(e)
    [average] g = AveragePool<kernel_shape = [3,3], pads = [1,1,1,1], count_include_pad = 1>(f)
    [one] h = Conv(f, w3)
    [other] i = Conv(g, w4)
    [relu3] j = Relu(i)
    [concat] k = Concat<axis = 1>(h, j)
    [last] y = Conv(k, w5) }"""
"""A residual addition, a concatenation and two kinds of pooling."""

TRANSFORMER = """(float[n,6,32] x) => (float[n,6,32] y) {
    [norm] u = LayerNormalization(x, g, b)
    [query] q = MatMul(u, wq)
    [key] k = MatMul(u, wk)
    [value] v = MatMul(u, wv)
    [turn] kt = Transpose<perm = [0,2,1]>(k)
    [scores] s = MatMul(q, kt)
    [softmax] p = Softmax(s)
    [mix] m = MatMul(p, v)
    [out] o = MatMul(m, wo)
    [bias] ob = Add(o, b)
    [residual] r = Add(x, ob)
    [up] h = MatMul(r, w1)
    [erf] e = Erf(h)
    [gate] hh = Mul(h, e)
    [down] z = MatMul(hh, w2)
    [residual2] y = Add(r, z) }"""


@pytest.fixture
def block(tmp_path: Path) -> Model:
    sizes = {"w1": (8, 8, 3, 3), "w2": (8, 8, 3, 3), "w3": (4, 8, 1, 1), "w4": (4, 8, 1, 1), "w5": (8, 8, 1, 1)}
    return load_model(save(tmp_path / "block.onnx", BLOCK, **{name: weights(*size) for name, size in sizes.items()}))


@pytest.fixture
def transformer(tmp_path: Path) -> Model:
    matrices = {name: weights(32, 32) for name in ("wq", "wk", "wv", "wo")}
    vectors = {"g": np.ones(32, np.float32), "b": np.zeros(32, np.float32)}
    path = tmp_path / "transformer.onnx"
    return load_model(save(path, TRANSFORMER, **matrices, **vectors, w1=weights(32, 64), w2=weights(64, 32)))


def feeds_of(model: Model) -> dict[str, np.ndarray]:
    shapes = opt_shapes(model.inputs, (default_profile(model.inputs),))
    return {name: RANDOM.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def run(model: Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """With sums of int8 products that do not saturate, as the back end has them."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(*EXACT_INT8)
    return onnxruntime.InferenceSession(str(model.path), options).run(None, feeds)[0]


def ranges(model: Model, feeds: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest magnitude of every float tensor, by a run that shows them all."""
    proto = onnx.shape_inference.infer_shapes(model.proto)
    floats = {item.name for item in proto.graph.value_info if item.type.tensor_type.elem_type == TensorProto.FLOAT}
    shown = [item.name for item in proto.graph.output]
    made = [name for node in proto.graph.node for name in node.output if name in floats and name not in shown]
    proto.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    found = dict(zip([item.name for item in session.get_outputs()], session.run(None, feeds), strict=True))
    return {name: float(np.abs(value).max()) for name, value in {**feeds, **found}.items() if value.size}


def relative_error(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def int8_inputs(model: Model, node: str) -> list[int]:
    """The inputs of a node that are read in int8."""
    makers = {name: item for item in model.nodes for name in item.output}
    (found,) = (item for item in model.nodes if item.name == node)
    return [
        index for index, name in enumerate(found.input) if name in makers and makers[name].op_type == "DequantizeLinear"
    ]


def quantizers(model: Model, tensor: str) -> list[NodeProto]:
    return [node for node in model.nodes if node.op_type == "QuantizeLinear" and node.input[0] == tensor]


def array(model: Model, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(item for item in model.proto.graph.initializer if item.name == name))


Quantized = Callable[..., Model]


@pytest.fixture
def quantized(tmp_path: Path) -> Quantized:
    def make(model: Model, amax: dict[str, float] | None = None, **options: object) -> Model:
        return quantize(model, amax or ranges(model, feeds_of(model)), tmp_path, **options)  # type: ignore[arg-type]

    return make


# ---- where the nodes go


def test_nodes_with_weights_and_those_between_them_compute_in_int8(block: Model, transformer: Model) -> None:
    assert quantizable(block) == ("stem", "pool", "left", "add", "average", "one", "other", "concat", "last")
    assert quantizable(transformer) == ("query", "key", "value", "out", "up", "down")


def test_of_a_residual_addition_the_input_beside_the_convolution_is_quantized(
    block: Model, quantized: Quantized
) -> None:
    model = quantized(block)
    assert int8_inputs(model, "add") == [1]
    assert not quantizers(model, "d") and not quantizers(model, "e"), "the convolution adds it in its own kernel"


def test_all_inputs_of_a_concatenation_take_the_scale_of_what_it_gives(block: Model, quantized: Quantized) -> None:
    model = quantized(block)
    assert int8_inputs(model, "concat") == [0, 1]
    (one,), (other,), (whole,) = (quantizers(model, name) for name in "hjk")
    assert one.input[1] == other.input[1] == whole.input[1]


def test_a_maximum_is_taken_of_values_in_the_scale_of_its_result(block: Model, quantized: Quantized) -> None:
    model = quantized(block)
    (before,), (after,) = quantizers(model, "b"), quantizers(model, "c")
    assert before.input[1] == after.input[1]


def test_a_tensor_is_quantized_once_and_every_reader_has_a_node_of_its_own(block: Model, quantized: Quantized) -> None:
    model = quantized(block)
    (node,) = quantizers(model, "f")
    readers = [item for item in model.nodes if item.op_type == "DequantizeLinear" and item.input[0] == node.output[0]]
    assert len(readers) == 2


def test_scales_are_symmetric_for_a_tensor_and_for_every_channel_of_weights(block: Model, quantized: Quantized) -> None:
    model = quantized(block, dict.fromkeys(ranges(block, feeds_of(block)), 12.7))
    (activation,), (weight,) = quantizers(model, "x"), quantizers(model, "w3")
    assert array(model, activation.input[1]) == np.float32(0.1)
    expected = np.abs(array(model, "w3")).max(axis=(1, 2, 3)) / 127
    np.testing.assert_allclose(array(model, weight.input[1]), expected, rtol=1e-6)
    for node in model.nodes:
        if node.op_type in PAIR:
            assert array(model, node.input[2]).dtype == np.int8 and not array(model, node.input[2]).any()


def test_biases_and_outputs_stay_in_float(fashion_cnn: Model, quantized: Quantized) -> None:
    model = quantized(fashion_cnn)
    read = {name for node in model.nodes if node.op_type in ("Conv", "Gemm") for name in node.input[2:]}
    assert read and not any(quantizers(model, name) for name in read)
    assert not any(quantizers(model, spec.name) for spec in model.outputs)
    assert not any(item.data_type == TensorProto.INT32 for item in model.proto.graph.initializer)


def test_batch_normalization_goes_into_the_weights(fashion_cnn: Model, quantized: Quantized) -> None:
    model = quantized(fashion_cnn)
    assert "BatchNormalization" not in model.operators
    makers = {name: node for node in model.nodes for name in node.output}
    assert all(makers[node.input[0]].op_type in ("Conv", "Add") for node in model.nodes if node.op_type == "Relu")


@pytest.mark.parametrize(
    ("product", "left"),
    [
        ("MatMul(x, w)", 1),
        ("Gemm<alpha = 2.0, beta = 0.5>(x, w, c)", 0),
        ("Gemm<beta = 0.5>(x, w, one)", 0),
        ("Gemm(x, w)", 0),
    ],
)
def test_a_matrix_product_with_batch_normalization_computes_the_same(
    product: str, left: int, tmp_path: Path, quantized: Quantized
) -> None:
    graph = f"(float[n,8] x) => (float[n,6] y) {{ [p] h = {product} [bn] y = BatchNormalization(h, s, b, m, v) }}"
    vectors = {name: RANDOM.random(6).astype(np.float32) + 0.5 for name in "sbmv"}
    constants = {"w": weights(8, 6), "c": weights(6), "one": np.float32(3)}
    model = load_model(save(tmp_path / "product.onnx", graph, **constants, **vectors))
    feeds = feeds_of(model)
    made = quantized(model, ranges(model, feeds))
    assert int8_inputs(made, "p") == [0, 1] and made.operators.get("BatchNormalization", 0) == left
    assert relative_error(run(made, feeds), run(model, feeds)) < 0.03


def test_a_product_of_three_axes_is_not_folded_along_the_wrong_one(tmp_path: Path, quantized: Quantized) -> None:
    graph = "(float[n,6,8] x) => (float[n,6,6] y) { [p] h = MatMul(x, w) y = BatchNormalization(h, s, b, m, v) }"
    vectors = {name: RANDOM.random(6).astype(np.float32) + 0.5 for name in "sbmv"}
    model = load_model(save(tmp_path / "product.onnx", graph, w=weights(8, 6), **vectors))
    feeds = feeds_of(model)
    assert relative_error(run(quantized(model, ranges(model, feeds)), feeds), run(model, feeds)) < 0.03


def test_nodes_to_keep_read_and_compute_in_float(fashion_cnn: Model, quantized: Quantized) -> None:
    kept = quantizable(fashion_cnn)[1:-1]
    model = quantized(fashion_cnn, keep=kept)
    assert not any(int8_inputs(model, name) for name in kept)
    assert int8_inputs(model, quantizable(fashion_cnn)[0]) == [0, 1]
    assert model.operators["BatchNormalization"] == 6


def test_with_every_node_kept_the_model_computes_the_same(fashion_cnn: Model, quantized: Quantized) -> None:
    model, feeds = quantized(fashion_cnn, keep=quantizable(fashion_cnn)), feeds_of(fashion_cnn)
    assert not model.is_quantized
    np.testing.assert_array_equal(run(model, feeds), run(fashion_cnn, feeds))


def test_additions_and_products_with_constants_are_no_residuals() -> None:
    model = load_model(OCR_CLS)
    additions = [node for node in model.nodes if node.op_type == "Add" and node.name in quantizable(model)]
    makers = {name: node for node in model.nodes for name in node.output}
    assert additions
    for node in additions:
        assert not any(makers[name].op_type in ("Constant", "Reshape") for name in node.input)


def test_bodies_of_loops_and_branches_stay_as_they_are(tmp_path: Path, quantized: Quantized) -> None:
    shown = helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)
    body = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["inside"], "inner")], "body", [], [shown])
    proto = parse("(float[1,4,8,8] x) => (float[1,4,8,8] y) { [conv] c = Conv(x, w) [head] y = Conv(c, w) }",
                  w=weights(4, 4, 1, 1), flag=np.array(True))  # fmt: skip
    choice = helper.make_node("If", ["flag"], ["b"], "if", then_branch=body, else_branch=body)
    proto.graph.node.insert(1, choice)
    proto.graph.node[2].input[0] = "b"
    onnx.save(proto, str(tmp_path / "if.onnx"))
    model = load_model(tmp_path / "if.onnx")
    made = quantized(model, {"x": 3.0, "b": 3.0})
    assert quantizable(model) == ("conv", "head") and int8_inputs(made, "head") == [0, 1]
    (node,) = (item for item in made.nodes if item.op_type == "If")
    assert all(list(body.g.node[0].input) == ["x", "w"] for body in node.attribute)


# ---- what is taken and what is refused


def test_a_quantized_model_is_returned_as_it_is(block: Model, quantized: Quantized, tmp_path: Path) -> None:
    model, events = quantized(block), []
    assert quantize(model, {}, tmp_path, listener=events.append) is model
    assert ["brings its ranges along" in event.text for event in events] == [True]


def test_nodes_without_a_range_stay_in_float_and_are_named(block: Model, quantized: Quantized) -> None:
    events: list[LogLine] = []
    amax = {name: value for name, value in ranges(block, feeds_of(block)).items() if name not in ("x", "k")}
    model = quantized(block, {**amax, "k": 0.0}, listener=events.append)
    assert not int8_inputs(model, "stem") and not int8_inputs(model, "last") and int8_inputs(model, "left") == [0, 1]
    assert any("2 nodes stay in float, as no range is known of x, k" in getattr(item, "text", "") for item in events)


def test_too_few_ranges_are_refused_with_the_names_of_the_tensors(block: Model, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"block: 4 of 5 nodes .* without a range \(x, c, f, g\)"):
        quantize(block, {"k": 1.0, "x": 0.0, "c": float("nan")}, tmp_path)
    assert quantize(block, {"k": 1.0}, tmp_path, keep=("stem", "left", "one", "other")).is_quantized


def test_a_name_to_keep_that_no_node_has_is_refused(block: Model, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no node 'stemm'; did you mean 'stem'"):
        quantize(block, {"x": 1.0}, tmp_path, keep=("stemm",))


def test_a_model_that_int8_serves_nothing_of_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing of it would compute in int8"):
        quantize(load_model(save(tmp_path / "relu.onnx", RELU)), {"x": 1.0}, tmp_path)


@pytest.mark.parametrize("path", [OCR_DET, OCR_CLS], ids=lambda path: path.stem)
def test_older_opsets_and_weights_in_constant_nodes_are_taken(path: Path, quantized: Quantized) -> None:
    model = load_model(path)
    assert model.opset < 13
    made = quantized(model)
    assert made.opset == 13
    convolutions = [node.name for node in model.nodes if node.op_type == "Conv"]
    assert all(int8_inputs(made, name) == [0, 1] for name in convolutions)


UPSAMPLED = """(float[n,4,8,8] x) => (float[n,4,16,16] y) {
    a = Conv(x, w) r = Relu(a) [up] u = Upsample<mode = "nearest">(r, s) [last] y = Conv(u, w) }"""


@pytest.fixture
def upsampled(tmp_path: Path) -> Model:
    proto = parse(UPSAMPLED, w=weights(4, 4, 1, 1), s=np.array([1, 1, 2, 2], np.float32))
    next(item for item in proto.opset_import if not item.domain).version = 9
    onnx.save(proto, str(tmp_path / "old.onnx"))
    return load_model(tmp_path / "old.onnx")


def test_conversion_to_a_later_opset_keeps_the_names_that_ranges_have(upsampled: Model, quantized: Quantized) -> None:
    assert quantizable(upsampled) == ("node_of_a", "last")
    made = quantized(upsampled, {"x": 3.0, "u": 3.0})
    assert int8_inputs(made, "last") == [0, 1] and len(quantizers(made, "u")) == 1
    (resized,) = (node for node in made.nodes if node.op_type == "Resize")
    assert resized.name == "up" and [spec.name for spec in made.outputs] == ["y"]


def test_a_range_that_is_missing_after_conversion_is_told(upsampled: Model, quantized: Quantized) -> None:
    events: list[LogLine] = []
    quantized(upsampled, {"x": 3.0}, listener=events.append)
    assert any("1 node stays in float, as no range is known of u" in getattr(item, "text", "") for item in events)


def test_external_weights_of_older_opsets_are_taken(upsampled: Model, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    path = tmp_path / "split.onnx"
    proto = onnx.load(str(upsampled.path))
    onnx.save_model(proto, str(path), save_as_external_data=True, location="split.data", size_threshold=32)
    model = load_model(path)
    made, feeds = quantize(model, {"x": 4.0, "u": 4.0}, tmp_path / "out"), feeds_of(model)
    assert model.external_files and relative_error(run(made, feeds), run(upsampled, feeds)) < 0.05


def test_a_range_too_small_for_a_scale_is_none(block: Model, quantized: Quantized) -> None:
    feeds = feeds_of(block)
    model = quantized(block, {**ranges(block, feeds), "k": 2.7e-38})
    assert not int8_inputs(model, "last") and np.isfinite(run(model, feeds)).all()


def test_weights_too_small_for_a_scale_take_one_that_makes_them_zero(block: Model, quantized: Quantized) -> None:
    proto = onnx.load(str(block.path))
    next(item for item in proto.graph.initializer if item.name == "w5").CopyFrom(
        numpy_helper.from_array(np.full((8, 8, 1, 1), 1e-44, np.float32), "w5")
    )
    path = block.path.with_name("tiny.onnx")
    onnx.save(proto, str(path))
    model = quantized(load_model(path))
    (node,) = quantizers(model, "w5")
    assert (array(model, node.input[1]) == 1).all() and not run(model, feeds_of(block)).any()


def test_an_opset_that_cannot_be_converted_is_told(tmp_path: Path) -> None:
    graph = """(float[1,4,8,8] x) => (float[1,4,8,8] y) {
        c = Conv(x, w) y = BatchNormalization<spatial = 0>(c, s, s, s, s) }"""
    proto = parse(graph, w=weights(4, 4, 1, 1), s=np.ones((4, 8, 8), np.float32))
    next(item for item in proto.opset_import if not item.domain).version = 7
    onnx.save(proto, str(tmp_path / "old.onnx"))
    model = load_model(tmp_path / "old.onnx")
    with pytest.raises(ModelError, match="int8 needs opset 13, and the model's 7 cannot be converted"):
        quantize(model, {"x": 1.0}, tmp_path)


def test_weights_behind_an_identity_and_in_external_files_are_taken(tmp_path: Path) -> None:
    graph = "(float[n,4] x) => (float[n,4] y) { v = Identity(w) t = MatMul(x, w) y = MatMul(t, v) }"
    proto = parse(graph, w=weights(4, 4))
    (tmp_path / "out").mkdir()
    path = tmp_path / "net.onnx"
    onnx.save_model(proto, str(path), save_as_external_data=True, location="net.data", size_threshold=0)
    model = load_model(path)
    assert model.external_files and len(quantizable(model)) == 2
    made, feeds = quantize(model, {"x": 4.0, "t": 4.0}, tmp_path / "out"), {"x": np.eye(4, dtype=np.float32)}
    assert relative_error(run(made, feeds), run(model, feeds)) < 0.03


def test_a_model_of_more_than_two_gigabytes_tells_its_nodes(tmp_path: Path) -> None:
    assert quantizable(load_model(save_over_2gb(tmp_path / "large.onnx"))) == ("matmul",)


# ---- what is computed


@pytest.mark.parametrize("name", ["block", "transformer"])
def test_int8_is_close_to_float(name: str, quantized: Quantized, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(name)
    feeds = feeds_of(model)
    assert 0 < relative_error(run(quantized(model, ranges(model, feeds)), feeds), run(model, feeds)) < 0.05


def test_fashion_pictures_are_told_as_in_float(fashion_cnn: Model, quantized: Quantized) -> None:
    content = lzma.decompress((MODELS.parent / "fashion_mnist_test" / "t10k-images-idx3-ubyte.xz").read_bytes())
    pictures = np.frombuffer(content, np.uint8, offset=16).reshape(-1, 1, 28, 28)[:1256].astype(np.float32) / 255
    model = quantized(fashion_cnn, ranges(fashion_cnn, {"image": pictures[:256]}))
    one, other = (run(item, {"image": pictures[256:]}).argmax(axis=1) for item in (model, fashion_cnn))
    assert (one == other).mean() > 0.985


# ---- what NVIDIA's builder makes of it


def built(model: Model, folder: Path) -> tuple[LayerInfo, ...]:
    config = rtx.resolve(model, BuildConfig("int8", targets=("sm89",)))
    return rtx.build(model, config, folder, ignore, caches=folder)


def layer_of(layers: tuple[LayerInfo, ...], *nodes: str) -> LayerInfo:
    """The one layer that computes these nodes."""
    (found,) = (layer for layer in layers if set(nodes) <= set(layer.nodes))
    return found


def of_kind(layers: tuple[LayerInfo, ...], kind: str) -> Counter[str]:
    return Counter(layer.precision for layer in layers if layer.kind == kind)


@pytest.mark.rtx
@pytest.mark.parametrize(("path", "convolutions"), [(FASHION_CNN, 7), (OCR_DET, 62), (OCR_CLS, 53)])
def test_every_convolution_of_a_real_model_is_int8(
    path: Path, convolutions: int, quantized: Quantized, tmp_path: Path
) -> None:
    layers = built(quantized(load_model(path)), tmp_path)
    assert of_kind(layers, "correlation") == {"int8": convolutions}


@pytest.mark.rtx
def test_residual_additions_are_fused_and_their_result_is_int8(
    fashion_cnn: Model, quantized: Quantized, tmp_path: Path
) -> None:
    layers = built(quantized(fashion_cnn), tmp_path)
    fused = layer_of(layers, "/residual1/Add", "/residual1/relu/Relu")
    assert "/residual1/second/conv/Conv" in fused.nodes
    assert fused.inputs[0].dtype == "Int8" and {tensor.dtype for tensor in fused.outputs} == {"Int8"}


@pytest.mark.rtx
def test_concatenation_and_pooling_move_int8(block: Model, quantized: Quantized, tmp_path: Path) -> None:
    layers = built(quantized(block), tmp_path)
    assert of_kind(layers, "correlation") == {"int8": 5}
    assert layer_of(layers, "pool").precision == layer_of(layers, "average").precision == "int8"
    moved = (layer for layer in layers if {"concat", "relu3"} & set(layer.nodes))
    assert {tensor.dtype for layer in moved for tensor in layer.outputs} == {"Int8"}


@pytest.mark.rtx
def test_matrix_products_with_weights_are_int8(transformer: Model, quantized: Quantized, tmp_path: Path) -> None:
    layers = built(quantized(transformer), tmp_path)
    for name in ("out", "up", "down"):
        assert any(name in layer.nodes and layer.precision == "int8" for layer in layers), name
