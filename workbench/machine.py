"""What this machine is: processor, NVIDIA GPUs and their driver, read without any CUDA package."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR


@dataclass(frozen=True)
class Gpu:
    """`compute_capability` is written as NVIDIA does: '8.9'."""

    name: str
    compute_capability: str
    memory_bytes: int


@dataclass(frozen=True)
class Machine:
    """cuda_version: what the NVIDIA driver supports, such as '13.0'; None without a driver. python: '3.11.7'."""

    cpu: str
    cores: int
    system: str
    python: str
    gpus: tuple[Gpu, ...]
    cuda_version: str | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        gpus = ", ".join(gpu.name for gpu in self.gpus) or "no NVIDIA GPU"
        return f"{self.cpu}, {self.cores} cores, {gpus}, {self.system}, Python {self.python}"


def machine_from_json(data: Mapping[str, Any]) -> Machine:
    """The inverse of Machine.to_json."""
    return Machine(**{**data, "gpus": tuple(Gpu(**gpu) for gpu in data["gpus"])})


@cache
def this_machine() -> Machine:
    gpus, cuda_version = _gpus()
    return Machine(
        cpu=_cpu_name(),
        cores=usable_cores(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        gpus=gpus,
        cuda_version=cuda_version,
    )


def usable_cores() -> int:
    """The processors this process may use, which in a container is fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")  # '200000 100000': 2 processors' worth of time; 'max 100000': no limit
    limit, _, period = quota.read_text().partition(" ") if quota.exists() else ("max", "", "")
    return min(cores, max(1, round(int(limit) / int(period)))) if limit.isdigit() else cores


@cache
def cpu_features() -> tuple[str, ...]:
    """The instruction sets of this processor, sorted; empty where the system does not tell."""
    return tuple(sorted(_cpuinfo().get("flags", _cpuinfo().get("Features", "")).split()))


@cache
def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text().split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _cpu_name() -> str:
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def gpu_uuid(index: int) -> str:
    """Of the GPU that CUDA calls `index` in this process, as NVIDIA's tools write it: 'GPU-5f0c...', of a part of one
    'MIG-...'. '' where the driver does not tell."""
    cuda = _library()
    return _uuid(cuda, index) if cuda is not None and cuda.cuInit(0) == 0 else ""


def _library() -> ctypes.CDLL | None:
    """NVIDIA's driver library; it comes with the driver, so without it there is no usable GPU."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def _gpus() -> tuple[tuple[Gpu, ...], str | None]:
    cuda = _library()
    if cuda is None:
        return (), None
    version, count = ctypes.c_int(), ctypes.c_int()
    if cuda.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return (), None
    cuda_version = f"{version.value // 1000}.{version.value % 1000 // 10}"
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return (), cuda_version
    return tuple(_gpu(cuda, index) for index in range(count.value)), cuda_version


def _gpu(cuda: ctypes.CDLL, index: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(128), ctypes.c_size_t()
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    return Gpu(name.value.decode(errors="replace"), f"{major.value}.{minor.value}", memory.value)


def _uuid(cuda: Any, index: int) -> str:
    """cuda: the driver library. Only its newer function tells a part of a GPU from the whole (CUDA Driver API, 'Device
    Management')."""
    device = ctypes.c_int()
    if cuda.cuDeviceGet(ctypes.byref(device), index) != 0:
        return ""
    whole, found = (_octets(cuda, name, device) for name in ("cuDeviceGetUuid", "cuDeviceGetUuid_v2"))
    octets = found or whole
    if not octets:
        return ""
    return f"{'MIG' if whole and octets != whole else 'GPU'}-{uuid.UUID(bytes=octets)}"


def _octets(cuda: Any, function: str, device: ctypes.c_int) -> bytes:
    """16 of them; none where this driver lacks the function, or it fails."""
    octets, call = (ctypes.c_ubyte * 16)(), getattr(cuda, function, None)
    return bytes(octets) if call is not None and call(ctypes.byref(octets), device) == 0 else b""
