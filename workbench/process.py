"""The parent's side of the child process in which back ends build; `_child` is the other side.

One JSON request goes in, JSON lines come out, and our end of the child's standard input is its lifeline.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench import errors
from workbench.errors import BuildError, Cancelled, WorkbenchError
from workbench.model import Model
from workbench.types import Listener, LogLine, Progress

STARTING = "Starting the build process"
_POLL_S = 0.1
_TAIL = 6
_KILLED = -9  # SIGKILL, which Windows does not know
_STOPPED: dict[int, str] = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "SIGINT"}
_WINDOWS_CRASHES = {0xC0000005: "access violation", 0xC0000409: "stack overrun", 0xC00000FD: "stack overflow"}
_FRAME = re.compile(r"^\S*(?:: )?--- (Begin|End) ")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_ONNXRUNTIME_LINE = re.compile(r"^\S+ \S+ \[([VIWEF]):onnxruntime:[^\]]*\] (.*)$")
_ONNXRUNTIME_SEVERITY = {"V": "verbose", "I": "info", "W": "warning", "E": "error", "F": "error"}


def run_child(
    model: Model, backend: str, task: dict[str, Any], folder: Path, listener: Listener, cancel: threading.Event
) -> tuple[dict[str, Any], list[LogLine]]:
    """Returns what the child answers and the whole log. The child never outlives this call."""
    (folder / "out").mkdir()
    (folder / "model.onnx").write_bytes(model.to_bytes())
    request = {**task, "backend": backend, "folder": str(folder), "model_path": str(model.path)}
    process = _start(request)
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    readers = [
        threading.Thread(target=_read, args=(process.stdout, _answer_line, events), daemon=True),
        threading.Thread(target=_read, args=(process.stderr, _stderr_line, events), daemon=True),
    ]
    for reader in readers:
        reader.start()
    log: list[LogLine] = []
    answer: dict[str, Any] | None = None
    open_streams = len(readers)
    started = False
    try:
        listener(Progress(STARTING, 0, None))
        while open_streams:
            if cancel.is_set():
                raise Cancelled("cancelled; nothing was left behind.")
            try:
                event = events.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if not started:
                started = True
                listener(Progress(STARTING, 1, 1))
            if event is None:
                open_streams -= 1
            elif isinstance(event, LogLine):
                log.append(event)
                listener(event)
            elif isinstance(event, Progress):
                listener(event)
            else:
                answer = event
        process.wait()
    finally:
        _kill(process)
        for reader in readers:
            reader.join()
        _close(process)
    if answer is None:
        raise _crash(process.returncode, model, log)
    if answer["event"] == "error":
        raise _error(answer, log)
    return answer, log


def _start(request: dict[str, Any]) -> subprocess.Popen[bytes]:
    package = Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench._child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=package.parent,  # so that nothing in the user's folder is imported by accident
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # died already: told by its exit status
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
    return process


def _read(stream: Any, decode: Any, events: queue.SimpleQueue[Any]) -> None:
    for line in stream:
        with contextlib.suppress(ValueError):  # half a line of a child that was killed
            for event in decode(line):
                events.put(event)
    events.put(None)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started."""
    if process.poll() is None:
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def _answer_line(raw: bytes) -> list[Any]:
    """A line of JSON: a step, lines of the log (a message may hold many), or the answer."""
    data = json.loads(raw)
    if data["event"] == "progress":
        return [Progress(data["phase"], data["done"], data["total"], data["parent"])]
    if data["event"] == "log":
        return [LogLine(data["severity"], text) for text in data["text"].splitlines()]
    return [data]


def _stderr_line(raw: bytes) -> list[LogLine]:
    """Native libraries write where Python does not listen; ONNX Runtime's lines carry a severity."""
    text = _ANSI.sub("", raw.decode(errors="replace").rstrip())
    match = _ONNXRUNTIME_LINE.match(text)
    return [LogLine(_ONNXRUNTIME_SEVERITY[match[1]], match[2]) if match else LogLine("warning", text)]


def _tail(log: list[LogLine]) -> tuple[str, ...]:
    """The last lines that say something: errors and warnings if there are any, else the last ones."""
    telling = [line for line in log if line.text.strip() and not _FRAME.match(line.text)]
    loud = [line for line in telling if line.severity in ("error", "warning")]
    lines = loud or [line for line in telling if line.severity == "info"] or telling
    return tuple(deque((line.text[:400] for line in lines), maxlen=_TAIL))


def _error(answer: dict[str, Any], log: list[LogLine]) -> WorkbenchError:
    if answer["kind"] != "BuildError":
        kind: type[WorkbenchError] = getattr(errors, answer["kind"])
        return kind(answer["message"])
    return BuildError(answer["message"], node=answer["node"], remedy=answer["remedy"], log_tail=_tail(log))


def _crash(status: int, model: Model, log: list[LogLine]) -> BuildError:
    """The child died without an answer: say how, and if it crashed, at which node the log ends."""
    node = None
    if status == _KILLED:
        reason = "the build process was killed by the system, most likely because memory ran out"
        remedy = "Close other programs, or give smaller max shapes."
    elif -status in _STOPPED:
        reason, remedy = f"the build process was stopped ({_STOPPED[-status]})", "Build again."
    elif status < 0 or status in _WINDOWS_CRASHES:
        known = {-number: number.name for number in signal.Signals}
        name = known.get(status) or _WINDOWS_CRASHES.get(status) or f"signal {-status}"
        reason = f"the back end crashed ({name}) inside its native code"
        remedy = "Try another precision or back end, and report the model to NVIDIA with the line that repeats it."
        node = _last_node(model, log)
    else:
        reason, remedy = f"the build process ended early (exit status {status})", "The last log lines say more."
    return BuildError(reason, node=node, remedy=remedy, log_tail=_tail(log))


def _last_node(model: Model, log: list[LogLine]) -> str | None:
    """The node that the end of the log speaks of."""
    words = {word: index for index, line in enumerate(log[-50:]) for word in re.findall(r"[^\s\[\]{}'\",]+", line.text)}
    named = [node.name for node in model.nodes if node.name in words]
    return max(named, key=lambda name: words[name], default=None)


def event_to_json(event: Progress | LogLine) -> dict[str, Any]:
    """What `_child` writes for an event."""
    return {"event": "progress" if isinstance(event, Progress) else "log", **asdict(event)}
