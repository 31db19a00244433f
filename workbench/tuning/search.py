"""Search: which candidate comes next. Optuna's samplers propose; a file keeps what was asked and found (asked.py).

Few candidates are all tried. Else a tree-structured Parzen estimator proposes (J. Bergstra and others, 2011, Algorithms
for Hyper-Parameter Optimization; multivariate, with constraints), and after some hundred trials NSGA-II (K. Deb and
others, 2002, IEEE Transactions on Evolutionary Computation 6, 182-197). See proposing.py for what they know.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from workbench.errors import ConfigError
from workbench.tuning.asked import Asked, Told
from workbench.tuning.candidate import KNOBS, Candidate
from workbench.tuning.goals import Goals
from workbench.tuning.proposing import Proposer, empty_study, frozen_trial, knob_of
from workbench.tuning.space import MOST, Rules, Space, firsts
from workbench.tuning.trial import COMPLETE, Trial

SAMPLERS = ("auto", "grid", "tpe", "nsga2", "random")
SMALL = 64
"""Up to so many candidates, 'auto' tries all of them."""
LONG = 200
"""After so many trials 'auto' goes over to NSGA-II, which proposes more quickly."""
BEGUN = 3
"""A candidate that was begun so often, while nobody told what became of it, is not asked for any more."""
_ENOUGH = 8
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
        self.space, self.rules, self.goals, self._seed = space, rules, goals, seed
        self._left = _listed(space, rules, seed)
        if self._left is not None and not self._left:
            raise ConfigError(" ".join(["No candidate is left to try.", *rules.left_out(space)]))
        is_small = self._left is not None and len(self._left) <= SMALL
        self._sampler = "grid" if sampler == "auto" and is_small else sampler
        self._file = Asked(folder, name)
        self._asked: dict[str, Candidate] = {}
        self._last: dict[str, Candidate] = {}
        self._fatal: dict[str, Candidate] = {}
        self._known: dict[str, Told] = {}
        self._finished = 0
        self._first = {item.key: item for item in firsts(space, rules)}
        self._take_up()
        self._proposer = self._new_proposer(seed)

    @property
    def trials(self) -> tuple[str, ...]:
        """Ids of the trials that were told, in order, also by earlier processes."""
        return tuple(told.trial for told in self._known.values())

    @property
    def remaining(self) -> int | None:
        """Candidates that nobody has asked for; None where there are too many to list."""
        return None if self._left is None else len(self._left)

    @property
    def fatal(self) -> tuple[Candidate, ...]:
        """Those that were begun BEGUN times by processes that ended over them; nobody has told what became of them."""
        return tuple(self._fatal.values())

    @property
    def interrupted(self) -> tuple[Candidate, ...]:
        """Those that earlier processes were at when they ended; they come last."""
        return tuple(self._last.values())

    def ask(self) -> Candidate | None:
        """Another candidate each time, those first that one would pick by hand, those last that were under way when an
        earlier process ended: it may have ended because of them. None when all were given."""
        found = self._next()
        if found is None:
            return None
        self._file.begin(found)
        if self._sampler != "grid":
            self._proposer.hold(found)
        self._asked[found.key] = found
        self._take(found)
        return found

    def tell(self, trial: Trial) -> None:
        """What became of a candidate that was asked for, or that an earlier search has measured. A second time, it
        changes nothing."""
        key = trial.candidate.key
        if key in self._known:
            return
        told = replace(self._told(trial), begun=BEGUN if key in self._fatal else 0)
        self._file.note(told)
        self._known[key] = told
        self._asked.pop(key, None)
        self._finished += told.state == COMPLETE
        self._take(trial.candidate)
        if self._sampler != "grid":
            self._proposer.tell(told)

    def give_back(self, candidate: Candidate) -> None:
        """One that was asked for, and not tried to an end: it is the next to be asked for, in another process among the
        first, unless earlier ones ended over it."""
        if candidate.key in self._asked:
            del self._asked[candidate.key]
            self._file.give_back(candidate)
            self._proposer.let_go(candidate)
            self._put_first(candidate)

    def forget(self, trial_ids: Iterable[str]) -> None:
        """Trials that were told and do not count any more: as if they never were. Their candidates are the next to be
        asked for, where rules still admit them; those that were `fatal` are so again."""
        lost = set(trial_ids)
        found = [told for told in self._known.values() if told.trial in lost]
        for told in found:
            del self._known[told.candidate.key]
            self._file.note(Told(told.candidate, begun=told.begun))
            self._finished -= told.state == COMPLETE
            self._take_up_open(told.candidate, told.begun)
        if found:
            self._proposer = self._new_proposer(self._seed)

    def importance(self) -> dict[str, dict[str, float]]:
        """By objective, the share that each knob has in being among the best tenth, 0 to 1, by PED-ANOVA (S. Watanabe
        and others, 2023, IJCAI, 4389-4396). Nothing where fewer than eight trials are complete."""
        if self._finished < _ENOUGH:
            return {}
        found: dict[str, dict[str, float]] = {}
        study = empty_study(len(self.goals.objectives))
        study.add_trials([frozen_trial(self.space, self.rules, told) for told in self._known.values() if told.values])
        for number, objective in enumerate(self.goals.objectives):
            shares = dict.fromkeys(KNOBS, 0.0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                told = get_param_importances(
                    study,
                    evaluator=PedAnovaImportanceEvaluator(),
                    target=lambda trial, number=number: trial.values[number],  # type: ignore[misc]
                )
            for name, share in told.items():
                shares[knob_of(name)] += share
            found[objective] = {name: share for name, share in shares.items() if len(self.space.values(name)) > 1}
        return found

    def _take_up(self) -> None:
        """What earlier processes were told; what they gave back comes first now, and what they were at when they ended
        comes last."""
        for told in self._file.all():
            candidate = told.candidate
            if told.trial:
                self._known[candidate.key] = told
                self._finished += told.state == COMPLETE
                self._take(candidate)
            else:
                self._take_up_open(candidate, told.begun)

    def _take_up_open(self, candidate: Candidate, begun: int) -> None:
        """One of which nobody knows what became. begun: so often."""
        if not self.rules.admits(self.space, candidate):
            return
        if begun >= BEGUN:
            self._take(candidate)
            self._fatal[candidate.key] = candidate
        elif begun:
            self._first.pop(candidate.key, None)
            self._last[candidate.key] = candidate
        else:
            self._put_first(candidate)

    def _new_proposer(self, seed: int) -> Proposer:
        """That knows what is known, and what is under way."""
        found = Proposer(self.space, self.rules, len(self.goals.objectives), seed + len(self._known))
        found.take_up(self._known.values())
        for candidate in self._asked.values() if self._sampler != "grid" else ():
            found.hold(candidate)
        return found

    def _next(self) -> Candidate | None:
        return self._new() or next(iter(self._last.values()), None)

    def _new(self) -> Candidate | None:
        """One that no process has ended over."""
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
        key = candidate.key
        return key in self._asked or key in self._known or key in self._last or key in self._fatal

    def _put_first(self, candidate: Candidate) -> None:
        self._first = {candidate.key: candidate, **self._first}
        if self._left is not None:
            self._left[candidate.key] = candidate

    def _take(self, candidate: Candidate) -> None:
        """It is not asked for any more."""
        for listed in (self._first, self._last, self._fatal):
            listed.pop(candidate.key, None)
        if self._left is not None:
            self._left.pop(candidate.key, None)

    def _told(self, trial: Trial) -> Told:
        score = trial.score
        if score is None or not trial.is_complete:
            return Told(trial.candidate, trial.id, trial.state)
        excess = {str(number): _number(limit.excess(score).value) for number, limit in enumerate(self.goals.limits)}
        return Told(trial.candidate, trial.id, trial.state, tuple(map(_number, self.goals.values(score))), excess)


def _number(value: float) -> float:
    return max(value, -_FAR) if value < _FAR else _FAR


def _listed(space: Space, rules: Rules, seed: int) -> dict[str, Candidate] | None:
    """All candidates in an order of chance, None for too many."""
    found: list[Candidate] = []
    for candidate in rules.candidates(space):
        found.append(candidate)
        if len(found) > MOST:
            return None
    random.Random(seed).shuffle(found)
    return {candidate.key: candidate for candidate in found}
