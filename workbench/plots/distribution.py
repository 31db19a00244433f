"""How all raw times of every contestant are spread, on axes from zero; what lies beyond an axis is told in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workbench.errors import ConfigError
from workbench.plots import ink
from workbench.plots.ink import Pen
from workbench.plots.palette import QUIET, SERIES, TEXT
from workbench.plots.plot import Plot, number
from workbench.timing import Measurement
from workbench.timing.statistics import quantile_ms
from workbench.types import count_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 160
"""From zero to the end of the axis, whatever the times are."""
_HEADS = ("", "clock", "runs", "p50 ms", "p90 ms", "p99 ms", "slowest ms", "axis ends at ms", "runs beyond")
_SHARES = (0.50, 0.90, 0.99)
_STYLES = ("-", (0, (4, 2)), (0, (1, 1.5)))
_ROOM, _FAR_APART = 1.15, 4.0
_ROW_PX, _TICKS_PX, _AXIS_PX, _FILL = 62, 18, 44, 0.78


class Spread(NamedTuple):
    """counts: runs in each of BINS equal bins from 0 to limit_ms. percentiles_ms: p50 (the median), p90, p99.

    on_gpu: the times are the GPU's own, without copies."""

    name: str
    clock: str
    runs: int
    limit_ms: float
    counts: tuple[int, ...]
    percentiles_ms: tuple[float, ...]
    slowest_ms: float
    on_gpu: bool

    @property
    def beyond(self) -> int:
        return self.runs - sum(self.counts)


class SpreadFacts(NamedTuple):
    """is_shared: all are on one axis; otherwise each on its own, as on one the fastest would be a line."""

    spreads: tuple[Spread, ...]
    is_shared: bool


def distribution(measurements: Sequence[Measurement], title: str = "How the latencies are spread") -> Plot:
    """A row for every measurement, with p50, p90 and p99. Each axis ends 15 % beyond the largest p99 on it.

    Raises ConfigError where there is nothing to draw.
    """
    facts = spread_facts(measurements)
    rows = [
        (item.name, item.clock, str(item.runs), *map(number, (*item.percentiles_ms, item.slowest_ms, item.limit_ms)),
         str(item.beyond))
        for item in facts.spreads
    ]  # fmt: skip
    height = _ROW_PX + (0 if facts.is_shared else _TICKS_PX)
    return Plot(title, (_HEADS, *rows), facts, draw_spreads, height * len(rows) + _AXIS_PX, tuple(_notes(facts)))


def spread_facts(measurements: Sequence[Measurement]) -> SpreadFacts:
    if not measurements:
        raise ConfigError("nothing was measured, so there is nothing to draw; measure a session first.")
    limits = [_ROOM * quantile_ms(item.times_ms, _SHARES[-1]) or 1.0 for item in measurements]
    is_shared = max(limits) <= _FAR_APART * min(limits)
    if is_shared:
        limits = [max(limits)] * len(limits)
    return SpreadFacts(tuple(map(_spread, measurements, limits)), is_shared)


def _spread(item: Measurement, limit_ms: float) -> Spread:
    counts, _ = np.histogram(item.times_ms, BINS, (0.0, limit_ms))
    percentiles = (item.median_ms, *(quantile_ms(item.times_ms, share) for share in _SHARES[1:]))
    return Spread(
        item.name or "this session", item.clock, len(item.times_ms), limit_ms, tuple(map(int, counts)), percentiles,
        max(item.times_ms), bool(item.host_times_ms),
    )  # fmt: skip


def _notes(facts: SpreadFacts) -> list[str]:
    notes = ["Heights are numbers of runs, each row to its own fullest bin. Lines: p50 solid, p90 dashed, p99 dotted."]
    if not facts.is_shared:
        notes.append("Each row has an axis of its own, from zero: on a common one the fastest would be a thin line.")
    on_gpu = [item.name for item in facts.spreads if item.on_gpu]
    if 0 < len(on_gpu) < len(facts.spreads):
        notes.append(f"Times of {', '.join(on_gpu)} are the GPU's own, without copies; the others' are not.")
    notes += [
        f"{item.name}: {count_of(item.beyond, 'run')} of {item.runs:,} took longer than the axis shows, "
        f"up to {number(item.slowest_ms)}\u00a0ms."
        for item in facts.spreads
        if item.beyond
    ]
    return notes


def draw_spreads(facts: SpreadFacts, axes: Axes) -> None:
    """Along x every row counts from 0 to 1, along y from 0 (its axis) to 1."""
    count = len(facts.spreads)
    ink.blank(axes, 1, -count, 0)
    title = "latency in ms, from zero"
    shared = [(at / facts.spreads[0].limit_ms, text) for at, text in _ticks(axes, facts.spreads[0])]
    ink.bottom_axis(axes, shared if facts.is_shared else [], title)
    room = 1.0 if facts.is_shared else (_ROW_PX / (_ROW_PX + _TICKS_PX))
    names = ink.shortened([item.name for item in facts.spreads], 0.26 * ink.figure_px(axes))
    for place, (name, item) in enumerate(zip(names, facts.spreads, strict=True)):
        color, base = SERIES[place % len(SERIES)], -place - room
        _draw_row(axes, item, (base, _FILL * room), color)
        ink.write(axes, (0, base + 0.3 * room), name, Pen(ha="right", frame="row", shift_px=(-8, 0)))
        _write_percentiles(axes, item, base, room)
        if not facts.is_shared:
            _own_axis(axes, item, base)


def _draw_row(axes: Axes, item: Spread, span: tuple[float, float], color: str) -> None:
    """span: where the row begins, and how high its fullest bin is."""
    base, height = span
    fullest = max(item.counts) or 1
    edges = np.repeat(np.linspace(0, 1, BINS + 1), 2)
    tops = np.concatenate(([0], np.repeat(np.array(item.counts) / fullest, 2), [0]))
    filled = np.flatnonzero(tops)
    if filled.size:
        part = slice(filled[0] - 1, filled[-1] + 2)
        ink.area(axes, edges[part].tolist(), (base + height * tops[part]).tolist(), color)
    ink.line(axes, [0, 1], [base, base], QUIET, width_px=0.8, over=4)
    for value, style in zip(item.percentiles_ms, _STYLES, strict=True):
        at = value / item.limit_ms
        ink.line(axes, [at, at], [base, base + height * 1.1], TEXT, width_px=1.2, style=style, over=5)


def _write_percentiles(axes: Axes, item: Spread, base: float, room: float) -> None:
    """Three lines of words right of the row."""
    for line, (share, value) in enumerate(zip(_SHARES, item.percentiles_ms, strict=True)):
        y = base + room * (0.74 - 0.27 * line)
        name = f"p{100 * share:.0f}"
        ink.write(axes, (1, y), name, Pen(QUIET, ink.SMALL_PX, frame="row", shift_px=(10, 0)))
        ink.write(axes, (1, y), f"{number(value)} ms", Pen(TEXT, ink.SMALL_PX, frame="row", shift_px=(38, 0)))


def _own_axis(axes: Axes, item: Spread, base: float) -> None:
    for at, text in _ticks(axes, item):
        place = at / item.limit_ms
        pen = Pen(QUIET, ink.SMALL_PX - 1, ha="center", va="top", shift_px=(0, -3))
        ink.line(axes, [place, place], [base, base - 0.03], QUIET, width_px=0.8)
        ink.write(axes, (place, base), text, pen)


def _ticks(axes: Axes, item: Spread) -> list[tuple[float, str]]:
    return ink.ticks_to(item.limit_ms, ink.width_px(axes)) if math.isfinite(item.limit_ms) else []
