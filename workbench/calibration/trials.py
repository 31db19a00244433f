"""Variants of a model in int8 on the same samples, each against the model itself: what every other measure rests on."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.calibration.collect import fills, fixed_batch
from workbench.calibration.samples import Batch, Samples, Skipped, batches, read_samples
from workbench.errors import Cancelled
from workbench.evaluation import Evaluation, evaluation_of
from workbench.model import Model
from workbench.qdq import quantize
from workbench.reference import Reference
from workbench.tally import Tally
from workbench.types import Listener, LogLine, Progress, ignore

MEMORY_BYTES = 1 << 30


class Trials:
    """Measures a model in int8 with some nodes left in float.

    Rounding is simulated: ONNX Runtime executes QuantizeLinear and DequantizeLinear as they stand and everything
    between them in float32, so that results do not depend on the processor, whose int8 instructions may saturate.

    samples, indices: which ones. size: samples at once; the model's own where that is fixed. memory_bytes: samples
    and the model's own outputs are kept up to here, and read and computed again for each trial beyond.
    """

    def __init__(
        self,
        model: Model,
        amax: Mapping[str, float],
        samples: Samples,
        indices: Sequence[int],
        *,
        size: int = 8,
        memory_bytes: int = MEMORY_BYTES,
        listener: Listener = ignore,
        cancel: threading.Event | None = None,
    ) -> None:
        self.model, self.amax = model, amax
        self._samples, self._indices = samples, indices
        self._fixed = fixed_batch(model)
        self._size = self._fixed or size
        self._listener, self._cancel = listener, cancel
        self._reference = simulated(model)
        self._kept: list[tuple[Batch, dict[str, Any]]] = []
        self._room = memory_bytes
        self._held: set[str] = set()
        self._results: dict[frozenset[str], Evaluation] = {}

    def measure(self, keep: Collection[str], phase: str, done: int = 0, total: int = 1) -> Evaluation:
        """The variant with the nodes of `keep` in float, against the model. done, total: of trials, for Progress.

        Raises Cancelled, and FeedError where no sample can be read.
        """
        wanted = frozenset(keep)
        if wanted not in self._results:
            self._results[wanted] = self._measured(wanted, phase, done, total)
        return self._results[wanted]

    def _measured(self, keep: frozenset[str], phase: str, done: int, total: int) -> Evaluation:
        each, tally = len(self._indices), Tally()
        with tempfile.TemporaryDirectory() as folder:
            variant = simulated(quantize(self.model, self.amax, Path(folder), keep=sorted(keep)))
        for batch, expected in self._batches():
            if self._cancel is not None and self._cancel.is_set():
                raise Cancelled(f"{phase}: stopped after {done:,} of {total:,}.")
            tally.add(expected, variant.run(batch.feeds), batch)
            self._listener(Progress(phase, done * each + tally.count, total * each))
        return evaluation_of(tally)

    def _batches(self) -> Iterator[tuple[Batch, dict[str, Any]]]:
        """Those in memory first, then the others, of which the first are kept as long as there is room."""
        yield from tuple(self._kept)
        rest = [index for index in self._indices if self._samples.id_of(index) not in self._held]
        skipped: list[Skipped] = []
        for batch in batches(read_samples(self._samples, rest, skipped=skipped), self._size):
            if self._fixed and not fills(batch, self._fixed):
                continue  # the model takes no fewer
            expected = self._reference.run(batch.feeds)
            self._keep(batch, expected)
            yield batch, expected
        self._held.update(item.id for item in skipped)
        for item in skipped:
            self._listener(LogLine("warning", f"{item.id} is left out: {item.reason}"))

    def _keep(self, batch: Batch, expected: dict[str, Any]) -> None:
        self._room -= sum(np.asarray(array).nbytes for array in (*batch.feeds.values(), *expected.values()))
        if self._room >= 0:
            self._kept.append((batch, expected))
            self._held.update(batch.ids)


def simulated(model: Model) -> Reference:
    """A model whose int8 is computed exactly as its Q/DQ nodes say, and as fast as float32."""
    import onnxruntime

    return Reference(
        model,
        graph_optimization_level=onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
        enable_mem_reuse=True,
        **{"session.disable_quant_qdq": "1", "session.intra_op.allow_spinning": "0"},
    )
