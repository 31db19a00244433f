"""TunerViewState: what is looked at of a search, its own or a recorded one, and what is done with a trial of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from traitlets import Bool, Instance, Tuple, Unicode, observe

from workbench.errors import ConfigError, WorkbenchError
from workbench.runs import History
from workbench.store import EngineStore
from workbench.tuning import Column, Plan, Space, Trial, Tuned
from workbench.tuning.recorded import recorded_sweeps
from workbench.widgets.state import BuilderState
from workbench.widgets.timing_export import export
from workbench.widgets.timing_results import Picture, Sheet
from workbench.widgets.tuner_form_state import TunerFormState
from workbench.widgets.tuner_results import FRONT, NOT_SEARCHED, column_of, picture_for
from workbench.widgets.tuner_use import Recipe, recipe_code, recipe_of

VIEW = ("tuned", "recorded", "column", "section", "as_table", "x_axis", "y_axis")
"""The traits that say what is shown."""


class TunerViewState(TunerFormState):
    """tuned: what was searched last, while it goes on, too. plan: of that search. The other traits: what is looked
    at."""

    tuned = Instance(Tuned, allow_none=True)
    recorded = Unicode(help="id of a recorded search that is looked at; '' for the own one")
    column = Unicode(help="the kind of machine that is looked at; '' for the first")
    section = Unicode(FRONT, help="one of tuner_results.SECTIONS")
    x_axis, y_axis = Unicode("latency"), Unicode("accuracy")
    as_table = Bool(False)
    selected = Unicode(help="id of a trial; '' for none")
    exported: Any = Tuple(help="paths of the files that were written last, as text")
    export_error = Unicode()
    baseline_said, baseline_error = Unicode(), Unicode()

    def __init__(self, store: EngineStore | None = None, space: Space | None = None) -> None:
        self.recordings, self.recordings_error = _recordings()
        self.plan: Plan | None = None
        super().__init__(store, space)

    def _usual_recording(self) -> str:
        """The id of the one of this model, by content or else by name; '' where there is none."""
        model = self.model
        if model is None:
            return ""
        alike = [item for item in self.recordings if model.name == item.model or model.sha256 == item.model_sha256]
        alike.sort(key=lambda item: item.model_sha256 != model.sha256)
        return alike[0].id if alike else ""

    def explore(self, tuned: Tuned) -> None:
        """Look at a search that was kept, such as load_tuned gives it."""
        if not tuned.recorded:
            tuned = replace(tuned, recorded=f"kept from {tuned.at[:10]}" if tuned.at else "kept")
        self.recordings = (*(item for item in self.recordings if item.id != tuned.id), tuned)
        self.recorded = ""
        self.recorded = tuned.id

    @property
    def viewed(self) -> Tuned | None:
        """What is looked at: a recorded search, or the own one."""
        return next((item for item in self.recordings if item.id == self.recorded), self.tuned)

    @property
    def viewed_column(self) -> Column:
        return column_of(self.viewed, self.column) if self.viewed is not None else Column("")

    def picture(self) -> Picture:
        """What the section shows, for the page and for files."""
        if self.viewed is None:
            return Picture(self.section, self.section, (), Sheet((), ()), empty=NOT_SEARCHED)
        return picture_for(self.section, self.viewed, self.viewed_column, (self.x_axis, self.y_axis))

    @property
    def trial(self) -> Trial | None:
        """The one that is selected, of the column that is looked at."""
        trials: Sequence[Trial] = self.viewed.trials if self.viewed is not None else ()
        name = self.viewed_column.name
        return next((item for item in trials if item.id == self.selected and item.column == name), None)

    def recipe(self) -> Recipe:
        """What builds the selected trial. Raises ConfigError where nobody can tell."""
        if self.trial is None or self.viewed is None:
            raise ConfigError("Choose a trial first.")
        plan = self.plan if self.viewed is self.tuned else None
        return recipe_of(self.trial, self.viewed, self.model, plan)

    def trial_code(self) -> dict[str, str]:
        """What builds the selected trial in Python and for the shell, by title; empty where nobody can tell."""
        try:
            return dict(recipe_code(self.recipe()))
        except WorkbenchError:
            return {}

    def use(self, target: BuilderState) -> None:
        """Fill the selected trial's configuration into EngineBuilder's form. Raises WorkbenchError."""
        model, config = self.recipe().wish()
        if target.busy:
            raise ConfigError("EngineBuilder is busy: wait for it or cancel it first.")
        if target.model is None or target.model.sha256 != model.sha256:
            target.take(model)
        assert self.trial is not None
        target.take_config(self.trial.candidate.backend, config)

    def name_baseline(self, name: str) -> None:
        """Give the selected trial's run a name that later runs are compared with; `baseline_said` or `baseline_error`
        tells how it went."""
        self.baseline_said = self.baseline_error = ""
        if self.trial is None:
            return
        try:
            History().name_baseline(name.strip(), self.trial.id)
            self.baseline_said = (
                f"It is the baseline {name.strip()} now: `workbench bench --against {name.strip()}` compares with it."
            )
        except WorkbenchError as error:
            self.baseline_error = str(error)

    def export(self, form: str) -> None:
        """Write what is looked at into the working folder; `exported` or `export_error` tells how it went."""
        self.exported, self.export_error = (), ""
        name = f"{self.viewed.model if self.viewed is not None else 'model'}-tuning"
        try:
            self.exported = tuple(map(str, export(self.picture(), form, name, Path.cwd())))
        except WorkbenchError as error:
            self.export_error = str(error)

    @observe("recorded", "column")
    def _other_view(self, change: Any) -> None:
        """A trial is of one search and one kind of machine."""
        if change["name"] == "recorded":
            self.column = ""
        self.selected = ""
        self.exported, self.export_error = (), ""

    @observe("selected", "section", "as_table")
    def _other_trial(self, change: Any) -> None:
        self.baseline_said = self.baseline_error = ""
        self.exported, self.export_error = (), ""


def _recordings() -> tuple[tuple[Tuned, ...], str]:
    """And why there are none, where their files cannot be read."""
    try:
        return recorded_sweeps(), ""
    except WorkbenchError as error:
        return (), str(error)
