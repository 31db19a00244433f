"""A recipe: all that makes two engines differ. Its key, and the difference of two recipes in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from workbench.types import format_size

FORMAT = 1
"""Part of every key: raised when engines of an earlier workbench must not be reused."""

_WORDS = {"keep_io_types": "keeping the types of inputs and outputs", "workspace_bytes": "workspace"}
_WORDS_ALONE = {"model": "the model's content", "cpu_features": "the processor's abilities", "format": "its format"}


def recipe_key(recipe: Mapping[str, Any]) -> str:
    """SHA-256 over the recipe in canonical form, hexadecimal, its first 32 digits."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs, in words; an ingredient that only one has comes with a difference named anyway."""
    old, new = ({**recipe, **recipe["ingredients"]} for recipe in (stored, wanted))
    parts = []
    for name in sorted((old.keys() & new.keys()) - {"ingredients"}):
        if old[name] != new[name]:
            values = f" ({_text(old[name])} stored, {_text(new[name])} wanted)"
            parts.append(_WORDS_ALONE.get(name) or _WORDS.get(name, name) + values)
    return parts


def _text(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return " and ".join(
            ", ".join(
                f"{name} {'/'.join('x'.join(map(str, shape)) for shape in item.values())}" for name, item in one.items()
            )
            for one in value
        )
    if isinstance(value, list) and value:
        return "+".join(map(str, value)) if len(value) <= 8 else f"{len(value)} entries"
    if isinstance(value, int) and value >= 1 << 20:
        return format_size(value)
    return "none" if value in (None, []) else str(value)
