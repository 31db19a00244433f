"""The log of NVIDIA's libraries: one logger for a process, what a build keeps of it, and progress read from it."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

from workbench.types import Listener, LogLine, Progress

_SEVERITIES = {"INTERNAL_ERROR": "error", "ERROR": "error", "WARNING": "warning", "INFO": "info", "VERBOSE": "verbose"}
_NO_GPU = "catchCudaError"
"""A machine without a GPU logs it as an error after every other error."""
_loggers: dict[str, Any] = {}


def logger_for(trt: ModuleType, listener: Listener) -> Any:
    """TensorRT's logger, its lines going to this listener from now on.

    The library keeps the first logger it is given for the life of the process and ignores every other, so there is
    one for each module, never freed.
    """

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        listener: Listener

        def log(self, severity: Any, text: str) -> None:
            self.listener(LogLine("verbose" if _NO_GPU in text else _SEVERITIES[severity.name], text))

    if trt.__name__ not in _loggers:
        _loggers[trt.__name__] = Logger()
    _loggers[trt.__name__].listener = listener
    return _loggers[trt.__name__]


class LogKeeper:
    """Passes lines on and keeps what the end of the build is made of: errors and layer records."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.errors: list[str] = []
        self.layer_records: list[str] = []

    def __call__(self, event: Progress | LogLine) -> None:
        if isinstance(event, LogLine):
            if event.severity == "error":
                self.errors.append(event.text)
            elif event.text.startswith("Layers:\n"):
                self.layer_records.append(event.text)
        self.listener(event)


OPTIMIZING, TIMING, ENGINE, PROFILES = (
    "Optimizing the graph", "Timing kernels, layer by layer", "Generating the engine", "Optimization profiles",
)  # fmt: skip
_STARTS = ((r"Original: \d+ layers", OPTIMIZING), (r"Building graph using backend", TIMING))
_STEPS = ((r"After .*: \d+ layers", OPTIMIZING), (r"=+ Computing costs for", TIMING))
_ENDS = (
    (r"Graph optimization time", OPTIMIZING),
    (r"Formats and tactics selection completed", TIMING),
    (r"Engine generation completed", ENGINE),
)
_PROFILE = re.compile(r"Constructing optimization profile number \d+ \[(\d+)/(\d+)\]")


class LogPhases:
    """Passes lines on and tells the phases that they show. Only profiles have a total: nothing else is known before.

    The lines are those of TensorRT 8.6, recorded in data/recorded/tensorrt-8.6.0-h200/resnet18_fp32.build.log.xz.
    """

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.done: dict[str, int] = {}
        self.profiles = 1

    def __call__(self, event: Progress | LogLine) -> None:
        self.listener(event)
        if isinstance(event, LogLine):
            self._read(event.text)

    def _read(self, text: str) -> None:
        if profile := _PROFILE.match(text):
            self.profiles = int(profile[2])
            self.listener(Progress(PROFILES, int(profile[1]) - 1, self.profiles))
        for pattern, phase in _STARTS:
            if re.match(pattern, text):
                self._start(phase)
        for pattern, phase in _STEPS:
            if phase in self.done and re.match(pattern, text):
                self.done[phase] += 1
                self.listener(Progress(phase, self.done[phase], None, self._parent(phase)))
        for pattern, phase in _ENDS:
            if phase in self.done and re.match(pattern, text):
                self._end(phase)

    def _start(self, phase: str) -> None:
        self.done[phase] = 0
        self.listener(Progress(phase, 0, None, self._parent(phase)))

    def _end(self, phase: str) -> None:
        done = max(self.done.pop(phase), 1)
        self.listener(Progress(phase, done, done, self._parent(phase)))
        if phase == TIMING:
            self._start(ENGINE)
        elif phase == ENGINE:
            self.listener(Progress(PROFILES, self.profiles, self.profiles))

    def _parent(self, phase: str) -> str | None:
        return PROFILES if phase in (TIMING, ENGINE) else None
