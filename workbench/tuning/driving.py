"""Driver: gives works to the workers of a crew and takes their answers, until nothing is left to give."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from workbench.errors import BackendError
from workbench.tuning.answers import nonsense
from workbench.tuning.budget import Clock, Controls
from workbench.tuning.crew import Crew, Report, Work
from workbench.tuning.findings import Running
from workbench.tuning.ground import Ground
from workbench.tuning.trying import Job
from workbench.tuning.workers import Workers
from workbench.types import Listener, LogLine, Progress

_WAIT_S = 0.5


@dataclass
class Given:
    """A work under way. began, heard: by the driver's clock. phase: what its worker told last."""

    work: Work
    worker: str
    ground: Ground
    began: float
    heard: float
    phase: str = ""

    def told(self, now: float) -> Running:
        what = str(self.work.candidate) if isinstance(self.work, Job) else "the finalists, in turns"
        return Running(what, self.worker, self.ground.column, self.phase, round(now - self.began, 1))


@dataclass
class Driver:
    """name: works are called after it. patience_s: as in Budget. settle: gets each work once, with its report and why
    it failed, '' where it did not. look: called again and again. number: of works that were given. given: those under
    way, by id."""

    name: str
    crew: Crew
    patience_s: float
    controls: Controls
    clock: Clock
    listener: Listener
    settle: Callable[[Given, Report, str], None]
    look: Callable[[], None]
    number: int = 0
    given: dict[str, Given] = field(default_factory=dict)
    workers: Workers = field(default_factory=Workers)
    is_stopping: bool = False
    attended: float = 0.0

    def __post_init__(self) -> None:
        self.attended = self.clock.monotonic()

    def work(self, hand_out: Callable[[str, Ground], Work | None], is_left: Callable[[], bool]) -> None:
        """Until there is nothing to give and nothing under way. hand_out: a work for this worker. is_left: whether it
        is worth waiting for workers. Raises BackendError where nobody can come, or nobody has been there for long."""
        while True:
            if self.controls.cancel.is_set():
                self._stop_if_cancelled()
                waiting = False
            else:
                waiting = self._hand_out(hand_out, is_left)
            if not self.given and not waiting:
                return
            for report in self.crew.wait(_WAIT_S, self._hear):
                self._settle(report)
            self._give_up_silent()
            self.look()

    def beside(self, ground: Ground) -> Collection[str]:
        """The workers that could do what is for this ground."""
        return self.workers.beside(ground, self.clock.monotonic())

    def _stop_if_cancelled(self) -> None:
        if self.controls.cancel.is_set() and not self.is_stopping:
            self.is_stopping = True
            self.crew.stop()

    def _hand_out(self, hand_out: Callable[[str, Ground], Work | None], is_left: Callable[[], bool]) -> bool:
        """A work to every worker whose seat is free. Whether to come back although nothing is under way."""
        if self.controls.is_paused:
            if not self.given:
                self.clock.sleep(_WAIT_S)
            return True
        self.workers.present = dict(self.crew.grounds())
        busy = {item.ground.seat for item in self.given.values()}
        for worker, ground in self.workers.rested(self.clock.monotonic()).items():
            if ground.seat in busy:
                continue
            work = hand_out(worker, ground)
            if work is not None:
                busy.add(ground.seat)
                self._give(work, worker, ground)
        return self._is_deserted() and is_left()

    def _is_deserted(self) -> bool:
        """Whether nobody is there now. Raises BackendError where nobody has been there for long."""
        now = self.clock.monotonic()
        if self.workers.present or self.given:
            self.attended = now
            return False
        if now - self.attended > self.patience_s:
            raise BackendError(
                f"all workers have left, and none has come for {self.patience_s:.0f} s; what was finished is kept: "
                "start the search again to go on."
            )
        return True

    def _give(self, work: Work, worker: str, ground: Ground) -> None:
        self.number += 1
        work_id, now = f"{self.name}-{self.number}", self.clock.monotonic()
        self.given[work_id] = Given(work, worker, ground, now, now)
        self.crew.give(work_id, work, worker)

    def _hear(self, work_id: str, event: Progress | LogLine) -> None:
        item = self.given.get(work_id)
        if item is None:
            return
        item.heard = self.clock.monotonic()
        if isinstance(event, Progress):
            item.phase = event.phase
        self._stop_if_cancelled()
        self.listener(event)
        self.look()

    def _settle(self, report: Report) -> None:
        item = self.given.pop(report.work_id, None)
        if item is None:
            return
        failure = ""
        if not report.cancelled:
            failure = report.failure or nonsense(item.work, item.ground, report.result)
            if told := self.workers.judge(item.worker, failure, self.clock.monotonic()):
                self.listener(LogLine("warning", told))
        self.settle(item, report, failure)

    def _give_up_silent(self) -> None:
        now = self.clock.monotonic()
        for work_id, item in list(self.given.items()):
            if now - item.heard > self.patience_s:
                self.crew.drop(work_id)
                told = f"nothing was heard for {self.patience_s:.0f} s ({item.phase or 'no phase'})"
                self._settle(Report(work_id, item.worker, failure=told))
