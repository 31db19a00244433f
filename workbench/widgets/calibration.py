"""CalibrationStudio: collect once, look at every tensor, choose ranges, keep the accuracy, write any form."""

from __future__ import annotations

from pathlib import Path

import ipywidgets as widgets

from workbench.calibration.collection import Collection
from workbench.model import Model
from workbench.store import EngineStore
from workbench.types import Calibration
from workbench.widgets import render, render_calibration
from workbench.widgets.beginning import begin
from workbench.widgets.browser import Manners
from workbench.widgets.calibration_form import Collecting, PreprocessingFields, calibration_data
from workbench.widgets.calibration_results import Checks, Writing
from workbench.widgets.calibration_state import FORM, CalibrationState
from workbench.widgets.calibration_tensors import TensorDetail, TensorList
from workbench.widgets.data_state import Data
from workbench.widgets.form import ModelPicker
from workbench.widgets.parts import CodeFold

_TENSORS = "Every tensor with the range that int8 keeps of it. What is beyond is clipped; what is within is rounded."
_COSTS = "Which layers hurt, the fewest to leave in float, and accuracy before and after; all on this processor."
_FILES = "Any form for any release, checked against the model."


class CalibrationStudio(widgets.VBox):
    """From a model and its data to ranges for int8; `state` holds everything and can be used without the view.

    model: a Model, a path, or nothing to start with the first model of data/. data: a folder of pictures, arrays (also
    in memory), a data set, or a collection (`*.calib`) made before. store: where a stopped collection waits to go on.
    `collection` is what was collected, `calibration` what was written last, for BuildConfig.
    """

    def __init__(
        self,
        model: Model | str | Path | None = None,
        data: Data | None = None,
        *,
        store: EngineStore | None = None,
    ) -> None:
        self.state = CalibrationState(store)
        begin(self.state, model)
        if data is not None:
            self.state.open_data(data)
        model_picker, data_picker = ModelPicker(self.state), calibration_data(self.state)
        how, collecting = PreprocessingFields(self.state), Collecting(self.state)
        self._form = (model_picker.known, model_picker.path, model_picker.upload, data_picker.path, *how.controls)
        form = widgets.VBox([model_picker.box, data_picker.box, how.box, how.seen, collecting.box])
        form.add_class("wb-form")
        self._result = widgets.HTML()
        ranges = [TensorList(self.state.ranges).box, TensorDetail(self.state.ranges).box]
        self._sections = [
            _section("Tensors", _TENSORS, *ranges),
            _section("What int8 costs", _COSTS, Checks(self.state).box),
            _section("Write", _FILES, Writing(self.state).box),
        ]
        code = CodeFold(self.state, ("Python", "Command line"), FORM)
        parts = [form, collecting.actions, collecting.progress, self._result, *self._sections, code.fold, Manners()]
        super().__init__([widgets.HTML(render_calibration.STYLE), *parts])
        self.add_class("wb")
        self.state.observe(lambda change: self._show(), ["collection", "error", "status"])
        self.state.ranges.observe(lambda change: self._show(), ["algorithm", "overrides"])
        for watched in (self.state, self.state.checks, self.state.writer):
            watched.observe(lambda change: self._lock(), "status")
        self._show()

    @property
    def model(self) -> Model | None:
        return self.state.model

    @property
    def collection(self) -> Collection | None:
        return self.state.collection

    @property
    def calibration(self) -> Calibration:
        """What was written last. Raises ConfigError where nothing was, or other ranges are chosen by now."""
        return self.state.calibration

    def _lock(self) -> None:
        """What runs belongs to the model and the data that are there."""
        for control in self._form:
            control.disabled = self.state.is_locked

    def _show(self) -> None:
        state = self.state
        for item in self._sections:
            item.layout.display = "" if state.collection is not None else "none"
        card = render.error_card(state.error, state.collection)
        if state.collection is not None:
            ranges = state.ranges
            card += render_calibration.collection_card(state.collection, ranges.algorithm, len(ranges.overrides))
        elif not card and not state.busy:
            card = render.quiet(render_calibration.EMPTY)
        self._result.value = card


def _section(title: str, about: str, *parts: widgets.Widget) -> widgets.VBox:
    box = widgets.VBox([widgets.HTML(render_calibration.section(title, about)), *parts])
    box.add_class("wb-section")
    return box
