"""What a request of some size takes, in ms: between measured points, or read from what `workbench bench` wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import ConfigError
from workbench.types import Shape, TensorSpec

_FORM = (
    "Write [[elements, ms], ...], or what `workbench bench MODEL --shapes x:1x3x640x640 --json` prints, one after "
    "another."
)


def volume(shapes: Mapping[str, Shape]) -> int:
    """The elements of these shapes together."""
    return sum(math.prod(shape) for shape in shapes.values())


@dataclass(frozen=True)
class Interpolated:
    """Latency against volume, the elements of all inputs with open dimensions together.

    Straight lines between the points. Below the first point its ms, as a launch costs that however small the request;
    beyond the last one in proportion to the volume. Nothing is smoothed: where measured times fall, so does this.
    """

    points: tuple[tuple[float, float], ...]

    def __call__(self, shapes: Mapping[str, Shape]) -> float:
        return float(self.at(np.array([volume(shapes)], np.float64))[0])

    def at(self, volumes: np.ndarray) -> np.ndarray:
        """float64[n] of elements -> float64[n] of ms."""
        known, ms = (np.array(column, np.float64) for column in zip(*self.points, strict=True))
        found: np.ndarray = np.interp(volumes, known, ms) * np.maximum(volumes / known[-1], 1.0)
        return found


def interpolated(points: Iterable[tuple[float, float]]) -> Interpolated:
    """From (elements, ms) as measured, in any order; of one volume measured several times the mean counts.

    Raises ConfigError where there is no point, or one that is not above 0.
    """
    found: dict[float, list[float]] = {}
    for elements, ms in points:
        if not (0 < elements < math.inf and 0 < ms < math.inf):
            raise ConfigError(f"cost of {elements} elements: {ms} ms; both are finite and above 0.")
        found.setdefault(float(elements), []).append(float(ms))
    if not found:
        raise ConfigError(f"the cost has no point: measure two sizes at least. {_FORM}")
    return Interpolated(tuple((elements, sum(times) / len(times)) for elements, times in sorted(found.items())))


def read_cost(path: str | Path, inputs: Iterable[TensorSpec]) -> Interpolated:
    """JSON values one after another: pairs [elements, ms], objects with 'shapes' and 'median_ms' (what `workbench
    bench --json` prints) or 'ms', or lists of either. Raises ConfigError, naming the file."""
    names = {spec.name for spec in inputs if spec.open_axes}
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        return interpolated(_point(item, names) for item in _items(text))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}. {_FORM}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is no JSON: {error}. {_FORM}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _items(text: str) -> Iterator[Any]:
    """The values, and those in lists that are no pair of numbers. Raises ValueError."""
    decoder, place = json.JSONDecoder(), 0
    while text[place:].strip():
        place += len(text[place:]) - len(text[place:].lstrip())
        value, place = decoder.raw_decode(text, place)
        yield from value if isinstance(value, list) and not _is_pair(value) else [value]


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(item) in (int, float) for item in value)


def _point(item: Any, names: set[str]) -> tuple[float, float]:
    if _is_pair(item):
        return item[0], item[1]
    shapes = item.get("shapes") if isinstance(item, dict) else None
    ms = item.get("median_ms", item.get("ms")) if isinstance(item, dict) else None
    if not isinstance(shapes, dict) or not isinstance(ms, (int, float)):
        raise ConfigError(f"{str(item)[:60]} is neither a pair nor an object with shapes and median_ms. {_FORM}")
    missing = names - shapes.keys()
    if missing:
        raise ConfigError(f"{str(shapes)[:60]} has no shape for input {min(missing)}: measure the same model.")
    sizes = {name: shapes[name] for name in names}
    if not all(isinstance(shape, list) and all(type(size) is int for size in shape) for shape in sizes.values()):
        raise ConfigError(f"{str(sizes)[:60]} are no shapes; write lists of whole numbers.")
    return volume(sizes), float(ms)
