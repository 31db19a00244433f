"""What a worker keeps open between trials of a task: the model, its samples, and what it answers on them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from workbench.accuracy import Interval
from workbench.calibration.collect import fills
from workbench.calibration.samples import Batch, Sample, Samples, Skipped, batches, read_samples
from workbench.errors import Cancelled
from workbench.evaluation import Evaluation, evaluation_of
from workbench.model import Model, load_model
from workbench.reference import Reference, random_feeds
from workbench.sharding.packed_samples import open_packed
from workbench.sharding.parcels import unpack_all
from workbench.tally import Tally
from workbench.tuning.task import LOOK_SAMPLES, Task
from workbench.types import Feeds, Listener, Progress

COMPARING = "Comparing outputs"
MEMORY_BYTES = 1 << 30
_KEPT = 2
_opened: dict[str, Opened] = {}
_lock = threading.Lock()


class Opened:
    """A task's files on this machine. losses: by engine, so that none is evaluated twice in a process."""

    def __init__(self, task: Task, data: Mapping[str, bytes]) -> None:
        self.task = task
        paths = unpack_all(task.parcels, data)
        self.model: Model = load_model(paths[task.model.key])
        self.calibration = str(paths[task.calibration.key]) if task.calibration else None
        self.samples: Samples | None = open_packed(paths[task.samples.key]) if task.samples else None
        self.losses: dict[tuple[str, ...], Evaluation] = {}
        self._answers: dict[int, list[tuple[Batch, Mapping[str, Any]]]] = {}
        self._room = MEMORY_BYTES

    @cached_property
    def reference(self) -> Reference:
        """The model as ONNX Runtime runs it by itself, optimized: what one has without any of this."""
        import onnxruntime

        level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        quiet = {"session.intra_op.allow_spinning": "0"}
        return Reference(self.model, graph_optimization_level=level, enable_mem_reuse=True, **quiet)

    def feeds(self, batch: int) -> dict[str, np.ndarray]:
        """What is timed: the first samples, or random ones where there are none."""
        return self.task.rows(self._first, batch)

    @cached_property
    def _first(self) -> Feeds:
        """The first samples of one shape, as many as the largest batch needs at most."""
        if self.samples is None:
            return random_feeds(self.model.inputs, self.task.shapes, self.task.values)
        size = self.task.fixed_batch or LOOK_SAMPLES
        return next(batches(self._read(range(min(size, len(self.samples)))), size)).feeds

    def _read(self, indices: range) -> Iterator[Sample]:
        skipped: list[Skipped] = []
        return read_samples(self.samples, indices, skipped=skipped) if self.samples is not None else iter(())

    def evaluate(
        self, session: Any, batch: int, most: int | None, listener: Listener, cancel: threading.Event
    ) -> Evaluation:
        """A session's outputs against the model's own, on the first `most` samples, None for all."""
        tally, total = Tally(), len(self.samples) if self.samples is not None else 1
        for fed, expected in self._batches(batch):
            if cancel.is_set():
                raise Cancelled("cancelled; nothing was measured.")
            tally.add(expected, session.run(fed.feeds), fed)
            listener(Progress(COMPARING, tally.count, min(most or total, total)))
            if most is not None and tally.count >= most:
                break
        return evaluation_of(tally)

    def _batches(self, size: int) -> Iterator[tuple[Batch, Mapping[str, Any]]]:
        """Those that are in memory first, then the others, which are kept as long as there is room."""
        kept = self._answers.setdefault(size, [])
        yield from tuple(kept)
        done, keeps = sum(len(fed.ids) for fed, _ in kept), True
        for fed in self._fed(size, done):
            expected = self.reference.run(fed.feeds)
            self._room -= sum(np.asarray(array).nbytes for array in (*fed.feeds.values(), *expected.values()))
            keeps = keeps and self._room >= 0  # without gaps: what is kept is the beginning
            if keeps:
                kept.append((fed, expected))
            yield fed, expected

    def _fed(self, size: int, start: int) -> Iterator[Batch]:
        if self.samples is None:
            if start == 0:
                feeds = self.feeds(size)
                yield Batch(feeds, None, ("random",), ("",)) if size == 1 else _as_rows(feeds, size)
            return
        fixed, is_first = self.task.fixed_batch, start == 0
        for fed in batches(self._read(range(start, len(self.samples))), fixed or size):
            is_whole = fills(fed, fixed) if fixed else len(fed.ids) == size
            if is_whole or (not fixed and (is_first or not self.task.profiles)):  # given profiles may take no fewer
                yield fed
            is_first = False


def open_task(task: Task, data: Mapping[str, bytes]) -> Opened:
    """From the last call for this task in this process, or opened now. data: files by key, for those that are not on
    this machine. Raises ParcelMissing."""
    with _lock:
        if task.key not in _opened:
            while len(_opened) >= _KEPT:
                del _opened[next(iter(_opened))]
            _opened[task.key] = Opened(task, data)
        return _opened[task.key]


def drop(evaluation: Evaluation, metric: str) -> tuple[Interval, str]:
    """What was lost, and in which metric: the wanted one, else the one that matters most."""
    told = metric or evaluation.metrics[0]
    return evaluation.drop(told), told


def _as_rows(feeds: Feeds, size: int) -> Batch:
    """Random rows, told apart by their number; the whole as one where an input has no rows."""
    if any(array.shape[:1] != (size,) for array in feeds.values()):
        return Batch(feeds, None, ("random",), ("",))
    return Batch(feeds, None, tuple(f"random[{row}]" for row in range(size)), ("",) * size)


def folder_for(key: str, store: Path) -> Path:
    """Where models that a candidate needs changed are kept."""
    folder = store / "tuning" / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder
