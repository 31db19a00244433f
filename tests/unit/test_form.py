"""The form's controls and the state say the same, whoever changes which."""

from __future__ import annotations

from pathlib import Path

import pytest
from models import FASHION_CNN

from workbench.store import EngineStore
from workbench.widgets.form import AdvancedOptions, ShapeTable, reuse_box, sample_models
from workbench.widgets.state import BuilderState


@pytest.fixture
def state(tmp_path: Path) -> BuilderState:
    made = BuilderState(EngineStore(tmp_path / "store"))
    made.load(FASHION_CNN)
    return made


@pytest.mark.rtx
def test_shapes_follow_the_state_and_the_state_what_is_typed(state: BuilderState) -> None:
    table = ShapeTable(state)
    low, _, high = table.fields["batch"]
    high.value = "32"
    assert state.bounds["batch"] == ("1", "1", "32")
    state.bounds = {"batch": ("2", "4", "8")}
    assert (low.value, high.value) == ("2", "8")
    low.value = "9"
    assert "min 9 is larger than opt 4" in table.problems["batch"].value


@pytest.mark.rtx
def test_unticking_every_target_is_no_wish_for_all_of_them(state: BuilderState) -> None:
    options = AdvancedOptions(state)
    for box in options.targets.children:
        box.value = False
    assert state.targets == ()
    options.targets.children[3].value = True
    assert state.targets == ("sm89",)


def test_options_are_linked_both_ways(state: BuilderState) -> None:
    options, reuse = AdvancedOptions(state), reuse_box(state)
    options.workspace.value = "1G"
    state.keep_io_types, state.reuse = False, False
    assert (state.workspace, options.keep.value, reuse.value) == ("1G", False, False)


def test_sample_models_are_those_beside_the_notebook(tmp_path: Path) -> None:
    (tmp_path / "data" / "models").mkdir(parents=True)
    (tmp_path / "data" / "models" / "mine.onnx").touch()
    (tmp_path / "notebooks").mkdir()
    assert [path.name for path in sample_models(tmp_path / "notebooks")] == ["mine.onnx"]
    assert FASHION_CNN.name in {path.name for path in sample_models(Path("/"))}
