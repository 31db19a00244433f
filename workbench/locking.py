"""Waiting for another process: a lock that is held while a block runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from filelock import BaseFileLock, Timeout

from workbench.errors import Cancelled
from workbench.types import Listener, LogLine, Progress

_POLL_S = 0.1


@contextlib.contextmanager
def hold(lock: BaseFileLock, waiting: str, detail: str, listener: Listener, cancel: threading.Event) -> Iterator[None]:
    """Hold the lock; if another process has it, wait for it in a phase called `waiting`.

    detail: what the line in the log adds. Raises Cancelled within a second after `cancel` is set.
    """
    told = False
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            if not told:
                told = True
                listener(Progress(waiting, 0, None))
                listener(LogLine("info", f"{waiting} ({detail})"))
            if cancel.wait(_POLL_S):
                raise Cancelled("cancelled while waiting for another process; nothing was left behind.") from None
    try:
        if told:
            listener(Progress(waiting, 1, 1))
        yield
    finally:
        lock.release()
