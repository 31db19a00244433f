"""Which dimensions of the inputs are open, which an exporter froze and at which node, and opening one where it can be.

A fixed dimension opens when the graph follows another size: by shape inference first, then by running the model at two
sizes. A batch must moreover give each of its rows the answer that the row gets alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from workbench.backends import available
from workbench.blame import doubled, explain, find_blockers, new_blocker, places_of, probe_shapes
from workbench.dimensions import read_change, read_places, set_dimension, set_input_dimension, set_output_shapes
from workbench.errors import RunError, ShapeError
from workbench.model import Model, operator
from workbench.profiles import open_dimensions
from workbench.reference import Reference, random_feeds
from workbench.tensor_shapes import ShapeConflict, ShapeInference, TensorShape
from workbench.types import Dim, Shape, Support

_LEARNED = {"Conv", "ConvTranspose", "BatchNormalization", "LayerNormalization"}
"""Operators whose weights have one size; a Gemm or MatMul may also fail on what a Reshape before it made."""
_MOST_RELATIVE = 1e-3


@dataclass(frozen=True)
class InputDimension:
    """One axis of one input or output. same_as: other places of the same name, (tensor, axis). blocker: the node that
    takes no other size than the model's own; looked for in inputs only."""

    tensor: str
    axis: int
    is_input: bool
    dim: Dim
    same_as: tuple[tuple[str, int], ...]
    blocker: ShapeConflict | None

    @property
    def is_open(self) -> bool:
        return not isinstance(self.dim, int)


def describe_dimensions(model: Model) -> tuple[InputDimension, ...]:
    """Every axis of every input and output, with the node at fault where an exporter froze it."""
    places: dict[str, list[tuple[str, int]]] = {}
    specs = [*((spec, True) for spec in model.inputs), *((spec, False) for spec in model.outputs)]
    for spec, _ in specs:
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, str):
                places.setdefault(dim, []).append((spec.name, axis))
    blockers = find_blockers(model)
    found = []
    for spec, is_input in specs:
        for axis, dim in enumerate(spec.shape):
            here = (spec.name, axis)
            same = tuple(place for place in places.get(dim, ()) if place != here) if isinstance(dim, str) else ()
            found.append(InputDimension(spec.name, axis, is_input, dim, same, blockers.get(here) if is_input else None))
    return tuple(found)


def open_dimension(model: Model, places: Iterable[tuple[str, int]], name: str) -> Model:
    """The model with fixed axes of inputs, as (input, axis), opened under this name; it is tried at two sizes.

    Outputs that follow are opened with them. Raises ShapeError naming the node in the way, ModelError for an input or
    axis that does not exist.
    """
    places = tuple(places)
    opened = model
    for input_name, axis in places:
        opened = set_input_dimension(opened, input_name, axis, name)
    opened = replace(opened, edits=_as_one(model, opened, places, name))
    linked = places_of(opened, name)
    size = _fixed_size(model, places)
    small = _resized(probe_shapes(model.inputs), linked, size)
    large = doubled(small, linked)
    inference = ShapeInference(opened)
    before, after = inference.at(small), inference.at(large)
    blocker = new_blocker(opened, before, after)
    if blocker is not None:
        raise _refused(places, size, blocker)
    try:
        reference = Reference(opened)
        outputs = [reference.run(random_feeds(opened.inputs, small))]
    except RunError as error:
        raise _untried(places, error) from error
    try:
        outputs.append(reference.run(random_feeds(opened.inputs, large)))
        if all(axis == 0 for _, axis in linked):
            _check_rows(reference, opened, small, {input_name for input_name, _ in linked})
    except RunError as error:
        failed = ShapeConflict(error.node or "", _operator_of(model, error.node), error.reason)
        raise _refused(places, size, explain(model, failed, before, after)) from error
    inferred = inference.symbolic().by_name
    return set_output_shapes(opened, _output_shapes(model, inferred, outputs, (size, 2 * size), name))


def _as_one(model: Model, opened: Model, places: tuple[tuple[str, int], ...], name: str) -> tuple[str, ...]:
    """The edits with one for all places: they open together or not at all, also when the edits are applied again."""
    change = f"{','.join(f'{input_name}:{axis}' for input_name, axis in places)}={name}"
    readable = read_places(model, change)[0] == places  # unless a name holds a comma
    return (*model.edits, change) if readable else opened.edits


def edit(model: Model, change: str) -> Model:
    """One change written as text: 'batch=4' fixes a dimension by name, 'batch=n' renames it, 'x:2=48' fixes axis 2 of
    input x, 'x:2=height' names it, and opens it if it was fixed and the graph allows; 'ids:0,mask:0=batch' does so
    with several that grow together.

    Raises ModelError for what cannot be read or found, ShapeError where a node blocks the opening.
    """
    places, dim = read_places(model, change)
    shapes = {spec.name: spec.shape for spec in model.inputs}
    if places and isinstance(dim, str):
        fixed = [isinstance(shapes[name][axis], int) for name, axis in places if axis < len(shapes[name])]
        if any(fixed):
            return open_dimension(model, places, dim)
    if not places:
        return set_dimension(model, read_change(change)[0], dim)
    edited = model
    for input_name, axis in places:
        edited = set_input_dimension(edited, input_name, axis, dim)
    return set_output_shapes(edited, _followed(edited))


def what_back_ends_ask(model: Model, supports: Mapping[str, Support] | None = None) -> dict[str, str]:
    """What each back end will want to know about the shapes, as a sentence by its name."""
    dims = open_dimensions(model.inputs)
    names = ", ".join(dim.name if dim.name and dim.name != "?" else "{}[{}]".format(*dim.places[0]) for dim in dims)
    asks = {}
    for name, support in (supports or available()).items():
        if not dims:
            asks[name] = "nothing: every dimension is fixed."
        elif support.takes_any_shape:
            asks[name] = "nothing: it takes any shape."
        else:
            ranges = "one range" if len(dims) == 1 else f"{len(dims)} ranges"
            asks[name] = f"an optimization profile: min, opt and max of {names} ({ranges})."
    return asks


def _fixed_size(model: Model, places: tuple[tuple[str, int], ...]) -> int:
    """The size at which the places are fixed; several are tried together, so theirs must be one."""
    shapes = {spec.name: spec.shape for spec in model.inputs}
    sizes = {dim for name, axis in places if isinstance(dim := shapes[name][axis], int)}
    if len(sizes) != 1:
        said = " and ".join(map(str, sorted(sizes))) or "none"
        raise ShapeError(f"dimensions opened under one name must have one size; these have {said}.")
    return sizes.pop()


def _resized(shapes: Mapping[str, Shape], places: set[tuple[str, int]], size: int) -> dict[str, Shape]:
    return {
        name: tuple(size if (name, axis) in places else old for axis, old in enumerate(shape))
        for name, shape in shapes.items()
    }


def _refused(places: tuple[tuple[str, int], ...], size: int, blocker: ShapeConflict) -> ShapeError:
    where = ", ".join(f"input {name}, dimension {axis}" for name, axis in places)
    learned = "That is part of what was learned." if blocker.op_type in _LEARNED else ""
    remedy = learned or "Export the model again with this dimension open."
    return ShapeError(f"{where} cannot be opened: the graph takes {size} only. {blocker}. {remedy}")


def _untried(places: tuple[tuple[str, int], ...], error: RunError) -> ShapeError:
    where = ", ".join(f"input {name}, dimension {axis}" for name, axis in places)
    return ShapeError(f"{where} cannot be opened: the model cannot be tried, as it fails at its own sizes: {error}")


def _operator_of(model: Model, node_name: str | None) -> str:
    return next((operator(node) for node in model.nodes if node.name == node_name), "the model")


def _check_rows(reference: Reference, model: Model, shapes: Mapping[str, Shape], grown: set[str]) -> None:
    """A batch of two different feeds must answer what each answers alone."""
    first, second = (random_feeds(model.inputs, shapes, seed=seed) for seed in (0, 1))
    second = {name: array if name in grown else first[name] for name, array in second.items()}
    both = {name: np.concatenate([first[name], second[name]]) if name in grown else first[name] for name in first}
    alone, together = (reference.run(first), reference.run(second)), reference.run(both)
    for name, answer in together.items():
        rows = [item[name] for item in alone]
        if not answer.ndim or len(answer) != sum(len(row) for row in rows):
            continue  # an output without a row for each feed
        apart = _most_apart(np.concatenate(rows), answer)
        if not apart <= _MOST_RELATIVE:
            raise ShapeError(
                f"{', '.join(sorted(grown))}: dimension 0 cannot be opened as a batch: output {name} of one row "
                f"changes by {apart:.1e} when another row stands beside it, so the graph mixes the rows."
            )


def _most_apart(expected: np.ndarray, answer: np.ndarray) -> float:
    """Of the row that differs most: the norm of the difference over the row's own; tiny rows over the usual one's."""
    if expected.shape != answer.shape or expected.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(expected, answer) else np.inf
    if np.array_equal(expected, answer, equal_nan=expected.dtype.kind == "f"):
        return 0.0  # infinite values have no distance
    left, right = (array.reshape(len(array), -1).astype(np.float64) for array in (expected, answer))
    norms = np.linalg.norm(left, axis=1)
    return float(np.max(np.linalg.norm(left - right, axis=1) / np.maximum(norms, np.median(norms) * 1e-3 + 1e-30)))


def _followed(model: Model) -> dict[str, tuple[Dim, ...]]:
    """What the outputs' open dimensions are as far as it follows from the inputs'; a name only if an input has it."""
    inference, inputs = ShapeInference(model), model.inputs
    names = list(dict.fromkeys(dim for spec in inputs for dim in spec.shape if isinstance(dim, str)))
    symbolic, shapes = inference.symbolic().by_name, {}
    for spec in model.outputs:
        found = symbolic[spec.name].shape if spec.name in symbolic else None
        if found is not None and len(found) == len(spec.shape):
            follows = (dim if isinstance(dim, int) or dim in names else None for dim in found)
            shapes[spec.name] = tuple(new if old is None else old for old, new in zip(spec.shape, follows, strict=True))
    if any(None in shape for shape in shapes.values()):
        small = probe_shapes(inputs)
        before = inference.at(small).by_name
        for name in names:
            after = inference.at(doubled(small, places_of(model, name))).by_name
            size = next(small[tensor][axis] for tensor, axis in places_of(model, name))
            for key, shape in shapes.items():
                sizes = zip(before[key].shape or (), after[key].shape or (), strict=False)
                followed = [pair == (size, 2 * size) for pair in sizes]
                if len(followed) == len(shape):
                    shapes[key] = tuple(
                        name if dim is None and grew else dim for dim, grew in zip(shape, followed, strict=True)
                    )
    return shapes


def _output_shapes(
    model: Model,
    inferred: Mapping[str, TensorShape],
    outputs: list[dict[str, np.ndarray]],
    sizes: tuple[int, int],
    name: str,
) -> dict[str, tuple[Dim, ...]]:
    """What the outputs' dimensions are, by what they were at the two sizes; one that stayed and has no size in the
    model may depend on other dimensions or on data, so it gets one only if it follows from the graph."""
    small, large = outputs
    shapes: dict[str, tuple[Dim, ...]] = {}
    for spec in model.outputs:
        dims: list[Dim] = []
        for axis, (one, two) in enumerate(zip(small[spec.name].shape, large[spec.name].shape, strict=True)):
            was = spec.shape[axis] if axis < len(spec.shape) else None
            if one == two:
                dims.append(was if was is not None else _size_of(inferred.get(spec.name), axis))
            else:
                dims.append(name if (one, two) == sizes else None)
        shapes[spec.name] = tuple(dims)
    return shapes


def _size_of(tensor: TensorShape | None, axis: int) -> int | None:
    dim = tensor.shape[axis] if tensor is not None and tensor.shape else None
    return dim if isinstance(dim, int) else None
