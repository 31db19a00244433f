"""Quiet: who may work on a machine while something is timed there, held by locks of the operating system.

A GPU is held by one trial at a time. Trials on GPUs of one host run side by side; a trial on the processor has the host
to itself. The locks of a process that is killed are released by the system.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from workbench.errors import Cancelled
from workbench.tuning.ground import Ground
from workbench.types import Listener, LogLine, Progress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

WAITING = "Waiting for another trial on this machine"
_POLL_S = 0.05


@contextlib.contextmanager
def alone_on(ground: Ground, uses_gpu: bool, listener: Listener, cancel: threading.Event) -> Iterator[None]:
    """Hold what a trial needs: the GPU and, shared with those on other GPUs, the host; or the whole host.

    Who waits for the host is next: those that come later and would share it wait behind. Raises Cancelled."""
    folder = lock_folder()
    with contextlib.ExitStack() as held:
        if uses_gpu:
            held.enter_context(_locked(folder / f"gpu-{_plain(ground.gpu)}.lock", False, listener, cancel))
        with _locked(folder / "gate.lock", False, listener, cancel):
            held.enter_context(_locked(folder / "host.lock", uses_gpu, listener, cancel))
        yield


def lock_folder() -> Path:
    """One for all stores of this user on this machine; WORKBENCH_LOCKS names another one, for tests."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    default = Path(tempfile.gettempdir()) / f"tensorrt-workbench-{user}"
    folder = Path(os.environ.get("WORKBENCH_LOCKS") or default)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _locked(path: Path, shared: bool, listener: Listener, cancel: threading.Event) -> Iterator[None]:
    with path.open("a") as file:
        told = False
        while not _taken(file.fileno(), shared):
            if not told:
                told = True
                listener(Progress(WAITING, 0, None))
                listener(LogLine("info", f"{WAITING} ({path.stem})"))
            if cancel.wait(_POLL_S):
                raise Cancelled("cancelled while waiting for another trial; nothing was measured.")
        if told:
            listener(Progress(WAITING, 1, 1))
        yield  # closing the file releases the lock


def _taken(descriptor: int, shared: bool) -> bool:
    if fcntl is None:
        return _taken_on_windows(descriptor)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _taken_on_windows(descriptor: int) -> bool:
    """It knows no shared locks here: trials on several GPUs run one after another."""
    import msvcrt

    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        return False
    return True


def _plain(name: str) -> str:
    return re.sub(r"[^\w-]+", "_", name)
