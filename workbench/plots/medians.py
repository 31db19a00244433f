"""Median latencies as bars from zero, with their 95 % intervals; results that cannot be told apart are not ranked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from workbench.accuracy import Interval
from workbench.errors import ConfigError
from workbench.plots import ink
from workbench.plots.ink import Pen
from workbench.plots.palette import QUIET, SERIES
from workbench.plots.plot import Plot, ends, number
from workbench.timing import Measurement
from workbench.timing.statistics import apart, rank_text, ranks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEADS = ("", "clock", "median ms", "95 % from ms", "95 % to ms", "rank", "no measurable difference to")
_GPU, _HOST = "On the GPU, copies not counted", "From host to host, copies included"
_ROW_PX, _AXIS_PX = 28, 44


class MedianBar(NamedTuple):
    """places: the best and the worst that it can have by this clock, 1 for the fastest. alike: those that it cannot be
    told apart from."""

    name: str
    clock: str
    median: Interval
    places: tuple[int, int]
    alike: tuple[str, ...]

    @property
    def place(self) -> str:
        """'rank 2', 'rank 1 to 2'."""
        return f"rank {rank_text(self.places)}"


class MedianFacts(NamedTuple):
    """sections: a heading ('' where one clock timed all), and the bars that may be compared with each other."""

    sections: tuple[tuple[str, tuple[MedianBar, ...]], ...]


def medians(measurements: Sequence[Measurement], title: str = "Median latency") -> Plot:
    """Bars in the order of the measurements; where a GPU was measured, its own time apart from host to host.

    Raises ConfigError where there is nothing to draw.
    """
    facts = median_facts(measurements)
    bars = list(chain.from_iterable(found for _, found in facts.sections))
    rows = [
        (
            bar.name,
            bar.clock,
            *map(number, (bar.median.value, *ends(bar.median))),
            rank_text(bar.places),
            ", ".join(bar.alike),
        )
        for bar in bars
    ]
    lines = len(bars) + sum(bool(heading) for heading, _ in facts.sections)
    return Plot(title, (_HEADS, *rows), facts, draw_medians, _ROW_PX * lines + _AXIS_PX, tuple(_notes(bars)))


def median_facts(measurements: Sequence[Measurement]) -> MedianFacts:
    if not measurements:
        raise ConfigError("nothing was measured, so there is nothing to draw; measure a session first.")
    on_gpu = [item for item in measurements if item.host_median is not None]
    if not on_gpu:
        return MedianFacts((("", _bars([(_name(item), item.clock, item.median) for item in measurements])),))
    own = _bars([(_name(item), item.clock, item.median) for item in on_gpu])
    hosts = [
        (_name(item), item.host_clock, item.host_median) if item.host_median else (_name(item), item.clock, item.median)
        for item in measurements
    ]
    return MedianFacts(((_GPU, own), (_HOST, _bars(hosts))))


def _name(item: Measurement) -> str:
    return item.name or "this session"


def _bars(found: Sequence[tuple[str, str, Interval]]) -> tuple[MedianBar, ...]:
    place = ranks({str(index): median for index, (_, _, median) in enumerate(found)})
    return tuple(
        MedianBar(
            name, clock, median, place[str(index)],
            tuple(other for far, (other, _, theirs) in enumerate(found) if far != index and not apart(median, theirs)),
        )
        for index, (name, clock, median) in enumerate(found)
    )  # fmt: skip


def _notes(bars: Sequence[MedianBar]) -> list[str]:
    notes = ["Each bar ends at the median; the line across its end is where the true one lies with 95 % confidence."]
    if any(bar.alike for bar in bars):
        notes.append("Ranks such as 1 to 2: their intervals overlap, so there is no measurable difference.")
    unsure = list(dict.fromkeys(bar.name for bar in bars if ends(bar.median)[1] is None))
    if unsure:
        notes.append(f"{', '.join(unsure)}: a single run, which tells nothing of how sure it is.")
    return notes


def draw_medians(facts: MedianFacts, axes: Axes) -> None:
    bars = list(chain.from_iterable(found for _, found in facts.sections))
    lines = len(bars) + sum(bool(heading) for heading, _ in facts.sections)
    most = max(max(bar.median.value, ends(bar.median)[1] or 0.0) for bar in bars) or 1.0
    ink.blank(axes, most * 1.02, -lines, 0)
    ink.bottom_axis(axes, ink.ticks_to(most * 1.02, ink.width_px(axes)), "median latency in ms, from zero")
    beyond = 18 + max(ink.text_px(_value(bar)) for bar in bars)
    y = -0.5
    for heading, found in facts.sections:
        if heading:
            ink.write(axes, (0, y), heading, Pen(QUIET, ink.SMALL_PX, bold=True, frame="row", on_paper=True))
            y -= 1
        names = ink.shortened([bar.name for bar in found], 0.3 * ink.figure_px(axes))
        for name, bar in zip(names, found, strict=True):
            _draw_bar(axes, y, name, bar)
            if len(found) > 1:
                ink.write(axes, (1, y), bar.place, Pen(QUIET, ink.SMALL_PX, frame="row", shift_px=(beyond, 0)))
            y -= 1


def _value(bar: MedianBar) -> str:
    return f"{number(bar.median.value)} ms"


def _draw_bar(axes: Axes, y: float, name: str, bar: MedianBar) -> None:
    ink.bar(axes, (0, bar.median.value), y, 0.55, SERIES[0])
    ink.whisker(axes, bar.median.low, bar.median.high, y)
    ink.write(axes, (0, y), name, Pen(ha="right", frame="row", shift_px=(-8, 0)))
    ink.write(axes, (1, y), _value(bar), Pen(frame="row", shift_px=(10, 0)))
