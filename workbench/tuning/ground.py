"""Ground: what a worker tells of itself, by which trials are given out and kept apart."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.backends import available
from workbench.machine import Machine, this_machine
from workbench.runs.records import machine_id
from workbench.types import Support


@dataclass(frozen=True)
class Ground:
    """host: its name. gpu: identity of the GPU that trials on this worker run on ('GPU-5f0c...', or its number), ''
    without one. supports: of every back end, by name. machine: processor, GPUs, system.

    Trials are compared within a `column` only: on the same processor, or on GPUs of the same model.
    """

    host: str
    gpu: str
    machine: Machine
    supports: Mapping[str, Support]

    @property
    def column(self) -> str:
        """What results of this worker stand under: 'NVIDIA H200', or the processor."""
        return self.machine.gpus[0].name if self.gpu else f"{self.machine.cpu}, {self.machine.cores} cores"

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
    return Ground(socket.gethostname(), _gpu() if machine.gpus else "", machine, available())


def _gpu() -> str:
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if not first.isdigit():
        return first or "0"
    return gpu_identity(int(first)) or first


def gpu_identity(index: int) -> str:
    """Equal for the GPU in every process, however it is numbered there; '' where the driver does not tell."""
    try:
        import pynvml

        pynvml.nvmlInit()
        found = pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index))
        return found.decode() if isinstance(found, bytes) else str(found)
    except Exception:  # any failure of the driver's library: the number must do
        return ""
