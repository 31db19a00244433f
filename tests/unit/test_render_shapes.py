"""render_shapes: dimensions and tensors as people read them; nothing hostile gets through."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers_shapes import floats, ints, network, saved
from models import FASHION_CNN, OCR_CLS, OCR_DET, parse
from test_render import EVIL, read

from workbench import Model, edit, load_model
from workbench.openings import InputDimension, describe_dimensions, what_back_ends_ask
from workbench.tensor_shapes import ShapeConflict, ShapeInference, TensorShape
from workbench.types import Dim
from workbench.widgets import render_shapes


def table(model: Model) -> str:
    return render_shapes.dimension_table(model, describe_dimensions(model), what_back_ends_ask(model))


def words(html: str) -> str:
    """What a person reads, in one line."""
    return " ".join(read(html).text.split())


def notes(model: Model) -> str:
    return words(re.sub("</(td|div|span)>", r"\g<0> ", table(model)))


def tensor(name: str, *shape: Dim, op_type: str = "Relu", dtype: str = "float32") -> TensorShape:
    return TensorShape(name, dtype, shape, f"node of {name}", op_type)


# ---- the table of dimensions


def test_open_fixed_equal_and_frozen_dimensions_are_told_apart(tmp_path: Path) -> None:
    said = notes(load_model(OCR_CLS))
    assert "0 open, without a name" in said
    assert "1 fixed by Conv Conv@0: it takes 3 channels, not 6" in said
    assert "2, 3 open, one name for two dimensions: back ends take them for equal" in said
    fold = "(float[n,8,8] x) => (float[1,3] y) { [fold] f = Reshape(x, to) y = MatMul(f, w) }"
    said = notes(network(tmp_path, fold, to=ints(1, 64), w=floats(64, 3)))
    assert "0 open; frozen inside all the same: Reshape fold: 128 values cannot become 64" in said


def test_what_is_equal_elsewhere_and_what_can_be_opened_are_told() -> None:
    said = notes(load_model(FASHION_CNN))
    assert "0 open, always equal to logits[0]" in said and "0 open, always equal to image[0]" in said
    assert "2, 3 fixed, but no node insists on it: it can be opened" in said
    assert "1 fixed" in said


def test_every_back_end_says_what_it_asks() -> None:
    said = words(table(load_model(FASHION_CNN)))
    for name, text in what_back_ends_ask(load_model(FASHION_CNN)).items():
        assert f"{name} will ask for {text}" in said


def test_single_values_have_no_dimensions(tmp_path: Path) -> None:
    said = words(table(network(tmp_path, "(float x) => (float y) { y = Relu(x) }")))
    assert said.count("a single value") == 2


@pytest.mark.parametrize("path", [FASHION_CNN, OCR_CLS, OCR_DET], ids=lambda path: path.stem)
def test_the_tables_of_the_data_models_are_sound(path: Path) -> None:
    model = load_model(path)
    html = table(model)
    assert read(html).tags >= {"table", "tr", "td"}
    for spec in (*model.inputs, *model.outputs):
        assert spec.name in words(html)


# ---- every tensor


def test_a_row_tells_operator_name_type_shapes_and_bytes() -> None:
    one = tensor("t", "n", 3, None, op_type="Conv")
    html = render_shapes.tensor_table([(one, tensor("t", 2, 3, 500, op_type="Conv"))], "opt")
    cells = [words(cell) for cell in re.findall(r"<td.*?</td>", html)]
    assert cells == ["Conv", "t", "float32", "n×3×?", "2×3×500", "12.0 kB"]
    assert "at opt" in words(html) and "1 tensor;" in words(html)


def test_inputs_scalars_and_tensors_without_elements_are_shown() -> None:
    rows = [(tensor("x", op_type=""), tensor("x", op_type="")), (tensor("e", 0, 4), tensor("e", 0, 4))]
    cells = [words(cell) for cell in re.findall(r"<td.*?</td>", render_shapes.tensor_table(rows, "min"))]
    assert cells[:6] == ["input", "x", "float32", "a single value", "a single value", "4 B"]
    assert cells[6:] == ["Relu", "e", "float32", "0×4", "0×4", "0 B"]


def test_unknown_shapes_are_said_to_be_and_have_no_bytes() -> None:
    unknown = TensorShape("t", "", None, "node", "Loop")
    cells = [
        words(cell) for cell in re.findall(r"<td.*?</td>", render_shapes.tensor_table([(unknown, unknown)], "max"))
    ]
    assert cells == ["Loop", "t", "", "unknown", "unknown", ""]
    half = tensor("t", None, 4)
    assert [words(cell) for cell in re.findall(r"<td.*?</td>", render_shapes.tensor_table([(half, None)], "max"))][
        3:
    ] == [
        "?×4",
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("count", "shown", "said"),
    [
        (200, 200, "200 tensors"),
        (201, 200, "the first 200 of 201 tensors"),
        (10_000, 200, "the first 200 of 10,000 tensors"),
    ],
)
def test_many_rows_are_cut_and_counted(count: int, shown: int, said: str) -> None:
    html = render_shapes.tensor_table([(tensor(f"t{index}", 1), None) for index in range(count)], "opt")
    assert html.count("<tr>") == shown + 1
    assert words(html).startswith(said)
    assert len(html) < 100_000


def test_no_row_is_said_in_words() -> None:
    assert words(render_shapes.tensor_table([], "opt")) == "No tensor fits the search."


# ---- memory and conflicts


def facts(peak_bytes: int, tensors: tuple[TensorShape, ...] = (), *conflicts: ShapeConflict) -> Any:
    """What of TensorShapes is shown."""
    unknown = tuple(item for item in tensors if item.bytes is None)
    return SimpleNamespace(peak_bytes=peak_bytes, unknown=unknown, conflicts=conflicts)


def test_memory_is_told_at_every_bound(tmp_path: Path) -> None:
    shapes = {name: facts(size) for name, size in (("min", 900), ("opt", 1_500_000), ("max", 2_000_000_000))}
    said = words(re.sub("</(b|div|span)>", r"\g<0> ", render_shapes.memory_card(shapes)))
    assert said.startswith("at min 900 B at opt 1.5 MB at max 2.0 GB")
    assert "Not counted" not in said


def test_memory_says_what_is_not_counted_and_why() -> None:
    unknown = (tensor("a", None), tensor("b", 1, None), tensor("c", 2))
    by_data = facts(8, unknown)
    failed = facts(8, unknown[:1], ShapeConflict("n", "Add", "why"))
    assert "Not counted: 2 tensors whose sizes only data can tell." in words(
        render_shapes.memory_card({"opt": by_data})
    )
    said = words(render_shapes.memory_card({"opt": failed}))
    assert "Not counted: 1 tensor behind the node that fails." in said and "data" not in said


def test_conflicts_are_told_with_bound_and_node_and_the_rest_is_counted() -> None:
    assert render_shapes.conflict_card([]) == ""
    conflicts = [("opt", ShapeConflict(f"node {index}", "Add", f"reason {index}")) for index in range(8)]
    said = words(render_shapes.conflict_card(conflicts))
    assert "At opt: node 0 (Add): reason 0" in said and "node 4" in said and "node 5" not in said
    assert "and 3 more nodes" in said and "What to do" in said
    assert "more nodes" not in words(render_shapes.conflict_card(conflicts[:5]))


def test_bytes_are_short() -> None:
    sizes = [0, 999, 1000, 1_500_000, 999_949, 2_000_000_000, 1_234_000_000_000]
    assert [render_shapes.format_bytes(size) for size in sizes] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.5 MB",
        "999.9 kB",
        "2.0 GB",
        "1,234.0 GB",
    ]


# ---- hostile names


@pytest.mark.parametrize("evil", [EVIL, "</td></table><b>", "&lt;script&gt;"])
def test_names_from_a_model_are_text_wherever_they_stand(tmp_path: Path, evil: str) -> None:
    proto = parse(
        "(float[n,4] x, float[1,4] z) => (float[n,4] y, float[1,4] w) { y = Add(x, k) w = Add(z, k) }", k=floats(1, 4)
    )
    rename = {"x": f"x{evil}", "z": f"z{evil}", "y": f"y{evil}", "w": f"w{evil}", "k": f"k{evil}"}
    for node in proto.graph.node:
        node.name = f"{node.output[0]} {evil}"
        node.input[:], node.output[:] = [rename[name] for name in node.input], [rename[name] for name in node.output]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        value.name = rename[value.name]
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = f"n{evil}"
    model = saved(tmp_path, proto)
    found = ShapeInference(model).at({f"x{evil}": (2, 5), f"z{evil}": (1, 4)})
    rows = [(item, found.by_name[item.name]) for item in ShapeInference(model).symbolic().tensors]
    pages = [
        table(model),
        render_shapes.tensor_table(rows, "opt"),
        render_shapes.conflict_card([("opt", item) for item in found.conflicts]),
        render_shapes.memory_card({"opt": found}),
    ]
    assert found.conflicts
    for page in pages[:3]:
        assert evil in read(page).text
    for page in pages:
        assert read(page).tags <= {
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "div",
            "span",
            "b",
            "i",
            "code",
            "wbr",
            "p",
            "h4",
        }
    assert evil in read(table(edit(model, f"n{evil}=m"))).text


def test_blockers_and_equal_places_are_text_too(tmp_path: Path) -> None:
    model = network(tmp_path, "(float[1,n] x) => (float[1,n] y) { y = Relu(x) }")
    dims = [
        InputDimension("x", 0, True, 1, (), ShapeConflict(EVIL, EVIL, EVIL)),
        InputDimension("x", 1, True, EVIL, ((EVIL, 0), ("x", 0)), ShapeConflict(EVIL, EVIL, EVIL)),
    ]
    page = render_shapes.dimension_table(model, dims, {EVIL: EVIL})
    assert read(page).text.count(EVIL) >= 9
