"""Search: which candidate comes next. Optuna's samplers propose; its SQLite file keeps what was asked and found.

Few candidates are all tried. Else a tree-structured Parzen estimator proposes (J. Bergstra and others, 2011, Algorithms
for Hyper-Parameter Optimization; multivariate, with constraints), and after some hundred trials NSGA-II (K. Deb and
others, 2002, IEEE Transactions on Evolutionary Computation 6, 182-197). See proposing.py for what they know.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event

from workbench.errors import ConfigError
from workbench.tuning.candidate import KNOBS, Candidate, candidate_from_json
from workbench.tuning.goals import Goals
from workbench.tuning.proposing import Outcome, Proposer, added, finish, knob_of, parameters
from workbench.tuning.space import MOST, Rules, Space, firsts
from workbench.tuning.trial import PRUNED, Trial

FILE = "tuning.sqlite"
SAMPLERS = ("auto", "grid", "tpe", "nsga2", "random")
SMALL = 64
"""Up to so many candidates, 'auto' tries all of them."""
LONG = 200
"""After so many trials 'auto' goes over to NSGA-II, which proposes more quickly."""
_ENOUGH = 8
_KEY, _TRIAL = "candidate", "trial"
_FAR = 1e300
"""Stands for what is not finite: Optuna takes no NaN."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Search:
    """One search on one kind of machine. name: under which the file keeps it; one process at a time may use it.

    Raises ConfigError for a sampler that does not exist, and where rules leave no candidate.
    """

    def __init__(
        self, name: str, space: Space, rules: Rules, goals: Goals, folder: Path, *, sampler: str = "auto", seed: int = 0
    ) -> None:
        if sampler not in SAMPLERS:
            raise ConfigError(f"there is no sampler {sampler!r}; choose one of {', '.join(SAMPLERS)}.")
        self.space, self.rules, self.goals = space, rules, goals
        self._left = _listed(space, rules, seed)
        if self._left is not None and not self._left:
            raise ConfigError(" ".join(["No candidate is left to try.", *rules.left_out(space)]))
        is_small = self._left is not None and len(self._left) <= SMALL
        self._sampler = "grid" if sampler == "auto" and is_small else sampler
        self._study, self._storage = _opened(name, goals, folder)
        self._asked: dict[str, optuna.Trial] = {}
        self._known: dict[str, str] = {}
        self._finished = 0
        self._first = {item.key: item for item in firsts(space, rules)}
        told = self._take_up(self._study.get_trials(deepcopy=False))
        self._proposer = Proposer(space, rules, len(goals.objectives), seed + len(self._known))
        self._proposer.take_up(told)

    @property
    def trials(self) -> tuple[str, ...]:
        """Ids of the trials that were told, in order, also by earlier processes."""
        return tuple(self._known.values())

    @property
    def remaining(self) -> int | None:
        """Candidates that nobody has asked for; None where there are too many to list."""
        return None if self._left is None else len(self._left)

    def ask(self) -> Candidate | None:
        """Another candidate each time, those first that one would pick by hand; None when all were given."""
        found = self._next()
        if found is None:
            return None
        trial = self._recorded(found)
        if self._sampler != "grid":
            self._proposer.hold(found)
        self._asked[found.key] = trial
        if self._left is not None:
            self._left.pop(found.key, None)
        return found

    def tell(self, trial: Trial) -> None:
        """What became of a candidate that was asked for, or that an earlier search has measured. A second time, it
        changes nothing."""
        candidate = trial.candidate
        if candidate.key in self._known:
            return
        asked = self._asked.pop(candidate.key, None) or self._recorded(candidate)
        outcome = self._outcome(trial)
        asked.set_user_attr(_TRIAL, trial.id)
        finish(self._study, asked, outcome)
        self._known[candidate.key] = trial.id
        self._finished += outcome.state == TrialState.COMPLETE
        self._first.pop(candidate.key, None)
        if self._left is not None:
            self._left.pop(candidate.key, None)
        if self._sampler != "grid":
            self._proposer.tell(candidate, outcome)

    def give_back(self, candidate: Candidate) -> None:
        """One that was asked for and not tried: it is the next to be asked for again."""
        asked = self._asked.pop(candidate.key, None)
        if asked is not None:
            self._study.tell(asked, state=TrialState.FAIL)
            self._proposer.let_go(candidate)
            self._put_first(candidate)

    def forget(self, trial_ids: Iterable[str]) -> None:
        """Trials that were told and cannot be found any more: their candidates are asked for again."""
        lost = set(trial_ids)
        keys = {key for key, trial_id in self._known.items() if trial_id in lost}
        for trial in self._study.get_trials(deepcopy=False) if keys else ():
            candidate = _candidate(trial)
            if candidate is not None and candidate.key in keys:
                self._known.pop(candidate.key, None)
                self._put_first(candidate)

    def importance(self) -> dict[str, dict[str, float]]:
        """By objective, the share that each knob has in being among the best tenth, 0 to 1, by PED-ANOVA (S. Watanabe
        and others, 2023, IJCAI, 4389-4396). Nothing where fewer than eight trials are complete."""
        if self._finished < _ENOUGH:
            return {}
        found: dict[str, dict[str, float]] = {}
        for number, objective in enumerate(self.goals.objectives):
            shares = dict.fromkeys(KNOBS, 0.0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                told = get_param_importances(
                    self._study,
                    evaluator=PedAnovaImportanceEvaluator(),
                    target=lambda trial, number=number: trial.values[number],  # type: ignore[misc]
                )
            for name, share in told.items():
                shares[knob_of(name)] += share
            found[objective] = {name: share for name, share in shares.items() if len(self.space.values(name)) > 1}
        return found

    def _take_up(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Those that earlier processes have told; what they had asked for and not told comes first now."""
        told = []
        for trial in trials:
            candidate = _candidate(trial)
            if not trial.state.is_finished():
                self._study.tell(trial.number, state=TrialState.FAIL)
                if candidate is not None and self.rules.admits(self.space, candidate):
                    self._first = {candidate.key: candidate, **self._first}
            elif candidate is not None and _TRIAL in trial.user_attrs:
                self._known[candidate.key] = trial.user_attrs[_TRIAL]
                self._finished += trial.state == TrialState.COMPLETE
                told.append(trial)
        for key in self._known:
            self._first.pop(key, None)
            if self._left is not None:
                self._left.pop(key, None)
        return told

    def _next(self) -> Candidate | None:
        while self._first:
            found = self._first.pop(next(iter(self._first)))
            if not self._is_taken(found):
                return found
        if self._left is not None and not self._left:
            return None
        if self._sampler == "grid":
            return self._any()
        return self._proposer.propose(self._kind(), self._is_taken) or self._any()

    def _kind(self) -> str:
        if self._sampler != "auto":
            return self._sampler
        return "tpe" if self._finished < LONG else "nsga2"

    def _any(self) -> Candidate | None:
        listed = self._left.values() if self._left is not None else self.rules.candidates(self.space)
        return next((item for item in listed if not self._is_taken(item)), None)

    def _is_taken(self, candidate: Candidate) -> bool:
        return candidate.key in self._asked or candidate.key in self._known

    def _put_first(self, candidate: Candidate) -> None:
        self._first[candidate.key] = candidate
        if self._left is not None:
            self._left[candidate.key] = candidate

    def _recorded(self, candidate: Candidate) -> optuna.Trial:
        """In the file, as under way."""
        params, distributions = parameters(self.space, self.rules, candidate)
        trial = create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=distributions,
            user_attrs={_KEY: vars(candidate)},
        )
        return added(self._study, self._storage, trial)

    def _outcome(self, trial: Trial) -> Outcome:
        if trial.score is None or not trial.is_complete:
            return Outcome(TrialState.PRUNED if trial.state == PRUNED else TrialState.FAIL)
        score = trial.score
        excess = {str(number): _number(limit.excess(score).value) for number, limit in enumerate(self.goals.limits)}
        return Outcome(TrialState.COMPLETE, tuple(map(_number, self.goals.values(score))), excess)


def _number(value: float) -> float:
    return max(value, -_FAR) if value < _FAR else _FAR


def _candidate(trial: FrozenTrial) -> Candidate | None:
    return candidate_from_json(trial.user_attrs[_KEY]) if _KEY in trial.user_attrs else None


def _opened(name: str, goals: Goals, folder: Path) -> tuple[optuna.Study, BaseStorage]:
    backend = RDBStorage(f"sqlite:///{folder / FILE}", engine_kwargs={"connect_args": {"timeout": 60}})
    event.listen(backend.engine, "connect", _be_quick)
    backend.engine.dispose()  # connections that were made before
    storage = optuna.storages.get_storage(backend)  # which remembers what it has read
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=["minimize"] * len(goals.objectives),
        sampler=RandomSampler(seed=0),  # idle: see proposing.py
        load_if_exists=True,
    )
    return study, storage


def _be_quick(connection: Any, record: object) -> None:
    """As the history does: what was written survives a kill, and readers do not wait."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _listed(space: Space, rules: Rules, seed: int) -> dict[str, Candidate] | None:
    """All candidates in an order of chance, None for too many."""
    found: list[Candidate] = []
    for candidate in rules.candidates(space):
        found.append(candidate)
        if len(found) > MOST:
            return None
    random.Random(seed).shuffle(found)
    return {candidate.key: candidate for candidate in found}
