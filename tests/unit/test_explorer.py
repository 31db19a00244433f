"""ExplorerState, ShapeExplorer and DimensionTable without a browser: set a trait, assert a trait."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers_shapes import floats, ints, network
from models import FASHION_CNN, OCR_CLS

from workbench import OptimizationProfile, ShapeRange, edit, load_model
from workbench.cli import main
from workbench.errors import ShapeError
from workbench.store import EngineStore
from workbench.widgets.builder import EngineBuilder
from workbench.widgets.explorer_state import ExplorerState
from workbench.widgets.shapes import DimensionTable, ShapeExplorer

FOLD = "(float[1,8,8] x) => (float[1,3] y) { [fold] f = Reshape(x, to) [dot] y = MatMul(f, w) }"
HALVES = """(float[b,2,h,8] x) => (float[?,?,?,?] y) { [down] d = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
    [up] u = Resize<nearest_mode = "floor">(d, , double) [join] y = Add(u, x) }"""


@pytest.fixture
def state(tmp_path: Path) -> ExplorerState:
    made = ExplorerState(EngineStore(tmp_path / "store"))
    made.load(FASHION_CNN)
    return made


@pytest.fixture
def halves(tmp_path: Path) -> ExplorerState:
    """Takes even heights only."""
    state = ExplorerState()
    state.take(network(tmp_path, HALVES, double=np.array([1, 1, 2, 2], np.float32)))
    state.bounds = {"b": ("1", "1", "2"), "h": ("2", "4", "6")}
    return state


def snapshot(state: ExplorerState) -> tuple[object, ...]:
    return state.model, state.bounds, tuple(state.history), state.model_path, state.model_error


# ---- changes


def test_without_a_model_there_is_nothing_to_see() -> None:
    state = ExplorerState()
    assert (state.study, state.rows(), state.shapes(), state.conflicts(), state.code()) == (None, [], {}, [], {})
    state.undo()
    state.change("batch=4")
    assert state.mistake == "Choose a model first." and state.model is None


def test_a_change_is_made_to_the_model_and_said(state: ExplorerState) -> None:
    before = state.model
    state.change("  batch=n ")
    assert state.model is not None and state.model.inputs[0].shape == ("n", 1, 28, 28)
    assert state.said == "Done: batch=n. The file itself is not changed."
    assert (state.mistake, state.history) == ("", [before])


def test_a_change_keeps_the_sizes_typed_for_other_dimensions(state: ExplorerState) -> None:
    state.bounds = {"batch": ("2", "3", "4")}
    state.change("image:2=height")
    assert state.bounds["batch"] == ("2", "3", "4")
    assert state.bounds.keys() == {"batch", "height"}
    state.bounds = {**state.bounds, "batch": ("5", "6", "7")}
    state.undo()
    assert state.bounds == {"batch": ("5", "6", "7")}


def test_undo_goes_back_step_by_step_to_the_file_and_no_further(state: ExplorerState) -> None:
    steps = [state.model]
    for change in ("image:2=height", "image:3=width", "height=32"):
        state.change(change)
        assert state.mistake == ""
        steps.append(state.model)
    for expected in reversed(steps[:-1]):
        state.undo()
        assert state.model is expected and state.said == "Taken back."
    state.undo()
    assert state.model is steps[0] and state.history == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("image:1=channels", "Conv /stem/conv/Conv: it takes 1 channel, not 2"),
        ("depth=4", "no dimension 'depth'"),
        ("batch", "write NAME=SIZE"),
        ("image:9=n", "9 is not one of them"),
        ("batch=0", "at least 1"),
        ("<script>=4", "no dimension '<script>'"),
    ],
)
def test_a_refused_change_leaves_everything_as_it_was_and_says_why(
    state: ExplorerState, change: str, says: str
) -> None:
    state.bounds = {"batch": ("2", "3", "4")}
    state.change("image:2=height")
    before = snapshot(state)
    state.change(change)
    assert says in state.mistake
    assert (snapshot(state), state.said) == (before, "")
    state.change("batch=n")
    assert state.mistake == ""


@pytest.mark.parametrize("path", [OCR_CLS, Path("missing.onnx")], ids=["another", "a bad one"])
def test_loading_another_model_forgets_the_changes(state: ExplorerState, path: Path) -> None:
    state.change("batch=n")
    state.load(path)
    assert (state.history, state.said, state.mistake) == ([], "", "")
    before = snapshot(state)
    state.undo()
    assert snapshot(state) == before


def test_parting_a_shared_name_can_be_taken_back(tmp_path: Path) -> None:
    state = ExplorerState()
    state.load(OCR_CLS)
    state.change("x:0=batch")
    named = state.model
    state.part("?")
    assert state.model is not None and state.model.inputs[0].shape == ("batch", 3, "x_2", "x_3")
    assert state.bounds.keys() == {"batch", "x_2", "x_3"}
    state.undo()
    assert state.model is named
    state.undo()
    assert state.model.inputs[0].shape == (None, 3, "?", "?")


def test_an_opened_dimension_gets_sizes_to_study_it_at(tmp_path: Path) -> None:
    state = ExplorerState()
    state.take(network(tmp_path, FOLD, to=ints(-1, 64), w=floats(64, 3)))
    assert (state.bounds, state.profile) == ({}, OptimizationProfile({}))
    state.change("x:0=batch")
    assert state.bounds == {"batch": ("1", "1", "8")}
    assert state.profile == OptimizationProfile({"x": ShapeRange((1, 8, 8), (1, 8, 8), (8, 8, 8))})


# ---- what follows from the sizes


def test_every_bound_is_studied(state: ExplorerState) -> None:
    state.bounds = {"batch": ("1", "2", "4")}
    shapes = state.shapes()
    assert {bound: item.by_name["logits"].shape for bound, item in shapes.items()} == {
        "min": (1, 10),
        "opt": (2, 10),
        "max": (4, 10),
    }
    assert shapes["max"].peak_bytes == 4 * shapes["min"].peak_bytes > 0


@pytest.mark.parametrize(
    "texts", [("1", "x", "4"), ("", "1", "2"), ("4", "2", "1"), ("0", "1", "2"), ("1", "1", "1e3")]
)
def test_sizes_with_a_mistake_show_no_shapes_and_no_code(state: ExplorerState, texts: tuple[str, str, str]) -> None:
    state.bounds = {"batch": texts}
    assert (state.shapes(), state.conflicts(), state.code()) == ({}, [], {})
    assert "batch" in state.shape_problems()
    assert state.rows() and all(sized is None for _, sized in state.rows())
    with pytest.raises(ShapeError, match="batch"):
        _ = state.profile


def test_bound_chooses_the_sizes_of_the_rows(state: ExplorerState) -> None:
    state.bounds = {"batch": ("1", "2", "4")}
    for bound, batch in (("min", 1), ("opt", 2), ("max", 4)):
        state.bound = bound
        (first, *_) = state.rows()
        assert first[0].shape == ("batch", 1, 28, 28)
        assert first[1] is not None and first[1].shape == (batch, 1, 28, 28)


def test_words_choose_rows_by_name_operator_and_node(state: ExplorerState) -> None:
    every = state.rows()
    assert every[0][0].name == "image" and len(every) > 20
    state.words = "CONV stem"
    some = state.rows()
    assert 0 < len(some) < len(every)
    for item, _ in some:
        said = f"{item.name} {item.op_type} {item.node}".lower()
        assert "conv" in said and "stem" in said
    state.words = "no such tensor"
    assert state.rows() == []
    state.words = "  "
    assert state.rows() == every


def test_a_study_is_kept_until_the_model_changes(state: ExplorerState) -> None:
    first = state.study
    state.bounds = {"batch": ("1", "2", "3")}
    state.bound = "max"
    assert state.study is first
    assert state.shapes()["min"] is state.shapes()["min"]
    state.change("batch=n")
    assert state.study is not first and state.study is not None and state.study.model is state.model


def test_what_the_study_remembers_stays_right_however_many_sizes_are_tried(state: ExplorerState) -> None:
    for size in [*range(1, 15), 3, 1]:
        state.bounds = {"batch": (str(size), str(size), str(size))}
        assert state.shapes()["opt"].by_name["logits"].shape == (size, 10)


def test_conflicts_tell_the_bound_where_they_happen_first(halves: ExplorerState) -> None:
    assert halves.conflicts() == []
    halves.bounds = {**halves.bounds, "h": ("2", "5", "7")}
    ((bound, item),) = halves.conflicts()
    assert (bound, item.node, item.op_type) == ("opt", "join", "Add")
    halves.bounds = {**halves.bounds, "h": ("3", "5", "7")}
    assert [bound for bound, _ in halves.conflicts()] == ["min"]


def test_fixed_and_scalar_inputs_are_studied_with_the_open_ones(tmp_path: Path) -> None:
    state = ExplorerState()
    state.take(
        network(tmp_path, "(float[n,4] x, float[1,4] z, float k) => (float[n,4] y) { t = Mul(x, k) y = Add(t, z) }")
    )
    state.bounds = {"n": ("2", "3", "5")}
    assert [item.by_name["y"].shape for item in state.shapes().values()] == [(2, 4), (3, 4), (5, 4)]
    assert state.shapes()["min"].unknown == ()


# ---- code


def test_the_python_code_runs_and_makes_the_same_model_and_profile(tmp_path: Path) -> None:
    state = ExplorerState()
    graph = "(float[1,4] ids, float[1,4] mask) => (float[1,3] y) { c = Concat<axis=1>(ids, mask) y = Gemm(c, w) }"
    state.take(network(tmp_path, graph, name="it's a net", w=floats(8, 3)))
    state.change("ids:0,mask:0=batch")
    assert state.mistake == ""
    state.bounds = {"batch": ("1", "2", "16")}
    script = tmp_path / "script.py"
    script.write_text(state.code()["Python"] + "\nprint(model.sha256)\nprint(wb.EngineBuilder if 0 else profile)")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == "" and state.model is not None
    assert done.stdout.splitlines() == [state.model.sha256, str(state.profile)]


def test_the_command_line_shows_the_same_dimensions(state: ExplorerState, capsys: pytest.CaptureFixture[str]) -> None:
    state.change("batch=n")
    program, *arguments = shlex.split(state.code()["Command line"])
    assert program == "workbench" and main(arguments) == 0
    assert "image: float32[n, 1, 28, 28]" in capsys.readouterr().out


# ---- the widgets


def test_the_explorer_gives_the_model_and_the_profile_as_they_are(tmp_path: Path) -> None:
    explorer = ShapeExplorer(FASHION_CNN)
    explorer.state.change("image:2=height")
    explorer.state.bounds = {"batch": ("1", "2", "4"), "height": ("28", "28", "56")}
    assert explorer.model is explorer.state.model
    assert explorer.profile.ranges["image"].max == (4, 1, 56, 28)
    explorer.state.bounds = {**explorer.state.bounds, "batch": ("1", "", "4")}
    with pytest.raises(ShapeError, match="a size is missing"):
        _ = explorer.profile


def test_the_explorer_takes_a_model_that_was_changed_already() -> None:
    model = edit(load_model(FASHION_CNN), "batch=4")
    explorer = ShapeExplorer(model)
    assert explorer.model is model and explorer.profile == OptimizationProfile({})


def texts(widget: object) -> str:
    """Everything that stands in the HTML of a widget and those in it."""
    inside = [texts(child) for child in getattr(widget, "children", ())]
    value = getattr(widget, "value", "")
    return "\n".join([value if isinstance(value, str) else "", *inside])


def find(widget: object, description: str) -> object:
    """The button with this on it."""
    if getattr(widget, "description", "") == description:
        return widget
    found = (find(child, description) for child in getattr(widget, "children", ()))
    return next((item for item in found if item is not None), None)


def test_the_view_follows_the_state() -> None:
    explorer = ShapeExplorer(FASHION_CNN)
    undo = find(explorer, "Undo")
    assert undo.disabled  # type: ignore[attr-defined]
    explorer.state.change("batch=rows")
    assert "<i>rows</i>" in texts(explorer) and not undo.disabled  # type: ignore[attr-defined]
    explorer.state.words = "logits"
    assert "1 tensor;" in texts(explorer)
    explorer.state.change("nothing=4")
    assert "no dimension &#x27;nothing&#x27;" in texts(explorer)
    undo.click()  # type: ignore[attr-defined]
    assert "<i>batch</i>" in texts(explorer) and "<i>rows</i>" not in texts(explorer)
    explorer.state.change("batch=rows")
    explorer.state.load("missing.onnx")
    assert undo.disabled and "there is no such file" in texts(explorer)  # type: ignore[attr-defined]


def test_nothing_that_was_typed_gets_into_the_page_as_html() -> None:
    explorer = ShapeExplorer(FASHION_CNN)
    explorer.state.change("batch=n<script>alert(1)</script>")
    assert explorer.state.mistake == "" and "Done: " in texts(explorer)
    assert "<script" not in texts(explorer)
    explorer.state.change("<script>alert(1)</script>=4")
    assert "no dimension" in texts(explorer) and "<script" not in texts(explorer)


def test_a_builder_starts_with_the_explorers_model_and_sizes(tmp_path: Path) -> None:
    explorer = ShapeExplorer(FASHION_CNN)
    explorer.state.change("image:2=height")
    explorer.state.bounds = {"batch": ("2", "3", "4"), "height": ("28", "28", "56")}
    assert explorer.model is not None
    builder = EngineBuilder(explorer.model, profile=explorer.profile, store=EngineStore(tmp_path / "store"))
    assert builder.state.model is explorer.model
    assert builder.state.bounds == explorer.state.bounds
    assert builder.state.config().profiles in ((), (explorer.profile,))


@pytest.mark.rtx
def test_a_builder_asks_its_back_end_for_the_given_profile(tmp_path: Path) -> None:
    profile = OptimizationProfile({"image": ShapeRange((2, 1, 28, 28), (3, 1, 28, 28), (4, 1, 28, 28))})
    builder = EngineBuilder(FASHION_CNN, profile=profile, store=EngineStore(tmp_path / "store"))
    builder.state.backend = "rtx"
    assert builder.state.config().profiles == (profile,)
    assert builder.state.problem() == ""


def test_a_profile_of_another_model_changes_no_sizes(tmp_path: Path) -> None:
    other = OptimizationProfile({"picture": ShapeRange((2,), (2,), (2,)), "image": ShapeRange((), (), ())})
    builder = EngineBuilder(FASHION_CNN, profile=other, store=EngineStore(tmp_path / "store"))
    assert builder.state.bounds == {"batch": ("1", "1", "8")}


@pytest.mark.parametrize("given", [OCR_CLS, str(OCR_CLS), load_model(OCR_CLS)], ids=["path", "text", "model"])
def test_the_dimension_table_takes_a_model_or_its_path(given: object) -> None:
    html = DimensionTable(given).value  # type: ignore[arg-type]
    assert "one name for two dimensions" in html
    assert "fixed by Conv <code>Conv@0</code>: it takes 3 channels, not 6" in html


def test_a_model_that_was_exported_again_and_froze_what_was_opened_is_refused_with_the_node(tmp_path: Path) -> None:
    state = ExplorerState()
    state.take(network(tmp_path, FOLD, to=ints(-1, 64), w=floats(64, 3)))
    state.change("x:0=batch")
    assert state.model is not None and not state.mistake
    network(tmp_path, FOLD.replace("[dot]", "[dot] "), to=ints(1, 64), w=floats(64, 3))
    before = state.model
    with pytest.raises(ShapeError, match=r"cannot be opened.*Reshape fold"):
        state.read_again_if_changed()
    assert state.model is before
