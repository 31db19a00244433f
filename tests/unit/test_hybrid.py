"""Models in parts: engines really built by TensorRT-RTX, everything run, the same answers as ONNX Runtime alone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_building import BOTH
from helpers_hybrid import MODELS, UNIQUE
from helpers_shapes import floats, ints, network, saved
from models import OCR_CLS, parse

from workbench import BuildConfig, EngineStore, Model, load_model, parse_shapes
from workbench.backends import available
from workbench.errors import (
    BackendError,
    BuildError,
    Cancelled,
    ConfigError,
    FeedError,
    RunError,
    ShapeError,
    ShapesNotSet,
)
from workbench.hybrid import build_parts, fragmentation, run_hybrid
from workbench.hybrid.parts import PHASE
from workbench.hybrid.profiles import part_configs
from workbench.hybrid.session import HybridEngine, HybridSession, no_longer_needed
from workbench.hybrid.shapes import collect_shapes
from workbench.reference import Reference, random_feeds
from workbench.subgraphs import divide, find_support, partition
from workbench.types import OptimizationProfile, Progress, ShapeRange

TWO = """(float[n,8] x) => (float[n,8] y) {
    a = MatMul(x, v) b = Relu(a) c = Sigmoid(b) middle = com.microsoft.QuickGelu(c)
    d = MatMul(middle, w) e = Relu(d) y = Tanh(e) }"""
RESHAPED = """(float[n,m] x) => (float[?,?] y) {
    s = Shape(x) rows = Gather(s, zero) columns = Gather(s, one) flat = Mul(rows, columns)
    pair = Concat<axis = 0>(flat, minus) r = Relu(x) y = Reshape(r, pair) }"""
FOUND = """(float[n] x) => (float[k] y) {
    r = Relu(x) t = NonZero(r) c = Cast<to = 1>(t) s = ReduceSum<keepdims = 0>(c, zero) y = Sqrt(s) }"""


def two_engines(folder: Path, first: float = 1.0, second: float = 2.0, name: str = "two") -> Model:
    """An operator of ONNX Runtime's own between two subgraphs of three nodes, each with weights."""
    proto = parse(TWO, v=np.full((8, 8), first, np.float32), w=np.full((8, 8), second, np.float32))
    proto.opset_import.add(domain="com.microsoft", version=1)
    return saved(folder, proto, name)


def reshaped(folder: Path) -> Model:
    return network(folder, RESHAPED, zero=ints(0), one=ints(1), minus=ints(-1))


def found(folder: Path) -> Model:
    return network(folder, FOUND, zero=ints(0))


def in_parts(model: Model, store: EngineStore) -> HybridEngine:
    """On ONNX Runtime's back end, whose engines run on every machine."""
    return build_parts(partition(model, "onnxruntime", 1, disable_ops=["com.microsoft.QuickGelu"]), store=store)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineStore]:
    logging.disable(logging.WARNING)  # ONNX Runtime's quantizer recommends its pre-processing
    yield EngineStore(tmp_path_factory.mktemp("store"))
    logging.disable(logging.NOTSET)


# ---- the same answers


@pytest.mark.rtx
@pytest.mark.parametrize("name", MODELS)
def test_a_model_with_refused_operators_gives_the_same_answers_in_parts(
    tmp_path: Path, shared: EngineStore, name: str
) -> None:
    make, feeds_of = MODELS[name]
    model = make(tmp_path)
    feeds = feeds_of(model)
    support, shapes = find_support(model, "rtx"), collect_shapes(model, feeds)
    assert support.refusals
    engines = []
    for size in (1, 3, 10, 50):
        hybrid = build_parts(divide(support, size), shapes=shapes, store=shared)
        assert [item.engine.backend for item in hybrid.built] == ["rtx"] * len(hybrid.partition.engines)
        assert all(item.engine.plan_bytes for item in hybrid.built)
        engines.append(len(hybrid.built))
        with HybridSession(hybrid) as session:
            for sample in feeds:
                expected, answer = Reference(model).run(sample), session.run(sample)
                assert list(answer) == list(expected)
                for output, value in expected.items():
                    # A rounded value may fall to the next step of a dynamically quantized model.
                    np.testing.assert_allclose(
                        answer[output], value, rtol=1e-3 if "quantized" in name else 1e-4, atol=1e-6
                    )
    assert engines[0] >= engines[1] >= engines[2] >= engines[3] and engines[0] > 0


@pytest.mark.parametrize("size", [1, 10, 50])
def test_engines_of_onnx_runtime_really_run_in_parts(shared: EngineStore, size: int) -> None:
    model = load_model(OCR_CLS)
    feeds = random_feeds(model.inputs, {"x": (2, 3, 48, 192)})
    hybrid = build_parts(partition(model, "onnxruntime", size, disable_ops=["HardSigmoid"]), store=shared)
    assert len(hybrid.built) > 1 or size == 50
    with HybridSession(hybrid) as session:
        assert (session.stand_ins, session.note) == ((), "")
        for name, value in session.run(feeds).items():
            np.testing.assert_allclose(value, Reference(model).run(feeds)[name], rtol=1e-4, atol=1e-6)


@pytest.mark.rtx
def test_sequences_go_from_one_native_part_to_another(tmp_path: Path, shared: EngineStore) -> None:
    make, feeds_of = MODELS["a sequence"]
    model = make(tmp_path)
    hybrid = build_parts(partition(model, "rtx"), store=shared, shapes=collect_shapes(model, feeds_of(model)))
    assert ("columns", "sequence(float32)") in [(item.name, item.dtype) for item in hybrid.partition.border]
    with HybridSession(hybrid) as session:
        assert session.run({"x": floats(3, 4)})["y"].shape == (3, 5)


def test_inputs_and_weights_may_be_outputs(tmp_path: Path, store: EngineStore) -> None:
    graph = "(float[n] x) => (float[n] x, float[2] w, float[n] r, float[n] y) { r = Relu(x) y = Abs(r) }"
    model = network(tmp_path, graph, w=np.array([3, 4], np.float32))
    hybrid = build_parts(partition(model, "onnxruntime", 1, disable_ops=["Relu"]), store=store)
    with HybridSession(hybrid) as session:
        answer = session.run({"x": np.array([1, -1], np.float32)})
    assert {name: value.tolist() for name, value in answer.items()} == {
        "x": [1, -1], "w": [3, 4], "r": [1, 0], "y": [1, 0],
    }  # fmt: skip
    assert list(answer) == ["x", "w", "r", "y"]


def test_nodes_that_no_output_depends_on_need_no_outputs(tmp_path: Path, store: EngineStore) -> None:
    model = network(tmp_path, "(float[4] x) => (float[4] y) { [dead] unread = Sigmoid(x) y = Relu(x) }")
    hybrid = build_parts(partition(model, "onnxruntime", 1, disable_ops=["Sigmoid"]), store=store)
    assert [part.outputs == () for part in hybrid.partition.parts] == [False, True]
    run = run_hybrid(hybrid, {"x": np.arange(-2, 2, dtype=np.float32)}, iterations=1)
    assert [item.max_abs for item in run.differences] == [0]


def test_a_model_without_nodes_runs_in_no_parts(tmp_path: Path, store: EngineStore) -> None:
    model = network(tmp_path, "(float[4] x) => (float[4] x) { }")
    hybrid = build_parts(partition(model, "onnxruntime", 1), store=store)
    run = run_hybrid(hybrid, {"x": np.ones(4, np.float32)}, iterations=2)
    assert (hybrid.partition.parts, run.times_ms, run.median_ms) == ((), (0, 0), 0)


def test_weights_in_another_file_reach_every_part(tmp_path: Path, store: EngineStore) -> None:
    proto = two_engines(tmp_path).proto
    onnx.save(proto, tmp_path / "far.onnx", save_as_external_data=True, location="far.bin", size_threshold=0)
    model = load_model(tmp_path / "far.onnx")
    assert model.external_files
    feeds = {"x": floats(2, 8)}
    with HybridSession(in_parts(model, store)) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], Reference(model).run(feeds)["y"], rtol=1e-6)


# ---- building


@pytest.mark.parametrize("backend", BOTH)
def test_changing_one_part_rebuilds_only_that_part(tmp_path: Path, store: EngineStore, backend: str) -> None:
    def build(model: Model) -> list[bool]:
        cut = partition(model, backend, 1, disable_ops=["com.microsoft.QuickGelu"])
        return [item.reused for item in build_parts(cut, store=store).built]

    assert build(two_engines(tmp_path)) == [False, False]
    assert build(two_engines(tmp_path)) == [True, True]
    assert build(two_engines(tmp_path, second=3.0, name="other")) == [True, False]
    assert build(two_engines(tmp_path, first=5.0, second=3.0, name="third")) == [False, True]


def test_nothing_is_reused_when_asked_to_build_anew(tmp_path: Path, store: EngineStore) -> None:
    cut = partition(two_engines(tmp_path), "onnxruntime", 1, disable_ops=["com.microsoft.QuickGelu"])
    build_parts(cut, store=store)
    assert [item.reused for item in build_parts(cut, store=store, reuse=False).built] == [False, False]


def test_progress_tells_which_of_how_many_subgraphs(tmp_path: Path, store: EngineStore) -> None:
    events: list[object] = []
    cut = partition(two_engines(tmp_path), "onnxruntime", 1, disable_ops=["com.microsoft.QuickGelu"])
    build_parts(cut, store=store, listener=events.append)
    steps = [event for event in events if isinstance(event, Progress)]
    assert [step for step in steps if step.phase == PHASE] == [Progress(PHASE, number, 2) for number in (0, 1, 2)]
    inner = [step for step in steps if step.phase != PHASE]
    assert inner and all(step.parent for step in inner)


def test_a_cancelled_build_stops(tmp_path: Path, store: EngineStore) -> None:
    cancel = threading.Event()
    cancel.set()
    cut = partition(two_engines(tmp_path), "onnxruntime", 1, disable_ops=["com.microsoft.QuickGelu"])
    with pytest.raises(Cancelled):
        build_parts(cut, store=store, cancel=cancel)
    assert not store.engines()


@pytest.mark.rtx
def test_a_subgraph_that_fails_to_build_is_named_with_node_and_remedies(tmp_path: Path, store: EngineStore) -> None:
    """NVIDIA's parser takes NonMaxSuppression, and its builder finds no kernel for such boxes."""
    graph = """(float[1,n,4] boxes, float[1,1,n] scores) => (float[k,4] y) {
        s = com.microsoft.QuickGelu(scores) [nms] chosen = NonMaxSuppression(boxes, s, five, half, half)
        i = Gather<axis = 1>(chosen, two) f = Squeeze(boxes, zero) y = Gather(f, i) }"""
    half = np.array([0.5], np.float32)
    proto = parse(graph, five=ints(5), half=half, two=np.array(2), zero=ints(0))
    proto.opset_import.add(domain="com.microsoft", version=1)
    model = saved(tmp_path, proto)
    feeds = {"boxes": np.random.default_rng(0).random((1, 9, 4), np.float32), "scores": floats(1, 1, 9)}
    with pytest.raises(BuildError) as failed:
        build_parts(partition(model, "rtx"), shapes=collect_shapes(model, [feeds]), store=store)
    assert failed.value.node == "nms" and "subgraph trt_0 (4 operators)" in str(failed.value)
    assert "raise min_subgraph_size to 5, or exclude NonMaxSuppression (disable_ops)" in str(failed.value)
    assert failed.value.log_tail


def test_what_the_back_end_cannot_fulfil_is_said_before_anything_is_built(tmp_path: Path, store: EngineStore) -> None:
    cut = partition(two_engines(tmp_path), "onnxruntime", 1, disable_ops=["com.microsoft.QuickGelu"])
    with pytest.raises(ConfigError, match="bf16"):
        build_parts(cut, BuildConfig(precision="bf16"), store=store)


# ---- sizes at the borders


@pytest.mark.rtx
def test_sizes_that_follow_from_the_profile_go_into_each_engine(tmp_path: Path, store: EngineStore) -> None:
    model = network(tmp_path, "(float[n,m] x) => (float[?,?] y) { a = Relu(x) t = Transpose(a) y = Abs(t) }")
    hybrid = build_parts(
        partition(model, "rtx", 1, disable_ops=["Transpose"]),
        BuildConfig(profiles=(parse_shapes(["x:1x2,3x4,5x6"]),)), store=store,
    )  # fmt: skip
    profiles = [item.engine.config.profiles for item in hybrid.built]
    assert profiles == [
        (OptimizationProfile({"x": ShapeRange((1, 2), (3, 4), (5, 6))}),),
        (OptimizationProfile({"t": ShapeRange((2, 1), (4, 3), (6, 5))}),),
    ]


@pytest.mark.rtx
def test_every_profile_is_followed_and_a_size_may_shrink(tmp_path: Path) -> None:
    """The rest of twenty rows: fewer of them, the larger n is."""
    graph = """(float[n,4] x) => (float[?,4] y) {
        s = Shape<start = 0, end = 1>(x) rest = Slice(rows, s, twenty, zero) r = Relu(rest) y = Abs(r) }"""
    model = network(tmp_path, graph, rows=floats(20, 4), twenty=ints(20), zero=ints(0))
    cut = partition(model, "rtx", 1, disable_ops=["Slice"])
    profiles = (parse_shapes(["x:1x4,2x4,8x4"]), parse_shapes(["x:3x4,3x4,3x4"]))
    *_, (part, config) = part_configs(cut, BuildConfig(profiles=profiles))
    assert [tensor.name for tensor in part.inputs] == ["rest"]
    assert [profile.ranges["rest"] for profile in config.profiles] == [
        ShapeRange((12, 4), (18, 4), (19, 4)),
        ShapeRange((17, 4), (17, 4), (17, 4)),
    ]


@pytest.mark.rtx
@pytest.mark.parametrize("operator", ["Shape", "Gather", "Mul", "Concat"])
@pytest.mark.parametrize("is_collected", [False, True], ids=["followed", "collected"])
def test_engines_take_inputs_that_hold_sizes(
    tmp_path: Path, shared: EngineStore, operator: str, is_collected: bool
) -> None:
    """NVIDIA's builder wants the least, usual and largest sizes that such an input holds."""
    model = reshaped(tmp_path)
    samples = [{"x": floats(*shape)} for shape in ((2, 3), (4, 6), (4, 6), (8, 6))]
    config = BuildConfig(profiles=() if is_collected else (parse_shapes(["x:2x3,4x6,8x6"]),))
    cut = partition(model, "rtx", 1, disable_ops=[operator])
    hybrid = build_parts(cut, config, shapes=collect_shapes(model, samples) if is_collected else None, store=shared)
    (profile,) = hybrid.built[-1].engine.config.profiles
    assert profile.ranges == {"x": ShapeRange((2, 3), (4, 6), (8, 6))}
    assert (
        profile.values
        == {
            "Shape": {"s": ShapeRange((2, 3), (4, 6), (8, 6))},
            "Gather": {"rows": ShapeRange((2,), (4,), (8,)), "columns": ShapeRange((3,), (6,), (6,))},
            "Mul": {"flat": ShapeRange((6,), (24,), (48,))},
            "Concat": {"pair": ShapeRange((6, -1), (24, -1), (48, -1))},
        }[operator]
    )
    with HybridSession(hybrid) as session:
        assert session.run({"x": floats(5, 3)})["y"].shape == (15, 1)


@pytest.mark.rtx
def test_sizes_that_nothing_tells_are_an_error_with_two_remedies(tmp_path: Path, store: EngineStore) -> None:
    model = found(tmp_path)
    support = find_support(model, "rtx", disable_ops=["NonZero"])
    with pytest.raises(ShapesNotSet) as missing:
        build_parts(divide(support, 2), store=store)
    error = missing.value
    assert (error.subgraph, error.tensors, error.skip_at) == ("trt_0", ("t",), 4)
    assert str(error).startswith("some trt inputs dynamic shape info not set: subgraph trt_0 reads t, ")
    assert "collect shapes, or raise min_subgraph_size to 4" in str(error) and str(error).count(".") == 1
    assert not store.engines()

    assert not build_parts(divide(support, error.skip_at), store=store).built
    shapes = collect_shapes(model, [{"x": np.array(row, np.float32)} for row in ([1, 0, 1], [1, 1, 1], [1, 1, 1])])
    (built,) = build_parts(divide(support, 2), shapes=shapes, store=store).built
    assert built.engine.config.profiles == (OptimizationProfile({"t": ShapeRange((1, 2), (1, 3), (1, 3))}),)


@pytest.mark.rtx
def test_shapes_of_another_model_are_not_built_for(tmp_path: Path, store: EngineStore) -> None:
    other = collect_shapes(reshaped(tmp_path), [{"x": np.ones((2, 3), np.float32)}])
    parts = partition(two_engines(tmp_path), "onnxruntime", 1, disable_ops=["com.microsoft.QuickGelu"])
    with pytest.raises(ShapeError, match=r"of another model \(net, .* than two"):
        build_parts(parts, shapes=other, store=store)


def test_what_samples_cannot_tell_can_only_be_left_native(tmp_path: Path) -> None:
    """The exporter says of t what is not always so: its rank changes with the sizes."""
    graph = "(float[n,m] x) => (float[?,?] y) <float[k] t> { t = Squeeze(x) a = Relu(t) b = Abs(a) y = Add(b, x) }"
    model = network(tmp_path, graph)
    shapes = collect_shapes(model, [{"x": floats(1, 4)}, {"x": floats(4, 4)}])
    with pytest.raises(
        ShapesNotSet, match=r"reads t, whose sizes the samples do not tell, .*; raise min_subgraph_size"
    ):
        part_configs(partition(model, "rtx", 1, disable_ops=["Squeeze"]), BuildConfig(), shapes)


@pytest.mark.rtx
def test_inputs_of_the_model_may_hold_sizes(tmp_path: Path, store: EngineStore) -> None:
    model = network(tmp_path, "(float[2] x, int64[2] size) => (float[?,?] y) { r = Relu(x) y = Expand(r, size) }")
    cut = partition(model, "rtx", 1)
    with pytest.raises(ShapesNotSet, match="subgraph trt_0 reads size"):
        build_parts(cut, store=store)
    profile = OptimizationProfile({}, {"size": ShapeRange((1, 2), (3, 2), (9, 2))})
    (built,) = build_parts(cut, BuildConfig(profiles=(profile,)), store=store).built
    assert built.engine.config.profiles == (profile,)


@pytest.mark.rtx
def test_the_profile_tells_what_it_can_and_samples_the_rest(tmp_path: Path) -> None:
    model = network(tmp_path, UNIQUE)
    shapes = collect_shapes(model, [{"x": floats(2, 2)}])
    cut = partition(model, "rtx", 1)
    given = part_configs(cut, BuildConfig(profiles=(parse_shapes(["x:1x1,4x4,9x9"]),)), shapes)
    assert {part.id: dict(config.profiles[0].ranges) for part, config in given} == {
        "trt_0": {"x": ShapeRange((1, 1), (4, 4), (9, 9))},
        "trt_1": {"values": ShapeRange((1,), (1,), (1,)), "counts": ShapeRange((1,), (1,), (1,))},
    }
    collected = part_configs(cut, BuildConfig(), shapes)
    assert collected[0][1].profiles == (OptimizationProfile({"x": ShapeRange((2, 2), (2, 2), (2, 2))}),)


@pytest.mark.rtx
def test_dimensions_of_one_name_that_samples_show_apart_lose_it(tmp_path: Path, store: EngineStore) -> None:
    """Exporters give one name to dimensions that differ; NVIDIA's builder would take them for equal."""
    model = network(tmp_path, "(float[n,n] x) => (float[?,?] y) { r = Relu(x) y = Abs(r) }")
    shapes = collect_shapes(model, [{"x": floats(2, 3)}, {"x": floats(4, 3)}])
    hybrid = build_parts(partition(model, "rtx", 1), shapes=shapes, store=store)
    (profile,) = hybrid.built[0].engine.config.profiles
    assert profile.ranges["x"] == ShapeRange((2, 3), (4, 3), (4, 3))


@pytest.mark.rtx
def test_a_profile_that_the_model_does_not_take_is_an_error(tmp_path: Path) -> None:
    model = network(
        tmp_path, "(float[n] x) => (float[4,2] y) { r = Relu(x) t = Reshape(r, s) y = Abs(t) }", s=ints(4, 2)
    )
    cut = partition(model, "rtx", 1)
    (_, config), *_ = part_configs(cut, BuildConfig(profiles=(parse_shapes(["x:8"]),)))
    assert config.profiles[0].ranges["x"].opt == (8,)
    with pytest.raises(ShapeError, match="min of the profile: the graph does not take these sizes: Reshape"):
        part_configs(cut, BuildConfig(profiles=(parse_shapes(["x:7,8,8"]),)))


# ---- the session


@pytest.mark.rtx
def test_it_says_where_onnx_runtime_stands_in(tmp_path: Path, shared: EngineStore) -> None:
    hybrid = build_parts(partition(two_engines(tmp_path), "rtx"), BuildConfig(precision="fp16"), store=shared)
    assert {item.engine.precision for item in hybrid.built} == {"fp16"}
    runs = available()["rtx"].can_run
    with HybridSession(hybrid) as session:
        assert session.stand_ins == (() if runs else ("trt_0", "trt_1"))
        assert session.note.startswith("" if runs else "2 TensorRT-RTX engines cannot run here: ")
        assert session.note.endswith("" if runs else "runs in their place, as the model stands, not in fp16.")
        assert ("ONNX Runtime in place of TensorRT-RTX" in session.clock) == bool(session.note) == (not runs)


def test_a_session_is_like_any_other(tmp_path: Path, store: EngineStore) -> None:
    model = two_engines(tmp_path)
    with HybridSession(in_parts(model, store)) as session:
        assert (session.inputs, session.outputs) == (model.inputs, model.outputs)
        with pytest.raises(BackendError, match="run the session once"):
            session.times_ms(1)
        with pytest.raises(FeedError, match="input x is missing"):
            session.run({})
        session.run({"x": floats(2, 8)})
        times, parts = session.times_ms(3), session.part_times_ms(2)
    assert len(times) == 3 and all(time > 0 for time in times)
    assert {name: len(values) for name, values in parts.items()} == {"trt_0": 2, "native_0": 2, "trt_1": 2}


def test_tensors_are_dropped_after_their_last_reader(tmp_path: Path) -> None:
    graph = "(float[n] x) => (float[n] a, float[n] y) { a = Relu(x) b = Abs(a) c = Relu(b) d = Add(c, a) y = Relu(d) }"
    cut = partition(network(tmp_path, graph), "onnxruntime", 1, disable_ops=["Relu"])
    assert [part.nodes for part in cut.parts] == [
        ("node_of_a",), ("node_of_b",), ("node_of_c",), ("node_of_d",), ("node_of_y",),
    ]  # fmt: skip
    assert list(no_longer_needed(cut)) == [("x",), (), ("b",), ("c",), ("d",)]  # a and y are outputs


# ---- what cutting costs


def test_a_run_compares_and_times_parts_and_the_whole(tmp_path: Path, store: EngineStore) -> None:
    steps: list[object] = []
    run = run_hybrid(in_parts(two_engines(tmp_path), store), {"x": floats(3, 8)}, iterations=4, listener=steps.append)
    (difference,) = run.differences
    assert difference.output == "y" and difference.max_abs < 1e-6
    assert {name: len(times) for name, times in run.part_times_ms.items()} == {"trt_0": 4, "native_0": 4, "trt_1": 4}
    assert run.times_ms[0] == sum(times[0] for times in run.part_times_ms.values())
    assert min(run.times_ms) <= run.median_ms <= max(run.times_ms)
    assert len(run.alone_times_ms) == 4 and run.alone_median_ms > 0
    assert run.border_bytes == 2 * 3 * 8 * 4  # c and middle
    assert steps[-1] == Progress("Timing", 4, 4)


def test_text_goes_through_and_is_not_compared(tmp_path: Path, store: EngineStore) -> None:
    graph = (
        "(string[n] t, float[n] x) => (string[1] first, float[n] y) { r = Relu(x) first = Gather(t, zero) y = Abs(r) }"
    )
    model = network(tmp_path, graph, zero=ints(0))
    hybrid = build_parts(partition(model, "onnxruntime", 1, disable_ops=["Relu"]), store=store)
    feeds = {"t": np.array(["one", "two"], dtype=object), "x": floats(2)}
    with HybridSession(hybrid) as session:
        assert session.run(feeds)["first"].tolist() == ["one"]
    assert [item.output for item in run_hybrid(hybrid, feeds, iterations=1).differences] == ["y"]


def test_timing_stops_when_cancelled(tmp_path: Path, store: EngineStore) -> None:
    cancel = threading.Event()
    hybrid = in_parts(two_engines(tmp_path), store)
    with pytest.raises(Cancelled):
        run_hybrid(hybrid, {"x": floats(1, 8)}, listener=lambda step: cancel.set(), cancel=cancel)


@pytest.mark.rtx
def test_fragmentation_has_a_row_for_every_partition(tmp_path: Path, home: Path) -> None:
    model = two_engines(tmp_path)
    support = find_support(model, "rtx")
    rows = fragmentation([divide(support, size) for size in (1, 3, 10)], {"x": floats(2, 8)}, iterations=2)
    assert [row.hybrid.partition.min_subgraph_size for row in rows] == [1, 3, 10]
    assert [len(row.hybrid.built) for row in rows] == [2, 2, 0]
    assert [row.border_bytes for row in rows] == [128, 128, 0]
    assert [item.reused for item in rows[1].hybrid.built] == [True, True]
    assert list(home.glob("engines/*"))


def test_what_nobody_takes_is_told_before_an_engine_is_built(tmp_path: Path, home: Path) -> None:
    graph = "(float[n,4] x) => (float[n,4] y, float[n,4] b) { a = Relu(x) [odd] b = foreign.Odd(a) y = Tanh(a) }"
    model = network(tmp_path, graph)
    with pytest.raises(RunError, match="native_0 stays native, and ONNX Runtime does not take it either"):
        build_parts(partition(model, "rtx", 1), BuildConfig(profiles=(parse_shapes(["x:1x4,2x4,4x4"]),)))
    assert not EngineStore().engines()


def test_no_runs_cannot_be_timed(tmp_path: Path) -> None:
    hybrid = build_parts(partition(network(tmp_path, "(float[2] x) => (float[2] y) { y = Relu(x) }"), "onnxruntime", 1))
    with pytest.raises(ConfigError, match="0 runs cannot be timed"):
        run_hybrid(hybrid, {"x": floats(2)}, iterations=0)


def test_sizes_beyond_those_an_engine_was_built_for_are_refused_by_its_stand_in_too(tmp_path: Path) -> None:
    """As the engine itself would; otherwise a machine without a GPU would show what no GPU does."""
    model = network(tmp_path, UNIQUE)
    few, many = ({"x": np.tile(values, (1, 1)).astype(np.float32)} for values in (np.ones(4), np.arange(4)))
    hybrid = build_parts(partition(model, "rtx"), shapes=collect_shapes(model, [few]))
    with HybridSession(hybrid) as session:
        session.run(few)
        with pytest.raises(FeedError, match=r"was built for other sizes: .* is 4, and the engine takes 1 to 1"):
            session.run(many)
