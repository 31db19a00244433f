"""Whether a server may join requests to batches: along the first dimension of every input and output, and how many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.accuracy import compare_outputs
from workbench.errors import ConfigError, WorkbenchError
from workbench.profiles import default_profile
from workbench.types import Feeds, OptimizationProfile, TensorSpec

_ALIKE, _NOISE = 0.05, 1e-5
"""Relative and largest difference, of which one must be small: another batch may run other kernels, in int8 too; a row
of another request lies farther off."""
Sides = tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]
"""Inputs and outputs."""
Run = Callable[[Feeds], dict[str, Any]]


@dataclass(frozen=True)
class Batches:
    """largest: 0 where there are none, and `reason` says why. preferred: sizes that the engine is tuned for."""

    largest: int
    preferred: tuple[int, ...] = ()
    reason: str = ""


def find_batches(
    sides: Sides, profiles: tuple[OptimizationProfile, ...], wanted: int | None, feeds: Feeds, run: Run | None
) -> Batches:
    """wanted: the largest batch that the user asks for, 0 for none. run: None where nobody can run anything.

    Raises ConfigError for more than the engine takes.
    """
    reason = _why_not(sides, profiles)
    largest, preferred = _sizes(sides[0], profiles) if not reason else (0, ())
    if wanted and (reason or (profiles and wanted > largest)):
        limit = reason or f"the engine was built for {largest} at most"
        raise ConfigError(f"batches of {wanted} cannot be served: {limit}; leave --max-batch out.")
    if wanted == 0:
        return Batches(0, reason="nobody asked for them (--max-batch 0)")
    largest = wanted or largest
    if not reason and not _share_a_name(sides):
        reason = _why_apart(largest, feeds, run)
    if reason:
        return Batches(0, reason=reason)
    return Batches(largest, tuple(size for size in preferred if 1 < size <= largest))


def _why_not(sides: Sides, profiles: tuple[OptimizationProfile, ...]) -> str:
    """What the shapes alone forbid; '' where they forbid nothing."""
    for profile in profiles:
        if profile.values:
            return f"the sizes of tensors depend on the content of {min(profile.values)}"
    for spec in (*sides[0], *sides[1]):
        if not spec.shape:
            return f"{spec.name} is a scalar"
        if isinstance(spec.shape[0], int):
            return f"the first dimension of {spec.name} is fixed to {spec.shape[0]}"
    if len({spec.shape[0] for spec in sides[0]}) > 1:
        names = ", ".join(f"{spec.name}: {spec.shape[0] or '?'}" for spec in sides[0])
        return f"the first dimensions of the inputs differ ({names})"
    for profile in profiles:
        for name, item in profile.ranges.items():
            if item.min[0] > 1:
                return f"the engine takes batches from {item.min[0]} on ({name}), and a request may hold one"
    return ""


def _sizes(inputs: tuple[TensorSpec, ...], profiles: tuple[OptimizationProfile, ...]) -> tuple[int, tuple[int, ...]]:
    """The largest batch of all profiles, and those that they are tuned for; where any shape will do, a proposal."""
    used = profiles or (default_profile(inputs),)
    ranges = [[item for item in profile.ranges.values()] for profile in used]
    largest = max(min(item.max[0] for item in items) for items in ranges)
    return largest, tuple(sorted({items[0].opt[0] for items in ranges}))


def _share_a_name(sides: Sides) -> bool:
    names = {spec.shape[0] for spec in (*sides[0], *sides[1])}
    return len(names) == 1 and None not in names


def _why_apart(largest: int, feeds: Feeds, run: Run | None) -> str:
    """Try it; '' where each row of every output belongs to one row of the inputs, whatever the others hold.

    The first row alone must give what it gives among others.
    """
    if run is None:
        return "nothing tells whether the first dimension of every output is the batch"
    first = {name: array[:1] for name, array in feeds.items()}
    many = dict(feeds)
    if len(next(iter(feeds.values()))) == 1 and largest > 1:
        many = {name: np.concatenate([array, _another(array)]) for name, array in feeds.items()}
    size = len(next(iter(many.values())))
    try:
        alone, among = run(first), run(many)
        for name, array in among.items():
            if (len(alone[name]), len(array)) != (1, size):
                return f"{name} has {len(alone[name])} rows for a batch of 1, and {len(array)} for one of {size}"
        found = compare_outputs(alone, {name: array[:1] for name, array in among.items()})
    except WorkbenchError as error:
        return f"batches of 1 and {size} cannot be compared: {str(error).rstrip('.')}"
    apart = [item.output for item in found if not (item.relative <= _ALIKE or item.max_abs <= _NOISE)]
    return f"a row of {apart[0]} depends on the other rows of the batch" if apart else ""


def _another(row: np.ndarray) -> np.ndarray:
    """Another row of the same values, so that indices stay valid; of a single float half of it."""
    if row.ndim > 1:
        return np.flip(row, tuple(range(1, row.ndim)))
    return row * row.dtype.type(0.5) if row.dtype.kind == "f" else row
