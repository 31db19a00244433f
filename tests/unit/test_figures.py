"""Pictures of fusions and partitions: which boxes there are, what leads to what, what belongs together."""

from pathlib import Path

import pytest
from models import save

from workbench.fusion import Fate, Fusion, Group, Node
from workbench.layers import LayerInfo, LayerTensor
from workbench.model import load_model
from workbench.picture import NATIVE, VARIABLE, Pane, picture_to_json
from workbench.picture.figures import fusion_picture, partition_picture
from workbench.subgraphs import partition

X, T, Y = (LayerTensor(name, (1, 4), "Half") for name in "xty")


def layer(name: str, inputs: tuple[LayerTensor, ...], outputs: tuple[LayerTensor, ...], *nodes: str) -> LayerInfo:
    return LayerInfo(name, "kgen", inputs, outputs, "", nodes)


FUSION = Fusion(
    nodes=(
        Node("weight", "Constant", (), ("v",)),
        Node("turned", "Identity", ("v",), ("w",)),
        Node("mul", "Mul", ("x", "w"), ("a",)),
        Node("relu", "Relu", ("a",), ("b",)),
        Node("same", "Identity", ("b",), ("c",)),
        Node("out", "Sigmoid", ("c",), ("y",)),
    ),
    groups=(
        Group(layer("mul_relu", (X,), (T,), "mul", "relu"), "vertical", ("mul", "relu"), "mul + relu", 0.25),
        Group(layer("wait", (), ()), "sync", ()),
        Group(layer("sigmoid", (T,), (Y,), "out"), "single", ("out",), "sigmoid", 0.5),
    ),
    fates=(
        Fate("weight", "folded"),
        Fate("turned", "folded"),
        Fate("mul", "kernel", ("mul_relu",)),
        Fate("relu", "kernel", ("mul_relu",)),
        Fate("same", "removed", (), "it changes nothing"),
        Fate("out", "kernel", ("sigmoid",)),
    ),
)


def arrows(pane: Pane) -> set[tuple[str, str]]:
    return {(pane.boxes[arrow.source].name, pane.boxes[arrow.target].name) for arrow in pane.arrows}


def names(pane: Pane) -> list[str]:
    return [box.name for box in pane.boxes]


def test_a_fusion_is_drawn_from_the_input_to_the_output_on_both_sides() -> None:
    picture = fusion_picture(FUSION, "title")
    assert arrows(picture.before) == {("x", "mul"), ("mul", "relu"), ("relu", "same"), ("same", "out"), ("out", "y")}
    assert arrows(picture.after) == {("x", "mul_relu"), ("mul_relu", "sigmoid"), ("sigmoid", "y")}
    assert {box.name for box in picture.after.boxes if box.side == VARIABLE} == {"x", "y"}


def test_nodes_are_linked_to_the_layers_that_do_their_work() -> None:
    picture = fusion_picture(FUSION, "title")
    linked = {(picture.before.boxes[left].name, picture.after.boxes[right].name) for left, right in picture.links}
    assert linked == {("mul", "mul_relu"), ("relu", "mul_relu"), ("out", "sigmoid"), ("x", "x"), ("y", "y")}
    by_name = {box.name: box for box in picture.before.boxes}
    assert by_name["mul"].group == by_name["relu"].group == "mul_relu"
    assert (by_name["mul"].kind, by_name["mul"].precision, by_name["mul"].time_ms) == ("vertical", "fp16", 0.25)


def test_a_node_without_a_kernel_says_what_became_of_it() -> None:
    (same,) = (box for box in fusion_picture(FUSION, "title").before.boxes if box.name == "same")
    assert same.group is None and same.kind == "removed"
    assert ("fate", "removed: it changes nothing") in same.facts


def test_constants_and_synchronization_are_not_drawn() -> None:
    picture = fusion_picture(FUSION, "title")
    assert not {"weight", "turned"} & set(names(picture.before)) and "wait" not in names(picture.after)


def test_a_constant_that_a_layer_brings_is_no_input() -> None:
    weight = LayerTensor("w", (4,), "Half")
    brings = Group(layer("constant", (), (weight,)), "constant", ())
    reads = Group(layer("mul", (X, weight), (Y,), "mul"), "single", ("mul",))
    assert names(fusion_picture(Fusion((), (brings, reads), ()), "title").after) == ["x", "mul", "y"]


def test_time_is_a_color_where_it_was_measured() -> None:
    assert "time" in fusion_picture(FUSION, "title").colors
    untimed = Fusion((), (Group(FUSION.groups[0].layer, "vertical", ("mul", "relu")),), ())
    assert "time" not in fusion_picture(untimed, "title").colors


def test_without_nodes_there_is_only_the_engine() -> None:
    picture = fusion_picture(Fusion((), FUSION.groups, ()), "title")
    assert picture.before.boxes == () and picture.links == () and picture.after.boxes


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    graph = """(float[2,4] x) => (float[2,4] y) {
        [a] a = Relu(x) [b] b = Sigmoid(a) [odd] q, s, z = DynamicQuantizeLinear(b)
        [d] d = Mul(a, s) [e] y = Neg(d) }"""
    return save(tmp_path / "parts.onnx", graph)


@pytest.mark.rtx
def test_engines_are_one_block_each_and_native_nodes_stay(parts: Path) -> None:
    picture = partition_picture(partition(load_model(parts), "rtx", 2))
    assert names(picture.before) == ["x", "a", "b", "odd", "d", "e", "y"]
    assert set(names(picture.after)) == {"x", "trt_0", "a", "b", "odd", "s", "trt_1", "y"}
    assert arrows(picture.after) == {
        ("x", "trt_0"), ("trt_0", "b"), ("b", "odd"), ("odd", "s"), ("s", "trt_1"), ("trt_1", "y"),
        ("trt_0", "a"), ("a", "trt_1"),
    }  # fmt: skip
    (odd,) = (box for box in picture.after.boxes if box.name == "odd")
    assert odd.side == NATIVE and any(name == "refused" for name, _ in odd.facts)
    assert {box.name for box in picture.after.boxes if box.side == VARIABLE} == {"x", "a", "b", "s", "y"}


@pytest.mark.rtx
def test_a_tensor_and_a_node_of_one_name_are_not_mixed_up(parts: Path) -> None:
    picture = partition_picture(partition(load_model(parts), "rtx", 3))  # nothing is left for an engine
    linked = {(picture.before.boxes[left].kind, picture.after.boxes[right].kind) for left, right in picture.links}
    assert linked == {("", ""), ("variable", "variable")}


@pytest.mark.rtx
def test_what_says_nothing_is_not_sent(parts: Path) -> None:
    data = picture_to_json(partition_picture(partition(load_model(parts), "rtx", 2)))
    assert all("time_ms" not in box and "" not in box.values() for box in data["before"]["boxes"])
