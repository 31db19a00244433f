"""A child process that tells how its work goes: lines come out as events, and our end of its input is its lifeline.

Back ends build in one (`build_process`), and other frameworks' converters run in one.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.errors import Cancelled
from workbench.types import Listener, LogLine, Progress

_POLL_S = 0.1
_FAREWELL_S = 0.5
_SILENCE_S, _REST_S = 3.0, 30.0
"""Of a child that is gone: how long its streams may say nothing, and for how long they are read at all."""
_LATE_S = 0.02
_TAIL = 6
_TEMPORARY = ("TMPDIR", "TEMP", "TMP")
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

    def how(self) -> str:
        """How it ended if it did not answer: goes on after 'the process'."""
        if self.killed:
            return "was killed by the system, most likely because memory ran out"
        if self.stopped_by:
            return f"was stopped ({self.stopped_by})"
        if self.crash:
            return f"crashed ({self.crash}) inside native code"
        return f"ended early (exit status {self.status})"

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
        return [LogLine(data["severity"], text) for text in data["text"].split("\n")]
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
    scratch: Path | None = None,
    starting: str = "Starting",
    decode: Decode = answer_line,
    decode_stderr: Decode = text_line,
) -> Ended:
    """Run a command that reads `request` as one line of JSON and answers in lines; it never outlives this call.

    listener: called in this thread; the phase `starting` lasts until the first line. environment: added to ours.
    scratch: where the child's temporary files go, as what is killed leaves them; one that is removed if not given.
    Raises Cancelled within a second after `cancel` is set; the child and all it started are gone then.
    """
    own = tempfile.TemporaryDirectory(prefix="workbench-", ignore_cleanup_errors=True) if scratch is None else None
    with own or contextlib.nullcontext(scratch) as folder:
        variables = {**temporary_variables(folder), **(environment or {})}
        child = Child(command, cwd=cwd, environment=variables, decode=decode, decode_stderr=decode_stderr)
        return child.follow(request, listener, cancel, starting=starting)


def temporary_variables(folder: Any) -> dict[str, str]:
    """The environment variables that send temporary files into this folder."""
    return dict.fromkeys(_TEMPORARY, str(folder))


class Child:
    """A running command and the threads that read what it says. It dies with this process, or with `close`."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        decode: Decode = answer_line,
        decode_stderr: Decode = text_line,
    ) -> None:
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            start_new_session=True,
        )
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads: dict[Any, threading.Thread] = {}
        for stream, how in ((self._process.stdout, decode), (self._process.stderr, decode_stderr)):
            self._start(stream, _read, stream, how, self._events)

    def _start(self, stream: Any, target: Callable[..., None], *arguments: Any) -> None:
        self._threads[stream] = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads[stream].start()

    def follow(
        self,
        request: Mapping[str, Any] | None,
        listener: Listener,
        cancel: threading.Event,
        *,
        starting: str,
        stays: bool = False,
    ) -> Ended:
        """Hand a request in and pass on what comes, until the child is gone; with `stays`, until it has answered.

        Then it waits for the next request, unless anything went wrong. Raises Cancelled, as `run_process` does.
        """
        words = b"" if request is None else json.dumps(request).encode() + b"\n"
        self._start(self._process.stdin, _write, self._process.stdin, words)
        log: list[LogLine] = []
        answer: dict[str, Any] | None = None
        started = False
        try:
            listener(Progress(starting, 0, None))
            for event in _events(self._process, self._events, cancel):
                if not started:
                    started = True
                    listener(Progress(starting, 1, 1))
                if isinstance(event, LogLine):
                    log.append(event)
                    listener(event)
                elif isinstance(event, Progress):
                    listener(event)
                elif event is not None:
                    answer = event
                    if stays:
                        log += self._late_lines(listener)
                        break
        finally:
            if not (stays and answer and answer["event"] == "done"):
                self.close()
        return Ended(answer, log, self._process.returncode or 0)

    def _late_lines(self, listener: Listener) -> list[LogLine]:
        """What native code has printed before the answer and comes by another stream."""
        lines = []
        with contextlib.suppress(queue.Empty):
            while True:
                event = self._events.get(timeout=_LATE_S)
                if isinstance(event, LogLine):
                    lines.append(event)
                    listener(event)
        return lines

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End it and whatever it started, also when it has ended itself already."""
        _kill(self._process)
        _close(self._threads)


def _events(process: subprocess.Popen[bytes], events: queue.SimpleQueue[Any], cancel: threading.Event) -> Iterator[Any]:
    """What comes in, with None for each of the two streams that ends, until the child is gone. Raises Cancelled."""
    open_streams, gone_s, heard_s = 2, math.inf, 0.0
    while open_streams:
        _check(cancel)
        if gone_s == math.inf and process.poll() is not None:
            gone_s = heard_s = time.monotonic()
            _kill(process)  # what it started and left behind may hold its streams open
        try:
            event = events.get(timeout=_POLL_S)
        except queue.Empty:
            # Held open by somebody who left its group; or, on a loaded machine, our threads have not read it all yet.
            if time.monotonic() - max(gone_s, heard_s) > _SILENCE_S:
                return
            continue
        if time.monotonic() - gone_s > _REST_S:
            return
        open_streams, heard_s = open_streams - (event is None), time.monotonic()
        yield event
    while process.poll() is None:
        _check(cancel)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)


def _check(cancel: threading.Event) -> None:
    if cancel.is_set():
        raise Cancelled("cancelled; nothing was left behind.")


def _write(stream: Any, words: bytes) -> None:
    """In a thread of its own: a child that does not read shall not stop us."""
    with contextlib.suppress(OSError):  # died already: told by its exit status
        stream.write(words)
        stream.flush()


def _read(stream: Any, decode: Any, events: queue.SimpleQueue[Any]) -> None:
    try:
        for line in stream:
            # Half a line of a child that was killed, or what somebody else printed there.
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                for event in decode(line):
                    events.put(event)
    finally:
        events.put(None)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started, also when it has ended itself already."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()
    process.wait()


def _close(threads: Mapping[Any, threading.Thread]) -> None:
    """The streams, but for those that somebody who left the child's group still holds."""
    end = time.monotonic() + _FAREWELL_S
    for stream, thread in threads.items():
        thread.join(max(0.0, end - time.monotonic()))
        if not thread.is_alive():
            with contextlib.suppress(OSError):
                stream.close()


def event_to_json(event: Progress | LogLine) -> dict[str, Any]:
    """What `_child` writes for an event."""
    return {"event": "progress" if isinstance(event, Progress) else "log", **asdict(event)}
