"""The values of a knob as text and back: for the shell's --space and for fields of the widget."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from workbench.errors import ConfigError
from workbench.tuning.candidate import KNOBS, TITLES
from workbench.tuning.space import Space
from workbench.types import format_size, parse_size

DEFAULT = "default"
WRITABLE = tuple(name for name in KNOBS if name != "profiles")
"""Sets of optimization profiles have no text; they come from shapes or from traffic."""
_NUMBERS = {"in_float", "min_subgraph_size", "optimization_level", "batch", "threads"}
_SHORT = {"workspace": "workspace_bytes", "level": "optimization_level", "calibration": "algorithm"}


def parse_knob(text: str) -> tuple[str, tuple[Any, ...]]:
    """'threads=default,1,2' -> ('threads', (None, 1, 2)). Names as in Candidate, '-' or '_'. Raises ConfigError."""
    name, sign, values = text.partition("=")
    knob = name.strip().lower().replace("-", "_")
    knob = _SHORT.get(knob, knob)
    if not sign or knob not in WRITABLE:
        raise ConfigError(f"{text!r}: write KNOB=VALUE,VALUE with a knob of {', '.join(WRITABLE)}.")
    return knob, parse_values(knob, values)


def parse_values(knob: str, text: str) -> tuple[Any, ...]:
    """'default,1,2' -> (None, 1, 2). Raises ConfigError for what is no value of this knob."""
    parts = [part.strip().lower() for part in text.split(",") if part.strip()]
    if not parts:
        raise ConfigError(f"{TITLES[knob]}: give one value at least.")
    return tuple(_value(knob, part) for part in parts)


def format_values(space: Space, knob: str) -> str:
    """What `parse_values` reads."""
    return ",".join(_text(knob, value) for value in space.values(knob))


def with_knobs(space: Space, texts: Iterable[str]) -> Space:
    """The space with these knobs set. Raises ConfigError, also for a knob that is given twice."""
    given: dict[str, Any] = {}
    for knob, values in map(parse_knob, texts):
        if knob in given:
            raise ConfigError(f"{TITLES[knob]} is given twice; write all its values at once, with commas.")
        given[knob] = values
    return replace(space, **given)


def _value(knob: str, text: str) -> Any:
    if knob == "cuda_graph":
        if text not in ("on", "off"):
            raise ConfigError(f"{TITLES[knob]}: {text!r} is neither on nor off.")
        return text == "on"
    if knob == "tactic_sources":
        return () if text == DEFAULT else tuple(text.split("+"))
    if knob not in _NUMBERS and knob != "workspace_bytes":
        return text
    if text in (DEFAULT, "whole") and knob not in ("in_float", "batch"):
        return None
    if knob == "workspace_bytes":
        return parse_size(text)
    if not text.isdecimal():
        raise ConfigError(f"{TITLES[knob]}: {text!r} is no whole number.")
    return int(text)


def _text(knob: str, value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None or value == ():
        return "whole" if knob == "min_subgraph_size" else DEFAULT
    if knob == "workspace_bytes":
        return format_size(value).replace(" ", "").removesuffix("bytes").replace(",", "")
    return "+".join(value) if isinstance(value, tuple) else str(value)
