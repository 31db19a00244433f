"""TunerState: everything Tuner shows and does, without a browser: form, search, and what is looked at."""

from __future__ import annotations

import threading
import traceback
from dataclasses import replace
from typing import Any, NamedTuple

from traitlets import Bool, Unicode, observe

from workbench.errors import BackendError, Cancelled, WorkbenchError
from workbench.store import EngineStore
from workbench.tuning import Controls, Plan, Space, Tuned
from workbench.tuning.result import PAUSED, RUNNING, STOPPED
from workbench.tuning.running import PHASE
from workbench.tuning.space import MOST, count
from workbench.types import LogLine, Progress, count_of
from workbench.widgets.aside import Aside
from workbench.widgets.tuner_run import FINALS, Order, carry_out
from workbench.widgets.tuner_view_state import TunerViewState
from workbench.widgets.work_state import CANCELLED, FormWork

TUNING = "tuning"
WAITING = "Waiting for the trial that was cancelled to end"


class _Seen(NamedTuple):
    """What is looked at when a search starts. code: of `tuned`."""

    tuned: Tuned | None
    plan: Plan | None
    code: str
    recorded: str


class TunerState(FormWork, TunerViewState):
    """What is looked at, and how the search goes."""

    searched_code = Unicode(help="the form as Python when the search was started")
    paused, finishing = Bool(False), Bool(False)

    def __init__(self, store: EngineStore | None = None, space: Space | None = None) -> None:
        self.expected: int | None = None
        self.minutes_given: float | None = None
        self._aside = Aside()
        self._controls = Controls()
        super().__init__(store, space)

    # ---- searching

    def start(self) -> None:
        """Search in the background; does nothing while something runs already. What was found before counts."""
        if not self._is_ready():
            return
        told = self.code()
        code = told["Python"]
        order = replace(self.order(), again={"Shell": told["Command line"], "Python": code})
        former = _Seen(self.tuned, self.plan, self.searched_code, self.recorded)
        self._forget_work()
        if code != self.searched_code:
            self.tuned = None
        self._controls = controls = Controls()
        self.expected, self.minutes_given = self._expected(order), order.budget.minutes
        with self.hold_trait_notifications():
            self.searched_code, self.paused, self.finishing, self.recorded = code, False, False, ""

        def work(cancel: threading.Event) -> None:
            controls.cancel = cancel
            try:
                self._searched(order, controls)
            except WorkbenchError:
                self._keep(former)
                raise

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
        if self.tuned is not None and self.tuned.state in (RUNNING, PAUSED):
            self.tuned = replace(self.tuned, state=STOPPED, running=())

    def _keep(self, former: _Seen) -> None:
        """What was looked at before stays where a search ended before its first trial."""
        if self.tuned is None or not self.tuned.trials:
            self.plan = former.plan
            with self.hold_trait_notifications():
                self.tuned, self.searched_code, self.recorded = former.tuned, former.code, former.recorded

    @observe("model")
    def _other_results(self, change: Any) -> None:
        """What was searched belongs to the model that was there; what is recorded does not."""
        self.plan, self.searched_code = None, ""
        with self.hold_trait_notifications():
            self.tuned, self.recorded = None, self._usual_recording()
        if not self.busy:
            self._forget_work()
