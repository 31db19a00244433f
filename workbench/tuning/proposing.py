"""Proposals of Optuna's samplers, from a window of the search: one costs as much after 10,000 trials as after 100.

Samplers look at every trial they know for each proposal. They know the last ones here and the best of all before them.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from workbench.tuning.asked import Told
from workbench.tuning.candidate import KNOBS, Candidate
from workbench.tuning.space import Rules, Space
from workbench.tuning.trial import COMPLETE, FAILED, PRUNED

WINDOW = 240
"""A sampler knows so many trials at most; then the last and the best of them begin the next window."""
LAST, BEST = 64, 32
POPULATION = 32
_PATIENCE = 4
_STEPS = 64
_GENERATION = f"{NSGAIISampler.__name__}:generation"
_STATES = {"": TrialState.RUNNING, COMPLETE: TrialState.COMPLETE, PRUNED: TrialState.PRUNED, FAILED: TrialState.FAIL}
_IDLE = RandomSampler(seed=0)
"""Stands in while nothing is proposed: a trial that is made asks the sampler of its study at once."""


class Proposer:
    """objectives: how many. seed: the same proposals for the same trials."""

    def __init__(self, space: Space, rules: Rules, objectives: int, seed: int) -> None:
        self.space, self.rules = space, rules
        self._objectives, self._seed, self._random = objectives, seed, random.Random(seed)
        self._windows = 0
        self._samplers: dict[str, BaseSampler] = {}
        self._running: dict[str, tuple[Candidate, optuna.Trial]] = {}
        self.take_up(())

    def take_up(self, told: Iterable[Told]) -> None:
        """Those that an earlier process finished, in order."""
        self._begin([(item, -1) for item in _kept(list(told))])

    def propose(self, kind: str, is_taken: Callable[[Candidate], bool]) -> Candidate | None:
        """A candidate that is not taken: the sampler's, or one beside what it proposes again and again. None where
        there is none nearby. It is held then, until `tell` or `let_go`."""
        self._turn_over()
        if self._samplers and kind not in self._samplers:  # it begins with the best of what another one has found
            self._begin_again()
        for left in range(_PATIENCE)[::-1]:
            candidate, trial = self._proposed(kind)
            if candidate is not None and not is_taken(candidate):
                self._running[candidate.key] = candidate, trial
                return candidate
            self._study.tell(trial, state=TrialState.FAIL)
            if candidate is not None and not left:
                beside = self._beside(candidate, is_taken)
                if beside is not None:
                    self.hold(beside, self._generation(trial))
                return beside
        return None

    def hold(self, candidate: Candidate, generation: int = -1) -> None:
        """It is under way, whoever proposed it; nothing changes if it is already."""
        if candidate.key not in self._running:
            frozen = self._frozen(Told(candidate), generation)
            number = self._storage.create_new_trial(
                self._storage.get_study_id_from_name(self._study.study_name), frozen
            )
            self._running[candidate.key] = candidate, optuna.Trial(self._study, number)

    def tell(self, told: Told) -> None:
        self._turn_over()
        self.hold(told.candidate)
        _, trial = self._running.pop(told.candidate.key)
        self._told.append((told, self._generation(trial)))
        for name, excess in told.excess.items():
            trial.set_constraint(name, excess)
        if told.state == COMPLETE:
            self._study.tell(trial, told.values)
        else:
            self._study.tell(trial, state=_STATES[told.state])

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
            self._begin_again()

    def _begin_again(self) -> None:
        """With the best and the last, in two generations as NSGA-II counts them: the last one, and its parents."""
        last = max((generation for _, generation in self._told), default=-1)
        kept = {item.candidate.key for item in _kept([item for item, _ in self._told])}
        self._begin([
            (item, int(generation == last > 0)) for item, generation in self._told if item.candidate.key in kept
        ])  # fmt: skip

    def _begin(self, told: list[tuple[Told, int]]) -> None:
        running = [(candidate, self._generation(trial)) for candidate, trial in self._running.values()]
        self._running, self._samplers = {}, {}  # samplers remember how far they have read
        self._windows += 1
        self._told, self._storage = told, InMemoryStorage()
        self._study = empty_study(self._objectives, self._storage)
        self._study.add_trials([self._frozen(item, generation) for item, generation in told])
        for candidate, generation in running:
            self.hold(candidate, min(generation, 1))

    def _generation(self, trial: optuna.Trial) -> int:
        """As NSGA-II has noted it; -1 for a trial of others."""
        return int(self._study.get_trials(deepcopy=False)[trial.number].system_attrs.get(_GENERATION, -1))

    def _frozen(self, told: Told, generation: int) -> FrozenTrial:
        attributes = {_GENERATION: generation} if generation >= 0 else {}
        return frozen_trial(self.space, self.rules, told, attributes)

    def _beside(self, candidate: Candidate, is_taken: Callable[[Candidate], bool]) -> Candidate | None:
        """One that is not taken, some random changes of one knob each away."""
        for _ in range(_STEPS):
            candidate = changed(self.space, self.rules, candidate, self._random)
            if not is_taken(candidate):
                return candidate
        return None


def empty_study(objectives: int, storage: InMemoryStorage | None = None) -> optuna.Study:
    return optuna.create_study(storage=storage, sampler=_IDLE, directions=["minimize"] * objectives)


def frozen_trial(space: Space, rules: Rules, told: Told, attributes: Mapping[str, Any] | None = None) -> FrozenTrial:
    """As Optuna keeps it."""
    params, distributions = parameters(space, rules, told.candidate)
    return create_trial(
        state=_STATES[told.state],
        values=told.values or None,
        params=params,
        distributions=distributions,
        constraints=dict(told.excess) or None,
        system_attrs=dict(attributes or {}),
    )


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


def _kept(told: Sequence[Told]) -> list[Told]:
    """The best and the last of them, in their order; failed ones tell a sampler nothing."""
    told = [item for item in told if item.state in (COMPLETE, PRUNED)]
    if len(told) <= LAST + BEST:
        return told
    best = {item.candidate.key for item in _best([item for item in told[:-LAST] if item.values], BEST)}
    return [*(item for item in told[:-LAST] if item.candidate.key in best), *told[-LAST:]]


def _best(told: Sequence[Told], most: int) -> list[Told]:
    """Those within the limits that none dominates, then those that only these dominate, and so on; then those that are
    least beyond the limits."""
    left = sorted((item for item in told if not item.beyond), key=lambda item: item.values)
    found: list[Told] = []
    while left and len(found) < most:
        layer, rest = list[Told](), list[Told]()
        for item in left:
            dominated = any(all(a <= b for a, b in zip(one.values, item.values, strict=True)) for one in layer)
            (rest if dominated else layer).append(item)
        found, left = found + layer, rest
    beyond = sorted((item for item in told if item.beyond), key=lambda item: item.beyond)
    return [*found, *beyond][:most]
