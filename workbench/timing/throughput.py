"""Throughput: how much gets done when batches grow, and when several streams run beside each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from workbench.accuracy import Interval
from workbench.backends import Session
from workbench.errors import Cancelled, ConfigError
from workbench.timing.statistics import mean_interval
from workbench.types import Feeds, Listener, Progress, ignore

PHASE = "Throughput"
_WINDOWS = 8
_CHUNK_S = 0.02


@dataclass(frozen=True)
class Throughput:
    """streams: sessions that ran beside each other, each in a thread of its own. windows: (runs, seconds) one after the
    other. latency_ms: median time of a run meanwhile, by the session's clock."""

    batch: int
    streams: int
    windows: tuple[tuple[int, float], ...]
    latency_ms: float
    clock: str

    @property
    def per_s(self) -> Interval:
        """Pictures (or rows) per second of all streams, with 95 % confidence; it reaches as far as the rate as a whole,
        which may lie outside where the machine held one window up."""
        found = mean_interval([self.batch * runs / seconds for runs, seconds in self.windows])
        runs, seconds = map(sum, zip(*self.windows, strict=True))
        rate = self.batch * runs / seconds
        return Interval(rate, min(max(found.low, 0.0), rate), max(found.high, rate))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def throughput_from_json(data: Mapping[str, Any]) -> Throughput:
    """The inverse of Throughput.to_json."""
    return Throughput(**{**data, "windows": tuple((int(runs), float(seconds)) for runs, seconds in data["windows"])})


def measure_throughput(
    open_session: Callable[[], Session],
    feeds: Feeds,
    *,
    streams: int = 1,
    seconds: float = 1.0,
    cancel: threading.Event | None = None,
) -> Throughput:
    """Open `streams` sessions and let them run beside each other on the same feeds, after one warm-up of each.

    On a GPU every session has a stream and buffers of its own, and what is counted are replays without copies;
    elsewhere whole runs. Raises ConfigError, Cancelled, and what the sessions raise.
    """
    if streams < 1 or seconds <= 0:
        raise ConfigError(f"{streams} streams for {seconds:g} s measure nothing; take one stream and 0.1 s at least.")
    with ExitStack() as stack:
        sessions = [stack.enter_context(open_session()) for _ in range(streams)]
        for session in sessions:
            session.run(feeds)
            session.times_ms(2)
        windows, times = _run(sessions, seconds / _WINDOWS, cancel or threading.Event())
        batch = next((array.shape[0] for array in feeds.values() if array.ndim), 1)
        return Throughput(int(batch), streams, windows, float(np.median(times)), sessions[0].clock)


def throughput_sweep(
    open_session: Callable[[], Session],
    feeds_of: Callable[[int], Feeds],
    batches: Sequence[int],
    streams: Sequence[int] = (1,),
    *,
    seconds: float = 1.0,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> tuple[Throughput, ...]:
    """Every batch with every number of streams. feeds_of: arrays of that batch."""
    cells = [(batch, count) for batch in batches for count in streams]
    found = []
    for done, (batch, count) in enumerate(cells):
        listener(Progress(PHASE, done, len(cells)))
        found.append(measure_throughput(open_session, feeds_of(batch), streams=count, seconds=seconds, cancel=cancel))
    listener(Progress(PHASE, len(cells), len(cells)))
    return tuple(found)


def _run(
    sessions: Sequence[Session], window_s: float, cancel: threading.Event
) -> tuple[tuple[tuple[int, float], ...], list[float]]:
    windows: list[tuple[int, float]] = []
    times: list[float] = []
    with ThreadPoolExecutor(len(sessions)) as pool:
        for _ in range(_WINDOWS):
            if cancel.is_set():
                raise Cancelled("cancelled; nothing was measured.")
            start = time.perf_counter()
            taken = list(pool.map(_until, sessions, [start + window_s] * len(sessions)))
            windows.append((sum(map(len, taken)), time.perf_counter() - start))
            times += [item for part in taken for item in part]
    return tuple(windows), times


def _until(session: Session, end: float) -> list[float]:
    """Runs in chunks of 20 ms, so that a GPU's queue stays full."""
    times: list[float] = []
    chunk = 1
    while True:
        start = time.perf_counter()
        times += session.times_ms(chunk)
        now = time.perf_counter()
        if now >= end:
            return times
        chunk = max(1, min(int(chunk * _CHUNK_S / max(now - start, 1e-6)), 1000))
