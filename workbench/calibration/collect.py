"""Run a model over samples and count the magnitudes of every activation, in memory that does not grow with them."""

from __future__ import annotations

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
_LARGEST_BATCH = 4
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
    strict: bool = False,
    partial: Path | None = None,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Collection:
    """The collection of `count` samples spread over all of them, None for all. skip: of those leave out the first.

    shard: (2, 4) for the second quarter of them; all four, merged, are the collection of all, which is why a shard
    never ends early. budget_bytes: what the activations of a run may take, two of which are held at once.
    until_settled: stop when no range has grown for a while. strict: raise for a sample that cannot be read, which is
    left out else. partial: a file that keeps what is done when this is stopped, is taken up from there, and is removed
    in the end.
    Raises FeedError where nothing can be read or fed, ShapeError and RunError where the model does not run on it, and
    Cancelled.
    """
    skipped: list[Skipped] = []
    begun = _taken_up(model, samples, partial, listener)
    number, shards = shard
    if not 1 <= number <= shards:
        raise ConfigError(f"there is no shard {number} of {shards}; they are counted from 1.")
    indices = choose(len(samples), count, skip=skip)[number - 1 :: shards]
    known = begun.samples if begun else {}
    missing = [index for index in indices if samples.id_of(index) not in known]
    fresh = read_samples(samples, missing, strict=strict, skipped=skipped)
    run = _Run(model, samples, begun, listener)
    saved = time.monotonic()
    with ahead(run.steps(fresh, budget_bytes)) as steps:
        for values, finished in steps:
            run.count(values)
            if finished is None:
                continue
            run.finish(finished, len(indices) - len(skipped))
            if until_settled and shards == 1 and run.has_settled():
                break
            is_stopped = cancel is not None and cancel.is_set()
            if partial is not None and (is_stopped or time.monotonic() - saved > _SAVED_EVERY_S):
                save_collection(run.collection(skipped), partial)
                saved = time.monotonic()
            if is_stopped:
                raise Cancelled(f"stopped after {count_of(run.done, 'sample')}.")
    for item in skipped:
        listener(LogLine("warning", f"{item.id} is left out: {item.reason}"))
    if not run.done:
        raise FeedError(f"none of {count_of(len(indices), 'sample')} of {samples.about} could be collected.")
    listener(Progress(COLLECTING, run.done, run.done))
    if partial is not None:
        partial.unlink(missing_ok=True)
    return run.collection(skipped)


def _taken_up(model: Model, samples: Samples, partial: Path | None, listener: Listener) -> Collection | None:
    """What an earlier call with the same model and preprocessing left there."""
    if partial is None or not partial.exists():
        return None
    try:
        begun = load_collection(partial)
    except ConfigError as error:
        listener(LogLine("warning", f"{error} It starts anew."))
        return None
    if begun.model_sha256 != model.sha256 or begun.preprocessing != samples.preprocessing:
        listener(LogLine("warning", f"{partial} was begun with another model or preprocessing; it starts anew"))
        return None
    listener(LogLine("info", f"{count_of(len(begun.samples), 'sample')} were collected before; the others follow"))
    return begun


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

    def steps(self, fresh: Iterable[Sample], budget_bytes: int) -> Iterator[Step]:
        """The tensors of batch after batch, piece by piece; with the last of a batch comes the batch."""
        exposed: dict[tuple[object, ...], ExposedModel] = {}
        size, must_be_full = batch_size(self.model)
        for batch in batches(fresh, size):
            if must_be_full and len(batch.ids) < size:
                self.listener(LogLine("info", f"The last {count_of(len(batch.ids), 'sample')} fill no batch"))
                continue
            shapes = {name: array.shape for name, array in batch.feeds.items()}
            key = tuple(shapes.items())
            if key not in exposed:
                exposed.clear()  # weights are held once
                exposed[key] = ExposedModel(self.model, self.counted, shapes, budget_bytes)
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


def batch_size(model: Model) -> tuple[int, bool]:
    """How many samples are run at once, and whether fewer cannot be: the model's own size where that is fixed."""
    first = [spec.shape[0] for spec in model.inputs if spec.shape]
    fixed = next((size for size in first if isinstance(size, int) and size > 0), None)
    if fixed is not None:
        return fixed, True
    return (_LARGEST_BATCH if len(first) == len(model.inputs) else 1), False
