"""Sessions and a machine whose times and states are known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType

import numpy as np

from workbench.conditions import Reading
from workbench.machine import this_machine
from workbench.timing import Measurement
from workbench.types import Feeds, TensorSpec

FEEDS = {"x": np.zeros((4, 2), np.float32)}


class FakeClock:
    """A session that takes its times from an iterator; nothing of the wall clock is in them."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    clock = "a clock that was set beforehand"

    def __init__(self, times: Iterator[float]) -> None:
        self.taken, self._times = 0, times

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        next(self._times)
        return {}

    def times_ms(self, iterations: int) -> list[float]:
        self.taken += iterations
        return [next(self._times) for _ in range(iterations)]

    def __enter__(self) -> FakeClock:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


def noisy(
    median_ms: float, *, spread: float = 0.02, alike: float = 0.0, outliers: float = 0.0, seed: int = 0
) -> Iterator[float]:
    """A first-order process around the median. alike: correlation of a time with the one before. outliers: their share;
    they take up to twenty times as long."""
    random = np.random.default_rng(seed)
    state = random.standard_normal()
    while True:
        state = alike * state + np.sqrt(1 - alike**2) * random.standard_normal()
        time = median_ms * (1 + spread * state)
        yield float(time * random.uniform(2, 20) if random.random() < outliers else time)


def drifting(start_ms: float, end_ms: float, runs: int) -> Iterator[float]:
    """From one time to another within so many runs, then steady."""
    for index in range(runs):
        yield start_ms + (end_ms - start_ms) * index / runs
    while True:
        yield end_ms


def measured(*times_ms: float, batch: int = 1, name: str = "") -> Measurement:
    return Measurement(times_ms, 0, {"x": (batch, 2)}, "clock", this_machine(), name=name)


def probe(states: Callable[[int], Reading]) -> Callable[[], Reading]:
    """A Probe that tells the n-th state each time it is asked."""
    count = iter(range(10**9))
    return lambda: states(next(count))
