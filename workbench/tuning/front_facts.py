"""What the picture of a front shows: marks, steps, limits and where its axes end; nothing is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from workbench.accuracy import Interval
from workbench.errors import ConfigError
from workbench.tuning.candidate import KNOBS, Candidate, knob_text
from workbench.tuning.findings import Findings, lane_of, trials_of
from workbench.tuning.goals import Limit
from workbench.tuning.scale import Scale, Span, lowered, scale, span
from workbench.tuning.trial import Trial

_MOST_LABELS, _FEW = 8, 12


class FrontMark(NamedTuple):
    """A complete trial. label: '' where none is written. is_allowed: within the limits."""

    name: str
    label: str
    precision: str
    x: Interval
    y: Interval
    on_front: bool
    is_allowed: bool
    is_best: bool


class Bound(NamedTuple):
    """A limit as a line across the other axis."""

    along_x: bool
    at: float
    words: str


class FrontFacts(NamedTuple):
    """steps: corners of the line that joins what nothing is better than in both, in the axes' units."""

    x: Scale
    y: Scale
    across: Span
    up: Span
    marks: tuple[FrontMark, ...]
    steps: tuple[tuple[float, float], ...]
    bounds: tuple[Bound, ...]


def front_facts(tuned: Findings, column: str, x: str, y: str) -> FrontFacts:
    lane = lane_of(tuned, column)
    found = [item for item in trials_of(tuned, lane.name) if item.is_complete and item.score is not None]
    metric = next((item.score.metric for item in found if item.score), "")
    across, up = scale(x, metric), scale(y, metric)
    front = {item.id for item in tuned.front(lane.name)}
    best = lane.best.trial if lane.best else ""
    labels = _labels([item for item in found if item.id in front or item.id == best], best)
    marks = [
        FrontMark(
            str(item.candidate), labels.get(item.id, ""), item.candidate.precision, across.of(item.score),
            up.of(item.score), item.id in front, tuned.goals.allows(item.score), item.id == best,
        )
        for item in found
        if item.score is not None
    ]  # fmt: skip
    drawn = [item for item in marks if math.isfinite(item.x.value) and math.isfinite(item.y.value)]
    if not drawn:
        raise ConfigError("no trial is complete yet, so there is nothing to draw.")
    bounds = [item for item in map(lambda limit: _bound(limit, across, up), tuned.goals.limits) if item]
    level, upright = _span(drawn, bounds, True), lowered(_span(drawn, bounds, False))
    steps = _steps(drawn, (across, up), (level, upright))
    return FrontFacts(across, up, level, upright, tuple(marks), tuple(steps), tuple(bounds))


def _bound(limit: Limit, x: Scale, y: Scale) -> Bound | None:
    for along_x, axis in ((True, x), (False, y)):
        if axis.objective == limit.objective:
            return Bound(along_x, axis.bound(limit.bound), str(limit))
    return None


def _span(marks: Sequence[FrontMark], bounds: Sequence[Bound], along_x: bool) -> Span:
    values = [item.x.value if along_x else item.y.value for item in marks]
    chosen = [_side(item, along_x) for item in marks if item.on_front or item.is_best]
    needed = [end for item in chosen for end in (item.value, item.low, item.high)]
    most = max([*values, 0.0])
    needed += [item.at for item in bounds if item.along_x == along_x and item.at <= 1.5 * most]
    return span(values, needed)


def whiskered(marks: Sequence[FrontMark]) -> list[FrontMark]:
    """Those whose intervals are drawn: of many the front's alone, or nothing else could be seen."""
    few = len(marks) <= _FEW
    return [item for item in marks if few or item.on_front or item.is_best]


def _side(item: FrontMark, along_x: bool) -> Interval:
    return item.x if along_x else item.y


def _steps(
    marks: Sequence[FrontMark], scales: tuple[Scale, Scale], spans: tuple[Span, Span]
) -> list[tuple[float, float]]:
    """From the worst of y above the best of x to the worst of x beside the best of y."""
    x, y = scales
    allowed = [item for item in marks if item.is_allowed]
    order = sorted(allowed, key=lambda item: (x.cost(item.x.value), y.cost(item.y.value)))
    front: list[FrontMark] = []
    for item in order:
        if not front or y.cost(item.y.value) < y.cost(front[-1].y.value):
            front.append(item)
    if not front:
        return []
    corners = [(front[0].x.value, 0.0 if y.grows else spans[1].high)]
    for item in front:
        corners += [(item.x.value, corners[-1][1]), (item.x.value, item.y.value)]
    return [*corners[:1], *corners[2:], (0.0 if x.grows else spans[0].high, corners[-1][1])]


def _labels(trials: Sequence[Trial], best: str) -> dict[str, str]:
    """By id, what tells them apart; the best one first, of the others so many as there is room for."""
    chosen = sorted(trials, key=lambda item: item.id != best)[:_MOST_LABELS]
    names = short_names([item.candidate for item in chosen])
    return {item.id: name for item, name in zip(chosen, names, strict=True)}


def short_names(candidates: Sequence[Candidate]) -> list[str]:
    """Without what is the same of all of them: 'int8 entropy, 2 layers in float'."""
    differing = [name for name in KNOBS if len({getattr(item, name) for item in candidates}) > 1]
    usual = Candidate("")
    names = []
    for item in candidates:
        first = [item.backend] * ("backend" in differing) + [item.precision]
        first += [item.algorithm] * ("algorithm" in differing)
        rest = [name for name in differing if name in KNOBS[3:] and getattr(item, name) != getattr(usual, name)]
        names.append(
            ", ".join([" ".join(filter(None, first)), *(knob_text(name, getattr(item, name)) for name in rest)])
        )
    return names
