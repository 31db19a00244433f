"""The shape of every tensor is what ONNX Runtime really makes; conflicts are named; memory is what lives at once."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_shapes import floats, ints, made, network, saved, scalar, told
from hypothesis import given, settings
from hypothesis import strategies as st
from models import FASHION_CNN, OCR_CLS, OCR_DET, save_external
from onnx import TensorProto, helper

from workbench import Model, edit, load_model
from workbench.tensor_shapes import ShapeInference, TensorShapes


def at(model: Model, **shapes: tuple[int, ...]) -> TensorShapes:
    return ShapeInference(model).at(shapes)


def faults(model: Model, **shapes: tuple[int, ...]) -> list[tuple[str, str]]:
    return [(item.node, item.reason) for item in at(model, **shapes).conflicts]


def without_constants(found: dict[str, tuple[str, tuple[int, ...]]], model: Model) -> dict[str, tuple[str, object]]:
    constants = {name for node in model.nodes if node.op_type == "Constant" for name in node.output}
    return {name: item for name, item in found.items() if name not in constants}


# ---- the same as ONNX Runtime makes


@pytest.mark.parametrize(
    ("path", "shapes"),
    [
        pytest.param(FASHION_CNN, {"image": (3, 1, 28, 28)}, id="fashion_cnn"),
        pytest.param(OCR_CLS, {"x": (2, 3, 48, 96)}, id="ocr_cls"),
        pytest.param(OCR_CLS, {"x": (1, 3, 32, 32)}, id="ocr_cls small"),
        pytest.param(OCR_DET, {"x": (1, 3, 64, 96)}, id="ocr_det"),
    ],
)
def test_every_tensor_of_the_data_models_is_as_onnx_runtime_makes_it(
    path: Path, shapes: dict[str, tuple[int, ...]]
) -> None:
    model = load_model(path)
    found = at(model, **shapes)
    assert told(found) == without_constants(made(model, shapes), model)
    assert (found.conflicts, found.unknown) == ((), ())


ATTENTION = """(float[b,s,8] x) => (float[?,?,8] y) {{
    shape = Shape(x)  b0 = Gather<axis=0>(shape, zero)  s0 = Gather<axis=0>(shape, one)
    {unsqueeze}  heads = Concat<axis=0>(b1, s1, two, four)
    r = Reshape(x, heads)  q = Transpose<perm=[0,2,1,3]>(r)  k = Transpose<perm=[0,2,3,1]>(r)
    a = MatMul(q, k)  p = Softmax<axis=-1>(a)  o = MatMul(p, q)  t = Transpose<perm=[0,2,1,3]>(o)
    y = Reshape(t, back) }}"""
OLD = "b1 = Unsqueeze<axes=[0]>(b0) s1 = Unsqueeze<axes=[0]>(s0)"
NEW = "b1 = Unsqueeze(b0, axes) s1 = Unsqueeze(s0, axes)"


@pytest.mark.parametrize("opset", [9, 10, 11, 12, 13, 14, 16, 17, 19, 21])
def test_attention_with_sizes_computed_from_shapes_is_known_at_every_operator_set(tmp_path: Path, opset: int) -> None:
    graph = ATTENTION.format(unsqueeze=OLD if opset < 13 else NEW)
    weights = {"zero": scalar(0), "one": scalar(1), "two": ints(2), "four": ints(4), "back": ints(0, -1, 8)}
    weights |= {"axes": ints(0)} if opset >= 13 else {}
    model = network(tmp_path, graph, opset, **weights)
    for shape in ((2, 5, 8), (1, 1, 8)):
        found = at(model, x=shape)
        assert told(found) == made(model, {"x": shape})
        assert found.unknown == found.conflicts == ()


@pytest.mark.parametrize("opset", [10, 13, 17])
@pytest.mark.parametrize("most", [16, 4096])
def test_positions_cut_to_the_length_are_known_however_long_their_table_is(
    tmp_path: Path, opset: int, most: int
) -> None:
    graph = """(int64[b,s] ids) => (float[?,?,8] y) {
        shape = Shape(ids) length = Slice(shape, one, two) cut = Slice(numbers, zero, length, one)
        e = Gather(words, ids) p = Gather(places, cut) y = Add(e, p) }"""
    weights = {"numbers": np.arange(most)[None], "words": floats(5, 8), "places": floats(most, 8)}
    model = network(tmp_path, graph, opset, one=ints(1), two=ints(2), zero=ints(0), **weights)
    assert told(at(model, ids=(2, 6))) == made(model, {"ids": (2, 6)})


F32 = "(float[b,s] x) => (float[?,?] y) "
CASES = {
    "reshape with 0 and -1": ("(float[b,2,s] x) => (float[?,?] y) { y = Reshape(x, to) }", {"to": ints(0, -1)}),
    "constant of shape": (F32 + "{ n = Shape(x) c = ConstantOfShape(n) y = Add(c, x) }", {}),
    "expand": (F32 + "{ n = Shape(x) y = Expand(one, n) }", {"one": floats(1)}),
    "expand with -1 replaced": (
        F32 + "{ ones = ConstantOfShape<value = int64[1] {1}>(two) m = Mul(ones, minus) e = Equal(want, m)"
        " w = Where(e, ones, want) y = Expand(x, w) }",
        {"two": ints(2), "minus": ints(-1), "want": ints(-1, -1)},
    ),
    "range of a length": (
        F32 + "{ n = Shape(x) l = Gather(n, one) h = Div(l, two) r = Range(zero, h, one) i = Mul(r, two)"
        " y = Gather<axis=1>(x, i) }",
        {"zero": scalar(0), "one": scalar(1), "two": scalar(2)},
    ),
    "range that nothing reads": (
        F32 + "{ n = Shape(x) l = Gather(n, one) m = Max(l, one) r = Range(zero, m, one) y = Relu(x) }",
        {"zero": scalar(0), "one": scalar(1)},
    ),
    "shape split in two": (F32 + "{ n = Shape(x) b, s = Split<axis=0>(n) m = Mul(b, s) y = Reshape(x, m) }", {}),
    "pad up to a length": (
        F32 + "{ n = Shape(x) l = Gather(n, one) d = Sub(ten, l) p = Unsqueeze(d, zero)"
        " pads = Concat<axis=0>(zero, zero, zero, p) y = Pad(x, pads) }",
        {"one": scalar(1), "ten": scalar(10), "zero": ints(0)},
    ),
    "top half": (
        F32 + "{ n = Shape(x) l = Gather(n, one) h = Div(l, two) k = Unsqueeze(h, zero) y, i = TopK(x, k) }",
        {"one": scalar(1), "two": scalar(2), "zero": ints(0)},
    ),
    "zero rows": (F32 + "{ none = Slice(x, zero, zero) y = Concat<axis=0>(none, x) }", {"zero": ints(0)}),
    "scalars": (F32 + "{ y = ReduceSum<keepdims=0>(x) n = Size(x) }", {}),
    "other types": (F32 + "{ h = Cast<to=10>(x) d = Cast<to=11>(x) e = Less(x, x) n = Not(e) y = Cast<to=1>(n) }", {}),
    "an output left out": ("(float[b,8] x) => (float[?,?] y) { y, rest = Split<axis=1>(x) }", {}),
    "optional inputs left out": (F32 + "{ y = Clip(x, , most) }", {"most": np.array(1, np.float32)}),
    "weights as an input": ("(float[b,s] x, float[k,3] w) => (float[?,?] y) { y = MatMul(x, w) }", {"w": floats(6, 3)}),
    "an input that goes out": ("(float[b,s] x) => (float[b,s] x, float[b,s] y) { y = Relu(x) }", {}),
}  # fmt: skip
SHAPES = {"reshape with 0 and -1": (4, 2, 6), "an output left out": (4, 8)}


@pytest.mark.parametrize("case", CASES)
def test_shape_arithmetic_gives_what_onnx_runtime_makes(tmp_path: Path, case: str) -> None:
    graph, weights = CASES[case]
    shape = SHAPES.get(case, (4, 6))
    model = network(tmp_path, graph, 13 if "Split<" in graph else 17, **weights)
    found = at(model, x=shape)
    assert told(found) == {name: item for name, item in made(model, {"x": shape}).items() if name != "x"}
    assert found.by_name["x"].shape == shape
    assert found.unknown == found.conflicts == ()


def test_a_resize_to_the_size_of_another_picture_is_known(tmp_path: Path) -> None:
    graph = """(float[b,3,h,w] x, float[b,3,H,W] like) => (float[?,?,?,?] y) {
        n = Shape(like) hw = Slice(n, two, four) m = Shape(x) bc = Slice(m, zero, two)
        sizes = Concat<axis=0>(bc, hw) y = Resize(x, , , sizes) }"""
    model = network(tmp_path, graph, two=ints(2), four=ints(4), zero=ints(0))
    shapes = {"x": (1, 3, 4, 4), "like": (1, 3, 8, 12)}
    assert told(ShapeInference(model).at(shapes)) == made(model, shapes)


def test_outputs_without_a_name_are_left_out(tmp_path: Path) -> None:
    graph = "(float[s,b,8] x) => (float[?,?,?,?] y) { y, , c = LSTM<hidden_size = 4>(x, w, r) }"
    model = network(tmp_path, graph, w=floats(1, 16, 8), r=floats(1, 16, 4))
    assert told(at(model, x=(2, 3, 8))) == made(model, {"x": (2, 3, 8)}) == {
        "y": ("float32", (2, 1, 3, 4)),
        "c": ("float32", (1, 3, 4)),
    }  # fmt: skip


def test_bfloat16_and_float8_count_their_bytes(tmp_path: Path) -> None:
    graph = "(float[b,4] x) => (float[b,4] y) { h = Cast<to=16>(x) q = Cast<to=17>(x) y = Cast<to=1>(h) }"
    found = at(network(tmp_path, graph, 19), x=(2, 4)).by_name
    assert [(found[name].dtype, found[name].bytes) for name in "hqy"] == [
        ("bfloat16", 16),
        ("float8_e4m3fn", 8),
        ("float32", 32),
    ]


def test_weights_in_another_file_are_not_needed(tmp_path: Path) -> None:
    path = save_external(tmp_path / "net.onnx")
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    model = load_model(path)
    inference = ShapeInference(model)
    (tmp_path / "weights.bin").unlink()
    assert inference.at({"x": (3, 4)}).by_name["y"].shape == (3, 4)


def test_sparse_weights_are_no_conflict(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> graph (float[b,4] x) => (float[?,?] y) { y = MatMul(x, w) }'
    )
    sparse = proto.graph.sparse_initializer.add(dims=[4, 3])
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(floats(2), "w"))
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(ints(1, 5), ""))
    model = saved(tmp_path, proto)
    found = at(model, x=(2, 4))
    assert (told(found), found.conflicts) == (made(model, {"x": (2, 4)}), ())


def test_stale_value_info_has_no_say_about_given_sizes(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> graph (float[b,4] x) => (float[1,4] y) { t = Relu(x) y = Relu(t) }'
    )
    for dims in (["b", 4], [1, 4], [3, 4]):
        proto.graph.value_info.append(helper.make_tensor_value_info("t", TensorProto.FLOAT, dims))
    assert told(at(saved(tmp_path, proto), x=(2, 4))) == {"t": ("float32", (2, 4)), "y": ("float32", (2, 4))}


def test_a_model_is_left_as_it_was(tmp_path: Path) -> None:
    graph = "(float[b,s] x) => (float[?,?] y) { n = Shape(x) m = Max(n, one) y = Expand(x, m) }"
    model = network(tmp_path, graph, one=ints(1, 1))
    before = model.to_bytes()
    ShapeInference(model).at({"x": (2, 3)})
    ShapeInference(model).symbolic()
    assert model.to_bytes() == before


def test_one_study_serves_many_sizes_in_any_order(tmp_path: Path) -> None:
    graph = "(float[b,s] x) => (float[?,?] y) { n = Shape(x) m = Max(n, one) y = Expand(x, m) }"
    inference = ShapeInference(network(tmp_path, graph, one=ints(1, 1)))
    for shape in ((2, 3), (5, 1), (2, 3), (1, 1)):
        assert inference.at({"x": shape}).by_name["y"].shape == shape


steps = st.lists(
    st.sampled_from(["turn", "flat", "fold", "twice", "cut", "mean", "wrap", "grow", "keep"]), max_size=7
).filter(lambda wanted: wanted.count("grow") < 3)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3).filter(lambda dims: math.prod(dims) < 7), steps)
def test_random_chains_of_shape_arithmetic_give_what_onnx_runtime_makes(dims: list[int], wanted: list[str]) -> None:
    nodes, name = [], "x"
    for index, step in enumerate(wanted):
        out, n = f"t{index}", f"n{index}"
        shape_of = helper.make_node("Shape", [name], [n], name=n)
        if step == "turn":
            nodes += [helper.make_node("Transpose", [name], [out])]
        elif step == "flat":
            nodes += [helper.make_node("Flatten", [name], [out])]
        elif step == "fold":
            nodes += [helper.make_node("Reshape", [name, "minus"], [out])]
        elif step == "twice":
            nodes += [helper.make_node("Concat", [name, name], [out], axis=0)]
        elif step == "cut":  # the first half of the first axis, at least one
            nodes += [
                shape_of,
                helper.make_node("Slice", [n, "zero", "one"], [f"{n}a"]),
                helper.make_node("Div", [f"{n}a", "two"], [f"{n}b"]),
                helper.make_node("Max", [f"{n}b", "one"], [f"{n}c"]),
                helper.make_node("Slice", [name, "zero", f"{n}c"], [out]),
            ]
        elif step == "mean":
            nodes += [helper.make_node("ReduceMean", [name], [out], axes=[0], keepdims=1)]
        elif step == "wrap":
            nodes += [helper.make_node("Unsqueeze", [name, "zero"], [out])]
        elif step == "grow":  # to the square of the number of its elements
            nodes += [
                helper.make_node("Size", [name], [f"{n}a"]),
                helper.make_node("Unsqueeze", [f"{n}a", "zero"], [f"{n}b"]),
                helper.make_node("ConstantOfShape", [f"{n}b"], [f"{n}c"]),
                helper.make_node("Reshape", [name, "column"], [f"{n}d"]),
                helper.make_node("Mul", [f"{n}d", f"{n}c"], [out]),
            ]
        else:
            nodes += [shape_of, helper.make_node("Expand", [name, n], [out])]
        name = out
    nodes.append(helper.make_node("Identity", [name], ["y"]))
    for index, node in enumerate(nodes):
        node.name = f"node {index}"
    values = {"minus": [-1], "zero": [0], "one": [1], "two": [2], "column": [-1, 1]}
    weights = [onnx.numpy_helper.from_array(ints(*value), key) for key, value in values.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [f"d{axis}" for axis in range(len(dims))])
    y = onnx.ValueInfoProto(name="y", type=helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    graph = helper.make_graph(nodes, "chain", [x], [y], weights)
    model = Model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), Path("c.onnx"))
    shape = tuple(dims)
    found = at(model, x=shape)
    assert told(found) == made(model, {"x": shape})
    assert found.conflicts == ()


# ---- what only data can tell is told as unknown


def test_sizes_that_depend_on_data_are_unknown_and_so_is_what_follows(tmp_path: Path) -> None:
    graph = "(float[b,4] x) => (int64[?,2] y) { z = NonZero(x) y = Transpose(z) r = Relu(x) }"
    found = at(network(tmp_path, graph), x=(2, 4))
    assert [(item.name, item.shape, item.bytes) for item in found.unknown] == [
        ("z", (2, None), None),
        ("y", (None, 2), None),
    ]
    assert found.by_name["r"].shape == (2, 4)
    assert found.conflicts == ()


def test_a_shape_that_is_fed_is_unknown(tmp_path: Path) -> None:
    found = at(
        network(tmp_path, "(float[b,4] x, int64[2] s) => (float[?,?] y) { y = Reshape(x, s) }"), x=(2, 4), s=(2,)
    )
    assert found.by_name["y"].shape == (None, None)


def test_one_size_that_cannot_be_computed_leaves_the_others_known(tmp_path: Path) -> None:
    graph = """(float[b,4] x) => (float[?,?] y, float[?,?] z) {
        n = Shape(x) b = Slice(n, zero, one) square = Max(b, one) good = Concat<axis=0>(square, minus)
        bad = Div(b, zero) worse = Concat<axis=0>(bad, one) y = Reshape(x, good) z = Expand(f, worse) }"""
    model = network(tmp_path, graph, zero=ints(0), one=ints(1), minus=ints(-1), f=floats(1))
    found = at(model, x=(4, 4)).by_name
    assert (found["y"].shape, found["z"].shape) == ((4, 4), (None, 1))


BRANCH = """(float[b,4] x, bool c) => (float[?,4] y) { t = Relu(x)
    y = If(c) <then_branch = yes () => (float[?,4] p) { p = Neg(t) },
               else_branch = no () => (float[?,4] q) { q = ELSE }> }"""
LOOP = """(float[b,4] x) => (float[?,4] y, float[?,?,4] z) { more = Constant<value = bool {1}>()
    y, z = Loop(three, more, x) <body = step (int64 i, bool c, float[?,4] a) => (bool d, float[?,4] e, float[?,4] f)
    { d = Identity(c) e = Relu(a) f = Neg(e) }> }"""


def test_bodies_are_looked_into_or_left_unknown_but_never_wrong(tmp_path: Path) -> None:
    cases = [
        (network(tmp_path, BRANCH.replace("ELSE", "Relu(t)")), {"x": (2, 4), "c": ()}),
        (network(tmp_path, BRANCH.replace("ELSE", "Concat<axis=0>(t, t)")), {"x": (2, 4), "c": ()}),
        (network(tmp_path, LOOP, three=scalar(3)), {"x": (2, 4)}),
    ]
    for model, shapes in cases:
        found, true = ShapeInference(model).at(shapes), made(model, shapes)
        for name, (dtype, shape) in told(found).items():
            assert dtype == true[name][0]
            assert shape is None or all(
                dim in (size, None) for dim, size in zip(shape, true[name][1], strict=True)
            ), name  # fmt: skip
        assert found.conflicts == ()


def test_branches_of_one_shape_are_known(tmp_path: Path) -> None:
    model = network(tmp_path, BRANCH.replace("ELSE", "Relu(t)"))
    assert at(model, x=(2, 4), c=()).by_name["y"].shape == (2, 4)


def test_operators_and_sequences_that_nobody_knows_are_unknown(tmp_path: Path) -> None:
    graph = "(float[b,4] x) => (float[?,4] y) { t = Relu(x) u = foreign.Frobnicate(t) y = Relu(u) }"
    found = at(network(tmp_path, graph), x=(2, 4))
    assert [(item.name, item.op_type) for item in found.unknown] == [("u", "foreign.Frobnicate"), ("y", "Relu")]
    graph = "(float[4,b] x) => (float[?,?] y) { s = SplitToSequence(x, two) y = ConcatFromSequence<axis=0>(s) }"
    found = at(network(tmp_path, graph, two=ints(2, 2)), x=(4, 3))
    assert (found.by_name["s"].dtype, found.by_name["s"].shape, found.conflicts) == ("", None, ())


# ---- by names


def test_names_of_open_dimensions_flow_through_the_graph(tmp_path: Path) -> None:
    graph = "(float[b,s,4] x) => (float[?,?,?] y) { t = Transpose<perm=[1,0,2]>(x) y = MatMul(t, w) }"
    found = ShapeInference(network(tmp_path, graph, w=floats(4, 3))).symbolic()
    assert [(item.name, item.shape) for item in found.tensors] == [
        ("x", ("b", "s", 4)),
        ("t", ("s", "b", 4)),
        ("y", ("s", "b", 3)),
    ]
    assert (found.by_name["t"].bytes, found.by_name["x"].node, found.peak_bytes) == (None, "", 0)


def test_names_that_look_like_onnxs_own_are_kept_if_they_are_the_inputs(tmp_path: Path) -> None:
    graph = "(float[unk__0,4] x) => (float[?,?] y) { t = Concat<axis=0>(x, x) y = Relu(x) }"
    found = ShapeInference(network(tmp_path, graph)).symbolic().by_name
    assert [found[name].shape for name in "xty"] == [("unk__0", 4), (None, 4), ("unk__0", 4)]


# ---- conflicts


def test_the_node_at_fault_is_named_with_its_shapes_and_nothing_after_it(tmp_path: Path) -> None:
    graph = """(float[b,4] x, float[c,4] z) => (float[?,4] y) {
        [before] p = Relu(x) [fault] t = Add(p, z) [after] u = Relu(t) [later] y = Mul(u, x) }"""
    model = network(tmp_path, graph)
    found = at(model, x=(2, 4), z=(3, 4))
    ((node, reason),) = faults(model, x=(2, 4), z=(3, 4))
    assert node == "fault"
    assert "Incompatible dimensions" in reason and "(it gets [2, 4] and [3, 4])" in reason
    assert str(found.conflicts[0]).startswith("Add fault: ")
    assert [found.by_name[name].shape for name in "ptuy"] == [(2, 4), None, None, None]
    assert faults(model, x=(2, 4), z=(2, 4)) == []


def test_two_faults_apart_are_both_named_in_the_graphs_order(tmp_path: Path) -> None:
    graph = (
        "(float[b,4] x, float[c,4] z) => (float[?,4] y, float[?,?] q) { [sum] y = Add(x, z) [dot] q = MatMul(x, z) }"
    )
    assert [node for node, _ in faults(network(tmp_path, graph), x=(2, 4), z=(3, 4))] == ["sum", "dot"]


@pytest.mark.parametrize("to", [(2, 6), (-1, 3)], ids=str)
def test_a_reshape_counts_its_elements(tmp_path: Path, to: tuple[int, ...]) -> None:
    graph = "(float[b,4] x) => (float[?,?] y) { [fold] r = Reshape(x, to) [after] y = Relu(r) }"
    model = network(tmp_path, graph, to=ints(*to))
    assert [node for node, _ in faults(model, x=(2, 4))] == ["fold"]
    assert faults(model, x=(3, 4)) == []
    assert any("8 values cannot become 12" in reason for _, reason in faults(model, x=(2, 4))) == (to == (2, 6))


def test_a_reshape_to_a_computed_size_counts_too(tmp_path: Path) -> None:
    graph = "(float[b,4] x) => (float[?,?] y) { n = Shape(x) m = Max(n, five) [fold] y = Reshape(x, m) }"
    model = network(tmp_path, graph, five=ints(5, 1))
    assert [node for node, _ in faults(model, x=(2, 4))] == ["fold"]
    assert faults(model, x=(7, 4)) == []


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 21])
def test_a_conv_counts_its_channels_at_every_operator_set(tmp_path: Path, opset: int) -> None:
    graph = "(float[b,c,8,8] x) => (float[?,?,?,?] y) { [conv] k = Conv(x, w) [after] y = Relu(k) }"
    model = network(tmp_path, graph, opset, w=floats(2, 3, 3, 3))
    assert faults(model, x=(1, 4, 8, 8)) == [("conv", "it takes 3 channels, not 4")]
    assert faults(model, x=(1, 3, 8, 8)) == []


def test_a_grouped_conv_takes_the_channels_of_all_groups(tmp_path: Path) -> None:
    graph = "(float[b,c,8,8] x) => (float[?,?,?,?] y) { [conv] y = Conv<group = 4>(x, w) }"
    model = network(tmp_path, graph, w=floats(4, 2, 3, 3))
    assert faults(model, x=(1, 8, 8, 8)) == []
    assert faults(model, x=(1, 2, 8, 8)) == [("conv", "it takes 8 channels, not 2")]


@pytest.mark.parametrize(
    "node", ["Conv(x, w)", "MaxPool<kernel_shape = [7, 7]>(x)", "AveragePool<kernel_shape = [7, 7]>(x)"]
)
def test_a_kernel_that_does_not_fit_is_a_conflict(tmp_path: Path, node: str) -> None:
    model = network(tmp_path, f"(float[b,3,h,w] x) => (float[?,?,?,?] y) {{ [big] y = {node} }}", w=floats(2, 3, 7, 7))
    ((name, reason),) = faults(model, x=(1, 3, 9, 4))
    assert name == "big" and "does not fit into [1, 3, 9, 4]" in reason
    with pytest.raises(Exception, match="big"):
        made(model, {"x": (1, 3, 9, 4)})
    assert faults(model, x=(1, 3, 7, 7)) == []
    assert told(at(model, x=(1, 3, 7, 7))) == made(model, {"x": (1, 3, 7, 7)})


NAMES = ["a):b", "two\nlines", "<script>", "ü [x]", "n (op_type:Relu, node name: b): [ShapeInferenceError] no", "#0"]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_hides_a_conflict_or_makes_one_up(tmp_path: Path, name: str) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> graph (float[b,4] x, float[c,4] z) => (float[?,4] y)'
        "{ [b] a = Relu(x) t = Add(a, z) y = Relu(t) }"
    )
    proto.graph.node[1].name = name
    ((node, reason),) = faults(saved(tmp_path, proto), x=(2, 4), z=(3, 4))
    assert node == name
    assert reason.startswith("Incompatible dimensions")


def test_broken_sizes_of_pictures_are_found_where_two_paths_meet(tmp_path: Path) -> None:
    graph = """(float[b,2,h,w] x) => (float[?,?,?,?] y) { [down] d = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        [up] u = Resize<nearest_mode = "floor">(d, , double) [join] y = Add(u, x) }"""
    model = network(tmp_path, graph, double=np.array([1, 1, 2, 2], np.float32))
    assert [node for node, _ in faults(model, x=(1, 2, 7, 8))] == ["join"]
    assert faults(model, x=(1, 2, 6, 8)) == []


# ---- memory


def test_bytes_are_elements_times_the_size_of_one(tmp_path: Path) -> None:
    graph = "(float[b,3] x) => (int64[2] n, bool[b,3] e) { n = Shape(x) e = Equal(x, x) d = Cast<to=11>(x) }"
    found = at(network(tmp_path, graph), x=(5, 3)).by_name
    assert [found[name].bytes for name in "xned"] == [60, 16, 15, 120]


def test_tensors_without_elements_take_nothing(tmp_path: Path) -> None:
    found = at(network(tmp_path, "(float[b,4] x) => (float[b,4] y) { y = Relu(x) }"), x=(0, 4))
    assert (found.by_name["y"].bytes, found.peak_bytes, found.unknown) == (0, 0, ())


def test_a_tensor_that_a_body_reads_lives_until_then(tmp_path: Path) -> None:
    graph = """(float[100] x, bool c) => (float[100] y) { t = Relu(x) u = Neg(x) v = ReduceSum(u)
        y = If(c) <then_branch = yes () => (float[100] p) { p = Add(t, v) },
                   else_branch = no () => (float[100] q) { q = Neg(t) }> }"""
    found = at(network(tmp_path, graph), x=(100,), c=())
    assert found.peak_bytes == 3 * 400 + 1  # x, t and u, and the condition


def liveness(model: Model, shapes: TensorShapes) -> int:
    """Step by step, which buffers some later step or the caller still needs: slow, and written apart."""
    views = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
    buffer = {spec.name: spec.name for spec in model.inputs}
    for node in model.nodes:
        for name in node.output:
            buffer[name] = buffer[node.input[0]] if node.op_type in views else name
    most = 0
    for now in range(len(model.nodes)):
        there = {spec.name for spec in model.inputs}
        there |= {buffer[name] for node in model.nodes[: now + 1] for name in node.output}
        needed = {buffer[name] for node in model.nodes[now:] for name in node.input}
        needed |= {buffer[spec.name] for spec in model.outputs} | {buffer[name] for name in model.nodes[now].output}
        most = max(most, sum(shapes.by_name[name].bytes or 0 for name in there & needed))
    return most


@st.composite
def graphs(draw: st.DrawFn) -> Model:
    """Every input is read; any tensors may be outputs."""
    sizes = {"x": draw(st.integers(1, 9)), "z": draw(st.integers(1, 9))}
    nodes = [helper.make_node("Concat", ["x", "z"], ["t"], axis=0, name="first")]
    sizes["t"] = sizes["x"] + sizes["z"]
    for index in range(draw(st.integers(0, 9))):
        one, two = (draw(st.sampled_from(sorted(sizes))) for _ in range(2))
        kind = draw(st.sampled_from(["Relu", "Neg", "Identity", "Reshape", "Concat"]))
        inputs = {"Reshape": [one, "flat"], "Concat": [one, two]}.get(kind, [one])
        axis = {"axis": 0} if kind == "Concat" else {}
        nodes.append(helper.make_node(kind, inputs, [f"t{index}"], name=f"n{index}", **axis))
        sizes[f"t{index}"] = sizes[one] + (sizes[two] if kind == "Concat" else 0)
    made = [name for node in nodes for name in node.output]
    outputs = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [size]) for name, size in sizes.items()}
    flat = onnx.numpy_helper.from_array(ints(-1), "flat")
    graph = helper.make_graph(nodes, "random", [values["x"], values["z"]], [values[name] for name in outputs], [flat])
    return Model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), Path("random.onnx"))


def without_flat(model: Model) -> Model:
    """The constant that a Reshape reads is no activation."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    for node in proto.graph.node:
        del node.input[1 if node.op_type == "Reshape" else len(node.input) :]
    return Model(proto, model.path)


@settings(deadline=None, max_examples=150)
@given(graphs())
def test_peak_memory_is_the_most_that_is_needed_at_once(model: Model) -> None:
    shapes = {spec.name: tuple(dim for dim in spec.shape if isinstance(dim, int)) for spec in model.inputs}
    found = ShapeInference(model).at(shapes)
    assert found.peak_bytes == liveness(without_flat(model), found)


def test_a_view_takes_nothing_and_keeps_what_it_looks_at(tmp_path: Path) -> None:
    graph = """(float[100] x) => (float[100] y) {
        a = Relu(x) v = Identity(a) b = Relu(a) c = Relu(b) d = Relu(c) y = Add(d, v) }"""
    assert at(network(tmp_path, graph), x=(100,)).peak_bytes == 3 * 400  # a, and two of the chain


def test_outputs_live_to_the_end(tmp_path: Path) -> None:
    graph = "(float[100] x) => (float[100] a, float[1] y) { a = Relu(x) b = Relu(a) c = Relu(b) y = ReduceSum(c) }"
    inner = network(tmp_path, graph.replace("float[100] a, ", ""), name="inner")
    assert (at(network(tmp_path, graph), x=(100,)).peak_bytes, at(inner, x=(100,)).peak_bytes) == (1200, 800)


def test_memory_grows_with_the_batch() -> None:
    model = load_model(FASHION_CNN)
    one, eight = (at(model, image=(batch, 1, 28, 28)).peak_bytes for batch in (1, 8))
    assert eight == 8 * one > 0
    assert at(edit(model, "batch=8"), image=(8, 1, 28, 28)).peak_bytes == eight
