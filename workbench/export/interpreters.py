"""A Python of a release that an environment supports."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROBE = """
import ensurepip, json, os, sys, venv
base = getattr(sys, "_base_executable", "") or sys.executable
if sys.prefix != sys.base_prefix and os.path.dirname(base) == os.path.dirname(sys.executable):  # as 3.10 may say
    name = "python.exe" if os.name == "nt" else os.path.join("bin", "python%d.%d" % sys.version_info[:2])
    found = os.path.join(sys.base_prefix, name)
    base = found if os.path.exists(found) else base
print(json.dumps([sys.version_info[:2], base]))
"""
_PATIENCE_S = 20.0

Release = tuple[int, int]
"""(3, 12)"""


@dataclass(frozen=True)
class Interpreter:
    """A Python that can make virtual environments; `path` is never one inside such an environment."""

    path: Path
    release: Release


def find_interpreter(wanted: tuple[Release, ...], here: Interpreter | None = None) -> Interpreter | None:
    """One of the wanted releases: this process's own if it is one, else the first wanted one on PATH or of pyenv.

    here: the own interpreter, found by itself. None if there is none that starts and has venv and ensurepip.
    """
    own = here or probe(Path(sys.executable))
    if own and own.release in wanted:
        return own
    for path in _candidates(wanted):
        found = probe(path)
        if found and found.release in wanted:
            return found
    return None


def probe(path: Path) -> Interpreter | None:
    """What a Python says of itself; None if it does not start or lacks venv or ensurepip."""
    command = [str(path), "-I", "-c", _PROBE]
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_PATIENCE_S)
        (major, minor), base = json.loads(told.stdout)
        return Interpreter(Path(base), (major, minor))
    return None


def python_in(folder: Path) -> Path:
    """The interpreter of the virtual environment in this folder."""
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def _candidates(wanted: tuple[Release, ...]) -> Iterator[Path]:
    for major, minor in wanted:
        name = f"python{major}.{minor}"
        on_path = shutil.which(name)
        if on_path:
            yield Path(on_path)
        versions = Path("~/.pyenv/versions").expanduser()
        yield from sorted(versions.glob(f"{major}.{minor}.*/bin/{name}"), reverse=True)
    for name in ("python3", "python"):
        on_path = shutil.which(name)
        if on_path:
            yield Path(on_path)
