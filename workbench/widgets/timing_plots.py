"""Plots in which recorded runs stand beside those measured here: outlined, under their own heading, never ranked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from workbench.accuracy import Interval
from workbench.plots import ink
from workbench.plots.ink import Pen
from workbench.plots.medians import MedianBar, MedianFacts, draw_medians, medians
from workbench.plots.palette import GRID, QUIET, SERIES
from workbench.plots.plot import Plot, number
from workbench.plots.throughput import throughput
from workbench.timing import Measurement
from workbench.timing.statistics import rank_text, ranks
from workbench.timing.throughput import Throughput
from workbench.widgets.timing_recorded import RecordedRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FAR_APART = 10.0
"""How much longer the longest bar of one group may be before each group gets an axis of its own."""
_ROW_PX, _AXIS_PX, _ROOM = 28, 44, 1.02
_DASHES = (0, (3, 2))


class Bar(NamedTuple):
    """rank: in words; '' for one that is recorded, or alone."""

    name: str
    median: Interval
    rank: str = ""


class Group(NamedTuple):
    """Bars on one axis. is_recorded: they are outlined and have no rank. limit_ms: where the axis ends."""

    heading: str
    bars: tuple[Bar, ...]
    is_recorded: bool
    limit_ms: float


class GroupFacts(NamedTuple):
    """is_shared: one axis serves all groups."""

    groups: tuple[Group, ...]
    is_shared: bool


_EMPTY = Plot(
    "Median latency",
    (("", "clock", "median ms", "95 % from ms", "95 % to ms", "rank", "no measurable difference to"),),
    MedianFacts(()), draw_medians, 0,
)  # fmt: skip


def medians_beside(measurements: Sequence[Measurement], rows: Sequence[RecordedRow], label: str) -> Plot:
    """`medians`, with the medians of recorded runs below. label: where those were recorded.

    Raises ConfigError where there is neither."""
    if not rows:
        return medians(measurements)
    own = medians(measurements) if measurements else _EMPTY
    facts = _grouped(own, rows, label)
    shown = [(row.name, row.run.clock, number(row.run.median_ms), "", "", "", "") for row in rows]
    notes = [*own.notes, f"Outlined: {label}. No interval was kept of them, and they are never ranked."]
    if not facts.is_shared:
        notes.append("Each group has an axis of its own, from zero: on a common one the shorter bars would be lines.")
    lines = sum(len(group.bars) + bool(group.heading) for group in facts.groups)
    height = _ROW_PX * lines + _AXIS_PX * (1 if facts.is_shared else len(facts.groups))
    return replace(
        own, rows=(*own.rows, *shown), facts=facts, drawn_by=draw_groups, height_px=height, notes=tuple(notes)
    )


def _grouped(own: Plot, rows: Sequence[RecordedRow], label: str) -> GroupFacts:
    sections: tuple[tuple[str, tuple[MedianBar, ...]], ...] = own.facts.sections
    found = [(heading, _ranked(bars), False) for heading, bars in sections]
    found.append((label, tuple(Bar(row.name, _unsure(row.run.median_ms)) for row in rows), True))
    limits = [max(_end_ms(bar) for bar in group) or 1.0 for _, group, _ in found]
    is_shared = max(limits) <= _FAR_APART * min(limits)
    return GroupFacts(
        tuple(
            Group(heading, group, recorded, _ROOM * (max(limits) if is_shared else limit))
            for (heading, group, recorded), limit in zip(found, limits, strict=True)
        ),
        is_shared,
    )


def _ranked(bars: Sequence[MedianBar]) -> tuple[Bar, ...]:
    place = ranks({str(index): bar.median for index, bar in enumerate(bars)})
    told = [f"rank {rank_text(place[str(index)])}" if len(bars) > 1 else "" for index in range(len(bars))]
    return tuple(Bar(bar.name, bar.median, rank) for bar, rank in zip(bars, told, strict=True))


def _unsure(median_ms: float) -> Interval:
    """A median without an interval."""
    return Interval(median_ms, -math.inf, math.inf)


def _end_ms(bar: Bar) -> float:
    return bar.median.high if math.isfinite(bar.median.high) else bar.median.value


def draw_groups(facts: GroupFacts, axes: Axes) -> None:
    """x counts from 0 to 1 along each group's axis, y in bars downwards."""
    gap = 0.0 if facts.is_shared else _AXIS_PX / _ROW_PX
    lines = sum(len(group.bars) + bool(group.heading) for group in facts.groups)
    height = lines + gap * (len(facts.groups) - 1)
    ink.blank(axes, 1, -height, 0)
    top = 0.0
    for group in facts.groups:
        bottom = top - len(group.bars) - bool(group.heading)
        if not facts.is_shared:
            _axis(axes, group.limit_ms, top - bool(group.heading), bottom)
        _draw_group(axes, group, top)
        top = bottom - gap
    if facts.is_shared:
        _axis(axes, facts.groups[0].limit_ms, 0, -height)


def _axis(axes: Axes, limit_ms: float, top: float, bottom: float) -> None:
    for at, text in ink.ticks_to(limit_ms, ink.width_px(axes)):
        x = at / limit_ms
        ink.line(axes, [x, x], [bottom, top], GRID, over=1)
        ink.write(axes, (x, bottom), text, Pen(QUIET, ink.SMALL_PX, ha="center", va="top", shift_px=(0, -5)))
    title = "median latency in ms, from zero"
    ink.write(axes, (0.5, bottom), title, Pen(QUIET, ink.SMALL_PX, ha="center", va="top", shift_px=(0, -21)))


def _draw_group(axes: Axes, group: Group, top: float) -> None:
    y = top - 0.5
    if group.heading:
        ink.write(axes, (0, y), group.heading, Pen(QUIET, ink.SMALL_PX, bold=True, frame="row", on_paper=True))
        y -= 1
    names = ink.shortened([bar.name for bar in group.bars], 0.36 * ink.figure_px(axes))
    for name, bar in zip(names, group.bars, strict=True):
        _draw_bar(axes, group, bar, y)
        ink.write(axes, (0, y), name, Pen(ha="right", frame="row", shift_px=(-8, 0)))
        y -= 1


def _draw_bar(axes: Axes, group: Group, bar: Bar, y: float) -> None:
    end = bar.median.value / group.limit_ms
    if group.is_recorded:
        sides = [y - 0.26, y - 0.26, y + 0.26, y + 0.26, y - 0.26]
        ink.line(axes, [0, end, end, 0, 0], sides, SERIES[0], width_px=1.3, style=_DASHES, over=3)
    else:
        ink.bar(axes, (0, end), y, 0.55, SERIES[0])
        ink.whisker(axes, bar.median.low / group.limit_ms, bar.median.high / group.limit_ms, y)
    ink.write(axes, (1, y), f"{number(bar.median.value)} ms", Pen(frame="row", shift_px=(10, 0)))
    shift = 16 + ink.text_px("0000.0 ms")
    ink.write(axes, (1, y), bar.rank, Pen(QUIET, ink.SMALL_PX, frame="row", shift_px=(shift, 0)))


# ---- throughput


def throughput_beside(
    points: Mapping[str, Sequence[Throughput]], recorded: Mapping[str, Sequence[RecordedRow]], label: str
) -> tuple[Plot, ...]:
    """What was measured here, and as a plot of its own what was recorded; each where there is something."""
    plots = [throughput(points)] if any(points.values()) else []
    if recorded:
        rates = {name: [_rate(row) for row in rows] for name, rows in recorded.items()}
        found = throughput(rates, f"{label[:1].upper()}{label[1:]}")
        dashed = tuple(line._replace(style=1) for line in found.facts.lines)
        note = "Dashed: recorded, one run after the other, from the mean time, without intervals; an axis of its own."
        plots.append(replace(found, facts=found.facts._replace(lines=dashed), notes=(note,)))
    return tuple(plots)


def _rate(row: RecordedRow) -> Throughput:
    """As many runs as were timed, in the time that they took."""
    run = row.run
    return Throughput(run.batch, 1, ((run.iterations, run.iterations * run.mean_ms / 1000),), run.median_ms, run.clock)
