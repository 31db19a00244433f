"""The workers of a Dask client as a crew."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.calibration.collection import Collection
from workbench.calibration.sample import Samples
from workbench.errors import BackendError
from workbench.model import Model
from workbench.sharding.spreading import collect_on
from workbench.tuning.crew import Hear, Report, Work, perform
from workbench.tuning.dask_engines import bring_engine
from workbench.tuning.dask_members import Members
from workbench.tuning.dask_orders import Orders, Placed
from workbench.tuning.dask_watch import (
    CLOSED,
    DIED,
    Ended,
    Freed,
    Gone,
    Introduced,
    News,
    Patience,
    Present,
    Told,
    Watch,
)
from workbench.tuning.dask_worker import CANCELLED, DONE, LACKING, REPLACED
from workbench.tuning.ground import Ground
from workbench.types import Listener, LogLine

if TYPE_CHECKING:
    from distributed import Client

_POLL_S = 0.1
_STRAGGLERS_S, _OTHERS_S = 15.0, 5.0
"""So long is waited for those that came with the first, and for others where all are refused."""
LEFT = "the worker had left before"
STOPPED = "stopped; nothing was left behind."


class DaskCrew:
    """A Crew, for one thread. A client that was given stays open.

    function: called on workers as `perform` is. Progress comes as Dask events, and only what a work itself tells. A
    worker under a nanny whose work was dropped and does not end is started again; one without is not used any more.
    """

    def __init__(
        self, client: Client, function: Callable[..., Any] = perform, patience: Patience | None = None
    ) -> None:
        self._client, self._patience = client, patience or Patience()
        self._orders = Orders(client, function)
        self.members = Members()
        self._reports: list[Report] = []
        self._heard: list[tuple[str, Any]] = []
        self._gone, self._is_new, self._stop_at = "", True, 0.0
        self._watch = Watch(client, self._orders.topic, self._patience)

    # ---- the protocol

    def grounds(self) -> Mapping[str, Ground]:
        """Waits for a first worker, and where all have left for one to come back."""
        self._take_news(0.0)
        if self._is_new or not (self.members.grounds or self._orders.given or self._reports):
            self._await_somebody()
            self._is_new = False
        self._check()
        return self.members.grounds

    def give(self, work_id: str, work: Work, worker: str) -> None:
        self._submit(Placed(work_id, work, worker))

    def wait(self, timeout_s: float, hear: Hear) -> Sequence[Report]:
        end = time.monotonic() + timeout_s
        while True:
            self._take_news(0.0 if self._reports else max(0.0, min(_POLL_S, end - time.monotonic())))
            self._pass_on(hear)
            if self._reports:
                reports, self._reports = self._reports, []
                return reports
            self._check()
            if time.monotonic() >= end:
                return ()

    def drop(self, work_id: str) -> None:
        self._reports = [report for report in self._reports if report.work_id != work_id]
        for item in [item for item in self._orders.given.values() if item.work_id == work_id]:
            self._free(item)

    def stop(self) -> None:
        """Those that do not end soon are dropped, and reported all the same, however often this is called."""
        if not any(item.is_stopping for item in self._orders.given.values()):
            self._stop_at = time.monotonic() + self._patience.stop_s
        for item in [item for item in self._orders.given.values() if not item.is_stopping]:
            item.is_stopping = True
            self._watch.ask_to_stop(item.worker, item.ticket)

    def bring(self, key: str, worker: str) -> None:
        """From another worker, if this one has left and the other has the engine too."""
        self._take_news(0.0)
        others = [name for name in self.members.met if name != worker]
        bring_engine(self._client, key, [worker, *others] if worker in self.members.met else others)

    def gather(
        self, model: Model, samples: Samples, partial: Path, listener: Listener, cancel: threading.Event | None
    ) -> Collection:
        """Sharded over the workers; what is half done is not kept."""
        return collect_on(self._client, model, samples, count=None, listener=listener, cancel=cancel)

    def close(self) -> None:
        under_way = [(item.worker, item.ticket, item.future) for item in self._orders.given.values() if item.future]
        self._watch.close(under_way)
        self._orders.close()

    # ---- works

    def _submit(self, item: Placed) -> None:
        met = self.members.met.get(item.worker)
        future = LEFT if met is None else self._orders.submit(item, met)
        if isinstance(future, str):
            self._report(item, failure=future)
        else:
            item.handle = self._watch.follow(item.ticket, future)

    def _report(self, item: Placed, result: Any = None, failure: str = "", cancelled: bool = False) -> None:
        self._orders.forget(item)
        self._reports.append(Report(item.work_id, item.worker, result, failure, cancelled))

    def _free(self, item: Placed) -> None:
        future = item.future
        self._orders.forget(item)
        if item.worker in self.members.met and future is not None:
            self.members.hold(item.worker)
            self._watch.free(item.worker, item.ticket, future)

    # ---- news

    def _take_news(self, timeout_s: float) -> None:
        """Wait for some, then take all that is there."""
        with contextlib.suppress(queue.Empty):
            if timeout_s > 0:
                self._take(self._watch.news.get(timeout=timeout_s))
            while True:
                self._take(self._watch.news.get_nowait())
        if self._stop_at and time.monotonic() > self._stop_at:
            for item in [item for item in self._orders.given.values() if item.is_stopping]:
                self._free(item)
                self._reports.append(Report(item.work_id, item.worker, failure=STOPPED, cancelled=True))

    def _take(self, news: News) -> None:
        if isinstance(news, Told):
            item = self._orders.given.get(news.ticket)
            self._heard += [(item.work_id, event) for event in news.events] if item is not None else []
        elif isinstance(news, Ended):
            self._end(news)
        elif isinstance(news, Present):
            self._see(news.workers)
        elif isinstance(news, Introduced):
            self.members.meet(news.worker, news.answer)
        elif isinstance(news, Freed):
            self._freed(news)
        elif isinstance(news, Gone):
            self._gone = news.reason

    def _end(self, news: Ended) -> None:
        item, answer = self._orders.given.get(news.ticket), news.answer
        if item is None:
            return
        if isinstance(answer, str):
            item.is_lost = self._client.status != "running"  # told once it is clear whether the scheduler is gone
            if not item.is_lost:
                self._report(item, failure=answer)
            return
        kind, content = answer
        if kind == DONE:
            self._report(item, content)
        elif kind == LACKING and item.is_stopping:
            self._report(item, failure=STOPPED, cancelled=True)
        elif kind == LACKING and not item.sent.issuperset(content):
            self._orders.given.pop(item.ticket)
            item.sent.update(content)  # and again what went before: its worker may be another one under this address
            self._submit(item)
        elif kind == LACKING:
            self._report(item, failure="it lacks files that were sent to it")
        elif kind == REPLACED:
            self._report(item, failure=DIED)
            self._replaced(item.worker)
        else:
            self._report(item, failure=content or "it failed, and did not say why", cancelled=kind == CANCELLED)

    # ---- workers

    def _see(self, workers: frozenset[str]) -> None:
        """A work whose worker is not there any more is lost."""
        self.members.see(workers)
        given = tuple(self._orders.given.values())
        for item in [item for item in given if item.is_lost]:  # before the scheduler answered again
            self._report(item, failure="the connection to the scheduler broke")
            self._watch.ask_to_stop(item.worker, item.ticket)
        for item in [item for item in given if not item.is_lost and item.worker not in workers]:
            future = item.future
            self._report(item, failure=DIED)
            if future is not None:
                self._watch.cancel(future)  # or Dask waits for the worker to come back

    def _freed(self, news: Freed) -> None:
        self.members.let_go(news.worker)
        if news.failure:
            self.members.meet(news.worker, news.failure)
        elif news.restarted:
            self._replaced(news.worker)

    def _replaced(self, worker: str) -> None:
        self.members.forget(worker)
        self._watch.forget(worker)

    def _await_somebody(self) -> None:
        """Raises BackendError where nobody comes, or all that come are refused."""
        began = time.monotonic()
        while True:
            self._take_news(_POLL_S)
            self._check()
            waited_s = time.monotonic() - began
            if self.members.grounds and (waited_s > _STRAGGLERS_S or not self.members.are_asked):
                return
            if waited_s > _OTHERS_S and self.members.are_all_refused:
                raise BackendError(self.members.refusals)
            if waited_s > self._patience.alone_s + (self._patience.restart_s if self.members.busy else 0.0):
                address = self._watch.address
                raise BackendError(
                    f"no worker has come to the scheduler at {address} for {waited_s:.0f} s; start one with "
                    f"`dask worker {address}`, and see that it reaches the scheduler."
                )

    def _check(self) -> None:
        if not self._gone and self._client.status in ("closing", "closed"):  # its loop has ended, and tells nothing
            self._gone = CLOSED
        if self._gone:
            raise BackendError(
                f"the scheduler at {self._watch.address} {self._gone}; what was finished is kept: start the search "
                "again to go on."
            )

    def _pass_on(self, hear: Hear) -> None:
        """What works tell; and with a work under way, as whose it is shown, who was refused."""
        heard, self._heard = self._heard, []
        for work_id, event in heard:
            hear(work_id, event)
        for item in tuple(self._orders.given.values())[:1]:
            while self.members.untold:
                hear(item.work_id, LogLine("warning", self.members.untold.pop(0)))
