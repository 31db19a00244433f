"""The upper half of TimingBoard: what to measure, how long, and Run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
from traitlets import link

from workbench.widgets import render, render_timing
from workbench.widgets.form import ShapeTable
from workbench.widgets.parts import Fold, button, field, number, row, said
from workbench.widgets.progress import ProgressView
from workbench.widgets.timing_choices import Candidate
from workbench.widgets.timing_state import MEASURING, TimingState

_SIZES = "Engines are built for min to max; what is measured runs at opt."


class Several(widgets.HBox):
    """Buttons of which any number is on; those with a reason cannot be chosen and show it as their tooltip."""

    def __init__(self, candidates: Sequence[Candidate], chosen: Sequence[str], choose: Any) -> None:
        super().__init__()
        self.add_class("wb-choice")
        self.buttons: dict[str, widgets.ToggleButton] = {}
        self._labels = {item.name: item.label for item in candidates}
        for item in candidates:
            made = widgets.ToggleButton(tooltip=item.reason or item.name, disabled=bool(item.reason))
            made.observe(lambda change, name=item.name: choose(name, change["new"]), "value")
            self.buttons[item.name] = made
        self.children = tuple(self.buttons.values())
        self.show(chosen)

    def show(self, chosen: Sequence[str]) -> None:
        for name, made in self.buttons.items():
            made.value = name in chosen
            made.description = f"✓ {self._labels[name]}" if made.value else self._labels[name]


class CandidatePicker:
    """A row for what the notebook gave, every back end, the store, baselines, and what cannot run here."""

    def __init__(self, state: TimingState) -> None:
        self.state = state
        self.box = widgets.VBox()
        self._rows: dict[str, tuple[Several, widgets.HTML]] = {}
        state.observe(lambda change: self._build(), "offered")
        state.observe(lambda change: self._show(), "chosen")
        self._build()

    def _build(self) -> None:
        self._rows, boxes = {}, []
        for title in dict.fromkeys(item.row for item in self.state.offered):
            choice = Several(self._in(title), self.state.chosen, self.state.choose)
            note = widgets.HTML()
            self._rows[title] = (choice, note)
            boxes.append(row(title, choice, note))
        self.box.children = tuple(boxes)
        self._show()

    def _in(self, title: str) -> list[Candidate]:
        return [item for item in self.state.offered if item.row == title]

    def _show(self) -> None:
        for title, (choice, note) in self._rows.items():
            choice.show(self.state.chosen)
            note.value = render_timing.candidate_notes(self._in(title), self.state.chosen)
            note.layout.display = "" if note.value else "none"


class ReferencePicker:
    """Which of the chosen ones the others are compared with."""

    def __init__(self, state: TimingState) -> None:
        self.state = state
        self.choice = widgets.Dropdown(layout=widgets.Layout(width="300px"), tooltip="compare with")
        self.box = row("Compare with", self.choice)
        self.choice.observe(lambda change: self._chosen(change["new"]), "value")
        state.observe(lambda change: self._show(), ["offered", "chosen", "reference"])
        self._show()

    def _chosen(self, name: str | None) -> None:
        if name and name != self.state.compared_with:
            self.state.reference = name

    def _show(self) -> None:
        names = [item.name for item in self.state.candidates]
        if list(self.choice.options) != names:
            wanted = self.state.compared_with
            self.choice.options = names
            self.choice.value = wanted or None
        elif names:
            self.choice.value = self.state.compared_with
        self.choice.disabled = len(names) < 2


class RunForm:
    """Runs and time, batches, samples, sizes and ranges."""

    def __init__(self, state: TimingState) -> None:
        self.state = state
        self.layers = widgets.Checkbox(description="time every layer too", indent=False)
        link((state, "layers"), (self.layers, "value"))
        self.data_note, self.inputs = widgets.HTML(), widgets.HTML()
        self.data = field(state, "data", "400px", "pictures, .npz, .npy, data set; labels tell accuracy")
        limit = (said("runs of each, in about"), number(state, "limit"), said("seconds at most"))
        rates = (said("batches"), number(state, "batches", "120px"), said("streams"), number(state, "streams"))
        half = said("half a second each; no batches: no sweep")
        ranges = field(state, "calibration", "400px", "a collection, a table, or samples as .npz, for int8")
        sizes = (ShapeTable(state, _SIZES).box, row("Inputs", self.inputs), row("Calibration", ranges))
        many = said("samples; empty for all")
        self.boxes = [
            row("Runs", number(state, "iterations"), *limit, self.layers),
            row("Throughput", *rates, half),
            row("Accuracy on", self.data, widgets.HBox([number(state, "count"), many]), self.data_note),
            Fold("Sizes and ranges", *sizes),
        ]
        state.observe(lambda change: self._show(), ["data", "data_note", "data_error", "model", "bounds"])
        self._show()

    def _show(self) -> None:
        state = self.state
        usual = render.quiet("Empty: outputs are compared on what is measured on, and no accuracy is told.")
        self.data_note.value = render.mistake(state.data_error) or render.quiet(state.data_note) or usual
        self.inputs.value = render_timing.inputs_note(state.inputs, state.is_own_feeds)


class Running:
    """Run and Cancel, why Run waits, phases and log."""

    def __init__(self, state: TimingState) -> None:
        self.state = state
        self.run, self.cancel = button("Run", state.start, primary=True), button("Cancel", state.cancel)
        self.verdict = widgets.HTML()
        self.actions = widgets.HBox([self.run, self.cancel, self.verdict])
        self.actions.add_class("wb-actions")
        self.progress = ProgressView(state, [MEASURING], "Log").box
        self.error = widgets.HTML()
        state.observe(lambda change: self._show())
        self._show()

    def _show(self) -> None:
        state = self.state
        problem = "" if state.busy else state.problem()
        self.run.disabled = bool(problem)
        (self.run.add_class if state.busy else self.run.remove_class)("wb-waiting")
        self.cancel.disabled = not state.busy
        if state.busy:
            self.verdict.value = f"<span role='status'>Measuring … {state.elapsed_s:.1f} s</span>"
        else:
            is_said = bool(state.data_error) or state.model is None
            self.verdict.value = "" if is_said else render.mistake(problem)
        self.error.value = render.error_card(state.error, state.study)
