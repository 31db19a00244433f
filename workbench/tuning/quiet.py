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
import time
from collections.abc import Iterator
from pathlib import Path

from workbench.errors import Cancelled, StoreError
from workbench.tuning.ground import Ground
from workbench.types import Listener, LogLine, Progress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

WAITING = "Waiting for another trial on this machine"
SHARED = Path("/tmp" if fcntl else tempfile.gettempdir()) / "tensorrt-workbench-locks"
"""On POSIX not below TMPDIR, which may differ between users and between jobs of a cluster."""
TELL_EVERY_S = 5.0
"""So often a wait is told, so that nobody takes it for a hang."""
_POLL_S = 0.05
_TRIES = 10
_WAY_OUT = "set WORKBENCH_LOCKS to a folder that all who use this machine may write"


@contextlib.contextmanager
def alone_on(ground: Ground, listener: Listener, cancel: threading.Event, *, gpu: bool, host: bool) -> Iterator[None]:
    """Hold what a trial needs. gpu: this ground's GPU. host: the host as a whole, else shared with those on other GPUs.

    Who waits for the host is next: those that come later and would share it wait behind. Raises Cancelled, StoreError.
    """
    folder = lock_folder()
    with contextlib.ExitStack() as held:
        if gpu:
            held.enter_context(_locked(folder / f"gpu-{_plain(ground.gpu)}.lock", False, listener, cancel))
        with _locked(folder / "gate.lock", False, listener, cancel):
            held.enter_context(_locked(folder / "host.lock", not host, listener, cancel))
        yield


def lock_folder() -> Path:
    """One for all users of this machine, whatever their stores; WORKBENCH_LOCKS names another one. Raises StoreError
    where it cannot be made."""
    own = os.environ.get("WORKBENCH_LOCKS")
    folder = Path(own or SHARED)
    try:
        if own:
            folder.mkdir(parents=True, exist_ok=True)
        else:
            _make_shared(folder)
    except OSError as error:
        raise StoreError(f"{folder}: locks cannot be kept here ({error.strerror}); {_WAY_OUT}.") from error
    return folder


def _make_shared(folder: Path) -> None:
    """Everybody may make files in it, and only remove their own."""
    try:
        folder.mkdir()
        with contextlib.suppress(OSError):
            folder.chmod(0o1777)
    except FileExistsError:
        if folder.is_symlink() or not folder.is_dir():  # somebody might want locks to be made elsewhere
            raise


@contextlib.contextmanager
def _locked(path: Path, shared: bool, listener: Listener, cancel: threading.Event) -> Iterator[None]:
    with open(_opened(path), "rb", buffering=0) as file:
        told = None
        while not _taken(file.fileno(), path, shared):
            if told is None:
                listener(LogLine("info", f"{WAITING} ({path.stem})"))
            if told is None or time.monotonic() - told >= TELL_EVERY_S:
                listener(Progress(WAITING, 0, None))
                told = time.monotonic()
            if cancel.wait(_POLL_S):
                raise Cancelled("cancelled while waiting for another trial; nothing was measured.")
        if told is not None:
            listener(Progress(WAITING, 1, 1))
        yield  # closing the file releases the lock


def _opened(path: Path) -> int:
    """A descriptor of a file that everybody may lock. Raises StoreError.

    It is made only where it is not there: in a folder like /tmp, Linux refuses O_CREAT on a file of somebody else
    (fs.protected_regular)."""
    usual = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    for _ in range(_TRIES):
        try:
            return _existing(path, usual)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _refused(path, error) from error
        try:
            descriptor = os.open(path, usual | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:  # made by another one meanwhile
            continue
        except OSError as error:
            raise _refused(path, error) from error
        if hasattr(os, "fchmod"):  # whatever the umask
            with contextlib.suppress(OSError):
                os.fchmod(descriptor, 0o666)
        return descriptor
    raise StoreError(f"{path}: the lock disappears again and again; {_WAY_OUT}.")


def _existing(path: Path, usual: int) -> int:
    try:
        return os.open(path, usual | os.O_RDWR)
    except PermissionError:  # one that may only be read can be locked as well, but for network disks
        return os.open(path, usual | os.O_RDONLY)


def _refused(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: this lock cannot be used ({error.strerror}); {_WAY_OUT}.")


def _taken(descriptor: int, path: Path, shared: bool) -> bool:
    """Raises StoreError, as where a disk knows no locks."""
    try:
        if fcntl is None:
            return _taken_on_windows(descriptor)
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _refused(path, error) from error
    return True


def _taken_on_windows(descriptor: int) -> bool:
    """It knows no shared locks here: trials on several GPUs run one after another."""
    import msvcrt

    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except PermissionError:
        return False
    return True


def _plain(name: str) -> str:
    return re.sub(r"[^\w-]+", "_", name)
