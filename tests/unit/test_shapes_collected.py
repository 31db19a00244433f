"""Sizes collected from samples: every tensor that is read, what shape tensors hold, and the file that keeps them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers_building import ROOT
from helpers_shapes import floats, ints, made, network, saved, scalar
from models import FASHION_CNN, OCR_DET, parse, save_chain

from workbench import Model, load_model
from workbench.errors import Cancelled, FeedError, RunError, ShapeError
from workbench.hybrid.shapes import CollectedShapes, collect_shapes, load_shapes, profile_for, save_shapes
from workbench.reference import random_feeds
from workbench.subgraphs import Part
from workbench.tensor_shapes import TensorShape
from workbench.types import Progress, ShapeRange

RESHAPED = """(float[n,m] x) => (float[?,?] y, int64[2] s) {
    s = Shape(x) rows = Gather(s, zero) columns = Gather(s, one) flat = Mul(rows, columns)
    pair = Concat<axis = 0>(flat, minus) r = Relu(x) y = Reshape(r, pair) }"""
FOUND = "(float[n] x) => (int64[1,k] y) { r = Relu(x) y = NonZero(r) }"


def reshaped(folder: Path) -> Model:
    return network(folder, RESHAPED, zero=ints(0), one=ints(1), minus=ints(-1))


def collected(model: Model, *shapes: tuple[int, ...]) -> CollectedShapes:
    (spec,) = model.inputs
    return collect_shapes(model, [random_feeds(model.inputs, {spec.name: shape}) for shape in shapes])


def test_min_and_max_are_of_each_axis_and_opt_is_the_most_frequent(tmp_path: Path) -> None:
    model = network(tmp_path, "(float[n,m] x) => (float[m,n] y) { t = Relu(x) y = Transpose(t) }")
    seen = collected(model, (1, 9), (4, 2), (3, 3), (4, 2))
    assert seen.samples == 4
    assert seen.ranges["t"] == ShapeRange((1, 2), (4, 2), (4, 9))
    assert seen.ranges["y"] == ShapeRange((2, 1), (2, 4), (9, 4))


def test_of_equally_frequent_shapes_the_one_with_more_elements_is_opt(tmp_path: Path) -> None:
    model = network(tmp_path, "(float[n,m] x) => (float[n,m] y) { y = Relu(x) }")
    assert collected(model, (2, 3), (1, 8), (2, 3), (1, 8), (1, 1)).ranges["y"].opt == (1, 8)


def test_opt_is_taken_from_one_sample_so_that_named_dimensions_agree(tmp_path: Path) -> None:
    """n is mostly 1, but the most frequent shape of the whole has n = 2: NVIDIA's builder wants one opt for n."""
    graph = "(float[n] a, float[n,m] b) => (float[n] y, float[n,m] z) { y = Relu(a) z = Relu(b) }"
    model = network(tmp_path, graph)
    sizes = [(1, 1), (1, 2), (1, 3), (2, 4), (2, 4)]
    seen = collect_shapes(model, [{"a": floats(n), "b": floats(n, m)} for n, m in sizes])
    assert (seen.ranges["y"].opt, seen.ranges["z"].opt) == ((2,), (2, 4))


def test_every_tensor_of_a_real_model_has_the_shape_that_it_really_had() -> None:
    model = load_model(OCR_DET)
    seen, really = collected(model, (1, 3, 64, 96)), made(model, {"x": (1, 3, 64, 96)})
    constants = {name for node in model.nodes if node.op_type == "Constant" for name in node.output}
    assert seen.ranges.keys() == {"x", *really} - constants
    assert len(seen.ranges) > 300
    assert {name: item.opt for name, item in seen.ranges.items() if name != "x"} == {
        name: shape for name, (_, shape) in really.items() if name not in constants
    }


def test_weights_and_constants_are_left_out() -> None:
    model = load_model(FASHION_CNN)
    seen = collected(model, (1, 1, 28, 28), (8, 1, 28, 28))
    assert not seen.ranges.keys() & {tensor.name for tensor in model.proto.graph.initializer}
    assert seen.ranges["logits"] == ShapeRange((1, 10), (8, 10), (8, 10))


def test_what_shape_tensors_hold_is_collected(tmp_path: Path) -> None:
    seen = collected(reshaped(tmp_path), (2, 3), (4, 3), (2, 3))
    assert seen.values["s"] == ShapeRange((2, 3), (2, 3), (4, 3))
    assert seen.values["pair"] == ShapeRange((6, -1), (6, -1), (12, -1))
    assert seen.values["flat"] == ShapeRange((6,), (6,), (12,))


def test_integers_that_are_data_are_no_shape_tensors(tmp_path: Path) -> None:
    graph = "(int64[n] ids) => (float[n,4] y) { more = Add(ids, ids) t = Sub(more, ids) y = Gather(w, t) }"
    seen = collected(network(tmp_path, graph, w=floats(8, 4)), (3,))
    assert "t" in seen.ranges and not seen.values


def test_an_input_that_holds_sizes_is_collected_and_tells_samples_apart(tmp_path: Path) -> None:
    model = network(tmp_path, "(float[2] x, int64[2] size) => (float[?,?] y) { y = Expand(x, size) }")
    seen = collect_shapes(model, [{"x": floats(2), "size": ints(n, 2)} for n in (7, 3, 3)])
    assert seen.values == {"size": ShapeRange((3, 2), (3, 2), (7, 2))}
    assert seen.ranges["y"] == ShapeRange((3, 2), (3, 2), (7, 2))


def test_a_scalar_shape_tensor_is_one_value(tmp_path: Path) -> None:
    model = network(
        tmp_path, "(int64 stop) => (int64[n] y) { y = Range(zero, stop, one) }", zero=scalar(0), one=scalar(1)
    )
    seen = collect_shapes(model, [{"stop": scalar(5)}, {"stop": scalar(3)}, {"stop": scalar(3)}])
    assert seen.values["stop"] == ShapeRange((3,), (3,), (5,))
    assert seen.ranges["stop"] == ShapeRange((), (), ())


@pytest.mark.parametrize("sizes", [(100, 100), (2, 3)], ids=["too many", "not always equally many"])
def test_what_can_be_no_shape_is_left_out(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    graph = """(float[n] x) => (float[?] y) {
        s = Shape(x) lengths = Expand(one, s) parts = SplitToSequence(x, lengths)
        y = ConcatFromSequence<axis = 0>(parts) }"""
    seen = collected(network(tmp_path, graph, one=ints(1)), *((size,) for size in sizes))
    assert seen.values == {"s": ShapeRange((sizes[0],), (sizes[1],), (sizes[1],))}
    assert "lengths" in seen.ranges


def test_sizes_that_depend_on_data_are_seen(tmp_path: Path) -> None:
    model = network(tmp_path, FOUND)
    rows = [[1, 0, 1], [1, 1, 1], [0, 0, 0], [0, 1, 1]]
    seen = collect_shapes(model, [{"x": np.array(row, np.float32)} for row in rows])
    assert seen.ranges["y"] == ShapeRange((1, 0), (1, 2), (1, 3))
    assert collect_shapes(model, [{"x": np.array(row, np.float32)} for row in rows[:3]]).ranges["y"].opt == (1, 3)
    assert collect_shapes(model, [{"x": np.array(row, np.float32)} for row in rows[1:3]]).ranges["y"].opt == (1, 3)


def test_a_tensor_whose_rank_changes_has_no_range(tmp_path: Path) -> None:
    model = network(tmp_path, "(float[n,m] x) => (float[?,?] y) { t = Squeeze(x) u = Relu(t) y = Add(u, x) }")
    seen = collected(model, (1, 4), (4, 4))
    assert seen.ranges.keys() == {"x", "y"}


def test_sequences_and_what_nobody_reads_are_left_out_and_bodies_count_as_readers(tmp_path: Path) -> None:
    graph = """(float[n,4] x, bool c) => (float[n,4] y) {
        parts = SplitToSequence<axis = 1>(x) joined = ConcatFromSequence<axis = 1>(parts) unread = Neg(joined)
        inside = Relu(joined)
        y = If(c) <then_branch = then () => (float[n,4] a) { a = Abs(inside) },
                   else_branch = other () => (float[n,4] b) { b = Neg(inside) }>
    }"""
    seen = collect_shapes(network(tmp_path, graph), [{"x": floats(2, 4), "c": np.array(True)}])
    assert seen.ranges.keys() == {"x", "c", "joined", "inside", "y"}


def test_tensors_of_foreign_operators_are_seen(tmp_path: Path) -> None:
    proto = parse("(float[n,4] x) => (float[n,4] y) { t = com.microsoft.Gelu(x) y = Relu(t) }")
    proto.opset_import.add(domain="com.microsoft", version=1)
    assert collected(saved(tmp_path, proto), (3, 4)).ranges["t"] == ShapeRange((3, 4), (3, 4), (3, 4))


def test_samples_may_come_one_by_one(tmp_path: Path) -> None:
    model, steps = network(tmp_path, FOUND), []
    samples = ({"x": floats(size)} for size in (1, 2, 3))
    seen = collect_shapes(model, samples, listener=steps.append)
    assert seen.samples == 3
    assert steps[-1] == Progress("Collecting shapes", 3, 3) and steps[1] == Progress("Collecting shapes", 1, None)


def test_no_sample_no_shapes(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="give one at least"):
        collect_shapes(network(tmp_path, FOUND), [])


def test_a_sample_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match=r"input x: float32\[n\] has 1 dimensions"):
        collect_shapes(network(tmp_path, FOUND), [{"x": floats(1, 2)}])


def test_the_node_that_fails_on_a_sample_is_named(tmp_path: Path) -> None:
    model = network(tmp_path, "(float[n] x, float[m] z) => (float[?] y) { [add] y = Add(x, z) }")
    with pytest.raises(RunError, match="node add"):
        collect_shapes(model, [{"x": floats(2), "z": floats(3)}])


def test_collecting_stops_when_cancelled(tmp_path: Path) -> None:
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        collect_shapes(
            network(tmp_path, FOUND), [{"x": floats(1)}] * 3, listener=lambda step: cancel.set(), cancel=cancel
        )


def test_ten_thousand_nodes_are_collected(tmp_path: Path) -> None:
    model = load_model(save_chain(tmp_path / "chain.onnx", 10_000))
    seen = collected(model, (1, 4, 8, 8), (2, 4, 8, 8))
    assert len(seen.ranges) == 10_001
    assert set(seen.ranges.values()) == {ShapeRange((1, 4, 8, 8), (2, 4, 8, 8), (2, 4, 8, 8))}


MEASURED = """
import resource, sys
sys.path[:0] = {paths!r}
from models import save_chain
from workbench import load_model
from workbench.reference import random_feeds
from workbench.hybrid.shapes import collect_shapes
model = load_model({path!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
feeds = [random_feeds(model.inputs, {{"t0": (1024, 4, 8, 8)}})] * 2
collect_shapes(model, feeds)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_hold_all_activations(tmp_path: Path) -> None:
    """400 tensors of 1 MiB each."""
    path = save_chain(tmp_path / "chain.onnx", 400)
    code = MEASURED.format(paths=[str(ROOT), str(ROOT / "tests")], path=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) / 1024 < 200


# ---- profiles


def part_reading(*inputs: TensorShape) -> Part:
    return Part("trt_0", "rtx", ("r",), inputs, ())


def test_a_profile_holds_open_inputs_and_values_of_shape_tensors(tmp_path: Path) -> None:
    seen = collected(reshaped(tmp_path), (2, 3), (4, 3), (2, 3))
    part = part_reading(
        TensorShape("r", "float32", ("n", "m")), TensorShape("x", "float32", (2, 3)), TensorShape("pair", "int64", (2,))
    )
    profile = profile_for(seen, part)
    assert profile.ranges == {"r": ShapeRange((2, 3), (2, 3), (4, 3))}
    assert profile.values == {"pair": ShapeRange((6, -1), (6, -1), (12, -1))}


def test_tensors_of_unknown_rank_are_open_and_empty_ones_count_as_one(tmp_path: Path) -> None:
    seen = collect_shapes(network(tmp_path, FOUND), [{"x": np.zeros(3, np.float32)}, {"x": np.ones(3, np.float32)}])
    assert seen.ranges["y"].min == (1, 0)
    profile = profile_for(seen, part_reading(TensorShape("y", "int64", None)))
    assert profile.ranges == {"y": ShapeRange((1, 1), (1, 3), (1, 3))}


# ---- the file


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    model = reshaped(tmp_path)
    seen = collected(model, (2, 3), (4, 3))
    path = save_shapes(seen, tmp_path / "shapes.json")
    assert load_shapes(path, model) == seen
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.onnx", "shapes.json"]


def test_shapes_of_another_model_are_refused(tmp_path: Path) -> None:
    path = save_shapes(collected(reshaped(tmp_path), (2, 3)), tmp_path / "shapes.json")
    with pytest.raises(ShapeError, match=r"of another model \(net, .* than fashion_cnn"):
        load_shapes(path, load_model(FASHION_CNN))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "model": "a", "shapes": 3}'])
def test_a_file_that_holds_no_shapes_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "shapes.json").write_text(text)
    with pytest.raises(ShapeError, match="holds no collected shapes"):
        load_shapes(tmp_path / "shapes.json", reshaped(tmp_path))


def test_another_format_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    model = reshaped(tmp_path)
    path = save_shapes(collected(model, (2, 3)), tmp_path / "shapes.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(ShapeError, match="another release"):
        load_shapes(path, model)
    with pytest.raises(ShapeError, match="cannot be read"):
        load_shapes(tmp_path / "nowhere.json", model)
    with pytest.raises(ShapeError, match="cannot be written"):
        save_shapes(collected(model, (2, 3)), tmp_path / "nowhere" / "shapes.json")


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "shapes.json").mkdir()
    with pytest.raises(ShapeError, match="cannot be written"):
        save_shapes(collected(reshaped(tmp_path), (2, 3)), tmp_path / "shapes.json")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.onnx", "shapes.json"]
