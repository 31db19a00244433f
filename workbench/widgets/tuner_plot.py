"""The front of a search to be clicked: what was given up early stands faintly beside it, and where each mark lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.plots import ink
from workbench.plots.output import svg
from workbench.plots.palette import PAPER, QUIET, by_precision
from workbench.plots.plot import Plot
from workbench.tuning import Trial, Tuned
from workbench.tuning.findings import trials_of
from workbench.tuning.front_plot import FrontFacts, draw_front, front_plot
from workbench.tuning.scale import Span, scale
from workbench.tuning.trial import FAILED, PRUNED
from workbench.types import count_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NOT_DRAWN = "Not drawn: "
_FAINT_PX = 7.0
_ROOM, _FAR = 1.06, 3.0


class Dot(NamedTuple):
    """A trial that is drawn, in the axes' units."""

    id: str
    precision: str
    x: float
    y: float


class LiveFacts(NamedTuple):
    """dots: of complete trials, as `front` marks them. faint: of those that were given up after a short look."""

    front: FrontFacts
    dots: tuple[Dot, ...]
    faint: tuple[Dot, ...]


@dataclass(frozen=True)
class Spot:
    """Where a trial's mark lies: shares of the picture's width and height, from its upper left corner."""

    id: str
    left: float
    top: float


def live_plot(tuned: Tuned, column: str, x: str, y: str) -> Plot:
    """`front_plot`, with what was given up early. Raises ConfigError where nothing was measured yet."""
    plot = front_plot(tuned, column, x, y)
    trials = trials_of(tuned, column)
    dots = _dots([item for item in trials if item.is_complete], x, y)
    faint = _dots([item for item in trials if item.state == PRUNED], x, y)
    facts = LiveFacts(_wider(plot.facts, faint), dots, faint)
    return replace(plot, facts=facts, drawn_by=draw_live, notes=(*_kept(plot.notes), *_missing(trials, len(faint))))


def _dots(trials: Sequence[Trial], x: str, y: str) -> tuple[Dot, ...]:
    found = [
        Dot(item.id, item.candidate.precision, scale(x).of(item.score).value, scale(y).of(item.score).value)
        for item in trials
        if item.score is not None
    ]
    return tuple(dot for dot in found if math.isfinite(dot.x) and math.isfinite(dot.y))


def _wider(facts: FrontFacts, faint: Sequence[Dot]) -> FrontFacts:
    """With axes that reach what was given up, unless that lies far off."""
    across, up = _reaching(facts.across, [dot.x for dot in faint]), _reaching(facts.up, [dot.y for dot in faint])
    ends = {facts.across.high: across.high}, {facts.up.high: up.high}
    steps = tuple((ends[0].get(x, x), ends[1].get(y, y)) for x, y in facts.steps)
    return facts._replace(across=across, up=up, steps=steps)


def _reaching(axis: Span, values: Sequence[float]) -> Span:
    most = max(values, default=0.0)
    return axis._replace(high=_ROOM * most) if axis.high < most <= _FAR * axis.high else axis


def _kept(notes: Sequence[str]) -> list[str]:
    return [note for note in notes if not note.startswith(_NOT_DRAWN)]


def _missing(trials: Sequence[Trial], drawn: int) -> list[str]:
    pruned = sum(item.state == PRUNED for item in trials)
    failed = sum(item.state == FAILED for item in trials)
    notes = [f"Faint: {count_of(drawn, 'candidate')} given up after a short look, by what it saw."] if drawn else []
    left = [f"{pruned - drawn} given up early before both were known"] * (pruned > drawn)
    left += [f"{failed} failed"] * (failed > 0)
    return [*notes, *[f"{_NOT_DRAWN}{' and '.join(left)}."] * bool(left)]


def draw_live(facts: LiveFacts, axes: Axes) -> None:
    from matplotlib.lines import Line2D

    draw_front(facts.front, axes)
    for precision in dict.fromkeys(dot.precision for dot in facts.faint):
        places = [_place(facts, dot) for dot in facts.faint if dot.precision == precision]
        axes.add_line(
            Line2D(
                [x for x, _ in places], [y for _, y in places], marker=by_precision(precision)[1],
                markersize=ink.points(_FAINT_PX), linestyle="None", fillstyle="full", markerfacecolor=PAPER,
                markeredgecolor=QUIET, markeredgewidth=ink.points(0.9), zorder=3.5, clip_on=False, antialiased=True,
            )
        )  # fmt: skip


def _place(facts: LiveFacts, dot: Dot) -> tuple[float, float]:
    """At the edge, where it lies beyond an axis."""
    return facts.front.across.inside(dot.x), facts.front.up.inside(dot.y)


def picture_of(plot: Plot) -> tuple[str, tuple[Spot, ...]]:
    """The <svg> of a live plot, and where its marks lie in it, from the left."""
    spots: list[Spot] = []

    def draw(facts: LiveFacts, axes: Axes) -> None:
        """The last time it is called, the axes are where they stay."""
        draw_live(facts, axes)
        spots[:] = [_spot(facts, dot, axes) for dot in (*facts.faint, *facts.dots)]

    drawn = svg(replace(plot, drawn_by=draw))
    return drawn, tuple(sorted(spots, key=lambda spot: (spot.left, spot.top)))


def _spot(facts: LiveFacts, dot: Dot, axes: Axes) -> Spot:
    figure: Any = axes.figure
    x, y = figure.transFigure.inverted().transform(axes.transData.transform(_place(facts, dot)))
    return Spot(dot.id, round(float(x), 5), round(1 - float(y), 5))
