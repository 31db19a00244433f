"""Polygraphy's TrtRunner on the same plan, with its defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polygraphy
import tensorrt as trt
from polygraphy.backend.trt import EngineFromBytes, TrtRunner

from gpu_peers.cells import MODELS, Cell, feeds_of, reference_of, relative_difference
from gpu_peers.serving import Series, series, serve, wall_times_ms


class PolygraphyPeer:
    def __init__(self) -> None:
        self.runner: TrtRunner | None = None
        self.feeds: dict[str, np.ndarray] = {}

    def about(self) -> dict[str, str]:
        return {"tensorrt": trt.__version__, "polygraphy": polygraphy.__version__}

    def prepare(self, folder: str, cell: dict[str, Any], plan: str) -> dict[str, float]:
        row = Cell(**cell)
        self.runner = TrtRunner(EngineFromBytes(Path(plan).read_bytes()))
        self.runner.activate()
        engine = self.runner.engine
        self.feeds = {  # it refuses int64 where the engine takes int32; the change is not timed
            name: array.astype(trt.nptype(engine.get_tensor_dtype(name)), copy=False)
            for name, array in feeds_of(Path(folder), row).items()
        }
        found = self.runner.infer(self.feeds)[MODELS[row.model].output]
        return {"relative": relative_difference(found, reference_of(Path(folder), row))}

    def measure(self, iterations: int, limit_s: float) -> list[Series]:
        runner = self.runner
        assert runner
        own: list[float] = []

        def infer() -> None:
            runner.infer(self.feeds)
            own.append(1e3 * runner.last_inference_time())

        times = wall_times_ms(infer, iterations, limit_s)
        clock = "perf_counter around TrtRunner.infer, arrays on the host in and out"
        return [
            series("host", clock, times),
            series("host_own", "TrtRunner.last_inference_time", own[-len(times) :]),
        ]

    def release(self) -> None:
        if self.runner:
            self.runner.deactivate()
        self.runner = None


if __name__ == "__main__":
    serve(PolygraphyPeer())
