"""What differs between NVIDIA's releases when an engine runs; the counterpart of `_nvidia` for building."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from workbench.backends.nvidia_log import LogKeeper, logger_for
from workbench.backends.nvidia_words import plain
from workbench.errors import BackendError

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "FP8": "float8_e4m3fn",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


def dtype_name(dtype: Any) -> str:
    """numpy's name for a DataType; `trt.nptype` knows neither bfloat16 nor float8."""
    return _DTYPES.get(dtype.name, dtype.name.lower())


def activation_bytes(engine: Any) -> int:
    """The memory a context needs at the largest shapes, in bytes."""
    size = engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size
    return int(size)


def new_context(trt: ModuleType, engine: Any, address: int, size: int) -> Any:
    """A context that computes in this memory, which others may use between its runs; None when there is none."""
    if hasattr(trt, "ExecutionContextAllocationStrategy"):
        context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    else:
        context = engine.create_execution_context_without_device_memory()
    if context is not None and hasattr(context, "set_device_memory"):
        context.set_device_memory(address, size)
    elif context is not None:
        context.device_memory = address
    return context


def output_allocator(trt: ModuleType, allocate: Callable[[int], Any]) -> Any:
    """Memory for an output whose size only a run tells; `shape` and `address` tell it afterwards."""

    class Allocator(trt.IOutputAllocator):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.memory: Any = None
            self.held = 0
            self.shape: tuple[int, ...] = ()

        @property
        def address(self) -> int:
            return int(self.memory)

        def reallocate_output(self, name: str, memory: int, size: int, alignment: int) -> int:
            if size > self.held or self.memory is None:
                self.memory, self.held = allocate(size), size
            return self.address

        def reallocate_output_async(self, name: str, memory: int, size: int, alignment: int, stream: int) -> int:
            return self.reallocate_output(name, memory, size, alignment)

        def notify_shape(self, name: str, shape: Any) -> None:
            self.shape = tuple(shape)

    return Allocator()


def profiler(trt: ModuleType, hear: Callable[[str, float], None]) -> Any:
    """Calls hear(layer, milliseconds) for every layer of every run."""

    class Profiler(trt.IProfiler):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            hear(layer_name, ms)

    return Profiler()


def refit(trt: ModuleType, engine: Any, weights: Mapping[str, np.ndarray], log: LogKeeper) -> None:
    """Raises BackendError for names that the engine does not have, and for weights that do not fit."""
    refitter = trt.Refitter(engine, logger_for(trt, log))
    known = refitter.get_all_weights()
    for name, array in weights.items():
        if name not in known:
            raise BackendError(f"the engine has no weights called {name}; it has {', '.join(known[:5])} and more.")
        if not refitter.set_named_weights(name, trt.Weights(np.ascontiguousarray(array))):
            raise BackendError(f"the weights {name} do not fit: {_last(log)}.")
    missing = refitter.get_missing_weights()
    if missing:
        raise BackendError(f"with these, {', '.join(missing[:5])} must be given as well.")
    if not refitter.refit_cuda_engine():
        raise BackendError(f"the weights cannot be exchanged: {_last(log)}.")


def _last(log: LogKeeper) -> str:
    return plain(log.errors[-1]) if log.errors else "TensorRT gives no reason"


def is_out_of_memory(text: str) -> bool:
    return bool(re.search(r"[Oo]ut ?[Oo]f ?[Mm]emory|cudaErrorMemoryAllocation|bad_alloc", text))


def wanted_bytes(text: str) -> int | None:
    """'Requested size was 12345 bytes' -> 12345."""
    found = re.search(r"[Rr]equested (?:size|amount of GPU memory)[^\d]*(\d+)", text)
    return int(found[1]) if found else None
