"""The search itself: candidates to workers, results into history and search, until the budget is spent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from workbench.errors import BackendError, Cancelled, ConfigError, StoreError, WorkbenchError
from workbench.runs import History
from workbench.store import EngineStore
from workbench.study import record
from workbench.tuning.budget import Budget, Clock, Controls
from workbench.tuning.candidate import Candidate
from workbench.tuning.crew import Crew, Report, Work
from workbench.tuning.driving import Driver, Given
from workbench.tuning.finals import TURNS, Finals
from workbench.tuning.findings import FINISHED, PAUSED, RUNNING, STOPPED
from workbench.tuning.ground import Ground
from workbench.tuning.lane import ATTEMPTS, FINALS, Lane, failed_trial, open_lane
from workbench.tuning.ledger import find_trial, keep_trial, still_there
from workbench.tuning.plan import Plan
from workbench.tuning.recorded import keep_search, kept_search
from workbench.tuning.result import Tuned
from workbench.tuning.telling import trial_line
from workbench.tuning.trial import FAILED, Trial
from workbench.tuning.trying import Job
from workbench.tuning.winning import finals_of, measured_before, take_finals, why_nobody, winner_of
from workbench.types import Listener, LogLine, Progress, count_of, ignore

PHASE = "Tuning"
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
    lock = EngineStore().lock(f"tuning-{plan.id}")
    try:
        lock.acquire(timeout=0)
    except TimeoutError as error:
        raise StoreError(f"another process is at this search ({plan.id}); wait for it, or stop it there.") from error
    try:
        return _Run(plan, crew, budget or Budget(), controls or Controls(), each, listener, clock or Clock()).run()
    finally:
        lock.release()


@dataclass
class _Run:
    """lanes: by column; closed: columns in which rules leave nothing to try. trials: of all columns, by id. notes:
    sentences for the user, each once."""

    plan: Plan
    crew: Crew
    budget: Budget
    controls: Controls
    each: Callable[[Tuned], None]
    listener: Listener
    clock: Clock
    lanes: dict[str, Lane] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    trials: dict[str, Trial] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    shown: float = 0.0

    def __post_init__(self) -> None:
        self.history, self.store = History(), EngineStore()
        self.earlier = kept_search(self.plan.id)
        self.began = self.clock.monotonic()
        self.driver = Driver(
            self.plan.id, self.crew, self.budget.patience_s, self.controls, self.clock, self.listener, self._settle,
            self._show_now_and_then,
        )  # fmt: skip
        if self.plan.task.samples is None:
            self.notes["Outputs were compared on random arrays, which tells little of accuracy: give data."] = None

    # ---- the whole

    def run(self) -> Tuned:
        try:
            self.driver.work(self._hand_out_trials, self._trials_are_left)
            self._give_back()
            if not self.trials and not self.controls.cancel.is_set():
                raise BackendError(" ".join(["Nothing could be tried.", *self.notes]))
            self._measure_finalists()
        except BaseException:
            self._give_back()
            raise
        if self.controls.cancel.is_set():
            found = self._end(STOPPED)
            count = count_of(len(found.trials), "trial")
            raise Cancelled(f"stopped after {count}; the same search goes on from there.")
        for lane in self.lanes.values():
            self._finish(lane)
        return self._end(FINISHED)

    def _end(self, state: str) -> Tuned:
        if self.controls.stop.is_set():
            self.notes["Ended early, as you asked; the same search goes on from there."] = None
        elif not self.driver.number or all(trial.known for trial in self.trials.values()):
            self.notes["All of it was measured before."] = None
        return self._store(self._show(state))

    def _store(self, found: Tuned) -> Tuned:
        try:
            keep_search(found)
        except ConfigError as error:
            self.listener(LogLine("warning", f"`workbench report {found.id}` will not find this search: {error}"))
        return found

    def _measure_finalists(self) -> None:
        """Where all workers leave meanwhile, what was found counts as it was measured first."""
        try:
            self.driver.work(self._hand_out_finals, self._finals_are_left)
        except BackendError as error:
            self.driver.given.clear()
            self.notes[f"The finalists could not be measured in turns: {error}"] = None

    def _give_back(self) -> None:
        """Candidates that were not tried to an end; the next call of this search begins with them."""
        for item in self.driver.given.values():
            if isinstance(item.work, Job):
                self.lanes[item.ground.column].search.give_back(item.work.candidate)
        for lane in self.lanes.values():
            lane.give_back()

    # ---- trials

    def _hand_out_trials(self, worker: str, ground: Ground) -> Work | None:
        lane = self._lane(ground)
        if lane is None or self._is_over():
            return None
        if lane.retry and (again := lane.next_retry(worker, self.driver.beside(ground))):
            return lane.job(self.plan.task, again)
        while not self._is_spent():
            asked = lane.search.ask()
            if asked is None:
                return None
            known = find_trial(self.history, self.plan.task, asked, ground)
            if known is None or not still_there(known, self.store):
                return lane.job(self.plan.task, asked)
            self._keep(known, lane, ground)
        return None

    def _trials_are_left(self) -> bool:
        lanes = self.lanes.values()
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
        columns = self.driver.workers.columns
        waiting = sum(len(lane.retry) for name, lane in self.lanes.items() if name in columns)
        return len(self.trials) + len(self.driver.given) + waiting >= self.budget.trials

    def _lane(self, ground: Ground) -> Lane | None:
        """Of a ground's column; None where rules leave nothing to try there."""
        name = ground.column
        if name not in self.lanes and name not in self.closed:
            try:
                lane = open_lane(self.plan, ground, self.history, self.store)
            except ConfigError as error:
                self.notes[f"{name}: {error}"] = None
                self.closed.add(name)
            else:
                take_finals(lane, self.earlier)
                self.lanes[name] = lane
                self.trials.update(lane.trials)
        return self.lanes.get(name)

    def _keep(self, trial: Trial, lane: Lane, ground: Ground) -> None:
        """A duplicate changes nothing. It is in the history before the search knows it, and so in no case lost."""
        keep_trial(self.history, trial, self.plan.task, ground, self.plan.model_name)
        lane.search.tell(trial)
        lane.add(trial)
        self.trials.setdefault(trial.id, trial)
        count, most = len(self.trials), self.budget.trials
        self.listener(LogLine("warning" if trial.state == FAILED else "info", trial_line(trial, count, most)))
        self.listener(Progress(PHASE, count, most))
        self._show(RUNNING)

    def _settle(self, item: Given, report: Report, failure: str) -> None:
        """What became of a work."""
        lane = self.lanes[item.ground.column]
        if isinstance(item.work, Finals):
            if not report.cancelled:
                self._settle_finals(item, lane, report, failure)
        elif report.cancelled:
            lane.search.give_back(item.work.candidate)
        elif failure:
            self._lost(item, lane, item.work.candidate, failure)
        else:
            self._keep(report.result, lane, item.ground)

    def _lost(self, item: Given, lane: Lane, candidate: Candidate, failure: str) -> None:
        """Try it again, elsewhere if possible; after some attempts it is a failed trial."""
        if lane.fail(candidate.key, item.worker, failure):
            self.listener(LogLine("warning", f"{candidate} is tried again: {item.worker}: {failure}"))
            lane.retry[candidate.key] = candidate
            return
        reason = f"tried {ATTEMPTS} times: {'; '.join(lane.failures[candidate.key])}"
        self._keep(failed_trial(self.plan, candidate, item.ground, reason, item.worker), lane, item.ground)

    # ---- finals

    def _hand_out_finals(self, worker: str, ground: Ground) -> Work | None:
        lane = self.lanes.get(ground.column)
        if lane is None or lane.is_done or not lane.may_try(FINALS, worker, self.driver.beside(ground)):
            return None
        lane.is_done = True
        finals = finals_of(lane, self.plan, again=self.budget.finals_again)
        if told := measured_before(lane, self.plan, self.store):
            self.notes[told] = None
            return None
        if finals is not None:
            self.listener(Progress(TURNS, 0, None))
        return finals

    def _finals_are_left(self) -> bool:
        return any(not lane.is_done for lane in self.lanes.values())

    def _settle_finals(self, item: Given, lane: Lane, report: Report, failure: str) -> None:
        if failure:
            lane.is_done = not lane.fail(FINALS, item.worker, failure)
            if lane.is_done:
                self.notes[f"The finalists could not be measured in turns: {failure}"] = None
            return
        record(report.result, self.listener)
        lane.result = replace(lane.result, finals=report.result)
        self._store(self._tuned(STOPPED))  # what it is, should the process end before the search does

    def _finish(self, lane: Lane) -> None:
        """Who won, with its engine in the store."""
        if not lane.is_done:
            finals_of(lane, self.plan)  # those of an earlier call count for the same finalists only
            self.notes[f"{lane.ground.column}: nobody was there to measure the finalists in turns."] = None
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
        found = self._tuned(state)
        self.each(found)
        return found

    def _show_now_and_then(self) -> None:
        if self.clock.monotonic() - self.shown > _SHOWN_EVERY_S:
            self._show(PAUSED if self.controls.is_paused else RUNNING)

    def _tuned(self, state: str) -> Tuned:
        now = self.clock.monotonic()
        lanes = sorted(self.lanes.values(), key=lambda lane: -len(lane.trials))
        return Tuned(
            id=self.plan.id,
            model=self.plan.model_name,
            model_sha256=self.plan.task.model.key,
            goals=self.plan.goals,
            state=state,
            trials=tuple(self.trials.values()),
            columns=tuple(lane.column(with_importance=state == FINISHED) for lane in lanes),
            running=tuple(item.told(now) for item in self.driver.given.values()),
            seconds=round(now - self.began, 1),
            at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            shapes=self.plan.task.shapes,
            data=self.plan.data,
            notes=tuple(self.notes),
            again=self.plan.again,
        )
