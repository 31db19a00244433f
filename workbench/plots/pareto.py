"""Loss of accuracy against latency: choose from the front, where nothing else is faster and better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from workbench.accuracy import Interval
from workbench.errors import ConfigError
from workbench.plots import ink
from workbench.plots.ink import Pen
from workbench.plots.labels import Box, place_labels
from workbench.plots.palette import QUIET, TEXT, by_precision
from workbench.plots.plot import Plot, ends, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RELATIVE = "relative error in %"
_HEADS = ("", "precision", "median ms", "95 % from ms", "95 % to ms")
_HEIGHT_PX, _MOST_LABELS = 380, 40


@dataclass(frozen=True)
class ParetoPoint:
    """loss: what accuracy was lost, in points or per cent, with its interval; negative where it was gained."""

    name: str
    precision: str
    latency_ms: Interval
    loss: Interval


class ParetoFacts(NamedTuple):
    """front: places, in `points`, of those that none is faster and at least as good, or better and at least as fast;
    the fastest first."""

    points: tuple[ParetoPoint, ...]
    front: tuple[int, ...]
    loss_unit: str


def pareto(
    points: Sequence[ParetoPoint], loss_unit: str = RELATIVE, title: str = "What speed costs in accuracy"
) -> Plot:
    """loss_unit: what `loss` counts, such as 'top-1 points lost'. Points without a finite loss are told in words.

    Raises ConfigError where there is nothing to draw.
    """
    drawn = [item for item in points if math.isfinite(item.loss.value) and math.isfinite(item.latency_ms.value)]
    if not drawn:
        raise ConfigError("no contestant has both a latency and a finite loss, so there is nothing to draw.")
    facts = ParetoFacts(tuple(drawn), front_of(drawn), loss_unit)
    heads = (*_HEADS, loss_unit, "95 % from", "95 % to", "on the front")
    chosen = [drawn[place] for place in facts.front]
    rows = [
        (item.name, item.precision, *map(number, _ends(item.latency_ms)), *map(number, _ends(item.loss)),
         "yes" if item in chosen else "")
        for item in points
    ]  # fmt: skip
    missing = [f"{item.name} is not drawn: its outputs are not finite." for item in points if item not in drawn]
    front = (
        "Steps: the front. By the values, nothing measured here is both faster and better than what lies on it; "
        "where intervals overlap, that is not sure."
    )
    return Plot(title, (heads, *rows), facts, draw_pareto, _HEIGHT_PX, (front, *missing))


def front_of(points: Sequence[ParetoPoint]) -> tuple[int, ...]:
    """Places of the points that no other one dominates, by their values; the fastest first."""
    order = sorted(range(len(points)), key=lambda place: (points[place].latency_ms.value, points[place].loss.value))
    front: list[int] = []
    for place in order:
        if (
            not front
            or points[place].loss.value < points[front[-1]].loss.value
            or _same(points[place], points[front[-1]])
        ):
            front.append(place)
    return tuple(front)


def _same(one: ParetoPoint, other: ParetoPoint) -> bool:
    return (one.latency_ms.value, one.loss.value) == (other.latency_ms.value, other.loss.value)


def _ends(interval: Interval) -> tuple[float | None, float | None, float | None]:
    return interval.value if math.isfinite(interval.value) else None, *ends(interval)


def draw_pareto(facts: ParetoFacts, axes: Axes) -> None:
    right = max(_reach(item.latency_ms) for item in facts.points) * 1.06 or 1.0
    top = max(max(_reach(item.loss) for item in facts.points), 0.0)
    bottom = min(min(_depth(item.loss) for item in facts.points), 0.0)
    pad = 0.06 * (top - bottom) or 1.0
    bottom, top = (bottom - pad if bottom < 0 else 0.0), top + pad
    ink.blank(axes, right, bottom, top)
    upwards = ink.ticks_to(top, ink.height_px(axes), start=bottom, apart_px=45)
    ink.left_axis(axes, upwards, f"{facts.loss_unit}, from zero")
    ink.bottom_axis(axes, ink.ticks_to(right, ink.width_px(axes)), "median latency in ms, from zero")
    if bottom < 0:
        ink.line(axes, [0, 1], [0, 0], QUIET, frame="row")
    steps = _front_steps(facts, right, top)
    ink.line(axes, *steps, QUIET, width_px=1.2, style=(0, (4, 3)))
    for item in facts.points:
        look = by_precision(item.precision)
        ink.whisker(axes, item.latency_ms.low, item.latency_ms.high, item.loss.value, look[0])
        ink.whisker(axes, item.loss.low, item.loss.high, item.latency_ms.value, look[0], upright=True)
        ink.mark(axes, item.latency_ms.value, item.loss.value, look, 11)
    _write_names(axes, facts, steps)
    precisions = dict.fromkeys(item.precision for item in facts.points)
    ink.legend(axes, [(name or "precision not told", by_precision(name)) for name in precisions], right=True)


def _reach(interval: Interval) -> float:
    return max(interval.value, _ends(interval)[2] or interval.value)


def _depth(interval: Interval) -> float:
    return min(interval.value, _ends(interval)[1] or interval.value)


def _front_steps(facts: ParetoFacts, right: float, top: float) -> tuple[list[float], list[float]]:
    """From above the fastest to the right of the most exact."""
    front = [facts.points[place] for place in facts.front]
    xs, ys = [front[0].latency_ms.value], [top]
    for item in front:
        xs += [item.latency_ms.value] * 2
        ys += [ys[-1], item.loss.value]
    return [*xs, right], [*ys, ys[-1]]


def _write_names(axes: Axes, facts: ParetoFacts, steps: tuple[list[float], list[float]]) -> None:
    points = facts.points[:_MOST_LABELS]
    across, up = ink.width_px(axes), ink.height_px(axes)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()

    def spot(x: float, y: float) -> tuple[float, float]:
        return (x - left) / (right - left) * across, (y - bottom) / (top - bottom) * up

    names = ink.shortened([item.name for item in points], 0.3 * across, ink.SMALL_PX)
    anchors = [spot(item.latency_ms.value, item.loss.value) for item in points]
    sizes = [(ink.text_px(name, ink.SMALL_PX) + 2, ink.SMALL_PX + 3) for name in names]
    corners = list(zip(*steps, strict=True))
    taken = [_stroke(spot(*one), spot(*other)) for one, other in [*_whiskers(points), *pairwise(corners)]]
    places = place_labels(anchors, sizes, Box(0, 2, across, up), taken)
    for name, anchor, box in zip(names, anchors, places, strict=True):
        nearest = (min(max(anchor[0], box.left), box.right), min(max(anchor[1], box.bottom), box.top))
        if math.dist(anchor, nearest) > 14:
            xs, ys = (anchor[0] / across, nearest[0] / across), (anchor[1] / up, nearest[1] / up)
            ink.line(axes, xs, ys, QUIET, width_px=0.7, frame="axes")
        middle = (box.left / across, (box.bottom + box.top) / 2 / up)
        ink.write(axes, middle, name, Pen(TEXT, ink.SMALL_PX, frame="axes", shift_px=(1, 0), on_paper=True))


def _whiskers(points: Sequence[ParetoPoint]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Both ends of each, in the data's units."""
    lines = []
    for item in points:
        x, y = item.latency_ms, item.loss
        lines += [((x.low, y.value), (x.high, y.value)), ((x.value, y.low), (x.value, y.high))]
    return [line for line in lines if all(map(math.isfinite, (*line[0], *line[1])))]


def _stroke(one: tuple[float, float], other: tuple[float, float]) -> Box:
    """What an upright or level line covers, with a little air."""
    (x, y), (far, above) = one, other
    return Box(min(x, far) - 2, min(y, above) - 2, max(x, far) + 2, max(y, above) + 2)
