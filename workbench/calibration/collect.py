"""Run a model over samples and count the magnitudes of every activation, in memory that does not grow with them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from workbench.calibration.ahead import ahead
from workbench.calibration.collection import Collection, load_collection, save_collection
from workbench.calibration.exposed import ExposedModel, float_tensors
from workbench.calibration.histograms import Counter
from workbench.calibration.samples import Batch, Sample, Samples, Skipped, batches, choose, read_samples
from workbench.calibration.settling import Settling
from workbench.errors import Cancelled, ConfigError, FeedError
from workbench.model import Model
from workbench.types import Listener, LogLine, Progress, count_of, ignore

COLLECTING = "Collecting activations"
BUDGET_BYTES = 128 << 20
_KEPT = 4
_GOLDEN = (math.sqrt(5) - 1) / 2
_SAVED_EVERY_S = 20.0
Step = tuple[Mapping[str, np.ndarray], Batch | None]


def collect(
    model: Model,
    samples: Samples,
    *,
    count: int | None = 512,
    skip: int = 0,
    shard: tuple[int, int] = (1, 1),
    budget_bytes: int = BUDGET_BYTES,
    until_settled: bool = True,
    threads: int | None = None,
    strict: bool = False,
    partial: Path | None = None,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Collection:
    """The collection of `count` samples spread over all of them, None for all. skip: of those leave out the first.

    shard: (2, 4) for the second quarter of them; all four, merged, are the collection of all, which is why a shard
    never ends early. budget_bytes: what the activations of a run may take, two of which are held at once.
    until_settled: stop when no range has grown for a while. threads: processors that a run may use, None for all; with
    another number convolutions sum in another order, which shows in the last bit. strict: raise for a sample that
    cannot be read, which is left out else. partial: a file that keeps what is done when this is stopped, and is taken
    up from there; whoever has saved the collection removes it.
    Samples run one by one, unless the model has a fixed batch, so that nothing depends on their order.
    Raises FeedError where nothing can be read or fed, ShapeError and RunError where the model does not run on it, and
    Cancelled.
    """
    skipped: list[Skipped] = []
    chosen = spread_over(samples, count, skip, shard)
    begun = _taken_up(model, samples, chosen, partial, listener)
    missing = [index for name, index in chosen.items() if begun is None or name not in begun.samples]
    run = _Run(model, samples, begun, listener)
    saved = time.monotonic()
    fresh = read_samples(samples, missing, strict=strict, skipped=skipped) if missing else iter(())
    with ahead(run.steps(fresh, budget_bytes, threads)) as steps:
        for values, finished in steps:
            run.count(values)
            if finished is None:
                continue
            run.finish(finished, len(chosen) - len(skipped))
            if until_settled and shard[1] == 1 and run.has_settled():
                break
            is_stopped = cancel is not None and cancel.is_set()
            if partial is not None and (is_stopped or time.monotonic() - saved > _SAVED_EVERY_S):
                save_collection(run.collection(skipped), partial)
                saved = time.monotonic()
            if is_stopped:
                raise Cancelled(f"stopped after {count_of(run.done, 'sample')}.")
    if not run.done:
        size, given = fixed_batch(model), count_of(len(chosen), "sample")
        raise FeedError(f"{model.name} takes {size} samples at once, and {given} fill no batch; give {size} or more.")
    run.warn(skipped)
    listener(Progress(COLLECTING, run.done, run.done))
    return run.collection(skipped)


def spread_over(samples: Samples, count: int | None, skip: int, shard: tuple[int, int]) -> dict[str, int]:
    """Indices by id. In an order that has samples from everywhere early on: they may be sorted by class, and ranges
    are watched for growing no more."""
    number, shards = shard
    if not 1 <= number <= shards:
        raise ConfigError(f"there is no shard {number} of {shards}; they are counted from 1.")
    indices = choose(len(samples), count, skip=skip)
    spread = sorted(range(len(indices)), key=lambda place: place * _GOLDEN % 1.0)
    found = {samples.id_of(indices[place]): indices[place] for place in spread[number - 1 :: shards]}
    if not found:
        raise ConfigError(f"shard {number} of {shards} is empty: there are {count_of(len(indices), 'sample')}.")
    return found


def _taken_up(
    model: Model, samples: Samples, chosen: Mapping[str, int], partial: Path | None, listener: Listener
) -> Collection | None:
    """What an earlier call left there, if it was of these very samples; they are read again to know."""
    if partial is None or not partial.exists():
        return None
    try:
        begun = load_collection(partial)
    except ConfigError as error:
        listener(LogLine("warning", f"{error} It starts anew."))
        return None
    same = begun.model_sha256 == model.sha256 and begun.preprocessing == samples.preprocessing
    if not same or not all(_is_same(samples, chosen.get(name), digest) for name, digest in begun.samples.items()):
        what = "other samples" if same else "another model or preprocessing"
        listener(LogLine("warning", f"{partial} was begun with {what}; it starts anew"))
        return None
    listener(LogLine("info", f"{count_of(len(begun.samples), 'sample')} were collected before; the others follow"))
    return begun


def _is_same(samples: Samples, index: int | None, digest: str) -> bool:
    try:
        return index is not None and samples.read(index).digest == digest
    except FeedError:
        return False


class _Run:
    """A collection that grows. Between two batches it is whole."""

    def __init__(self, model: Model, samples: Samples, begun: Collection | None, listener: Listener) -> None:
        self.model, self.samples, self.listener = model, samples, listener
        self.counted, self.repeated = float_tensors(model)
        start = begun.histograms if begun else {}
        self.counters = {name: Counter(start.get(name)) for name in self.counted}
        self.digests = dict(begun.samples) if begun else {}
        self.settling, self.settled = Settling(), False

    @property
    def done(self) -> int:
        """Samples that are in it."""
        return len(self.digests)

    def steps(self, fresh: Iterable[Sample], budget_bytes: int, threads: int | None) -> Iterator[Step]:
        """The tensors of batch after batch, piece by piece; with the last of a batch comes the batch."""
        exposed: dict[tuple[object, ...], ExposedModel] = {}
        size = fixed_batch(self.model) or 1
        for batch in batches(fresh, size):
            shapes = {name: array.shape for name, array in batch.feeds.items()}
            if not fills(batch, size):
                self.listener(LogLine("info", f"The last {count_of(len(batch.ids), 'sample')} fill no batch"))
                continue
            key = tuple(shapes.items())
            if key not in exposed:
                if len(exposed) >= _KEPT:  # each holds the weights
                    exposed.clear()
                exposed[key] = ExposedModel(self.model, self.counted, shapes, budget_bytes, threads)
            for values in exposed[key].run(batch.feeds):
                yield values, None
            yield {}, batch

    def count(self, values: Mapping[str, np.ndarray]) -> None:
        for name, array in values.items():
            self.counters[name].add(array)

    def finish(self, batch: Batch, total: int) -> None:
        self.digests.update(zip(batch.ids, batch.digests, strict=True))
        self.listener(Progress(COLLECTING, self.done, max(total, self.done)))

    def has_settled(self) -> bool:
        self.settled = self.settling.look(self.done, self.counters)
        if self.settled:
            self.listener(LogLine("info", self.settling.words))
        return self.settled

    def warn(self, skipped: Iterable[Skipped]) -> None:
        """Tell what was left out."""
        for item in skipped:
            self.listener(LogLine("warning", f"{item.id} is left out: {item.reason}"))
        for name, counter in self.counters.items():
            if counter.not_finite:
                values = count_of(counter.not_finite, "value")
                self.listener(LogLine("warning", f"{name}: {values} are NaN or infinite and left out of its range"))

    def collection(self, skipped: Iterable[Skipped]) -> Collection:
        from onnxruntime import __version__ as release

        return Collection(
            model_name=self.model.name,
            model_sha256=self.model.sha256,
            histograms={name: counter.histogram() for name, counter in self.counters.items()},
            repeated=self.repeated,
            data=self.samples.about,
            preprocessing=self.samples.preprocessing,
            samples={name: self.digests[name] for name in sorted(self.digests)},
            skipped=tuple(item.id for item in skipped),
            settled=self.settled,
            made_with=f"onnxruntime {release}",
        )


def fixed_batch(model: Model) -> int | None:
    """How many samples the model takes at once, None where it takes any number; 1 where inputs have no batch axis in
    common."""
    first = {spec.shape[0] if spec.shape else 1 for spec in model.inputs}
    sizes = {size if isinstance(size, int) and size > 0 else None for size in first}
    return sizes.pop() if len(sizes) == 1 else 1


def fills(batch: Batch, size: int) -> bool:
    """Whether the batch has this size, or is no stack of samples: an input without a batch axis runs as it is."""
    count = len(batch.ids)
    return count == size or any(array.shape[:1] != (count,) for array in batch.feeds.values())
