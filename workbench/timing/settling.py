"""Warming up until times settle: clocks rise, caches fill, memory pools grow, each in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LIMIT_S = 3.0
_WINDOW_S = 0.05
_WINDOWS = 4
_FEWEST_RUNS = 3
_MOST_RUNS = 20_000
_TOLERANCE = 0.02
_OF_MEDIAN = 1.57  # McGill's notch: 1.57 interquartile ranges over the root of n (1978, American Statistician 32)


@dataclass(frozen=True)
class WarmUp:
    """runs: how many it took. settled: whether the times had settled, or the limit ended it."""

    runs: int
    settled: bool


def settle(times_ms: Callable[[int], Sequence[float]], *, limit_s: float = LIMIT_S) -> WarmUp:
    """Run until the medians of the last four windows agree, to 2 % or as far as noise allows; a window is 50 ms and
    three runs at least. limit_s: when to give up, by the session's own clock or the wall's."""
    medians: list[float] = []
    noises: list[float] = []
    runs, chunk, spent_s, start = 0, 1, 0.0, time.monotonic()
    window: list[float] = []
    while spent_s < limit_s and time.monotonic() - start < limit_s and runs < _MOST_RUNS:
        found = times_ms(chunk)
        window += found
        runs, spent_s = runs + len(found), spent_s + sum(found) / 1000
        if sum(window) < 1000 * _WINDOW_S or len(window) < _FEWEST_RUNS:
            chunk = min(2 * chunk, 1024)
            continue
        medians.append(float(np.median(window)))
        noises.append(_noise(window))
        chunk, window = max(1, len(window) // 4), []
        if _agree(medians[-_WINDOWS:], noises[-_WINDOWS:]):
            return WarmUp(runs, True)
    return WarmUp(runs, False)


def _agree(medians: Sequence[float], noises: Sequence[float]) -> bool:
    if len(medians) < _WINDOWS:
        return False
    return max(medians) - min(medians) <= max(_TOLERANCE * max(medians), 2 * float(np.median(noises)))


def _noise(window: Sequence[float]) -> float:
    """How far chance alone moves the window's median."""
    low, high = np.quantile(window, (0.25, 0.75))
    return float(_OF_MEDIAN * (high - low) / np.sqrt(len(window)))
