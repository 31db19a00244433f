"""The parent's side of the child process in which back ends build; `_child` is the other side."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import backends, errors
from workbench.errors import BuildError, RunError, WorkbenchError
from workbench.model import Model
from workbench.process import Child, Ended, run_process
from workbench.types import Listener, LogLine

STARTING = "Starting the build process"
_IDLE_S = 60.0
_COMMAND = (sys.executable, "-m", "workbench._child")
_HERE = Path(__file__).parents[1]
"""Where the child starts, so that nothing in the user's folder is imported by accident."""


def run_child(
    model: Model, backend: str, task: dict[str, Any], folder: Path, listener: Listener, cancel: threading.Event
) -> tuple[dict[str, Any], list[LogLine]]:
    """Returns what the child answers and the whole log.

    The child ends with this call, unless its back end takes long to start: then it waits a minute for the next one.
    """
    (folder / "out").mkdir()
    (folder / "model.onnx").write_bytes(model.to_bytes())
    request = {**task, "backend": backend, "folder": str(folder), "model_path": str(model.path)}
    if backends.load(backend).STARTS_SLOWLY:
        ended = _run_in_waiting_child(backend, request, listener, cancel)
    else:
        ended = run_process(
            _COMMAND,
            listener,
            cancel,
            request=request,
            scratch=folder,  # goes with the whole, also if we are killed
            cwd=_HERE,
            starting=STARTING,
        )
    if ended.answer is None:
        raise _crash(ended, model)
    if ended.answer["event"] == "error":
        raise error_in(ended.answer, ended.tail)
    return ended.answer, ended.log


@dataclass(eq=False)
class _Waiting:
    """A child that has done its work. environment: that of this process when the child was started."""

    child: Child
    environment: Mapping[str, str]
    timer: threading.Timer


_waiting: dict[str, _Waiting] = {}
"""By back end: one for each is enough, as it holds memory, on the GPU too."""
_one_at_a_time = threading.Lock()


def _run_in_waiting_child(backend: str, request: dict[str, Any], listener: Listener, cancel: threading.Event) -> Ended:
    environment = dict(os.environ)
    found = _take(backend, environment)
    child = found or Child(_COMMAND, cwd=_HERE)
    request = {**request, "stays": True}
    ended = child.follow(request, listener, cancel, starting=STARTING, stays=True)
    if found and ended.answer is None and not ended.log:  # it was dying while it waited
        child = Child(_COMMAND, cwd=_HERE)
        ended = child.follow(request, listener, cancel, starting=STARTING, stays=True)
    if child.is_alive:
        _let_wait(backend, child, environment)
    return ended


def _take(backend: str, environment: Mapping[str, str]) -> Child | None:
    """The child that waits, if it was started in this environment: in another one it may see another GPU."""
    with _one_at_a_time:
        found = _waiting.pop(backend, None)
    if found is None:
        return None
    found.timer.cancel()
    if found.child.is_alive and found.environment == environment:
        return found.child
    found.child.close()
    return None


def _let_wait(backend: str, child: Child, environment: Mapping[str, str]) -> None:
    timer = threading.Timer(_IDLE_S, _dismiss, (backend, child))
    timer.daemon = True
    with _one_at_a_time:
        before, _waiting[backend] = _waiting.get(backend), _Waiting(child, environment, timer)
        timer.start()
    if before is not None:
        before.timer.cancel()
        before.child.close()


def _dismiss(backend: str, child: Child | None = None) -> None:
    """End the child that waits; or this one, if it still does."""
    with _one_at_a_time:
        found = _waiting.get(backend)
        if found is None or child not in (None, found.child):
            return
        del _waiting[backend]
    found.timer.cancel()
    found.child.close()


def dismiss_waiting() -> None:
    """End the build processes that wait for work; what they hold on a GPU is free afterwards."""
    for backend in tuple(_waiting):
        _dismiss(backend)


def error_in(answer: Mapping[str, Any], tail: tuple[str, ...]) -> WorkbenchError:
    """The error that `_child` answered with."""
    if answer["kind"] == "BuildError":
        return BuildError(answer["message"], node=answer["node"], remedy=answer["remedy"], log_tail=tail)
    if answer["kind"] == "RunError":
        return RunError(answer["message"], node=answer["node"])
    kind: type[WorkbenchError] = getattr(errors, answer["kind"])
    return kind(answer["message"])


def _crash(ended: Ended, model: Model) -> BuildError:
    """The child died without an answer: say how, and if it crashed, at which node the log ends."""
    if ended.killed:
        remedy = "Close other programs, or give smaller max shapes."
    elif ended.stopped_by:
        remedy = "Build again."
    elif ended.crash:
        remedy = "Try another precision or back end, and report the model to NVIDIA with the line that repeats it."
    else:
        remedy = "The last log lines say more."
    node = _last_node(model, ended.log) if ended.crash else None
    return BuildError(f"the build process {ended.how()}", node=node, remedy=remedy, log_tail=ended.tail)


def _last_node(model: Model, log: list[LogLine]) -> str | None:
    """The node that the end of the log speaks of."""
    words = {word: index for index, line in enumerate(log[-50:]) for word in re.findall(r"[^\s\[\]{}'\",]+", line.text)}
    named = [node.name for node in model.nodes if node.name in words]
    return max(named, key=lambda name: words[name], default=None)
