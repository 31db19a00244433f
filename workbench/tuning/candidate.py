"""Candidate: one way to build and run a model, a point of the space that is searched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from workbench.types import format_size


@dataclass(frozen=True)
class Candidate:
    """algorithm: how ranges are found, for int8 with a calibration; '' else. in_float: so many layers, those that int8
    harms most, are left in float. min_subgraph_size: None for the model as one engine, else it runs in parts.
    workspace_bytes, optimization_level, tactic_sources: as in BuildConfig and BuilderOptions. batch: rows per run.
    profiles: name of a set of optimization profiles of the space, '' for one of the shapes that are timed. cuda_graph:
    None where no NVIDIA GPU runs it. threads: processors of one run, None for the back end's choice.
    """

    backend: str
    precision: str = "fp32"
    algorithm: str = ""
    in_float: int = 0
    min_subgraph_size: int | None = None
    workspace_bytes: int | None = None
    optimization_level: int | None = None
    tactic_sources: tuple[str, ...] = ()
    batch: int = 1
    profiles: str = ""
    cuda_graph: bool | None = None
    threads: int | None = None

    @property
    def key(self) -> str:
        """16 hexadecimal digits, equal for equal candidates."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        """What differs from the defaults: 'onnxruntime int8 entropy, 2 layers in float, batch 8, 1 thread'."""
        parts = [" ".join(filter(None, (self.backend, self.precision, self.algorithm)))]
        parts += [knob_text(name, getattr(self, name)) for name in KNOBS[3:] if getattr(self, name) != _usual(name)]
        return ", ".join(parts)


KNOBS = tuple(item.name for item in fields(Candidate))
TITLES = {
    "backend": "back end",
    "precision": "precision",
    "algorithm": "calibration",
    "in_float": "layers in float",
    "min_subgraph_size": "min_subgraph_size",
    "workspace_bytes": "workspace",
    "optimization_level": "optimization level",
    "tactic_sources": "tactic sources",
    "batch": "batch",
    "profiles": "profiles",
    "cuda_graph": "CUDA graph",
    "threads": "threads",
}
"""What the knobs are called for people."""


def knob_text(name: str, value: Any) -> str:
    """'batch 8', 'no CUDA graph'."""
    if name == "cuda_graph":
        return {True: "CUDA graph", False: "no CUDA graph", None: ""}[value]
    if name == "in_float":
        return f"{value} layers in float" if value != 1 else "1 layer in float"
    if name == "threads":
        return "threads as it likes" if value is None else f"{value} thread{'' if value == 1 else 's'}"
    return f"{TITLES[name]} {value_text(name, value)}"


def value_text(name: str, value: Any) -> str:
    """A value by itself, for tables and axes."""
    if value is None or value in ("", ()):
        return {"algorithm": "none", "profiles": "as timed", "min_subgraph_size": "whole"}.get(name, "default")
    if name == "workspace_bytes":
        return format_size(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    return "+".join(value) if isinstance(value, tuple) else str(value)


def candidate_from_json(data: Mapping[str, Any]) -> Candidate:
    """The inverse of dataclasses.asdict, after JSON."""
    return Candidate(**{**data, "tactic_sources": tuple(data["tactic_sources"])})


def _usual(name: str) -> Any:
    return next(item.default for item in fields(Candidate) if item.name == name)
