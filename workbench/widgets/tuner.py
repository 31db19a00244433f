"""Tuner: the best engine searched for, watched, looked into, and taken over."""

from __future__ import annotations

from pathlib import Path

import ipywidgets as widgets

from workbench.model import Model
from workbench.store import EngineStore
from workbench.tuning import Goals, Space, Tuned
from workbench.widgets import render_tuner
from workbench.widgets.beginning import begin
from workbench.widgets.browser import Manners
from workbench.widgets.builder import EngineBuilder
from workbench.widgets.data_state import Data
from workbench.widgets.form import ModelPicker
from workbench.widgets.parts import CodeFold
from workbench.widgets.tuner_actions import Actions
from workbench.widgets.tuner_detail import Detail
from workbench.widgets.tuner_form import BudgetRows, DataRow, GoalRows, MoreFold, SpaceRow
from workbench.widgets.tuner_form_state import FORM
from workbench.widgets.tuner_state import TunerState
from workbench.widgets.tuner_views import Results


class Tuner(widgets.VBox):
    """Search a space for the best engine of a model; `state` holds everything and can be used without the view.

    model: a Model, a path, or nothing to start with the first model of data/. data: samples for int8 and accuracy, as
    calibration.samples.open_samples takes them. space, goals: to start with; what is usual here if not given. store:
    where EngineBuilder keeps engines. builder: the EngineBuilder that 'Use this' fills in; a new one below if not
    given. `tuned` is what was found last.
    """

    def __init__(
        self,
        model: Model | str | Path | None = None,
        data: Data | None = None,
        *,
        space: Space | None = None,
        goals: Goals | None = None,
        store: EngineStore | None = None,
        builder: EngineBuilder | None = None,
    ) -> None:
        self.state = state = TunerState(store, space)
        begin(state, model)
        if data is not None:
            state.open_data(data)
        if goals is not None:
            state.set_goals(goals)
        data_row = DataRow(state)
        form = widgets.VBox(
            [
                ModelPicker(state).box,
                *data_row.boxes,
                *GoalRows(state).boxes,
                SpaceRow(state).box,
                *BudgetRows(state).boxes,
                MoreFold(state).fold,
            ]
        )
        form.add_class("wb-form")
        code = CodeFold(state, ("Python", "Command line"), FORM, "Show the code of the search")
        parts = [form, *Actions(state).boxes, Results(state).box, Detail(state, builder).box, code.fold, Manners()]
        super().__init__([widgets.HTML(render_tuner.STYLE), *parts])
        for name in ("wb", "wb-timing", "wb-tuner"):
            self.add_class(name)

    @property
    def tuned(self) -> Tuned | None:
        return self.state.tuned
