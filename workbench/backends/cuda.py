"""The GPU as sessions use it: its primary context, shared with PyTorch, and memory, through PyCUDA.

PyCUDA knows no CUDA graphs, so they are captured and replayed through the driver library itself.
"""

from __future__ import annotations

import atexit
import ctypes
import math
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from workbench.backends.device_arrays import DeviceArray, numpy_dtype
from workbench.errors import BackendError
from workbench.types import Shape

_NON_BLOCKING, _THREAD_LOCAL = 1, 1  # CU_STREAM_NON_BLOCKING, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
_ALIGNMENT = 256


@cache
def the_gpu() -> Gpu:
    """The first GPU that this process sees (CUDA_VISIBLE_DEVICES). Raises BackendError without PyCUDA or a GPU."""
    return Gpu()


class Gpu:
    """One GPU; `with gpu:` makes its primary context current in this thread, and may be nested."""

    def __init__(self) -> None:
        try:
            import pycuda.driver as driver
            from pycuda.tools import DeviceMemoryPool, PageLockedMemoryPool

            driver.init()
            self.driver: Any = driver
            self._context = driver.Device(0).retain_primary_context()
        except (ImportError, OSError) as error:
            raise BackendError(f"PyCUDA cannot be loaded: {error}. Install it with: make gpu") from error
        except driver.Error as error:
            raise BackendError(f"the GPU cannot be used: {error}") from error
        self._lock = threading.Lock()
        with self:
            self._device_pool, self._host_pool = DeviceMemoryPool(), PageLockedMemoryPool()
        atexit.register(self._leave)

    def __enter__(self) -> Gpu:
        self._context.push()
        return self

    def __exit__(self, *error: object) -> None:
        self.driver.Context.pop()

    def _leave(self) -> None:
        """Memory that is held for later goes back while the driver still works."""
        with self:
            self._host_pool.stop_holding()
            self._device_pool.stop_holding()

    def stream(self) -> Any:
        """A stream that does not wait for the default one."""
        return self.driver.Stream(_NON_BLOCKING)

    def used_bytes(self) -> int:
        """What programs hold of its memory now; what this one holds for later goes back first."""
        with self, self._lock:
            self._device_pool.free_held()
            free, total = self.driver.mem_get_info()
        return int(total - free)

    def device_memory(self, size: int, purpose: str) -> DeviceMemory:
        """Device memory of at least `size` bytes; it goes back to a pool when forgotten.

        Raises BackendError that tells what was wanted, what is free and who holds the rest.
        """
        try:
            with self._lock:
                return DeviceMemory(self, self._device_pool.allocate(max(size, _ALIGNMENT)))
        except (self.driver.MemoryError, self.driver.LogicError) as error:
            raise self.out_of_memory(size, purpose) from error

    def host_array(self, shape: Shape, dtype: np.dtype[Any]) -> np.ndarray:
        """Page-locked host memory as an array; it goes back to a pool when forgotten."""
        size = math.prod(shape) * dtype.itemsize
        try:
            with self._lock:
                block = self._host_pool.allocate((max(size, 1),), np.uint8)
        except self.driver.Error as error:
            raise BackendError(f"{size:,} bytes of page-locked host memory were not to be had: {error}") from error
        return np.ndarray(shape, dtype, block)

    def to_host(self, array: DeviceArray) -> np.ndarray:
        with self:
            host = np.empty(array.shape, numpy_dtype(array.dtype))
            if host.nbytes:
                self.driver.memcpy_dtoh(host, array.pointer)
            return host

    def out_of_memory(self, wanted: int | None, purpose: str) -> BackendError:
        """The error for memory that could not be had; `wanted` in bytes, None where nobody told."""
        free, total = self.driver.mem_get_info()
        need = f"{wanted / 2**20:,.0f} MiB were wanted" if wanted else "more was wanted than there is"
        holders = gpu_processes() or "no other process is shown"
        return BackendError(
            f"the GPU's memory ran out for {purpose}: {need}, {free / 2**20:,.0f} of {total / 2**20:,.0f} MiB are "
            f"free; {holders}. Close what you do not need (a notebook's kernel holds its memory until it is "
            "restarted), or build with smaller max shapes."
        )


class DeviceMemory:
    """A block of a pool; int() gives its address. It goes back while the GPU's context is current, which pools need."""

    def __init__(self, gpu: Gpu, block: Any) -> None:
        self._gpu, self._block = gpu, block

    def __int__(self) -> int:
        return int(self._block)

    def __del__(self) -> None:
        with self._gpu:
            del self._block


def gpu_processes() -> str:
    """Who holds memory on the GPUs, as nvidia-smi tells: 'python (1234) holds 512 MiB'; '' where it tells nothing."""
    query = ["nvidia-smi", "--query-compute-apps=process_name,pid,used_memory", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    rows = (line.rsplit(",", 2) for line in answer.splitlines() if line.count(",") >= 2)
    return ", ".join(f"{name.strip()} ({pid.strip()}) holds {memory.strip()}" for name, pid, memory in rows)


@cache
def _library() -> Any:
    library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    handle, out = ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
    library.cuStreamBeginCapture_v2.argtypes = [handle, ctypes.c_int]
    library.cuStreamEndCapture.argtypes = [handle, out]
    library.cuGraphInstantiateWithFlags.argtypes = [out, handle, ctypes.c_ulonglong]
    library.cuGraphLaunch.argtypes = [handle, handle]
    library.cuGraphExecDestroy.argtypes = library.cuGraphDestroy.argtypes = [handle]
    library.cuStreamSynchronize.argtypes = [handle]
    return library


def _checked(status: int, doing: str) -> None:
    if status:
        raise BackendError(f"the CUDA driver refuses {doing} (error {status}).")


def wait_for_stream(handle: int) -> None:
    """Wait until the work in another library's stream is done; 0 is the default stream."""
    _checked(_library().cuStreamSynchronize(handle), "to wait for a stream")


class CudaGraph:
    """What `enqueue` puts into the stream, captured once; `replay` does it again with one launch.

    Raises BackendError where it cannot be captured. Call within `with gpu:`.
    """

    def __init__(self, stream: Any, enqueue: Callable[[], None]) -> None:
        self._library, self._stream = _library(), ctypes.c_void_p(stream.handle)
        graph, self._graph = ctypes.c_void_p(), ctypes.c_void_p()
        _checked(self._library.cuStreamBeginCapture_v2(self._stream, _THREAD_LOCAL), "to capture a CUDA graph")
        try:
            enqueue()
        finally:
            status = self._library.cuStreamEndCapture(self._stream, ctypes.byref(graph))
        _checked(status, "to capture a CUDA graph")
        try:
            made = self._library.cuGraphInstantiateWithFlags(ctypes.byref(self._graph), graph, 0)
            _checked(made, "to make a CUDA graph")
        finally:
            self._library.cuGraphDestroy(graph)

    def replay(self) -> None:
        _checked(self._library.cuGraphLaunch(self._graph, self._stream), "to launch a CUDA graph")

    def close(self) -> None:
        self._library.cuGraphExecDestroy(self._graph)
