"""A session on NVIDIA's tensor-name API, for every release: runs, arrays on both sides, times."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.backends.cuda import the_gpu, wait_for_stream
from workbench.backends.device_arrays import DeviceArray, borrow, is_on_device, numpy_dtype
from workbench.backends.nvidia_context import ShapedContext, Workplace
from workbench.backends.nvidia_engine import OpenEngine
from workbench.backends.nvidia_feeds import fit
from workbench.backends.plan_record import PlanRecord
from workbench.errors import BackendError
from workbench.inspector import unique_names
from workbench.types import Feeds, OptimizationProfile, Shape, TensorSpec

_WIDER = {("int64", "int32"), ("float64", "float32")}
"""(the model's type, the engine's): what a release lacks it computes in the narrower type."""
_KEPT = 8
"""Contexts that are kept, with buffers and graph: one for each set of shapes, another where arrays stay on the GPU."""


class NvidiaSession:
    """An engine open on the GPU; may be used from several threads, one run at a time.

    cuda_graph: capture a graph for every set of shapes and replay it; may be switched between runs. An engine with
    outputs sized by data, or one that cannot be captured, is enqueued without one, and so is one that reads or writes
    another library's arrays. `clock` tells.
    """

    host_clock = "perf_counter, from arrays on the host to arrays on the host, copies included"
    copies = False

    def __init__(self, opened: OpenEngine, record: PlanRecord, profiles: tuple[OptimizationProfile, ...]) -> None:
        self.cuda_graph, self.clock = True, _clock(None)
        self.releases = {"tensorrt": record.release, "numpy": np.__version__}
        self._opened, self._profiles, self._gpu = opened, profiles, the_gpu()
        self.inputs = tuple(_spec(spec, opened.types) for spec in record.inputs if spec.name in opened.types)
        self.outputs = tuple(_spec(spec, opened.types) for spec in record.outputs)
        self._names = tuple(spec.name for spec in self.outputs)
        self._widened = {spec.name: spec.dtype for spec in self.outputs if spec.dtype != opened.types[spec.name]}
        self._lock = threading.RLock()
        self._contexts: OrderedDict[Any, ShapedContext] = OrderedDict()
        self._known: dict[Any, ShapedContext] = {}
        """Contexts by what the arrays of a run look like, so that a repeated run need not check them again."""
        self._last: ShapedContext | None = None
        self._feeds: Feeds = {}
        with self._gpu:
            self._place = Workplace(opened, self._gpu)
        self._stream, self._is_open = self._place.stream, True
        _sessions.add(self)

    # ---- running

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        """Arrays in, new arrays on the host out. Inputs may also lie on the GPU, in arrays of any library.

        Raises FeedError where they do not fit the inputs or the profiles, BackendError where memory runs out.
        """
        with self._lock, self._gpu:
            context = self._load(feeds)
            if context.graph is None:
                context.write_to_own()
            context.launch()
            found = {name: context.fetch(name) for name in self._names}
            self._stream.synchronize()
        for name, dtype in self._widened.items():
            found[name] = found[name].astype(dtype)
        return found

    def run_on_device(self, feeds: Feeds) -> dict[str, DeviceArray]:
        """As `run`; the outputs stay on the GPU, in memory of their own, and their content is complete.

        They have the engine's type: int32 where the model says int64 and the release has none.
        """
        with self._lock, self._gpu:
            context = self._load(feeds, stays=True)
            memory = context.write_to_new()
            context.enqueue()
            self._stream.synchronize()
            return {name: self._device_array(context, name, block) for name, block in memory.items()}

    def input_buffers(self, shapes: Mapping[str, Shape]) -> dict[str, np.ndarray]:
        """Page-locked arrays for inputs of these shapes: fill them in place and `run` them, which saves a copy.

        They are the session's own: the next call with these shapes gives the same arrays. int64 is int32 there where
        the release computes in it.
        """
        empty = {spec.name: np.empty(shapes[spec.name], numpy_dtype(spec.dtype)) for spec in self.inputs}
        with self._lock, self._gpu:
            self._check_open()
            return dict(self._context_for(empty, self.inputs, graph=self.cuda_graph).pinned)

    def _load(self, feeds: Feeds, stays: bool = False) -> ShapedContext:
        """The context for these arrays, its inputs on their way. stays: outputs go to memory of their own."""
        self._check_open()
        on_host, borrowed = self._opened.on_host, {}
        placed: dict[str, Any] = dict(feeds)
        for name, array in feeds.items():
            if type(array) is not np.ndarray and is_on_device(array):
                if name in on_host and isinstance(array, DeviceArray):
                    placed[name] = array.to_host()
                else:
                    placed[name] = borrowed[name] = borrow(name, array, self._stream.handle, wait_for_stream)
        graph = self.cuda_graph and not borrowed and not stays
        look = (graph, *((name, array.shape, array.dtype, name in borrowed) for name, array in placed.items()))
        context = self._known.get(look)
        if context is None:
            looks = {name: array.look if name in borrowed else array for name, array in placed.items()}
            context = self._context_for(looks, self._expected(looks, borrowed), graph=graph)
            if not on_host:
                self._known[look] = context
        self._contexts.move_to_end(context.key)
        self._feed(context, placed)
        if graph and context.graph is None and context.can_capture:
            context.capture()
        if context is not self._last:
            self.clock = _clock(context)
        self._last, self._feeds = context, placed
        return context

    def _check_open(self) -> None:
        if not self._is_open:
            raise BackendError("the session is closed; open the engine again.")

    def _feed(self, context: ShapedContext, placed: Feeds) -> None:
        for name, array in placed.items():
            if isinstance(array, DeviceArray):
                context.read_from(name, array)
            elif name not in self._opened.on_host:
                context.send(name, np.asarray(array))

    def _expected(self, feeds: Feeds, borrowed: Mapping[str, DeviceArray]) -> tuple[TensorSpec, ...]:
        """The inputs, in the engine's own type where nothing converts: on the GPU, and in `input_buffers`."""
        own = self._opened.types
        return tuple(
            TensorSpec(spec.name, own[spec.name], spec.shape)
            if spec.name in borrowed or (spec.name in feeds and str(feeds[spec.name].dtype) == own[spec.name])
            else spec
            for spec in self.inputs
        )

    def _device_array(self, context: ShapedContext, name: str, memory: Any) -> DeviceArray:
        shape = context.shapes[name]
        if memory is None:  # written on the host, or to memory that the next run writes again
            host = context.fetch(name)
            self._stream.synchronize()
            shape, memory = host.shape, self._gpu.device_memory(host.nbytes, f"output {name}")
            if host.nbytes:
                self._gpu.driver.memcpy_htod_async(int(memory), host, self._stream)
                self._stream.synchronize()
        return DeviceArray(int(memory), shape, self._opened.types[name], memory, self._gpu.to_host)

    def _context_for(self, feeds: Feeds, expected: tuple[TensorSpec, ...], *, graph: bool) -> ShapedContext:
        fitted = fit(expected, self._profiles, feeds, self._opened.on_host)
        key = (fitted.key, graph)
        if key in self._contexts:
            self._contexts.move_to_end(key)
            return self._contexts[key]
        while len(self._contexts) >= _KEPT:
            self._forget(next(iter(self._contexts)))
        context = ShapedContext(self._place, fitted, self._names, key)
        self._contexts[key] = context
        return context

    def _forget(self, key: Any) -> None:
        context = self._contexts.pop(key)
        self._known = {look: other for look, other in self._known.items() if other is not context}
        if self._last is context:
            self._last, self._feeds = None, {}
        context.close()

    # ---- timing

    def times_ms(self, iterations: int) -> list[float]:
        with self._lock, self._gpu:
            return self._event_times_ms(self._ran(), iterations)

    def _event_times_ms(self, context: ShapedContext, iterations: int) -> list[float]:
        """In a function of its own: PyCUDA's events must be gone before the GPU's context is."""
        event = self._gpu.driver.Event
        if context.graph is None:
            context.write_to_own()
        events = [(event(), event()) for _ in range(iterations)]
        for start, end in events:
            start.record(self._stream)
            context.launch()
            end.record(self._stream)
        self._stream.synchronize()
        return [float(start.time_till(end)) for start, end in events]

    def host_times_ms(self, iterations: int) -> list[float]:
        self._ran()
        feeds, times = self._feeds, []
        for _ in range(iterations):
            start = time.perf_counter_ns()
            self.run(feeds)
            times.append((time.perf_counter_ns() - start) / 1e6)
        return times

    def layer_times_ms(self, iterations: int) -> dict[str, tuple[float, ...]]:
        """By TensorRT's profiler, which times every layer by itself: the sum exceeds the time of a whole run."""
        rows: list[list[tuple[str, float]]] = []
        with self._lock, self._gpu:
            context = ShapedContext(self._place, self._ran().fitted, self._names)
            self._feed(context, self._feeds)
            context.time_layers(lambda name, ms: rows[-1].append((name, ms)))
            for _ in range(iterations + 1):
                rows.append([])
                context.enqueue()
                self._stream.synchronize()
            context.close()
        names = unique_names(name for name, _ in rows[0])
        timed = rows[1:]  # the first run warms up
        return {name: tuple(row[index][1] for row in timed) for index, name in enumerate(names)}

    def _ran(self) -> ShapedContext:
        self._check_open()
        if self._last is None:
            raise BackendError("nothing to repeat: run the session once before timing it.")
        return self._last

    # ---- weights

    def refit(self, weights: Mapping[str, np.ndarray]) -> None:
        """Exchange weights of a refittable engine, by the names they have in the model. The plan stays as it is.

        Raises BackendError for an engine that is not refittable, names it does not have, and weights that do not fit.
        """
        with self._lock, self._gpu:
            self._check_open()
            self._opened.refit(weights)

    # ---- closing

    def close(self) -> None:
        """Give everything back; harmless when repeated."""
        with self._lock, self._gpu:
            for key in tuple(self._contexts):
                self._forget(key)
            self._last, self._feeds = None, {}
            self._is_open = False
            for name in ("_place", "_stream", "_opened"):
                vars(self).pop(name, None)
        _sessions.discard(self)

    def __del__(self) -> None:
        if "_place" in vars(self):
            self.close()

    def __enter__(self) -> NvidiaSession:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


_sessions: weakref.WeakSet[NvidiaSession] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """While the driver still works; PyCUDA aborts the process over what is left afterwards."""
    for session in tuple(_sessions):
        session.close()


def _clock(context: ShapedContext | None) -> str:
    how = "replay of its CUDA graph" if context and context.graph else "enqueue of the engine"
    return f"CUDA events around each {how}, inputs and outputs on the GPU"


def _spec(spec: TensorSpec, types: Mapping[str, str]) -> TensorSpec:
    own = types[spec.name]
    return spec if (spec.dtype, own) in _WIDER else TensorSpec(spec.name, own, spec.shape)
