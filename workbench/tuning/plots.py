"""Plots of a search, each also a table: its front, what each knob matters, and how the best came about.

front_plot(tuned)            all complete trials in two objectives
importance_plot(tuned)       the share of every knob in being among the best
progress_plot(tuned)         the best of the first objective so far, trial by trial
plots_of(tuned)              those that can be drawn now
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from workbench.errors import ConfigError
from workbench.plots import Plot, ink
from workbench.plots.ink import Pen
from workbench.plots.palette import PAPER, QUIET, SERIES, TEXT, by_precision
from workbench.plots.plot import number
from workbench.tuning.candidate import TITLES
from workbench.tuning.findings import Findings, lane_of, trials_of
from workbench.tuning.front_plot import front_plot
from workbench.tuning.scale import Scale, Span, scale, span
from workbench.tuning.telling import STATES
from workbench.types import count_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["front_plot", "importance_plot", "plots_of", "progress_plot"]

_LINE_PX, _GAP_PX, _AXIS_PX, _LEGEND_PX = 14, 8, 44, 24
_PROGRESS_PX = 240


def plots_of(tuned: Findings, column: str = "") -> tuple[Plot, ...]:
    """Front, progress and importance, as far as there is something to draw."""
    found = []
    for make in (_usual_front, progress_plot, lambda search, name: importance_plot(search, column=name)):
        try:
            found.append(make(tuned, column))
        except ConfigError:  # nothing was measured yet, or too little
            continue
    return tuple(found)


def _usual_front(tuned: Findings, column: str) -> Plot:
    """In the first two objectives; accuracy always stands upright, as in every plot here."""
    first, *rest = [name for name in tuned.goals.objectives if name != "accuracy"] or ["latency"]
    has_loss = "accuracy" in tuned.goals.objectives or not rest
    return front_plot(tuned, column, first, "accuracy" if has_loss else rest[0])


# ---- importance


class KnobFacts(NamedTuple):
    """shares: of each objective, by knob, the most important first; from 0 to 1."""

    objectives: tuple[str, ...]
    knobs: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]


def importance_plot(tuned: Findings, objective: str = "", column: str = "") -> Plot:
    """Of one objective, or of all side by side. Raises ConfigError where too few trials tell anything."""
    lane = lane_of(tuned, column)
    found = {name: shares for name, shares in lane.importance.items() if objective in ("", name)}
    knobs = list(dict.fromkeys(knob for shares in found.values() for knob in shares))
    if not knobs:
        raise ConfigError("what each knob matters is known when a search has ended with eight complete trials or more.")
    knobs.sort(key=lambda knob: -max(shares.get(knob, 0.0) for shares in found.values()))
    shares = tuple(tuple(found[name].get(knob, 0.0) for name in found) for knob in knobs)
    facts = KnobFacts(tuple(found), tuple(TITLES[knob] for knob in knobs), shares)
    rows = [(knob, *(f"{100 * share:.0f}" for share in row)) for knob, row in zip(facts.knobs, shares, strict=True)]
    heads = ("knob", *(f"share in {name}, %" for name in found))
    height = len(knobs) * (_LINE_PX * len(found) + _GAP_PX) + _AXIS_PX + _LEGEND_PX * (len(found) > 1)
    note = (
        "How much each knob decides whether a trial is among the best tenth (PED-ANOVA), by those that were tried; "
        "shares of few trials are rough."
    )
    told = f" for {objective}" if objective else ""
    return Plot(f"What each knob matters{told} on {lane.name}", (heads, *rows), facts, draw_importance, height, (note,))


def draw_importance(facts: KnobFacts, axes: Axes) -> None:
    count = len(facts.objectives)
    row_px = _LINE_PX * count + _GAP_PX
    ink.blank(axes, 100, -len(facts.knobs), 0)
    ink.bottom_axis(axes, [(at, f"{at}") for at in (0, 25, 50, 75, 100)], "share in %, from zero")
    for place, (knob, shares) in enumerate(zip(facts.knobs, facts.shares, strict=True)):
        ink.write(axes, (0, -place - 0.5), knob, Pen(size_px=ink.SMALL_PX, ha="right", frame="row", shift_px=(-8, 0)))
        for line, share in enumerate(shares):
            y = -place - (_GAP_PX / 2 + _LINE_PX * (line + 0.5)) / row_px
            ink.bar(axes, (0, 100 * share), y, 0.8 * _LINE_PX / row_px, SERIES[line % len(SERIES)])
            pen = Pen(QUIET, ink.SMALL_PX - 1, shift_px=(5, 0), on_paper=True)
            ink.write(axes, (100 * share, y), f"{100 * share:.0f} %", pen)
    if count > 1:
        ink.legend(axes, [(name, (SERIES[line % len(SERIES)], "s")) for line, name in enumerate(facts.objectives)])


# ---- progress


class Step(NamedTuple):
    """value, best: in the axis's unit, None where nothing was measured, or nothing is within the limits yet."""

    candidate: str
    precision: str
    state: str
    value: float | None
    best: float | None
    is_allowed: bool
    known: bool


class ProgressFacts(NamedTuple):
    axis: Scale
    up: Span
    steps: tuple[Step, ...]


def progress_plot(tuned: Findings, column: str = "") -> Plot:
    """The best value of the first objective within the limits so far. Raises ConfigError where nothing was tried."""
    lane = lane_of(tuned, column)
    facts = progress_facts(tuned, lane.name)
    rows = [
        (str(place), item.candidate, STATES[item.state], number(item.value), number(item.best),
         "yes" if item.known else "")
        for place, item in enumerate(facts.steps, 1)
    ]  # fmt: skip
    heads = ("trial", "candidate", "what became of it", facts.axis.title, "best so far", "known from before")
    title = f"Best {facts.axis.objective} so far, trial by trial, on {lane.name}"
    return Plot(title, (heads, *rows), facts, draw_progress, _PROGRESS_PX, tuple(_progress_notes(facts)))


def progress_facts(tuned: Findings, column: str) -> ProgressFacts:
    trials = trials_of(tuned, column)
    if not trials:
        raise ConfigError("nothing was tried yet, so there is nothing to draw.")
    metric = next((item.score.metric for item in trials if item.is_complete and item.score), "")
    axis, best, steps = scale(tuned.goals.objectives[0], metric), None, list[Step]()
    for item in trials:
        score = item.score if item.is_complete else None
        value = axis.of(score).value if score is not None else None
        value = value if value is not None and math.isfinite(value) else None
        is_allowed = score is not None and tuned.goals.allows(score)
        if value is not None and is_allowed and (best is None or axis.cost(value) < axis.cost(best)):
            best = value
        steps.append(
            Step(str(item.candidate), item.candidate.precision, item.state, value, best, is_allowed, item.known)
        )
    values = [item.value for item in steps if item.value is not None]
    bests = [item.best for item in steps if item.best is not None]
    return ProgressFacts(axis, span(values, bests), tuple(steps))


def _progress_notes(facts: ProgressFacts) -> list[str]:
    notes = ["Line: the best within the limits so far. Marks: what each trial measured; hollow ones break a limit."]
    gone = [item for item in facts.steps if item.value is None]
    if gone:
        notes.append(f"Ticks at the bottom: {count_of(len(gone), 'trial')} given up early or failed.")
    known = sum(item.known for item in facts.steps)
    if known:
        notes.append(f"{known} of {len(facts.steps)} were known from earlier searches and not measured again.")
    if facts.up.beyond:
        notes.append(f"{count_of(facts.up.beyond, 'trial')} beyond the axis: at the edge, the table tells the numbers.")
    return notes


def draw_progress(facts: ProgressFacts, axes: Axes) -> None:
    count, up = len(facts.steps), facts.up
    ink.blank(axes, count + 0.5, up.low, up.high, 0.5)
    ticks = ink.ticks_to(up.high, ink.height_px(axes), start=up.low, apart_px=45)
    ink.left_axis(axes, ticks, f"{facts.axis.title}, from zero")
    places = [(at, text) for at, text in ink.ticks_to(count, ink.width_px(axes)) if at >= 1 and at == int(at)]
    ink.bottom_axis(axes, places or [(1, "1")], "trial")
    _draw_line(axes, facts)
    for precision in dict.fromkeys(item.precision for item in facts.steps):
        for is_allowed in (False, True):
            _draw_steps(axes, facts, precision, is_allowed)
    gone = [place for place, item in enumerate(facts.steps, 1) if item.value is None]
    xs = [x for place in gone for x in (place, place, math.nan)]
    if xs:
        ink.line(axes, xs, [0.0, 0.035, math.nan] * len(gone), QUIET, width_px=1.2, frame="column", over=4)
    precisions = dict.fromkeys(item.precision for item in facts.steps if item.value is not None)
    if precisions:
        ink.legend(axes, [(name, by_precision(name)) for name in precisions], right=True)


def _draw_line(axes: Axes, facts: ProgressFacts) -> None:
    known = [(place, item.best) for place, item in enumerate(facts.steps, 1) if item.best is not None]
    corners: list[tuple[float, float]] = []
    for place, best in known:
        corners += [(place, corners[-1][1] if corners else best), (place, best)]
    if corners:
        corners.append((len(facts.steps) + 0.5, corners[-1][1]))
        xs, ys = zip(*corners, strict=True)
        ink.line(axes, xs, ys, TEXT, width_px=1.6, over=3)


def _draw_steps(axes: Axes, facts: ProgressFacts, precision: str, is_allowed: bool) -> None:
    from matplotlib.lines import Line2D

    look = by_precision(precision)
    mine: Sequence[tuple[int, float]] = [
        (place, facts.up.inside(item.value))
        for place, item in enumerate(facts.steps, 1)
        if item.value is not None and item.precision == precision and item.is_allowed == is_allowed
    ]
    if not mine:
        return
    xs, ys = zip(*mine, strict=True)
    axes.add_line(
        Line2D(
            xs, ys, color=look[0], marker=look[1], markersize=ink.points(8), linestyle="None", fillstyle="full",
            markerfacecolor=look[0] if is_allowed else PAPER, markeredgecolor=PAPER if is_allowed else look[0],
            markeredgewidth=ink.points(1.0 if is_allowed else 1.3), zorder=5, clip_on=False, antialiased=True,
        )
    )  # fmt: skip
