"""What tasks on workers need: first it is only named; a worker that lacks it gets the content with its next try."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import BackendError
from workbench.sharding.parcels import Parcel, contents

if TYPE_CHECKING:
    from distributed import Client, Future

_TIMEOUT_S = 30


class Shipment:
    """Parcels for the workers of a client.

    A task calls `unpack` or `unpack_all` with `parcels` and `data(...)`, which says nothing at first. Where that raises
    ParcelMissing, `data(error.keys, worker)` has the content for the next try on this worker. It is brought to the
    cluster once, and workers pass it on to one another; each keeps it in its store, and needs it never again.

    shared: whether workers may look for the files under their path here. sent: (worker, key) of all that went along.
    """

    def __init__(self, client: Client, parcels: Iterable[Parcel], *, shared: bool = True) -> None:
        self._client, self._packed = client, {parcel.key: parcel for parcel in parcels}
        self.parcels = tuple(item if shared else replace(item, path=Path()) for item in self._packed.values())
        self.sent: list[tuple[str, str]] = []
        self._futures: dict[str, Future] = {}

    def data(self, keys: Iterable[str] = (), worker: str = "") -> dict[str, Future]:
        """An argument of a task, in which Dask puts bytes in the place of futures. Raises StoreError for files that
        were changed or are gone, BackendError where the worker takes nothing."""
        found = {}
        for key in keys:
            future = self._futures.get(key)
            if future is None or future.status != "finished":  # the worker that held it has died
                future = self._futures[key] = self._scattered(key, worker)
            found[key] = future
            self.sent.append((worker, key))
        return found

    def _scattered(self, key: str, worker: str) -> Future:
        content = contents(self._packed[key])
        try:
            return self._client.scatter(content, workers=[worker] if worker else None, timeout=_TIMEOUT_S)
        except Exception as error:  # Dask raises what its connections raise
            raise BackendError(f"{self._packed[key].name} cannot be sent to {worker}: {error}.") from error

    def release(self) -> None:
        """Workers may forget the content in their memory; what they stored stays."""
        self._futures.clear()
