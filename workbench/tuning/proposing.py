"""Proposals of Optuna's samplers, from a window of the search: one costs as much after 10,000 trials as after 100.

Samplers look at every trial they know for each proposal. They know the last ones here and the best of all before them.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from workbench.tuning.candidate import KNOBS, Candidate
from workbench.tuning.space import Rules, Space

WINDOW = 240
"""A sampler knows so many trials at most; then the last and the best of them begin the next window."""
LAST, BEST = 64, 32
POPULATION = 32
_PATIENCE = 4
_STEPS = 64
_GENERATION = f"{NSGAIISampler.__name__}:generation"
_IDLE = RandomSampler(seed=0)
"""Stands in while nothing is proposed: a trial that is made asks the sampler of its study at once."""


@dataclass(frozen=True)
class Outcome:
    """values: by objective, smaller is better, of a complete trial. constraints: by how much limits are broken, by
    name; 0 or less where they hold."""

    state: TrialState
    values: tuple[float, ...] | None = None
    constraints: Mapping[str, float] | None = None


class Proposer:
    """objectives: how many. seed: the same proposals for the same trials."""

    def __init__(self, space: Space, rules: Rules, objectives: int, seed: int) -> None:
        self.space, self.rules = space, rules
        self._objectives, self._seed, self._random = objectives, seed, random.Random(seed)
        self._samplers: dict[str, BaseSampler] = {}
        self._windows = 0
        self._running: dict[str, tuple[Candidate, optuna.Trial]] = {}
        self._begin(())

    def take_up(self, trials: Sequence[FrozenTrial]) -> None:
        """Those that an earlier process finished, in order."""
        self._begin(_kept(trials))

    def propose(self, kind: str, is_taken: Callable[[Candidate], bool]) -> Candidate | None:
        """A candidate that is not taken: the sampler's, or one beside what it proposes again and again. None where
        there is none nearby. It is held then, until `tell` or `let_go`."""
        self._turn_over()
        for left in range(_PATIENCE)[::-1]:
            candidate, trial = self._proposed(kind)
            if candidate is not None and not is_taken(candidate):
                self._running[candidate.key] = candidate, trial
                return candidate
            self._study.tell(trial, state=TrialState.FAIL)
            if candidate is not None and not left:
                beside = self._beside(candidate, is_taken)
                if beside is not None:
                    self.hold(beside, self._attributes(trial))
                return beside
        return None

    def hold(self, candidate: Candidate, system_attrs: Mapping[str, Any] | None = None) -> None:
        """It is under way, whoever proposed it; nothing changes if it is already."""
        if candidate.key in self._running:
            return
        params, distributions = parameters(self.space, self.rules, candidate)
        frozen = create_trial(
            state=TrialState.RUNNING, params=params, distributions=distributions, system_attrs=dict(system_attrs or {})
        )
        self._running[candidate.key] = candidate, added(self._study, self._storage, frozen)

    def tell(self, candidate: Candidate, outcome: Outcome) -> None:
        self._turn_over()
        self.hold(candidate)
        finish(self._study, self._running.pop(candidate.key)[1], outcome)

    def let_go(self, candidate: Candidate) -> None:
        """It is not tried."""
        if candidate.key in self._running:
            self._study.tell(self._running.pop(candidate.key)[1], state=TrialState.FAIL)

    def _proposed(self, kind: str) -> tuple[Candidate | None, optuna.Trial]:
        if kind not in self._samplers:
            self._samplers[kind] = _sampler(kind, self._seed + self._windows)
        self._study.sampler = self._samplers[kind]
        try:
            trial = self._study.ask()
            return _suggested(self.space, self.rules, trial), trial
        finally:
            self._study.sampler = _IDLE

    def _turn_over(self) -> None:
        if len(self._study.get_trials(deepcopy=False)) >= WINDOW + len(self._running):
            self._begin(_kept(self._study.get_trials(deepcopy=False)))

    def _begin(self, trials: Iterable[FrozenTrial]) -> None:
        """A window of these finished trials and of those under way."""
        running = [(candidate, self._attributes(trial)) for candidate, trial in self._running.values()]
        self._running, self._samplers = {}, {}  # samplers remember how far they have read
        self._windows += 1
        self._storage = InMemoryStorage()
        self._study = optuna.create_study(
            storage=self._storage, sampler=_IDLE, directions=["minimize"] * self._objectives
        )
        self._study.add_trials(_in_two_generations(trials))
        for candidate, attributes in running:
            self.hold(candidate, {_GENERATION: 1} if _GENERATION in attributes else {})

    def _attributes(self, trial: optuna.Trial) -> Mapping[str, Any]:
        """What its sampler has noted."""
        return self._study.get_trials(deepcopy=False)[trial.number].system_attrs

    def _beside(self, candidate: Candidate, is_taken: Callable[[Candidate], bool]) -> Candidate | None:
        """One that is not taken, some random changes of one knob each away."""
        for _ in range(_STEPS):
            candidate = changed(self.space, self.rules, candidate, self._random)
            if not is_taken(candidate):
                return candidate
        return None


def added(study: optuna.Study, storage: Any, trial: FrozenTrial) -> optuna.Trial:
    """The trial, written in one step. storage: of the study, whose sampler must be an idle one."""
    return optuna.Trial(study, storage.create_new_trial(storage.get_study_id_from_name(study.study_name), trial))


def finish(study: optuna.Study, trial: optuna.Trial, outcome: Outcome) -> None:
    for name, excess in (outcome.constraints or {}).items():
        trial.set_constraint(name, excess)
    study.tell(trial, outcome.values, state=None if outcome.state == TrialState.COMPLETE else outcome.state)


def parameters(space: Space, rules: Rules, candidate: Candidate) -> tuple[dict[str, Any], dict[str, Any]]:
    """What Optuna calls the knobs of a candidate: values and distributions by name. A candidate that the space no
    longer holds has none."""
    found, distributions, chosen = {}, {}, dict[str, Any]()
    for knob in KNOBS:
        values, value = rules.values(space, knob, chosen), getattr(candidate, knob)
        if value not in values:
            return {}, {}
        chosen[knob] = value
        if len(values) > 1:
            name, distribution = _named(knob, values, len(values) == len(space.values(knob)))
            found[name], distributions[name] = _text(value), distribution
    return found, distributions


def changed(space: Space, rules: Rules, candidate: Candidate, draw: random.Random) -> Candidate:
    """Another value for a knob, and for those after it only where rules ask for that."""
    chosen: dict[str, Any] = {}
    choices = {}
    for knob in KNOBS:
        choices[knob] = rules.values(space, knob, chosen)
        chosen[knob] = getattr(candidate, knob)
    free = [knob for knob in KNOBS if len(choices[knob]) > 1]
    if not free:
        return candidate
    turned, found = draw.choice(free), dict[str, Any]()
    for knob in KNOBS:
        values, value = rules.values(space, knob, found), chosen[knob]
        if not values:
            return candidate
        if knob == turned:
            value = draw.choice([item for item in values if item != value])
        found[knob] = value if value in values else draw.choice(values)
    return Candidate(**found)


def _suggested(space: Space, rules: Rules, trial: optuna.Trial) -> Candidate | None:
    """None where the rules leave nothing for a knob after those before it."""
    chosen: dict[str, Any] = {}
    for knob in KNOBS:
        values = rules.values(space, knob, chosen)
        if not values:
            return None
        chosen[knob] = values[0]
        if len(values) > 1:
            name, distribution = _named(knob, values, len(values) == len(space.values(knob)))
            text = trial.suggest_categorical(name, distribution.choices)
            chosen[knob] = values[distribution.choices.index(text)]
    return Candidate(**chosen)


def knob_of(name: str) -> str:
    """Of a parameter's name."""
    return name.partition(" of ")[0]


@lru_cache(maxsize=4096)
def _named(knob: str, values: tuple[Any, ...], are_all: bool) -> tuple[str, CategoricalDistribution]:
    """A parameter always has the same choices, so that fewer of them are another parameter."""
    texts = [_text(value) for value in values]
    return knob if are_all else f"{knob} of {' '.join(texts)}", CategoricalDistribution(texts)


def _text(value: Any) -> str:
    return "+".join(value) or "default" if isinstance(value, tuple) else str(value)


def _sampler(kind: str, seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if kind == "random":
            return RandomSampler(seed=seed)
        if kind == "nsga2":
            return NSGAIISampler(population_size=POPULATION, seed=seed)
        return TPESampler(n_startup_trials=8, multivariate=True, group=True, constant_liar=True, seed=seed)


def _kept(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The best and the last of them, in their order; failed ones tell a sampler nothing."""
    told = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if len(told) <= LAST + BEST:
        return told
    earlier = [trial for trial in told[:-LAST] if trial.state == TrialState.COMPLETE]
    return [*sorted(_best(earlier, BEST), key=lambda trial: trial.number), *told[-LAST:]]


def _best(trials: Sequence[FrozenTrial], most: int) -> list[FrozenTrial]:
    """Those within the limits that none dominates, then those that only these dominate, and so on; then those that are
    least beyond the limits."""
    excess = {trial.number: sum(max(0.0, value) for value in trial.constraints.values()) for trial in trials}
    left = sorted((trial for trial in trials if not excess[trial.number]), key=lambda trial: trial.values)
    found: list[FrozenTrial] = []
    while left and len(found) < most:
        layer, rest = list[FrozenTrial](), list[FrozenTrial]()
        for trial in left:
            dominated = any(all(a <= b for a, b in zip(one.values, trial.values, strict=True)) for one in layer)
            (rest if dominated else layer).append(trial)
        found, left = found + layer, rest
    beyond = sorted((trial for trial in trials if excess[trial.number]), key=lambda trial: excess[trial.number])
    return [*found, *beyond][:most]


def _in_two_generations(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """As NSGA-II counts them: the last one that another window has begun, and the parents among all others."""
    trials = list(trials)
    last = max((trial.system_attrs.get(_GENERATION, -1) for trial in trials), default=-1)
    return [
        create_trial(
            state=trial.state,
            values=trial.values,
            params=trial.params,
            distributions=trial.distributions,
            system_attrs={_GENERATION: int(last > 0 and trial.system_attrs.get(_GENERATION) == last)},
            constraints=trial.constraints or None,
        )
        for trial in trials
    ]
