"""Paddle itself as a session: its own predictor, in an environment and a process of its own, timed over there.

How fast was it before, and how accurate? A Paddle model runs beside engines in tables and comparisons:

    study({"Paddle": paddle_session("inference/"), "FP16": built.engine}, {"x": pictures})
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workbench.backends import check_feeds
from workbench.errors import BackendError, Cancelled
from workbench.export.calling import short
from workbench.export.environments import ensure
from workbench.export.from_paddle import PaddleModel, find_paddle_model
from workbench.machine import usable_cores
from workbench.model import Model
from workbench.process import Ended, temporary_variables, text_line
from workbench.types import Feeds, Listener, LogLine, Progress, TensorSpec, ignore

_RUNNER = Path(__file__).parent / "converters" / "paddle_runner.py"
_POLL_S = 0.1
_FAREWELL_S = 1.0
_LINES_KEPT = 200
_REST = {"KMP_BLOCKTIME": "1"}
"""Milliseconds for which Intel's threads wait for more work at full speed. With its default, 200, whatever runs in
turns with Paddle shares the processors with them."""


def paddle_session(
    source: str | Path,
    *,
    model: Model | None = None,
    threads: int | None = None,
    make_environment: bool = False,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> PaddleSession:
    """Open a saved Paddle model, of release 2 or 3, in a Paddle of its time.

    source: as `export_paddle` takes it. model: its export, whose inputs and outputs the session's are then; feeds are
    checked against them. threads: processors that a run may use, all if not given. make_environment: the user's yes to
    making Paddle's environment where it is not there yet.
    Raises ExportError and ConfigError as `export_paddle` does, BackendError where Paddle cannot load it, Cancelled.
    """
    cancel = cancel or threading.Event()
    found = find_paddle_model(source)
    made = ensure(found.environment, yes=make_environment, listener=listener, cancel=cancel)
    title = made.environment.title
    process = _Process([str(made.python), "-I", "-u", str(_RUNNER)], f"{found.program}: {title}")
    starting = f"Starting {title}"
    listener(Progress(starting, 0, None))
    try:
        session = PaddleSession(found, process, model, threads or usable_cores(), cancel)
    except BaseException:
        process.close()
        raise
    listener(Progress(starting, 1, 1))
    return session


class PaddleSession:
    """An open Paddle model: a Session, as those of the back ends. Its process ends with it, or with ours.

    inputs, outputs: those of the export; empty without one. device: 'cpu', or 'gpu' where this Paddle was built for
    one. precision: '', as a saved model tells none.
    """

    precision = ""
    clock = "perf_counter in Paddle's process around copy in, run and copy out, arrays on the host in and out"

    def __init__(
        self, source: PaddleModel, process: _Process, model: Model | None, threads: int, cancel: threading.Event
    ) -> None:
        self.inputs: tuple[TensorSpec, ...] = model.inputs if model else ()
        self.outputs: tuple[TensorSpec, ...] = model.outputs if model else ()
        self._process, self._has_run = process, False
        files = {"model": str(source.program), "params": str(source.weights)}
        about, _ = process.ask({"task": "load", **files, "threads": threads}, cancel=cancel)
        self.device = about["device"]
        self.threads = threads if self.device == "cpu" else None
        self.copies = True if self.device == "gpu" else None
        self._release = {"paddle": about["release"]}
        self._onednn = about["onednn"]
        self._own_names: list[str] = about["outputs"]

    @property
    def releases(self) -> dict[str, str]:
        """With 'oneDNN': whether Paddle uses it on the processor. It does, unless the model fails there."""
        return self._release if self.device == "gpu" else {**self._release, "oneDNN": "on" if self._onednn else "off"}

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        if self.inputs:
            check_feeds(self.inputs, feeds)
        told, made = self._process.ask({"task": "run"}, feeds)
        self._onednn, self._has_run = told["onednn"], True
        return dict(zip(self._names(), made.values(), strict=True))

    def _names(self) -> list[str]:
        """Of the outputs, as the export calls them: by their place, as the converter keeps their order."""
        wanted, own = [spec.name for spec in self.outputs], self._own_names
        return own if len(wanted) != len(own) or set(wanted) == set(own) else wanted

    def times_ms(self, iterations: int) -> list[float]:
        if not self._has_run:
            raise BackendError("nothing to repeat: run the session once before timing it.")
        told, _ = self._process.ask({"task": "time", "runs": iterations})
        return list(told["times_ms"])

    def close(self) -> None:
        self._process.close()

    def __enter__(self) -> PaddleSession:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


Answer = tuple[dict[str, Any], dict[str, np.ndarray]]


class _Process:
    """The process of `converters.paddle_runner`: one question at a time, whoever asks. title: how errors begin."""

    def __init__(self, command: list[str], title: str) -> None:
        scratch = tempfile.TemporaryDirectory(prefix="workbench-", ignore_cleanup_errors=True)
        self._title, self._end = title, ""
        self._lock, self._asked = threading.Lock(), 0
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**_REST, **os.environ, **temporary_variables(scratch.name)},
            start_new_session=True,
        )
        self._answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self._log: deque[LogLine] = deque(maxlen=_LINES_KEPT)
        for target, *arguments in (
            (_read_answers, self._process.stdout, self._answers),
            (_read_log, self._process.stderr, self._log),
        ):
            threading.Thread(target=target, args=arguments, daemon=True).start()
        self.close = weakref.finalize(self, _end, self._process, scratch)

    def ask(
        self, question: Mapping[str, Any], arrays: Feeds | None = None, cancel: threading.Event | None = None
    ) -> Answer:
        """Raises BackendError for what Paddle refuses, and where its process is gone; Cancelled."""
        with self._lock:
            self._asked += 1
            try:
                self._send({"id": self._asked, **question}, arrays or {})
            except OSError as error:
                raise self._gone() from error
            while True:
                if cancel is not None and cancel.is_set():
                    raise Cancelled("cancelled; nothing was left behind.")
                try:
                    answer = self._answers.get(timeout=_POLL_S)
                except queue.Empty:
                    continue
                if answer is None:
                    self._answers.put(None)  # for whoever asks next
                    raise self._gone()
                if answer[0]["id"] == self._asked:  # else of a question that Ctrl-C interrupted
                    break
        if answer[0]["event"] == "error":
            raise BackendError(f"{self._title} does not run it: {short(answer[0]['message'] or answer[0]['kind'])}.")
        return answer

    def _send(self, question: Mapping[str, Any], arrays: Feeds) -> None:
        held = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        kinds = [[name, array.dtype.str, array.shape] for name, array in held.items()]
        stream = self._process.stdin
        assert stream is not None
        stream.write(json.dumps({**question, "arrays": kinds}).encode() + b"\n")
        for array in held.values():
            stream.write(_bytes(array))
        stream.flush()

    def _gone(self) -> BackendError:
        if not self.close.alive:
            return BackendError(self._end or f"{self._title}: the session was closed; open another one.")
        self.close()
        ended = Ended(None, list(self._log), self._process.returncode)
        said = f" The last it said: {' '.join(ended.tail[-2:])}" if ended.tail and not ended.killed else ""
        self._end = f"{self._title}: its process {ended.how()}; open another session.{said}"
        return BackendError(self._end)


def _bytes(array: Any) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))


def _read_answers(stream: Any, answers: queue.SimpleQueue[Answer | None]) -> None:
    try:
        while line := stream.readline():
            answer = json.loads(line)
            arrays = {name: np.empty(shape, dtype) for name, dtype, shape in answer["arrays"]}
            for array in arrays.values():
                stream.readinto(_bytes(array))
            answers.put((answer, arrays))
    finally:
        answers.put(None)


def _read_log(stream: Any, log: deque[LogLine]) -> None:
    for line in stream:
        log.extend(text_line(line))


def _end(process: subprocess.Popen[bytes], scratch: tempfile.TemporaryDirectory[str]) -> None:
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait(_FAREWELL_S)
    scratch.cleanup()
