"""Many pass at once, or one alone: a lock on a file that ends with the process that holds it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from filelock import FileLock, Timeout

from workbench.errors import StoreError

_POLL_S = 0.01


@contextmanager
def gate(path: Path, *, alone: bool, patience_s: float) -> Iterator[None]:
    """Hold the lock at `path`, together with others or alone. Raises StoreError after `patience_s`, and OSError where
    the file cannot be made. Where it is not there and must not be made, nobody can be alone, and all pass."""
    if sys.platform == "win32":  # which does not rename a file that others use
        try:
            with FileLock(path, timeout=patience_s) if alone else nullcontext():
                yield
        except Timeout as error:
            raise _waited(path, patience_s) from error
        return
    descriptor = _open(path, alone)
    try:
        if descriptor is not None:
            _wait(descriptor, path, alone, patience_s)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open(path: Path, alone: bool) -> int | None:
    """Made if it is not there. One of another user, which can only be read, can be locked as well."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            if alone:
                raise
    return None


def _wait(descriptor: int, path: Path, alone: bool, patience_s: float) -> None:
    import fcntl

    wanted = (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB
    end = time.monotonic() + patience_s
    while True:
        try:
            return fcntl.flock(descriptor, wanted)
        except BlockingIOError as error:
            if time.monotonic() > end:
                raise _waited(path, patience_s) from error
        time.sleep(_POLL_S)


def _waited(path: Path, patience_s: float) -> StoreError:
    return StoreError(f"{path}: other programs kept the history busy for {patience_s:g} s; try again.")
