"""The forms that a line of a log of input shapes may have.

{"x": [1, 3, 640, 640], "count": 12}    JSON lines; "count" may be left away
x:1x3x640x640 y:1x128 *12               shapes as --shapes takes them, with spaces or commas; ' *12' may be left away
x,y,count                               CSV: names of inputs above cells such as 1x3x640x640; count may be left away

Where an input is called count, 'count' holds its shapes.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any

from workbench.errors import ConfigError
from workbench.types import Shape

Entry = tuple[tuple[tuple[str, Shape], ...], int]
"""The inputs of a line with their shapes, and how often they came."""
Read = Callable[[str], Entry]

FORMS = (
    'Write one request on each line: x:1x3x640x640, or {"x": [1, 3, 640, 640]}, or CSV with the names of the inputs '
    "in its first line."
)
REMEMBERED = 1 << 16
"""So many different lines are read once only; a log that repeats itself is read as fast as its lines are."""
_SHAPE = re.compile(r"[0-9]+(x[0-9]+)*", re.IGNORECASE)
_TIMES = re.compile(r"\s*\*\s*(\S+)$")
_LONGEST = 1000
"""Characters of a shape: many dimensions, and no number that takes Python long to read."""


def reader(first: str, names: Collection[str]) -> tuple[Read, bool]:
    """What reads each line of a log that begins so, and whether the first line is only a header.

    names: of the model's inputs. What is returned raises ConfigError, and so does this for a header that it cannot use.
    """
    counted = "count" not in names
    columns = _columns(first, names)
    if columns:
        return lru_cache(REMEMBERED)(lambda text: _csv_line(text, columns, counted)), True
    if first[0] == "{":
        return lru_cache(REMEMBERED)(lambda text: _json_line(text, counted)), False
    return lru_cache(REMEMBERED)(_plain_line), False


def _columns(text: str, names: Collection[str]) -> list[str]:
    """What the first line of CSV names; [] for the other forms. Raises ConfigError."""
    cells = [] if text[0] == "{" else _cells(text)
    if not cells or (":" in text and not set(cells) <= {*names, "count"}):
        return []
    if len(set(cells)) < len(cells):
        raise ConfigError("two columns have the same name: name every input once.")
    unknown = [cell for cell in cells if cell not in names and cell != "count"]
    if unknown:
        raise ConfigError(f"{_short(unknown[0])} is no input of the model ({', '.join(names)}). {FORMS}")
    return cells


def _json_line(text: str, counted: bool) -> Entry:
    try:
        data = _JSON.decode(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{_short(text)} is no JSON: {error}. {FORMS}") from error
    if not isinstance(data, dict):
        raise ConfigError(f'{_short(text)} is no JSON object; write {{"x": [1, 3, 640, 640]}}.')
    count = data.pop("count", 1) if counted else 1
    for name, shape in data.items():
        if not isinstance(shape, list) or not all(type(size) is int for size in shape):
            raise ConfigError(f"{name}: {_short(shape)} is no shape; write whole numbers, such as [1, 3, 640, 640].")
    return tuple((name, tuple(shape)) for name, shape in data.items()), _positive(count)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ConfigError(f"{', '.join(name for name, _ in pairs)}: a name comes twice; give every input once.")
    return found


_JSON = json.JSONDecoder(object_pairs_hook=_once)


def _plain_line(text: str) -> Entry:
    times = _TIMES.search(text)
    shapes: dict[str, Shape] = {}
    for part in re.split(r"[\s,]+", text[: times.start()].rstrip() if times else text):
        name, colon, shape = part.rpartition(":")
        if not colon or not name:
            raise ConfigError(f"{_short(part)} is no NAME:SHAPE, one for every input. {FORMS}")
        if name in shapes:
            raise ConfigError(f"input {name} is given twice; a line is one request.")
        shapes[name] = _shape(shape)
    return tuple(shapes.items()), _number(times[1]) if times else 1


def _csv_line(text: str, columns: list[str], counted: bool) -> Entry:
    cells = _cells(text)
    if len(cells) != len(columns):
        raise ConfigError(f"{_short(text)} has {len(cells)} cells, but the first line names {len(columns)} columns.")
    found = dict(zip(columns, cells, strict=True))
    count = _number(found.pop("count")) if counted and "count" in found else 1
    return tuple((name, _shape(cell)) for name, cell in found.items() if cell), count


def _cells(text: str) -> list[str]:
    try:
        cells = next(csv.reader([text])) if '"' in text else text.split(",")  # the reader takes three times as long
    except csv.Error as error:
        raise ConfigError(f"{_short(text)} is no line of CSV: {error}. {FORMS}") from error
    return [cell.strip() for cell in cells]


@lru_cache(REMEMBERED)
def _shape(text: str) -> Shape:
    if text.lower() == "scalar":
        return ()
    if not _SHAPE.fullmatch(text) or len(text) > _LONGEST:
        raise ConfigError(f"{_short(text)} is not a shape; write sizes joined by x, such as 1x3x640x640.")
    return tuple(map(int, text.lower().split("x")))


def _number(text: str) -> int:
    return _positive(int(text) if re.fullmatch("[0-9]{1,18}", text) else text)


def _positive(count: Any) -> int:
    if type(count) is not int or count < 1:
        raise ConfigError(f"count {_short(count)}: how often a request came is a whole number, 1 or more.")
    return count


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
