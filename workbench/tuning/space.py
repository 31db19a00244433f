"""Space: which candidates there are, and the rules that leave out those that make no sense or cannot be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from workbench.backends import NAMES, NETWORK_NAMES
from workbench.errors import ConfigError
from workbench.tuning.candidate import KNOBS, TITLES, Candidate, value_text
from workbench.tuning.ground import Ground
from workbench.types import COMPUTED, PRECISIONS, OptimizationProfile, count_of

MOST = 100_000
"""So many candidates are counted one by one; a larger space is searched all the same."""


@dataclass(frozen=True)
class Space:
    """The values that each knob may take, the usual one first; see Candidate for what they mean.

    profiles: sets of optimization profiles by name; '' is one profile of the shapes that are timed.
    """

    backend: tuple[str, ...]
    precision: tuple[str, ...] = ("fp32", "fp16", "int8")
    algorithm: tuple[str, ...] = ("entropy", "percentile", "minmax")
    in_float: tuple[int, ...] = (0,)
    min_subgraph_size: tuple[int | None, ...] = (None,)
    workspace_bytes: tuple[int | None, ...] = (None,)
    optimization_level: tuple[int | None, ...] = (None,)
    tactic_sources: tuple[tuple[str, ...], ...] = ((),)
    batch: tuple[int, ...] = (1,)
    profiles: Mapping[str, tuple[OptimizationProfile, ...]] = field(default_factory=lambda: {"": ()})
    cuda_graph: tuple[bool, ...] = (True,)
    threads: tuple[int | None, ...] = (None,)

    def __post_init__(self) -> None:
        for name in KNOBS:
            values = self.values(name)
            if not values:
                raise ConfigError(f"{TITLES[name]}: give one value at least; the first is the usual one.")
            if len(set(values)) < len(values):
                raise ConfigError(f"{TITLES[name]}: a value is given twice ({_list(name, values)}).")
        for name, known in (("backend", NAMES), ("precision", PRECISIONS), ("algorithm", COMPUTED)):
            for value in self.values(name):
                if value not in known:
                    raise ConfigError(f"{TITLES[name]}: there is no {value!r}; choose among {', '.join(known)}.")
        self._check_numbers()

    def _check_numbers(self) -> None:
        least = {"in_float": 0, "min_subgraph_size": 1, "workspace_bytes": 1, "batch": 1, "threads": 1}
        for name, lowest in least.items():
            for value in self.values(name):
                if value is not None and value < lowest:
                    raise ConfigError(f"{TITLES[name]}: {value} is too small; take {lowest} or more.")
        for value in self.optimization_level:
            if value is not None and not 0 <= value <= 5:
                raise ConfigError(f"{TITLES['optimization_level']}: {value} is none; they go from 0 to 5.")

    def values(self, knob: str) -> tuple[Any, ...]:
        return tuple(getattr(self, knob))

    @property
    def size(self) -> int:
        """How many combinations there are, before rules."""
        return math.prod(len(self.values(name)) for name in KNOBS)


@dataclass(frozen=True)
class Rules:
    """What is known of model and data, and of the ground on which it is tried.

    is_quantized: the model brings ranges for int8 along. has_ranges: a calibration is there. layers: how many nodes a
    sensitivity measurement has put in order. fixed_batch: the model takes no other. batches: the sizes that the sets of
    profiles take, by name, smallest and largest.
    """

    ground: Ground
    is_quantized: bool = False
    has_ranges: bool = False
    layers: int = 0
    fixed_batch: int | None = None
    batches: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def values(self, space: Space, knob: str, chosen: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values left for a knob after those before it in KNOBS were chosen; none where these lead nowhere."""
        given = space.values(knob)
        if knob == "backend":
            return tuple(name for name in given if not self._refusal(name))
        kept: tuple[Any, ...] = _RULES[knob](self, given, chosen)
        return kept

    def admits(self, space: Space, candidate: Candidate) -> bool:
        """Whether it is one of `candidates`."""
        chosen: dict[str, Any] = {}
        for knob in KNOBS:
            chosen[knob] = getattr(candidate, knob)
            if chosen[knob] not in self.values(space, knob, chosen):
                return False
        return True

    def candidates(self, space: Space) -> Iterator[Candidate]:
        """All that are left, the usual values first."""
        return (Candidate(**chosen) for chosen in self._grown(space, 0, {}))

    def _grown(self, space: Space, depth: int, chosen: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if depth == len(KNOBS):
            yield dict(chosen)
            return
        for value in self.values(space, KNOBS[depth], chosen):
            yield from self._grown(space, depth + 1, {**chosen, KNOBS[depth]: value})

    def left_out(self, space: Space) -> tuple[str, ...]:
        """Why there are fewer candidates than combinations, in sentences; what has no effect is not told."""
        found = [why for name in space.backend if (why := self._refusal(name))]
        running = [name for name in space.backend if not self._refusal(name)]
        for name in running:
            reasons = self.ground.supports[name].precision_reasons or {}
            found += [
                f"{name} cannot build {value}: {reasons.get(value, 'it has no such precision')}"
                for value in space.precision
                if value not in self.ground.supports[name].precisions
            ]
        if "int8" in space.precision and not (self.has_ranges or self.is_quantized):
            found.append("int8 needs ranges: give data to calibrate with, or a calibration.")
        if self.fixed_batch is not None and set(space.batch) - {self.fixed_batch}:
            found.append(f"The model takes {self.fixed_batch} rows at once, no other batch.")
        if any(count > self.layers for count in space.in_float) and self.has_ranges:
            found.append(f"{self.layers} layers are in int8; no more can be left in float.")
        return tuple(dict.fromkeys(found))

    def _refusal(self, backend: str) -> str:
        support = self.ground.supports[backend]
        if not support.can_build:
            return f"{backend} cannot build on {self.ground.host}: {support.build_reason}"
        return "" if support.can_run else f"{backend} cannot run on {self.ground.host}: {support.run_reason}"

    def _precisions(self, given: tuple[str, ...], chosen: Mapping[str, Any]) -> tuple[str, ...]:
        ranges = self.has_ranges or self.is_quantized
        able = self.ground.supports[chosen["backend"]].precisions
        return tuple(value for value in given if value in able and (value != "int8" or ranges))

    def _algorithms(self, given: tuple[str, ...], chosen: Mapping[str, Any]) -> tuple[str, ...]:
        return given if chosen["precision"] == "int8" and not self.is_quantized else ("",)

    def _in_float(self, given: tuple[int, ...], chosen: Mapping[str, Any]) -> tuple[int, ...]:
        if chosen["precision"] != "int8" or self.is_quantized:
            return (0,)
        return tuple(count for count in given if count <= self.layers) or (0,)

    def _builder(self, given: tuple[Any, ...], chosen: Mapping[str, Any], knob: str, neutral: Any) -> tuple[Any, ...]:
        return given if knob in self.ground.supports[chosen["backend"]].builder_options else (neutral,)

    def _batches(self, given: tuple[int, ...], chosen: Mapping[str, Any]) -> tuple[int, ...]:
        return given if self.fixed_batch is None else (self.fixed_batch,)

    def _profiles(self, given: tuple[str, ...], chosen: Mapping[str, Any]) -> tuple[str, ...]:
        if self.ground.supports[chosen["backend"]].takes_any_shape:
            return ("",)
        reach = {name: self.batches.get(name, (0, math.inf)) for name in given}
        return tuple(name for name in given if reach[name][0] <= chosen["batch"] <= reach[name][1])

    def _threads(self, given: tuple[int | None, ...], chosen: Mapping[str, Any]) -> tuple[int | None, ...]:
        if _is_nvidia(chosen):
            return (None,)
        cores = self.ground.machine.cores
        return tuple(value for value in given if value is None or value <= cores) or (None,)


def _is_nvidia(chosen: Mapping[str, Any]) -> bool:
    return chosen["backend"] in NETWORK_NAMES


def _of_nvidia(neutral: Any) -> Any:
    return lambda rules, given, chosen: given if _is_nvidia(chosen) else (neutral,)


_RULES: Mapping[str, Any] = {
    "precision": Rules._precisions,
    "algorithm": Rules._algorithms,
    "in_float": Rules._in_float,
    "min_subgraph_size": _of_nvidia(None),
    "workspace_bytes": _of_nvidia(None),
    "optimization_level": lambda rules, given, chosen: rules._builder(given, chosen, "optimization_level", None),
    "tactic_sources": lambda rules, given, chosen: rules._builder(given, chosen, "tactic_sources", ()),
    "batch": Rules._batches,
    "profiles": Rules._profiles,
    "cuda_graph": lambda rules, given, chosen: given if _is_nvidia(chosen) and rules.ground.gpu else (None,),
    "threads": Rules._threads,
}


def count(space: Space, rules: Rules) -> int:
    """How many candidates are left, MOST at most."""
    return sum(1 for _ in itertools.islice(rules.candidates(space), MOST))


def sizes(space: Space, rules: Rules) -> str:
    """'96 combinations, 41 after rules'."""
    left = count(space, rules)
    return f"{count_of(space.size, 'combination')}, {'more than ' if left == MOST else ''}{left:,} after rules"


def firsts(space: Space, rules: Rules) -> tuple[Candidate, ...]:
    """What one would pick by hand: every back end and precision with the usual value of everything else."""
    plain = replace(space, **{item.name: _first(space, item.name) for item in fields(space)[2:]})
    return tuple(itertools.islice(rules.candidates(plain), MOST))


def _first(space: Space, knob: str) -> Any:
    first = space.values(knob)[0]
    return {first: space.profiles[first]} if knob == "profiles" else (first,)


def _list(knob: str, values: tuple[Any, ...]) -> str:
    return ", ".join(value_text(knob, value) for value in values)
