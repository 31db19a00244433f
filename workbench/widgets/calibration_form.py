"""The upper half of CalibrationStudio: model, data, preprocessing, the first samples, collecting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
from traitlets import link

from workbench.errors import WorkbenchError
from workbench.preprocessing import CHANNELS, LAYOUTS, RESIZES
from workbench.widgets import render, render_calibration
from workbench.widgets.calibration_state import COLLECTING, CalibrationState
from workbench.widgets.data_state import DataState
from workbench.widgets.parts import button, row
from workbench.widgets.preprocessing_fields import FIELDS
from workbench.widgets.progress import ProgressView

_CHOICES = {"resize": RESIZES, "channels": tuple(CHANNELS), "layout": LAYOUTS}


class DataPicker:
    """Where the samples are, and what was found there. about: tells it, or what is wanted."""

    def __init__(self, state: DataState, placeholder: str, about: Callable[[], str]) -> None:
        self.state, self.about = state, about
        self.path = widgets.Text(
            placeholder=placeholder, continuous_update=False, tooltip="data", layout=widgets.Layout(width="460px")
        )
        self.note = widgets.HTML()
        self.box = row("Data", self.path, self.note)
        self.path.observe(lambda change: self._chosen(change["new"].strip()), "value")
        state.observe(lambda change: self.show(), ["data", "data_error", "field_error", "samples"])
        self.show()

    def _chosen(self, path: str) -> None:
        if path != self.state.data:
            self.state.open_data(path)

    def show(self) -> None:
        self.path.value = self.state.data
        self.note.value = render.mistake(self.state.data_error) or render.quiet(self.about())


def calibration_data(state: CalibrationState) -> DataPicker:
    """Data may also be a collection."""

    def about() -> str:
        if state.opened:
            return "A collection made before; there is nothing to collect."
        usual = "Some hundred samples like those the network will meet; other ones than you test with."
        return state.samples.about if state.samples is not None else usual

    picker = DataPicker(state, "folder of pictures, .npz, .npy, data set, or a collection (.calib)", about)
    state.observe(lambda change: picker.show(), "opened")
    return picker


class PreprocessingFields:
    """How pictures become inputs, as found, to be edited; and the first ones as the network sees them."""

    def __init__(self, state: DataState) -> None:
        self.state = state
        self.fields = {name: _field(name) for name in FIELDS}
        self.undo = button("As found", state.as_found)
        self.controls = (*self.fields.values(), self.undo)
        self.wrong = widgets.HTML()
        grid = widgets.Box([_named(name, field) for name, field in self.fields.items()])
        grid.add_class("wb-fields")
        self.box = row("Preprocessing", grid, self.undo, self.wrong)
        self.pictures = widgets.HTML()
        self.seen = row("Network sees", self.pictures)
        for name, field in self.fields.items():
            field.observe(lambda change, name=name: self._edited(name, change["new"]), "value")
        state.observe(lambda change: self._show(), ["fields", "field_error", "shown"])
        self._show()

    def _edited(self, name: str, text: str) -> None:
        self.state.edit_field(name, text)

    def _show(self) -> None:
        state = self.state
        self.box.layout.display = "" if state.fields else "none"
        self.seen.layout.display = "" if state.shown else "none"
        for name, field in self.fields.items():
            if state.fields:
                field.value = state.fields[name]
        self.wrong.value = render.mistake(state.field_error)
        is_changed = bool(state.field_error) or state.stated is not None
        self.undo.layout.display = "" if is_changed else "none"
        self.pictures.value = render_calibration.previews(state.shown)


def _field(name: str) -> Any:
    if name in _CHOICES:
        return widgets.Dropdown(options=_CHOICES[name], tooltip=name)
    return widgets.Text(continuous_update=False, tooltip=name)


def _named(name: str, field: Any) -> widgets.VBox:
    box = widgets.VBox([widgets.HTML(f"<b>{name}</b> <span class='wb-quiet'>{FIELDS[name]}</span>"), field])
    box.add_class("wb-field")
    return box


class Collecting:
    """How many samples, Collect and Cancel, progress and time left."""

    def __init__(self, state: CalibrationState) -> None:
        self.state = state
        self.count = widgets.Text(layout=widgets.Layout(width="76px"), tooltip="number of samples")
        self.count.add_class("wb-number")
        self.settled = widgets.Checkbox(description="stop when no range grows any more", indent=False)
        note = render.quiet("spread over all of them; empty for all. Memory does not grow with them.")
        self.box = row("Samples", self.count, self.settled, widgets.HTML(note))
        self.collect = button("Collect", state.start, primary=True)
        self.cancel = button("Cancel", state.cancel)
        self.verdict = widgets.HTML()
        self.actions = widgets.HBox([self.collect, self.cancel, self.verdict])
        self.actions.add_class("wb-actions")
        self.progress = ProgressView(state, [COLLECTING], "Log").box
        link((state, "count"), (self.count, "value"))
        link((state, "until_settled"), (self.settled, "value"))
        state.observe(lambda change: self._show())
        for other in (state.checks, state.writer):
            other.observe(lambda change: self._show(), "status")
        self._show()

    def _show(self) -> None:
        state = self.state
        problem = "" if state.busy else state.problem()
        self.collect.disabled = bool(problem)
        (self.collect.add_class if state.busy else self.collect.remove_class)("wb-waiting")
        self.cancel.disabled = not state.busy
        for control in (self.count, self.settled):
            control.disabled = state.busy
        self.collect.description = "Go on" if not state.busy and not problem and self._can_resume() else "Collect"
        if state.busy:
            left = state.time_left_s
            more = f" · about {max(left, 0):.0f} s left" if left is not None else ""
            self.verdict.value = f"<span role='status'>Collecting … {state.elapsed_s:.1f} s{more}</span>"
        else:
            is_said = bool(state.data_error or state.field_error or state.opened or state.model_error)
            self.verdict.value = "" if is_said else render.quiet(problem)
            if problem and state.samples is not None:
                self.verdict.value = render.mistake(problem)

    def _can_resume(self) -> bool:
        try:
            return self.state.can_resume
        except WorkbenchError:
            return False
