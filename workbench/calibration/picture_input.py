"""The input of a model that takes pictures, and how pictures become it: as stated, as written beside it, or derived."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from workbench.errors import ConfigError, FeedError
from workbench.model import Model
from workbench.paddle_config import read_preprocessing
from workbench.preprocessing import CHANNELS, Preprocessing, apply, check_preprocessing, describe
from workbench.types import TensorSpec, count_of

_DTYPES = ("float32", "float16", "bfloat16", "float64", "uint8")
_CHANNELS = {1: "GRAY", 3: "RGB"}
_STRIDE = 32
"""Networks that take pictures of any size mostly halve them five times, and add what comes back up."""


def picture_input(model: Model) -> TensorSpec:
    """The model's only input, if it can be fed with pictures. Raises FeedError."""
    if len(model.inputs) != 1:
        names = ", ".join(spec.name for spec in model.inputs) or "none"
        raise FeedError(
            f"{model.name} has {count_of(len(model.inputs), 'input')} ({names}); pictures feed a model with one: give "
            "arrays for each, saved with numpy.savez."
        )
    (spec,) = model.inputs
    if len(spec.shape) != 4 or spec.dtype not in _DTYPES:
        raise FeedError(
            f"input {spec} of {model.name} takes no pictures, which are floats or uint8 of four dimensions: give "
            "arrays, saved with numpy.savez."
        )
    return spec


def decide(
    model: Model, spec: TensorSpec, stated: Preprocessing | None, folders: Iterable[Path]
) -> tuple[Preprocessing, str]:
    """The preprocessing, and a sentence that says where it comes from. folders: where a configuration may lie.

    Raises ConfigError for one that does not fit the input, FeedError where none is known.
    """
    if stated is not None:
        how = _fitted(stated, spec)
        return how, f"Preprocessing as stated: {describe(how)}."
    for folder in folders:
        found = read_preprocessing(folder)
        if found:
            how = _fitted(found, spec)
            return how, f"Preprocessing from {how.source}: {describe(how)}."
    how = _derived(model, spec)
    return how, (
        f"Preprocessing derived from the input {spec}: {describe(how)}. "
        "State your own if the model was trained with another."
    )


def to_input(how: Preprocessing, spec: TensorSpec, picture: np.ndarray | Path) -> np.ndarray:
    """The input of batch size 1 for a picture, in the input's type. Raises FeedError."""
    values = apply(how, picture)
    return values if spec.dtype == "float32" else values.astype(spec.dtype)


def _derived(model: Model, spec: TensorSpec) -> Preprocessing:
    layout = next((name for name, axis in (("NCHW", 1), ("NHWC", 3)) if spec.shape[axis] in _CHANNELS), None)
    if layout is None:
        raise FeedError(
            f"input {spec} of {model.name} has neither 1 nor 3 channels, at the second or the last place: state a "
            "preprocessing if it takes pictures, or give arrays, saved with numpy.savez."
        )
    channels, height, width = (spec.shape[axis] for axis in _axes(layout))
    scale = 1.0 if spec.dtype == "uint8" else 1 / 255
    how = Preprocessing(channels=_CHANNELS[channels], layout=layout, scale=scale)  # type: ignore[index]
    if isinstance(height, int) and isinstance(width, int):
        return replace(how, size=(height, width))
    if isinstance(height, int) or isinstance(width, int):
        raise FeedError(
            f"input {spec} of {model.name} has one side of any size: state a preprocessing with the size that "
            "pictures shall have."
        )
    return replace(how, resize="none", multiple_of=_STRIDE)


def _fitted(how: Preprocessing, spec: TensorSpec) -> Preprocessing:
    """The preprocessing with the input's size where it tells none. Raises ConfigError where the two disagree."""
    check_preprocessing(how)
    origin = f"the preprocessing of {how.source}" if how.source else "the preprocessing"
    wanted = tuple(spec.shape[axis] for axis in _axes(how.layout))
    channels, sides = wanted[0], wanted[1:]
    if isinstance(channels, int) and channels != CHANNELS[how.channels]:
        raise ConfigError(
            f"{origin} makes {how.channels} in the layout {how.layout}, the input {spec} has {channels} channels there."
        )
    if spec.dtype == "uint8" and (how.scale != 1 or any(how.mean) or set(how.std) != {1.0}):
        raise ConfigError(f"the input {spec} takes pixels as they are: state scale=1, and neither mean nor std.")
    if how.size is None and any(isinstance(side, int) for side in sides):
        return _sized(how, origin, spec, sides)
    for side, size in zip(sides, how.size or (), strict=False):
        if isinstance(side, int) and side != size:
            raise ConfigError(f"{origin} makes pictures of {how.size}, the input {spec} takes another size.")
    return how


def _sized(how: Preprocessing, origin: str, spec: TensorSpec, sides: tuple[object, ...]) -> Preprocessing:
    height, width = sides
    if not isinstance(height, int) or not isinstance(width, int) or how.resize in ("longer", "at_most", "at_least"):
        raise ConfigError(f"{origin} makes sizes that follow the picture, the input {spec} does not: state a size.")
    how = replace(how, size=(height, width))
    check_preprocessing(how)
    return how


def _axes(layout: str) -> tuple[int, int, int]:
    """Where channels, height and width are."""
    return (1, 2, 3) if layout == "NCHW" else (3, 1, 2)
