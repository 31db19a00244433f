"""Histograms that widen and merge exactly: bins have a power of two for width.

A histogram depends on the values alone, neither on their order nor on how they were parted: counts of a collection
made in shards and merged are, bit for bit, those of one made at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BINS = 4096
"""On either side of 0."""
_LEAST_EXPONENT = -126
_CHUNK = 1 << 16
"""Values that are counted at a time, so that what is computed in between stays in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """counts: int64[2 * BINS]. Bin BINS + i counts the values that are i times 2**exponent after rounding towards 0;
    the exponent is the least for which all have a bin.

    minimum, maximum: of the finite values, 0 where there are none. not_finite: how many were NaN or infinite; they
    are not among the counts.
    """

    counts: np.ndarray
    exponent: int
    minimum: float
    maximum: float
    not_finite: int = 0

    @property
    def width(self) -> float:
        """Of a bin."""
        return math.ldexp(1.0, self.exponent)

    @property
    def amax(self) -> float:
        """The largest magnitude."""
        return max(abs(self.minimum), abs(self.maximum))

    @property
    def elements(self) -> int:
        """Finite values."""
        return int(self.counts.sum())

    @property
    def magnitudes(self) -> np.ndarray:
        """int64[BINS]: how many values are i to i + 1 widths away from 0."""
        above, below = _sides(self.counts)
        return above + below

    def within(self, low: float, high: float) -> Histogram:
        """The histogram of the values after all below `low` and above `high` were set to it, in the same bins: they are
        wider than need be where the limits cut much off."""
        places = np.arange(-BINS, BINS)  # the first is never used
        first, last = (_place(limit, self.width) for limit in (low, high))
        counts = np.bincount(np.clip(places, first, last) + BINS, weights=self.counts, minlength=2 * BINS)
        least, most = (min(max(end, low), high) for end in (self.minimum, self.maximum))
        return Histogram(counts.astype(np.int64), self.exponent, least, most, self.not_finite)


class Counter:
    """Counts arrays into a histogram that widens as larger values come. not_finite: as there."""

    def __init__(self, start: Histogram | None = None) -> None:
        self._counts = np.zeros(2 * BINS, np.int64) if start is None else start.counts.copy()
        self._exponent = _LEAST_EXPONENT if start is None else start.exponent
        self._minimum, self._maximum = (math.inf, -math.inf) if start is None else (start.minimum, start.maximum)
        self.not_finite = 0 if start is None else start.not_finite
        if start is not None and not start.elements:
            self._minimum, self._maximum = math.inf, -math.inf

    def add(self, array: np.ndarray) -> None:
        """array: floats of any shape and type; what float32 does not hold counts as infinite."""
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(array, np.float32).reshape(-1)
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            finite = values[np.isfinite(values)]
            self.not_finite += values.size - finite.size
            self.add(finite)
            return
        self._minimum, self._maximum = min(self._minimum, low), max(self._maximum, high)
        self._widen(_exponent_for(max(abs(low), abs(high))))
        self._count(values)

    def _count(self, values: np.ndarray) -> None:
        per_width = np.float32(math.ldexp(1.0, -self._exponent))
        scaled, bins = np.empty(_CHUNK, np.float32), np.empty(_CHUNK, np.int32)
        for start in range(0, values.size, _CHUNK):
            part = values[start : start + _CHUNK]
            size = part.size
            np.multiply(part, per_width, out=scaled[:size])
            np.copyto(bins[:size], scaled[:size], casting="unsafe")  # by way of int32 it takes half the time
            bins[:size] += BINS
            self._counts += np.bincount(bins[:size].astype(np.intp), minlength=2 * BINS)

    def _widen(self, exponent: int) -> None:
        if exponent > self._exponent:
            self._counts = _widened(self._counts, exponent - self._exponent)
            self._exponent = exponent

    def histogram(self) -> Histogram:
        """What was counted so far."""
        has_some = self._minimum <= self._maximum
        low, high = (self._minimum, self._maximum) if has_some else (0.0, 0.0)
        return Histogram(self._counts.copy(), self._exponent, low + 0.0, high + 0.0, self.not_finite)  # no -0.0


def merge_histograms(first: Histogram, second: Histogram) -> Histogram:
    """The histogram of the values of both."""
    if not first.elements or not second.elements:
        full, empty = (second, first) if not first.elements else (first, second)
        return Histogram(full.counts, full.exponent, full.minimum, full.maximum, full.not_finite + empty.not_finite)
    exponent = max(first.exponent, second.exponent)
    counts = sum(_widened(item.counts, exponent - item.exponent) for item in (first, second))
    return Histogram(
        np.asarray(counts),
        exponent,
        min(first.minimum, second.minimum),
        max(first.maximum, second.maximum),
        first.not_finite + second.not_finite,
    )


def _exponent_for(amax: float) -> int:
    """The least exponent with amax < BINS * 2**exponent, and none that float32 cannot hold."""
    return max(math.frexp(amax)[1] - (BINS.bit_length() - 1), _LEAST_EXPONENT) if amax else _LEAST_EXPONENT


def _widened(counts: np.ndarray, doublings: int) -> np.ndarray:
    """The same values in bins that are 2**doublings as wide."""
    joined = 1 << min(doublings, BINS.bit_length() - 1)
    above, below = (side.reshape(-1, joined).sum(axis=1) for side in _sides(counts))
    result = np.zeros(2 * BINS, np.int64)
    result[BINS : BINS + above.size] = above
    result[BINS : BINS - below.size : -1] += below
    return result


def _sides(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64[BINS] from 0 upwards, and from 0 downwards; the bin around 0 is the first of the former alone."""
    below = counts[BINS:0:-1].copy()
    below[0] = 0
    return counts[BINS:], below


def _place(limit: float, width: float) -> int:
    """The bin, counted from 0, that a value falls into; the outermost for what is beyond all."""
    return int(np.clip(np.trunc(limit / width), 1 - BINS, BINS - 1))
