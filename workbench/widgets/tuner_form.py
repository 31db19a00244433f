"""The upper half of Tuner: model and data, what matters, the space, the budget, where it runs."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets
from traitlets import link

from workbench.evaluation import METRICS
from workbench.tuning.goals import OBJECTIVES
from workbench.widgets import render, render_tuner
from workbench.widgets.calibration_form import DataPicker, PreprocessingFields
from workbench.widgets.form import ShapeTable
from workbench.widgets.parts import Choice, Fold, Option, button, field, number, row, said
from workbench.widgets.tuner_form_state import FORM
from workbench.widgets.tuner_knobs import KnobRow
from workbench.widgets.tuner_run import ADDRESS, HERE, LOCAL, WHERE
from workbench.widgets.tuner_state import TunerState

_METRICS = {"": "what suits the data", "top1": "top-1", "top5": "top-5", "argmax": "answers", "relative": "error in %"}
_NO_DATA = "Empty: outputs are compared on random arrays, and int8 is left out, as it needs ranges."
_ORDER = "In this order: the first decides, the next among those that cannot be told apart."
_SIZES = "What is timed runs at opt, where no data tell the shapes."
_WHERE = {
    HERE: "One trial after another, in this notebook's process. Its other cells wait for the processor meanwhile.",
    LOCAL: "Processes of their own, one for each GPU: a crash costs one trial, and the notebook stays free.",
    ADDRESS: "A Dask scheduler. Each kind of machine gets results of its own.",
}


class DataRow:
    """Where the samples are, and how pictures become inputs."""

    def __init__(self, state: TunerState) -> None:
        self.state = state
        picker = DataPicker(state, "folder of pictures, .npz, .npy, data set", self._about)
        how = PreprocessingFields(state)
        self.how = Fold("How pictures become inputs", how.box, how.seen)
        self.boxes = [picker.box, self.how]
        state.observe(lambda change: self._show(), ["fields", "shown"])
        self._show()

    def _show(self) -> None:
        self.how.layout.display = "" if self.state.fields or self.state.shown else "none"

    def _about(self) -> str:
        samples = self.state.samples
        return f"{samples.about} Some find the ranges for int8, others tell the accuracy." if samples else _NO_DATA


class GoalRows:
    """What shall be good, in order, and what must hold."""

    def __init__(self, state: TunerState) -> None:
        self.state = state
        self.buttons = {name: widgets.ToggleButton() for name in OBJECTIVES}
        choice = widgets.HBox(tuple(self.buttons.values()))
        choice.add_class("wb-choice")
        self.problem = widgets.HTML()
        self.metric = widgets.Dropdown(
            options=[(_METRICS[name], name) for name in ("", *METRICS)], tooltip="accuracy told in",
            layout=widgets.Layout(width="190px"),
        )  # fmt: skip
        link((state, "metric"), (self.metric, "value"))
        order = widgets.HTML(render.quiet(_ORDER))
        limits = field(state, "limits", "400px", "such as accuracy<=0.2, latency<=2, size<=10M")
        self.boxes = [
            row("Objectives", choice, order),
            row("Limits", limits, widgets.HBox([said("accuracy lost, in"), self.metric]), self.problem),
        ]
        for name, item in self.buttons.items():
            item.observe(lambda change, name=name: self._clicked(name, change["new"]), "value")
        state.observe(lambda change: self._show(), ["objectives", "limits", "metric"])
        self._show()

    def _clicked(self, name: str, on: bool) -> None:
        if on != (name in self.state.objectives):
            self.state.wish_for(name, on)
        self._show()

    def _show(self) -> None:
        chosen = list(self.state.objectives)
        for name, item in self.buttons.items():
            item.value = name in chosen
            item.description = f"{chosen.index(name) + 1} {name}" if name in chosen else name
            item.tooltip = f"{name}: {'leave it out' if name in chosen else 'add it as the last'}"
        usual = "What is lost of accuracy in points, latency in ms, throughput per second, sizes as 10M; with commas."
        self.problem.value = render.mistake(self.state.limit_problem()) or render.quiet(usual)


class SpaceRow:
    """How many candidates, and a line for every knob; those without effect are dim and say why."""

    def __init__(self, state: TunerState) -> None:
        self.state = state
        self.sizes, self.lines = widgets.HTML(), widgets.VBox()
        self.undo = button("As usual", state.as_usual)
        self.fold = Fold("Knobs", self.lines, self.undo, is_open=True)
        self.fold.add_class("wb-knobs")
        self.box = row("Space", self.sizes, self.fold)
        self.fields: dict[str, tuple[widgets.HBox, widgets.Text, widgets.HTML]] = {}
        watched = ["model", "samples", "calibration", "knobs", "where"]
        state.observe(lambda change: self._show(), watched)
        self._show()

    def _line(self, item: KnobRow) -> tuple[widgets.HBox, widgets.Text, widgets.HTML]:
        field = widgets.Text(value=item.text, continuous_update=False, tooltip=item.title)
        note = widgets.HTML()
        line = widgets.HBox([widgets.HTML(item.title), field, note])
        line.add_class("wb-knob")
        field.observe(lambda change: self._typed(item.knob, change["new"]), "value")
        return line, field, note

    def _typed(self, knob: str, text: str) -> None:
        if self.state.knobs.get(knob) != text:
            self.state.set_knob(knob, text)

    def _show(self) -> None:
        rows = self.state.knob_rows()
        self.fold.layout.display = "" if rows else "none"
        if rows and not self.fields:
            self.fields = {item.knob: self._line(item) for item in rows}
            self.lines.children = tuple(line for line, _, _ in self.fields.values())
        for item in rows:
            line, field, note = self.fields[item.knob]
            field.value, note.value = item.text, render_tuner.knob_note(item)
            (line.add_class if item.idle else line.remove_class)("wb-idle")
            (line.add_class if item.problem else line.remove_class)("wb-wrong")
        self.undo.disabled = self.state.usual is None or self.state.is_unchanged
        missing = self.state.model is None or self.state.usual is None
        why = self.state.usual_error or "It follows the model and the data."
        self.sizes.value = render.quiet(why) if missing else render_tuner.size_lines(*self.state.sizes())


class BudgetRows:
    """How long, and where."""

    def __init__(self, state: TunerState) -> None:
        self.state = state
        self.problem, self.note = widgets.HTML(), widgets.HTML()
        self.where = Choice([Option(name, title) for name, title in WHERE.items()], state.where)
        self.address = field(state, "address", "240px", "tcp://host:8786")
        trials, minutes = number(state, "trials"), number(state, "minutes")
        unit = said("minutes; whichever is spent first, empty for no limit")
        self.boxes = [
            row("Budget", trials, said("trials in all, or"), minutes, unit, self.problem),
            row("Where", self.where, self.address, self.note),
        ]
        self.where.observe(lambda change: setattr(state, "where", change["new"]), "value")
        state.observe(lambda change: self._show(), ["trials", "minutes", "where", "address"])
        self._show()

    def _show(self) -> None:
        state = self.state
        self.where.choose(state.where)
        self.address.layout.display = "" if state.where == ADDRESS else "none"
        self.problem.value = render.mistake(state.budget_problem())
        self.problem.layout.display = "" if self.problem.value else "none"
        wrong = state.where_problem() if state.address.strip() else ""
        self.note.value = render.mistake(wrong) or render.quiet(_WHERE[state.where])


class MoreFold:
    """How many samples, ranges that are there already, sizes; folded away."""

    def __init__(self, state: TunerState) -> None:
        self.state = state
        self.note = widgets.HTML()
        calibrated, compared = number(state, "calibrated"), number(state, "compared")
        ranges = field(state, "calibration", "400px", "a collection or a table, for int8", "ranges")
        self.fold: Any = Fold(
            "Samples, ranges and sizes",
            row("Samples", said("ranges from"), calibrated, said("outputs compared on"), compared, said("others")),
            row("Ranges", ranges, self.note),
            ShapeTable(state, _SIZES).box,
        )
        state.observe(lambda change: self._show(), list(FORM))
        self._show()

    def _show(self) -> None:
        usual = "Empty: they are collected from the data, once; the next search finds them."
        wrong = "" if self.state.data_error else self.state.data_problem()
        self.note.value = render.mistake(wrong) or render.quiet(usual)
