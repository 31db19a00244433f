"""Throughput against batch: a line for every contestant and number of streams, with intervals, from zero."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from workbench.errors import ConfigError
from workbench.plots import ink
from workbench.plots.ink import Pen
from workbench.plots.labels import part
from workbench.plots.palette import series
from workbench.plots.plot import Plot, ends, number
from workbench.timing.throughput import Throughput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEADS = ("", "streams", "batch", "per second", "95 % from", "95 % to", "median ms of a run meanwhile", "clock")
_STYLES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
_LABEL_PX, _HEIGHT_PX, _NAME_SHARE = 17, 340, 0.27


class RateLine(NamedTuple):
    """points: by batch. suffix: what tells its streams in a label. look: colour and marker of its contestant. style: of
    the line, by its number of streams."""

    name: str
    suffix: str
    streams: int
    points: tuple[Throughput, ...]
    look: tuple[str, str]
    style: int


class RateFacts(NamedTuple):
    lines: tuple[RateLine, ...]
    streams: tuple[int, ...]


def throughput(points: Mapping[str, Sequence[Throughput]], title: str = "Throughput against batch") -> Plot:
    """points: of every contestant, by the name it has in tables. Raises ConfigError where there is nothing to draw."""
    facts = rate_facts(points)
    if not facts.lines:
        raise ConfigError("no throughput was measured, so there is nothing to draw; sweep some batches first.")
    rows = [
        (item.name, str(found.streams), str(found.batch),
         *map(number, (found.per_s.value, *ends(found.per_s), found.latency_ms)), found.clock)
        for item in facts.lines
        for found in item.points
    ]  # fmt: skip
    height = max(_HEIGHT_PX, _LABEL_PX * len(facts.lines) + 90)
    return Plot(title, (_HEADS, *rows), facts, draw_rates, height, tuple(_notes(facts)))


def rate_facts(points: Mapping[str, Sequence[Throughput]]) -> RateFacts:
    streams = tuple(sorted({item.streams for found in points.values() for item in found}))
    lines = [
        RateLine(
            name, f" ×{count}" if len(streams) > 1 else "", count,
            tuple(sorted((item for item in found if item.streams == count), key=lambda item: item.batch)),
            series(place), streams.index(count),
        )
        for place, (name, found) in enumerate(points.items())
        for count in sorted({item.streams for item in found})
    ]  # fmt: skip
    return RateFacts(tuple(lines), streams)


def _notes(facts: RateFacts) -> list[str]:
    notes = ["Pictures (or rows) per second of all streams together; upright lines: 95 % confidence."]
    if len(facts.streams) > 1:
        names = ("solid", "dashed", "dotted", "dash-dotted")
        told = [f"×{count} {names[place % len(names)]}" for place, count in enumerate(facts.streams)]
        notes.append(f"Streams that ran beside each other, and their lines: {', '.join(told)}.")
    return notes


def draw_rates(facts: RateFacts, axes: Axes) -> None:
    """x is log2 of the batch."""
    batches = sorted({item.batch for found in facts.lines for item in found.points})
    most = max(ends(item.per_s)[1] or item.per_s.value for found in facts.lines for item in found.points) * 1.05
    left, right = math.log2(batches[0]), math.log2(batches[-1])
    pad = 0.04 * (right - left) or 0.5
    ink.blank(axes, right + pad, 0, most, left - pad)
    ink.left_axis(axes, ink.ticks_to(most, ink.height_px(axes), apart_px=45), "per second, from zero")
    ink.bottom_axis(axes, _batch_ticks(axes, batches), "batch (each step to the right doubles it)")
    for item in facts.lines:
        _draw_line(axes, item)
    _write_labels(axes, facts, most)


def _batch_ticks(axes: Axes, batches: Sequence[int]) -> list[tuple[float, str]]:
    """Those that were measured, as far as their words have room."""
    span = (axes.get_xlim()[1] - axes.get_xlim()[0]) / ink.width_px(axes)
    ticks: list[tuple[float, str]] = []
    for batch in batches:
        place, text = math.log2(batch), f"{batch:,}"
        if not ticks or place - ticks[-1][0] > span * (ink.text_px(text) + 8):
            ticks.append((place, text))
    return ticks


def _draw_line(axes: Axes, item: RateLine) -> None:
    color, _ = item.look
    xs = [math.log2(found.batch) for found in item.points]
    style = _STYLES[item.style % len(_STYLES)]
    ink.line(axes, xs, [found.per_s.value for found in item.points], color, width_px=2, style=style, over=3)
    for x, found in zip(xs, item.points, strict=True):
        ink.whisker(axes, found.per_s.low, found.per_s.high, x, color, upright=True)
        ink.mark(axes, x, found.per_s.value, item.look)


def _write_labels(axes: Axes, facts: RateFacts, most: float) -> None:
    """The name of each line beside its last point, moved up or down where others are in the way."""
    scale = ink.height_px(axes) / most
    wanted = [scale * item.points[-1].per_s.value for item in facts.lines]
    places = part(wanted, _LABEL_PX, 0.0, ink.height_px(axes))
    cut = ink.shortened(list(dict.fromkeys(item.name for item in facts.lines)), _NAME_SHARE * ink.figure_px(axes))
    known = dict(zip(dict.fromkeys(item.name for item in facts.lines), cut, strict=True))
    names = [known[item.name] + item.suffix for item in facts.lines]
    for item, name, place in zip(facts.lines, names, places, strict=True):
        color, marker = item.look
        last, y = item.points[-1], place / scale
        right = axes.get_xlim()[1]
        ink.line(axes, [math.log2(last.batch), right], [last.per_s.value, y], color, width_px=0.7, style=(0, (1, 2)))
        at = right + (right - axes.get_xlim()[0]) * 8 / ink.width_px(axes)
        ink.mark(axes, at, y, (color, marker), 8)
        ink.write(axes, (right, y), name, Pen(shift_px=(16, 0)))
