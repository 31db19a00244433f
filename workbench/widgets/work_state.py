"""WorkState: something that runs in the background of a notebook: its phases, its log, its end; FormWork: by a form."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from traitlets import HasTraits, Instance, Int, Unicode

from workbench.errors import BuildError, Cancelled, ConfigError, WorkbenchError
from workbench.types import LogLine, Progress
from workbench.widgets.jobs import Job
from workbench.widgets.phases import Phase, update_phases
from workbench.widgets.shape_state import ShapeState

IDLE, DONE, FAILED, CANCELLED = "idle", "done", "failed", "cancelled"


class WorkState(HasTraits):
    """One work at a time; a `status` that is none of the four above is the name of what runs.

    `changed` counts up whenever something that is not a trait of its own has changed: phases, log, elapsed time.
    """

    status = Unicode(IDLE)
    error = Instance(WorkbenchError, allow_none=True)
    changed = Int()

    def __init__(self, *arguments: Any) -> None:
        self.phases: list[Phase] = []
        self.log: list[LogLine] = []
        self.job: Job | None = None
        self._clock = time.monotonic
        self._started = self._stopped = 0.0
        self._lock = threading.Lock()
        super().__init__(*arguments)

    @property
    def busy(self) -> bool:
        return self.status not in (IDLE, DONE, FAILED, CANCELLED)

    @property
    def elapsed_s(self) -> float:
        return (self._clock() if self.busy else self._stopped) - self._started

    def cancel(self) -> None:
        """Stop what runs; the status says so within a second."""
        if self.job is not None:
            self.job.cancel.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until the work in the background has ended; False if it has not within timeout_s."""
        return self.job is None or self.job.wait(timeout_s)

    def _run(self, status: str, work: Callable[[threading.Event], None]) -> None:
        self._started = self._clock()
        self.error = None
        self.status = status

        def guarded(cancel: threading.Event) -> None:
            try:
                work(cancel)
                self._end(DONE)
            except Cancelled as error:
                self._fail(error, CANCELLED)
            except WorkbenchError as error:
                self._fail(error)
            except Exception as error:  # the edge: what was not foreseen is shown, and the kernel lives on
                self._fail(
                    BuildError(f"{type(error).__name__}: {error}", log_tail=tuple(traceback.format_exc().splitlines()))
                )

        self.job = Job(guarded, self._tick)

    def _end(self, status: str) -> None:
        self._stopped = self._clock()
        self.status = status

    def _fail(self, error: WorkbenchError, status: str = FAILED) -> None:
        self.error = error
        self._end(status)

    def _forget_work(self) -> None:
        with self._lock:
            self.phases, self.log = [], []
        self.error = None
        self.status = IDLE
        self.changed += 1

    def _tick(self) -> None:
        self.changed += 1

    def _listen(self, event: Progress | LogLine) -> None:
        with self._lock:
            if isinstance(event, LogLine):
                self.log.append(event)
            else:
                update_phases(self.phases, event, self._clock() - self._started)


class FormWork(WorkState, ShapeState):
    """Work of which a form with a model says what to do."""

    @property
    def is_locked(self) -> bool:
        """Whether something runs that belongs to the model."""
        return self.busy

    def about_to_change(self) -> None:
        """Raises ConfigError while something runs."""
        if self.is_locked:
            raise ConfigError("something runs already: wait for it or cancel it first.")

    def _is_ready(self) -> bool:
        """Whether nothing runs and the form, its model read again, is right; else `error` says what is wrong, and what
        was found before stays."""
        if self.busy:
            return False
        try:
            self.read_again_if_changed()
            if self.problem():
                raise ConfigError(self.problem())
        except WorkbenchError as error:
            self._fail(error)
            return False
        return True
