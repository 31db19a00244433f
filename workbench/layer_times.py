"""Times of an engine's layers in the form of `trtexec --exportProfile`, which `workbench fusion --profile` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import ConfigError


def median_times(times_ms: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of every layer, by name."""
    return {name: float(np.median(times)) for name, times in times_ms.items()}


def layer_times_to_json(times_ms: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """The number of runs, then every layer with the sum, mean and median of its times and its share of all, in %."""
    total = sum(sum(times) for times in times_ms.values())
    count = max((len(times) for times in times_ms.values()), default=0)
    rows: list[dict[str, Any]] = [{"count": count}]
    for name, times in times_ms.items():
        spent = float(sum(times))
        rows.append(
            {
                "name": name,
                "timeMs": spent,
                "averageMs": float(np.mean(times)),
                "medianMs": float(np.median(times)),
                "percentage": 100 * spent / total if total else 0.0,
            }
        )
    return rows


def save_layer_times(times_ms: Mapping[str, Sequence[float]], path: str | Path) -> Path:
    """Write them as a file; makes its folder. Raises ConfigError where it cannot be written."""
    path = Path(path).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(layer_times_to_json(times_ms), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: the times of layers cannot be written there ({error.strerror}).") from error
    return path
