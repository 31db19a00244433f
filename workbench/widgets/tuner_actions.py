"""Start, pause, finish and cancel of Tuner, with what is running where."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from workbench.widgets import render, render_tuner
from workbench.widgets.parts import button
from workbench.widgets.progress import ProgressView
from workbench.widgets.tuner_form_state import FORM
from workbench.widgets.tuner_state import TUNING, TunerState

_RUN = ("status", "changed", "error", "tuned", "searched_code", "paused", "finishing")


class Actions:
    """The buttons, how far it is, phases and log, why it waits, what went wrong."""

    def __init__(self, state: TunerState) -> None:
        self.state = state
        self.start = button("Start", state.start, primary=True)
        self.pause, self.finish = button("Pause", self._pause), button("Finish now", state.finish)
        self.cancel = button("Cancel", state.cancel)
        self.finish.tooltip = "try nothing more, and measure the finalists of what was found"
        self.cancel.tooltip = "stop; the next Start goes on from there"
        self.verdict, self.running, self.error = widgets.HTML(), widgets.HTML(), widgets.HTML()
        actions = widgets.HBox([self.start, self.pause, self.finish, self.cancel, self.verdict])
        actions.add_class("wb-actions")
        self.boxes: list[Any] = [actions, self.running, ProgressView(state, [TUNING], "Log").box, self.error]
        state.observe(lambda change: self._show(), [*FORM, *_RUN])  # told before the results, which take longer to draw
        self._show()

    def _pause(self) -> None:
        (self.state.resume if self.state.paused else self.state.pause)()

    def _show(self) -> None:
        state = self.state
        problem = "" if state.busy else state.problem()
        self.start.disabled = bool(problem)
        self.start.description = "Go on" if state.can_go_on else "Start"
        (self.start.add_class if state.busy else self.start.remove_class)("wb-waiting")
        self.pause.description = "Resume" if state.paused else "Pause"
        self.pause.disabled = not state.busy or state.finishing
        self.finish.disabled = not state.busy or state.finishing
        self.cancel.disabled = not state.busy
        self.verdict.value = self._told() if state.busy else self._waits(problem)
        self.running.value = render_tuner.running_table(state.tuned) if state.busy else ""
        self.error.value = render.error_card(state.error, None if state.can_go_on else state.viewed)

    def _told(self) -> str:
        state = self.state
        doing = "Paused" if state.paused else "Finishing" if state.finishing else "Searching"
        line = render_tuner.status_line(state.tuned, state.expected, state.minutes_given, state.elapsed_s)
        more = "; what is under way goes on" if state.paused and state.tuned and state.tuned.running else ""
        return f"<span role='status'>{doing} … {line}{more}</span>"

    def _waits(self, problem: str) -> str:
        """What stands beside its field already is not said again."""
        state = self.state
        is_said = state.model is None or any((
            state.data_problem(), state.limit_problem(), state.budget_problem(), state.where_problem(),
        ))  # fmt: skip
        return "" if is_said and not self._is_unsaid(problem) else render.mistake(problem)

    def _is_unsaid(self, problem: str) -> bool:
        return problem == self.state.where_problem() and not self.state.address.strip()
