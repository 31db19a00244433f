"""An engine's context at one set of shapes: its buffers on both sides, and its CUDA graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from workbench.backends import _nvidia, nvidia_callbacks
from workbench.backends.cuda import CudaGraph, Gpu
from workbench.backends.device_arrays import DeviceArray, numpy_dtype
from workbench.backends.nvidia_engine import OpenEngine
from workbench.backends.nvidia_feeds import Fitted
from workbench.errors import BackendError, FeedError
from workbench.machine import usable_cores
from workbench.types import Shape

_PIECE = 2 << 20
"""Bytes that one thread copies at a time."""


@cache
def _copiers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(usable_cores(), 8), thread_name_prefix="to-pinned-memory")


class Workplace:
    """What the contexts of one session share: they run one after another, in one stream and the same activations."""

    def __init__(self, opened: OpenEngine, gpu: Gpu) -> None:
        self.opened, self.gpu, self.stream = opened, gpu, gpu.stream()
        self.activation_bytes = _nvidia.activation_bytes(opened.engine)
        self.activations = gpu.device_memory(self.activation_bytes, "activations")


class ShapedContext:
    """Buffers are allocated once, when it is made; all calls are made while the GPU's context is current.

    key: what its owner calls it. shapes: of inputs and outputs; pinned: inputs in page-locked memory; host: inputs and
    outputs that the engine reads or writes on the host. Raises FeedError for sizes that contradict each other,
    BackendError where memory runs out.
    """

    def __init__(self, place: Workplace, fitted: Fitted, outputs: tuple[str, ...], key: Any = None) -> None:
        self._place, self._engine = place, place.opened
        self.fitted, self.outputs, self.key = fitted, outputs, key
        self.shapes: dict[str, Shape] = dict(fitted.shapes)
        self._dtypes = {name: numpy_dtype(dtype) for name, dtype in place.opened.types.items()}
        self.pinned: dict[str, np.ndarray] = {}
        self.host: dict[str, np.ndarray] = {}
        self.graph: CudaGraph | None = None
        self._is_refused = False
        self._memory: list[Any] = []
        self._device: dict[str, int] = {}
        """Addresses of the own buffers."""
        self._allocators: dict[str, Any] = {}
        self.context = self._create()
        self._set_inputs()
        for name in outputs:
            self._set_output(name)

    def _create(self) -> Any:
        place, profile = self._place, self.fitted.profile
        memory, size = int(place.activations), place.activation_bytes
        context = _nvidia.new_context(self._engine.trt, self._engine.engine, memory, size)
        if context is None:
            raise self._engine.failure(place.gpu, "a context of the engine")
        if profile and not context.set_optimization_profile_async(profile, place.stream.handle):
            raise self._engine.failure(place.gpu, f"optimization profile {profile + 1}")
        return context

    def _set_inputs(self) -> None:
        for name, shape in self.fitted.shapes.items():
            if not self.context.set_input_shape(name, shape):
                raise self._engine.failure(self._place.gpu, f"input {name} with the shape {shape}")
            kind = self._dtypes[name]
            if name in self.fitted.values:
                self.host[name] = np.ascontiguousarray(self.fitted.values[name], kind)
                self.context.set_tensor_address(name, self.host[name].ctypes.data)
            else:
                self.pinned[name] = self._place.gpu.host_array(shape, kind)
                self._reserve(name)
        missing = self.context.infer_shapes()
        if missing:
            raise FeedError(f"the sizes do not fit each other, or a value is missing: {', '.join(missing)}.")

    def _set_output(self, name: str) -> None:
        self.shapes[name] = tuple(self.context.get_tensor_shape(name))
        if any(size < 0 for size in self.shapes[name]):
            gpu = self._place.gpu
            allocator = nvidia_callbacks.output_allocator(
                self._engine.trt, lambda size: gpu.device_memory(size, f"output {name}")
            )
            self._allocators[name] = allocator
            self.context.set_output_allocator(name, allocator)
        elif name in self._engine.on_host:
            self.host[name] = np.empty(self.shapes[name], self._dtypes[name])
            self.context.set_tensor_address(name, self.host[name].ctypes.data)
        else:
            self._reserve(name)

    def _reserve(self, name: str) -> None:
        memory = self._place.gpu.device_memory(self._size(name), name)
        self._memory.append(memory)
        self._device[name] = int(memory)
        self.context.set_tensor_address(name, self._device[name])

    def _size(self, name: str) -> int:
        return math.prod(self.shapes[name]) * self._dtypes[name].itemsize

    @property
    def can_capture(self) -> bool:
        """Whether a graph can stand for a run: nothing is done on the host, and none was refused before."""
        return not self._allocators and not self.host and not self._is_refused

    # ---- what a run is made of

    def capture(self) -> None:
        """Make its graph, with inputs in place; buffers must stay where they are from now on.

        Some engines cannot be captured, such as those with loops: they go on without a graph.
        """
        self.write_to_own()
        self.enqueue()  # once before it is captured, so that nothing is left to be set up
        self._place.stream.synchronize()
        try:
            self.graph = CudaGraph(self._place.stream, self.enqueue)
        except BackendError:
            self._is_refused = True

    def send(self, name: str, array: np.ndarray) -> None:
        """An input on its way to the GPU; `array` may be its own page-locked one."""
        pinned, address = self.pinned[name], self._device[name]
        if self.graph is None:
            self.context.set_tensor_address(name, address)
        if array is not pinned:
            if array.dtype != pinned.dtype:
                _check_narrowing(name, array, pinned.dtype)
            elif array.nbytes >= 2 * _PIECE:
                self._send_in_pieces(address, np.ascontiguousarray(array), pinned)
                return
            np.copyto(pinned, array, casting="unsafe")
        if pinned.nbytes:
            self._place.gpu.driver.memcpy_htod_async(address, pinned, self._place.stream)

    def _send_in_pieces(self, address: int, array: np.ndarray, pinned: np.ndarray) -> None:
        """Large arrays are copied by several threads, and a piece is on its way while the next is copied."""
        source, target = array.reshape(-1), pinned.reshape(-1)
        step = _PIECE // array.itemsize
        pieces = [slice(start, start + step) for start in range(0, source.size, step)]
        copies = [_copiers().submit(np.copyto, target[piece], source[piece]) for piece in pieces]
        for piece, copy in zip(pieces, copies, strict=True):
            copy.result()
            place = address + piece.start * array.itemsize
            self._place.gpu.driver.memcpy_htod_async(place, target[piece], self._place.stream)

    def read_from(self, name: str, array: DeviceArray) -> None:
        """Let the engine read an input where it lies."""
        if name in self.host:
            raise FeedError(f"input {name} holds sizes, which the engine reads on the host: give it as a numpy array.")
        self.context.set_tensor_address(name, array.pointer)

    def launch(self) -> None:
        """One run into the own buffers."""
        if self.graph is not None:
            self.graph.replay()
        else:
            self.enqueue()

    def enqueue(self) -> None:
        if not self.context.execute_async_v3(self._place.stream.handle):
            for error in (allocator.error for allocator in self._allocators.values() if allocator.error):
                raise error
            raise self._engine.failure(self._place.gpu, "the engine does not run on these inputs")

    def write_to_own(self) -> None:
        for name in self.outputs:
            if name in self._device:
                self.context.set_tensor_address(name, self._device[name])

    def write_to_new(self) -> dict[str, Any]:
        """New memory on the GPU for every output, by name; None for those whose size is not known yet."""
        found: dict[str, Any] = dict.fromkeys(self.outputs)
        for name in self.outputs:
            if name in self._device:
                found[name] = self._place.gpu.device_memory(self._size(name), f"output {name}")
                self.context.set_tensor_address(name, int(found[name]))
        return found

    def fetch(self, name: str) -> np.ndarray:
        """An output on its way to the host, in the engine's type; complete when the stream is."""
        if name in self._device:
            shape, address = self.shapes[name], self._device[name]
        elif name in self.host:
            return self.host[name].copy()
        else:
            self._place.stream.synchronize()
            shape, address = self._allocators[name].shape, self._allocators[name].address
        array = self._place.gpu.host_array(shape, self._dtypes[name])
        if array.nbytes:
            self._place.gpu.driver.memcpy_dtoh_async(array, address, self._place.stream)
        return array

    def time_layers(self, hear: Callable[[str, float], None]) -> None:
        """Tell the time of every layer, in milliseconds, from now on."""
        self.context.profiler = nvidia_callbacks.profiler(self._engine.trt, hear)

    def close(self) -> None:
        if self.graph is not None:
            self.graph.close()
        self.context = self.graph = None
        self._memory.clear()


def _check_narrowing(name: str, array: np.ndarray, kind: np.dtype[Any]) -> None:
    if kind.kind == "i" and array.size:
        limits = np.iinfo(kind)
        if 0 <= np.bitwise_or.reduce(array, axis=None) <= limits.max:
            return  # words and sizes, which are not negative, are checked with one pass
        if array.min() < limits.min or array.max() > limits.max:
            raise FeedError(f"input {name} holds values beyond {kind.name}, in which this TensorRT release computes.")
