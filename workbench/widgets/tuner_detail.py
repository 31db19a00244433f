"""One trial of a search: its numbers, the code that builds it, and its way into EngineBuilder."""

from __future__ import annotations

import ipywidgets as widgets
from traitlets import Dict, HasTraits

from workbench.errors import WorkbenchError
from workbench.widgets import render, render_tuner
from workbench.widgets.builder import EngineBuilder
from workbench.widgets.parts import CodeFold, button
from workbench.widgets.tuner_state import TunerState

_HINT = "Click a mark or a row, or use the arrow keys on them: its configuration, numbers and code stand here."


class TrialCode(HasTraits):
    """What a CodeFold shows of the selected trial."""

    current = Dict()

    def code(self) -> dict[str, str]:
        return dict(self.current)


class Detail:
    """The selected trial. builder: what 'Use this' fills in; without one a new EngineBuilder stands below."""

    def __init__(self, state: TunerState, builder: EngineBuilder | None) -> None:
        self.state, self.builder = state, builder
        self.card, self.said, self.below = widgets.HTML(), widgets.HTML(), widgets.VBox()
        self.use = button("Use this in EngineBuilder", self._use, primary=True)
        self.name = widgets.Text(
            placeholder="a name",
            tooltip="baseline's name",
            continuous_update=False,
            layout=widgets.Layout(width="150px"),
        )
        self.baseline = button("Name as baseline", lambda: state.name_baseline(self.name.value))
        self.actions = widgets.HBox([self.use, self.name, self.baseline, self.said])
        self.actions.add_class("wb-actions")
        self.shown = TrialCode()
        self.code = CodeFold(self.shown, ("Python", "Command line"), ["current"], "Show the code of this trial")
        self.box = widgets.VBox([self.card, self.actions, self.code.fold, self.below])
        state.observe(lambda change: self._show(), ["selected", "recorded", "column", "model", "status"])
        state.observe(lambda change: self._say(), ["baseline_said", "baseline_error"])
        self._show()

    def _show(self) -> None:
        state, trial = self.state, self.state.trial
        self.shown.current = state.trial_code()
        self.actions.layout.display = "" if trial is not None else "none"
        self.code.fold.layout.display = "" if self.shown.current else "none"
        if trial is None:
            has_trials = state.viewed is not None and bool(state.viewed.trials)
            self.card.value = render.quiet(_HINT) if has_trials else ""
            return
        try:
            recipe = state.recipe()
            notes, why = recipe.notes, recipe.why_not
        except WorkbenchError as error:
            notes, why = (), str(error)
        self.card.value = render_tuner.trial_card(trial, notes)
        self.use.disabled, self.use.tooltip = bool(why), why or "fill in its configuration"
        is_own = not state.recorded and trial.is_complete
        for part in (self.name, self.baseline):
            part.layout.display = "" if is_own else "none"
        self._say(why)

    def _say(self, why: str = "") -> None:
        text = self.state.baseline_error or why
        good = f"<span role='status'>{render_tuner.escape(self.state.baseline_said)}</span>"
        self.said.value = render.mistake(text) if text else good if self.state.baseline_said else ""

    def _use(self) -> None:
        """Into the builder that was given, else into one below."""
        try:
            if self.builder is None:
                self.builder = EngineBuilder(self.state.model, store=self.state.store)
                self.below.children = (self.builder,)
            self.state.use(self.builder.state)
            self.said.value = "<span role='status'>EngineBuilder has it: click Build there.</span>"
        except WorkbenchError as error:
            self.said.value = render.mistake(str(error))
