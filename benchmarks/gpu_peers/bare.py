"""The least that runs a plan: tensorrt, PyCUDA and libcuda's CUDA graphs, nothing of the workbench's."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pycuda.driver as cuda
import tensorrt as trt

from gpu_peers.cells import MODELS, Cell, feeds_of, reference_of, relative_difference
from gpu_peers.serving import Series, count_for, series, serve, wall_times_ms

THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
LIBCUDA = ctypes.CDLL("libcuda.so.1")
LIBCUDA.cuGraphLaunch.argtypes = [ctypes.c_void_p, ctypes.c_void_p]


def call(name: str, *arguments: Any) -> None:
    code = getattr(LIBCUDA, name)(*arguments)
    if code:
        raise RuntimeError(f"{name} failed with CUDA error {code}")


def capture(stream: cuda.Stream, work: Callable[[], None]) -> ctypes.c_void_p:
    """A CUDA graph of what `work` puts into the stream; PyCUDA has none of its own."""
    handle, graph, ready = ctypes.c_void_p(stream.handle), ctypes.c_void_p(), ctypes.c_void_p()
    call("cuStreamBeginCapture_v2", handle, THREAD_LOCAL)
    work()
    call("cuStreamEndCapture", handle, ctypes.byref(graph))
    call("cuGraphInstantiateWithFlags", ctypes.byref(ready), graph, ctypes.c_ulonglong(0))
    call("cuGraphDestroy", graph)
    return ready


class BareEngine:
    """A plan with buffers for one set of shapes, on the device and pinned on the host."""

    def __init__(self, plan: bytes, logger: trt.ILogger, feeds: dict[str, np.ndarray]) -> None:
        self.runtime = trt.Runtime(logger)
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        self.context = self.engine.create_execution_context()
        self.stream = cuda.Stream()
        self.feeds = feeds
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        self.outputs = [name for name in names if name not in feeds]
        for name, array in feeds.items():
            self.context.set_input_shape(name, array.shape)
        self.host, self.device = {}, {}
        for name in names:
            dtype = trt.nptype(self.engine.get_tensor_dtype(name))
            self.host[name] = cuda.pagelocked_empty(tuple(self.context.get_tensor_shape(name)), dtype)
            self.device[name] = cuda.mem_alloc(self.host[name].nbytes)
            self.context.set_tensor_address(name, int(self.device[name]))
        self.graph = ctypes.c_void_p()

    def capture(self) -> None:
        self.graph = capture(self.stream, self.enqueue)

    def enqueue(self) -> None:
        self.context.execute_async_v3(self.stream.handle)

    def replay(self) -> None:
        call("cuGraphLaunch", self.graph, self.stream.handle)

    def once(self, launch: Callable[[], None]) -> None:
        """From pinned arrays to pinned arrays."""
        for name in self.feeds:
            cuda.memcpy_htod_async(self.device[name], self.host[name], self.stream)
        launch()
        for name in self.outputs:
            cuda.memcpy_dtoh_async(self.host[name], self.device[name], self.stream)
        self.stream.synchronize()

    def copied(self, launch: Callable[[], None]) -> dict[str, np.ndarray]:
        """From the user's arrays to new arrays."""
        for name, array in self.feeds.items():
            np.copyto(self.host[name], array, casting="same_kind")
        self.once(launch)
        return {name: self.host[name].copy() for name in self.outputs}

    def release(self) -> None:
        if self.graph:
            call("cuGraphExecDestroy", self.graph)


class BarePeer:
    def __init__(self) -> None:
        cuda.init()
        self.gpu = cuda.Device(0).retain_primary_context()
        self.gpu.push()
        self.logger = trt.Logger(trt.Logger.WARNING)
        self.engine: BareEngine | None = None

    def about(self) -> dict[str, str]:
        return {"tensorrt": trt.__version__, "pycuda": version("pycuda"), "numpy": np.__version__}

    def prepare(self, folder: str, cell: dict[str, Any], plan: str) -> dict[str, float]:
        row = Cell(**cell)
        self.engine = BareEngine(Path(plan).read_bytes(), self.logger, feeds_of(Path(folder), row))
        self.engine.copied(self.engine.enqueue)
        self.engine.capture()
        found = self.engine.copied(self.engine.replay)[MODELS[row.model].output]
        return {"relative": relative_difference(found, reference_of(Path(folder), row))}

    def measure(self, iterations: int, limit_s: float) -> list[Series]:
        engine = self.engine
        assert engine
        copies = "the user's arrays copied into pinned ones, the outputs into new arrays"
        loop = "perf_counter, host to host by hand: copies to the device, graph replay, copies back, synchronize"
        return [
            *self._on_gpu("replay", "the graph replays", engine.replay, iterations, limit_s),
            *self._on_gpu("enqueue", "the execute_async_v3 calls", engine.enqueue, iterations, limit_s),
            series(
                "host", f"{loop}; {copies}", wall_times_ms(lambda: engine.copied(engine.replay), iterations, limit_s)
            ),
            series(
                "host_in_place",
                f"{loop}; pinned arrays used in place",
                wall_times_ms(lambda: engine.once(engine.replay), iterations, limit_s),
            ),
        ]

    def _on_gpu(
        self, what: str, words: str, launch: Callable[[], None], iterations: int, limit_s: float
    ) -> list[Series]:
        """Events around each, which the ratios use, as sessions time themselves; and two around all, gaps included."""
        assert self.engine
        stream = self.engine.stream

        def once() -> None:
            launch()
            stream.synchronize()

        count = count_for(once, iterations, limit_s)
        each = self._events_ms(launch, groups=count, size=1)
        (mean,) = self._events_ms(launch, groups=1, size=count)
        return [
            series(what, f"CUDA events around each of {words}, one after another", each),
            series(f"{what}_mean", f"CUDA events around all {words}, one after another; mean", [mean], count),
        ]

    def _events_ms(self, launch: Callable[[], None], groups: int, size: int) -> list[float]:
        """Milliseconds of one launch, averaged over each group of `size`."""
        assert self.engine
        stream = self.engine.stream
        events = [(cuda.Event(), cuda.Event()) for _ in range(groups)]
        for start, end in events:
            start.record(stream)
            for _ in range(size):
                launch()
            end.record(stream)
        stream.synchronize()
        return [end.time_since(start) / size for start, end in events]

    def open_once(self, folder: str, cell: dict[str, Any], plan: str) -> dict[str, float]:
        """Milliseconds: read the file; deserialize, with context and buffers; the first inference, host to host."""
        feeds = feeds_of(Path(folder), Cell(**cell))
        marks = [time.perf_counter()]
        data = Path(plan).read_bytes()
        marks.append(time.perf_counter())
        engine = BareEngine(data, self.logger, feeds)
        marks.append(time.perf_counter())
        engine.copied(engine.enqueue)
        marks.append(time.perf_counter())
        names = ("read", "deserialize", "first_run")
        parts = {name: 1e3 * (late - early) for name, early, late in zip(names, marks, marks[1:], strict=False)}
        return {"total": sum(parts.values()), **parts}

    def release(self) -> None:
        if self.engine:
            self.engine.release()
        self.engine = None


if __name__ == "__main__":
    serve(BarePeer())
