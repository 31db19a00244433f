"""A GPU that is only pretended, for sessions on machines without one: what they do with memory, streams and contexts.

Its streams run nothing until they are waited for; memory is NaN when it is new and again when it goes back, and is
used again at once. An engine is ONNX Runtime with the model. So whoever reads too early, writes to memory that it gave
away or keeps an address for too long gets NaN, and a session that is right gives what ONNX Runtime gives.
"""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from workbench.backends import nvidia_context, nvidia_session
from workbench.backends.device_arrays import DeviceArray, numpy_dtype
from workbench.backends.nvidia_session import NvidiaSession
from workbench.backends.plan_record import PlanRecord
from workbench.hybrid.session import open_native
from workbench.model import Model
from workbench.types import OptimizationProfile, Shape, TensorSpec

_free: dict[int, list[Any]] = defaultdict(list)


class Memory:
    """A block of a power of two, filled with 0xFF: NaN in every float, -1 in every integer."""

    def __init__(self, size: int) -> None:
        self.size = 1 << max(8, (size - 1).bit_length())
        self.block = _free[self.size].pop() if _free[self.size] else ctypes.create_string_buffer(self.size)
        ctypes.memset(self.block, 0xFF, self.size)

    def __int__(self) -> int:
        return ctypes.addressof(self.block)

    def __del__(self) -> None:
        ctypes.memset(self.block, 0xFF, self.size)
        _free[self.size].append(self.block)


class Stream:
    by_handle: ClassVar[dict[int, Stream]] = {}

    def __init__(self) -> None:
        self.waiting: list[Callable[[], Any]] = []
        self.handle = id(self)
        Stream.by_handle[self.handle] = self

    def synchronize(self) -> None:
        waiting, self.waiting = self.waiting, []
        for work in waiting:
            work()


def _to_device(address: int, array: np.ndarray, stream: Stream) -> None:
    stream.waiting.append(lambda: ctypes.memmove(address, array.ctypes.data, array.nbytes))


def _to_host(array: np.ndarray, address: int, stream: Stream) -> None:
    stream.waiting.append(lambda: ctypes.memmove(array.ctypes.data, address, array.nbytes))


class Event:
    def record(self, stream: Stream) -> None:
        pass

    def time_till(self, other: Event) -> float:
        return 1.0


class PretendedGpu:
    driver = SimpleNamespace(memcpy_htod_async=_to_device, memcpy_dtoh_async=_to_host, Event=Event)

    def __enter__(self) -> PretendedGpu:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def stream(self) -> Stream:
        return Stream()

    def device_memory(self, size: int, purpose: str) -> Memory:
        return Memory(size)

    def host_array(self, shape: Shape, dtype: np.dtype[Any]) -> np.ndarray:
        return np.empty(shape, dtype)

    def to_host(self, array: DeviceArray) -> np.ndarray:
        host = np.empty(array.shape, numpy_dtype(array.dtype))
        ctypes.memmove(host.ctypes.data, array.pointer, host.nbytes)
        return host


class Context:
    """IExecutionContext, as far as sessions use it."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.addresses, self.shapes, self.profiler = engine, {}, {}, None
        self.made: dict[str, Shape] = {}

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        self.shapes[name] = shape
        return True

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        return True

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def infer_shapes(self) -> list[str]:
        zeros = {name: np.zeros(shape, self.engine.types[name]) for name, shape in self.shapes.items()}
        self.made = {name: array.shape for name, array in self.engine.run(zeros).items()}
        return []

    def get_tensor_shape(self, name: str) -> Shape:
        return self.made[name]

    def execute_async_v3(self, stream: int) -> bool:
        addresses = dict(self.addresses)
        Stream.by_handle[stream].waiting.append(lambda: self._execute(addresses))
        return True

    def _execute(self, addresses: dict[str, int]) -> None:
        feeds = {name: np.empty(shape, self.engine.types[name]) for name, shape in self.shapes.items()}
        for name, array in feeds.items():
            ctypes.memmove(array.ctypes.data, addresses[name], array.nbytes)
        for name, array in self.engine.run(feeds).items():
            array = np.ascontiguousarray(array)
            ctypes.memmove(addresses[name], array.ctypes.data, array.nbytes)


class Graph:
    """What a stream was given while it was captured, with the addresses of then."""

    def __init__(self, stream: Stream, enqueue: Callable[[], None]) -> None:
        stream.synchronize()
        enqueue()
        self.stream, self.work = stream, stream.waiting
        stream.waiting = []

    def replay(self) -> None:
        self.stream.waiting += self.work

    def close(self) -> None:
        pass


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on sessions find this GPU."""
    monkeypatch.setattr(nvidia_session, "the_gpu", PretendedGpu)
    monkeypatch.setattr(nvidia_context, "CudaGraph", Graph)
    releases = SimpleNamespace(
        activation_bytes=lambda engine: 1, new_context=lambda trt, engine, *memory: Context(engine)
    )
    monkeypatch.setattr(nvidia_context, "_nvidia", releases)


def session_of(model: Model, profiles: tuple[OptimizationProfile, ...] = ()) -> NvidiaSession:
    """A session on an engine of this model."""
    types = {spec.name: spec.dtype for spec in (*model.inputs, *model.outputs)}
    opened: Any = SimpleNamespace(run=open_native(model, 1).run, types=types, on_host=frozenset(), trt=None)
    opened.engine = opened
    inputs, outputs = (
        tuple(TensorSpec(spec.name, spec.dtype, spec.shape) for spec in specs)
        for specs in (model.inputs, model.outputs)
    )
    record = PlanRecord("8.6.0", "pretended", "9.0", "gpu", False, False, False, inputs, outputs)
    return NvidiaSession(opened, record, profiles)
