"""Min, opt and max as people type them: proposed, read, and checked in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from workbench.profiles import BOUNDS, default_profile, open_dimensions, profile_of, profile_problems
from workbench.types import OptimizationProfile, TensorSpec

Texts = tuple[str, str, str]
"""Min, opt and max of one open dimension, as typed."""


def propose_bounds(inputs: Iterable[TensorSpec]) -> dict[str, Texts]:
    """The default profile as text, by the open dimension's key."""
    specs = tuple(inputs)
    return bounds_of(specs, default_profile(specs))


def bounds_of(inputs: Iterable[TensorSpec], profile: OptimizationProfile) -> dict[str, Texts]:
    """A profile as text, by the open dimension's key; what it says nothing of is left out."""
    found: dict[str, Texts] = {}
    for dim in open_dimensions(inputs):
        name, axis = dim.places[0]
        if name in profile.ranges and axis < len(profile.ranges[name].min):
            low, best, high = (str(getattr(profile.ranges[name], bound)[axis]) for bound in BOUNDS)
            found[dim.key] = (low, best, high)
    return found


def bounds_problems(inputs: Iterable[TensorSpec], bounds: Mapping[str, Texts]) -> dict[str, str]:
    """What is wrong with the typed sizes, in words, by the open dimension's key."""
    specs = tuple(inputs)
    problems, sizes = {}, {}
    for key, texts in bounds.items():
        wrong = [text for text in texts if not re.fullmatch(r"\s*-?\d{1,18}\s*", text)]
        if wrong:
            problems[key] = f"{wrong[0]!r} is not a whole number" if wrong[0].strip() else "a size is missing"
        sizes[key] = (1, 1, 1) if wrong else _sizes(texts)
    keys = {place: dim.key for dim in open_dimensions(specs) for place in dim.places}
    for problem in profile_problems(specs, profile_of(specs, sizes)):
        if problem.axis is not None:
            problems.setdefault(keys[problem.input, problem.axis], problem.text)
    return problems


def read_bounds(inputs: Iterable[TensorSpec], bounds: Mapping[str, Texts]) -> OptimizationProfile:
    """The profile that was typed; only for bounds without problems."""
    return profile_of(inputs, {key: _sizes(texts) for key, texts in bounds.items()})


def _sizes(texts: Texts) -> tuple[int, int, int]:
    low, best, high = (int(text) for text in texts)
    return low, best, high
