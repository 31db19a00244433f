"""One NVIDIA GPU through the driver's own library, which every machine with an NVIDIA driver has."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np

from workbench.deploy.runner.arrays import Failure

_CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_LEAST_BYTES = 256


class Gpu:
    """index: number of the GPU. Raises Failure without a driver or a GPU, and where the driver refuses a call."""

    def __init__(self, index: int) -> None:
        try:
            self._library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        except OSError as error:
            raise Failure(f"there is no NVIDIA GPU with a driver on this machine ({error}).") from error
        self._device, self._context = ctypes.c_int(), ctypes.c_void_p()
        self._blocks: dict[str, tuple[ctypes.c_void_p, int]] = {}
        self.call("cuInit", ctypes.c_uint(0))
        self.call("cuDeviceGet", ctypes.byref(self._device), ctypes.c_int(index))
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self.use()
        self.stream = self._new("cuStreamCreate", ctypes.c_uint(1))  # does not wait for the default stream

    def call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(ctypes.c_int(status), ctypes.byref(text))
            reason = (text.value or b"unknown error").decode()
            raise Failure(f"the NVIDIA driver refuses {function}: {reason} (CUDA error {status}).")

    def _new(self, function: str, *arguments: Any) -> ctypes.c_void_p:
        found = ctypes.c_void_p()
        self.call(function, ctypes.byref(found), *arguments)
        return found

    def use(self) -> None:
        """Make this GPU's context current in the calling thread."""
        self.call("cuCtxSetCurrent", self._context)

    @property
    def name(self) -> str:
        text = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", text, ctypes.c_int(256), self._device)
        return text.value.decode()

    @property
    def capability(self) -> tuple[int, int]:
        numbers = []
        for attribute in _CAPABILITY:
            value = ctypes.c_int()
            self.call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), self._device)
            numbers.append(value.value)
        return numbers[0], numbers[1]

    def memory(self, key: str, size: int) -> int:
        """The address of at least `size` bytes, kept under `key` until more is wanted or the GPU is closed."""
        if key not in self._blocks or self._blocks[key][1] < size:
            if key in self._blocks:
                self.call("cuMemFree_v2", self._blocks.pop(key)[0])
            held = max(size, _LEAST_BYTES)
            self._blocks[key] = (self._new("cuMemAlloc_v2", ctypes.c_size_t(held)), held)
        return int(self._blocks[key][0].value or 0)

    def send(self, address: int, array: Any) -> None:
        if array.nbytes:
            source, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
            self.call("cuMemcpyHtoDAsync_v2", ctypes.c_void_p(address), source, size, self.stream)

    def fetch(self, address: int, shape: tuple[int, ...], dtype: str) -> Any:
        """A new array on the host; it is complete after `wait`."""
        array = np.empty(shape, dtype)
        if array.nbytes:
            target, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
            self.call("cuMemcpyDtoHAsync_v2", target, ctypes.c_void_p(address), size, self.stream)
        return array

    def wait(self) -> None:
        self.call("cuStreamSynchronize", self.stream)

    def mark(self) -> ctypes.c_void_p:
        """An event in the stream, now."""
        event = self._new("cuEventCreate", ctypes.c_uint(0))
        self.call("cuEventRecord", event, self.stream)
        return event

    def elapsed_ms(self, start: ctypes.c_void_p, end: ctypes.c_void_p) -> float:
        """Between two marks that were waited for; they are gone afterwards."""
        ms = ctypes.c_float()
        self.call("cuEventElapsedTime", ctypes.byref(ms), start, end)
        for event in (start, end):
            self.call("cuEventDestroy_v2", event)
        return ms.value

    def close(self) -> None:
        self.use()
        for block, _ in self._blocks.values():
            self.call("cuMemFree_v2", block)
        self._blocks.clear()
        self.call("cuStreamDestroy_v2", self.stream)
        self.call("cuDevicePrimaryCtxRelease_v2", self._device)
