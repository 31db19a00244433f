"""A work on samples that all workers of a Dask client do together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from workbench.calibration.ahead import ahead
from workbench.calibration.samples import Skipped
from workbench.machine import usable_cores
from workbench.sharding.attempts import PATIENCE_S, Nonsense, Spread, Work
from workbench.sharding.parcels import Parcel
from workbench.sharding.shards import Arithmetic, Shard, arithmetic, in_order, size_of_shards
from workbench.sharding.shipment import Shipment
from workbench.types import Listener, LogLine, Progress

if TYPE_CHECKING:
    from distributed import Client

Result = TypeVar("Result")


@dataclass(frozen=True)
class Sharding:
    """How work is spread. shards: None for two to a thread of the workers. threads: for each run of a model; None for
    as many as it would have here. shared: whether workers may look for files under their path here. patience_s: after
    which a worker without an answer counts as hung."""

    shards: int | None = None
    threads: int | None = None
    shared: bool = True
    patience_s: float = PATIENCE_S


USUAL = Sharding()


@dataclass(frozen=True, eq=False)
class Job:
    """A work on all workers. phase: of its Progress. chosen: samples it starts with."""

    client: Client
    sharding: Sharding
    parcels: Sequence[Parcel]
    phase: str
    listener: Listener
    cancel: threading.Event
    chosen: int
    skipped: list[Skipped]

    @property
    def threads(self) -> int:
        return self.sharding.threads or usable_cores()

    @property
    def size_of_shards(self) -> int:
        return size_of_shards(self.chosen, self.sharding.shards, sum(self.client.nthreads().values()))

    def run(
        self, work: Work, settings: Any, check: Callable[[Shard, Any], Result], shards: Iterator[Shard]
    ) -> Generator[Result, None, None]:
        """The shards' results in their order. Closed before its end, it takes their work from the workers."""
        shipment = Shipment(self.client, self.parcels, shared=self.sharding.shared)
        spread = Spread(
            client=self.client,
            shipment=shipment,
            work=work,
            settings=settings,
            check=self._unpacking(check),
            patience_s=self.sharding.patience_s,
            listener=self.listener,
            cancel=self.cancel,
        )
        with ahead(shards) as ready:
            yield from in_order(self._told(spread.results(ready)))

    def _unpacking(self, check: Callable[[Shard, Any], Result]) -> Callable[[Shard, Any], Result]:
        """The check of an answer, with which comes what it was computed with; it is told where that is another here."""
        here = arithmetic(self.threads)
        known = {here}

        def unpack_and_check(shard: Shard, answer: Any) -> Result:
            if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], Arithmetic):
                raise Nonsense(f"a {type(answer).__name__}")
            result = check(shard, answer[0])
            if answer[1] not in known:
                known.add(answer[1])
                self.listener(LogLine("warning", _apart(answer[1], here)))
            return result

        return unpack_and_check

    def _told(self, results: Iterator[tuple[Shard, Result]]) -> Iterator[tuple[Shard, Result]]:
        done = 0
        for shard, result in results:
            done += shard.count
            self.listener(Progress(self.phase, done, max(done, self.chosen - len(self.skipped))))
            yield shard, result


def _apart(there: Arithmetic, here: Arithmetic) -> str:
    what = f"{there}, where this machine has {here}" if str(there) != str(here) else "another processor"
    return f"{there.host} computes with {what}: sums may be rounded in another way, in the last bit"
