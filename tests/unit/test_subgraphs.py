"""Partitions by NVIDIA's own parser and by ONNX Runtime: what is refused and why, what crosses, what a wish changes."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from models import FASHION_CNN, FOREIGN, LIGHT, OCR_CLS, OCR_DET, parse, save, save_external
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from workbench.errors import Cancelled, ConfigError, ModelError, ShapeError
from workbench.model import Model, load_model
from workbench.reference import Reference, random_feeds
from workbench.subgraphs import NodeSupport, Partition, cut, divide, find_support, partition, steps
from workbench.types import LogLine, Progress

Load = Callable[..., Model]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    return lambda graph, **weights: load_model(save(tmp_path / "model.onnx", graph, **weights))


def reasons(found: Partition | NodeSupport) -> dict[str, str]:
    return {item.node: item.reason for item in found.refusals}


def parts(found: Partition) -> list[tuple[str, ...]]:
    """Operators of each part, its kind first."""
    kinds = {node.name: node.op_type for node in found.model.nodes}
    return [(part.id.split("_")[0], *(kinds[name] for name in part.nodes)) for part in found.parts]


def assert_sound(found: Partition) -> None:
    """Every node but constants once, nothing read before it is made, every part a checked model of its own."""
    nodes = [name for part in found.parts for name in part.nodes]
    assert sorted(nodes) == sorted(node.name for node in found.model.nodes if node.op_type != "Constant")
    known = {spec.name for spec in found.model.inputs}
    for part in found.parts:
        assert {tensor.name for tensor in part.inputs} <= known
        known |= {tensor.name for tensor in part.outputs}
        onnx.checker.check_model(cut(found.model, part).proto)
    assert {spec.name for spec in found.model.outputs} <= known


def assert_parts_answer_as_the_whole(found: Partition, shape: tuple[int, ...]) -> None:
    model = found.model
    feeds = random_feeds(model.inputs, {spec.name: shape for spec in model.inputs})
    values = dict(feeds)
    for part in found.parts:
        values |= Reference(cut(model, part)).run({item.name: values[item.name] for item in part.inputs})
    for name, expected in Reference(model).run(feeds).items():
        np.testing.assert_allclose(values[name], expected, rtol=1e-4, atol=1e-5)


# ---- what NVIDIA's parser takes


@pytest.mark.rtx
@pytest.mark.parametrize("path", [FASHION_CNN, OCR_CLS, OCR_DET, LIGHT[1]], ids=lambda path: path.stem)
def test_a_model_that_is_wholly_taken_is_one_engine(path: Path) -> None:
    found = partition(load_model(path), "rtx")
    assert [part.id for part in found.parts] == ["trt_0"]
    assert found.refusals == ()
    assert_sound(found)


@pytest.mark.rtx
def test_two_independent_halves_that_are_wholly_taken_are_one_engine(load: Load) -> None:
    found = partition(load("(float[n] x) => (float[n] y, float[n] z) { y = Relu(x) z = Neg(x) }"), "rtx", 2)
    assert parts(found) == [("trt", "Relu", "Neg")]


@pytest.mark.rtx
def test_a_foreign_operator_and_what_has_no_known_type_after_it_stay_native(load: Load) -> None:
    graph = FOREIGN.replace("y = foreign", "u = foreign").replace(
        "(t) }", "(t) [after] v = Abs(u) [last] y = Relu(v) }"
    )
    found = partition(load(graph), "rtx", 1)
    assert parts(found) == [("trt", "Relu"), ("native", "Frobnicate", "Abs", "Relu")]
    assert reasons(found) == {
        "frob": "TensorRT knows no operator and no plugin of this name",
        "after": "the type of its input u is not known",
        "last": "the type of its input v is not known",
    }


@pytest.mark.rtx
def test_what_comes_after_a_refused_node_is_asked_for_again(load: Load) -> None:
    """Only then is known that Hardmax gets one dimension where it needs two."""
    graph = (
        "(float[n] x) => (float[m] y) { a = Relu(x) [first] u = Unique(a) b = Neg(u) [then] c = Hardmax(b) y = Abs(c) }"
    )
    found = partition(load(graph), "rtx", 1)
    assert parts(found) == [
        ("trt", "Relu"),
        ("native", "Unique"),
        ("trt", "Neg"),
        ("native", "Hardmax"),
        ("trt", "Abs"),
    ]
    assert reasons(found) == {
        "first": "TensorRT has no such operator",
        "then": "at least 2 dimensions are required for input",
    }
    assert_sound(found)


CASES = {
    "sequences": (
        "(float[n,4] x) => (float[m,4] y) { a = Relu(x) s = SequenceConstruct(a, a) "
        "b = ConcatFromSequence<axis = 0>(s) y = Abs(b) }",
        [("trt", "Relu"), ("native", "SequenceConstruct", "ConcatFromSequence"), ("trt", "Abs")],
    ),
    "a body with an operator it lacks": (
        "(float[n,4] x, bool c) => (float[n,4] y) { a = Relu(x) b = If (c) <then_branch = t() => (float[n,4] p) { "
        "q = Bernoulli(a) p = Identity(q) }, else_branch = e() => (float[n,4] r) { r = Neg(a) }> y = Abs(b) }",
        [("trt", "Relu"), ("native", "If"), ("trt", "Abs")],
    ),
    "a loop it takes": (
        "(float[4] x, int64 n) => (float[4] y) { c = Constant<value = bool {1}>() a = Relu(x) y = Loop (n, c, a) "
        "<body = g(int64 i, bool ci, float[4] s) => (bool co, float[4] so) { co = Identity(ci) so = Add(s, x) }> }",
        [("trt", "Relu", "Loop")],
    ),
    "int32 to be dequantized": (
        "(int32[n,4] x) => (float[n,4] y) { s = Constant<value = float {0.5}>() "
        "a = DequantizeLinear(x, s) y = Abs(a) }",
        [("native", "DequantizeLinear"), ("trt", "Abs")],
    ),
    "a type that no engine reads": (
        "(uint16[n] x) => (float[n] y) { a = Cast<to = 1>(x) b = Relu(a) y = Exp(b) }",
        [("native", "Cast"), ("trt", "Relu", "Exp")],
    ),
    "strings": (
        "(string[n] x, float[n] v) => (float[n] y, string[n] z) { a = Relu(v) y = Exp(a) z = Identity(x) }",
        [("trt", "Relu", "Exp"), ("native", "Identity")],
    ),
    "empty tensors": (
        "(float[2,4] x) => (float[0,4] y) { n = Constant<value_ints = [0]>() a = Abs(x) s = Slice(a, n, n, n) "
        "b = Bernoulli(s) c = Relu(b) y = Exp(c) }",
        [("trt", "Abs"), ("native", "Slice", "Bernoulli", "Relu", "Exp")],
    ),
    "doubles": ("(double[n] x) => (double[n] y) { a = Relu(x) y = Exp(a) }", [("trt", "Relu", "Exp")]),
    "random numbers": (
        "(float[n] x) => (float[n] y) { r = RandomNormalLike(x) b = Bernoulli(x) c = Add(r, b) y = Abs(c) }",
        [("native", "Bernoulli"), ("trt", "RandomNormalLike", "Add", "Abs")],
    ),
    "a shape that is computed": (
        "(float[n,4] x, int64[k] s) => (float[p,q] y) { a = Relu(x) r = Reshape(a, s) y = Abs(r) }",
        [("trt", "Relu"), ("native", "Reshape", "Abs")],
    ),
}


@pytest.mark.rtx
@pytest.mark.parametrize("name", CASES)
def test_what_it_takes_of(name: str, load: Load) -> None:
    graph, expected = CASES[name]
    found = partition(load(graph), "rtx", 1)
    assert parts(found) == expected
    assert not any("::" in reason for reason in reasons(found).values()), "places in NVIDIA's source"
    assert_sound(found)


@pytest.mark.rtx
def test_standard_names_in_other_domains_are_not_taken_for_standard_operators(tmp_path: Path) -> None:
    """NVIDIA's parser looks at the name only; this RotaryEmbedding takes its inputs in another order than ONNX's."""
    text = """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    g (float[n,2,8,4] x, int64[n,8] p, float[16,2] c, float[16,2] s) => (float[n,2,8,4] y) {
    [rotary] r = com.microsoft.RotaryEmbedding(x, p, c, s) [gelu] g = com.microsoft.Gelu(r) y = Relu(g) }"""
    path = tmp_path / "rotary.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    found = partition(load_model(path), "rtx", 1)
    assert parts(found) == [("native", "RotaryEmbedding"), ("trt", "Gelu", "Relu")]
    assert reasons(found) == {"rotary": "NVIDIA's parser would take it for the standard RotaryEmbedding"}


# ---- real models that it does not take as a whole


@pytest.mark.rtx
def test_a_dynamically_quantized_model(tmp_path: Path) -> None:
    path = tmp_path / "quantized.onnx"
    copy = shutil.copy(FASHION_CNN, tmp_path)  # ONNX Runtime writes a file beside it
    quantize_dynamic(copy, path, weight_type=QuantType.QUInt8)
    found = partition(load_model(path), "rtx")
    assert {item.op_type for item in found.refusals} == {"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
    assert len(found.refusals) == 16
    assert [len(part.nodes) for part in found.engines] == [5, 5, 5, 6, 5, 5, 8, 4]
    assert_sound(found)
    assert_parts_answer_as_the_whole(found, (2, 1, 28, 28))


@pytest.mark.rtx
@pytest.mark.parametrize(("path", "engines"), [(FASHION_CNN, 2), (OCR_DET, 6)], ids=["fashion_cnn", "ppocrv4_det"])
def test_a_model_that_onnx_runtime_optimized(path: Path, engines: int, tmp_path: Path) -> None:
    """What ONNX does not know, and so no type after it: ONNX Runtime tells."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(path, options)
    model, shape = load_model(tmp_path / "optimized.onnx"), (1, 1, 28, 28) if path == FASHION_CNN else (1, 3, 64, 64)
    support = find_support(model, "rtx")
    found = divide(support)
    assert {item.op_type for item in found.refusals} == {"com.microsoft.FusedConv"}
    assert len(found.engines) == engines
    assert_sound(found)
    assert_parts_answer_as_the_whole(found, shape)
    assert None not in [part.border_bytes for part in divide(support.at({model.inputs[0].name: shape})).parts]


# ---- min_subgraph_size


@pytest.fixture
def branches(load: Load) -> Model:
    """Engines of one, two and four operators around operators that nobody but ONNX Runtime has."""
    return load(
        """(float[n,4] x) => (float[n,4] y) {
        [a] a = Relu(x) [u] u = Bernoulli(a) [b1] b1 = Neg(u) [b2] b2 = Exp(b1) [v] v = Bernoulli(b2)
        [c1] c1 = Abs(v) [c2] c2 = Sqrt(c1) [c3] c3 = Add(c2, a) [c4] y = Exp(c3) }"""
    )


@pytest.mark.rtx
def test_engines_below_the_size_become_native_without_being_refused(branches: Model) -> None:
    support = find_support(branches, "rtx")
    sizes = {size: [len(part.nodes) for part in divide(support, size).engines] for size in (1, 2, 3, 4, 5)}
    assert sizes == {1: [1, 2, 4], 2: [2, 4], 3: [4], 4: [4], 5: []}
    assert set(reasons(divide(support, 5))) == {"u", "v"}
    assert [part.nodes for part in divide(support, 5).parts] == [tuple(node.name for node in branches.nodes)]


@pytest.mark.parametrize("size", [0, -3])
def test_an_engine_has_one_operator_at_least(branches: Model, size: int) -> None:
    with pytest.raises(ConfigError, match=f"min_subgraph_size is {size}; an engine has at least 1 operator"):
        divide(NodeSupport(branches, "rtx", (), {}), size)


@pytest.mark.rtx
def test_steps_are_the_sizes_that_change_something(branches: Model) -> None:
    found = steps(find_support(branches, "rtx"))
    assert [(item.min_subgraph_size, len(item.engines)) for item in found] == [(1, 3), (2, 2), (3, 1), (5, 0)]


# ---- borders


@pytest.mark.rtx
def test_borders_tell_names_types_and_bytes_at_given_sizes(branches: Model) -> None:
    support = find_support(branches, "rtx")
    named = divide(support, 1)
    assert [str(tensor.shape) for tensor in named.border] == ["('n', 4)"] * 4
    assert named.border_bytes is None
    sized = divide(support.at({"x": (3, 4)}), 1)
    assert [tensor.name for tensor in sized.border] == ["a", "u", "b2", "v"]
    assert (sized.border_tensors, sized.border_bytes) == (4, 4 * 3 * 4 * 4)
    last = sized.parts[-1]
    assert [(item.name, item.dtype, item.shape, item.bytes) for item in (*last.inputs, *last.outputs)] == [
        ("v", "float32", (3, 4), 48),
        ("a", "float32", (3, 4), 48),
        ("y", "float32", (3, 4), 48),
    ]
    assert last.border_bytes == 144


@pytest.mark.rtx
def test_a_part_cut_at_given_sizes_has_these_sizes(branches: Model) -> None:
    sized = divide(find_support(branches, "rtx").at({"x": (3, 4)}), 1)
    assert [str(spec) for spec in cut(branches, sized.parts[-1]).inputs] == ["v: float32[3, 4]", "a: float32[3, 4]"]


@pytest.mark.rtx
def test_sizes_that_the_graph_does_not_take_are_an_error(load: Load) -> None:
    model = load("(float[n,k] x) => (float[n,2] y) { [m] y = MatMul(x, w) }", w=np.ones((4, 2), np.float32))
    with pytest.raises(ShapeError, match="the graph does not take these sizes: MatMul m"):
        find_support(model, "rtx").at({"x": (1, 3)})


@pytest.mark.rtx
def test_weights_in_an_external_file_are_found_while_asking(tmp_path: Path) -> None:
    graph = "(float[n,4] x) => (float[n,4] y) { a = Bernoulli(x) b = MatMul(a, w) y = Relu(b) }"
    proto = parse(graph, w=np.eye(4, dtype=np.float32))
    onnx.save(proto, str(tmp_path / "m.onnx"), save_as_external_data=True, location="m.bin", size_threshold=0)
    assert parts(partition(load_model(tmp_path / "m.onnx"), "rtx", 1)) == [
        ("native", "Bernoulli"),
        ("trt", "MatMul", "Relu"),
    ]


# ---- wishes


@pytest.mark.rtx
def test_disabled_operators_and_nodes_stay_native(load: Load) -> None:
    model = load("(float[n] x) => (float[n] y) { [a] a = Relu(x) [b] b = Exp(a) [c] c = Abs(b) [d] y = Relu(c) }")
    found = partition(model, "rtx", 1, disable_ops=["Exp", "d"])
    assert [part.nodes for part in found.parts] == [("a",), ("b",), ("c",), ("d",)]
    assert reasons(found) == dict.fromkeys(("b", "d"), "left native, as you wish (disable_ops)")


def test_a_name_to_disable_that_the_model_lacks_is_an_error_with_near_ones() -> None:
    model = load_model(FASHION_CNN)
    with pytest.raises(ConfigError, match=r"no operator and no node 'conv' to disable; did you mean Conv\?"):
        partition(model, "onnxruntime", disable_ops=["conv"])
    with pytest.raises(ConfigError, match="'LSTM' to disable; its operators are Conv, BatchNormalization, Relu"):
        partition(model, "onnxruntime", disable_ops=["LSTM"])


def test_an_older_release_refuses_what_it_lacks(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]> g (float[n,4] x, bool c) => (float[n,4] y) {
        [relu] a = Relu(x) [mish] b = Mish(a) [sum] s = ReduceSum(b, k) [max] m = ReduceMax(b, k)
        [if] d = If (c) <then_branch = t() => (float[n,4] p) { p = Mish(b) }, else_branch = e() => (float[n,4] q) {
            q = Neg(b) }> [add] e = Add(d, s) [last] y = Add(e, m) }"""
    )
    proto.graph.initializer.append(helper.make_tensor("k", TensorProto.INT64, [1], [1]))
    (tmp_path / "new.onnx").write_bytes(proto.SerializeToString())
    model = load_model(tmp_path / "new.onnx")
    assert reasons(partition(model, "onnxruntime", release="8.6")) == {
        "mish": "TensorRT 8.6 has no operator Mish",
        "max": "TensorRT 8.6 knows definitions up to opset 17, ReduceMax is of opset 18: export it with opset 17",
        "if": "TensorRT 8.6 has no operator Mish",
    }
    assert reasons(partition(model, "onnxruntime", release="10.15")) == {}


def test_a_release_without_a_list_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"no list of operators is known for release '7'; choose one of 8.6, 10.15"):
        partition(load_model(FASHION_CNN), "onnxruntime", release="7")


# ---- asking


def test_onnx_runtime_takes_what_it_runs(load: Load) -> None:
    found = partition(
        load(FOREIGN.replace("[frob] y = foreign.Frobnicate(t)", "[last] y = Unique(t)")), "onnxruntime", 2
    )
    assert parts(found) == [("trt", "Relu", "Unique")]
    found = partition(load(FOREIGN), "onnxruntime", 1)
    assert parts(found) == [("trt", "Relu"), ("native", "Frobnicate")]
    assert "foreign" in reasons(found)["frob"]


def test_asking_can_be_cancelled() -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        find_support(load_model(FASHION_CNN), "onnxruntime", cancel=cancel)


@pytest.mark.rtx
def test_asking_tells_how_far_it_is(branches: Model) -> None:
    events: list[Progress | LogLine] = []
    find_support(branches, "rtx", listener=events.append)
    told = [event for event in events if isinstance(event, Progress) and event.phase == "Asking which nodes it takes"]
    assert (told[-1].done, told[-1].total) == (3, 3)


@pytest.mark.rtx
def test_a_chain_that_ends_in_what_no_engine_gives_is_left_native_in_one_go(load: Load) -> None:
    """Then what leads to the end is no engine's output either; to ask once for each node would take minutes."""
    chain = " ".join(f"t{index + 1} = Exp(t{index})" for index in range(40))
    model = load(
        "(float[2,4] x) => (float[0,4] y) { n = Constant<value_ints = [0]>() a = Abs(x) t0 = Slice(a, n, n, n) "
        f"{chain} y = Bernoulli(t40) }}"
    )
    events: list[Progress | LogLine] = []
    found = divide(find_support(model, "rtx", listener=events.append), 1)
    assert [len(part.nodes) for part in found.parts] == [1, 42]
    told = [event for event in events if isinstance(event, Progress) and event.phase == "Asking which nodes it takes"]
    assert len(told) < 10


def test_a_partition_reads_as_a_line(load: Load) -> None:
    found = partition(
        load("(float[4] x) => (float[4] y) { a = Relu(x) y = Neg(a) }"), "onnxruntime", disable_ops=["Neg"]
    )
    assert str(found) == "model: 0 onnxruntime engines, 1 native part (min_subgraph_size 3)"


def test_sizes_that_do_not_fit_the_inputs_are_refused(load: Load) -> None:
    support = find_support(load("(float[n,4] x) => (float[n,4] y) { y = Relu(x) }"), "onnxruntime")
    assert divide(support.at({"x": (3, 4)}), 1).parts[0].border_bytes == 96
    for wrong in ({"x": (3,)}, {"z": (3, 4)}):
        with pytest.raises(ShapeError, match="the inputs are x: float32"):
            support.at(wrong)


def test_weights_that_are_gone_are_told_before_anything_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    model = load_model(save_external(tmp_path / "model.onnx"))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match="are gone"):
        find_support(model, "onnxruntime")
