"""Session -> Measurement: raw times with the clock that took them and where they were taken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from workbench.backends import Session
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


def measure(session: Session, feeds: Feeds, *, iterations: int = 100, warmup: int = 10) -> Measurement:
    """Run `warmup` times, then time `iterations` runs on the same feeds."""
    session.run(feeds)
    if warmup > 1:
        session.times_ms(warmup - 1)
    times = session.times_ms(iterations)
    batch = next((array.shape[0] for array in feeds.values() if array.ndim), 1)
    return Measurement(tuple(times), max(warmup, 1), batch, session.clock, this_machine())


def random_feeds(session: Session, shapes: Mapping[str, Shape], *, seed: int = 0) -> dict[str, np.ndarray]:
    """Feeds of these shapes: floats in [0, 1), integers and booleans 0 or 1. The same for the same seed."""
    generator = np.random.default_rng(seed)
    feeds = {}
    for spec in session.inputs:
        shape = shapes[spec.name]
        if spec.dtype.startswith(("float", "bfloat")):
            feeds[spec.name] = generator.random(shape, dtype=np.float32).astype(spec.dtype)
        else:
            feeds[spec.name] = generator.integers(0, 2, shape).astype(spec.dtype)
    return feeds
