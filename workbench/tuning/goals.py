"""What matters and what is allowed: objectives, limits, and which of two results is surely the better one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from workbench.accuracy import Interval, finite
from workbench.errors import ConfigError
from workbench.evaluation import METRICS
from workbench.types import format_size, parse_size

OBJECTIVES = ("latency", "throughput", "accuracy", "size", "memory")
"""latency: median ms of a run. throughput: rows per second, one run after the other. accuracy: what is lost of it, in
points or percent. size: bytes of the plan. memory: bytes that the open engine takes, on the GPU or else in the process
(there as far as the system tells; see memory.py)."""
CAUTION = 1.25
MEMORY_SLACK, MEMORY_SHARE = 1 << 20, 0.05
"""What two readings of the memory of one engine may differ by: bytes, and a share of them."""
_FAR = 1e300
_LIMIT = re.compile(r"\s*([\w-]+)\s*(<=|>=)\s*([^\s<>=]+?)\s*(ms|/s|points?|%)?\s*")
_UNITS = {"ms": "latency", "/s": "throughput", "point": "accuracy", "points": "accuracy", "%": "accuracy"}


@dataclass(frozen=True)
class Score:
    """What was measured of a candidate, with 95 % intervals.

    latency_ms: by the clock that all candidates of the search share. throughput: rows per second. loss: of `metric`,
    one of evaluation.METRICS; points, for 'relative' percent. size_bytes: of the plan. memory_bytes: see OBJECTIVES.
    """

    latency_ms: Interval
    throughput: Interval
    loss: Interval
    metric: str
    size_bytes: int
    memory_bytes: int

    def of(self, objective: str) -> Interval:
        """Smaller is better, also of throughput, which is negative here."""
        if objective == "throughput":
            return Interval(-self.throughput.value, -self.throughput.high, -self.throughput.low)
        if objective == "size":
            return Interval(*[float(self.size_bytes)] * 3)
        if objective == "memory":
            slack = max(MEMORY_SLACK, MEMORY_SHARE * self.memory_bytes)
            return Interval(self.memory_bytes, self.memory_bytes - slack, self.memory_bytes + slack)
        return self.latency_ms if objective == "latency" else self.loss


@dataclass(frozen=True)
class Limit:
    """`bound` is in ms, rows per second, points (percent of a relative error) or bytes."""

    objective: str
    bound: float

    def excess(self, score: Score) -> Interval:
        """By how much it is broken; 0 or less where it holds."""
        found, bound = score.of(self.objective), -self.bound if self.objective == "throughput" else self.bound
        return Interval(found.value - bound, found.low - bound, found.high - bound)

    def holds(self, score: Score) -> bool:
        return self.excess(score).value <= 0

    def is_surely_broken(self, score: Score) -> bool:
        return self.excess(score).low > 0

    def __str__(self) -> str:
        sign = ">=" if self.objective == "throughput" else "<="
        return f"{self.objective} {sign} {value_text(self.objective, self.bound)}"


@dataclass(frozen=True)
class Goals:
    """objectives: what shall be good, the one that matters most first. limits: what must hold. metric: what accuracy is
    told in, one of evaluation.METRICS; '' for top1 with labels, else argmax, else relative.
    """

    objectives: tuple[str, ...] = ("latency", "accuracy")
    limits: tuple[Limit, ...] = ()
    metric: str = ""

    def __post_init__(self) -> None:
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise ConfigError("name one objective at least, and none twice.")
        for name in (*self.objectives, *(limit.objective for limit in self.limits)):
            if name not in OBJECTIVES:
                raise ConfigError(f"there is no objective {name!r}; choose among {', '.join(OBJECTIVES)}.")
        if self.metric not in ("", *METRICS):
            raise ConfigError(f"there is no metric {self.metric!r}; choose one of {', '.join(METRICS)}.")

    def allows(self, score: Score) -> bool:
        """Whether all limits hold, as measured."""
        return all(limit.holds(score) for limit in self.limits)

    def values(self, score: Score) -> tuple[float, ...]:
        """One for each objective, smaller is better; what is infinite or no number as a very large one."""
        return tuple(_FAR if not (value := score.of(name).value) < _FAR else value for name in self.objectives)

    def dominates(self, one: Score, other: Score) -> bool:
        """Whether `one` is as good in every objective, and better in one, as measured."""
        mine, its = self.values(one), self.values(other)
        return all(a <= b for a, b in zip(mine, its, strict=True)) and mine != its

    def surely_dominates(self, one: Score, other: Score, known: Sequence[str] = OBJECTIVES) -> bool:
        """Whether it is better in every objective, and the intervals do not touch. What is equal to the last digit, as
        a size or the outputs of the same engine, counts as good enough.

        known: objectives that were measured of `other` yet; where one was not, nothing is sure."""
        better = 0
        for name in self.objectives:
            if name not in known:
                return False
            mine, its = one.of(name), other.of(name)
            if mine.high < its.low:
                better += 1
            elif mine != its:
                return False
        return better > 0

    def why_hopeless(self, score: Score, rivals: Mapping[str, Score], known: Sequence[str]) -> str:
        """A sentence where a short look is enough to see that this candidate will not do, '' else.

        known: the objectives that the look has measured."""
        score = _cautious(score)
        for limit in self.limits:
            if limit.objective in known and limit.is_surely_broken(score):
                found = value_text(limit.objective, abs(score.of(limit.objective).value))
                return f"{limit.objective} is {found} in a short look, and {limit} must hold"
        for name, rival in rivals.items():
            if self.allows(rival) and self.surely_dominates(rival, score, known):
                return f"{name} is surely better in everything asked for"
        return ""

    def __str__(self) -> str:
        wanted = ", then ".join(self.objectives)
        return f"{wanted}, with {' and '.join(map(str, self.limits))}" if self.limits else wanted


def _cautious(score: Score) -> Score:
    """A short look at another time than the rivals': its times may come out better by CAUTION in a longer one."""
    latency, rate = score.latency_ms, score.throughput
    return replace(
        score,
        latency_ms=Interval(latency.value, latency.low / CAUTION, latency.high),
        throughput=Interval(rate.value, rate.low, rate.high * CAUTION),
    )


def front(scores: Mapping[str, Score], goals: Goals) -> tuple[str, ...]:
    """Names of those that no other one dominates, of those within the limits; the best of the first objective first."""
    allowed = {name: score for name, score in scores.items() if goals.allows(score)}
    kept: list[str] = []
    for name in sorted(allowed, key=lambda name: goals.values(allowed[name])):  # none is dominated by a later one
        if not any(goals.dominates(allowed[other], allowed[name]) for other in kept):
            kept.append(name)
    return tuple(kept)


def parse_limit(text: str) -> tuple[Limit, str]:
    """'accuracy<=0.2', 'latency<=2ms', 'throughput>=500', 'size<=10M', or a metric in place of accuracy: 'top1<=0.2';
    with the metric, '' where none was named. Raises ConfigError."""
    match = _LIMIT.fullmatch(text)
    example = "write it like accuracy<=0.2, top1<=0.2, latency<=2, throughput>=500, size<=10M or memory<=1G"
    if not match:
        raise ConfigError(f"{text!r} is no limit; {example}.")
    name, sign, value = match[1].lower(), match[2], match[3]
    metric, objective = (name, "accuracy") if name in METRICS else ("", name)
    if objective not in OBJECTIVES:
        raise ConfigError(f"{text!r}: there is no {name!r} to limit; {example}.")
    if (sign == ">=") != (objective == "throughput"):
        better = "at least: >=" if objective == "throughput" else "at most: <="
        raise ConfigError(f"{text!r}: {objective} has to be so much {better}.")
    if match[4] and _UNITS[match[4]] != objective:
        raise ConfigError(f"{text!r}: {objective} has no unit {match[4]}; {example}.")
    if objective in ("size", "memory"):
        return Limit(objective, float(parse_size(value))), metric
    try:
        bound = float(value)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise ConfigError(f"{text!r}: {value} is no number; {example}.")
    return Limit(objective, bound), metric


def value_text(objective: str, value: float, metric: str = "") -> str:
    """'0.812 ms', '1,204/s', '+0.20 points', '4.5 MB'."""
    if objective in ("size", "memory"):
        whole = int(value)
        if whole and whole % (1 << 10) == 0:
            return format_size(whole)
        return f"{value / 1e6:.1f} MB" if value >= 1e5 else f"{value / 1e3:.1f} kB"
    if objective == "latency":
        return f"{value:.3f} ms" if value < 100 else f"{value:.1f} ms"
    if objective == "throughput":
        return f"{value:,.0f}/s" if value >= 100 else f"{value:.3g}/s"
    return f"{value:.2f} %" if metric == "relative" else f"{value:.2f} points"


def goals_to_json(goals: Goals) -> dict[str, Any]:
    limits = [{"objective": item.objective, "bound": item.bound} for item in goals.limits]
    return {"objectives": list(goals.objectives), "limits": limits, "metric": goals.metric}


def goals_from_json(data: Mapping[str, Any]) -> Goals:
    return Goals(tuple(data["objectives"]), tuple(Limit(**item) for item in data["limits"]), data["metric"])


def score_to_json(score: Score) -> dict[str, Any]:
    return {name: _ends(value) if isinstance(value, dict) else value for name, value in asdict(score).items()}


def score_from_json(data: Mapping[str, Any]) -> Score:
    """The inverse of score_to_json; ends that were not finite are."""
    values: dict[str, Any] = {
        name: _interval(item) if isinstance(item, Mapping) else item for name, item in data.items()
    }
    return Score(**values)


def _ends(interval: Mapping[str, float]) -> dict[str, float | None]:
    return {name: finite(value) for name, value in interval.items()}


def _interval(data: Mapping[str, float | None]) -> Interval:
    value, low, high = data["value"], data["low"], data["high"]
    return Interval(
        math.inf if value is None else value, -math.inf if low is None else low, math.inf if high is None else high
    )
