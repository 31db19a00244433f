"""Lane: one column of a search under way: what is found there, what has to be tried again, and where not."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from workbench.runs import History
from workbench.store import EngineStore
from workbench.tuning.candidate import Candidate
from workbench.tuning.findings import Column
from workbench.tuning.goals import Goals, Score
from workbench.tuning.ground import Ground
from workbench.tuning.ledger import find_trial, still_there, trials_of
from workbench.tuning.plan import Plan
from workbench.tuning.search import BEGUN, Search
from workbench.tuning.space import Rules, sizes
from workbench.tuning.task import Task
from workbench.tuning.trial import FAILED, Trial
from workbench.tuning.trying import Job

ATTEMPTS = 3
"""On so many workers a candidate is tried that workers died of, or answered nonsense to."""
RIVALS = 24
FINALS = ""
"""Stands for the finals where a candidate's key would stand."""


@dataclass
class Lane:
    """ground: of the first worker of this column. trials: by id. front: of those that are complete and within the
    limits, by id. retry: candidates that wait for another worker, by key. failures, avoided: what went wrong with a
    candidate, and on which workers, by its key. is_done: its finalists were handed out, or need not be. result: its
    finalists, finals and best so far."""

    ground: Ground
    goals: Goals
    rules: Rules
    search: Search
    sizes: str
    left_out: tuple[str, ...]
    trials: dict[str, Trial] = field(default_factory=dict)
    front: dict[str, Score] = field(default_factory=dict)
    retry: dict[str, Candidate] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)
    avoided: dict[str, set[str]] = field(default_factory=dict)
    is_done: bool = False
    result: Column = field(default_factory=lambda: Column(""))

    def add(self, trial: Trial) -> None:
        """A duplicate changes nothing."""
        if trial.id in self.trials:
            return
        self.trials[trial.id] = trial
        score = trial.score
        if score is None or not trial.is_complete or not self.goals.allows(score):
            return
        if not any(self.goals.dominates(other, score) for other in self.front.values()):
            beaten = [name for name, other in self.front.items() if self.goals.dominates(score, other)]
            for name in beaten:
                del self.front[name]
            self.front[trial.id] = score

    @property
    def complete(self) -> dict[str, Trial]:
        return {name: trial for name, trial in self.trials.items() if trial.is_complete}

    def rivals(self) -> dict[str, Score]:
        """Of the front, spread evenly along the first objective where it is long."""
        names = sorted(self.front, key=lambda name: self.goals.values(self.front[name]))
        count = min(len(names), RIVALS)
        picked = [names[place * (len(names) - 1) // max(count - 1, 1)] for place in range(count)]
        return {str(self.trials[name].candidate): self.front[name] for name in picked}

    def job(self, task: Task, candidate: Candidate) -> Job:
        return Job(task, candidate, self.rivals(), 1 + len(self.failures.get(candidate.key, ())))

    def give_back(self) -> None:
        """Those that wait for another worker; the next call of this search begins with them."""
        for candidate in self.retry.values():
            self.search.give_back(candidate)
        self.retry.clear()

    def next_retry(self, worker: str, present: Collection[str]) -> Candidate | None:
        """One that this worker may try again. present: the workers of this column."""
        key = next((key for key in self.retry if self.may_try(key, worker, present)), None)
        return None if key is None else self.retry.pop(key)

    def may_try(self, key: str, worker: str, present: Collection[str]) -> bool:
        """Elsewhere than where it failed, if there is an elsewhere."""
        avoided = self.avoided.get(key, set())
        return worker not in avoided or avoided.issuperset(present)

    def fail(self, key: str, worker: str, failure: str) -> bool:
        """Whether it may be tried again."""
        found = self.failures.setdefault(key, [])
        found.append(f"{worker}: {failure}")
        self.avoided.setdefault(key, set()).add(worker)
        return len(found) < ATTEMPTS

    def column(self, *, with_importance: bool) -> Column:
        """What is told of it."""
        importance = self.search.importance() if with_importance else {}
        name = self.ground.column
        return replace(self.result, name=name, sizes=self.sizes, left_out=self.left_out, importance=importance)


def open_lane(plan: Plan, ground: Ground, history: History, store: EngineStore) -> Lane:
    """With what earlier processes have found. Raises ConfigError where rules leave nothing to try."""
    rules = plan.rules(ground)
    name = f"{plan.id} {ground.column}"
    search = Search(name, plan.space, rules, plan.goals, store.folder, sampler=plan.sampler)
    lane = Lane(ground, plan.goals, rules, search, sizes(plan.space, rules), rules.left_out(plan.space))
    found = {name: trial for name, trial in trials_of(history, search.trials).items() if trial.state != FAILED}
    # Those that failed are tried again: what was in the way may be gone.
    search.forget(set(search.trials) - found.keys())
    for trial in found.values():
        lane.add(trial)
    for candidate in (*search.interrupted, *search.fatal):
        kept = find_trial(history, plan.task, candidate, ground)
        if kept is None or not still_there(kept, store):
            if candidate not in search.fatal:
                continue
            kept = failed_trial(plan, candidate, ground, f"it ended the process {BEGUN} times")
        search.tell(kept)  # it was kept, and the process ended before it was told; or there is nothing to wait for
        lane.add(kept)
    return lane


def failed_trial(plan: Plan, candidate: Candidate, ground: Ground, reason: str, worker: str = "") -> Trial:
    """Of one that no worker could try to an end."""
    return Trial(
        id=plan.task.trial_id(candidate, ground.place(candidate.backend), judged=True),
        candidate=candidate,
        state=FAILED,
        column=ground.column,
        reason=reason,
        worker=worker,
        at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        attempts=ATTEMPTS,
    )
