"""Session -> Measurement: raw times with the clock that took them and where they were taken."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from workbench.backends import Session
from workbench.errors import Cancelled
from workbench.machine import Machine, this_machine
from workbench.types import Feeds, Listener, Progress, Shape, ignore

PHASE = "Timing"


@dataclass(frozen=True)
class Measurement:
    """times_ms: one per iteration, after `warmup` runs that are not counted. shapes: of the inputs, by name."""

    times_ms: tuple[float, ...]
    warmup: int
    shapes: Mapping[str, Shape]
    clock: str
    machine: Machine

    @property
    def batch(self) -> int:
        """Pictures (or rows) per run: the first dimension of the first input that has one."""
        return next((shape[0] for shape in self.shapes.values() if shape), 1)

    @property
    def inputs(self) -> str:
        """What went in: 'image 1x3x224x224'."""
        return ", ".join(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in self.shapes.items())

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
    limit_s: float | None = None,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Measurement:
    """Run `warmup` times (at least once), then time `iterations` runs on the same feeds.

    limit_s: about how long it may take; a slow model gets fewer runs, but five at least, and fewer warm-ups.
    listener: gets Progress, not from within a timed run. cancel: set it from another thread to stop after the run
    under way; raises Cancelled.
    """
    start = time.monotonic()
    session.run(feeds)
    first_s = time.monotonic() - start
    if limit_s is not None:
        warmup = min(warmup, int(limit_s / 5 / first_s))
        iterations = max(min(iterations, int(limit_s / first_s)), 5)
    warmup = max(warmup, 1)
    times: list[float] = []
    for done in range(1, warmup + iterations):
        if cancel is not None and cancel.is_set():
            raise Cancelled("cancelled; nothing was measured.")
        times += session.times_ms(1)
        listener(Progress(PHASE, done, warmup + iterations - 1))
    shapes = {name: tuple(array.shape) for name, array in feeds.items()}
    return Measurement(tuple(times[warmup - 1 :]), warmup, shapes, session.clock, this_machine())


def format_rate(per_s: float) -> str:
    """'12,345/s' or '0.21/s'."""
    return f"{per_s:,.0f}/s" if per_s >= 100 else f"{per_s:.3g}/s"
