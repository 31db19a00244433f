"""A child process that tells how its work goes: lines come out as events, and our end of its input is its lifeline.

Back ends build in one (`build_process`), and other frameworks' converters run in one.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.errors import Cancelled
from workbench.types import Listener, LogLine, Progress

_POLL_S = 0.1
_TAIL = 6
_KILLED = -9  # SIGKILL, which Windows does not know
_STOPPED: dict[int, str] = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "SIGINT"}
_WINDOWS_CRASHES = {0xC0000005: "access violation", 0xC0000409: "stack overrun", 0xC00000FD: "stack overflow"}
_FRAME = re.compile(r"^\S*(?:: )?--- (Begin|End) ")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_ONNXRUNTIME_LINE = re.compile(r"^\S+ \S+ \[([VIWEF]):onnxruntime:[^\]]*\] (.*)$")
_ONNXRUNTIME_SEVERITY = {"V": "verbose", "I": "info", "W": "warning", "E": "error", "F": "error"}

Decode = Callable[[bytes], list[Any]]
"""A line of a child's output -> events: Progress, LogLine, or the answer as a dict."""


@dataclass(frozen=True)
class Ended:
    """How a child ended. answer: what it said last, None if it died without one. status: as subprocess gives it."""

    answer: dict[str, Any] | None
    log: list[LogLine]
    status: int

    @property
    def killed(self) -> bool:
        """By the system, most likely because memory ran out."""
        return self.status == _KILLED

    @property
    def stopped_by(self) -> str | None:
        """The name of the signal by which somebody stopped it."""
        return _STOPPED.get(-self.status)

    @property
    def crash(self) -> str | None:
        """The name of the signal by which it died inside native code."""
        if self.killed or self.stopped_by or (self.status >= 0 and self.status not in _WINDOWS_CRASHES):
            return None
        known = {-number: number.name for number in signal.Signals}
        return known.get(self.status) or _WINDOWS_CRASHES.get(self.status) or f"signal {-self.status}"

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines that say something: errors and warnings if there are any, else the last ones."""
        telling = [line for line in self.log if line.text.strip() and not _FRAME.match(line.text)]
        loud = [line for line in telling if line.severity in ("error", "warning")]
        lines = loud or [line for line in telling if line.severity == "info"] or telling
        return tuple(deque((line.text[:400] for line in lines), maxlen=_TAIL))


def answer_line(raw: bytes) -> list[Any]:
    """A line of JSON: a step, lines of the log (a message may hold many), or the answer."""
    data = json.loads(raw)
    if data["event"] == "progress":
        return [Progress(data["phase"], data["done"], data["total"], data["parent"])]
    if data["event"] == "log":
        return [LogLine(data["severity"], text) for text in data["text"].splitlines()]
    return [data]


def text_line(raw: bytes) -> list[LogLine]:
    """Native libraries write where Python does not listen; ONNX Runtime's lines carry a severity."""
    text = _ANSI.sub("", raw.decode(errors="replace").rstrip())
    match = _ONNXRUNTIME_LINE.match(text)
    return [LogLine(_ONNXRUNTIME_SEVERITY[match[1]], match[2]) if match else LogLine("warning", text)]


def run_process(
    command: Sequence[str | Path],
    listener: Listener,
    cancel: threading.Event,
    *,
    request: Mapping[str, Any] | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    starting: str = "Starting",
    decode: Decode = answer_line,
    decode_stderr: Decode = text_line,
) -> Ended:
    """Run a command that reads `request` as one line of JSON and answers in lines; it never outlives this call.

    listener: called in this thread; the phase `starting` lasts until the first line. environment: added to ours.
    Raises Cancelled within a second after `cancel` is set; the child and all it started are gone then.
    """
    process = _start(command, request, cwd, environment or {})
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    readers = [
        threading.Thread(target=_read, args=(process.stdout, decode, events), daemon=True),
        threading.Thread(target=_read, args=(process.stderr, decode_stderr, events), daemon=True),
    ]
    for reader in readers:
        reader.start()
    log: list[LogLine] = []
    answer: dict[str, Any] | None = None
    open_streams = len(readers)
    started = False
    try:
        listener(Progress(starting, 0, None))
        while open_streams:
            if cancel.is_set():
                raise Cancelled("cancelled; nothing was left behind.")
            try:
                event = events.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if not started:
                started = True
                listener(Progress(starting, 1, 1))
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
    return Ended(answer, log, process.returncode)


def _start(
    command: Sequence[str | Path], request: Mapping[str, Any] | None, cwd: Path | None, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        start_new_session=True,
    )
    assert process.stdin is not None
    if request is not None:
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


def event_to_json(event: Progress | LogLine) -> dict[str, Any]:
    """What `_child` writes for an event."""
    return {"event": "progress" if isinstance(event, Progress) else "log", **asdict(event)}
