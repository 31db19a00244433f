"""A tensor's histogram with every algorithm's threshold -> SVG: pure functions, as in `render`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from workbench.calibration.histograms import Histogram
from workbench.widgets.tensor_ranges import Threshold
from workbench.widgets.tensor_table import share

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _ROW, _FOOT = 720, 150, 44, 8, 15, 36
_BARS = 128


@dataclass(frozen=True)
class Bars:
    """edges: float[n + 1], magnitudes; counts: int64[n]."""

    edges: np.ndarray
    counts: np.ndarray


def bars_of(histogram: Histogram, *, log_values: bool = False) -> Bars:
    """Magnitudes in at most 128 bars: equal widths from 0 on, or equal ratios without the first bin, most of it 0."""
    counts, width = histogram.magnitudes, histogram.width
    used = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 1
    if not log_values or used < 2:
        step = -(-used // _BARS)
        places = np.arange(0, used, step)
        return Bars(np.append(places, places[-1] + step) * width, np.add.reduceat(counts[:used], places))
    places = np.unique(np.geomspace(1, used, _BARS + 1).astype(int))
    return Bars(places * width, np.add.reduceat(counts[:used], places[:-1]))


def histogram_svg(
    histogram: Histogram,
    limits: Sequence[Threshold],
    chosen: str,
    *,
    log_counts: bool = True,
    log_values: bool = False,
) -> str:
    """Bars, those beyond the chosen threshold in the colour of loss, and a labelled line for every algorithm."""
    if not histogram.elements:
        return "<div class='wb-quiet'>No finite value was seen.</div>"
    bars = bars_of(histogram, log_values=log_values)
    axis = _Axis(float(bars.edges[0]), float(bars.edges[-1]), log_values and bars.edges[0] > 0)
    top = _ROW * len(limits) + 6
    by_size = sorted(limits, key=lambda item: -item.amax)  # a line that starts lower crosses no label above it
    amax = next((item.amax for item in limits if item.algorithm == chosen and item.clipped), math.inf)
    parts = [
        *_count_lines(bars, top, log_counts),
        *_value_labels(axis, top),
        _bars(bars, axis, top, log_counts, amax),
        *(_limit(item, axis, row, top, item.algorithm == chosen) for row, item in enumerate(by_size)),
    ]
    title = "Histogram of magnitudes. " + "; ".join(f"{item.algorithm} {item.amax:.4g}" for item in limits)
    height = top + _HEIGHT + _FOOT
    return (
        f"<div class='wb-histogram' data-bars='{len(bars.counts)}'><svg viewBox='0 0 {_WIDTH} {height}' role='img' "
        f"aria-label='{escape(title, quote=True)}'>{''.join(parts)}</svg></div>"
    )


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    is_log: bool

    def x(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        if self.is_log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)

    def ticks(self) -> list[float]:
        if self.is_log:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            return [10.0**power for power in powers]
        raw = self.high / 6
        step = next(base for base in (m * 10.0 ** math.floor(math.log10(raw)) for m in (1, 2, 5, 10)) if base >= raw)
        return [step * number for number in range(int(self.high / step) + 1)]


def _height(count: float, most: float, is_log: bool) -> float:
    if not count:
        return 0.0
    return _HEIGHT * (math.log10(count) + 1) / (math.log10(most) + 1) if is_log else _HEIGHT * count / most


def _bars(bars: Bars, axis: _Axis, top: int, is_log: bool, amax: float) -> str:
    most, paths = float(bars.counts.max()), {"wb-bars": [""], "wb-beyond": [""]}
    for left, right, count in zip(bars.edges[:-1].tolist(), bars.edges[1:].tolist(), bars.counts.tolist(), strict=True):
        height = _height(count, most, is_log)
        if height:
            x, wide = axis.x(left), max(axis.x(right) - axis.x(left) - 0.6, 0.8)
            name = "wb-beyond" if (left + right) / 2 > amax else "wb-bars"
            paths[name].append(f"M{x:.1f} {top + _HEIGHT}v-{height:.1f}h{wide:.1f}v{height:.1f}z")
    return "".join(f"<path class='{name}' d='{''.join(path)}'/>" for name, path in paths.items())


def _count_lines(bars: Bars, top: int, is_log: bool) -> list[str]:
    most = int(bars.counts.max())
    if is_log:
        every = max(1, math.ceil(math.log10(most) / 4)) if most > 1 else 1
        marks = [10**power for power in range(0, int(math.log10(most)) + 1, every)]
    else:
        marks = [0, most // 2, most] if most > 1 else [0, most]
    lines = []
    for mark in marks:
        y = top + _HEIGHT - _height(mark, most, is_log)
        lines.append(
            f"<line x1='{_LEFT}' x2='{_WIDTH - _RIGHT}' y1='{y:.1f}' y2='{y:.1f}'/>"
            f"<text x='{_LEFT - 6}' y='{y + 4:.1f}' text-anchor='end'>{_short(mark)}</text>"
        )
    return lines


def _value_labels(axis: _Axis, top: int) -> list[str]:
    y = top + _HEIGHT
    marks = [
        f"<text x='{axis.x(value):.1f}' y='{y + 15}' text-anchor='middle'>{value:.4g}</text>" for value in axis.ticks()
    ]
    name = "magnitude" + (" (log scale; values next to 0 left out)" if axis.is_log else "")
    return [
        f"<line x1='{_LEFT}' x2='{_WIDTH - _RIGHT}' y1='{y}' y2='{y}'/>",
        *marks,
        f"<text x='{(_WIDTH + _LEFT) / 2}' y='{y + 31}' text-anchor='middle'>{name}</text>",
    ]


def _limit(item: Threshold, axis: _Axis, row: int, top: int, is_on: bool) -> str:
    x, y = axis.x(item.amax), _ROW * row + 12
    on_left = x > _WIDTH * 0.45
    place, anchor = (x - 5, "end") if on_left else (x + 5, "start")
    text = f"{item.algorithm} {item.amax:.4g} · clips {share(item.clipped)}"
    return (
        f"<g class='wb-limit{' wb-on' if is_on else ''}' data-algorithm='{item.algorithm}'>"
        f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{y - 9}' y2='{top + _HEIGHT}'/>"
        f"<text x='{place:.1f}' y='{y}' text-anchor='{anchor}'>{escape(text)}</text></g>"
    )


def _short(count: int) -> str:
    """1200000 -> '1.2M'"""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g}{unit}"
    return str(count)
