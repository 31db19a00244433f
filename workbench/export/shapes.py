"""Sizes at which an export is compared with its framework, and names for its open dimensions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorShapeProto

from workbench.errors import ShapeError
from workbench.export.parity import by
from workbench.types import Feeds, Shape, TensorSpec

_BATCHES, _MANY = (1, 2), (24, 32)
_SIDES = ((128, 160), (160, 96))
_LENGTHS = (16, 24)

Answer = tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]
"""Feeds and outputs by name."""


def trial_sets(
    inputs: Sequence[TensorSpec],
    shapes: Sequence[Mapping[str, Shape]] | None,
    feeds: Sequence[Feeds],
    folder: Path,
    *,
    many: bool = False,
) -> list[dict[str, Any]]:
    """What `child` shall answer to: the user's feeds and shapes, and one more where they leave an open dimension at
    one size, which proves nothing; without any of the user's, two proposed ones.

    folder: gets the feeds' arrays. said: for messages. opens: of the one more, the dimensions it is there for.
    """
    sets: list[dict[str, Any]] = []
    seen: list[Mapping[str, Shape]] = []
    for index, given in enumerate(_twice(inputs, feeds)):
        seen.append({name: np.shape(array) for name, array in given.items()})
        check_fit(inputs, seen[-1])
        arrays: dict[str, Any] = {
            str(place): np.asarray(given[spec.name]).astype(spec.dtype) for place, spec in enumerate(inputs)
        }
        np.savez(folder / f"given-{index}.npz", **arrays)
        sets.append({"file": str(folder / f"given-{index}.npz")})
    if shapes is not None or not feeds:
        seen += trial_shapes(inputs, shapes, many=many)
    another, opens = another_size(inputs, seen, many=many)
    seen += [another] if opens else []
    for index, sizes in enumerate(seen):
        sets += [{}] if index >= len(sets) else []
        sets[index]["said"] = ", ".join(f"{name} {by(shape)}" for name, shape in sizes.items())
        sets[index]["inputs"] = [
            {"name": spec.name, "dtype": spec.dtype, "shape": list(sizes[spec.name])} for spec in inputs
        ]
    if opens:
        sets[-1]["opens"] = opens
    return sets


def _twice(inputs: Sequence[TensorSpec], feeds: Sequence[Feeds]) -> list[Feeds]:
    """The user's feeds, and where there is one set of several rows, half of it too: two sizes tell what is frozen."""
    rows = {np.shape(array)[:1] for array in feeds[0].values()} if len(feeds) == 1 else set()
    if len(rows) != 1 or rows == {()} or not all(0 in spec.open_axes for spec in inputs):
        return list(feeds)
    ((count,),) = rows
    halves = {name: np.asarray(array)[: count // 2] for name, array in feeds[0].items()}
    return [*feeds, halves] if count > 1 else list(feeds)


def trial_shapes(
    inputs: Sequence[TensorSpec], given: Sequence[Mapping[str, Shape]] | None, *, many: bool = False
) -> tuple[dict[str, Shape], ...]:
    """Shapes for every input, by name: the user's, or two sets for the open dimensions.

    An input that the user leaves out gets its own of the proposed sets, whose pictures have sides that are multiples
    of 32. many: larger batches. Raises ShapeError when a given shape does not fit.
    """
    proposed = tuple({spec.name: _proposal(spec, number, many) for spec in inputs} for number in (0, 1))
    if given is None:
        return proposed
    if not given:
        raise ShapeError("shapes: no set of shapes is given; leave it out, or give [{input: shape}].")
    sets: list[dict[str, Shape]] = []
    for number, shapes in enumerate(given):
        sets.append(proposed[number % 2] | {name: tuple(shape) for name, shape in shapes.items()})
        check_fit(inputs, sets[-1])
    return tuple(sets)


def another_size(
    inputs: Sequence[TensorSpec], seen: Sequence[Mapping[str, Shape]], *, many: bool = False
) -> tuple[dict[str, Shape], tuple[str, ...]]:
    """Shapes at which every open dimension that had one size in all sets of `seen` has another; and their names.

    The others stay as in the first set.
    """
    proposed = tuple({spec.name: _proposal(spec, number, many) for spec in inputs} for number in (0, 1))
    shapes = {spec.name: list(seen[0][spec.name]) for spec in inputs}
    once = []
    for spec in inputs:
        for axis in spec.open_axes:
            sizes = {given[spec.name][axis] for given in seen}
            if len(sizes) == 1:
                once.append(str(spec.shape[axis]))
                others = [other[spec.name][axis] for other in proposed if other[spec.name][axis] not in sizes]
                shapes[spec.name][axis] = others[-1] if others else max(sizes) + 1
    return {name: tuple(shape) for name, shape in shapes.items()}, tuple(once)


def check_fit(inputs: Iterable[TensorSpec], shapes: Mapping[str, Shape]) -> None:
    """Raise ShapeError where shapes do not fit the inputs."""
    specs = {spec.name: spec for spec in inputs}
    for name in [*shapes, *specs]:
        if name not in specs:
            raise ShapeError(f"there is no input {name!r}; the inputs are {', '.join(map(str, specs.values()))}.")
        if name not in shapes:
            raise ShapeError(f"input {specs[name]} is missing among the feeds.")
        spec, shape = specs[name], shapes[name]
        fits = len(shape) == len(spec.shape) and all(
            size == dim if isinstance(dim, int) else size > 0 for size, dim in zip(shape, spec.shape, strict=True)
        )
        if not fits:
            raise ShapeError(f"the shape {'x'.join(map(str, shape)) or 'scalar'} does not fit the input {spec}.")


def name_input_dimensions(proto: ModelProto) -> ModelProto:
    """Call the open dimensions of the inputs by what they are, in place of a converter's 'unk__44'; returns `proto`.

    Equal names mean equal sizes, and that is known of a single input only: of several, each has names of its own.
    """
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in weights]
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        plain = _plain_names([item.dim_value if item.dim_value > 0 else None for item in dims])
        for axis, item in enumerate(dims):
            if item.dim_value <= 0:
                item.dim_param = plain[axis] if len(inputs) == 1 else f"{value.name}_{plain[axis]}"
    del proto.graph.value_info[:]  # inferred under the old names
    return proto


def fix_dimensions(proto: ModelProto, names: Collection[str], answers: Sequence[Answer]) -> None:
    """Give the inputs' open dimensions of these names the size that they have in the answers."""
    for value in proto.graph.input:
        for axis, item in enumerate(value.type.tensor_type.shape.dim):
            if item.dim_param in names:
                item.dim_value = answers[0][0][value.name].shape[axis]


def name_output_dimensions(proto: ModelProto, answers: Sequence[Answer]) -> ModelProto:
    """Give open dimensions of outputs the name of the input's dimension that had the same size every time.

    Where sizes did not change, or none fits, they get a name of their own. A stated size that varied is open. Returns
    `proto`.
    """
    sizes: dict[tuple[int, ...], str] = {}
    for value in proto.graph.input:
        for axis, item in enumerate(value.type.tensor_type.shape.dim):
            seen = tuple(feeds[value.name].shape[axis] for feeds, _ in answers if value.name in feeds)
            if item.dim_param and len(set(seen)) > 1:
                sizes.setdefault(seen, item.dim_param)
    for value in proto.graph.output:
        ranks = {outputs[value.name].ndim for _, outputs in answers}
        if not value.type.tensor_type.HasField("shape") and len(ranks) == 1:
            value.type.tensor_type.shape.dim.extend(TensorShapeProto.Dimension() for _ in range(min(ranks)))
        for axis, item in enumerate(value.type.tensor_type.shape.dim):
            seen = tuple(outputs[value.name].shape[axis] for _, outputs in answers) if min(ranks) > axis else ()
            if item.dim_value <= 0 or len(set(seen)) > 1:
                item.dim_param = sizes.get(seen) or f"{value.name}_{axis}"
    return proto


def _proposal(spec: TensorSpec, number: int, many: bool) -> Shape:
    """A shape for an input: set 0 or 1."""
    sides = iter(_SIDES[number])
    shape: list[int] = []
    for axis, dim in enumerate(spec.shape):
        if isinstance(dim, int):
            shape.append(dim)
        elif axis == 0:
            shape.append((_MANY if many else _BATCHES)[number])
        elif len(spec.shape) == 4:
            shape.append(next(sides, 3))
        else:
            shape.append(_LENGTHS[number])
    return tuple(shape)


def _plain_names(dims: Sequence[int | None]) -> list[str]:
    """'batch', then 'height' and 'width' of pictures, 'length' of sequences; by number where that does not fit."""
    names = ["batch", *(f"dim{axis}" for axis in range(1, len(dims)))]
    if len(dims) == 4:
        channels_last = dims[3] is not None and dims[1] is None
        names[1 if channels_last else 2 : 3 if channels_last else 4] = ["height", "width"]
    elif len(dims) in (2, 3):
        names[1] = "length"
    return names[: len(dims)]
