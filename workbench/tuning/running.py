"""The search itself: candidates to workers, results into history and search, until the budget is spent."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from workbench.errors import BackendError, Cancelled, ConfigError, StoreError, WorkbenchError
from workbench.runs import History
from workbench.store import EngineStore
from workbench.study import Study, record
from workbench.tuning.answers import nonsense
from workbench.tuning.budget import Budget, Clock, Controls
from workbench.tuning.candidate import Candidate
from workbench.tuning.crew import Crew, Report, Work
from workbench.tuning.finals import Finals
from workbench.tuning.ground import Ground
from workbench.tuning.lane import ATTEMPTS, FINALS, Lane, failed_trial, open_lane
from workbench.tuning.ledger import find_trial, keep_trial, still_there
from workbench.tuning.plan import Plan
from workbench.tuning.recorded import keep_search
from workbench.tuning.result import FINISHED, PAUSED, RUNNING, STOPPED, Running, Tuned
from workbench.tuning.telling import trial_line
from workbench.tuning.trial import FAILED, Trial
from workbench.tuning.trying import Job
from workbench.tuning.winning import finals_of, why_nobody, winner_of
from workbench.tuning.workers import Workers
from workbench.types import Listener, LogLine, Progress, count_of, ignore

PHASE = "Tuning"
_WAIT_S = 0.5
_SHOWN_EVERY_S = 0.5


def run_search(
    plan: Plan,
    crew: Crew,
    budget: Budget | None = None,
    *,
    controls: Controls | None = None,
    each: Callable[[Tuned], None] = lambda tuned: None,
    listener: Listener = ignore,
    clock: Clock | None = None,
) -> Tuned:
    """Search until the budget is spent, then measure the finalists in turns; whatever was found before counts.

    each: gets what is known, after every trial and about twice a second. Raises BackendError where nobody is there to
    work or all have gone (what was finished is kept, and the next call goes on), StoreError where another process is at
    this very search or nothing can be kept, Cancelled.
    """
    store = EngineStore()
    lock = store.lock(f"tuning-{plan.id}")
    try:
        lock.acquire(timeout=0)
    except TimeoutError as error:
        raise StoreError(f"another process is at this search ({plan.id}); wait for it, or stop it there.") from error
    try:
        return _Run(plan, crew, budget or Budget(), controls or Controls(), each, listener, clock or Clock()).run()
    finally:
        lock.release()


@dataclass
class _Given:
    """A work under way."""

    work: Work
    worker: str
    ground: Ground
    began: float
    heard: float
    phase: str = ""


class _Run:
    def __init__(
        self,
        plan: Plan,
        crew: Crew,
        budget: Budget,
        controls: Controls,
        each: Callable[[Tuned], None],
        listener: Listener,
        clock: Clock,
    ) -> None:
        self.plan, self.crew, self.budget, self.controls = plan, crew, budget, controls
        self.id = plan.id
        self.each, self.listener, self.clock = each, listener, clock
        self.history, self.store = History(), EngineStore()
        self.lanes: dict[str, Lane | None] = {}
        self.given: dict[str, _Given] = {}
        self.trials: dict[str, Trial] = {}
        self.notes: dict[str, None] = {}
        self.workers = Workers()
        self.began = self.attended = clock.monotonic()
        self.shown, self.number, self.is_stopping = 0.0, 0, False
        if plan.task.samples is None:
            self.notes["Outputs were compared on random arrays, which tells little of accuracy: give data."] = None

    # ---- the whole

    def run(self) -> Tuned:
        try:
            self._work(self._hand_out_trials, self._trials_are_left)
            self._give_back()
            if not self.trials and not self.controls.cancel.is_set():
                raise BackendError(" ".join(["Nothing could be tried.", *self.notes]))
            self._measure_finalists()
        except BaseException:
            self._give_back()
            raise
        if self.controls.cancel.is_set():
            found = self._end(STOPPED)
            raise Cancelled(
                f"stopped after {count_of(len(found.trials), 'trial')}; the same search goes on from there."
            )
        for lane in self._open_lanes():
            self._finish(lane)
        return self._end(FINISHED)

    def _end(self, state: str) -> Tuned:
        if self.controls.stop.is_set():
            self.notes["Ended early, as you asked; the same search goes on from there."] = None
        elif not self.number or all(trial.known for trial in self.trials.values()):
            self.notes["All of it was measured before."] = None
        found = self._show(state)
        try:
            keep_search(found)
        except ConfigError as error:
            self.listener(LogLine("warning", f"`workbench report {self.id}` will not find this search: {error}"))
        return found

    def _stop_if_cancelled(self) -> None:
        if self.controls.cancel.is_set() and not self.is_stopping:
            self.is_stopping = True
            self.crew.stop()

    def _measure_finalists(self) -> None:
        """Where all workers leave meanwhile, what was found counts as it was measured first."""
        if self.controls.cancel.is_set():
            return
        try:
            self._work(self._hand_out_finals, self._finals_are_left)
        except BackendError as error:
            self.given.clear()
            self.notes[f"The finalists could not be measured in turns: {error}"] = None

    def _give_back(self) -> None:
        """Candidates that were not tried to an end; the next call of this search begins with them."""
        for item in self.given.values():
            lane = self.lanes[item.ground.column]
            if lane is not None and isinstance(item.work, Job):
                lane.search.give_back(item.work.candidate)
        for lane in self._open_lanes():
            for candidate in lane.retry.values():
                lane.search.give_back(candidate)
            lane.retry.clear()

    def _open_lanes(self) -> list[Lane]:
        return [lane for lane in self.lanes.values() if lane is not None]

    def _work(self, hand_out: Callable[[str, Ground], Work | None], is_left: Callable[[], bool]) -> None:
        """Until there is nothing to give and nothing under way."""
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
            self._show_now_and_then()

    def _hand_out(self, hand_out: Callable[[str, Ground], Work | None], is_left: Callable[[], bool]) -> bool:
        """A work to every worker whose seat is free. Whether to come back although nothing is under way."""
        if self._is_paused():
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
        if now - self.attended > self.budget.patience_s:
            raise BackendError(
                f"all workers have left, and none has come for {self.budget.patience_s:.0f} s; what was finished is "
                "kept: start the search again to go on."
            )
        return True

    def _beside(self, ground: Ground) -> Collection[str]:
        return self.workers.beside(ground, self.clock.monotonic())

    def _is_paused(self) -> bool:
        return self.controls.pause.is_set() and not self.controls.stop.is_set()

    def _give(self, work: Work, worker: str, ground: Ground) -> None:
        self.number += 1
        work_id, now = f"{self.id}-{self.number}", self.clock.monotonic()
        self.given[work_id] = _Given(work, worker, ground, now, now)
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
        self._show_now_and_then()

    # ---- trials

    def _hand_out_trials(self, worker: str, ground: Ground) -> Work | None:
        lane = self._lane(ground)
        if lane is None or self._is_over():
            return None
        again = lane.next_retry(worker, self._beside(ground)) if lane.retry else None
        if again is not None:
            return self._job(again, lane)
        while not self._is_spent():
            asked = lane.search.ask()
            if asked is None:
                return None
            known = find_trial(self.history, self.plan.task, asked, ground)
            if known is None or not still_there(known, self.store):
                return self._job(asked, lane)
            self._keep(known, lane, ground)
        return None

    def _trials_are_left(self) -> bool:
        lanes = self._open_lanes()
        left = not lanes or any(lane.retry or lane.search.remaining != 0 for lane in lanes)
        return left and not self._is_over() and (not self._is_spent() or any(lane.retry for lane in lanes))

    def _is_over(self) -> bool:
        """Whether nothing new begins."""
        if self.controls.stop.is_set() or self.controls.cancel.is_set():
            return True
        minutes = self.budget.minutes
        return minutes is not None and self.clock.monotonic() - self.began >= 60 * minutes

    def _is_spent(self) -> bool:
        """What waits for another worker counts, where its column has workers."""
        if self._is_over() or self.budget.trials is None:
            return self._is_over()
        columns = self.workers.columns
        waiting = sum(len(lane.retry) for lane in self._open_lanes() if lane.ground.column in columns)
        return len(self.trials) + len(self.given) + waiting >= self.budget.trials

    def _job(self, candidate: Candidate, lane: Lane) -> Job:
        return Job(self.plan.task, candidate, lane.rivals(), 1 + len(lane.failures.get(candidate.key, ())))

    def _lane(self, ground: Ground) -> Lane | None:
        """Of a ground's column; None where rules leave nothing to try there."""
        if ground.column not in self.lanes:
            try:
                lane = open_lane(self.plan, ground, self.history, self.store)
                self.trials.update(lane.trials)
            except ConfigError as error:
                self.notes[f"{ground.column}: {error}"] = None
                lane = None
            self.lanes[ground.column] = lane
        return self.lanes[ground.column]

    def _keep(self, trial: Trial, lane: Lane, ground: Ground) -> None:
        """A duplicate changes nothing. It is in the history before the search knows it, and so in no case lost."""
        keep_trial(self.history, trial, self.plan.task, ground, self.plan.model_name)
        lane.search.tell(trial)
        lane.add(trial)
        self.trials.setdefault(trial.id, trial)
        self.listener(
            LogLine(
                "warning" if trial.state == FAILED else "info", trial_line(trial, len(self.trials), self.budget.trials)
            )
        )
        self.listener(Progress(PHASE, len(self.trials), self.budget.trials))
        self._show(RUNNING)

    # ---- what comes back

    def _settle(self, report: Report) -> None:
        item = self.given.pop(report.work_id, None)
        lane = self.lanes[item.ground.column] if item else None
        if item is None or lane is None:
            return
        if report.cancelled:
            if isinstance(item.work, Job):
                lane.search.give_back(item.work.candidate)
            return
        failure = report.failure or nonsense(item.work, item.ground, report.result)
        if told := self.workers.judge(item.worker, failure, self.clock.monotonic()):
            self.listener(LogLine("warning", told))
        if isinstance(item.work, Finals):
            self._settle_finals(item, lane, report, failure)
        elif failure:
            self._lost(item, lane, failure)
        else:
            self._keep(report.result, lane, item.ground)

    def _lost(self, item: _Given, lane: Lane, failure: str) -> None:
        """Try it again, elsewhere if possible; after some attempts it is a failed trial."""
        assert isinstance(item.work, Job)
        candidate, ground = item.work.candidate, item.ground
        if lane.fail(candidate.key, item.worker, failure):
            self.listener(LogLine("warning", f"{candidate} is tried again: {item.worker}: {failure}"))
            lane.retry[candidate.key] = candidate
            return
        reason = f"tried {ATTEMPTS} times: {'; '.join(lane.failures[candidate.key])}"
        trial = failed_trial(self.plan, candidate, ground, reason, item.worker)
        self._keep(trial, lane, ground)

    def _give_up_silent(self) -> None:
        now = self.clock.monotonic()
        for work_id, item in list(self.given.items()):
            if now - item.heard > self.budget.patience_s:
                self.crew.drop(work_id)
                told = f"nothing was heard for {self.budget.patience_s:.0f} s ({item.phase or 'no phase'})"
                self._settle(Report(work_id, item.worker, failure=told))

    # ---- finals

    def _hand_out_finals(self, worker: str, ground: Ground) -> Work | None:
        lane = self.lanes.get(ground.column)
        if lane is None or lane.is_done or not lane.may_try(FINALS, worker, self._beside(ground)):
            return None
        lane.is_done = True
        finals = finals_of(lane, self.plan)
        if finals is not None:
            self.listener(Progress("Measuring the finalists in turns", 0, None))
        return finals

    def _finals_are_left(self) -> bool:
        return any(not lane.is_done for lane in self._open_lanes())

    def _settle_finals(self, item: _Given, lane: Lane, report: Report, failure: str) -> None:
        if failure:
            lane.is_done = not lane.fail(FINALS, item.worker, failure)
            if lane.is_done:
                self.notes[f"The finalists could not be measured in turns: {failure}"] = None
            return
        found: Study = report.result
        record(found, self.listener)
        lane.result = replace(lane.result, finals=found)

    def _finish(self, lane: Lane) -> None:
        """Who won, with its engine in the store."""
        found = winner_of(lane, self.plan)
        if found is None:
            self.notes[why_nobody(lane, self.plan)] = None
            return
        trial, best = found
        try:
            for key in trial.engines:
                self.crew.bring(key, trial.worker)
        except WorkbenchError as error:
            self.notes[f"The best engine stays where it was built: {error}"] = None
        lane.result = replace(lane.result, best=best)

    # ---- telling

    def _show(self, state: str) -> Tuned:
        self.shown = self.clock.monotonic()
        found = self._tuned(state, self.shown)
        self.each(found)
        return found

    def _show_now_and_then(self) -> None:
        if self.clock.monotonic() - self.shown > _SHOWN_EVERY_S:
            self._show(PAUSED if self._is_paused() else RUNNING)

    def _tuned(self, state: str, now: float) -> Tuned:
        lanes = sorted(self._open_lanes(), key=lambda lane: -len(lane.trials))
        columns = [
            replace(
                lane.result,
                name=lane.ground.column,
                sizes=lane.sizes,
                left_out=lane.left_out,
                importance=lane.search.importance() if state == FINISHED else {},
            )
            for lane in lanes
        ]
        return Tuned(
            id=self.id,
            model=self.plan.model_name,
            model_sha256=self.plan.task.model.key,
            goals=self.plan.goals,
            state=state,
            trials=tuple(self.trials.values()),
            columns=tuple(columns),
            running=tuple(_running(item, now) for item in self.given.values()),
            seconds=round(now - self.began, 1),
            at=_now(),
            shapes=self.plan.task.shapes,
            data=self.plan.data,
            notes=tuple(self.notes),
            again=self.plan.again,
        )


def _running(item: _Given, now: float) -> Running:
    what = str(item.work.candidate) if isinstance(item.work, Job) else "the finalists, in turns"
    return Running(what, item.worker, item.ground.column, item.phase, round(now - item.began, 1))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
