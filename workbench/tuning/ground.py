"""Ground: what a worker tells of itself, by which trials are given out and kept apart."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.backends import available
from workbench.machine import Machine, gpu_uuid, this_machine
from workbench.runs.records import machine_id
from workbench.types import Support


@dataclass(frozen=True)
class Ground:
    """host: its name. gpu: `gpu_identity` of the GPU that trials on this worker run on, '' without one. supports: of
    every back end, by name. machine: processor, GPUs, system.

    Trials are compared within a `column` only: on the same processor, or on GPUs of the same model with one TensorRT.
    """

    host: str
    gpu: str
    machine: Machine
    supports: Mapping[str, Support]

    @property
    def column(self) -> str:
        """What results of this worker stand under: 'NVIDIA H200, TensorRT 10.3', or the processor."""
        if not self.gpu:
            return f"{self.machine.cpu}, {self.machine.cores} cores"
        nvidia = self.supports.get("tensorrt")
        release = nvidia.release if nvidia is not None and nvidia.can_run else None
        return self.machine.gpus[0].name + (f", TensorRT {release}" if release else "")

    @property
    def seat(self) -> str:
        """What one trial at a time may use: a GPU, or else the whole host."""
        return f"{self.host}/{self.gpu}" if self.gpu else self.host

    def place(self, backend: str) -> str:
        """Equal where a candidate of this back end is measured alike: on the same kind of machine, with one release."""
        return f"{self.machine_id} {self.supports[backend].release if backend in self.supports else ''}"

    @property
    def machine_id(self) -> str:
        return machine_id(self.machine)


def this_ground() -> Ground:
    """Of this process. It uses the first GPU that CUDA_VISIBLE_DEVICES leaves it, as CUDA itself does."""
    machine = this_machine()
    return Ground(socket.gethostname(), gpu_identity(0) if machine.gpus else "", machine, available())


def gpu_identity(index: int) -> str:
    """Of the GPU that CUDA calls `index` in this process: 'GPU-5f0c...', equal in every process, however GPUs are
    numbered there; its name in CUDA_VISIBLE_DEVICES or its number where no library of the driver tells."""
    return gpu_uuid(index) or nvml_uuid(_named(index)) or _named(index)


def _named(index: int) -> str:
    given = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return given[index] if index < len(given) and given[index] else str(index)


def nvml_uuid(name: str) -> str:
    """Of a GPU by its number in the driver's order, which is CUDA's only where all GPUs are alike; '' for other names,
    and where the driver does not tell."""
    if not name.isdigit():
        return ""
    try:
        import pynvml

        pynvml.nvmlInit()
        found = pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(int(name)))
        return found.decode() if isinstance(found, bytes) else str(found)
    except Exception:  # any failure of the driver's library: the number must do
        return ""
