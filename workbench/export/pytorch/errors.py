"""What PyTorch's exporters raise, as one sentence with the user's own line of source in it."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workbench.errors import ExportError

_MISSING = (
    r"No ONNX function found for <OpOverload\(op='([^']+)'",
    r"operator '([^']+)' to ONNX",
    r"Unsupported FX nodes?: .*?'([^']+)'",
)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def explain(error: BaseException, name: str, exporter: str) -> ExportError:
    """The reason at the root, where in the user's source it arose, and what to do. name: of the user's module."""
    chain = list(_chain(error))
    where = _line(chain[-1]) or _line(chain[0])
    at = f" at {where}" if where else ""
    for item in chain:
        for pattern in _MISSING:
            match = re.search(pattern, str(item))
            if match:
                return ExportError(
                    f"{name}: the {exporter} exporter has no ONNX for the operator {match[1]}{at}: "
                    f"compute it outside of the module, write it with other operators, or try {_other(exporter)}."
                )
    root = chain[-1]
    kind = type(root).__name__
    if isinstance(root, ModuleNotFoundError):
        return ExportError(f"{name}: PyTorch's exporter needs {root.name}: pip install {root.name}.")
    if "DataDependent" in kind or "data-dependent" in str(root):
        return ExportError(
            f"{name}: what it does next depends on values, not only on shapes{at}: write it with torch.where or "
            "torch.cond, or use exporter='classic', which keeps only the way that the example takes."
        )
    return ExportError(f"{name}: PyTorch cannot export it{at}: {kind}: {first_line(root)}; try {_other(exporter)}.")


def failure(error: BaseException, name: str) -> ExportError:
    """The user's own code failed, before any exporter saw it."""
    where = _line(error)
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


def _line(error: BaseException) -> str | None:
    frames = [
        user_line(item.filename, item.lineno or 0, item.line) for item in traceback.extract_tb(error.__traceback__)
    ]
    found = [frame for frame in frames if frame]
    return found[-1] if found else None


def _chain(error: BaseException) -> Iterable[BaseException]:
    current: Any = error
    while current is not None:
        yield current
        current = current.__cause__


def _other(exporter: str) -> str:
    return "exporter='classic'" if exporter == "dynamo" else "exporter='dynamo'"
