"""What Dask workers do for a crew: introduce themselves, and carry works out."""

from __future__ import annotations

import asyncio
import hashlib
import json
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from workbench.accuracy import Interval
from workbench.errors import Cancelled, WorkbenchError
from workbench.machine import Gpu, Machine
from workbench.sharding.freed_memory import keep_freed_memory
from workbench.sharding.parcels import Parcel, ParcelMissing
from workbench.study import Study, Subject
from workbench.timing import Measurement, Timing
from workbench.tuning.candidate import Candidate
from workbench.tuning.finals import Finals
from workbench.tuning.goals import Goals, Limit, Score
from workbench.tuning.ground import Ground, this_ground
from workbench.tuning.task import Task
from workbench.tuning.trial import Trial
from workbench.tuning.trying import Job
from workbench.types import LogLine, OptimizationProfile, Progress, ShapeRange, Support

DONE, LACKING, FAILED, CANCELLED, REPLACED = "done", "lacking", "failed", "cancelled", "replaced"
EVERY_S = 0.3
"""So often a work tells how it goes, at most."""
_MOST_LINES = 200
_TRAVELLING = (
    *(Candidate, Finals, Goals, Gpu, Ground, Interval, Job, Limit, LogLine, Machine, Measurement, OptimizationProfile),
    *(Parcel, Progress, Score, ShapeRange, Study, Subject, Support, Task, Timing, Trial),
)
_cancels: dict[str, threading.Event] = {}
_running: set[str] = set()
"""Tickets of the works of this process. They are unique, also where several workers share a process."""
_ended: deque[str] = deque(maxlen=1000)
"""The last of those that are over."""
_ending = threading.Lock()


# ---- who a worker is


@dataclass(frozen=True)
class Introduction:
    """instance: another one once the worker was started again, even under the same address."""

    instance: str
    ground: Ground


def release() -> str:
    try:
        return version("tensorrt-workbench")
    except PackageNotFoundError:  # run from its sources
        return "not installed"


def contract() -> str:
    """Equal where all that travels between a crew and its workers has the same fields."""
    told = {kind.__qualname__: [(item.name, str(item.type)) for item in fields(kind)] for kind in _TRAVELLING}
    return hashlib.sha256(json.dumps([release(), told]).encode()).hexdigest()[:12]


async def introduce(wanted: str, dask_worker: Any) -> Introduction | str:
    """Or why this worker cannot be used, in words that go on after its address. wanted: the crew's `contract`.

    In a thread: libraries are asked, which takes a second, and the worker has to answer others meanwhile."""
    if contract() != wanted:
        return f"has another workbench ({release()}): install the same release there"
    return Introduction(str(dask_worker.id), await asyncio.to_thread(this_ground))


# ---- what it does


@dataclass(frozen=True)
class Order:
    """A work for one worker. function: called as crew.perform is. topic: of Dask's events, to which progress goes."""

    ticket: str
    topic: str
    instance: str
    function: Callable[..., Any]
    work: Any
    ground: Ground


def label_of(work: Any) -> str:
    """What Dask's dashboard calls it; it cuts names at hyphens."""
    name = f"try {work.candidate}" if isinstance(work, Job) else f"measure {type(work).__name__.lower()}"
    return name.replace("-", " ")


def packed(order: Order) -> tuple[Callable[[bytes, Any], Any], bytes]:
    """What Dask is given: a function that travels by its code, and the order. Dask's scheduler unpacks the function
    only, so that it needs no workbench. Raises what pickle raises."""

    def call(content: bytes, data: Any) -> Any:
        import pickle

        return pickle.loads(content)(data)

    return call, pickle.dumps(partial(carry_out, order))


def carry_out(order: Order, data: Mapping[str, bytes]) -> tuple[str, Any]:
    """How it went, and: DONE, the pickled result; LACKING, keys of parcels; else why.

    Nothing is raised, as Dask would log it as a failure of its own. The result is pickled here, so that one that cannot
    be sent is told as well. There is no heartbeat: who hears nothing shall notice that a work hangs."""
    from distributed import get_worker

    worker = get_worker()
    if str(worker.id) != order.instance:  # Dask gives it out again when a worker comes back under its address
        return REPLACED, ""
    cancel = _cancels.setdefault(order.ticket, threading.Event())
    keep_freed_memory()
    teller = _Teller(worker, order)
    _running.add(order.ticket)
    try:
        result = order.function(
            order.work, order.ground, data=data, worker=worker.address, listener=teller, cancel=cancel
        )
        return DONE, pickle.dumps(result)
    except ParcelMissing as error:
        return LACKING, error.keys
    except Cancelled as error:
        return CANCELLED, str(error)
    except WorkbenchError as error:
        return FAILED, str(error)
    except Exception as error:
        return FAILED, f"{type(error).__name__}: {error}"
    finally:
        teller.flush()
        with _ending:
            _running.discard(order.ticket)
            _cancels.pop(order.ticket, None)
            _ended.append(order.ticket)


def unpacked(answer: tuple[str, Any]) -> tuple[str, Any]:
    """What `carry_out` said, with the result itself."""
    kind, content = answer
    if kind != DONE:
        return kind, content
    try:
        return DONE, pickle.loads(content)
    except Exception as error:  # whatever reading nonsense raises
        return FAILED, f"its answer cannot be read ({type(error).__name__}: {error})"


class _Teller:
    """A listener that sends what it hears in small batches, the first at once; any thread may call it."""

    def __init__(self, worker: Any, order: Order) -> None:
        self._worker, self._order = worker, order
        self._lock = threading.Lock()
        self._events: list[Progress | LogLine] = []
        self._is_due, self._last = False, -EVERY_S

    def __call__(self, event: Progress | LogLine) -> None:
        with self._lock:
            self._add(event)
            if self._is_due:
                return
            self._is_due = True
        self._worker.loop.add_callback(self._wait)

    def _add(self, event: Progress | LogLine) -> None:
        if self._events and _step(event) == _step(self._events[-1]) is not None:
            self._events.pop()
        self._events.append(event)
        del self._events[:-_MOST_LINES]

    def _wait(self) -> None:
        """On the worker's loop."""
        self._worker.loop.call_later(max(0.0, self._last + EVERY_S - time.monotonic()), self.flush)

    def flush(self) -> None:
        with self._lock:
            events, self._events = self._events, []
            self._is_due, self._last = False, time.monotonic()
        if events:
            message = {"ticket": self._order.ticket, "events": [asdict(event) for event in events]}
            self._worker.log_event(self._order.topic, message)


def _step(event: Progress | LogLine) -> tuple[str, str | None] | None:
    return (event.phase, event.parent) if isinstance(event, Progress) else None


def events_of(message: Mapping[str, Any]) -> list[Progress | LogLine]:
    """What a teller has sent."""
    return [LogLine(**item) if "severity" in item else Progress(**item) for item in message["events"]]


def ask_to_stop(ticket: str) -> None:
    """Also a work that has not begun; of one that is over nothing is kept."""
    with _ending:
        if ticket not in _ended:
            _cancels.setdefault(ticket, threading.Event()).set()


def is_at(ticket: str) -> bool:
    return ticket in _running
