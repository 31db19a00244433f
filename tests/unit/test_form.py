"""The form's controls and the state say the same, whoever changes which."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from models import FASHION_CNN

from workbench.store import EngineStore
from workbench.widgets.beginning import sample_models
from workbench.widgets.form import AdvancedOptions, ShapeTable, reuse_box
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


def test_of_targets_that_exclude_one_another_exactly_one_is_chosen(state: BuilderState) -> None:
    targets = {"targets": ("gpu", "ampere+"), "default_targets": ("gpu",), "one_target": True}
    state.supports = {**state.supports, "onnxruntime": replace(state.supports["onnxruntime"], **targets)}
    state.backend = "onnxruntime"
    (choice,) = AdvancedOptions(state).targets.children
    gpu, ampere = choice.children
    assert (gpu.value, ampere.value, state.targets) == (True, False, None)
    assert ampere.description == "ampere+ (Ampere and newer)"
    ampere.value = True
    assert (gpu.value, state.targets) == (False, ("ampere+",))
    gpu.value = True
    assert (ampere.value, state.targets) == (False, None)


def test_int8_asks_for_a_calibration(state: BuilderState, tmp_path: Path) -> None:
    state.backend = "onnxruntime"
    options = AdvancedOptions(state)
    assert options.calibration_row.layout.display == "none" and not options.fold.is_open
    state.precision = "int8"
    assert options.calibration_row.layout.display == "" and options.fold.is_open
    assert "int8 needs the range of every activation" in options.calibration_note.value
    options.calibration.value = str(tmp_path / "none.npz")
    assert "there is no such calibration file" in options.calibration_note.value
    (tmp_path / "samples.npz").touch()
    options.calibration.value = str(tmp_path / "samples.npz")
    assert options.calibration_note.value == "" and state.calibration == options.calibration.value
    state.precision = "fp32"
    assert options.calibration_row.layout.display == "none"


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
