"""A preprocessing as fields of a form, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from workbench.errors import ConfigError
from workbench.preprocessing import Preprocessing, check_preprocessing

FIELDS = {
    "size": "height x width",
    "resize": "how to get there",
    "resize_to": "a side, pixels",
    "channels": "",
    "scale": "times this",
    "mean": "minus this",
    "std": "divided by this",
    "layout": "order of axes",
}
"""Name -> what it does, in the order in which it is done."""


def fields_of(how: Preprocessing) -> dict[str, str]:
    """The texts of the form."""
    return {
        "size": "x".join(map(str, how.size)) if how.size else "",
        "resize": how.resize,
        "resize_to": str(how.resize_to or ""),
        "channels": how.channels,
        "scale": _fraction(how.scale),
        "mean": _listed(how.mean),
        "std": _listed(how.std),
        "layout": how.layout,
    }


def read_fields(fields: Mapping[str, str], found: Preprocessing) -> Preprocessing:
    """What was typed, over what was found; unchanged texts keep the exact numbers. Raises ConfigError."""
    known = fields_of(found)
    changed = {name: text.strip() for name, text in fields.items() if text.strip() != known[name]}
    if not changed:
        return found
    read = {"size": _size, "resize_to": _whole, "scale": _scale, "mean": _numbers, "std": _numbers}
    how = replace(found, **{name: read.get(name, _as_is)(name, text) for name, text in changed.items()})  # type: ignore[arg-type]
    check_preprocessing(how)
    return how


def _as_is(name: str, text: str) -> object:
    return text


def _size(name: str, text: str) -> object:
    if not text:
        return None
    match = re.fullmatch(r"(\d{1,6})\s*[x×*, ]\s*(\d{1,6})", text)
    if not match:
        raise ConfigError(f"size: {text!r} is none; write height x width, as 224x224.")
    return int(match[1]), int(match[2])


def _whole(name: str, text: str) -> object:
    if text and not (text.isdecimal() and len(text) <= 6):
        raise ConfigError(f"{name}: {text!r} is no number of pixels.")
    return int(text) if text else None


def _scale(name: str, text: str) -> object:
    whole, _, part = text.partition("/")
    return _number(name, whole) / (_number(name, part) or 1.0) if part else _number(name, whole)


def _numbers(name: str, text: str) -> object:
    values = tuple(_number(name, word) for word in re.split(r"[\s,;]+", text) if word)
    if not values:
        raise ConfigError(f"{name}: write one number for each channel, or one for all.")
    return values


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name}: {text.strip()!r} is not a number.") from None


def _fraction(scale: float) -> str:
    """1/255 rather than 0.0039215..."""
    inverse = round(1 / scale) if scale else 0
    return f"1/{inverse}" if inverse > 1 and abs(scale * inverse - 1) < 1e-9 else f"{scale:g}"


def _listed(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in (values[:1] if len(set(values)) == 1 else values))
