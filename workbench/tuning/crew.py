"""Crew: those who do the work of a search. Alone is this process; tuning/dask_crew.py is a cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from workbench.calibration.collection import Collection
from workbench.calibration.sample import Samples
from workbench.errors import Cancelled, WorkbenchError
from workbench.model import Model
from workbench.tuning.finals import Finals, run_finals
from workbench.tuning.ground import Ground, this_ground
from workbench.tuning.materials import gather_here
from workbench.tuning.trying import Job, try_candidate
from workbench.types import Listener, LogLine, Progress, ignore

Work = Job | Finals
Hear = Callable[[str, Progress | LogLine], None]
"""Gets the id of a work under way, and what its worker tells."""


@dataclass(frozen=True)
class Report:
    """What became of a work. result: a Trial, of Finals a Study. failure: why there is none, in a sentence; what the
    worker raised, or that it died. cancelled: it was asked to stop, and did."""

    work_id: str
    worker: str
    result: Any = None
    failure: str = ""
    cancelled: bool = False


class Crew(Protocol):
    """Workers come and go. A work is given to one worker; every work that was given is reported once, unless it was
    dropped, whatever becomes of its worker."""

    def grounds(self) -> Mapping[str, Ground]:
        """What the workers that are there now stand on, by the worker's name. Raises BackendError where nobody can
        come any more, as when a cluster's scheduler is gone."""

    def give(self, work_id: str, work: Work, worker: str) -> None:
        """Have it done. A worker that has left meanwhile is reported as a failure, later."""

    def wait(self, timeout_s: float, hear: Hear) -> Sequence[Report]:
        """What was finished, at once if there is something, none after `timeout_s`. Calls `hear` meanwhile."""

    def drop(self, work_id: str) -> None:
        """Stop it, and do not report it. One that hangs may take its worker down with it."""

    def stop(self) -> None:
        """Ask all works to stop soon; each is reported."""

    def bring(self, key: str, worker: str) -> None:
        """See to it that the engine of this key, which this worker has, is in this process's store.

        Raises WorkbenchError."""

    def gather(
        self, model: Model, samples: Samples, partial: Path, listener: Listener, cancel: threading.Event | None
    ) -> Collection:
        """The ranges of all of these samples, the same whoever gathers them; see materials.Gather."""


def perform(
    work: Work,
    ground: Ground,
    *,
    data: Mapping[str, bytes] | None = None,
    worker: str = "",
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Any:
    """What every worker does with a work. Raises ParcelMissing, WorkbenchError, Cancelled."""
    function: Callable[..., Any] = try_candidate if isinstance(work, Job) else run_finals
    return function(work, ground, data=data, worker=worker, listener=listener, cancel=cancel)


class Alone:
    """This process as a crew of one: a work is done within `wait`."""

    NAME = "here"

    def __init__(self) -> None:
        self._ground = this_ground()
        self._given: list[tuple[str, Work]] = []
        self._cancel = threading.Event()

    def grounds(self) -> Mapping[str, Ground]:
        return {self.NAME: self._ground}

    def give(self, work_id: str, work: Work, worker: str) -> None:
        self._given.append((work_id, work))

    def wait(self, timeout_s: float, hear: Hear) -> Sequence[Report]:
        if not self._given:
            return ()
        work_id, work = self._given.pop(0)
        try:
            result = perform(
                work,
                self._ground,
                worker=self.NAME,
                listener=lambda event: hear(work_id, event),
                cancel=self._cancel,
            )
            return (Report(work_id, self.NAME, result),)
        except Cancelled as error:
            return (Report(work_id, self.NAME, failure=str(error), cancelled=True),)
        except WorkbenchError as error:
            return (Report(work_id, self.NAME, failure=str(error)),)
        except Exception as error:  # whatever a library raises costs one candidate, and not the search
            return (Report(work_id, self.NAME, failure=f"{type(error).__name__}: {error}"),)

    def drop(self, work_id: str) -> None:
        self._given = [item for item in self._given if item[0] != work_id]

    def stop(self) -> None:
        self._cancel.set()

    def bring(self, key: str, worker: str) -> None:
        """It is here."""

    def gather(
        self, model: Model, samples: Samples, partial: Path, listener: Listener, cancel: threading.Event | None
    ) -> Collection:
        return gather_here(model, samples, partial, listener, cancel)
