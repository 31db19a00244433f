"""Orders: works as Dask gets them, each with a ticket, and with its files once its worker has said it lacks them."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from concurrent.futures import Future as Handle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.sharding.shipment import Shipment
from workbench.tuning.crew import Work
from workbench.tuning.dask_worker import Introduction, Order, label_of, packed

if TYPE_CHECKING:
    from distributed import Client, Future


@dataclass
class Placed:
    """A work under way. ticket: of its last try. handle: of who follows it. sent: keys of its parcels that went along.
    is_lost: with the connection."""

    work_id: str
    work: Work
    worker: str
    ticket: str = ""
    future: Future | None = None
    handle: Handle[None] | None = None
    sent: set[str] = field(default_factory=set)
    is_lost: bool = False
    is_stopping: bool = False


class Orders:
    """topic: of Dask's events, to which workers tell how works go. given: works under way, by ticket."""

    def __init__(self, client: Client, function: Callable[..., Any]) -> None:
        self._client, self._function = client, function
        self._token, self._numbers = secrets.token_hex(4), itertools.count(1)
        self.topic = f"workbench-crew-{self._token}"
        self.given: dict[str, Placed] = {}
        self._shipments: dict[str, Shipment] = {}

    def submit(self, item: Placed, met: Introduction) -> Future | str:
        """Or why it could not be given out. met: who its worker is."""
        item.ticket = f"{next(self._numbers)}x{self._token}"
        order = Order(item.ticket, self.topic, met.instance, self._function, item.work, met.ground)
        try:
            data = self._shipment(item.work).data(sorted(item.sent), item.worker) if item.sent else {}
            item.future = future = self._client.submit(
                *(*packed(order), data),
                key=f"{label_of(item.work)}-{item.ticket}",
                workers=[item.worker],
                allow_other_workers=False,
                pure=False,
            )
        except WorkbenchError as error:
            return str(error)
        except Exception as error:  # it cannot be pickled, or the client was closed
            return f"it could not be given out ({type(error).__name__}: {error})"
        self.given[item.ticket] = item
        return future

    def _shipment(self, work: Work) -> Shipment:
        """One for all works of a task, so that the content comes to the cluster once."""
        task = work.task
        if task.key not in self._shipments:
            self._shipments[task.key] = Shipment(self._client, task.parcels)
        return self._shipments[task.key]

    def forget(self, item: Placed) -> None:
        """What still comes of it is of no interest; Dask forgets it with its future."""
        self.given.pop(item.ticket, None)
        if item.handle is not None:
            item.handle.cancel()
        item.future = None
        if not any(other.sent for other in self.given.values()):
            for shipment in self._shipments.values():
                shipment.release()

    def close(self) -> None:
        self.given.clear()
        self._shipments.clear()
