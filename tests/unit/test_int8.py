"""int8 on the back ends that take ranges as Q/DQ nodes: from whatever file they come, and what makes engines differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_building import BOTH
from models import MATMUL, parse, save
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from workbench import BuildConfig, Calibration, Model, build, edit, load_model, open_engine
from workbench.backends import calibrators, load
from workbench.building import Built
from workbench.calibration.collect import collect
from workbench.calibration.collection import save_collection
from workbench.calibration.samples import open_samples
from workbench.calibration.source import read_ranges
from workbench.calibration.table import read_table
from workbench.calibration.thresholds import thresholds
from workbench.calibration.writing import write_table
from workbench.engine import read_layers
from workbench.errors import ConfigError, WorkbenchError
from workbench.qdq import quantizable
from workbench.types import BuilderOptions, LogLine, Progress, ignore

IMAGES = np.random.default_rng(0).random((24, 1, 28, 28), dtype=np.float32)
HEAD, STEM = "/classifier/Gemm", "/stem/conv/Conv"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, fashion_cnn: Model) -> dict[str, Path]:
    """The same ranges in every form."""
    folder = tmp_path_factory.mktemp("calibration")
    np.savez(folder / "samples.npz", image=IMAGES)
    collection = collect(fashion_cnn, open_samples(folder / "samples.npz", fashion_cnn))
    table = thresholds(collection, "entropy")
    return {
        "samples": folder / "samples.npz",
        "collection": save_collection(collection, folder / "fashion.calib"),
        **{name: write_table(table, folder / name, name, model=fashion_cnn) for name in ("trt-cache", "ranges", "ort")},
        "qdq": write_table(table, folder / "fashion.onnx", "qdq", model=fashion_cnn),
    }


def int8(path: Path, algorithm: str = "entropy", **layers: str) -> BuildConfig:
    builder = BuilderOptions(layer_precisions=layers)
    return BuildConfig("int8", calibration=Calibration(str(path), algorithm), builder=builder)


def logits(built: Built) -> np.ndarray:
    with open_engine(built.engine) as session:
        return np.asarray(session.run({"image": IMAGES})["logits"])


def is_int8(built: Built, node: str) -> bool:
    return any(layer.precision == "int8" for layer in read_layers(built.engine) if node in layer.nodes)


# ---- where ranges come from


@pytest.mark.parametrize("backend", BOTH)
def test_every_back_end_says_what_int8_is(backend: str) -> None:
    support = load(backend).support()
    assert "int8" in support.precisions and "calibration" in (support.precision_notes or {})["int8"]


@pytest.mark.parametrize("form", ["samples", "collection", "trt-cache", "ranges", "ort"])
def test_ranges_of_every_form_give_the_same_engine(fashion_cnn: Model, files: dict[str, Path], form: str) -> None:
    built, other = (build(fashion_cnn, int8(files[name]), "onnxruntime") for name in (form, "trt-cache"))
    np.testing.assert_allclose(logits(built), logits(other), rtol=1e-4, atol=1e-4)
    plain = logits(build(fashion_cnn, BuildConfig(), "onnxruntime"))
    assert 0 < np.linalg.norm(logits(built) - plain) / np.linalg.norm(plain) < 0.1


@pytest.mark.rtx
@pytest.mark.parametrize("form", ["samples", "collection", "ranges"])
def test_tensorrt_rtx_builds_int8(fashion_cnn: Model, files: dict[str, Path], form: str) -> None:
    built = build(fashion_cnn, int8(files[form], "minmax" if form != "ranges" else "entropy"), "rtx")
    assert all(is_int8(built, node) for node in quantizable(fashion_cnn) if "Conv" in node or "Gemm" in node)


def test_the_engine_keeps_its_table_and_is_built_again_by_it(fashion_cnn: Model, files: dict[str, Path]) -> None:
    built = build(fashion_cnn, int8(files["samples"], "percentile"), "onnxruntime")
    kept = built.engine.config
    assert kept.calibration == Calibration(str(built.engine.folder / "calibration.cache"), "percentile")
    again = build(fashion_cnn, kept, "onnxruntime")
    assert again.engine.key != built.engine.key, "TensorRT's form of a table does not tell of percentiles"
    np.testing.assert_allclose(logits(again), logits(built), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("form", "algorithm"), [("collection", "mse"), ("ranges", "entropy"), ("samples", "mse")])
def test_up_to_release_10_tensorrt_gets_a_table_of_its_own_form(
    fashion_cnn: Model, files: dict[str, Path], tmp_path: Path, form: str, algorithm: str
) -> None:
    wish = int8(files[form], algorithm)
    config = calibrators.with_table(fashion_cnn, wish, tmp_path, ignore)
    assert config.calibration == Calibration(str(tmp_path / "calibration.cache"), algorithm)
    table = read_table(tmp_path / "calibration.cache")
    assert table.format == "trt-cache" and table.amax.keys() >= {"image", "logits"}
    expected = read_ranges(files["collection"], fashion_cnn, algorithm).amax
    assert table.amax["image"] == pytest.approx(expected["image"], rel=1e-5)


def test_up_to_release_10_samples_go_to_tensorrts_own_calibrator(
    fashion_cnn: Model, files: dict[str, Path], tmp_path: Path
) -> None:
    wish = int8(files["samples"], "legacy")
    assert calibrators.with_table(fashion_cnn, wish, tmp_path, ignore) is wish


# ---- what makes engines differ


@pytest.mark.parametrize("backend", BOTH)
def test_another_table_gives_another_engine_and_another_place_does_not(
    fashion_cnn: Model, files: dict[str, Path], tmp_path: Path, backend: str
) -> None:
    content = files["ranges"].read_text()
    (tmp_path / "same").write_text(content)
    (tmp_path / "other").write_text(content.replace("image: ", "image: 1"))
    module = load(backend)
    one, same, other = (
        module.ingredients(module.resolve(fashion_cnn, int8(path)))
        for path in (files["ranges"], tmp_path / "same", tmp_path / "other")
    )
    assert one == same != other
    assert "Q/DQ" in one["converter"]


def test_the_algorithm_makes_an_engine_of_its_own(fashion_cnn: Model, files: dict[str, Path]) -> None:
    keys = {
        build(fashion_cnn, int8(files["collection"], name), "onnxruntime").engine.key
        for name in ("entropy", "minmax", "mse")
    }
    assert len(keys) == 3


# ---- nodes that are left out


@pytest.mark.parametrize("wish", ["fp32", "fp16"])
def test_nodes_are_left_out_by_their_precision(fashion_cnn: Model, files: dict[str, Path], wish: str) -> None:
    config = load("onnxruntime").resolve(fashion_cnn, int8(files["collection"], **{HEAD: wish}))
    assert config.builder.layer_precisions == {HEAD: "fp32"}, "what it will really compute in"


@pytest.mark.rtx
def test_a_node_left_out_is_no_int8_in_the_engine(fashion_cnn: Model, files: dict[str, Path]) -> None:
    built = build(fashion_cnn, int8(files["collection"], **{HEAD: "fp32"}), "rtx")
    assert not is_int8(built, HEAD) and is_int8(built, STEM)


def test_with_all_nodes_left_out_the_engine_computes_in_float(fashion_cnn: Model, files: dict[str, Path]) -> None:
    kept = dict.fromkeys(quantizable(fashion_cnn), "fp32")
    built = build(fashion_cnn, int8(files["collection"], **kept), "onnxruntime")
    plain = build(fashion_cnn, BuildConfig(), "onnxruntime")
    np.testing.assert_allclose(logits(built), logits(plain), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BOTH)
def test_a_node_that_is_not_there_is_refused(fashion_cnn: Model, files: dict[str, Path], backend: str) -> None:
    with pytest.raises(ConfigError, match="no node"):
        load(backend).resolve(fashion_cnn, int8(files["collection"], nowhere="fp32"))


# ---- models that bring their ranges along


@pytest.mark.parametrize("backend", BOTH)
def test_a_quantized_model_needs_no_calibration_and_says_so(files: dict[str, Path], backend: str) -> None:
    events: list[LogLine | Progress] = []
    model = load_model(files["qdq"])
    assert build(model, BuildConfig("int8"), backend, listener=events.append).engine.precision == "int8"
    assert any("brings its ranges along" in event.text for event in events if isinstance(event, LogLine))
    with pytest.raises(ConfigError, match="brings its ranges along"):
        load(backend).resolve(model, int8(files["collection"]))
    with pytest.raises(ConfigError, match="leave the precisions of nodes out"):
        load(backend).resolve(model, BuildConfig("int8", builder=BuilderOptions(layer_precisions={HEAD: "fp32"})))


class _Reader(CalibrationDataReader):
    def __init__(self) -> None:
        self.feeds: Iterator[dict[str, Any]] = iter([{"image": IMAGES}])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


@pytest.mark.rtx
def test_a_model_that_onnx_runtime_quantized_with_int32_biases_is_built(fashion_cnn: Model, tmp_path: Path) -> None:
    path = tmp_path / "static.onnx"
    symmetric = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": True}
    quantize_static(
        str(fashion_cnn.path), str(path), _Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, extra_options=symmetric,
    )  # fmt: skip
    assert any(item.data_type == onnx.TensorProto.INT32 for item in load_model(path).proto.graph.initializer)
    built = build(load_model(path), BuildConfig("int8"), "rtx")
    assert sum(layer.kind == "correlation" and layer.precision == "int8" for layer in read_layers(built.engine)) == 7


# ---- what is refused before anything is built


MISTAKES: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "no file": (lambda folder: folder / "nowhere.calib", "entropy", "cannot be read"),
    "no algorithm": (lambda folder: folder / "nowhere.calib", "best", "there is no calibrator 'best'"),
    "other model": (lambda folder: _write(folder, "foreign: 1.5\nother: 2\n"), "entropy", "wrong model"),
    "too few ranges": (lambda folder: _write(folder, "image: 1.5\n"), "entropy", "without a range"),
    "other samples": (lambda folder: _samples(folder, picture=IMAGES), "entropy", "image"),
    "TensorRT's own": (lambda folder: _samples(folder, image=IMAGES), "legacy", "TensorRT's own calibrator"),
}


def _write(folder: Path, text: str) -> Path:
    (folder / "table").write_text(text)
    return folder / "table"


def _samples(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "samples.npz", **arrays)
    return folder / "samples.npz"


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_calibration_that_cannot_serve_is_refused(
    fashion_cnn: Model, tmp_path: Path, backend: str, mistake: str
) -> None:
    make, algorithm, says = MISTAKES[mistake]
    with pytest.raises(WorkbenchError, match=says):
        load(backend).resolve(fashion_cnn, int8(make(tmp_path), algorithm))


def test_a_collection_of_the_model_before_it_was_changed_is_refused(fashion_cnn: Model, files: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="collected from another model"):
        load("onnxruntime").resolve(edit(fashion_cnn, "batch=4"), int8(files["collection"]))


def test_a_model_in_half_precision_is_told_that_int8_serves_nothing(tmp_path: Path) -> None:
    graph = MATMUL.replace("float", "float16")
    model = load_model(save(tmp_path / "half.onnx", graph, w=np.ones((4, 4), np.float16)))
    (tmp_path / "ranges").write_text("x: 1.0\n")
    with pytest.raises(ConfigError, match="no convolution or matrix product of float32"):
        load("onnxruntime").resolve(model, int8(tmp_path / "ranges"))


@pytest.mark.parametrize("backend", BOTH)
def test_a_model_of_integers_is_told_so_and_not_to_calibrate(tmp_path: Path, backend: str) -> None:
    model = load_model(save(tmp_path / "integers.onnx", "(uint8[n,4] x) => (int64[n,4] y) { y = Cast<to = 7>(x) }"))
    with pytest.raises(ConfigError, match="nothing of it would compute in int8"):
        load(backend).resolve(model, BuildConfig("int8"))


def test_open_dimensions_and_older_opsets_are_built_from_samples(tmp_path: Path) -> None:
    proto = parse("(float[n,4] x) => (float[n,2] y) { [product] y = MatMul(x, w) }", w=np.eye(4, 2, dtype=np.float32))
    next(item for item in proto.opset_import if not item.domain).version = 11
    onnx.save(proto, str(tmp_path / "net.onnx"))
    np.savez(tmp_path / "samples.npz", x=np.eye(4, dtype=np.float32))
    engine = build(load_model(tmp_path / "net.onnx"), int8(tmp_path / "samples.npz"), "onnxruntime").engine
    with open_engine(engine) as session:
        result = session.run({"x": np.full((3, 4), 0.5, np.float32)})["y"]
    np.testing.assert_allclose(result, 0.5, atol=0.01)
