"""Building engines with TensorRT on the GPU they will run on."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_gpu import FASHION, Builder, on_cpu, relative, saved, top1
from models import FOREIGN, MATMUL, OCR_DET
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

import workbench as wb
from workbench import backends
from workbench.building import Built, build, check_support
from workbench.calibration.collect import collect
from workbench.calibration.collection import save_collection
from workbench.calibration.samples import open_samples
from workbench.calibration.thresholds import thresholds
from workbench.engine import open_engine, read_layers, read_log
from workbench.errors import BackendError, BuildError, ConfigError
from workbench.export.network import build_network
from workbench.layers import covered_nodes
from workbench.model import Model, load_model
from workbench.qdq import quantize
from workbench.types import LogLine, Progress

pytestmark = pytest.mark.gpu


def test_tensorrt_is_the_default_where_there_is_a_gpu() -> None:
    here = wb.available()["tensorrt"]
    assert here.can_build and here.can_run
    assert backends.default_backend() == "tensorrt"


@pytest.mark.parametrize(("precision", "least"), [("fp32", 93.05), ("tf32", 93.0), ("fp16", 93.0)])
def test_precisions_keep_the_accuracy(
    built: Builder, fashion_cnn: Model, pictures, labels, precision: str, least: float
) -> None:
    engine = built(fashion_cnn, FASHION, precision=precision).engine
    assert engine.precision == precision
    assert top1(engine, pictures, labels) >= least
    if precision == "fp16":
        assert "fp16" in {layer.precision for layer in read_layers(engine)}


# ---- int8


def test_int8_with_tensorrts_calibrator(calibrated: Built, pictures, labels) -> None:
    assert top1(calibrated.engine, pictures[:9000], labels[:9000]) > 92.0
    assert "int8" in {layer.precision for layer in read_layers(calibrated.engine)}
    table = (calibrated.engine.folder / "calibration.cache").read_text()
    assert table.startswith("TRT-8600-EntropyCalibration2\nimage: ")


def test_int8_from_the_table_of_an_earlier_build_needs_no_samples(
    built: Builder, calibrated: Built, fashion_cnn: Model, pictures, tmp_path: Path
) -> None:
    table = tmp_path / "elsewhere.cache"
    table.write_bytes((calibrated.engine.folder / "calibration.cache").read_bytes())
    engine = built(fashion_cnn, FASHION, precision="int8", calibration=wb.Calibration(str(table))).engine
    with open_engine(engine) as session, open_engine(calibrated.engine) as other:
        feeds = {"image": pictures[:64]}
        assert relative(session.run(feeds)["logits"], other.run(feeds)["logits"]) < 0.02


@pytest.mark.parametrize("algorithm", ["minmax", "legacy"])
def test_the_other_calibrators(
    built: Builder, fashion_cnn: Model, samples: Path, pictures, labels, algorithm: str
) -> None:
    calibration = wb.Calibration(str(samples), algorithm)
    engine = built(fashion_cnn, FASHION, precision="int8", calibration=calibration).engine
    assert top1(engine, pictures[:9000], labels[:9000]) > 90.0


@pytest.mark.parametrize("algorithm", ["entropy", "mse"])
def test_int8_from_a_collection_asks_for_no_batch(
    built: Builder, fashion_cnn: Model, samples: Path, pictures, labels, tmp_path: Path, algorithm: str
) -> None:
    collection = collect(fashion_cnn, open_samples(samples, fashion_cnn))
    calibration = wb.Calibration(str(save_collection(collection, tmp_path / "fashion.calib")), algorithm)
    engine = built(fashion_cnn, FASHION, precision="int8", calibration=calibration).engine
    assert top1(engine, pictures[:9000], labels[:9000]) > 92.0
    assert "int8" in {layer.precision for layer in read_layers(engine)}
    assert (engine.folder / "calibration.cache").read_text().startswith("TRT-8600-EntropyCalibration2\nimage: ")


def test_the_quantized_model_of_a_collection_is_built(
    built: Builder, fashion_cnn: Model, samples: Path, pictures, labels, tmp_path: Path
) -> None:
    collection = collect(fashion_cnn, open_samples(samples, fashion_cnn))
    model = quantize(fashion_cnn, thresholds(collection).amax, tmp_path)
    engine = built(model, FASHION, precision="int8").engine
    assert top1(engine, pictures[:9000], labels[:9000]) > 92.0
    assert {"int8"} == {layer.precision for layer in read_layers(engine) if any("Conv" in node for node in layer.nodes)}


def test_a_model_with_ranges_of_its_own_needs_no_calibration(built: Builder, pictures, labels, tmp_path: Path) -> None:
    from models import FASHION_CNN

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter([{"image": pictures[at : at + 64]} for at in (9000, 9064)])

        def get_next(self) -> dict | None:
            return next(self.batches, None)

    path = tmp_path / "qdq.onnx"
    options = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    quantize_static(FASHION_CNN, path, Reader(), QuantFormat.QDQ, extra_options=options)
    quick = wb.BuilderOptions(optimization_level=1)
    engine = built(load_model(path), FASHION, precision="int8", builder=quick).engine
    assert "int8" in {layer.precision for layer in read_layers(engine)}
    assert top1(engine, pictures[:9000], labels[:9000]) > 92.0


@pytest.mark.parametrize("calibration", [None, wb.Calibration("nowhere.npz")])
def test_int8_without_ranges_is_refused_before_anything_is_built(fashion_cnn: Model, calibration) -> None:
    config = wb.BuildConfig("int8", calibration=calibration)
    with pytest.raises(ConfigError, match=r"calibration|nowhere"):
        build(fashion_cnn, config, "tensorrt")


# ---- the builder's options


def test_options_reach_the_builder_and_the_engine_still_answers(built: Builder, fashion_cnn: Model, pictures) -> None:
    options = wb.BuilderOptions(
        optimization_level=1, tactic_sources=("jit_convolutions",), memory_pools={"tactic_dram": 4 << 30}
    )
    engine = built(fashion_cnn, FASHION, precision="fp16", workspace_bytes=64 << 20, builder=options).engine
    assert engine.config.builder == options and engine.config.workspace_bytes == 64 << 20
    feeds = {"image": pictures[:8]}
    with open_engine(engine) as session:
        assert relative(session.run(feeds)["logits"], on_cpu(fashion_cnn, feeds)["logits"]) < 5e-3
    log = "\n".join(line.text for line in read_log(engine))
    assert "Using cublas" not in log


def opens(engine: wb.Engine, model: Model, pictures: np.ndarray) -> dict:
    """What the plan's record tells, after a right answer."""
    feeds = {"image": pictures[:8]}
    with open_engine(engine) as session:
        assert relative(session.run(feeds)["logits"], on_cpu(model, feeds)["logits"]) < 1e-5
    return json.loads((engine.folder / "plan.json").read_text())


def test_a_plan_for_ampere_and_later(built: Builder, fashion_cnn: Model, pictures) -> None:
    engine = built(fashion_cnn, FASHION, targets=("ampere+",)).engine
    assert opens(engine, fashion_cnn, pictures)["target"] == "ampere+"


@pytest.mark.tensorrt_lean
def test_a_plan_for_later_releases(built: Builder, fashion_cnn: Model, pictures) -> None:
    engine = built(fashion_cnn, FASHION, builder=wb.BuilderOptions(version_compatible=True)).engine
    assert opens(engine, fashion_cnn, pictures)["version_compatible"] is True


def test_weights_of_a_refittable_engine_are_exchanged(built: Builder, tmp_path: Path) -> None:
    first, second = (np.random.default_rng(seed).normal(size=(4, 4)).astype(np.float32) for seed in (1, 2))
    model = saved(tmp_path, MATMUL, w=first)
    engine = built(model, ["x:1x4,4x4,8x4"], builder=wb.BuilderOptions(refittable=True)).engine
    x = np.random.default_rng(3).normal(size=(4, 4)).astype(np.float32)
    with open_engine(engine) as session:
        assert relative(session.run({"x": x})["y"], x @ first) < 1e-5
        session.refit({"w": second})
        assert relative(session.run({"x": x})["y"], x @ second) < 1e-5
        with pytest.raises(BackendError, match="no weights called v"):
            session.refit({"v": second})


def test_a_fixed_engine_refuses_new_weights(session) -> None:
    with pytest.raises(BackendError, match="refittable"):
        session.refit({})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (wb.BuildConfig("bf16"), "bf16"),
        (wb.BuildConfig(builder=wb.BuilderOptions(strip_weights=True)), "strip"),
        (wb.BuildConfig(targets=("same-cc",)), "same-cc"),
        (wb.BuildConfig(builder=wb.BuilderOptions(layer_precisions={"conv0": "fp32"})), "conv0"),
        (wb.BuildConfig(builder=wb.BuilderOptions(tactic_sources=("cudnnn",))), "cudnn"),
        (wb.BuildConfig(builder=wb.BuilderOptions(memory_pools={"tactic_shared_memory": 1 << 20})), "tactic_shared"),
        (wb.BuildConfig(builder=wb.BuilderOptions(optimization_level=9)), "0 to 5"),
    ],
)
def test_what_release_8_lacks_is_told_before_anything_is_built(fashion_cnn: Model, config, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(fashion_cnn, config, "tensorrt")


def test_a_gpu_without_dla_says_so(fashion_cnn: Model) -> None:
    config = wb.BuildConfig("fp16", builder=wb.BuilderOptions(dla_core=0))
    with pytest.raises((ConfigError, BuildError), match="DLA"):
        build(fashion_cnn, config, "tensorrt")


def test_layers_keep_the_precision_they_are_given(built: Builder, fashion_cnn: Model, pictures) -> None:
    convolutions = [node.name for node in fashion_cnn.nodes if node.op_type == "Conv"]
    first = convolutions[0]
    options = wb.BuilderOptions(layer_precisions={first: "fp32"})
    engine = built(fashion_cnn, FASHION, precision="fp16", builder=options).engine
    by_node = {node: layer for layer in read_layers(engine) for node in layer.nodes}
    assert by_node[first].precision == "fp32"
    assert {by_node[name].precision for name in convolutions[1:]} == {"fp16"}


def test_inputs_and_outputs_take_the_lower_precision_too(built: Builder, fashion_cnn: Model, pictures) -> None:
    engine = built(fashion_cnn, FASHION, precision="fp16", keep_io_types=False).engine
    with open_engine(engine) as session:
        assert {spec.dtype for spec in (*session.inputs, *session.outputs)} == {"float16"}
        found = session.run({"image": pictures[:8].astype(np.float16)})["logits"]
    assert found.dtype == np.float16
    assert relative(found.astype(np.float32), on_cpu(fashion_cnn, {"image": pictures[:8]})["logits"]) < 1e-2


# ---- what a build tells


def test_every_layer_and_its_nodes_are_known(fashion: Built, fashion_cnn: Model) -> None:
    layers = read_layers(fashion.engine)
    nodes = {node.name for node in fashion_cnn.nodes}
    assert fashion.engine.layers == len(layers) > 5
    assert len(covered_nodes(layers) & nodes) == fashion.engine.nodes_covered > 20
    assert json.loads((fashion.engine.folder / "inspector.json").read_text(), strict=False)["Layers"]
    assert any(line.severity == "verbose" for line in read_log(fashion.engine))


def test_the_build_tells_its_phases(fashion_cnn: Model) -> None:
    heard: list[Progress | LogLine] = []
    config = wb.BuildConfig("fp16", (wb.parse_shapes(["image:1x1x28x28,2x1x28x28,2x1x28x28"]),))
    build(fashion_cnn, config, "tensorrt", reuse=False, listener=heard.append)
    steps = [event for event in heard if isinstance(event, Progress)]
    assert len({step.phase for step in steps}) >= 3
    assert all(step.total is None or step.done <= step.total for step in steps)


def timed_tactics(engine: wb.Engine) -> list[str]:
    return [line.text for line in read_log(engine) if re.match(r"Tactic: 0x[0-9a-f]+ Time: ", line.text)]


def test_the_timing_cache_is_kept_and_read_again(store: wb.EngineStore, fashion_cnn: Model) -> None:
    config = wb.BuildConfig("fp16", (wb.parse_shapes(["image:1x1x28x28,3x1x28x28,5x1x28x28"]),))
    first = build(fashion_cnn, config, "tensorrt", store=store)
    assert timed_tactics(first.engine), "these shapes are new"
    (kept,) = (store.folder / "caches").glob("timing-8.6.0-*.cache")
    again = build(fashion_cnn, config, "tensorrt", store=store, reuse=False)
    assert kept.stat().st_size > 1000
    assert not timed_tactics(again.engine), "every kernel was timed before"


def test_a_damaged_timing_cache_is_replaced(tmp_path: Path, fashion_cnn: Model) -> None:
    store = wb.EngineStore(tmp_path / "own")
    config = wb.BuildConfig(profiles=(wb.parse_shapes(["image:1x1x28x28"]),))
    build(fashion_cnn, config, "tensorrt", store=store)
    (kept,) = (store.folder / "caches").glob("timing-*.cache")
    whole = kept.stat().st_size
    kept.write_bytes(b"nonsense")
    again = build(fashion_cnn, config, "tensorrt", store=store, reuse=False)
    assert any("timing cache" in line.text and line.severity == "warning" for line in read_log(again.engine))
    assert kept.stat().st_size > whole / 2


def test_a_second_build_is_the_stored_engine(built: Builder, fashion: Built, fashion_cnn: Model) -> None:
    again = built(fashion_cnn, FASHION)
    assert again.reused and again.engine.key == fashion.engine.key


# ---- what goes wrong


def test_a_node_that_the_parser_does_not_know_is_named(tmp_path: Path) -> None:
    model = saved(tmp_path, FOREIGN)
    with pytest.raises(BuildError) as caught:
        build(model, wb.BuildConfig(profiles=(wb.parse_shapes(["x:1x4"]),)), "tensorrt")
    assert caught.value.node == "frob" and caught.value.remedy
    assert "Frobnicate" in str(caught.value)
    support = check_support(model, "tensorrt")
    assert [refusal.node for refusal in support.refusals] == ["frob"] and not support.supported


def test_every_model_of_the_data_folder_is_taken(fashion_cnn: Model) -> None:
    for model in (fashion_cnn, load_model(OCR_DET)):
        support = check_support(model, "tensorrt")
        assert support.supported, support.refusals


@pytest.mark.parametrize(
    ("told", "numbers", "words"),
    [
        (
            {"gpu": "NVIDIA T4", "compute_capability": "7.5"},
            (8, 6, 0),
            r"built on the NVIDIA T4 .*this is the NVIDIA H200",
        ),
        ({"compute_capability": "8.9"}, (8, 6, 0), r"compute capability 8\.9"),
        ({}, (10, 3, 0), r"built with TensorRT 10\.3\.0, here is 8\.6\.0"),
    ],
)
def test_a_foreign_plan_is_refused_before_it_is_deserialized(
    fashion: Built, tmp_path: Path, told: dict, numbers: tuple[int, ...], words: str
) -> None:
    record = json.loads((fashion.engine.folder / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps({**record, **told}))
    plan = bytearray(fashion.engine.plan_path.read_bytes())
    plan[0x18:0x1B] = bytes(numbers)
    (tmp_path / "engine.plan").write_bytes(plan)
    with pytest.raises(BackendError, match=words):
        backends.load("tensorrt").open(tmp_path / "engine.plan", fashion.engine.config)


def test_a_plan_that_is_cut_short_is_refused(fashion: Built, tmp_path: Path) -> None:
    content = fashion.engine.plan_path.read_bytes()
    (tmp_path / "engine.plan").write_bytes(content[: len(content) // 2])
    (tmp_path / "plan.json").write_bytes((fashion.engine.folder / "plan.json").read_bytes())
    with pytest.raises(BackendError):
        backends.load("tensorrt").open(tmp_path / "engine.plan", fashion.engine.config)


# ---- other ways in


def describe(trt, network, weights):
    """A convolution and a Relu, described with NVIDIA's API."""
    x = network.add_input("x", trt.float32, (1, 3, 8, 8))
    convolution = network.add_convolution_nd(x, 4, (3, 3), trt.Weights(weights["w"]), trt.Weights(weights["b"]))
    relu = network.add_activation(convolution.get_output(0), trt.ActivationType.RELU)
    relu.get_output(0).name = "y"
    network.mark_output(relu.get_output(0))


def test_a_network_described_with_the_api(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    weights = {"w": generator.normal(size=(4, 3, 3, 3)).astype(np.float32), "b": np.ones(4, np.float32)}
    engine = build_network("described", f"{__file__}:describe", weights, backend="tensorrt").engine
    x = generator.normal(size=(1, 3, 8, 8)).astype(np.float32)
    graph = "(float[1,3,8,8] x) => (float[1,4,6,6] y) { c = Conv(x, w, b) y = Relu(c) }"
    with open_engine(engine) as session:
        assert relative(session.run({"x": x})["y"], on_cpu(saved(tmp_path, graph, **weights), {"x": x})["y"]) < 1e-5


def test_weights_in_a_file_of_their_own(built: Builder, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    proto = saved(tmp_path, MATMUL, w=weights).proto
    path = tmp_path / "external.onnx"
    onnx.save(proto, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = load_model(path)
    assert model.external_files
    x = np.ones((2, 4), np.float32)
    with open_engine(built(model, ["x:1x4,2x4,4x4"]).engine) as session:
        assert relative(session.run({"x": x})["y"], x @ weights) < 1e-5
