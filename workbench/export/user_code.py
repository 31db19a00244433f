"""Errors of the user's own code, as one sentence with the line of source."""

from __future__ import annotations

import re
import sysconfig
import traceback
from pathlib import Path

from workbench.errors import ExportError

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def failure(error: BaseException, name: str) -> ExportError:
    """The user's own code failed, before any exporter saw it."""
    where = raised_at(error)
    at, said = f" at {where}" if where else "", first_line(error)
    return ExportError(f"{name}: its code fails{at}: {type(error).__name__}{f': {said}' if said else ''}.")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without colours, advertisements and the full stop."""
    lines = [line.strip() for line in _ANSI.sub("", str(error)).splitlines() if line.strip()]
    return re.split(r"\. Please feel free|\s+\[Caused by", lines[0])[0].rstrip(".")[:300] if lines else ""


def user_line(filename: str, line: int, code: str | None) -> str | None:
    """'net.py:12 `if x.sum() > 0:`', None for lines of PyTorch, Python or the workbench."""
    path = Path(filename)
    folders = {"torch", "onnxscript", "onnx_ir"} & set(path.parts)
    own = path.is_relative_to(Path(__file__).parents[1])
    library = path.is_relative_to(sysconfig.get_path("stdlib")) and "site-packages" not in path.parts
    if folders or own or library or filename.startswith("<"):
        return None
    return f"{filename}:{line}" + (f" `{code.strip()}`" if code and code.strip() else "")


def raised_at(error: BaseException) -> str | None:
    """The last line of the user's own on the way to the error."""
    frames = [
        user_line(item.filename, item.lineno or 0, item.line) for item in traceback.extract_tb(error.__traceback__)
    ]
    found = [frame for frame in frames if frame]
    return found[-1] if found else None
