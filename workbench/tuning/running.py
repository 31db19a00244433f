"""The search itself: candidates to workers, results into history and search, until the budget is spent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from workbench.errors import BackendError, Cancelled, ConfigError, StoreError, WorkbenchError
from workbench.runs import History
from workbench.store import EngineStore
from workbench.study import Study, record
from workbench.tuning.candidate import Candidate
from workbench.tuning.choosing import finalists, pick, rescored
from workbench.tuning.crew import Crew, Report, Work, nonsense
from workbench.tuning.finals import Finals
from workbench.tuning.goals import value_text
from workbench.tuning.ground import Ground
from workbench.tuning.ledger import find_trial, keep_trial, still_there, trial_of
from workbench.tuning.plan import Plan
from workbench.tuning.result import FINISHED, PAUSED, RUNNING, STOPPED, Best, Column, Running, Tuned, names_of
from workbench.tuning.search import Search
from workbench.tuning.space import Rules, firsts, sizes
from workbench.tuning.task import config_of
from workbench.tuning.trial import FAILED, Trial
from workbench.tuning.trying import Job
from workbench.types import Listener, LogLine, Progress, count_of, ignore

PHASE = "Tuning"
ATTEMPTS = 3
"""On so many workers a candidate is tried that workers died of, or answered nonsense to."""
_WAIT_S = 0.5
_SHOWN_EVERY_S = 0.5


@dataclass(frozen=True)
class Budget:
    """Whichever is spent first ends the search. trials: in all, with those from before it was stopped. minutes: of this
    call; what is under way is finished. patience_s: a worker that tells nothing for so long hangs."""

    trials: int | None = 25
    minutes: float | None = None
    patience_s: float = 900.0

    def __post_init__(self) -> None:
        if self.trials is not None and self.trials < 1:
            raise ConfigError(f"{self.trials} trials find nothing; allow one at least.")
        if self.minutes is not None and not self.minutes > 0:
            raise ConfigError(f"{self.minutes:g} minutes are no time to search in; allow more than 0.")


@dataclass
class Controls:
    """Set from another thread. stop: end soon and measure the finalists of what was found. pause: give out nothing
    while it is set. cancel: end soon, and leave it at that; the search can go on later."""

    stop: threading.Event = field(default_factory=threading.Event)
    pause: threading.Event = field(default_factory=threading.Event)
    cancel: threading.Event = field(default_factory=threading.Event)


def run_search(
    plan: Plan,
    crew: Crew,
    budget: Budget | None = None,
    *,
    controls: Controls | None = None,
    each: Callable[[Tuned], None] = lambda tuned: None,
    listener: Listener = ignore,
) -> Tuned:
    """Search until the budget is spent, then measure the finalists in turns; whatever was found before counts.

    each: gets what is known, after every trial and about twice a second. Raises BackendError where nobody is there to
    work or all have gone (what was finished is kept, and the next call goes on), StoreError where another process is at
    this very search, Cancelled.
    """
    store = EngineStore()
    lock = store.lock(f"tuning-{plan.id}")
    try:
        lock.acquire(timeout=0)
    except TimeoutError as error:
        raise StoreError(f"another process is at this search ({plan.id}); wait for it, or stop it there.") from error
    try:
        return _Run(plan, crew, budget or Budget(), controls or Controls(), each, listener).run()
    finally:
        lock.release()


@dataclass
class _Lane:
    """A column under way: its search, and what a ground of it looks like."""

    ground: Ground
    rules: Rules
    search: Search
    sizes: str
    retry: list[Candidate] = field(default_factory=list)
    is_done: bool = False
    result: Column = field(default_factory=lambda: Column(""))


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
    ) -> None:
        self.plan, self.crew, self.budget, self.controls = plan, crew, budget, controls
        self.each, self.listener = each, listener
        self.history, self.store = History(), EngineStore()
        self.lanes: dict[str, _Lane] = {}
        self.given: dict[str, _Given] = {}
        self.trials: dict[str, Trial] = {}
        self.failures: dict[str, list[str]] = {}
        self.avoided: dict[str, set[str]] = {}
        self.notes: dict[str, None] = {}
        self.began, self.shown, self.number = time.monotonic(), 0.0, 0

    # ---- the whole

    def run(self) -> Tuned:
        try:
            self._work(self._hand_out_trials)
            if not self.trials and not self.controls.cancel.is_set():
                raise BackendError(" ".join(["Nothing could be tried.", *self.notes]))
            if not self.controls.cancel.is_set():
                self._work(self._hand_out_finals)
        except BaseException:
            for lane in self.lanes.values():
                for item in self.given.values():
                    if isinstance(item.work, Job) and item.ground.column == lane.ground.column:
                        lane.search.give_back(item.work.candidate)
            raise
        if self.controls.cancel.is_set():
            found = self._show(STOPPED, always=True)
            raise Cancelled(
                f"stopped after {count_of(len(found.trials), 'trial')}; the same search goes on from there."
            )
        for lane in self.lanes.values():
            self._finish(lane)
        return self._show(FINISHED, always=True)

    def _work(self, hand_out: Callable[[str, Ground], Work | None]) -> None:
        """Until there is nothing to give and nothing under way."""
        stopped = False
        while True:
            if self.controls.cancel.is_set() and not stopped:
                self.crew.stop()
                stopped = True
            waiting = self._hand_out(hand_out) if not stopped else False
            if not self.given and not waiting:
                return
            for report in self.crew.wait(_WAIT_S, self._hear):
                self._settle(report)
            self._give_up_silent()
            self._show(PAUSED if self.controls.pause.is_set() else RUNNING)

    def _hand_out(self, hand_out: Callable[[str, Ground], Work | None]) -> bool:
        """A work to every worker whose seat is free. Whether to come back although nothing is under way."""
        if self.controls.pause.is_set():
            time.sleep(0 if self.given else _WAIT_S)
            return not self.controls.stop.is_set()
        grounds = self.crew.grounds()
        busy = {item.ground.seat for item in self.given.values()}
        for worker, ground in grounds.items():
            if ground.seat in busy:
                continue
            work = hand_out(worker, ground)
            if work is not None:
                busy.add(ground.seat)
                self._give(work, worker, ground)
        return False

    def _give(self, work: Work, worker: str, ground: Ground) -> None:
        self.number += 1
        work_id, now = f"{self.plan.id}-{self.number}", time.monotonic()
        self.given[work_id] = _Given(work, worker, ground, now, now)
        self.crew.give(work_id, work, worker)

    def _hear(self, work_id: str, event: Progress | LogLine) -> None:
        item = self.given.get(work_id)
        if item is None:
            return
        item.heard = time.monotonic()
        if isinstance(event, Progress):
            item.phase = event.phase
        self.listener(event)
        self._show(RUNNING)

    # ---- trials

    def _hand_out_trials(self, worker: str, ground: Ground) -> Work | None:
        lane = self._lane(ground)
        if lane is None:
            return None
        for candidate in lane.retry:
            if self._may_try(candidate, worker, ground):
                lane.retry.remove(candidate)
                return self._job(candidate, lane)
        while not self._is_spent():
            asked = lane.search.ask()
            if asked is None:
                return None
            known = find_trial(self.history, self.plan.task, asked, ground.machine_id)
            if known is None or not still_there(known, self.store):
                return self._job(asked, lane)
            self._keep(known, lane, ground)
        return None

    def _is_spent(self) -> bool:
        if self.controls.stop.is_set():
            return True
        minutes = self.budget.minutes
        if minutes is not None and time.monotonic() - self.began >= 60 * minutes:
            return True
        under_way = sum(isinstance(item.work, Job) for item in self.given.values())
        waiting = sum(len(lane.retry) for lane in self.lanes.values())
        return self.budget.trials is not None and len(self.trials) + under_way + waiting >= self.budget.trials

    def _job(self, candidate: Candidate, lane: _Lane) -> Job:
        rivals = {
            str(trial.candidate): trial.score
            for trial in self.trials.values()
            if trial.is_complete and trial.score is not None and trial.column == lane.ground.column
        }
        return Job(self.plan.task, candidate, rivals, 1 + len(self.failures.get(candidate.key, ())))

    def _may_try(self, candidate: Candidate, worker: str, ground: Ground) -> bool:
        """Elsewhere than where it failed, if there is an elsewhere."""
        avoided = self.avoided.get(candidate.key, set())
        others = [name for name, item in self.crew.grounds().items() if item.column == ground.column]
        return worker not in avoided or not set(others) - avoided

    def _lane(self, ground: Ground) -> _Lane | None:
        """The search of a ground's column; None where rules leave nothing to try there."""
        if ground.column not in self.lanes:
            rules = self.plan.rules(ground)
            name = f"{self.plan.id} {ground.column}"
            try:
                search = Search(
                    name, self.plan.space, rules, self.plan.goals, self.store.folder, sampler=self.plan.sampler
                )
            except ConfigError as error:
                self.notes[f"{ground.column}: {error}"] = None
                return None
            told = sizes(self.plan.space, rules)
            self.lanes[ground.column] = _Lane(ground, rules, search, told)
            for trial_id in search.trials:
                trial = trial_of(self.history, trial_id)
                if trial is not None:
                    self.trials[trial.id] = trial
        return self.lanes[ground.column]

    def _keep(self, trial: Trial, lane: _Lane, ground: Ground) -> None:
        """A duplicate changes nothing."""
        keep_trial(self.history, trial, self.plan.task, ground, self.plan.model_name)
        self.trials.setdefault(trial.id, trial)
        lane.search.tell(trial)
        self.listener(LogLine("warning" if trial.state == FAILED else "info", self._told(trial)))
        self.listener(Progress(PHASE, len(self.trials), self.budget.trials))
        self._show(RUNNING, always=True)

    def _told(self, trial: Trial) -> str:
        """'trial 3 of 25: onnxruntime fp16: 0.083 ms, 0.00 points lost'."""
        of = f" of {self.budget.trials}" if self.budget.trials else ""
        score, what = trial.score, trial.reason
        if trial.is_complete and score is not None:
            loss = value_text("accuracy", score.loss.value, score.metric)
            what = f"{value_text('latency', score.latency_ms.value)}, {loss} lost"
        known = ", known from before" if trial.known else ""
        return f"trial {len(self.trials)}{of}: {trial.candidate}: {what}{known}"

    # ---- what comes back

    def _settle(self, report: Report) -> None:
        item = self.given.pop(report.work_id, None)
        if item is None:
            return
        lane = self.lanes[item.ground.column]
        if report.cancelled:
            if isinstance(item.work, Job):
                lane.search.give_back(item.work.candidate)
            return
        failure = report.failure or nonsense(item.work, item.ground, report.result)
        if isinstance(item.work, Finals):
            self._settle_finals(item, report, failure)
        elif failure:
            self._lost(item, lane, failure)
        else:
            self._keep(report.result, lane, item.ground)

    def _lost(self, item: _Given, lane: _Lane, failure: str) -> None:
        """Try it again, elsewhere if possible; after some attempts it is a failed trial."""
        assert isinstance(item.work, Job)
        candidate = item.work.candidate
        failures = self.failures.setdefault(candidate.key, [])
        failures.append(f"{item.worker}: {failure}")
        self.avoided.setdefault(candidate.key, set()).add(item.worker)
        self.listener(LogLine("warning", f"{candidate} is tried again: {item.worker}: {failure}"))
        if len(failures) < ATTEMPTS:
            lane.retry.append(candidate)
            return
        ground = item.ground
        self._keep(
            Trial(
                id=self.plan.task.trial_id(candidate, ground.machine_id, judged=True),
                candidate=candidate,
                state=FAILED,
                column=ground.column,
                reason=f"tried {ATTEMPTS} times: {'; '.join(failures)}",
                worker=item.worker,
                at=_now(),
                attempts=ATTEMPTS,
            ),
            lane,
            ground,
        )

    def _give_up_silent(self) -> None:
        now = time.monotonic()
        for work_id, item in list(self.given.items()):
            if now - item.heard > self.budget.patience_s:
                self.crew.drop(work_id)
                told = f"nothing was heard for {self.budget.patience_s:.0f} s ({item.phase or 'no phase'})"
                self._settle(Report(work_id, item.worker, failure=told))

    # ---- finals

    def _hand_out_finals(self, worker: str, ground: Ground) -> Work | None:
        lane = self.lanes.get(ground.column)
        if lane is None or lane.is_done:
            return None
        lane.is_done = True
        trials = self._of(lane)
        hand = firsts(self.plan.space, lane.rules)
        ids = finalists(trials, self.plan.goals, hand)
        names = names_of({item: trials[item].candidate for item in ids})
        lane.result = replace(lane.result, finalists={name: item for item, name in names.items()})
        if len(ids) < 2:
            return None
        self.listener(Progress("Measuring the finalists in turns", 0, None))
        return Finals(self.plan.task, {names[item]: trials[item].candidate for item in ids})

    def _settle_finals(self, item: _Given, report: Report, failure: str) -> None:
        lane = self.lanes[item.ground.column]
        if failure:
            failures = self.failures.setdefault(lane.ground.column, [])
            failures.append(failure)
            lane.is_done = len(failures) >= ATTEMPTS
            if lane.is_done:
                self.notes[f"The finalists could not be measured in turns: {failure}"] = None
            return
        found: Study = report.result
        record(found, self.listener)
        lane.result = replace(lane.result, finals=found)

    def _finish(self, lane: _Lane) -> None:
        """Who won, with its engine in the store."""
        trials, result = self._of(lane), lane.result
        scores = {name: trial.score for name, trial in trials.items() if trial.score is not None}
        if result.finals is not None:
            again = rescored(trials, result.finalists, result.finals, self.plan.task.on_gpu_clock)
            scores = {name: again[name] for name in again} or scores
        allowed = {name: score for name, score in scores.items() if self.plan.goals.allows(score)}
        if not allowed:
            self.notes[f"{lane.ground.column}: {self._why_nobody(lane)}"] = None
            return
        chosen, tied, reason = pick(allowed, trials, self.plan.goals)
        trial = trials[chosen]
        try:
            for key in trial.engines:
                self.crew.bring(key, trial.worker)
        except WorkbenchError as error:
            self.notes[f"The best engine stays where it was built: {error}"] = None
        config = config_of(self.plan.task, trial.candidate, self.plan.inputs, self.plan.calibration)
        lane.result = replace(lane.result, best=Best(chosen, trial.engines, config, tied, reason))

    def _why_nobody(self, lane: _Lane) -> str:
        own = [trial for trial in self.trials.values() if trial.column == lane.ground.column]
        if own and all(trial.state == FAILED for trial in own):
            return f"every candidate failed; the first: {own[0].reason}"
        limits = " and ".join(map(str, self.plan.goals.limits))
        return f"no candidate stays within {limits}; ease a limit, or widen the space."

    def _of(self, lane: _Lane) -> dict[str, Trial]:
        column = lane.ground.column
        return {name: item for name, item in self.trials.items() if item.column == column and item.is_complete}

    # ---- telling

    def _show(self, state: str, *, always: bool = False) -> Tuned:
        now = time.monotonic()
        found = self._tuned(state, now)
        if always or now - self.shown > _SHOWN_EVERY_S:
            self.shown = now
            self.each(found)
        return found

    def _tuned(self, state: str, now: float) -> Tuned:
        columns = [
            replace(
                lane.result,
                name=name,
                sizes=lane.sizes,
                left_out=lane.rules.left_out(self.plan.space),
                importance=lane.search.importance() if state == FINISHED else {},
            )
            for name, lane in self.lanes.items()
        ]
        count = {column.name: sum(item.column == column.name for item in self.trials.values()) for column in columns}
        return Tuned(
            id=self.plan.id,
            model=self.plan.model_name,
            model_sha256=self.plan.task.model.key,
            goals=self.plan.goals,
            state=state,
            trials=tuple(self.trials.values()),
            columns=tuple(sorted(columns, key=lambda column: -count[column.name])),
            running=tuple(_running(item, now) for item in self.given.values()),
            seconds=round(now - self.began, 1),
            at=_now(),
            shapes=self.plan.task.shapes,
            data=self.plan.data,
            notes=tuple(self.notes),
        )


def _running(item: _Given, now: float) -> Running:
    what = str(item.work.candidate) if isinstance(item.work, Job) else "the finalists, in turns"
    return Running(what, item.worker, item.ground.column, item.phase, round(now - item.began, 1))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
