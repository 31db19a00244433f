"""What PyTorch's exporters raise, as one sentence with the user's own line of source in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from workbench.errors import ExportError
from workbench.export.user_code import first_line, raised_at

_MISSING = (
    r"No ONNX function found for <OpOverload\(op='([^']+)'",
    r"operator '([^']+)' to ONNX",
    r"Unsupported FX nodes?: .*?'([^']+)'",
)


def explain(error: BaseException, name: str, exporter: str) -> ExportError:
    """The reason at the root, where in the user's source it arose, and what to do. name: of the user's module."""
    chain = list(_chain(error))
    where = raised_at(chain[-1]) or raised_at(chain[0])
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


def _chain(error: BaseException) -> Iterable[BaseException]:
    current: Any = error
    while current is not None:
        yield current
        current = current.__cause__


def _other(exporter: str) -> str:
    return "exporter='classic'" if exporter == "dynamo" else "exporter='dynamo'"
