"""Calibration and accuracy on the workers of a Dask client: samples in shards, merged to what one machine would find.

Bit for bit, where all compute alike: with as many threads (ONNX Runtime's convolutions sum in another order with
more), the same release and the same processor. What differs is told.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.calibration.collect import BUDGET_BYTES, COLLECTING, collect, fills, fixed_batch, spread_over
from workbench.calibration.collection import Collection, Repeated, load_collection, merge, save_collection
from workbench.calibration.exposed import float_tensors
from workbench.calibration.samples import Batch, Samples, Skipped, batches, choose, read_samples
from workbench.comparing import PHASE
from workbench.engine import Engine
from workbench.errors import FeedError
from workbench.evaluation import Evaluation, evaluation_of
from workbench.model import Model
from workbench.sharding.attempts import Nonsense
from workbench.sharding.job import USUAL, Job, Sharding
from workbench.sharding.opening import model_of, opened, parcel_of
from workbench.sharding.parcels import pack
from workbench.sharding.shards import Arithmetic, Shard, arithmetic, as_one, as_rows, cut, until_cancelled
from workbench.tally import Tally, merge_tallies
from workbench.types import Listener, LogLine, count_of, ignore

if TYPE_CHECKING:
    from distributed import Client

# ---- calibration


def collect_on(
    client: Client,
    model: Model,
    samples: Samples,
    *,
    count: int | None = 512,
    skip: int = 0,
    budget_bytes: int = BUDGET_BYTES,
    strict: bool = False,
    sharding: Sharding = USUAL,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Collection:
    """What `collect` with until_settled=False gives for the same arguments, computed on the client's workers.

    Samples are read here, and travel; the model travels where a worker does not have it. A shard that is lost with its
    worker is tried again on others. Raises what `collect` raises, and BackendError where a shard fails three times, the
    workers are gone, or the scheduler.
    """
    cancel, skipped, digests = cancel or threading.Event(), list[Skipped](), dict[str, str]()
    chosen, size = spread_over(samples, count, skip, (1, 1)), fixed_batch(model) or 1

    def fed() -> Iterator[Batch]:
        read = read_samples(samples, chosen.values(), strict=strict, skipped=skipped)
        for batch in until_cancelled(batches(read, size), cancel):
            if fills(batch, size):
                digests.update(zip(batch.ids, batch.digests, strict=True))
                yield batch
            else:
                listener(LogLine("info", f"The last {count_of(len(batch.ids), 'sample')} fill no batch"))

    job = Job(client, sharding, [pack(model)], COLLECTING, listener, cancel, len(chosen), skipped)
    check = _CollectionCheck(model.sha256, *float_tensors(model))
    settings = _Collecting(model.sha256, budget_bytes, job.threads)
    merged: Collection | None = None
    for found in job.run(_collect_shard, settings, check, cut(fed(), as_one, samples, job.size_of_shards)):
        merged = found if merged is None else _merged(merged, found)
    if merged is None:
        raise FeedError(
            f"{model.name} takes {size} samples at once, and {count_of(len(chosen), 'sample')} fill no batch; give "
            f"{size} or more."
        )
    _warn(merged, skipped, listener)
    return replace(
        merged,
        model_name=model.name,
        data=samples.about,
        preprocessing=samples.preprocessing,
        samples={name: digests[name] for name in sorted(digests)},
        skipped=tuple(item.id for item in skipped),
    )


def _merged(first: Collection, second: Collection) -> Collection:
    releases = dict.fromkeys((*first.made_with.split(" and "), second.made_with))
    return replace(merge(first, second), made_with=" and ".join(releases))


def _warn(merged: Collection, skipped: Iterable[Skipped], listener: Listener) -> None:
    """As `collect` does."""
    for item in skipped:
        listener(LogLine("warning", f"{item.id} is left out: {item.reason}"))
    for name, histogram in merged.histograms.items():
        if histogram.not_finite:
            values = count_of(histogram.not_finite, "value")
            listener(LogLine("warning", f"{name}: {values} are NaN or infinite and left out of its range"))


@dataclass(frozen=True)
class _Collecting:
    model: str
    budget_bytes: int
    threads: int


def _collect_shard(
    paths: Mapping[str, Path], samples: Samples, settings: _Collecting, cancel: threading.Event
) -> tuple[bytes, Arithmetic]:
    """On a worker: the collection's file."""
    model = model_of(paths[settings.model], settings.model)
    found = collect(
        model,
        samples,
        count=None,
        budget_bytes=settings.budget_bytes,
        until_settled=False,
        threads=settings.threads,
        strict=True,
        cancel=cancel,
    )
    with tempfile.TemporaryDirectory() as folder:
        return save_collection(found, Path(folder) / "shard.calib").read_bytes(), arithmetic(settings.threads)


@dataclass(frozen=True)
class _CollectionCheck:
    """Reads a shard's collection. Raises Nonsense, or ConfigError for a file that is none."""

    model_sha256: str
    counted: tuple[str, ...]
    repeated: Mapping[str, Repeated]

    def __call__(self, shard: Shard, content: Any) -> Collection:
        if not isinstance(content, bytes):
            raise Nonsense(f"a {type(content).__name__} in place of a collection")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "shard.calib"
            path.write_bytes(content)
            found = load_collection(path)
        if found.model_sha256 != self.model_sha256:
            raise Nonsense("a collection of another model")
        if dict(found.samples) != dict(zip(shard.ids, shard.digests, strict=True)):
            raise Nonsense("a collection of other samples")
        if tuple(found.histograms) != self.counted or found.repeated != self.repeated:
            raise Nonsense("a collection of other tensors")
        return found


# ---- accuracy


def evaluate_on(
    client: Client,
    reference: Model | Engine,
    others: Mapping[str, Model | Engine],
    samples: Samples,
    *,
    count: int | None = None,
    skip: int = 0,
    batch: int = 1,
    strict: bool = False,
    sharding: Sharding = USUAL,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> dict[str, Evaluation]:
    """Each of the others against the reference, by name: what `evaluate` gives on these samples in batches, computed on
    the client's workers.

    A Model is run by plain ONNX Runtime (`Reference`), an engine as it was built; it travels, and has to run on every
    worker. Models of a fixed batch get it, filled up. Raises what `evaluate` and sessions raise, and BackendError as
    `collect_on` does.
    """
    cancel, skipped = cancel or threading.Event(), list[Skipped]()
    chosen = choose(len(samples), count, skip=skip)
    fed = batches(read_samples(samples, chosen, strict=strict, skipped=skipped), batch)
    first, parcels = parcel_of(reference), {name: parcel_of(item) for name, item in others.items()}
    job = Job(client, sharding, [first, *parcels.values()], PHASE, listener, cancel, len(chosen), skipped)
    keys = {name: parcel.key for name, parcel in parcels.items()}
    settings = _Evaluating(first.key, keys, batch, job.threads)
    shards = cut(until_cancelled(fed, cancel), as_rows, samples, job.size_of_shards)
    found = list(job.run(_evaluate_shard, settings, _TallyCheck(tuple(others)), shards))
    for item in skipped:
        listener(LogLine("warning", f"{item.id} is left out: {item.reason}"))
    return {name: evaluation_of(merge_tallies(tallies[name] for tallies in found)) for name in others}


@dataclass(frozen=True)
class _Evaluating:
    reference: str
    others: Mapping[str, str]
    batch: int
    threads: int


def _evaluate_shard(
    paths: Mapping[str, Path], samples: Samples, settings: _Evaluating, cancel: threading.Event
) -> tuple[dict[str, Tally], Arithmetic]:
    """On a worker."""
    tallies = {name: Tally() for name in settings.others}
    with ExitStack() as stack:
        reference = opened(paths, settings.reference, settings.threads, stack)
        others = {name: opened(paths, key, settings.threads, stack) for name, key in settings.others.items()}
        read = read_samples(samples, range(len(samples)), strict=True, skipped=[])
        for fed in until_cancelled(batches(read, settings.batch), cancel):
            expected = reference.run(fed.feeds)
            for name, runs in others.items():
                tallies[name].add(expected, runs.run(fed.feeds), fed)
    return tallies, arithmetic(settings.threads)


@dataclass(frozen=True)
class _TallyCheck:
    """Raises Nonsense for what are no tallies of a shard."""

    names: tuple[str, ...]

    def __call__(self, shard: Shard, tallies: Any) -> dict[str, Tally]:
        if not isinstance(tallies, dict) or tuple(tallies) != self.names:
            raise Nonsense(f"a {type(tallies).__name__} in place of tallies of {', '.join(self.names)}")
        for tally in tallies.values():
            if not isinstance(tally, Tally) or (tuple(tally.ids), tuple(tally.digests)) != (shard.ids, shard.digests):
                raise Nonsense("scores of other samples")
        return tallies
