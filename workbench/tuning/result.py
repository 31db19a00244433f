"""Tuned: a search as notebooks show it and as files keep it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.accuracy import finite
from workbench.errors import ConfigError, ViewError
from workbench.saving import replace_file
from workbench.study import study_from_json
from workbench.tuning.findings import FINISHED, PAUSED, RUNNING, STOPPED, Best, Column, Findings, Running
from workbench.tuning.goals import goals_from_json, goals_to_json
from workbench.tuning.html import tuned_html
from workbench.tuning.trial import trial_from_json
from workbench.types import config_from_json, config_to_json

__all__ = [
    "FINISHED",
    "PAUSED",
    "RUNNING",
    "STOPPED",
    "Best",
    "Column",
    "Running",
    "Tuned",
    "load_tuned",
    "save_tuned",
]

FORMAT = 1


@dataclass(frozen=True, repr=False)
class Tuned(Findings):
    """A search; what it has found are the fields and methods of Findings."""

    def _repr_html_(self) -> str:
        return tuned_html(self)

    def to_json(self) -> dict[str, Any]:
        first = self.columns[0].name if self.columns else ""
        return {
            "format": FORMAT,
            "id": self.id,
            "model": self.model,
            "model_sha256": self.model_sha256,
            "goals": goals_to_json(self.goals),
            "state": self.state,
            "seconds": self.seconds,
            "at": self.at,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "data": self.data,
            "notes": list(self.notes),
            "recorded": self.recorded,
            "again": dict(self.again),
            "trials": [item.to_json() for item in self.trials],
            "front": [item.id for item in self.front(first)],
            "best": _best_to_json(self, self.best),
            "columns": [_column_to_json(self, item) for item in self.columns],
        }


def _best_to_json(tuned: Tuned, best: Best | None) -> dict[str, Any] | None:
    if best is None:
        return None
    trial = tuned.trial(best.trial)
    return {
        "trial": best.trial,
        "engine": best.engines[0] if best.engines else None,
        "engines": list(best.engines),
        "config": config_to_json(best.config),
        "candidate": vars(trial.candidate),
        "tied": list(best.tied),
        "reason": best.reason,
    }


def _column_to_json(tuned: Tuned, column: Column) -> dict[str, Any]:
    shares = {name: {knob: finite(value) for knob, value in found.items()} for name, found in column.importance.items()}
    return {
        "name": column.name,
        "sizes": column.sizes,
        "left_out": list(column.left_out),
        "front": [item.id for item in tuned.front(column.name)],
        "finalists": dict(column.finalists),
        "finals": column.finals.to_json() if column.finals else None,
        "best": _best_to_json(tuned, column.best),
        "importance": shares,
    }


def _tuned_from_json(data: Mapping[str, Any]) -> Tuned:
    """The inverse of Tuned.to_json; nothing of it is running."""
    return Tuned(
        id=data["id"],
        model=data["model"],
        model_sha256=data["model_sha256"],
        goals=goals_from_json(data["goals"]),
        state=data["state"],
        trials=tuple(map(trial_from_json, data["trials"])),
        columns=tuple(map(_column_from_json, data["columns"])),
        seconds=data["seconds"],
        at=data["at"],
        shapes={name: tuple(shape) for name, shape in data["shapes"].items()},
        data=data["data"],
        notes=tuple(data["notes"]),
        recorded=data["recorded"],
        again=data.get("again", {}),
    )


def _column_from_json(data: Mapping[str, Any]) -> Column:
    best = data["best"]
    return Column(
        name=data["name"],
        sizes=data["sizes"],
        left_out=tuple(data["left_out"]),
        finalists=data["finalists"],
        finals=study_from_json(data["finals"]) if data["finals"] else None,
        best=best
        and Best(
            best["trial"],
            tuple(best["engines"]),
            config_from_json(best["config"]),
            tuple(best["tied"]),
            best["reason"],
        ),
        importance=data["importance"],
    )


def save_tuned(tuned: Tuned, path: str | Path) -> Path:
    """Write a search with all its trials, whole or not at all; returns the path. Raises ConfigError."""
    path = Path(path).expanduser()
    try:
        replace_file(path, gzip.compress(json.dumps(tuned.to_json()).encode(), mtime=0))
    except OSError as error:
        raise ConfigError(f"{path}: the search cannot be written there ({error.strerror}).") from error
    return path


def load_tuned(path: str | Path) -> Tuned:
    """What `save_tuned` wrote; labelled as recorded, with where. Raises ViewError."""
    try:
        found = _tuned_from_json(json.loads(gzip.decompress(Path(path).expanduser().read_bytes())))
    except FileNotFoundError as error:
        raise ViewError(f"{path}: there is no such search.") from error
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ViewError(f"{path}: not a search as this release reads them ({error}).") from error
    where = ", ".join(column.name for column in found.columns)
    return replace(found, recorded=found.recorded or f"recorded on {where}, {found.at[:10]}")
