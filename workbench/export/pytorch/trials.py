"""Sets of shapes at which an export is compared with its framework, and values to fill them with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.errors import ConfigError, ShapeError
from workbench.types import Dim, Shape, TensorSpec

_NAME = re.compile(r"[^\W\d][\w.\-]*")


@dataclass(frozen=True)
class Trial:
    """Arrays for every input by name. sizes: of every open dimension by its name."""

    feeds: Mapping[str, np.ndarray]
    sizes: Mapping[str, int]

    def __str__(self) -> str:
        return ", ".join(f"{name} {'x'.join(map(str, array.shape))}" for name, array in self.feeds.items())


def open_specs(
    example: Mapping[str, np.ndarray], open_dims: Mapping[str, Mapping[int, str]], also: Mapping[str, str]
) -> tuple[TensorSpec, ...]:
    """The inputs with their open dimensions named. also: other names of an input -> its name.

    Raises ConfigError: an unknown input, an axis it has not, a name that is none, or one name for two sizes.
    """
    shapes: dict[str, list[Dim]] = {name: list(array.shape) for name, array in example.items()}
    sizes: dict[str, tuple[int, str]] = {}
    for given, axes in open_dims.items():
        name = given if given in shapes else also.get(given, given)
        if name not in shapes:
            raise ConfigError(f"open_dims: there is no input {given!r}; the inputs are {', '.join(shapes)}.")
        rank = len(shapes[name])
        if not isinstance(axes, Mapping):
            raise ConfigError(f"open_dims: for input {name} write the axes with their names, such as {{0: 'batch'}}.")
        for axis, dim in axes.items():
            if not isinstance(axis, int) or not -rank <= axis < rank:
                raise ConfigError(
                    f"open_dims: input {name} has {rank} dimensions; {axis!r} is not one, counted from 0."
                )
            if not isinstance(dim, str) or not _NAME.fullmatch(dim):
                raise ConfigError(
                    f"open_dims: dimension {axis} of input {name} needs a name such as 'batch', not {dim!r}; "
                    "to fix it to the example's size, leave it out."
                )
            if isinstance(shapes[name][axis], str):
                raise ConfigError(
                    f"open_dims: axis {axis % rank} of input {name} is called {shapes[name][axis]!r} and {dim!r}: "
                    "name it once."
                )
            size = example[name].shape[axis]
            known, where = sizes.setdefault(dim, (size, f"{name} axis {axis}"))
            if known != size:
                raise ConfigError(
                    f"open_dims: {dim!r} is {known} in {where} and {size} in {name} axis {axis} of the example; "
                    "equal names mean equal sizes: give the dimensions different names, or another example."
                )
            shapes[name][axis] = dim
    return tuple(TensorSpec(name, example[name].dtype.name, tuple(shape)) for name, shape in shapes.items())


def trials(
    specs: Sequence[TensorSpec],
    example: Mapping[str, np.ndarray],
    shapes: Sequence[Mapping[str, Shape]] | None = None,
    feeds: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[Trial, ...]:
    """The example first, then the user's feeds and shapes; without any, two more sizes of every open dimension.

    Where the user's leave an open dimension at the example's size, one more trial has it at another: a size seen once
    proves nothing. shapes: by input name; an input that is left out keeps the example's. feeds: arrays by input name.
    Raises ShapeError when one does not fit, or `shapes` is empty.
    """
    sizes = _sizes(specs, {name: array.shape for name, array in example.items()})
    found = [Trial(example, sizes), *(_fed(specs, example, given) for given in feeds or ())]
    if shapes is not None and not shapes:
        raise ShapeError("shapes: no set of shapes is given; leave it out, or give [{input: shape}].")
    for given in shapes or ():
        _check_names("shapes", given, example)
        wanted = {name: tuple(given.get(name, array.shape)) for name, array in example.items()}
        found.append(_filled(example, wanted, _sizes(specs, wanted), len(found)))
    steps = 2 if len(found) == 1 else 1
    once = [name for name in sizes if len({trial.sizes[name] for trial in found}) == 1]
    batches = {spec.shape[0] for spec in specs if spec.shape}
    ladder = {name: _others(sizes[name], name in batches) for name in once}
    for step in range(steps if once else 0):
        # Every second one the other way round, so that two dimensions of one size do not stay equal.
        tried = {name: ladder[name][(step + index) % 2] for index, name in enumerate(once)}
        found.append(trial_at(specs, example, tried, len(found)))
    return tuple(found)


def _fed(specs: Sequence[TensorSpec], example: Mapping[str, np.ndarray], given: Mapping[str, Any]) -> Trial:
    _check_names("feeds", given, example)
    missing = [name for name in example if name not in given]
    if missing:
        raise ShapeError(f"feeds: input {missing[0]} is missing; the inputs are {', '.join(example)}.")
    feeds = {name: np.asarray(given[name]).astype(array.dtype) for name, array in example.items()}
    return Trial(feeds, _sizes(specs, {name: array.shape for name, array in feeds.items()}, "feeds"))


def _check_names(what: str, given: Mapping[str, Any], example: Mapping[str, np.ndarray]) -> None:
    unknown = sorted(given.keys() - example.keys())
    if unknown:
        raise ShapeError(f"{what}: there is no input {unknown[0]!r}; the inputs are {', '.join(example)}.")


def trial_at(
    specs: Sequence[TensorSpec], example: Mapping[str, np.ndarray], sizes: Mapping[str, int], seed: int
) -> Trial:
    """The example with its open dimensions at these sizes; one that is not named keeps the example's."""
    wanted = {
        spec.name: tuple(
            sizes.get(dim, example[spec.name].shape[axis]) if isinstance(dim, str) else int(dim or 0)
            for axis, dim in enumerate(spec.shape)
        )
        for spec in specs
    }
    return _filled(example, wanted, _sizes(specs, wanted), seed)


def _others(size: int, is_batch: bool) -> tuple[int, int]:
    """Two more sizes: 1 and one more for a batch; else those a power of two away that the size is a multiple of."""
    if is_batch:
        return (2, 3) if size == 1 else (1, size + 1)
    step = size & -size
    return (size + step, size - step if size > step else size + 2 * step)


def _sizes(specs: Sequence[TensorSpec], shapes: Mapping[str, Shape], what: str = "shapes") -> dict[str, int]:
    """The size of every open dimension. Raises ShapeError where the shapes do not fit the specs."""
    sizes: dict[str, int] = {}
    for spec in specs:
        shape = shapes[spec.name]
        said = "x".join(map(str, shape))
        if len(shape) != len(spec.shape):
            raise ShapeError(f"{what}: {said} does not fit {spec}, which has {len(spec.shape)} dimensions.")
        for axis, (dim, size) in enumerate(zip(spec.shape, shape, strict=True)):
            if isinstance(dim, str):
                if sizes.setdefault(dim, size) != size:
                    raise ShapeError(f"{what}: {dim} is {sizes[dim]} elsewhere and {size} in {spec.name} {said}.")
            elif dim != size:
                raise ShapeError(
                    f"{what}: {spec.name} {said} has {size} in dimension {axis}, which is fixed to {dim}; "
                    f"open it: open_dims={{{spec.name!r}: {{{axis}: 'a name'}}}}."
                )
    return sizes


def _filled(example: Mapping[str, np.ndarray], shapes: Mapping[str, Shape], sizes: dict[str, int], seed: int) -> Trial:
    """Values drawn from the example's own, so that indices, masks and ranges stay sensible."""
    generator = np.random.default_rng(seed)
    feeds = {}
    for name, array in example.items():
        constant = array.size == 0 or bool((array == array.flat[0]).all())
        if constant and array.dtype.kind == "f":
            feeds[name] = generator.random(shapes[name], dtype=np.float32).astype(array.dtype)
        elif array.size == 0:
            feeds[name] = np.zeros(shapes[name], array.dtype)
        else:
            feeds[name] = generator.choice(array.ravel(), shapes[name])
    return Trial(feeds, sizes)
