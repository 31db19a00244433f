"""Times sessions: one, or several in turns, so that what changes on the machine meanwhile hits all of them alike."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.backends import HostClock, LayerClock, Session
from workbench.conditions import Probe, Watch
from workbench.errors import Cancelled, ConfigError
from workbench.machine import this_machine
from workbench.timing.measurement import Measurement
from workbench.timing.settling import LIMIT_S, WarmUp, settle
from workbench.types import Feeds, Listener, Progress, ignore

PHASE = "Timing"
WARMING = "Warming up"
_CHUNK_S = 0.05
_ROUNDS = 20
_FEWEST = 5
_LAYER_RUNS = 20


@dataclass(frozen=True)
class Timing:
    """How to time. iterations: runs that count, of each session. warmup: runs before, that do not; None until the times
    settle (3 s at most). limit_s: about how long each session may take; a slow one gets fewer runs, but five at least.
    layers: time every layer too, where the back end can."""

    iterations: int = 100
    warmup: int | None = None
    limit_s: float | None = None
    layers: bool = False

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ConfigError(f"{self.iterations} runs cannot be timed; take 1 or more.")


def measure(
    session: Session,
    feeds: Feeds,
    timing: Timing | None = None,
    *,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
    probe: Probe | None = None,
) -> Measurement:
    """Time one session on the same feeds; as `measure_together`."""
    (found,) = measure_together({"": session}, feeds, timing, listener=listener, cancel=cancel, probe=probe)
    return found


def measure_together(
    sessions: Mapping[str, Session],
    feeds: Feeds | Mapping[str, Feeds],
    timing: Timing | None = None,
    *,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
    probe: Probe | None = None,
) -> tuple[Measurement, ...]:
    """Time sessions in turns, twenty rounds or more, on the same feeds; on a GPU by both of its clocks.

    sessions: by the name they get. feeds: arrays by input name, or such feeds by session. In every round each session
    has its turn, another one first each time; the first run of a turn, with caches that another session left, does not
    count. listener: gets Progress, not from within timed runs. cancel: set it from another thread to stop after the
    runs under way, about 50 ms; raises Cancelled. probe: reads the machine between turns; default is this machine's.
    """
    return _Race(sessions, feeds, timing or Timing(), listener, cancel).run(probe)


@dataclass
class _Entry:
    """A session in the race. run_s: what one run takes, by both clocks. goal: runs that count."""

    name: str
    session: Session
    feeds: Feeds
    run_s: float = 0.0
    goal: int = 0
    warm: WarmUp = field(default_factory=lambda: WarmUp(0, True))
    times: list[float] = field(default_factory=list)
    host_times: list[float] = field(default_factory=list)
    layers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def host(self) -> HostClock | None:
        return self.session if isinstance(self.session, HostClock) else None


class _Race:
    def __init__(
        self,
        sessions: Mapping[str, Session],
        feeds: Feeds | Mapping[str, Feeds],
        timing: Timing,
        listener: Listener,
        cancel: threading.Event | None,
    ) -> None:
        own: Any = feeds
        by_session = feeds.keys() == sessions.keys() and all(isinstance(own[name], Mapping) for name in sessions)
        self.entries = [_Entry(name, item, own[name] if by_session else own) for name, item in sessions.items()]
        self.timing, self.listener, self.cancel = timing, listener, cancel
        self.done = 0

    def run(self, probe: Probe | None) -> tuple[Measurement, ...]:
        for entry in self.entries:
            self._prepare(entry)
        watch = Watch(probe)
        rounds = max(map(self._rounds, self.entries))
        total = sum(entry.goal * (2 if entry.host else 1) for entry in self.entries)
        for number in range(rounds):
            turn = number % len(self.entries)
            for entry in (*self.entries[turn:], *self.entries[:turn]):
                self._turn(entry, number, rounds, total)
                watch.look()
        conditions = watch.conditions()
        for entry in self.entries:
            if self.timing.layers and isinstance(entry.session, LayerClock):
                self._stop_if_cancelled()
                entry.layers = entry.session.layer_times_ms(min(_LAYER_RUNS, entry.goal))
        names = [entry.name for entry in self.entries]
        return tuple(_measurement(entry, conditions, names) for entry in self.entries)

    def _prepare(self, entry: _Entry) -> None:
        """The first runs, which tell how long one takes, and the warm-up."""
        self._stop_if_cancelled()
        self.listener(Progress(WARMING, 0, None))
        first = 2 if entry.host else 1  # a GPU's first run prepares buffers and graph; the next tells
        for _ in range(first):
            start = time.monotonic()
            entry.session.run(entry.feeds)
            entry.run_s = max(time.monotonic() - start, 1e-6)
        limit_s, wanted = self.timing.limit_s, self.timing.warmup
        if wanted is None:
            self._settle(entry, first)
        else:
            if limit_s is not None:
                wanted = min(wanted, int(limit_s / 5 / entry.run_s))
            times_ms = self._watched(entry)
            for _ in range(wanted - first):
                times_ms(1)
            entry.warm = WarmUp(max(wanted, first), True)
        entry.goal = self.timing.iterations
        if limit_s is not None:
            entry.goal = max(min(entry.goal, int(limit_s / entry.run_s / first)), _FEWEST)
        self.listener(Progress(WARMING, 1, 1))

    def _settle(self, entry: _Entry, first: int) -> None:
        limit_s = self.timing.limit_s
        warm = settle(self._watched(entry), limit_s=LIMIT_S if limit_s is None else min(LIMIT_S, limit_s / 3))
        start = time.monotonic()
        entry.session.times_ms(1)
        entry.run_s = min(entry.run_s, max(time.monotonic() - start, 1e-6))
        entry.warm = WarmUp(first + warm.runs + 1, warm.settled)

    def _watched(self, entry: _Entry) -> Any:
        def times_ms(count: int) -> Sequence[float]:
            self._stop_if_cancelled()
            return entry.session.times_ms(count)

        return times_ms

    def _rounds(self, entry: _Entry) -> int:
        """So many that a turn takes about 50 ms at most, and twenty where there are as many runs."""
        return min(entry.goal, max(_ROUNDS, math.ceil(entry.goal * entry.run_s / _CHUNK_S)))

    def _turn(self, entry: _Entry, number: int, rounds: int, total: int) -> None:
        """This round's share of the runs, by each clock."""
        share = entry.goal * (number + 1) // rounds - entry.goal * number // rounds
        if not share:
            return
        clocks = [(entry.session.times_ms, entry.times)]
        if entry.host:
            clocks.append((entry.host.host_times_ms, entry.host_times))
        for times_ms, kept in clocks:
            self._stop_if_cancelled()
            if len(self.entries) > 1:
                times_ms(1)
            found = times_ms(share)
            kept += found
            self.done += len(found)
            self.listener(Progress(PHASE, self.done, total))

    def _stop_if_cancelled(self) -> None:
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled("cancelled; nothing was measured.")


def _measurement(entry: _Entry, conditions: Any, names: Sequence[str]) -> Measurement:
    session = entry.session
    return Measurement(
        times_ms=tuple(entry.times),
        warmup=entry.warm.runs,
        shapes={name: tuple(array.shape) for name, array in entry.feeds.items()},
        clock=session.clock,
        machine=this_machine(),
        host_times_ms=tuple(entry.host_times),
        host_clock=entry.host.host_clock if entry.host else "",
        name=entry.name,
        settled=entry.warm.settled,
        copies=getattr(session, "copies", None),
        cuda_graph=getattr(session, "cuda_graph", None),
        threads=getattr(session, "threads", None),
        rivals=tuple(name for name in names if name != entry.name),
        conditions=conditions,
        releases=dict(getattr(session, "releases", {})),
        layer_times_ms=dict(entry.layers),
    )


def format_rate(per_s: float) -> str:
    """'12,345/s' or '0.21/s'."""
    return f"{per_s:,.0f}/s" if per_s >= 100 else f"{per_s:.3g}/s"
