"""What memory an open engine takes: on the GPU, or else in this process."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from dataclasses import dataclass

import psutil

from workbench.backends import NETWORK_NAMES
from workbench.errors import BackendError


@dataclass(frozen=True)
class Reading:
    """Bytes in use at one moment. whole: of the GPU by all programs, or of this process where none is used. own: of the
    GPU by this process alone, as NVML tells; None where it does not, as in most containers and on Windows."""

    whole: int
    own: int | None = None

    def since(self, before: Reading) -> int:
        """What was taken meanwhile: by this process alone, where NVML saw it grow; else by whoever took it. (In a
        container NVML may have the number of this process for another one, which does not grow with it.)"""
        if self.own is not None and before.own is not None and self.own > before.own:
            return self.own - before.own
        return max(0, self.whole - before.whole)


def memory_now(backend: str, gpu: str) -> Reading:
    """gpu: of the ground on which it runs."""
    if backend in NETWORK_NAMES:
        with contextlib.suppress(BackendError):
            from workbench.backends.cuda import the_gpu

            whole = the_gpu().used_bytes()  # what is held for later goes back first
            return Reading(whole, _own_bytes(gpu))
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed goes back, or a reading tells of it
    return Reading(int(psutil.Process().memory_info().rss))


def _own_bytes(gpu: str) -> int | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        found = pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByUUID(gpu))
        return {item.pid: item.usedGpuMemory for item in found}.get(os.getpid())
    except Exception:  # any failure of the driver's library: the whole device must do
        return None
