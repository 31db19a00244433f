"""Which optimization profile takes these arrays, and what is wrong where none does."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.backends import check_feeds
from workbench.errors import FeedError
from workbench.types import Feeds, OptimizationProfile, Shape, ShapeRange, TensorSpec


@dataclass(frozen=True)
class Fitted:
    """profile: its index. shapes: of every input; values: of those that the engine reads on the host, for it sizes
    tensors by them."""

    profile: int
    shapes: dict[str, Shape]
    values: dict[str, np.ndarray]

    @property
    def key(self) -> tuple[Any, ...]:
        contents = tuple((name, array.tobytes()) for name, array in self.values.items())
        return self.profile, tuple(self.shapes.items()), contents


def fit(
    inputs: tuple[TensorSpec, ...], profiles: tuple[OptimizationProfile, ...], feeds: Feeds, on_host: Collection[str]
) -> Fitted:
    """The profile whose opt lies nearest among those that take the arrays. on_host: inputs whose content matters.

    Raises FeedError, naming the input and the dimension at fault.
    """
    check_feeds(inputs, feeds)
    shapes = {spec.name: tuple(feeds[spec.name].shape) for spec in inputs}
    values = {name: np.asarray(feeds[name]) for name in shapes if name in on_host}
    _check_names(inputs, shapes)
    if not profiles:
        return Fitted(0, shapes, values)
    misfits = [_misfit(profile, shapes, values) for profile in profiles]
    fitting = [index for index, text in enumerate(misfits) if not text]
    if not fitting:
        nearest = min(range(len(profiles)), key=lambda index: _distance(profiles[index], shapes))
        which = f" (optimization profile {nearest + 1} of {len(profiles)}, the nearest)" if len(profiles) > 1 else ""
        raise FeedError(f"{misfits[nearest]}{which}. Build the engine with a profile that reaches that far.")
    best = min(fitting, key=lambda index: _distance(profiles[index], shapes))
    return Fitted(best, shapes, values)


def _misfit(profile: OptimizationProfile, shapes: dict[str, Shape], values: dict[str, np.ndarray]) -> str:
    """What the profile does not take, in words; '' where it takes all."""
    for name, item in profile.ranges.items():
        for axis, size in enumerate(shapes.get(name, ())):
            text = _outside(size, item, axis)
            if text:
                return f"input {name}, dimension {axis}: {text}"
    for name, item in profile.values.items():
        for place, value in enumerate(values[name].flatten().tolist() if name in values else ()):
            text = _outside(value, item, place)
            if text:
                return f"input {name}, value {place}: {text}"
    return ""


def _outside(size: int, item: ShapeRange, place: int) -> str:
    low, high = item.min[place], item.max[place]
    return "" if low <= size <= high else f"{size} is outside of {low} to {high}, which the engine was built for"


def _distance(profile: OptimizationProfile, shapes: dict[str, Shape]) -> float:
    return sum(
        abs(math.log(max(size, 1) / max(best, 1)))
        for name, item in profile.ranges.items()
        for size, best in zip(shapes.get(name, ()), item.opt, strict=False)
    )


def _check_names(inputs: tuple[TensorSpec, ...], shapes: dict[str, Shape]) -> None:
    """Dimensions of one name are equal."""
    seen: dict[str, tuple[str, int]] = {}
    for spec in inputs:
        for dim, size in zip(spec.shape, shapes[spec.name], strict=True):
            if isinstance(dim, str):
                name, first = seen.setdefault(dim, (spec.name, size))
                if first != size:
                    raise FeedError(f"dimension {dim} is {first} in input {name} and {size} in input {spec.name}.")
