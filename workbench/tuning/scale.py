"""Axes of objectives: units, directions, and where an axis ends so that what matters can be told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from workbench.accuracy import Interval
from workbench.plots.plot import number
from workbench.tuning.goals import Score

_MEGABYTE = 1e6
_LOSSES = {
    "top1": "points of top-1 accuracy lost",
    "top5": "points of top-5 accuracy lost",
    "argmax": "samples in % whose class changes",
    "relative": "relative error in %",
}
_UNITS = {
    "latency": ("median latency in ms", "ms"),
    "throughput": ("rows per second, one run after the other", "per second"),
    "size": ("size of the plan in MB", "MB"),
    "memory": ("memory of the open engine in MB", "MB"),
}
_ROOM, _NEAR, _FAR = 1.08, 1.6, 4.0
_MOST_OF = 0.75


class Scale(NamedTuple):
    """title: with the unit. unit: short. grows: more is better."""

    objective: str
    title: str
    unit: str
    grows: bool = False

    def of(self, score: Score) -> Interval:
        """As people read it: per second is positive, bytes are MB."""
        found = score.of(self.objective)
        if self.grows:
            return Interval(-found.value, -found.high, -found.low)
        per = _MEGABYTE if self.objective in ("size", "memory") else 1.0
        return Interval(found.value / per, found.low / per, found.high / per)

    def bound(self, bound: float) -> float:
        """A limit's, in the axis's unit."""
        return bound / _MEGABYTE if self.objective in ("size", "memory") else bound

    def cost(self, value: float) -> float:
        """Smaller is better."""
        return -value if self.grows else value

    def words(self, value: float) -> str:
        return f"{number(value)} {self.unit}"


def scale(objective: str, metric: str = "") -> Scale:
    """metric: of the loss, one of evaluation.METRICS."""
    if objective == "accuracy":
        return Scale(objective, _LOSSES.get(metric, "accuracy lost"), "%" if metric == "relative" else "points")
    return Scale(objective, *_UNITS[objective], grows=objective == "throughput")


class Span(NamedTuple):
    """Of an axis: it holds 0, and `beyond` counts what it does not reach."""

    low: float
    high: float
    beyond: int = 0

    def inside(self, value: float) -> float:
        """The place where a value is drawn, at the edge where it lies beyond."""
        return min(max(value, self.low), self.high)


def span(values: Sequence[float], needed: Sequence[float]) -> Span:
    """From zero, or below it where values are; a few that lie far off may stay beyond, never one of `needed`."""
    finite = [value for value in values if math.isfinite(value)]
    needed = [value for value in needed if math.isfinite(value)]
    if not finite and not needed:
        return Span(0.0, 1.0)
    high, far = _end(finite, needed)
    low, deep = _end([-value for value in finite], [-value for value in needed])
    top = high or 0.1 * low or 1.0
    return Span(-low or 0.0, top, far + deep)


def lowered(item: Span) -> Span:
    """With a little room below, so that marks at zero do not lie on what is written under the axis."""
    return Span(item.low - 0.05 * (item.high - item.low), item.high, item.beyond)


def _end(values: Sequence[float], needed: Sequence[float]) -> tuple[float, int]:
    """Where the axis ends, 0 or more, and how many values are further out."""
    most = max([0.0, *values, *needed])
    usual = float(np.quantile(values, _MOST_OF, method="lower")) if values else 0.0
    wanted = max([0.0, usual, *needed])
    if most <= _FAR * wanted or not wanted:
        return _ROOM * most, 0
    end = _NEAR * wanted
    return end, sum(value > end for value in values)
