"""ONNX Runtime as a back end: the engine is the optimized model, and it computes the same."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
from models import FASHION_CNN, FOREIGN, OCR_CLS, OCR_DET, RELU, save
from onnx import numpy_helper

from workbench import BuildConfig, Model, build, default_profile, load_model, open_engine
from workbench.backends import Session
from workbench.backends import onnxruntime as backend
from workbench.engine import read_layers
from workbench.errors import BackendError, BuildError, ConfigError, FeedError
from workbench.layers import LayerInfo, covered_nodes
from workbench.machine import this_machine
from workbench.types import BuilderOptions

Open = Callable[..., tuple[Session, tuple[LayerInfo, ...]]]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Build in this process and open the plan: (session, layers)."""

    def build_and_open(
        model: Model, threads: int | None = None, **options: Any
    ) -> tuple[Session, tuple[LayerInfo, ...]]:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        config = backend.resolve(model, BuildConfig(**options))
        layers = backend.build(model, config, folder, lambda event: None, caches=tmp_path)
        return backend.open(folder / backend.PLAN, config, threads=threads), layers

    return build_and_open


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def original(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What ONNX Runtime computes without any optimization."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, feeds)


# ---- what it computes


@pytest.mark.parametrize(
    ("path", "shapes"),
    [
        (FASHION_CNN, [(1, 1, 28, 28), (5, 1, 28, 28)]),
        (OCR_DET, [(1, 3, 64, 64), (2, 3, 96, 160)]),
        (OCR_CLS, [(1, 3, 48, 192), (3, 3, 48, 192)]),
    ],
    ids=["fashion_cnn", "ppocrv4_det", "ppocr_mobile_v2_cls"],
)
def test_the_optimized_model_computes_the_same_at_any_shape(path: Path, shapes: list[Any], opened: Open) -> None:
    session, _ = opened(load_model(path))
    with session:
        for shape in shapes:
            feeds = {session.inputs[0].name: pictures(*shape)}
            for got, wanted in zip(session.run(feeds).values(), original(path, feeds), strict=True):
                np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5)


def test_fp16_is_close_and_stays_float32_outside(fashion_cnn: Model, opened: Open) -> None:
    session, _ = opened(fashion_cnn, precision="fp16")
    feeds = {"image": pictures(8, 1, 28, 28)}
    assert [spec.dtype for spec in (*session.inputs, *session.outputs)] == ["float32", "float32"]
    got, wanted = session.run(feeds)["logits"], original(FASHION_CNN, feeds)[0]
    assert 0 < np.abs(got - wanted).max() < 0.05


def test_fp16_outside_too_where_asked(fashion_cnn: Model, opened: Open) -> None:
    session, _ = opened(fashion_cnn, precision="fp16", keep_io_types=False)
    assert [spec.dtype for spec in (*session.inputs, *session.outputs)] == ["float16", "float16"]
    assert session.run({"image": pictures(1, 1, 28, 28).astype(np.float16)})["logits"].dtype == np.float16


def test_the_session_knows_the_models_inputs_and_outputs(fashion_cnn: Model, opened: Open) -> None:
    session, _ = opened(fashion_cnn)
    assert session.inputs == fashion_cnn.inputs
    assert session.outputs == fashion_cnn.outputs


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_session_runs_on_so_many_threads(fashion_cnn: Model, opened: Open, threads: int) -> None:
    before = psutil.Process().num_threads()
    session, _ = opened(fashion_cnn, threads=threads)
    with session:
        assert psutil.Process().num_threads() - before == threads - 1  # the caller's own is one of them


def test_times_are_one_for_each_iteration(fashion_cnn: Model, opened: Open) -> None:
    session, _ = opened(fashion_cnn)
    session.run({"image": pictures(1, 1, 28, 28)})
    times = session.times_ms(5)
    assert len(times) == 5
    assert all(0 < time < 1000 for time in times)


def test_there_is_nothing_to_time_before_a_run(fashion_cnn: Model, opened: Open) -> None:
    session, _ = opened(fashion_cnn)
    with pytest.raises(BackendError, match="run the session once before timing it"):
        session.times_ms(1)


# ---- layers


def test_each_layer_names_the_nodes_it_replaces(fashion_cnn: Model, opened: Open) -> None:
    _, layers = opened(fashion_cnn)
    assert len(layers) < len(fashion_cnn.nodes) == 26
    assert covered_nodes(layers) == {node.name for node in fashion_cnn.nodes}
    first = next(layer for layer in layers if layer.kind.endswith("Conv"))
    assert set(first.nodes) == {"/stem/conv/Conv", "/stem/norm/BatchNormalization", "/stem/relu/Relu"}
    assert max(len(layer.nodes) for layer in layers) < 6


def test_layers_name_no_node_that_the_model_does_not_have(opened: Open) -> None:
    model = load_model(OCR_DET)
    _, layers = opened(model, precision="fp16")
    assert covered_nodes(layers) <= {node.name for node in model.nodes}


# ---- configuration


def test_what_has_no_effect_is_dropped(fashion_cnn: Model) -> None:
    config = BuildConfig(profiles=(default_profile(fashion_cnn.inputs),), workspace_bytes=1 << 20)
    assert backend.resolve(fashion_cnn, config) == BuildConfig(targets=("cpu",))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (BuildConfig(precision="int8"), "give a calibration"),
        (BuildConfig(precision="bf16"), "choose fp16, or the back end rtx"),
        (BuildConfig(precision="fp4"), "there is no precision 'fp4'"),
        (BuildConfig(targets=("sm89",)), "onnxruntime has no target 'sm89'; choose among cpu"),
    ],
    ids=["int8", "bf16", "unknown precision", "unknown target"],
)
def test_options_it_cannot_fulfil_are_refused_before_building(
    fashion_cnn: Model, config: BuildConfig, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        backend.resolve(fashion_cnn, config)


def test_nodes_are_kept_out_of_fp16(fashion_cnn: Model, opened: Open) -> None:
    kept = {node.name: "fp32" for node in fashion_cnn.nodes}
    feeds = {"image": pictures(2, 1, 28, 28)}
    plain = opened(fashion_cnn)[0].run(feeds)["logits"]
    errors = []
    for layers in ({}, kept):
        session, _ = opened(fashion_cnn, precision="fp16", builder=BuilderOptions(layer_precisions=layers))
        errors.append(np.abs(session.run(feeds)["logits"] - plain).mean())
    assert 0 < errors[1] < errors[0] / 1.5, "tensors between nodes travel in fp16 all the same"


def test_engines_depend_on_the_release_and_the_processor() -> None:
    found = backend.ingredients(BuildConfig())
    assert found["release"] == onnxruntime.__version__
    assert found["cpu"] == this_machine().cpu
    assert found == backend.ingredients(BuildConfig())


# ---- feeds that do not fit


@pytest.mark.parametrize(
    ("feeds", "says"),
    [
        ({}, r"input x is missing: feed x: float32\[n, 4\]"),
        ({"x": pictures(1, 4), "z": pictures(1)}, r"there is no input z; feed x: float32\[n, 4\]"),
        ({"x": np.zeros((1, 4))}, r"input x is float64; it must be float32: use \.astype\('float32'\)"),
        ({"x": pictures(4)}, r"has 2 dimensions; the array has the shape \(4,\)"),
        ({"x": pictures(1, 5)}, "input x, dimension 1: it must be 4; the array has 5"),
    ],
    ids=["missing", "unknown", "dtype", "rank", "size"],
)
def test_feeds_that_do_not_fit_say_what_would(tmp_path: Path, opened: Open, feeds: dict[str, Any], says: str) -> None:
    session, _ = opened(load_model(save(tmp_path / "net.onnx", RELU)))
    with pytest.raises(FeedError, match=says):
        session.run(feeds)


def test_a_run_that_fails_is_a_sentence(opened: Open) -> None:
    session, _ = opened(load_model(OCR_DET))
    with pytest.raises(BackendError, match="ONNX Runtime fails on this input") as caught:
        session.run({"x": pictures(1, 3, 100, 100)})
    assert "\n" not in str(caught.value)


# ---- models it does not take


def test_a_foreign_operator_is_refused_with_its_node(tmp_path: Path, opened: Open) -> None:
    model = load_model(save(tmp_path / "net.onnx", FOREIGN))
    (refusal,) = backend.check(model).refusals
    assert (refusal.node, refusal.op_type) == ("frob", "foreign.Frobnicate")
    with pytest.raises(BuildError) as caught:
        opened(model)
    assert caught.value.node == "frob"
    assert "standard ONNX operators" in caught.value.remedy


def test_a_model_it_takes_is_supported(fashion_cnn: Model) -> None:
    assert backend.check(fashion_cnn).supported


def test_a_plan_that_is_damaged_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / backend.PLAN).write_bytes(b"no model")
    with pytest.raises(BackendError, match="ONNX Runtime cannot open it"):
        backend.open(tmp_path / backend.PLAN, BuildConfig(targets=("cpu",)))


def test_an_engine_of_a_model_with_external_data_stands_on_its_own(tmp_path: Path) -> None:
    """Small weights too: the plan must not point back at the model's folder."""
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32) * 3, "w")
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 4] x) => (float[n, 4] y) { y = MatMul (x, w) }'
    )
    proto.graph.initializer.append(weight)
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="m.data", size_threshold=0)
    engine = build(load_model(path), BuildConfig(), "onnxruntime").engine
    shutil.rmtree(path.parent)
    with open_engine(engine) as session:
        assert session.run({"x": np.ones((2, 4), np.float32)})["y"].tolist() == [[3.0] * 4] * 2


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_layer_names_the_sum_and_the_activation_that_were_fused_into_it(fashion_cnn: Model, precision: str) -> None:
    engine = build(fashion_cnn, BuildConfig(precision), "onnxruntime").engine
    (residual,) = (set(layer.nodes) for layer in read_layers(engine) if "/residual1/Add" in layer.nodes)
    names = ("second/conv/Conv", "second/norm/BatchNormalization", "Add", "relu/Relu")
    assert residual == {f"/residual1/{name}" for name in names}
    assert engine.nodes_covered == engine.nodes
