"""Open engines, which sessions in one process share: each plan is deserialized once."""

from __future__ import annotations

import mmap
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from workbench.backends.cuda import Gpu, the_gpu
from workbench.backends.nvidia_log import LogKeeper, logger_for
from workbench.backends.nvidia_words import dtype_name, is_out_of_memory, plain, wanted_bytes
from workbench.backends.plan_record import PlanRecord
from workbench.errors import BackendError
from workbench.types import ignore


@dataclass(eq=False)
class OpenEngine:
    """A deserialized ICudaEngine of `trt`, closed when the last session forgets it.

    types: dtype of every input and output by name, as the engine has it; on_host: those whose content the engine reads
    or writes on the host, because sizes are computed from it. errors: what TensorRT complained about.
    """

    trt: ModuleType
    engine: Any
    runtime: Any
    errors: LogKeeper

    def __post_init__(self) -> None:
        engine, location = self.engine, self.trt.TensorLocation
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self.types = {name: dtype_name(engine.get_tensor_dtype(name)) for name in names}
        self.on_host = frozenset(name for name in names if engine.get_tensor_location(name) == location.HOST)

    def failure(self, gpu: Gpu, doing: str) -> BackendError:
        """TensorRT's last error, told as lack of memory where it is that."""
        return _failure(gpu, self.errors, doing, None)

    def refit(self, weights: Mapping[str, np.ndarray]) -> None:
        """Raises BackendError for an engine with fixed weights, names it does not have, and weights that do not fit."""
        if not self.engine.refittable:
            raise BackendError("the engine's weights are fixed: build it with BuilderOptions(refittable=True).")
        refitter = self.trt.Refitter(self.engine, logger_for(self.trt, self.errors))
        known = refitter.get_all_weights()
        for name, array in weights.items():
            if name not in known:
                raise BackendError(f"the engine has no weights called {name}; it has {', '.join(known[:5])} and more.")
            if not refitter.set_named_weights(name, self.trt.Weights(np.ascontiguousarray(array))):
                raise BackendError(f"the weights {name} do not fit: {self._reason()}.")
        missing = refitter.get_missing_weights()
        if missing:
            raise BackendError(f"with these, {', '.join(missing[:5])} must be given as well.")
        if not refitter.refit_cuda_engine():
            raise BackendError(f"the weights cannot be exchanged: {self._reason()}.")

    def _reason(self) -> str:
        return plain(self.errors.errors[-1]) if self.errors.errors else "TensorRT gives no reason"


_open: weakref.WeakValueDictionary[tuple[str | int, ...], OpenEngine] = weakref.WeakValueDictionary()
_opening = threading.Lock()
_logs: dict[str, LogKeeper] = {}
"""One for each library, as each has one logger: an error is told by whoever meets it, once."""


def deserialize(trt: ModuleType, plan: Path, record: PlanRecord) -> OpenEngine:
    """The engine of a plan: the one that another session has open, else deserialized now.

    Raises BackendError when TensorRT does not take the plan or memory runs out.
    """
    status = plan.stat()
    key = (trt.__name__, str(plan), status.st_ino, status.st_mtime_ns, status.st_size)
    with _opening, the_gpu() as gpu:
        opened = _open.get(key)
        if opened is None:
            log = _logs.setdefault(trt.__name__, LogKeeper(ignore))
            logger = logger_for(trt, log)
            trt.init_libnvinfer_plugins(logger, "")
            runtime = trt.Runtime(logger)
            if record.version_compatible:
                runtime.engine_host_code_allowed = True  # such a plan brings a small runtime along
            with plan.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                engine = runtime.deserialize_cuda_engine(content)
            if engine is None:
                raise _failure(gpu, log, f"TensorRT does not take the plan {plan}", status.st_size)
            opened = OpenEngine(trt, engine, runtime, log)
            if not record.refittable:  # its weights may become others than the plan's
                _open[key] = opened
        return opened


def _failure(gpu: Gpu, log: LogKeeper, doing: str, size: int | None) -> BackendError:
    """size: bytes that were wanted, if the log does not tell."""
    text = log.errors[-1] if log.errors else "TensorRT gives no reason"
    log.errors.clear()
    if is_out_of_memory(text):
        return gpu.out_of_memory(wanted_bytes(text) or size, doing)
    return BackendError(f"{doing}: {plain(text)}.")
