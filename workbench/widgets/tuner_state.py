"""TunerState: everything Tuner shows and does, without a browser: form, search, and what is looked at."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from traitlets import Bool, Instance, Tuple, Unicode, observe

from workbench.errors import BackendError, Cancelled, ConfigError, WorkbenchError
from workbench.runs import History
from workbench.store import EngineStore
from workbench.tuning import Column, Controls, Plan, Space, Trial, Tuned
from workbench.tuning.recorded import recorded_sweeps
from workbench.tuning.result import STOPPED
from workbench.tuning.running import PHASE
from workbench.tuning.space import MOST, count
from workbench.types import LogLine, Progress, count_of
from workbench.widgets.aside import Aside
from workbench.widgets.state import BuilderState
from workbench.widgets.timing_export import export
from workbench.widgets.timing_results import Picture, Sheet
from workbench.widgets.tuner_form_state import TunerFormState
from workbench.widgets.tuner_results import FRONT, NOT_SEARCHED, column_of, picture_for
from workbench.widgets.tuner_run import FINALS, Order, carry_out
from workbench.widgets.tuner_use import Recipe, recipe_code, recipe_of
from workbench.widgets.work_state import CANCELLED, WorkState

TUNING = "tuning"
WAITING = "Waiting for the trial that was cancelled to end"
VIEW = ("tuned", "recorded", "column", "section", "as_table", "x_axis", "y_axis")
"""The traits that say what is shown."""


class TunerState(WorkState, TunerFormState):
    """tuned: what was searched last, while it goes on, too. The other traits: what is looked at."""

    tuned = Instance(Tuned, allow_none=True)
    searched_code = Unicode(help="the form as Python when the search was started")
    paused, finishing = Bool(False), Bool(False)
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
        self.expected: int | None = None
        self.minutes_given: float | None = None
        self._aside = Aside()
        self._controls = Controls()
        super().__init__(store, space)

    def about_to_change(self) -> None:
        """Raises ConfigError while something runs."""
        if self.busy:
            raise ConfigError("something runs already: wait for it or cancel it first.")

    # ---- searching

    def start(self) -> None:
        """Search in the background; does nothing while something runs already. What was found before counts."""
        if self.busy:
            return
        self.read_again_if_changed()
        if self.problem():
            self._fail(ConfigError(self.problem()))
            return
        order, code = self.order(), self.code()["Python"]
        self._forget_work()
        if code != self.searched_code:
            self.tuned = None
        self._controls = controls = Controls()
        self.expected, self.minutes_given = self._expected(order), order.budget.minutes
        with self.hold_trait_notifications():
            self.searched_code, self.paused, self.finishing, self.recorded = code, False, False, ""

        def work(cancel: threading.Event) -> None:
            controls.cancel = cancel
            self._searched(order, controls)

        self._run(TUNING, work)

    def _expected(self, order: Order) -> int | None:
        """So many trials at most; None where nobody can tell."""
        rules = self.rules()
        if self.is_elsewhere or order.space is None or rules is None:
            return order.budget.trials
        return min(count(order.space, rules), order.budget.trials or MOST)

    def pause(self) -> None:
        """Give out no further trial until `resume`; what is under way goes on."""
        if self.busy:
            self._controls.pause.set()
            self.paused = True

    def resume(self) -> None:
        self._controls.pause.clear()
        self.paused = False

    def finish(self) -> None:
        """Try nothing more, and measure the finalists of what was found."""
        if self.busy:
            self._controls.stop.set()
            self.finishing = True
            self.resume()

    @property
    def can_go_on(self) -> bool:
        """Whether Start would go on where Cancel has stopped it."""
        is_stopped = self.status == CANCELLED and self.tuned is not None and bool(self.tuned.trials)
        return is_stopped and not self.form_has_changed

    @property
    def form_has_changed(self) -> bool:
        """Whether the form asks for something else than what was searched last."""
        return self.tuned is not None and self.code().get("Python", "") != self.searched_code

    def _searched(self, order: Order, controls: Controls) -> None:
        was_occupied = self._aside.is_occupied
        if was_occupied:
            self._listen(Progress(WAITING, 0, None))

        def search() -> Tuned:
            if was_occupied:
                self._listen(Progress(WAITING, 1, 1))
            return carry_out(order, controls, planned=planned, each=take, listener=listen)

        def planned(plan: Plan) -> None:
            self.plan = plan
            for phase in [item.name for item in self.phases if item.ended_s is None]:
                self._listen(Progress(phase, 1, 1))

        def take(found: Tuned) -> None:
            if not controls.cancel.is_set():
                self.tuned = found

        def listen(event: Progress | LogLine) -> None:
            if not controls.cancel.is_set():  # what was left behind has nothing to tell any more
                self._listen_to_search(event)

        try:
            self.tuned = self._aside.run(search, controls.cancel)
            self._listen(Progress(FINALS, 1, 1))
        except Cancelled:
            raise self._stopped_search() from None
        except WorkbenchError:
            self._settle()
            raise
        except Exception as error:  # of Dask, of Optuna, of a back end: the kernel lives on
            self._settle()
            for line in traceback.format_exc().splitlines():
                self._listen(LogLine("error", line))
            raise BackendError(f"the search failed: {type(error).__name__}: {error}; the log has the lines.") from error

    def _listen_to_search(self, event: Progress | LogLine) -> None:
        """The finalists are measured when the trials are over; a small space has fewer than the budget."""
        if isinstance(event, Progress) and event.phase == FINALS:
            done = len(self.tuned.trials) if self.tuned is not None else 1
            self._listen(Progress(PHASE, done, done))
        elif isinstance(event, Progress) and self.expected:
            event = replace(event, total=max(self.expected, event.done))
        self._listen(event)

    def _stopped_search(self) -> Cancelled:
        self._settle()
        count = len(self.tuned.trials) if self.tuned is not None else 0
        if not count:
            return Cancelled("cancelled; no trial had ended, so the next start begins anew.")
        return Cancelled(f"cancelled; {count_of(count, 'trial')} so far: the next start goes on from there.")

    def _settle(self) -> None:
        """Nothing of it runs any more."""
        if self.tuned is not None:
            self.tuned = replace(self.tuned, state=STOPPED, running=())

    # ---- looking

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

    @observe("model")
    def _other_results(self, change: Any) -> None:
        """What was searched belongs to the model that was there; what is recorded does not."""
        self.plan, self.searched_code = None, ""
        with self.hold_trait_notifications():
            self.tuned, self.recorded = None, self._usual_recording()
        if not self.busy:
            self._forget_work()


def _recordings() -> tuple[tuple[Tuned, ...], str]:
    """And why there are none, where their files cannot be read."""
    try:
        return recorded_sweeps(), ""
    except WorkbenchError as error:
        return (), str(error)
