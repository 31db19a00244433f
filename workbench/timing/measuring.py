"""Session -> Measurement: raw times with the clock that took them and where they were taken."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from workbench.backends import GpuSession, Session
from workbench.errors import Cancelled
from workbench.machine import Machine, this_machine
from workbench.types import Feeds, Listener, Progress, Shape, ignore

PHASE = "Timing"
_CHUNK_S = 0.05


@dataclass(frozen=True)
class Measurement:
    """times_ms: one per iteration, after `warmup` runs that are not counted. shapes: of the inputs, by name.

    host_times_ms: on a GPU as many runs again, from arrays on the host to arrays on the host, by `host_clock`.
    """

    times_ms: tuple[float, ...]
    warmup: int
    shapes: Mapping[str, Shape]
    clock: str
    machine: Machine
    host_times_ms: tuple[float, ...] = ()
    host_clock: str = ""

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
    def host_median_ms(self) -> float | None:
        """None where no GPU was measured."""
        return float(np.median(self.host_times_ms)) if self.host_times_ms else None

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
    """Run `warmup` times (at least once), then time `iterations` runs on the same feeds; on a GPU by both clocks.

    limit_s: about how long it may take; a slow model gets fewer runs, but five at least, and fewer warm-ups.
    listener: gets Progress, not from within timed runs. cancel: set it from another thread to stop after the runs
    under way, about 50 ms; raises Cancelled.
    """
    gpu = session if isinstance(session, GpuSession) else None
    clocks, first = (1, 1) if gpu is None else (2, 2)  # a GPU's first run prepares buffers and graph; the next tells
    for _ in range(first):
        start = time.monotonic()
        session.run(feeds)
        run_s = time.monotonic() - start
    if limit_s is not None:
        warmup = min(warmup, int(limit_s / 5 / run_s))
        iterations = max(min(iterations, int(limit_s / run_s / clocks)), 5)
    warmup = max(warmup, first)
    runs = _Runs(warmup - first + clocks * iterations, listener, cancel)
    runs.take(session.times_ms, warmup - first)
    times = runs.take(session.times_ms, iterations)
    host_times = runs.take(gpu.host_times_ms, iterations) if gpu else ()
    shapes = {name: tuple(array.shape) for name, array in feeds.items()}
    host_clock = gpu.host_clock if gpu else ""
    return Measurement(times, warmup, shapes, session.clock, this_machine(), host_times, host_clock)


class _Runs:
    """Timed runs in chunks of about 50 ms: a GPU's queue stays full, and people can watch and stop them."""

    def __init__(self, total: int, listener: Listener, cancel: threading.Event | None) -> None:
        self.total, self.listener, self.cancel = total, listener, cancel
        self.done, self.chunk = 0, 1

    def take(self, times_ms: Callable[[int], list[float]], iterations: int) -> tuple[float, ...]:
        """Raises Cancelled."""
        times: list[float] = []
        while len(times) < iterations:
            if self.cancel is not None and self.cancel.is_set():
                raise Cancelled("cancelled; nothing was measured.")
            start = time.monotonic()
            found = times_ms(min(self.chunk, iterations - len(times)))
            spent_s = max(time.monotonic() - start, 1e-6)
            self.chunk = max(1, int(_CHUNK_S * len(found) / spent_s))
            self.done += len(found)
            self.listener(Progress(PHASE, self.done, self.total))
            times += found
        return tuple(times)


def format_rate(per_s: float) -> str:
    """'12,345/s' or '0.21/s'."""
    return f"{per_s:,.0f}/s" if per_s >= 100 else f"{per_s:.3g}/s"
