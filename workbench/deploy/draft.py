"""A folder that is whole or not there, and never anything of the user's that was there before."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from workbench.errors import ConfigError, StoreError


def absolute(folder: str | Path) -> Path:
    """Raises ConfigError for what is no path."""
    if not str(folder):
        raise ConfigError("the name of the folder is empty: name a new one.")
    try:
        path = Path(os.path.abspath(Path(folder).expanduser()))
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(path)  # refuses what is no name
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{str(folder)[:200]!r}: not a path ({error}).") from error
    return path


def check_free(folder: Path) -> None:
    """Raise ConfigError unless the folder is new or empty."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ConfigError(f"{folder}: there is a file of that name; name another folder.")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: holds something already, and nothing is overwritten; name a new folder.")


@contextlib.contextmanager
def drafted(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write into; it becomes `folder` at the end, or goes when something fails.

    Raises StoreError where it cannot be written.
    """
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        draft.mkdir(parents=True)
        yield draft
        if folder.exists():
            folder.rmdir()  # fails if something was put there meanwhile
        draft.rename(folder)
    except OSError as error:
        raise StoreError(f"{folder}: the hand-over cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
