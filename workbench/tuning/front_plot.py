"""The front as a picture: every complete trial in two objectives, with intervals, limits and the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from workbench.accuracy import Interval
from workbench.plots import Plot, ink
from workbench.plots.ink import Pen
from workbench.plots.labels import Box, place_labels
from workbench.plots.palette import PAPER, QUIET, TEXT, by_precision
from workbench.plots.plot import number
from workbench.tuning.findings import Findings, lane_of, trials_of
from workbench.tuning.front_facts import Bound, FrontFacts, FrontMark, front_facts, whiskered
from workbench.tuning.trial import FAILED, PRUNED
from workbench.types import count_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FrontFacts", "FrontMark", "draw_front", "front_plot"]

_HEIGHT_PX, _TALL_PX, _MOST_IN_THE_WAY = 380, 310, 40
_BIG_PX, _SMALL_PX, _RING_PX = 11.0, 7.5, 21.0


def front_plot(tuned: Findings, column: str = "", x: str = "latency", y: str = "accuracy") -> Plot:
    """x, y: objectives. The column is the first by default. Raises ConfigError where nothing was measured yet."""
    facts = front_facts(tuned, column, x, y)
    ends = ("interval from", "to")
    heads = ("", "precision", facts.x.title, *ends, facts.y.title, *ends, "within the limits", "on the front", "best")
    rows = [
        (item.name, item.precision, *_numbers(item.x), *_numbers(item.y), "yes" if item.is_allowed else "no",
         "yes" if item.on_front else "", "yes" if item.is_best else "")
        for item in facts.marks
    ]  # fmt: skip
    lane = lane_of(tuned, column)
    title = f"{x.capitalize()} and {y} of {count_of(len(rows), 'candidate')} on {lane.name}"
    return Plot(title, (heads, *rows), facts, draw_front, _HEIGHT_PX, tuple(_notes(tuned, lane.name, facts)))


def _numbers(item: Interval) -> tuple[str, str, str]:
    ends = [number(end) if math.isfinite(end) else "" for end in (item.low, item.high)]
    return number(item.value) if math.isfinite(item.value) else "not finite", ends[0], ends[1]


def _notes(tuned: Findings, column: str, facts: FrontFacts) -> list[str]:
    notes = [f"{tuned.recorded[:1].upper()}{tuned.recorded[1:]}; not measured here."] if tuned.recorded else []
    notes.append(
        "Steps: nothing measured within the limits is better in both. Large marks: the front in all that was asked "
        f"for. Thin lines: intervals{_of_whom(facts)}; where they overlap, no order is sure."
    )
    if any(item.is_best for item in facts.marks):
        again = lane_of(tuned, column).finals is not None
        notes.append(f"Ring: the best{', chosen by times that were measured again, in turns' if again else ''}.")
    if any(not item.is_allowed for item in facts.marks):
        notes.append(f"Hollow marks break a limit: {' and '.join(map(str, tuned.goals.limits))}.")
    beyond = sum(_is_beyond(facts, item) for item in facts.marks)
    if beyond:
        stand = f"{count_of(beyond, 'candidate')} beyond the axes {'stand' if beyond > 1 else 'stands'} at the edge"
        notes.append(f"{stand}; the table tells the numbers.")
    trials = trials_of(tuned, column)
    gone = {"given up early": PRUNED, "failed": FAILED}
    told = [f"{count} {words}" for words, state in gone.items() if (count := sum(t.state == state for t in trials))]
    return [*notes, *[f"Not drawn: {' and '.join(told)}."] * bool(told)]


def _of_whom(facts: FrontFacts) -> str:
    return " of the front, the table has the others" if len(whiskered(facts.marks)) < len(facts.marks) else ""


def _is_beyond(facts: FrontFacts, item: FrontMark) -> bool:
    x, y = item.x.value, item.y.value
    return facts.across.inside(x) != x or facts.up.inside(y) != y


# ---- drawing


def draw_front(facts: FrontFacts, axes: Axes) -> None:
    across, up = facts.across, facts.up
    ink.blank(axes, across.high, up.low, up.high, across.low)
    ink.left_axis(axes, ink.ticks_to(up.high, _TALL_PX, start=up.low, apart_px=38), f"{facts.y.title}, from zero")
    ticks = ink.ticks_to(across.high, ink.width_px(axes), start=across.low)
    ink.bottom_axis(axes, ticks, f"{facts.x.title}, from zero")
    if up.low < 0 < up.high:
        ink.line(axes, [0, 1], [0, 0], QUIET, frame="row")
    for bound in facts.bounds:
        _draw_bound(axes, facts, bound)
    if facts.steps:
        xs, ys = zip(*facts.steps, strict=True)
        ink.line(axes, [across.inside(x) for x in xs], [up.inside(y) for y in ys], QUIET, width_px=1.4)
    for precision in dict.fromkeys(item.precision for item in facts.marks):
        _draw_precision(axes, facts, precision)
    best = [item for item in facts.marks if item.is_best and math.isfinite(item.y.value)]
    _marks(axes, facts, best, (TEXT, "o"), _RING_PX, face="none", edge_px=1.6)
    _write_labels(axes, facts)
    precisions = dict.fromkeys(item.precision for item in facts.marks)
    ink.legend(axes, [(name, by_precision(name)) for name in precisions], right=True)


def _draw_bound(axes: Axes, facts: FrontFacts, bound: Bound) -> None:
    limits = facts.across if bound.along_x else facts.up
    if not limits.low <= bound.at <= limits.high:
        return
    xs, ys = ([bound.at, bound.at], [0, 1]) if bound.along_x else ([0, 1], [bound.at, bound.at])
    frame = "column" if bound.along_x else "row"
    ink.line(axes, xs, ys, TEXT, width_px=1.0, style=(0, (5, 4)), frame=frame)
    place = (bound.at, 1.0) if bound.along_x else (1.0, bound.at)
    shift = (-4.0, -8.0) if bound.along_x else (-2.0, 8.0)
    pen = Pen(TEXT, ink.SMALL_PX, ha="right", frame=frame, shift_px=shift, on_paper=True)
    ink.write(axes, place, bound.words, pen)


def _draw_precision(axes: Axes, facts: FrontFacts, precision: str) -> None:
    look = by_precision(precision)
    mine = [item for item in facts.marks if item.precision == precision and math.isfinite(item.y.value)]
    shown = whiskered(facts.marks)
    _whiskers(axes, facts, [item for item in mine if item in shown and not _is_beyond(facts, item)], look[0])
    inner = [item for item in mine if not item.on_front and not item.is_best]
    _marks(axes, facts, [item for item in inner if item.is_allowed], look, _SMALL_PX)
    _marks(axes, facts, [item for item in inner if not item.is_allowed], look, _SMALL_PX, face=PAPER, edge_px=1.3)
    _marks(axes, facts, [item for item in mine if item not in inner], look, _BIG_PX)


def _marks(
    axes: Axes, facts: FrontFacts, marks: Sequence[FrontMark], look: tuple[str, str], size_px: float, **options: Any
) -> None:
    """All at once, as hundreds of artists would take a second. options: face, edge_px."""
    from matplotlib.lines import Line2D

    if not marks:
        return
    face = options.get("face", look[0])
    axes.add_line(
        Line2D(
            [facts.across.inside(item.x.value) for item in marks], [facts.up.inside(item.y.value) for item in marks],
            color=look[0], marker=look[1], markersize=ink.points(size_px), linestyle="None", fillstyle="full",
            markerfacecolor=face, markeredgecolor=PAPER if face == look[0] else look[0],
            markeredgewidth=ink.points(options.get("edge_px", 1.0)), zorder=4 if size_px == _SMALL_PX else 5,
            clip_on=False, antialiased=True,
        )
    )  # fmt: skip


def _whiskers(axes: Axes, facts: FrontFacts, marks: Sequence[FrontMark], color: str) -> None:
    """Both of all marks as one line with gaps; none where an end is infinite."""
    xs, ys = list[float](), list[float]()
    for item in marks:
        for low, high, is_level in ((item.x.low, item.x.high, True), (item.y.low, item.y.high, False)):
            if not (math.isfinite(low) and math.isfinite(high)) or low == high:
                continue
            limits = facts.across if is_level else facts.up
            ends = [limits.inside(low), limits.inside(high), math.nan]
            xs += ends if is_level else [item.x.value] * 3
            ys += [item.y.value] * 3 if is_level else ends
    if xs:
        ink.line(axes, xs, ys, color, width_px=1.1, over=3)


def _write_labels(axes: Axes, facts: FrontFacts) -> None:
    across, up = ink.width_px(axes), ink.height_px(axes)

    def spot(x: float, y: float) -> tuple[float, float]:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        return (x - left) / (right - left) * across, (y - bottom) / (top - bottom) * up

    labelled = [item for item in facts.marks if item.label and math.isfinite(item.y.value)]
    texts = ink.shortened([item.label for item in labelled], 0.42 * across, ink.SMALL_PX)
    anchors = [spot(facts.across.inside(item.x.value), facts.up.inside(item.y.value)) for item in labelled]
    others = [spot(item.x.value, item.y.value) for item in facts.marks if item not in labelled]
    others = [place for place in others if all(map(math.isfinite, place))]
    others.sort(key=lambda place: min((math.dist(place, anchor) for anchor in anchors), default=0.0))
    taken = [Box(x - 4, y - 4, x + 4, y + 4) for x, y in others[:_MOST_IN_THE_WAY]]
    taken += [_stroke(spot(*one), spot(*other)) for one, other in pairwise(facts.steps)]
    sizes = [(ink.text_px(text, ink.SMALL_PX, item.is_best) + 2, ink.SMALL_PX + 3)
             for text, item in zip(texts, labelled, strict=True)]  # fmt: skip
    places = place_labels(anchors, sizes, Box(0, 2, across, up), taken)
    for item, text, anchor, box in zip(labelled, texts, anchors, places, strict=True):
        nearest = (min(max(anchor[0], box.left), box.right), min(max(anchor[1], box.bottom), box.top))
        if math.dist(anchor, nearest) > 14:
            xs, ys = (anchor[0] / across, nearest[0] / across), (anchor[1] / up, nearest[1] / up)
            ink.line(axes, xs, ys, QUIET, width_px=0.7, frame="axes")
        middle = (box.left / across, (box.bottom + box.top) / 2 / up)
        pen = Pen(TEXT, ink.SMALL_PX, item.is_best, frame="axes", shift_px=(1, 0), on_paper=True)
        ink.write(axes, middle, text, pen)


def _stroke(one: tuple[float, float], other: tuple[float, float]) -> Box:
    (x, y), (far, above) = one, other
    return Box(min(x, far) - 2, min(y, above) - 2, max(x, far) + 2, max(y, above) + 2)
