"""Engines side by side on the workers of a Dask client: their outputs come back, and are compared here.

So whatever `compare` tells is told: the first sample's values, the worst sample, outputs that are left out, and on
which sample an engine failed. Where outputs are large and only scores matter, `evaluate_on` moves less.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.calibration.samples import Batch, Sample, Samples, Skipped, batches, choose, read_samples
from workbench.comparing import PHASE, compare
from workbench.comparison import Comparison
from workbench.engine import Engine
from workbench.errors import Cancelled, FeedError
from workbench.evaluation import Runs
from workbench.sharding.attempts import Nonsense
from workbench.sharding.job import USUAL, Job, Sharding
from workbench.sharding.opening import opened, parcel_of
from workbench.sharding.shards import SHARD_BYTES, Arithmetic, Shard, arithmetic, as_one, cut, until_cancelled
from workbench.types import Feeds, Listener, ignore

if TYPE_CHECKING:
    from distributed import Client

Outputs = Mapping[str, Feeds | None]
"""Of a batch, by engine; None where it could not be run."""


def compare_on(
    client: Client,
    engines: Mapping[str, Engine],
    sessions: Mapping[str, Runs],
    samples: Samples,
    *,
    count: int | None = None,
    batch: int = 1,
    strict: bool = False,
    sharding: Sharding = USUAL,
    skipped: list[Skipped] | None = None,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Comparison:
    """What `compare` gives for the sessions on these samples in batches; their engines run on the client's workers.

    sessions: the engines, by the same names and open here; what fails on a worker is run by them once more, so that a
    failure is the engine's own. skipped: gets what could not be read. An engine travels, and has to be opened on every
    worker. Raises what `compare` raises, and BackendError as `collect_on` does.
    """
    cancel, skipped = cancel or threading.Event(), [] if skipped is None else skipped
    chosen = choose(len(samples), count)
    parcels = {name: parcel_of(engine) for name, engine in engines.items()}
    job = Job(client, sharding, [*parcels.values()], PHASE, listener, cancel, len(chosen), skipped)
    first = next(read_samples(samples, chosen, strict=strict, skipped=[]))
    each = min(job.size_of_shards, _most(sessions, first))
    read = batches(read_samples(samples, chosen, strict=strict, skipped=skipped), batch)
    asked = deque[Batch]()
    shards = cut(_noted(until_cancelled(read, cancel), asked), as_one, samples, each)
    settings = _Running({name: parcel.key for name, parcel in parcels.items()}, job.threads)
    now = _Now(samples, chosen)
    contestants = {name: _Answered(name, now, session) for name, session in sessions.items()}
    with closing(job.run(_run_shard, settings, _OutputsCheck(tuple(engines)), shards)) as answers:
        return compare(contestants, now.batches(asked, chain.from_iterable(answers)), cancel=cancel)


def _most(sessions: Mapping[str, Runs], first: Sample) -> int:
    """How many samples a shard may hold, so that its outputs are no more than its feeds may be."""
    for name, array in first.feeds.items():
        if array.dtype.kind in "OSU":
            raise FeedError(f"{first.id}: input {name} is text, which does not travel; leave the scheduler out.")
    size = sum(
        np.asarray(array).nbytes for runs in sessions.values() for array in (_outputs(runs, first.feeds) or {}).values()
    )
    return max(1, SHARD_BYTES // max(1, size))


def _noted(fed: Iterable[Batch], asked: deque[Batch]) -> Iterator[Batch]:
    """The same batches; they are noted without their feeds, which may be many."""
    for batch in fed:
        asked.append(replace(batch, feeds={}))
        yield batch


class _Now:
    """The batch that is being compared. outputs: what workers answered."""

    def __init__(self, samples: Samples, chosen: Iterable[int]) -> None:
        self.outputs: Outputs = {}
        self._samples, self._chosen, self._ids = samples, chosen, tuple[str, ...]()

    def batches(self, asked: deque[Batch], answers: Iterable[Outputs]) -> Iterator[Batch]:
        for outputs in answers:
            batch = asked.popleft()
            self.outputs, self._ids = outputs, batch.ids
            yield batch

    @property
    def feeds(self) -> Feeds:
        """Read once more."""
        read = read_samples(self._samples, [self._places[name] for name in self._ids], strict=True, skipped=[])
        return next(batches(read, len(self._ids))).feeds

    @cached_property
    def _places(self) -> dict[str, int]:
        return {self._samples.id_of(index): index for index in self._chosen}


@dataclass(frozen=True, eq=False)
class _Answered:
    """One of those compared; it is fed with nothing, as its outputs are there."""

    name: str
    now: _Now
    here: Runs

    def run(self, feeds: Feeds) -> Mapping[str, Any]:
        outputs = self.now.outputs[self.name]
        return self.here.run(self.now.feeds) if outputs is None else outputs


@dataclass(frozen=True)
class _Running:
    engines: Mapping[str, str]
    threads: int


def _run_shard(
    paths: Mapping[str, Path], samples: Samples, settings: _Running, cancel: threading.Event
) -> tuple[list[tuple[str, Outputs]], Arithmetic]:
    """On a worker: of every batch, which is a sample here, its digest and the outputs."""
    answers = list[tuple[str, Outputs]]()
    with ExitStack() as stack:
        engines = {name: opened(paths, key, settings.threads, stack) for name, key in settings.engines.items()}
        for sample in read_samples(samples, range(len(samples)), strict=True, skipped=[]):
            if cancel.is_set():
                raise Cancelled("nobody waits for it any more.")
            answers.append((sample.digest, {name: _outputs(runs, sample.feeds) for name, runs in engines.items()}))
    return answers, arithmetic(settings.threads)


def _outputs(runs: Runs, feeds: Feeds) -> Feeds | None:
    """Copies, as a session may use its buffers again."""
    try:
        return {name: np.array(array) for name, array in runs.run(feeds).items()}
    except Exception:  # the run here tells whose fault it is
        return None


@dataclass(frozen=True)
class _OutputsCheck:
    """Raises Nonsense for what are no outputs of a shard."""

    names: tuple[str, ...]

    def __call__(self, shard: Shard, answers: Any) -> list[Outputs]:
        if not isinstance(answers, list) or not all(isinstance(row, tuple) and len(row) == 2 for row in answers):
            raise Nonsense(f"a {type(answers).__name__} in place of outputs of {', '.join(self.names)}")
        if tuple(digest for digest, _ in answers) != shard.digests:
            raise Nonsense("outputs for other samples")
        if any(not isinstance(row, dict) or tuple(row) != self.names for _, row in answers):
            raise Nonsense("outputs of other engines")
        return [row for _, row in answers]
