"""Samples cut into shards, each packed for a worker, and what comes back put in order again."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from workbench.calibration.samples import Batch, Sample, Samples
from workbench.errors import Cancelled
from workbench.machine import cpu_features, this_machine
from workbench.sharding.packed_samples import write_packed
from workbench.types import count_of

SHARD_BYTES = 32 << 20
"""A shard ends here at the latest: it passes through the scheduler's memory."""
_LEAST = 4
_EACH = 2
"""Shards for every thread: what is lost with a worker is small, and nobody waits long for the last one."""
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Shard:
    """Some of the samples. number: from 1 on. content: packed. ids, digests: of what is packed. count: of samples."""

    number: int
    content: bytes = field(repr=False)
    ids: tuple[str, ...]
    digests: tuple[str, ...]
    count: int

    def __str__(self) -> str:
        return f"shard {self.number} ({self.ids[0]} to {self.ids[-1]})"


def size_of_shards(samples: int, wanted: int | None, threads: int) -> int:
    """How many samples a shard shall hold. wanted: shards; threads: of all workers, for as many as they need else."""
    shards = wanted or max(1, min(_EACH * threads, samples // _LEAST))
    return max(1, -(-samples // shards))


def cut(fed: Iterable[Batch], parts: Callable[[Batch], Sequence[Sample]], like: Samples, each: int) -> Iterator[Shard]:
    """Shards of whole batches. parts: what is packed of a batch. like: tells what the samples are. each: how many
    samples to a shard, unless they are large."""
    number, group, count, size = 0, list[Sample](), 0, 0
    for batch in fed:
        group += parts(batch)
        count += len(batch.ids)
        size += sum(array.nbytes for array in batch.feeds.values())
        if count >= each or size >= SHARD_BYTES:
            number += 1
            yield _packed(number, group, like, count)
            group, count, size = [], 0, 0
    if group:
        yield _packed(number + 1, group, like, count)


def as_one(batch: Batch) -> list[Sample]:
    """The batch as a sample, which stays together whatever becomes of the order."""
    return [Sample(batch.ids[0], batch.feeds)]


def as_rows(batch: Batch) -> list[Sample]:
    """The samples of which the batch was made."""
    if len(batch.ids) == 1:
        label = None if batch.labels is None else int(batch.labels[0])
        return [Sample(batch.ids[0], batch.feeds, label)]
    return [
        Sample(
            name,
            {key: array[row : row + 1] for key, array in batch.feeds.items()},
            None if batch.labels is None else int(batch.labels[row]),
        )
        for row, name in enumerate(batch.ids)
    ]


def _packed(number: int, group: Sequence[Sample], like: Samples, count: int) -> Shard:
    content = io.BytesIO()
    write_packed(content, group, like)
    ids, digests = tuple(sample.id for sample in group), tuple(sample.digest for sample in group)
    return Shard(number, content.getvalue(), ids, digests, count)


def until_cancelled(fed: Iterable[Batch], cancel: threading.Event) -> Iterator[Batch]:
    """The same batches. Raises Cancelled."""
    done = 0
    for batch in fed:
        if cancel.is_set():
            raise Cancelled(f"stopped after reading {count_of(done, 'sample')}.")
        yield batch
        done += len(batch.ids)


def in_order(results: Iterable[tuple[Shard, Result]]) -> Iterator[Result]:
    """The results in the order of their shards, each as soon as those before it are there."""
    early: dict[int, Result] = {}
    due = 1
    for shard, result in results:
        early[shard.number] = result
        while due in early:
            yield early.pop(due)
            due += 1


@dataclass(frozen=True)
class Arithmetic:
    """What the last bit of a sum depends on. host: whose it is, which plays no part."""

    host: str = field(compare=False)
    threads: int
    onnxruntime: str
    features: tuple[str, ...] = field(repr=False)

    def __str__(self) -> str:
        return f"{count_of(self.threads, 'thread')}, ONNX Runtime {self.onnxruntime}"


def arithmetic(threads: int) -> Arithmetic:
    """Of this machine."""
    from onnxruntime import __version__ as release

    return Arithmetic(socket.gethostname(), threads, release, (this_machine().cpu, *cpu_features()))
