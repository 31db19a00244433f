"""The lower half of CalibrationStudio: what int8 costs, and the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ipywidgets as widgets
from traitlets import link

from workbench.errors import WorkbenchError
from workbench.evaluation import METRICS
from workbench.model import load_model
from workbench.widgets import render, render_calibration
from workbench.widgets.browser import CopyButton
from workbench.widgets.builder import EngineBuilder
from workbench.widgets.calibration_state import CalibrationState
from workbench.widgets.check_state import CHECKING, JUDGING, MEASURING, PLANNING
from workbench.widgets.parts import Choice, Option, button, row, said
from workbench.widgets.progress import ProgressView
from workbench.widgets.write_state import FORMS

_DOING = {MEASURING: "Measuring layers", PLANNING: "Searching a plan", JUDGING: "Measuring accuracy"}
_METRICS = {"": "automatic", "top1": "top-1", "top5": "top-5", "argmax": "answers", "relative": "error"}


class Checks:
    """Bars of the layers' harm, the plan, accuracy before and after."""

    def __init__(self, state: CalibrationState) -> None:
        self.state = state.checks
        self.data = widgets.Text(
            placeholder="empty: those of the data above that were not collected", continuous_update=False,
            layout=widgets.Layout(width="460px"),
        )  # fmt: skip
        self.metric = Choice([Option(name, _METRICS[name]) for name in ("", *METRICS)], self.state.metric)
        self.measure = button("Measure layers", self.state.measure)
        self.search = button("Find a plan", self.state.search)
        self.judge = button("Measure accuracy", self.state.judge)
        self.cancel = button("Cancel", self.state.cancel)
        self.verdict, self.error = widgets.HTML(), widgets.HTML()
        self.bars, self.plan, self.accuracy = widgets.HTML(), widgets.HTML(), widgets.HTML()
        half = "One half of them finds layers and plan, the other one judges."
        form = [
            row("Test samples", self.data, widgets.HTML(render.quiet(half))),
            row("Layers", self._number("layer_count"), said("samples for each layer"), self.measure),
            row("Plan", self._number("plan_count"), said("samples; lose at most"), *self._plan_controls()),
            row("Accuracy", self._number("accuracy_count"), said("samples; empty for all"), self.judge),
        ]
        self.actions = actions = widgets.HBox([self.cancel, self.verdict])
        actions.add_class("wb-actions")
        progress = ProgressView(self.state, CHECKING, "Log").box
        self.box = widgets.VBox([*form, actions, progress, self.error, self.accuracy, self.plan, self.bars])
        link((self.state, "data"), (self.data, "value"))
        self.metric.observe(lambda change: setattr(self.state, "metric", change["new"]), "value")
        for watched in (self.state, state):
            watched.observe(lambda change: self._show_actions())
        state.ranges.observe(lambda change: self._show_actions(), ["collection", "algorithm", "overrides"])
        self.state.observe(lambda change: self._show(), ["layers", "plan", "accuracy", "error"])
        self._show_actions()
        self._show()

    def _plan_controls(self) -> list[Any]:
        return [self._number("max_drop"), said("of"), self.metric, self.search]

    def _number(self, trait: str) -> widgets.Text:
        field = widgets.Text(layout=widgets.Layout(width="76px"), tooltip=trait.replace("_", " "))
        field.add_class("wb-number")
        link((self.state, trait), (field, "value"))
        return field

    def _show_actions(self) -> None:
        state = self.state
        problem = state.problem()
        for item in (self.measure, self.search, self.judge):
            item.disabled = bool(problem)
            (item.add_class if state.busy else item.remove_class)("wb-waiting")
        self.cancel.disabled = not state.busy
        if state.busy:
            self.verdict.value = f"<span role='status'>{_DOING[state.status]} … {state.elapsed_s:.1f} s</span>"
        elif state.is_stale:
            self.verdict.value = render.mistake("Ranges were chosen anew since: measure again.")
        else:
            self.verdict.value = render.quiet(problem)
        self.actions.layout.display = "" if state.busy or self.verdict.value else "none"

    def _show(self) -> None:
        state = self.state
        keep = state.plan.keep if state.plan else ()
        self.bars.value = render_calibration.harm_bars(state.layers, keep, state.gain) if state.layers else ""
        self.plan.value = render_calibration.plan_card(state.plan) if state.plan else ""
        self.accuracy.value = render_calibration.accuracy_table(state.accuracy) if state.accuracy else ""
        self.error.value = render.error_card(state.error)


class Writing:
    """Form and path, the file that was written, an engine of it."""

    def __init__(self, state: CalibrationState) -> None:
        self.studio, self.state = state, state.writer
        self.form = Choice([Option(name, name) for name in FORMS], self.state.form)
        self.note = widgets.HTML()
        self.release = widgets.Text(layout=widgets.Layout(width="96px"), tooltip="TensorRT's release")
        self.release_box = row("Release", self.release, said("TensorRT's, as 8.6.1; another may refuse it"))
        self.with_plan = widgets.Checkbox(description="leave the plan's layers in float", indent=False)
        self.path = widgets.Text(layout=widgets.Layout(width="460px"), tooltip="path to write to")
        self.there = widgets.HTML()
        self.write, self.build = button("Write", self.state.start, primary=True), button("Build with it", self._build)
        self.copy, self.verdict = CopyButton(label="Copy the path"), widgets.HTML()
        self.card, self.builder = widgets.HTML(), widgets.VBox()
        self.next = widgets.HBox([self.build, self.copy])
        self.next.add_class("wb-actions")
        actions = widgets.HBox([self.write, self.verdict])
        actions.add_class("wb-actions")
        form = [row("Form", self.form, self.with_plan, self.note), self.release_box, row("Path", self.path, self.there)]
        self.box = widgets.VBox([*form, actions, self.card, self.next, self.builder])
        self.form.observe(lambda change: setattr(self.state, "form", change["new"]), "value")
        link((self.state, "path"), (self.path, "value"))
        link((self.state, "release"), (self.release, "value"))
        link((self.state, "with_plan"), (self.with_plan, "value"))
        self.state.observe(lambda change: self._show())
        state.observe(lambda change: self._show(), ["model", "collection", "opened"])
        state.ranges.observe(lambda change: self._show(), ["algorithm", "overrides"])
        state.checks.observe(lambda change: self._show(), "plan")
        self._show()

    def _show(self) -> None:
        state = self.state
        problem = "" if state.busy else state.problem()
        self.form.choose(state.form)
        self.note.value = render.quiet(FORMS[state.form])
        self.release_box.layout.display = "" if state.form == "trt-cache" else "none"
        has_plan = state.checks.plan is not None and bool(state.checks.plan.keep)
        self.with_plan.layout.display = "" if state.form == "qdq" and has_plan else "none"
        self.path.placeholder = state.proposed
        self.write.disabled = bool(problem)
        self.verdict.value = render.mistake(problem)
        is_other = state.written is None or state.written.path != state.target
        replaced = f"{state.target.name} is there already; it will be replaced."
        self.there.value = render.quiet(replaced if is_other and _exists(state.target) else "")
        card = render_calibration.written_card(state.written, is_stale=state.is_stale) if state.written else ""
        self.card.value = render.error_card(state.error, state.written) + card
        self.next.layout.display = "" if state.written else "none"
        if state.written:
            self.copy.text = str(state.written.path)
        elif self.builder.children:
            self.builder.children = ()

    def _build(self) -> None:
        """An EngineBuilder for what was written."""
        written = self.state.written
        if written is None:
            return
        try:
            self.builder.children = (self._builder(),)
        except WorkbenchError as error:
            self.builder.children = (widgets.HTML(render.error_card(error)),)

    def _builder(self) -> Any:
        written = self.state.written
        assert written is not None
        if written.form == "qdq":
            builder = EngineBuilder(load_model(written.path), store=self.studio.store)
        else:
            calibration = self.state.calibration
            builder = EngineBuilder(self.studio.model, store=self.studio.store)
            builder.state.calibration = calibration.path
        if "int8" in builder.state.support.precisions:
            builder.state.precision = "int8"
        return builder


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no path at all
        return False
