"""TimingBoard: measure engines and baselines in turns, and see what is faster, by how much, and at what price."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import ipywidgets as widgets

from workbench.model import Model
from workbench.store import EngineStore
from workbench.study import Contestant, Study
from workbench.types import Feeds
from workbench.widgets import render_timing
from workbench.widgets.beginning import begin
from workbench.widgets.browser import Manners
from workbench.widgets.form import ModelPicker
from workbench.widgets.parts import CodeFold
from workbench.widgets.timing_choices import model_of
from workbench.widgets.timing_form import CandidatePicker, ReferencePicker, RunForm, Running
from workbench.widgets.timing_form_state import FORM
from workbench.widgets.timing_state import TimingState
from workbench.widgets.timing_views import Results


class TimingBoard(widgets.VBox):
    """Engines and baselines of one model; `state` holds everything and can be used without the view.

    model: a Model, a path, or nothing for the model of the first engine among the contestants, else the first of data/.
    contestants: engines, open sessions and baselines of the notebook, by the name they get. feeds: what all run on;
    default are random arrays in the profile's opt shapes. store: where engines are kept. `study` is what was measured
    last.
    """

    def __init__(
        self,
        model: Model | str | Path | None = None,
        contestants: Mapping[str, Contestant] | None = None,
        feeds: Feeds | None = None,
        *,
        store: EngineStore | None = None,
    ) -> None:
        self.state = TimingState(store)
        begin(self.state, model or model_of(contestants or {}))
        if contestants or feeds is not None:
            self.state.give(contestants or {}, feeds)
        running = Running(self.state)
        form = widgets.VBox(
            [
                ModelPicker(self.state).box,
                CandidatePicker(self.state).box,
                ReferencePicker(self.state).box,
                *RunForm(self.state).boxes,
            ]
        )
        form.add_class("wb-form")
        code = CodeFold(self.state, ("Python", "Command line"), FORM)
        parts = [form, running.actions, running.progress, running.error, Results(self.state).box, code.fold, Manners()]
        super().__init__([widgets.HTML(render_timing.STYLE), *parts])
        self.add_class("wb")
        self.add_class("wb-timing")

    @property
    def study(self) -> Study | None:
        return self.state.study
