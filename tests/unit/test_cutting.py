"""Parts of a model as models of their own: run one after another they answer as the whole does."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import FASHION_CNN, LIGHT, parse, save, save_external
from onnx import TensorProto, helper, numpy_helper

from workbench.cutting import reads
from workbench.model import Model, load_model
from workbench.reference import Reference, random_feeds
from workbench.subgraphs import NodeSupport, Partition, cut, divide
from workbench.tensor_types import find_types
from workbench.types import Feeds, Refusal

Load = Callable[..., Model]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    return lambda graph, **weights: load_model(save(tmp_path / "model.onnx", graph, **weights))


def without(model: Model, *nodes: str, smallest: int = 1) -> Partition:
    """The partition by a back end that refuses these nodes."""
    refusals = tuple(Refusal(node.name, node.op_type, "") for node in model.nodes if node.name in nodes)
    return divide(NodeSupport(model, "rtx", refusals, find_types(model)), smallest)


def run_parts(partition: Partition, feeds: Feeds) -> dict[str, np.ndarray]:
    values = dict(feeds)
    for part in partition.parts:
        if part.outputs:
            values |= Reference(cut(partition.model, part)).run({item.name: values[item.name] for item in part.inputs})
    return values


def assert_same(model: Model, partition: Partition, feeds: Feeds) -> None:
    values = run_parts(partition, feeds)
    for name, expected in Reference(model).run(feeds).items():
        np.testing.assert_array_equal(values[name], expected)


# ---- random models

UNARY, BINARY = ("Relu", "Neg", "Sigmoid", "Identity"), ("Add", "Mul", "Sub", "Max")


@st.composite
def models(draw: st.DrawFn) -> tuple[onnx.ModelProto, list[str]]:
    """Elementwise operators on 2x3 tensors, an If that reads tensors around it, constants and weights; and nodes."""
    nodes = [helper.make_node("Constant", [], ["k"], name="k", value_floats=[0.5, -1.0, 2.0])]
    names = ["x", "w", "k"]
    for index in range(draw(st.integers(1, 9))):
        name, (one, other) = f"n{index}", (draw(st.sampled_from(names)) for _ in range(2))
        kind = draw(st.sampled_from((*UNARY, *BINARY, "If")))
        if kind == "If":
            branches = [
                helper.make_graph([helper.make_node("Abs", [read], [f"{name}_{read_as}"], name=f"{name}_{read_as}")],
                                  read_as, [], [value(f"{name}_{read_as}")])
                for read, read_as in ((one, "then"), (other, "else"))
            ]  # fmt: skip
            node = helper.make_node("If", ["c"], [name], name=name, then_branch=branches[0], else_branch=branches[1])
        else:
            node = helper.make_node(kind, [one, other] if kind in BINARY else [one], [name], name=name)
        nodes.append(node)
        names.append(name)
    made = names[3:]
    shown = draw(st.sets(st.sampled_from(made), min_size=1))
    inputs = [value("x"), helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    weights = [numpy_helper.from_array(np.array([[1.5, -0.5, 2.0]] * 2, np.float32), "w")]
    graph = helper.make_graph(nodes, "g", inputs, [value(name) for name in made if name in shown], weights)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, ir_version=8, opset_imports=opsets), draw(st.lists(st.sampled_from(made)))


def value(name: str) -> onnx.ValueInfoProto:
    """Without a shape, but for the input: [3] is broadcast to [2, 3] in some places."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3] if name == "x" else None)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(models(), st.booleans(), st.integers(1, 3))
def test_the_parts_answer_as_the_whole(
    tmp_path: Path, drawn: tuple[onnx.ModelProto, list[str]], condition: bool, smallest: int
) -> None:
    proto, refused = drawn
    model = Model(proto, tmp_path / "model.onnx")
    feeds = {"x": np.array([[1, -2, 3], [-4, 5, -6]], np.float32), "c": np.array(condition)}
    feeds = {spec.name: feeds[spec.name] for spec in model.inputs}
    assert_same(model, without(model, *refused, smallest=smallest), feeds)


@pytest.mark.parametrize("path", [FASHION_CNN, *LIGHT[-2:]], ids=lambda path: path.stem)
def test_parts_of_real_models_pass_the_checker_and_answer_as_the_whole(path: Path) -> None:
    model = load_model(path)
    partition = without(model, *(node.name for node in model.nodes if node.op_type in ("Relu", "GlobalAveragePool")))
    assert len(partition.parts) > 5
    for part in partition.parts:
        onnx.checker.check_model(cut(model, part).proto)
    shapes = {spec.name: tuple(dim if isinstance(dim, int) else 2 for dim in spec.shape) for spec in model.inputs}
    assert_same(model, partition, random_feeds(model.inputs, shapes))


# ---- what a part is made of


def part_of(partition: Partition, node: str) -> Model:
    (part,) = (part for part in partition.parts if node in part.nodes)
    return cut(partition.model, part)


CHAIN = """(float[n,4] x) => (float[n,4] y) {
    [first] a = MatMul(x, v) [odd] b = foreign.Odd(a) [last] y = MatMul(b, w)
}"""
"""With a stated type for what an unknown operator makes."""


@pytest.fixture
def chain(tmp_path: Path) -> Callable[[float], Model]:
    def make(first_weight: float) -> Model:
        weights = {"v": np.full((4, 4), first_weight, np.float32), "w": np.eye(4, dtype=np.float32)}
        proto = parse(CHAIN, **weights)
        proto.graph.value_info.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, ["n", 4]))
        (tmp_path / "chain.onnx").write_bytes(proto.SerializeToString())
        return load_model(tmp_path / "chain.onnx")

    return make


def test_a_part_has_only_the_weights_and_operator_sets_it_uses(chain: Callable[[float], Model]) -> None:
    part = part_of(without(chain(1), "odd"), "last")
    assert [tensor.name for tensor in part.proto.graph.initializer] == ["w"]
    assert [item.domain for item in part.proto.opset_import] == [""]
    assert [str(spec) for spec in part.inputs] == ["b: float32[n, 4]"]
    assert [str(spec) for spec in part.outputs] == ["y: float32[n, 4]"]


def test_a_part_changes_its_hash_only_if_it_changes_itself(chain: Callable[[float], Model]) -> None:
    before, after = (without(chain(weight), "odd") for weight in (1, 2))
    assert part_of(before, "first").sha256 != part_of(after, "first").sha256
    assert part_of(before, "last").sha256 == part_of(after, "last").sha256


def test_a_constant_node_is_copied_into_every_part_that_reads_it(load: Load) -> None:
    model = load(
        """(float[n,2] x) => (float[n,2] y) {
        [k] k = Constant<value_floats = [1.0, 2.0]>() [a] a = Add(x, k) [b] b = Neg(a) [c] y = Mul(b, k) }"""
    )
    partition = without(model, "b")
    assert [part.nodes for part in partition.parts] == [("a",), ("b",), ("c",)]
    assert [[node.name for node in cut(model, part).nodes] for part in partition.parts] == [
        ["k", "a"],
        ["b"],
        ["k", "c"],
    ]


def test_a_constant_that_is_an_output_is_made_by_a_part(load: Load) -> None:
    model = load(
        "(float[n] x) => (float[n] y, float[2] k) { [k] k = Constant<value_floats = [1.0, 2.0]>() [a] y = Neg(x) }"
    )
    partition = without(model, "a")
    assert [tensor.name for part in partition.parts for tensor in part.outputs] == ["k", "y"]
    assert_same(model, partition, {"x": np.ones(1, np.float32)})


def test_a_body_reads_what_stands_around_it(load: Load) -> None:
    inner = (
        "If(c)<then_branch = f() => (float[2] r) { r = Identity(b) }, else_branch = g() => (float[2] s) { s = Neg(x) }>"
    )
    model = load(
        f"""(float[2] x, bool c) => (float[2] y) {{ [a] a = Neg(x) [b] b = Abs(x) [if] y = If(c)<
        then_branch = t() => (float[2] p) {{ p = Add(a, w) }},
        else_branch = e() => (float[2] q) {{ q = {inner} }}> }}""",
        w=np.ones(2, np.float32),
    )
    assert set(reads(model.nodes[-1])) == {"c", "a", "w", "b", "x"}
    part = part_of(without(model, "a", "b"), "if")
    assert {spec.name for spec in part.inputs} == {"c", "a", "b", "x"}
    assert [tensor.name for tensor in part.proto.graph.initializer] == ["w"]


def test_functions_go_with_the_parts_that_call_them(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        g (float[n] x) => (float[n] y) { [a] a = own.Twice(x) [b] y = Neg(a) }
        <domain: "own", opset_import: ["" : 17, "own" : 1]> Twice (v) => (u) { u = own.Both(v, v) }
        <domain: "own", opset_import: ["" : 17]> Both (v, w) => (u) { u = Add(v, w) }"""
    )
    (tmp_path / "own.onnx").write_bytes(proto.SerializeToString())
    model = load_model(tmp_path / "own.onnx")
    partition = without(model, "b")
    assert [item.name for item in part_of(partition, "a").proto.functions] == ["Twice", "Both"]
    assert not part_of(partition, "b").proto.functions
    assert_same(model, partition, {"x": np.ones(3, np.float32)})


def test_weights_in_external_files_stay_there(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(np.eye(4, dtype=np.float32).tobytes())
    model = load_model(save_external(tmp_path / "model.onnx"))
    part = cut(model, without(model).parts[0])
    assert part.external_files == (tmp_path / "weights.bin",)
    feeds = {"x": np.ones((1, 4), np.float32)}
    np.testing.assert_array_equal(Reference(part).run(feeds)["y"], feeds["x"])


def test_sparse_weights_go_along(tmp_path: Path) -> None:
    proto = parse("(float[n,2] x) => (float[n,2] y) { [a] a = Neg(x) [b] y = MatMul(a, w) }")
    values = numpy_helper.from_array(np.array([3.0], np.float32), "w")
    places = numpy_helper.from_array(np.array([3]), "places")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2, 2]))
    part = part_of(without(Model(proto, tmp_path / "model.onnx"), "a"), "b")
    assert [spec.name for spec in part.inputs] == ["a"]
    assert Reference(part).run({"a": np.ones((1, 2), np.float32)})["y"].tolist() == [[0.0, 3.0]]


def test_a_sequence_crosses_a_border_with_its_type(load: Load) -> None:
    model = load(
        """(float[n,4] x) => (float[m,4] y) {
        [a] a = SequenceConstruct(x, x) [b] b = ConcatFromSequence<axis = 0>(a) [c] c = Neg(b)
        [d] d = SequenceInsert(a, c) [e] y = ConcatFromSequence<axis = 0>(d) }"""
    )
    partition = without(model, "a", "b", "d", "e")
    (crossing,) = (tensor for tensor in partition.border if tensor.name == "a")
    assert (crossing.dtype, crossing.bytes) == ("sequence(float32)", None)
    first, _, last = (cut(model, part) for part in partition.parts)
    made = onnxruntime.InferenceSession(first.to_bytes()).run(["a"], {"x": np.ones((2, 4), np.float32)})
    session = onnxruntime.InferenceSession(last.to_bytes())
    (answer,) = session.run(None, {"a": made[0], "c": np.zeros((1, 4), np.float32)})
    assert answer.shape == (5, 4)


def test_nodes_that_no_output_depends_on_are_native(load: Load) -> None:
    model = load("(float[n] x) => (float[n] y) { [a] y = Neg(x) [b] b = Abs(x) [c] c = Relu(b) [d] d = Exp(x) }")
    partition = without(model, "d")
    assert [(part.is_engine, part.nodes) for part in partition.parts] == [(True, ("a",)), (False, ("b", "c", "d"))]


def test_what_weights_alone_make_is_made_by_the_part_that_reads_it(load: Load) -> None:
    model = load(
        "(float[n,2] x) => (float[n,2] y) { [q] q = Abs(w) [a] a = Neg(x) [b] b = Exp(a) [c] y = Mul(b, q) }",
        w=np.ones(2, np.float32),
    )
    partition = without(model, "q", "a", "c")
    assert [part.nodes for part in partition.parts] == [("a",), ("b",), ("q", "c")]
    assert [tensor.name for tensor in partition.border] == ["a", "b"]
