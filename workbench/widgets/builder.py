"""EngineBuilder: choose, build, watch, read the result. A view over BuilderState."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ipywidgets as widgets

from workbench.engine import read_layers
from workbench.errors import WorkbenchError
from workbench.model import Model
from workbench.store import EngineStore
from workbench.types import OptimizationProfile
from workbench.widgets import render
from workbench.widgets.beginning import begin
from workbench.widgets.browser import CopyButton, Manners
from workbench.widgets.form import AdvancedOptions, BackendPicker, ModelPicker, ShapeTable, reuse_box
from workbench.widgets.form_state import FORM
from workbench.widgets.fusion import FusionView
from workbench.widgets.parts import CodeFold, Fold, button, row
from workbench.widgets.progress import ProgressView
from workbench.widgets.state import BUILDING, TIMING, BuilderState


class EngineBuilder(widgets.VBox):
    """From a model to an engine with two clicks; `state` holds everything and can be used without the view.

    model: a Model, a path, or nothing to start with the first model of data/. profile: the sizes to start with, as
    ShapeExplorer makes one. store: where engines are kept.
    """

    def __init__(
        self,
        model: Model | str | Path | None = None,
        *,
        profile: OptimizationProfile | None = None,
        store: EngineStore | None = None,
    ) -> None:
        self.state = BuilderState(store)
        begin(self.state, model)
        if profile is not None:
            self.state.fill_in(profile)
        self._build_button = button("Build", self.state.start, primary=True)
        self._cancel_button = button("Cancel", self.state.cancel)
        self._verdict = widgets.HTML()
        self._progress, self._result = ProgressView(self.state, [BUILDING], "Build log"), _Result(self.state)
        backend, advanced = BackendPicker(self.state), AdvancedOptions(self.state)
        form = widgets.VBox(
            [
                ModelPicker(self.state).box,
                *backend.boxes,
                ShapeTable(self.state).box,
                row("Engine store", reuse_box(self.state)),
                advanced.fold,
            ]
        )
        form.add_class("wb-form")
        actions = widgets.HBox([self._build_button, self._cancel_button, self._verdict])
        actions.add_class("wb-actions")
        code = CodeFold(self.state, ("Python", "Command line", "trtexec", "Paddle-TRT"), FORM)
        parts = [form, actions, self._progress.box, self._result.box, code.fold, Manners()]
        super().__init__([widgets.HTML(render.STYLE), *parts])
        self.add_class("wb")
        self.state.observe(lambda change: self._show())
        self._show()

    def _show(self) -> None:
        state = self.state
        problem = state.problem()
        self._build_button.disabled = bool(problem) and not state.busy
        (self._build_button.add_class if state.busy else self._build_button.remove_class)("wb-waiting")
        self._cancel_button.disabled = not state.busy
        if state.busy:
            doing = {BUILDING: "Building", TIMING: "Timing"}[state.status]
            runs = f" · {state.timed_runs}" if state.timed_runs else ""
            self._verdict.value = f"<span role='status'>{doing} … {state.elapsed_s:.1f} s{runs}</span>"
        else:
            self._verdict.value = render.mistake(problem) if state.model else ""


class _Result:
    """The card of the built engine or of the error, with the next steps as buttons."""

    def __init__(self, state: BuilderState) -> None:
        self.state = state
        self.card, self.measurement = widgets.HTML(), widgets.HTML()
        self.time_button = button("Time it", state.time_it)
        self.copy_code, self.copy_path = CopyButton(label="Copy the code"), CopyButton(label="Copy the path")
        self.fusion_button, self.fusion = button("See the fusion", self._show_fusion), widgets.VBox()
        self.steps = widgets.HBox([self.time_button, self.fusion_button, self.copy_code, self.copy_path])
        self.steps.add_class("wb-actions")
        self.table = widgets.HTML()
        self.layers = Fold("Layers", self.table)
        self.layers.on_toggle(self._show_layers)
        self.box = widgets.VBox([self.card, self.steps, self.layers, self.measurement, self.fusion])
        state.observe(lambda change: self._forget_fusion(), "built")
        state.observe(lambda change: self._time_fusion(), "layer_times_ms")
        state.observe(lambda change: self._show(), ["built", "error", "status", "measurement", *FORM])
        self._show()

    def _show(self) -> None:
        state = self.state
        card = render.result_card(state.built, form_has_changed=state.form_has_changed) if state.built else ""
        self.card.value = render.error_card(state.error, state.built) + card
        self.steps.layout.display = self.layers.layout.display = "" if state.built else "none"
        self._show_layers()
        if state.built:
            self.time_button.disabled = state.busy
            self.time_button.description = f"Time it: {state.timed_engine}"
            self.copy_code.text = state.built_code
            self.copy_path.text = str(state.built.engine.plan_path)
        self.measurement.value = ""
        if state.built and state.measurement:
            built_on = state.built.engine.backend
            elsewhere = not state.measured_on.startswith(built_on)
            here = f"The {built_on} engine cannot run on this machine. This is the same model with"
            note = f"{here} {state.measured_on.split()[0]}; it says nothing about a GPU's speed." if elsewhere else ""
            self.measurement.value = render.measurement_card(state.measurement, state.measured_on, note)

    def _show_fusion(self) -> None:
        if self.state.built is None:
            return
        try:
            parts: Any = (FusionView(self.state.built, times_ms=self.state.layer_times_ms or None),)
        except WorkbenchError as error:
            former = [item for item in self.fusion.children if isinstance(item, FusionView)]
            parts = (widgets.HTML(render.error_card(error, *former)), *former)
        self.fusion.children = parts

    def _time_fusion(self) -> None:
        """What is open already gets its colours by time, too."""
        if self.fusion.children and self.state.layer_times_ms:
            self._show_fusion()

    def _forget_fusion(self) -> None:
        self.fusion.children = ()

    def _show_layers(self) -> None:
        """Read only while open: a large network has thousands."""
        built = self.state.built
        self.table.value = render.layer_table(read_layers(built.engine)) if built and self.layers.is_open else ""
