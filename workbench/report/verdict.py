"""A study in two sentences: which contestant is surely the fastest, and what that costs in accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from workbench.accuracy import Interval
from workbench.comparison import Comparison
from workbench.plots import RELATIVE, ParetoPoint
from workbench.study import Study, comparable
from workbench.timing.statistics import ranks, ratio_interval
from workbench.types import count_of

_MOST = 3
_ENOUGH = 10
"""Shares of fewer samples say nothing; how far outputs lie apart does."""
_LOSSES = {
    "top1": "points of top-1 accuracy",
    "top5": "points of top-5 accuracy",
    "argmax": "points of samples that keep their class",
}
_UNITS = {
    "top1": "top-1 points lost",
    "top5": "top-5 points lost",
    "argmax": "samples in % whose class changes",
    "relative": RELATIVE,
}


def verdict(study: Study, *, in_turns: bool = True) -> tuple[str, str]:
    """Two sentences. in_turns: otherwise the first one says that the measurements were not."""
    latencies, clock = comparable(study.measurements)
    places = ranks(latencies)
    first = [name for name, (best, _) in places.items() if best == 1]
    compared = study.comparison.reference if study.comparison is not None else ""
    costs = [_cost(study, name) for name in first if name != compared or len(first) == 1]
    loss = " ".join(dict.fromkeys(costs[:_MOST]))
    return _speed(study, first, latencies, clock) + ("" if in_turns else _AT_OTHER_TIMES), loss


_AT_OTHER_TIMES = " (They were measured one after the other, so what changed on the machine meanwhile is in it.)"


def _speed(study: Study, first: Sequence[str], latencies: Mapping[str, Interval], clock: str) -> str:
    name = first[0]
    told = f"{_ms(latencies[name])}{', ' + clock if clock else ''}"
    if len(latencies) == 1:
        return f"{name} takes {told}."
    if len(first) == len(latencies):
        return f"None is measurably faster: {_and(first)} cannot be told apart ({told} for {name})."
    if len(first) > 1:
        return f"The fastest are {_and(first)}, which cannot be told apart: {told} for {name}."
    if name == study.reference:
        return f"{name}, which the others are compared with, is surely the fastest: {told}."
    ratio = ratio_interval(latencies[study.reference], latencies[name])
    times = f"{ratio.value:.3g} times as fast as {study.reference} ({ratio.low:.3g} to {ratio.high:.3g})"
    return f"{name} is surely the fastest: {told}, {times}."


def _ms(interval: Interval) -> str:
    sure = "" if math.isinf(interval.high) else f" ({interval.low:.4g} to {interval.high:.4g} with 95 % confidence)"
    return f"{interval.value:.4g} ms{sure}"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _cost(study: Study, name: str) -> str:
    """What its outputs lost against the reference's."""
    compared = study.comparison
    if compared is None:
        return (
            "" if len(study.measurements) == 1 else "Nothing tells what it costs in accuracy: no outputs were compared."
        )
    if name == compared.reference:
        return f"{name} is what accuracy is compared with."
    item = next((item for item in compared.contestants if item.name == name), None)
    if item is None or item.evaluation is None:
        return (
            f"{name} was not compared: {item.failure if item else 'it took no part in the comparison'}".rstrip(".")
            + "."
        )
    metric = item.evaluation.metrics[0] if compared.count >= _ENOUGH else "relative"
    drop, where = item.evaluation.drop(metric), f"on {count_of(compared.count, 'sample')}"
    if metric == "relative" or metric not in _LOSSES:
        if not math.isfinite(drop.value):
            return f"{name} gives outputs that are not finite {where}, where {compared.reference}'s are."
        return f"The outputs of {name} lie {drop.value:.3g} % apart from {compared.reference}'s{_ends(drop)} {where}."
    if drop.low <= 0 <= drop.high:
        lost = f"{drop.value:.2f} {_LOSSES[metric]}{_ends(drop)} {where}"
        return f"{name} shows no measurable loss against {compared.reference}: {lost}."
    word = "loses" if drop.value > 0 else "gains"
    found = drop if drop.value > 0 else Interval(-drop.value, -drop.high, -drop.low)
    return f"{name} {word} {found.value:.2f} {_LOSSES[metric]} against {compared.reference}{_ends(found)} {where}."


def _ends(drop: Interval) -> str:
    sure = math.isfinite(drop.low) and math.isfinite(drop.high)
    return f" ({drop.low:.3g} to {drop.high:.3g} with 95 % confidence)" if sure else ""


def pareto_points(study: Study) -> tuple[list[ParetoPoint], str]:
    """Latency and loss of everything that has both, and the loss's unit."""
    compared = study.comparison
    if compared is None:
        return [], RELATIVE
    latencies, _ = comparable(study.measurements)
    metric = _metric(compared)
    points = [
        ParetoPoint(item.name, study.subject(item.name).precision, latencies[item.name], item.evaluation.drop(metric))
        for item in compared.contestants
        if item.evaluation is not None and item.name in latencies and metric in item.evaluation.metrics
    ]
    return points, _UNITS[metric]


def _metric(compared: Comparison) -> str:
    found = (item.evaluation.metrics[0] for item in compared.contestants if item.evaluation is not None)
    return next(found, "relative")
