"""Opening a dimension that an exporter fixed: what follows is opened with it, what is in the way is named."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_shapes import floats, ints, network, saved
from hypothesis import given, settings
from hypothesis import strategies as st
from models import FASHION_CNN, OCR_CLS, OCR_DET

from workbench import BuildConfig, Model, build, edit, load_model, open_dimension, parse_shapes, read_layers
from workbench.blame import find_blockers, probe_shapes
from workbench.dimensions import read_places, set_output_shapes
from workbench.errors import FeedError, ModelError, ShapeError, WorkbenchError
from workbench.openings import describe_dimensions, what_back_ends_ask
from workbench.reference import Reference
from workbench.tensor_shapes import ShapeConflict
from workbench.types import Support

FOLD = "(float[1,8,8] x) => (float[1,3] y) { [fold] f = Reshape(x, to) [dot] y = MatMul(f, w) }"
PAIR = (
    "(float[1,4] ids, float[1,4] mask) => (float[1,3] y) { [join] c = Concat<axis=1>(ids, mask) [dot] y = Gemm(c, w) }"
)
RELU = "(float[1,4] x) => (float[1,4] y) { [relu] y = Relu(x) }"


def told(model: Model) -> list[str]:
    return [str(spec) for spec in (*model.inputs, *model.outputs)]


def folding(folder: Path, *to: int) -> Model:
    return network(folder, FOLD, to=ints(*to), w=floats(64, 3))


def again(model: Model) -> Model:
    """The same edits on the file as it is."""
    made = load_model(model.path)
    for change in model.edits:
        made = edit(made, change)
    return made


# ---- what opens


@pytest.mark.parametrize("to", [(-1, 64), (0, 64), (0, -1)], ids=str)
def test_a_batch_opens_where_the_sizes_follow(tmp_path: Path, to: tuple[int, ...]) -> None:
    opened = edit(folding(tmp_path, *to), "x:0=batch")
    assert told(opened) == ["x: float32[batch, 8, 8]", "y: float32[batch, 3]"]
    assert opened.edits == ("x:0=batch",)
    feeds = {"x": np.random.default_rng(0).random((5, 8, 8), np.float32)}
    assert Reference(opened).run(feeds)["y"].shape == (5, 3)


def test_flatten_opens(tmp_path: Path) -> None:
    model = network(tmp_path, "(float[1,8,8] x) => (float[1,64] y) { y = Flatten(x) }")
    assert told(edit(model, "x:0=n")) == ["x: float32[n, 8, 8]", "y: float32[n, 64]"]


def test_several_inputs_open_together_and_one_of_them_alone_is_refused(tmp_path: Path) -> None:
    model = network(tmp_path, PAIR, w=floats(8, 3))
    opened = edit(model, "ids:0,mask:0=batch")
    assert told(opened) == ["ids: float32[batch, 4]", "mask: float32[batch, 4]", "y: float32[batch, 3]"]
    with pytest.raises(
        ShapeError, match=r"input ids, dimension 0 cannot be opened: the graph takes 1 only\. Concat join"
    ):
        edit(model, "ids:0=batch")
    assert again(opened).to_bytes() == opened.to_bytes()


@pytest.mark.parametrize("change", ["x:0=batch", "x:2=wide", "x:1,x:2=side"])
def test_edits_applied_again_to_the_file_give_the_same_model(tmp_path: Path, change: str) -> None:
    graph = "(float[1,8,8] x) => (float[1,?] y, float[1,8,8] z) { y = ReduceMax<axes=[2], keepdims=0>(x) z = Relu(x) }"
    opened = edit(network(tmp_path, graph), change)
    opened = opened if change == "x:0=batch" else edit(opened, "x:0=n")
    assert again(opened).to_bytes() == opened.to_bytes()
    assert (again(opened).edits, again(opened).inputs) == (opened.edits, opened.inputs)


def test_a_dimension_joins_one_that_is_open_under_that_name(tmp_path: Path) -> None:
    model = network(tmp_path, "(float[1,4] x, float[n,4] z) => (float[n,4] y) { y = Mul(x, z) }")
    assert told(edit(model, "x:0=n")) == ["x: float32[n, 4]", "z: float32[n, 4]", "y: float32[n, 4]"]


def test_it_may_join_one_at_another_axis(tmp_path: Path) -> None:
    model = network(tmp_path, "(float[1,4] x, float[4,n] z) => (float[?,?] y) { y = MatMul(x, z) }")
    assert told(edit(model, "x:0=n")) == ["x: float32[n, 4]", "z: float32[4, n]", "y: float32[n, n]"]


def test_places_that_are_partly_open_become_one(tmp_path: Path) -> None:
    model = network(tmp_path, "(float[b,4] x, float[1,4] z) => (float[b,4] y) { y = Mul(x, z) }")
    assert told(edit(model, "x:0,z:0=n"))[:2] == ["x: float32[n, 4]", "z: float32[n, 4]"]


def test_outputs_that_follow_get_the_name_and_others_keep_their_sizes(tmp_path: Path) -> None:
    graph = """(float[1,4] x, float[3] k) => (float[1,4] same, float[4,1] turned, float[3] apart, float all) {
        same = Relu(x) turned = Transpose(x) apart = Neg(k) all = ReduceSum<keepdims=0>(k) }"""
    assert told(edit(network(tmp_path, graph), "x:0=n"))[2:] == [
        "same: float32[n, 4]",
        "turned: float32[4, n]",
        "apart: float32[3]",
        "all: float32[]",
    ]


def test_an_output_that_grows_otherwise_is_open_without_a_name(tmp_path: Path) -> None:
    graph = "(float[2,4] x) => (float[2,8] y, float[2,3] z) { y = Concat<axis=1>(x, x) z = Slice(x, one, most, one) }"
    model = network(tmp_path, graph, one=ints(1), most=ints(99))
    assert told(open_dimension(model, [("x", 1)], "n")) == ["x: float32[2, n]", "y: float32[2, ?]", "z: float32[2, ?]"]


def test_sizes_that_other_open_dimensions_or_data_decide_stay_open(tmp_path: Path) -> None:
    relu = network(tmp_path, "(float[?,4] x) => (float[?,4] y) { y = Relu(x) }")
    assert told(edit(relu, "x:1=width")) == ["x: float32[?, width]", "y: float32[?, width]"]
    graph = "(float[4] k, float[1,4] x) => (int64[1,?] found, float[1,4] y) { found = NonZero(k) y = Relu(x) }"
    opened = edit(network(tmp_path, graph), "x:0=n")
    assert told(opened)[2:] == ["found: int64[1, ?]", "y: float32[n, 4]"]
    assert Reference(opened).run({"k": np.zeros(4, "f"), "x": np.zeros((3, 4), "f")})["found"].shape == (1, 0)


def test_infinite_answers_are_no_reason_against_a_batch(tmp_path: Path) -> None:
    model = network(tmp_path, "(float[1,4] x) => (float[1,4] y) { z = Sub(x, x) y = Log(z) }")
    assert told(edit(model, "x:0=n"))[1] == "y: float32[n, 4]"


def test_the_model_before_is_left_as_it_was(tmp_path: Path) -> None:
    model = folding(tmp_path, -1, 64)
    before = model.to_bytes()
    edit(model, "x:0=batch")
    assert (model.to_bytes(), model.edits) == (before, ())


def test_one_that_is_open_is_only_renamed_or_fixed(tmp_path: Path) -> None:
    model = load_model(FASHION_CNN)
    assert told(edit(model, "image:0=n"))[0] == "image: float32[n, 1, 28, 28]"
    assert told(edit(model, "image:0=4"))[0] == "image: float32[4, 1, 28, 28]"
    assert told(edit(model, "batch=4")) == ["image: float32[4, 1, 28, 28]", "logits: float32[4, 10]"]


def test_two_dimensions_of_one_name_are_parted() -> None:
    parted = edit(edit(load_model(OCR_CLS), "x:2=height"), "x:3=width")
    assert parted.inputs[0].shape == (None, 3, "height", "width")
    assert describe_dimensions(parted)[2].same_as == ()
    answer = Reference(parted).run({"x": np.zeros((2, 3, 32, 64), np.float32)})
    assert [value.shape for value in answer.values()] == [(2, 2)]


@pytest.mark.rtx
@pytest.mark.parametrize("batch", [2, 5])
def test_an_opened_model_builds_with_nvidias_builder_at_any_batch(tmp_path: Path, batch: int) -> None:
    opened = edit(folding(tmp_path, -1, 64), "x:0=batch")
    built = build(opened, BuildConfig(profiles=(parse_shapes([f"x:{batch}x8x8"]),)), "rtx")
    assert ("y", (batch, 3)) in {
        (made.name, made.shape) for layer in read_layers(built.engine) for made in layer.outputs
    }


# ---- what does not open, and why


@pytest.mark.parametrize(
    ("to", "says"),
    [
        (
            (1, 64),
            r"Reshape fold: 128 values cannot become 64 of the shape \[1, 64\].*constants that the exporter wrote",
        ),
        ((1, -1), r"Reshape fold: it makes \[1, 64\] of whatever comes in.*; MatMul dot fails on that"),
    ],
    ids=str,
)
def test_a_reshape_to_constants_is_named(tmp_path: Path, to: tuple[int, ...], says: str) -> None:
    model = folding(tmp_path, *to)
    says = rf"input x, dimension 0 cannot be opened: the graph takes 1 only\. {says}.*Export the model again"
    with pytest.raises(ShapeError, match=says):
        edit(model, "x:0=batch")
    assert find_blockers(model)["x", 0].node == "fold"


def test_constants_in_nodes_are_constants_too(tmp_path: Path) -> None:
    graph = FOLD.replace("{ [fold]", "{ to = Constant<value = int64[2] {1, -1}>() [fold]")
    with pytest.raises(ShapeError, match="Reshape fold: it makes"):
        edit(network(tmp_path, graph, w=floats(64, 3)), "x:0=batch")


def test_a_table_of_positions_is_named_with_its_shape(tmp_path: Path) -> None:
    graph = "(int64[1,8] ids) => (float[1,8,4] y) { [look] e = Gather(words, ids) [place] y = Add(e, places) }"
    model = network(tmp_path, graph, words=floats(5, 4), places=floats(1, 8, 4))
    with pytest.raises(
        ShapeError, match=r"takes 8 only\. Add place: .*its weights places have the fixed shape \[1, 8, 4\]"
    ):
        edit(model, "ids:1=length")
    assert told(edit(model, "ids:0=batch"))[0] == "ids: int64[batch, 8]"


@pytest.mark.parametrize("opset", [9, 17])
def test_channels_are_part_of_what_was_learned(tmp_path: Path, opset: int) -> None:
    graph = "(float[1,3,8,8] x) => (float[1,2,?,?] y) { [conv] y = Conv(x, w) }"
    with pytest.raises(ShapeError, match=r"takes 3 only\. Conv conv: it takes 3 channels, not 6"):
        edit(network(tmp_path, graph, opset, w=floats(2, 3, 3, 3)), "x:1=channels")


@pytest.mark.parametrize(
    "body",
    [
        "y = Softmax<axis=0>(x)",
        "y = LpNormalization<axis=0>(x)",
        "m = ReduceMean<axes=[0]>(x) y = Sub(x, m)",
        "y, m, v = BatchNormalization<training_mode=1>(x, one, one, zero, one)",
        "y = CumSum(x, first)",
    ],
)
def test_a_graph_that_mixes_the_rows_of_a_batch_is_refused(tmp_path: Path, body: str) -> None:
    graph = f"(float[1,4] x) => (float[1,4] y) {{ {body} }}"
    weights = {"one": floats(4) * 2, "zero": floats(4) * 0, "first": np.array(0)}
    with pytest.raises(
        ShapeError, match=r"cannot be opened as a batch: output y of one row changes by .* mixes the rows"
    ):
        edit(network(tmp_path, graph, **weights), "x:0=batch")


def test_sizes_opened_under_one_name_must_be_one(tmp_path: Path) -> None:
    model = network(tmp_path, "(float[2,4] x, float[1,4] z) => (float[2,4] y) { y = Mul(x, z) }")
    with pytest.raises(ShapeError, match="must have one size; these have 1 and 2"):
        edit(model, "x:0,z:0=batch")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("x:7=n", "input x has 2 dimensions; 7 is not one of them"),
        ("x:0,x:7=n", "input x has 2 dimensions; 7 is not one of them"),
        ("picture:0=n", "no dimension 'picture:0'"),
        ("x:0,picture:0=n", "no dimension 'x:0,picture:0'"),
        ("x:-1=n", "no dimension 'x:-1'"),
        ("x:=n", "no dimension 'x:'"),
        ("x:²=n", "no dimension 'x:²'"),
        ("x:0=", "write NAME=SIZE"),
        ("x:0=-3", "at least 1"),
        ("x:0=0", "at least 1"),
        ("x:0=1.5", "neither a size nor a name"),
        ("", "write NAME=SIZE"),
    ],
)
def test_places_that_do_not_exist_are_refused(tmp_path: Path, change: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        edit(network(tmp_path, RELU), change)


def test_as_a_function_it_refuses_the_same(tmp_path: Path) -> None:
    model = network(tmp_path, RELU)
    for places in ([("picture", 0)], [("x", 2)], [("x", -1)]):
        with pytest.raises(ModelError):
            open_dimension(model, places, "n")
    with pytest.raises(WorkbenchError):
        open_dimension(model, [], "n")
    with pytest.raises(ShapeError):
        open_dimension(edit(model, "x:0=n"), [("x", 0)], "m")


@pytest.mark.parametrize(
    "body",
    ["t = Relu(x) y = foreign.Frobnicate(t)", "g = Gather(w, far) s = ReduceSum<keepdims=0>(g) y = Mul(x, s)"],
    ids=["unknown operator", "bad index"],
)
def test_a_model_that_fails_at_its_own_sizes_is_not_said_to_take_one_size_only(tmp_path: Path, body: str) -> None:
    model = network(tmp_path, f"(float[1,4] x) => (float[1,4] y) {{ {body} }}", w=floats(3), far=ints(9))
    with pytest.raises(ShapeError, match="it fails at its own sizes") as refused:
        edit(model, "x:0=n")
    assert "takes 1 only" not in str(refused.value)


def test_texts_cannot_be_tried(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="cannot be filled with random values"):
        edit(network(tmp_path, "(string[1,4] x) => (string[1,4] y) { y = Identity(x) }"), "x:0=n")


def test_weights_in_another_file_are_found(tmp_path: Path) -> None:
    model = folding(tmp_path, -1, 64)
    proto = onnx.load(model.path)
    onnx.external_data_helper.convert_model_to_external_data(proto, location="w.bin", size_threshold=100)
    onnx.save(proto, str(tmp_path / "apart.onnx"))
    opened = edit(load_model(tmp_path / "apart.onnx"), "x:0=batch")
    assert opened.external_files and told(opened)[1] == "y: float32[batch, 3]"


# ---- names that are hard to read


HARD = ["a:0", "a,b", "a:0,b:1", "ü x", "x=1", "a=b:0", "x[0]", "it's", "x)", "<script>", " x", "x, node name: y"]


@pytest.mark.parametrize("name", HARD)
def test_inputs_of_any_name_can_be_opened_and_opened_again(tmp_path: Path, name: str) -> None:
    model = named(tmp_path, name)
    opened = edit(model, f"{name}:0=batch")
    assert told(opened) == [f"{name}: float32[batch, 4]", "y: float32[batch, 4]"]
    assert again(opened).to_bytes() == opened.to_bytes()


def named(folder: Path, *names: str) -> Model:
    inputs = ", ".join(f"float[1,4] i{index}" for index in range(len(names)))
    body = f"y = Sum({', '.join(f'i{index}' for index in range(len(names)))})"
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> graph ({inputs}) => (float[1,4] y) {{ {body} }}'
    )
    for index, name in enumerate(names):
        proto.graph.input[index].name = proto.graph.node[0].input[index] = name
    return saved(folder, proto)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text("ab:,=0 é", min_size=1, max_size=5), min_size=1, max_size=2, unique=True), st.integers(0, 3))
def test_one_place_is_read_back_whatever_the_input_is_called(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], axis: int
) -> None:
    if "y" in names or any(name != name.strip() for name in names):
        return
    model = named(tmp_path_factory.mktemp("names"), *names)
    assert read_places(model, f"{names[0]}:{axis}=n") == (((names[0], axis),), "n")
    assert read_places(model, f"{names[0]}:{axis}=48") == (((names[0], axis),), 48)


def test_several_places_are_read_with_spaces_between(tmp_path: Path) -> None:
    model = named(tmp_path, "a:0", "b")
    assert read_places(model, "a:0:0, b:1=n") == ((("a:0", 0), ("b", 1)), "n")
    assert read_places(model, "batch=4") == ((), 4)
    assert read_places(model, "c:0=n") == ((), "n")


def test_inputs_whose_names_hold_commas_open_together_and_again(tmp_path: Path) -> None:
    model = named(tmp_path, "a,b", "c")
    opened = open_dimension(model, [("a,b", 0), ("c", 0)], "n")
    assert told(opened)[:2] == ["a,b: float32[n, 4]", "c: float32[n, 4]"]
    assert again(opened).to_bytes() == opened.to_bytes()


def test_output_shapes_are_stated_as_given(tmp_path: Path) -> None:
    model = network(tmp_path, "(float[n,4] x) => (float[n,4] y, float z) { y = Relu(x) z = ReduceSum<keepdims=0>(x) }")
    made = set_output_shapes(model, {"y": ("m", None), "z": ()})
    assert told(made)[1:] == ["y: float32[m, ?]", "z: float32[]"]
    assert told(set_output_shapes(model, {})) == told(model)
    assert made.edits == model.edits


# ---- what is told of dimensions


def test_equal_names_are_told_with_their_places() -> None:
    dims = {(item.tensor, item.axis): item for item in describe_dimensions(load_model(OCR_CLS)) if item.is_input}
    assert [item.is_open for item in dims.values()] == [True, False, True, True]
    assert (dims["x", 2].same_as, dims["x", 3].same_as) == ((("x", 3),), (("x", 2),))
    assert (dims["x", 0].same_as, dims["x", 0].dim) == ((), None)


def test_names_reach_from_inputs_to_outputs() -> None:
    batch = describe_dimensions(load_model(FASHION_CNN))[0]
    assert (batch.tensor, batch.axis, batch.dim, batch.same_as) == ("image", 0, "batch", (("logits", 0),))


@pytest.mark.parametrize(
    ("path", "fixed"),
    [(FASHION_CNN, {("image", 1)}), (OCR_CLS, {("x", 1)}), (OCR_DET, {("x", 1)})],
    ids=["fashion_cnn", "ocr_cls", "ocr_det"],
)
def test_channels_of_the_data_models_are_held_by_their_first_conv(path: Path, fixed: set[tuple[str, int]]) -> None:
    model = load_model(path)
    blockers = find_blockers(model)
    first = next(node.name for node in model.nodes if node.op_type == "Conv")
    assert blockers.keys() == fixed
    assert {(item.node, item.op_type) for item in blockers.values()} == {(first, "Conv")}
    told = {(item.tensor, item.axis): item.blocker for item in describe_dimensions(model) if item.blocker}
    assert told == blockers


def test_pictures_of_the_small_classifier_open_as_find_blockers_says() -> None:
    opened = edit(edit(load_model(FASHION_CNN), "image:2=height"), "image:3=width")
    assert told(opened) == ["image: float32[batch, 1, height, width]", "logits: float32[batch, 10]"]


def test_a_dimension_that_is_open_in_name_only_is_told(tmp_path: Path) -> None:
    model = network(tmp_path, FOLD.replace("float[1,8,8]", "float[n,8,8]"), to=ints(1, 64), w=floats(64, 3))
    (batch, *_) = describe_dimensions(model)
    assert batch.is_open and batch.blocker is not None and batch.blocker.node == "fold"
    assert str(ShapeConflict("fold", "Reshape", "why")) == "Reshape fold: why"


def test_outputs_are_told_without_blockers_and_scalars_have_no_dimensions(tmp_path: Path) -> None:
    graph = "(float[1,4] x, float k) => (float[1,4] y, float z) { y = Mul(x, k) z = Neg(k) }"
    assert [(item.tensor, item.axis, item.is_input) for item in describe_dimensions(network(tmp_path, graph))] == [
        ("x", 0, True),
        ("x", 1, True),
        ("y", 0, False),
        ("y", 1, False),
    ]


def test_every_axis_that_is_said_to_follow_can_be_opened(tmp_path: Path) -> None:
    """What find_blockers says by shape arithmetic holds when the model is run."""
    graph = """(float[1,4,6] x) => (float[?,?,?] y) { t = Transpose<perm=[0,2,1]>(x) [dot] m = MatMul(t, w)
        [part] p = Add(m, b) y = Relu(p) }"""
    model = network(tmp_path, graph, w=floats(4, 3), b=floats(6, 3))
    assert {axis: item.node for (_, axis), item in find_blockers(model).items()} == {1: "dot", 2: "part"}
    assert told(edit(model, "x:0=n"))[0] == "x: float32[n, 4, 6]"
    for axis in (1, 2):
        with pytest.raises(ShapeError, match="cannot be opened"):
            edit(model, f"x:{axis}=n")


def test_back_ends_ask_for_what_they_need() -> None:
    some = Support("some", "Some", "1", True, "", True, "")
    any_shape = Support("any", "Any", "1", True, "", True, "", takes_any_shape=True)
    supports = {"some": some, "any": any_shape}
    asks = what_back_ends_ask(load_model(OCR_CLS), supports)
    assert asks == {
        "some": "an optimization profile: min, opt and max of x[0], x[2] (2 ranges).",
        "any": "nothing: it takes any shape.",
    }
    assert "batch (one range)" in what_back_ends_ask(load_model(FASHION_CNN), supports)["some"]
    fixed = what_back_ends_ask(edit(load_model(FASHION_CNN), "batch=1"), supports)
    assert set(fixed.values()) == {"nothing: every dimension is fixed."}


def test_models_are_tried_at_small_sizes_that_halve() -> None:
    assert probe_shapes(load_model(OCR_CLS).inputs) == {"x": (1, 3, 64, 64)}
    assert probe_shapes(load_model(FASHION_CNN).inputs) == {"image": (1, 1, 28, 28)}


def test_no_sentence_is_too_long_to_read(tmp_path: Path) -> None:
    with pytest.raises(ShapeError) as refused:
        edit(folding(tmp_path, 1, 64), "x:0=batch")
    assert len(str(refused.value)) < 320
    assert not re.search(r"\n|/onnxruntime", str(refused.value))
