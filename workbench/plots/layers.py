"""Where the time goes, layer by layer: fusion groups of one engine or of two side by side, the longest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from workbench.fusion.shares import UNACCOUNTED, GroupTimes, paired_times
from workbench.plots import ink
from workbench.plots.ink import Pen
from workbench.plots.palette import QUIET, SERIES
from workbench.plots.plot import Plot, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 20
"""Groups that are drawn; the table has all."""
_VALUE = Pen(QUIET, ink.SMALL_PX - 1, shift_px=(5, 0), on_paper=True)
_LINE_PX, _GAP_PX, _AXIS_PX, _LEGEND_PX = 15, 8, 44, 24


class LayerBar(NamedTuple):
    """times_ms: of each engine; None where nothing was timed. is_quiet: no layer of its own."""

    title: str
    times_ms: tuple[float | None, ...]
    is_quiet: bool = False


class LayerFacts(NamedTuple):
    engines: tuple[str, ...]
    bars: tuple[LayerBar, ...]


def layers(before: GroupTimes, after: GroupTimes | None = None, title: str = "Time by layer") -> Plot:
    """Groups of one engine, or of two side by side: the longest twenty, the others together, and what no layer accounts
    for. Raises ConfigError for engines of different models.
    """
    engines = (before,) if after is None else (before, after)
    bars = [LayerBar(item.title, (item.time_ms,)) for item in before.groups if item.time_ms]
    if after is not None:
        bars = [LayerBar(pair.title, (pair.before_ms, pair.after_ms)) for pair in paired_times(before, after)]
    rest = [LayerBar(UNACCOUNTED, tuple(item.unaccounted_ms for item in engines), True)]
    rest = [bar for bar in rest if any(time is not None for time in bar.times_ms)]
    names = tuple(item.name for item in engines)
    facts = LayerFacts(names, (*_drawn(bars), *rest))
    rows = [(bar.title, *map(number, bar.times_ms)) for bar in (*bars, *rest)]
    height = len(facts.bars) * (_LINE_PX * len(names) + _GAP_PX) + _AXIS_PX + _LEGEND_PX * (len(names) > 1)
    heads = ("fusion group and its first node", *(f"{name} ms" for name in names))
    return Plot(title, (heads, *rows), facts, draw_layers, height, tuple(map(_note, engines)))


def _drawn(bars: Sequence[LayerBar]) -> list[LayerBar]:
    """The first twenty, and the others as one."""
    if len(bars) <= MOST + 1:
        return list(bars)
    others = bars[MOST:]
    columns = zip(*(bar.times_ms for bar in others), strict=True)
    sums = tuple(sum(time or 0.0 for time in column) for column in columns)
    return [*bars[:MOST], LayerBar(f"the other {len(others)}", sums, True)]


def _note(item: GroupTimes) -> str:
    whole = "" if item.whole_ms is None else f", of {number(item.whole_ms)}\u00a0ms that the whole run takes"
    told = f"its layers take {number(item.layers_ms)}\u00a0ms together{whole}."
    return f"{item.name}: {item.note or told}"


def draw_layers(facts: LayerFacts, axes: Axes) -> None:
    """Each group takes one row of y, its engines parts of that row."""
    count = len(facts.engines)
    longest = max((time or 0.0 for bar in facts.bars for time in bar.times_ms), default=0.0) or 1.0
    row_px = _LINE_PX * count + _GAP_PX
    ink.blank(axes, longest, -len(facts.bars), 0)
    ink.bottom_axis(axes, ink.ticks_to(longest, ink.width_px(axes)), "median time in ms, from zero")
    titles = ink.shortened([bar.title for bar in facts.bars], 0.4 * ink.figure_px(axes), ink.SMALL_PX)
    for place, (title, bar) in enumerate(zip(titles, facts.bars, strict=True)):
        color = QUIET if bar.is_quiet else Pen.color
        ink.write(axes, (0, -place - 0.5), title, Pen(color, ink.SMALL_PX, ha="right", frame="row", shift_px=(-8, 0)))
        for line, time in enumerate(bar.times_ms):
            y = -place - (_GAP_PX / 2 + _LINE_PX * (line + 0.5)) / row_px
            unknown = "not known, see below" if bar.is_quiet else "none timed"
            ink.write(axes, (time or 0.0, y), unknown if time is None else f"{number(time)} ms", _VALUE)
            if time is not None:
                ink.bar(axes, (0, time), y, 0.8 * _LINE_PX / row_px, SERIES[line])
    if count > 1:
        ink.legend(axes, [(name, (SERIES[line], "s")) for line, name in enumerate(facts.engines)])
