"""What a crew does on its Dask client's own loop: look who is there, follow works, free workers. It tells by news."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future as Handle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.tuning.dask_worker import Introduction, ask_to_stop, contract, events_of, introduce, is_at, unpacked
from workbench.types import LogLine, Progress

if TYPE_CHECKING:
    from distributed import Client, Future

_LOOK_S = 0.5
_POLL_S = 0.25
_CALL_S = 5.0
_FAREWELL_S = 2.0
CLOSED = "was closed, or the connection to it"
DIED = "the worker died or left while it was at work"
_TIMEOUTS = (TimeoutError, asyncio.TimeoutError)  # two classes in Python 3.10


@dataclass(frozen=True)
class Patience:
    """Seconds. answer: for a new worker to tell what it is. alone: without any worker. connection: until a scheduler
    whose connection broke counts as gone; silence: one that is connected, but does not answer. grace: for a dropped
    work to end by itself, stop: for one that was asked to stop; restart: for a worker to come back."""

    answer_s: float = 60.0
    alone_s: float = 30.0
    connection_s: float = 4.0
    silence_s: float = 20.0
    grace_s: float = 5.0
    stop_s: float = 30.0
    restart_s: float = 60.0


# ---- news


@dataclass(frozen=True)
class Present:
    """The scheduler has answered just now."""

    workers: frozenset[str]


@dataclass(frozen=True)
class Introduced:
    """answer: why it cannot be used, where that is a string."""

    worker: str
    answer: Introduction | str


@dataclass(frozen=True)
class Told:
    ticket: str
    events: Sequence[Progress | LogLine]


@dataclass(frozen=True)
class Ended:
    """answer: as `unpacked` gives it, or what became of the work else, in words."""

    ticket: str
    answer: tuple[str, Any] | str


@dataclass(frozen=True)
class Freed:
    """A worker whose work was dropped. failure: why it cannot be used any more."""

    worker: str
    restarted: bool
    failure: str


@dataclass(frozen=True)
class Gone:
    reason: str


News = Present | Introduced | Told | Ended | Freed | Gone


class Watch:
    """Its methods return at once, and may be called from any thread but the loop's. news: what it finds out."""

    def __init__(self, client: Client, topic: str, patience: Patience) -> None:
        self._client, self._topic, self._patience = client, topic, patience
        self.news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self.address = str(getattr(client.scheduler, "address", ""))
        self._known: set[str] = set()
        self._comm: Any = None
        self._answered = self._connected = time.monotonic()
        self._handles: set[Handle[Any]] = set()
        self._start(self._watch())

    def _start(self, work: Coroutine[Any, Any, None]) -> Handle[None]:
        try:
            handle = asyncio.run_coroutine_threadsafe(work, self._client.loop.asyncio_loop)  # type: ignore[union-attr]
        except RuntimeError:  # the client was closed, and its loop with it
            work.close()
            return Handle()
        self._handles.add(handle)
        handle.add_done_callback(self._handles.discard)
        return handle

    def follow(self, ticket: str, future: Future) -> Handle[None]:
        """News once it has ended; none after the handle was cancelled."""
        return self._start(self._follow(ticket, future))

    def forget(self, worker: str) -> None:
        """It is another one now; it has to introduce itself again."""
        self._start(self._forget(worker))

    def cancel(self, future: Future) -> None:
        self._start(self._cancel(future))

    def ask_to_stop(self, worker: str, ticket: str) -> None:
        self._start(self._ask_to_stop(worker, ticket))

    def free(self, worker: str, ticket: str, future: Future) -> None:
        """Make sure that the worker is not at this work any more, if need be by starting it again."""
        self._start(self._free(worker, ticket, future))

    def close(self, works: Sequence[tuple[str, str, Future]]) -> None:
        """Leave nothing running. works: worker, ticket and future of those under way."""
        for handle in tuple(self._handles):
            handle.cancel()
        if self._client.status == "running":
            farewell = self._start(self._farewell(works))
            with contextlib.suppress(Exception):
                farewell.result(_FAREWELL_S)
        settled = self._start(asyncio.sleep(0))  # what was cancelled has ended then
        with contextlib.suppress(Exception):
            settled.result(_FAREWELL_S)

    # ---- on the loop

    async def _watch(self) -> None:
        self._answered = self._connected = time.monotonic()
        while not (reason := await self._look()):
            await asyncio.sleep(_LOOK_S)
        self.news.put(Gone(reason))

    async def _look(self) -> str:
        """Why nobody can come any more, '' else."""
        now, client, patience = time.monotonic(), self._client, self._patience
        if client.status == "running":
            self._connected = now
            try:
                self._subscribe()
                self._compare(await asyncio.wait_for(client.nthreads(), _CALL_S))
                self._answered = time.monotonic()
            except Exception:  # whatever a connection that breaks raises; the next look tells
                pass
        if client.status in ("closing", "closed"):
            return CLOSED
        if now - self._connected > patience.connection_s:
            return "is gone"
        return "does not answer" if now - self._answered > patience.silence_s else ""

    def _subscribe(self) -> None:
        """Again after the connection broke: the scheduler has forgotten then who listened."""
        if self._client.scheduler_comm is not self._comm:
            news = self.news
            self._client.subscribe_topic(self._topic, lambda event: news.put(_told(event[1])))
            self._comm = self._client.scheduler_comm

    def _compare(self, workers: Any) -> None:
        self.news.put(Present(frozenset(workers)))
        for worker in workers.keys() - self._known:
            self._start(self._introduce(worker))
        self._known = set(workers)

    async def _forget(self, worker: str) -> None:
        self._known.discard(worker)

    async def _introduce(self, worker: str) -> None:
        patience_s = self._patience.answer_s
        try:
            answer = await asyncio.wait_for(self._run(worker, introduce, contract()), patience_s)
        except _TIMEOUTS:  # in Python 3.11 a kind of OSError
            self._known.discard(worker)
            answer = f"has not told for {patience_s:.0f} s what it stands on"
        except OSError:  # it left, or cannot be reached at this moment
            self._known.discard(worker)
            return
        except Exception as error:
            answer = _refusal(error)
        self.news.put(Introduced(worker, answer))

    async def _run(self, worker: str, function: Any, *args: Any) -> Any:
        """Called on the worker's loop, beside what its threads do."""
        return (await self._client.run(function, *args, workers=[worker]))[worker]

    async def _follow(self, ticket: str, future: Future) -> None:
        try:
            answer: tuple[str, Any] | str = unpacked(await future)
        except (Exception, asyncio.CancelledError) as error:
            answer = _words(error)
        self.news.put(Ended(ticket, answer))

    async def _cancel(self, future: Future) -> None:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._client.cancel([future], force=True), _CALL_S)

    async def _ask_to_stop(self, worker: str, ticket: str) -> None:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._run(worker, ask_to_stop, ticket), _CALL_S)

    async def _free(self, worker: str, ticket: str, future: Future) -> None:
        restarted, failure = False, ""
        try:
            await self._cancel(future)
            if not await self._ends(worker, ticket):
                restarted, patience_s = True, self._patience.restart_s
                again = self._client.restart_workers([worker], timeout=patience_s, raise_for_error=False)
                await asyncio.wait_for(again, patience_s + _CALL_S)
        except ValueError:
            failure = "hangs, and has no nanny to start it again; end it, and start it anew"
        except Exception:  # it has left, or came back too late to be counted
            restarted = True
        self.news.put(Freed(worker, restarted, failure))

    async def _ends(self, worker: str, ticket: str) -> bool:
        """Whether the work ends soon, now that it is asked to."""
        end = time.monotonic() + self._patience.grace_s
        await self._ask_to_stop(worker, ticket)
        try:
            while await asyncio.wait_for(self._run(worker, is_at, ticket), _CALL_S):
                if time.monotonic() > end:
                    return False
                await asyncio.sleep(_POLL_S)
        except _TIMEOUTS:
            return False
        return True

    async def _farewell(self, works: Sequence[tuple[str, str, Future]]) -> None:
        with contextlib.suppress(Exception):
            self._client.unsubscribe_topic(self._topic)
        stops = [self._ask_to_stop(worker, ticket) for worker, ticket, _ in works]
        await asyncio.gather(*stops, *(self._cancel(future) for *_, future in works))


def _told(message: Any) -> Told:
    return Told(message["ticket"], events_of(message))


def _refusal(error: Exception) -> str:
    """Goes on after the worker's address. Dask may pass on an error's text alone."""
    told = f"{type(error).__name__}: {error}"
    if "No module named 'workbench'" in told:
        return "has no workbench: install it there, the same release as here"
    if "workbench" in told and ("ImportError" in told or "ModuleNotFoundError" in told or "AttributeError" in told):
        return f"has another workbench ({error}): install the same release there as here"
    return f"cannot tell what it stands on ({told})"


def _words(error: BaseException) -> str:
    """What Dask raises in place of an answer."""
    if type(error).__name__ == "KilledWorker":
        return DIED
    if isinstance(error, asyncio.CancelledError) or "Cancelled" in type(error).__name__:
        return "somebody cancelled it in Dask"
    return f"Dask lost it ({type(error).__name__}: {error})"
