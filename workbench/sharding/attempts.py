"""Shards of a work handed out to workers. One that is lost with its worker is tried again on another."""

from __future__ import annotations

import threading
import time
from asyncio import CancelledError
from asyncio import TimeoutError as AsyncTimeoutError  # in Python 3.10 not the builtin one
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

from workbench.calibration.sample import Samples
from workbench.errors import BackendError, Cancelled, WorkbenchError
from workbench.sharding.freed_memory import keep_freed_memory
from workbench.sharding.packed_samples import open_packed
from workbench.sharding.parcels import Parcel, ParcelMissing, unpack_all
from workbench.sharding.shards import Shard
from workbench.sharding.shipment import Shipment
from workbench.types import Listener, LogLine, ignore

if TYPE_CHECKING:
    from distributed import Client, Future

TRIES = 3
PATIENCE_S = 1800.0
_POLL_S = 0.2
_FETCH_S = 5.0
_SLOWER = 10
"""A worker that takes so many times as long as the slowest so far has hung."""
_LEAST_PATIENCE_S = 60.0
ALONE_S = 30.0
Result = TypeVar("Result")
Work = Callable[[dict[str, Path], Samples, Any, threading.Event], Any]
"""What a worker does with a shard: places of the files by key, the samples, the settings, and what is set once nobody
wants the answer any more."""


class Nonsense(Exception):
    """What is wrong with a worker's answer."""


@dataclass(frozen=True, eq=False)
class _Try:
    shard: Shard
    worker: str
    since: float
    sent: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Spread(Generic[Result]):
    """How shards are worked on.

    settings: what `work` gets beside the samples. check: makes a result of a worker's answer; raises Nonsense, or what
    reading it raises. patience_s: for the first shards; the others may take as long as _SLOWER of the slowest.
    alone_s: so long is waited while there is no worker; those that died may be started again.
    """

    client: Client
    shipment: Shipment
    work: Work
    settings: Any
    check: Callable[[Shard, Any], Result]
    patience_s: float = PATIENCE_S
    alone_s: float = ALONE_S
    listener: Listener = ignore
    cancel: threading.Event = field(default_factory=threading.Event)

    def results(self, shards: Iterator[Shard]) -> Iterator[tuple[Shard, Result]]:
        """As they come, in any order. Every worker has as many at a time as it has threads.

        Raises Cancelled; a shard's own WorkbenchError where all its tries end in the same one; BackendError where they
        end otherwise, or no worker is left.
        """
        hands = _Hands(self)
        try:
            while hands.hand_out(shards):
                if self.cancel.is_set():
                    raise Cancelled("stopped; nothing was left behind.")
                yield from hands.finished()
        finally:
            hands.drop_all()


class _Hands(Generic[Result]):
    """Who works on what, and what went wrong."""

    def __init__(self, spread: Spread[Result]) -> None:
        self._spread, self._client = spread, spread.client
        self._threads: dict[str, int] = {}
        self._seen = time.monotonic()
        self._running: dict[Future, _Try] = {}
        self._again: list[Shard] = []
        self._lost: dict[int, list[tuple[str, BaseException | str]]] = {}
        self._failures: Counter[str] = Counter()
        self._slowest_s: float | None = None
        self._at_end = False

    def hand_out(self, shards: Iterator[Shard]) -> bool:
        """Give every free thread a shard; False once there is nothing left to do or to wait for."""
        self._look_at_workers()
        for worker in self._free():
            shard = self._next(worker, shards)
            if shard is not None:
                self._submit(shard, worker)
        return bool(self._running or self._again or not self._at_end)

    def finished(self) -> Iterator[tuple[Shard, Result]]:
        """Wait a moment; what has come meanwhile. Takes shards from workers that are gone or hang."""
        self._wait()
        for future, item in list(self._running.items()):
            if future.status != "pending":
                yield from self._take(future, item)
            elif item.worker not in self._threads:
                self._lose(future, item, "died or left")
            elif (waited_s := time.monotonic() - item.since) > self._patience_s:
                self._failures[item.worker] += TRIES  # it has no others either
                self._lose(future, item, f"gave no answer for {waited_s:.0f} s")

    def drop_all(self) -> None:
        """Nobody wants these any more."""
        self._drop(list(self._running))
        self._running.clear()

    # ---- workers

    def _look_at_workers(self) -> None:
        try:
            self._threads = dict(self._client.nthreads())
        except Exception as error:  # Dask raises what its connections raise
            raise BackendError(f"the scheduler does not answer any more ({error}); start it again.") from error
        if self._threads:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > self._spread.alone_s:
            address = getattr(self._client.scheduler, "address", "")
            raise BackendError(f"there is no worker at {address}; start some with `dask worker {address}`.")

    def _free(self) -> list[str]:
        """A worker for each of its free threads, those that lost nothing first."""
        busy = Counter(item.worker for item in self._running.values())
        free = [name for name in self._usable for _ in range(self._threads[name] - busy[name])]
        return sorted(free, key=lambda name: self._failures[name])

    @property
    def _usable(self) -> set[str]:
        """Without those that lost too much, as long as there are others."""
        return {name for name in self._threads if self._failures[name] < TRIES} or set(self._threads)

    def _next(self, worker: str, shards: Iterator[Shard]) -> Shard | None:
        for shard in self._again:
            failed = {name for name, _ in self._lost[shard.number]}
            if worker not in failed or not self._usable - failed:
                self._again.remove(shard)
                return shard
        found = None if self._at_end else next(shards, None)
        self._at_end = found is None
        return found

    # ---- tries

    def _submit(self, shard: Shard, worker: str, lacking: Sequence[str] = ()) -> None:
        import dask

        spread, shipment = self._spread, self._spread.shipment
        args = (spread.work, shipment.parcels, shipment.data(lacking, worker), shard.content, spread.settings)
        key = f"shard-{shard.number}-{uuid4().hex}"
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GB"}):
            future = self._client.submit(on_worker, *args, key=key, workers=[worker], pure=False)
        self._running[future] = _Try(shard, worker, time.monotonic(), tuple(lacking))

    def _wait(self) -> None:
        from distributed import wait

        if not self._running:
            self._spread.cancel.wait(_POLL_S)
            return
        try:
            wait(list(self._running), timeout=_POLL_S, return_when="FIRST_COMPLETED")
        except (TimeoutError, AsyncTimeoutError):
            pass
        except Exception:  # of a task, or of one that was cancelled: its future tells
            self._spread.cancel.wait(_POLL_S)

    def _take(self, future: Future, item: _Try) -> Iterator[tuple[Shard, Result]]:
        try:
            answer = future.result(timeout=_FETCH_S)
        except (TimeoutError, AsyncTimeoutError):
            return  # it lies with a worker that died, or is on its way
        except (Exception, CancelledError) as error:
            answer = error
        if isinstance(answer, ParcelMissing) and not item.sent:
            self._send_along(future, item, answer.keys)
        elif isinstance(answer, BaseException):
            self._lose(future, item, answer)
        else:
            yield from self._checked(future, item, answer)

    def _send_along(self, future: Future, item: _Try, keys: Sequence[str]) -> None:
        try:
            self._submit(item.shard, item.worker, keys)
        except BackendError as error:
            return self._lose(future, item, error)
        self._running.pop(future)

    def _checked(self, future: Future, item: _Try, answer: Any) -> Iterator[tuple[Shard, Result]]:
        try:
            result = self._spread.check(item.shard, answer)
        except (Nonsense, WorkbenchError) as error:
            return self._lose(future, item, f"returned nonsense: {error}")
        self._running.pop(future)
        self._slowest_s = max(self._slowest_s or 0.0, time.monotonic() - item.since)
        yield item.shard, result

    def _lose(self, future: Future, item: _Try, reason: BaseException | str) -> None:
        """Try it again, or give up."""
        self._drop([future])
        self._running.pop(future)
        self._failures[item.worker] += 1
        lost = self._lost.setdefault(item.shard.number, [])
        lost.append((item.worker, reason))
        if len(lost) >= TRIES:
            raise _given_up(item.shard, lost)
        self._again.append(item.shard)
        self._spread.listener(LogLine("warning", f"{item.worker} {_words(reason)}; {item.shard} is tried elsewhere"))

    def _drop(self, futures: list[Future]) -> None:
        try:
            self._client.cancel(futures, force=True)
        except Exception as error:  # the scheduler is gone, and its tasks with it
            self._spread.listener(LogLine("warning", f"tasks could not be cancelled ({error})"))

    @property
    def _patience_s(self) -> float:
        if self._slowest_s is None:
            return self._spread.patience_s
        return min(self._spread.patience_s, max(_LEAST_PATIENCE_S, _SLOWER * self._slowest_s))


def _words(reason: BaseException | str) -> str:
    if isinstance(reason, str):
        return reason
    return f"failed ({reason})" if isinstance(reason, WorkbenchError) else f"failed ({type(reason).__name__}: {reason})"


def _given_up(shard: Shard, lost: Sequence[tuple[str, BaseException | str]]) -> WorkbenchError:
    """The error itself, where it is the same on every worker."""
    reasons = [reason for _, reason in lost]
    first = reasons[0]
    if isinstance(first, WorkbenchError) and len({(type(reason), str(reason)) for reason in reasons}) == 1:
        return first
    told = "; ".join(f"{worker} {_words(reason).rstrip('.')}" for worker, reason in lost)
    return BackendError(f"{shard} was given up after {len(lost)} tries: {told}.")


# ---- on a worker


def on_worker(work: Work, parcels: Sequence[Parcel], data: dict[str, bytes], content: bytes, settings: Any) -> Any:
    """What `work` gives, or the error that it raised: raised here, Dask would log it as a failure of its own."""
    keep_freed_memory()
    try:
        return work(unpack_all(parcels, data), open_packed(content), settings, _unwanted())
    except Exception as error:
        return error


def _unwanted() -> threading.Event:
    """Set once this task's future is cancelled: Dask itself lets the task run to its end."""
    from distributed import get_worker

    return _Unwanted(get_worker())


class _Unwanted(threading.Event):
    """An event that looks at the worker's state when it is asked."""

    def __init__(self, worker: Any) -> None:
        super().__init__()
        self._worker, self._key = worker, worker.get_current_task()

    def is_set(self) -> bool:
        task = self._worker.state.tasks.get(self._key)
        return super().is_set() or task is None or task.state in ("cancelled", "resumed")
