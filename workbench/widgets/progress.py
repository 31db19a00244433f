"""ProgressView: how a long work goes."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets

from workbench.types import SEVERITIES
from workbench.widgets import render
from workbench.widgets.parts import Choice, Fold, Option
from workbench.widgets.phases import search_log
from workbench.widgets.work_state import DONE, WorkState


class ProgressView:
    """The phases of what runs and, folded, its log with a filter and a search. doing: the status to show them for."""

    def __init__(self, state: WorkState, doing: Sequence[str], log_title: str) -> None:
        self.state, self.doing = state, doing
        self.phases, self.lines = widgets.HTML(), widgets.HTML()
        self.steps = Fold("Phases", self.phases)
        self.severity = Choice([Option(name, name) for name in SEVERITIES], "info")
        self.words = widgets.Text(placeholder="search the log", layout=widgets.Layout(width="240px"))
        tools = widgets.HBox([self.severity, self.words])
        tools.add_class("wb-controls")
        self.fold = Fold(log_title, tools, self.lines)
        self.box = widgets.VBox([self.steps, self.fold])
        for control in (self.severity, self.words):
            control.observe(lambda change: self._show_log(), "value")
        self.fold.on_toggle(self._show_log)
        state.observe(lambda change: self._show(), "changed")
        state.observe(lambda change: self._turn(change["old"]), "status")
        self._show()

    def _turn(self, before: str) -> None:
        """The phases open while a build goes on and fold themselves when it ended well."""
        if self.state.status in self.doing:
            self.steps.is_open = True
        elif self.state.status == DONE and before in self.doing:
            self.steps.is_open = False
        self._show()

    def _show(self) -> None:
        phases, status = list(self.state.phases), self.state.status
        ended_s = max((phase.ended_s or phase.started_s for phase in phases), default=0.0)
        now_s = self.state.elapsed_s if status in self.doing else ended_s
        self.phases.value = render.phase_tree(phases, now_s, running=status in self.doing)
        self.steps.title = f"Phases · {now_s:.1f} s"
        self.steps.layout.display = "" if phases else "none"
        self.fold.layout.display = "" if self.state.log or self.state.busy else "none"
        self._show_log()

    def _show_log(self) -> None:
        if self.fold.is_open:
            self.lines.value = render.log_lines(
                *search_log(list(self.state.log), self.severity.value, self.words.value)
            )
