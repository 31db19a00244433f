"""A recipe: all that makes two engines differ. Its key, and the difference of two recipes in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from workbench.types import BuildConfig, config_to_json, format_size

FORMAT = 2
"""Part of every key: raised when engines of an earlier workbench must not be reused."""

_WORDS = {
    "keep_io_types": "keeping the types of inputs and outputs",
    "workspace_bytes": "workspace",
    "gpu": "GPU",
    "dla_core": "DLA core",
    "strip_weights": "leaving out the weights",
    "timing_cache": "use of the timing cache",
    "model": "the model's content",
    "cpu_features": "the processor's abilities",
    "format": "its format",
    "calibration_content": "the calibration's content",
}
_OPAQUE = ("model", "cpu_features", "format", "calibration_content")
"""Their values tell a reader nothing."""


def recipe_entries(config: BuildConfig) -> dict[str, Any]:
    """What a configuration adds to a recipe: a calibration counts by its content, an ingredient, not by its path."""
    entries = config_to_json(config)
    entries["builder"]["tactic_sources"] = list(config.builder.tactic_sources)  # as it is read back
    if config.calibration:
        entries["calibration"] = {"algorithm": config.calibration.algorithm}
    return entries


def recipe_key(recipe: Mapping[str, Any]) -> str:
    """SHA-256 over the recipe in canonical form, hexadecimal, its first 32 digits."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs, in words; an ingredient that only one has comes with a difference named anyway."""
    old, new = _flat(stored), _flat(wanted)
    parts = []
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            values = f" ({_text(old[name])} stored, {_text(new[name])} wanted)"
            parts.append(_WORDS.get(name, name.replace("_", " ")) + ("" if name in _OPAQUE else values))
    return parts


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """All entries side by side. Recipes of format 1 knew neither builder options nor calibration."""
    entries = {name: value for name, value in recipe.items() if name not in ("ingredients", "builder", "calibration")}
    calibrator = (recipe.get("calibration") or {}).get("algorithm")
    return {**entries, **recipe.get("builder", {}), **recipe["ingredients"], "calibrator": calibrator}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in sorted(value.items())) or "none"
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
