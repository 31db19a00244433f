"""Objects that NVIDIA's libraries call back: progress of a build, memory for outputs, times of layers."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from workbench.types import Listener, Progress


def progress_monitor(trt: ModuleType, listener: Listener) -> Any:
    """Builder phases as Progress. Cancelling is not its business: the parent process ends the child."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases: dict[str, tuple[str | None, int]] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.phases[phase] = (parent, steps)
            listener(Progress(phase, 0, steps, parent))

        def step_complete(self, phase: str, step: int) -> bool:
            parent, steps = self.phases[phase]
            listener(Progress(phase, min(step + 1, steps), steps, parent))
            return True

        def phase_finish(self, phase: str) -> None:
            parent, steps = self.phases[phase]
            listener(Progress(phase, steps, steps, parent))

    return Monitor()


def output_allocator(trt: ModuleType, allocate: Callable[[int], Any]) -> Any:
    """Memory for an output whose size only a run tells; `shape` and `address` tell it afterwards.

    Errors must not cross into TensorRT: `error` keeps what `allocate` raised, and the run fails.
    """

    class Allocator(trt.IOutputAllocator):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.memory: Any = None
            self.held = 0
            self.shape: tuple[int, ...] = ()
            self.error: Exception | None = None

        @property
        def address(self) -> int:
            return int(self.memory)

        def reallocate_output(self, name: str, memory: int, size: int, alignment: int) -> int:
            if size > self.held or self.memory is None:
                try:
                    self.memory, self.held = allocate(size), size
                except Exception as error:  # whatever it is, it is raised when the run has failed
                    self.error = error
                    return 0
            return self.address

        def reallocate_output_async(self, name: str, memory: int, size: int, alignment: int, stream: int) -> int:
            return self.reallocate_output(name, memory, size, alignment)

        def notify_shape(self, name: str, shape: Any) -> None:
            self.shape = tuple(shape)

    return Allocator()


def profiler(trt: ModuleType, hear: Callable[[str, float], None]) -> Any:
    """Calls hear(layer, milliseconds) for every layer of every run."""

    class Profiler(trt.IProfiler):  # type: ignore[misc, name-defined]
        def report_layer_time(self, layer_name: str, ms: float) -> None:
            hear(layer_name, ms)

    return Profiler()
