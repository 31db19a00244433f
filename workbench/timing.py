"""Session -> Measurement: raw times with the clock that took them and where they were taken."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from workbench.backends import Session
from workbench.errors import Cancelled, FeedError
from workbench.machine import Machine, this_machine
from workbench.types import Feeds, Shape


@dataclass(frozen=True)
class Measurement:
    """times_ms: one per iteration, after `warmup` runs that are not counted. batch: pictures (or rows) per run."""

    times_ms: tuple[float, ...]
    warmup: int
    batch: int
    clock: str
    machine: Machine

    @property
    def median_ms(self) -> float:
        return float(np.median(self.times_ms))

    @property
    def mean_ms(self) -> float:
        return float(np.mean(self.times_ms))

    @property
    def p99_ms(self) -> float:
        """The time that 99 % of the runs do not exceed; one that was measured, never interpolated."""
        return sorted(self.times_ms)[math.ceil(len(self.times_ms) * 0.99) - 1]

    @property
    def throughput_per_s(self) -> float:
        """Pictures (or rows) per second: batch over mean time."""
        return self.batch / self.mean_ms * 1000


def measure(
    session: Session,
    feeds: Feeds,
    *,
    iterations: int = 100,
    warmup: int = 10,
    cancel: threading.Event | None = None,
) -> Measurement:
    """Run `warmup` times (at least once), then time `iterations` runs on the same feeds.

    cancel: set it from another thread to stop after the run under way; raises Cancelled.
    """
    warmup = max(warmup, 1)
    session.run(feeds)
    times: list[float] = []
    for _ in range(warmup - 1 + iterations):
        if cancel is not None and cancel.is_set():
            raise Cancelled("cancelled; nothing was measured.")
        times += session.times_ms(1)
    times = times[warmup - 1 :]
    batch = next((array.shape[0] for array in feeds.values() if array.ndim), 1)
    return Measurement(tuple(times), warmup, batch, session.clock, this_machine())


def random_feeds(session: Session, shapes: Mapping[str, Shape], *, seed: int = 0) -> dict[str, np.ndarray]:
    """Feeds of these shapes: floats in [0, 1), integers and booleans 0 or 1. The same for the same seed.

    Raises FeedError for other types, such as strings.
    """
    generator = np.random.default_rng(seed)
    feeds = {}
    for spec in session.inputs:
        shape = shapes[spec.name]
        if spec.dtype.startswith(("float", "bfloat")):
            feeds[spec.name] = generator.random(shape, dtype=np.float32).astype(spec.dtype)
        elif spec.dtype.startswith(("int", "uint", "bool")):
            feeds[spec.name] = generator.integers(0, 2, shape).astype(spec.dtype)
        else:
            raise FeedError(f"input {spec} cannot be filled with random values; give feeds of your own.")
    return feeds
