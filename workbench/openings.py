"""Which dimensions of the inputs are open, which an exporter froze and at which node, and opening one where it can be.

A fixed dimension opens when the graph follows another size: by shape inference first, then by running the model at two
sizes. A batch must moreover give each of its rows the answer that the row gets alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from onnx import NodeProto

from workbench import dimensions
from workbench.accuracy import compare_outputs
from workbench.backends import available
from workbench.dimensions import set_input_dimension, set_output_shapes
from workbench.errors import RunError, ShapeError
from workbench.model import Model, operator
from workbench.profiles import default_profile, open_dimensions
from workbench.reference import Reference, random_feeds
from workbench.tensor_shapes import ShapeInference, TensorShape, TensorShapes
from workbench.types import Dim, Shape, ShapeRange, Support, TensorSpec

_FREEZERS = {"Reshape", "Expand", "Tile", "Slice", "Resize", "ConstantOfShape", "Pad", "Upsample"}
"""Operators that take sizes as an input, which exporters often fill with constants."""
_LEARNED = {"Conv", "ConvTranspose", "BatchNormalization", "LayerNormalization"}
"""Operators whose weights have one size; a Gemm or MatMul may also fail on what a Reshape before it made."""
_MOST_RELATIVE = 1e-3
_FAR = 50
_PICTURE = 64


@dataclass(frozen=True)
class Blocker:
    """The node that holds a dimension to one size, and why, in words."""

    node: str
    op_type: str
    reason: str

    def __str__(self) -> str:
        return f"{self.op_type} {self.node}: {self.reason}"


@dataclass(frozen=True)
class InputDimension:
    """One axis of one input or output. same_as: other places of the same name, (tensor, axis). blocker: the node that
    takes no other size than the model's own; looked for in inputs only."""

    tensor: str
    axis: int
    is_input: bool
    dim: Dim
    same_as: tuple[tuple[str, int], ...]
    blocker: Blocker | None

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


def find_blockers(model: Model) -> dict[tuple[str, int], Blocker]:
    """By (input, axis): the node that does not follow when the axis doubles, found by shape inference alone."""
    inference, small = ShapeInference(model), trial_shapes(model.inputs)
    before = inference.at(small)
    found = {}
    for spec in model.inputs:
        for axis, dim in enumerate(spec.shape):
            large = _scaled(small, _places_of(model, dim) | {(spec.name, axis)}, 2)
            blocker = _blocker(model, before, inference.at(large))
            if blocker is not None:
                found[spec.name, axis] = blocker
    return found


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
    linked = _places_of(opened, name)
    size = _fixed_size(model, places)
    small = _resized(trial_shapes(model.inputs), linked, size)
    large = _scaled(small, linked, 2)
    inference = ShapeInference(opened)
    before, after = inference.at(small), inference.at(large)
    blocker = _blocker(opened, before, after)
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
        failed = Blocker(error.node or "", _operator_of(model, error.node), error.reason)
        raise _refused(places, size, _explain(model, failed, before, after)) from error
    inferred = inference.symbolic().by_name
    return set_output_shapes(opened, _output_shapes(model, inferred, outputs, (size, 2 * size), name))


def _as_one(model: Model, opened: Model, places: tuple[tuple[str, int], ...], name: str) -> tuple[str, ...]:
    """The edits with one for all places: they open together or not at all, also when the edits are applied again."""
    change = f"{','.join(f'{input_name}:{axis}' for input_name, axis in places)}={name}"
    readable = dimensions.read_places(model, change)[0] == places  # unless a name holds a comma
    return (*model.edits, change) if readable else opened.edits


def edit(model: Model, change: str) -> Model:
    """One change written as text: 'batch=4' fixes a dimension by name, 'batch=n' renames it, 'x:2=48' fixes axis 2 of
    input x, 'x:2=height' names it, and opens it if it was fixed and the graph allows; 'ids:0,mask:0=batch' does so
    with several that grow together.

    Raises ModelError for what cannot be read or found, ShapeError where a node blocks the opening.
    """
    places, dim = dimensions.read_places(model, change)
    shapes = {spec.name: spec.shape for spec in model.inputs}
    if places and isinstance(dim, str):
        fixed = [isinstance(shapes[name][axis], int) for name, axis in places if axis < len(shapes[name])]
        if any(fixed):
            return open_dimension(model, places, dim)
    return dimensions.edit(model, change)


def what_back_ends_ask(model: Model, supports: Mapping[str, Support] | None = None) -> dict[str, str]:
    """What each back end will want to know about the shapes, as a sentence by its name."""
    dims = open_dimensions(model.inputs)
    names = ", ".join(map(str, dims))
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


def trial_shapes(inputs: Iterable[TensorSpec]) -> dict[str, Shape]:
    """Shapes to try a model at: its fixed sizes; for open dimensions the default profile's min, but pictures of 64."""
    specs = tuple(inputs)
    ranges = default_profile(specs).ranges
    shapes: dict[str, Shape] = {}
    for spec in specs:
        shapes[spec.name] = tuple(
            dim if isinstance(dim, int) else _trial_size(ranges[spec.name], axis) for axis, dim in enumerate(spec.shape)
        )
    return shapes


def _trial_size(proposed: ShapeRange, axis: int) -> int:
    """Of one pixel every tensor broadcasts; 64 are few and halve six times."""
    is_side = proposed.opt[axis] >= _PICTURE and len(proposed.opt) == 4
    return _PICTURE if is_side else proposed.min[axis]


def _places_of(model: Model, dim: Dim) -> set[tuple[str, int]]:
    """Where in the inputs a named dimension stands; none for a nameless or fixed one."""
    if not isinstance(dim, str):
        return set()
    return {place for item in open_dimensions(model.inputs) if item.name == dim for place in item.places}


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


def _scaled(shapes: Mapping[str, Shape], places: set[tuple[str, int]], factor: int) -> dict[str, Shape]:
    return {
        name: tuple(size * factor if (name, axis) in places else size for axis, size in enumerate(shape))
        for name, shape in shapes.items()
    }


def _refused(places: tuple[tuple[str, int], ...], size: int, blocker: Blocker) -> ShapeError:
    where = ", ".join(f"input {name}, dimension {axis}" for name, axis in places)
    learned = "That is part of what was learned." if blocker.op_type in _LEARNED else ""
    remedy = learned or "Export the model again with this dimension open."
    return ShapeError(f"{where} cannot be opened: the graph takes {size} only. {blocker}. {remedy}")


def _untried(places: tuple[tuple[str, int], ...], error: RunError) -> ShapeError:
    where = ", ".join(f"input {name}, dimension {axis}" for name, axis in places)
    return ShapeError(f"{where} cannot be opened: the model cannot be tried, as it fails at its own sizes: {error}")


def _operator_of(model: Model, node_name: str | None) -> str:
    return next((operator(node) for node in model.nodes if node.name == node_name), "the model")


def _blocker(model: Model, before: TensorShapes, after: TensorShapes) -> Blocker | None:
    known = {item.node for item in before.conflicts}
    conflict = next((item for item in after.conflicts if item.node not in known), None)
    if conflict is None:
        return None
    return _explain(model, Blocker(conflict.node, conflict.op_type, conflict.reason), before, after)


def _explain(model: Model, blocker: Blocker, before: TensorShapes, after: TensorShapes) -> Blocker:
    """Where the node that fails only passes on what was frozen further up, name the one that froze it."""
    producers = {name: node for node in model.nodes for name in node.output if name}
    node = next((item for item in model.nodes if item.name == blocker.node), None)
    if node is None:
        return blocker
    if node.op_type == "Conv":
        return blocker
    constant = _constant_operand(model, node, producers)
    if node.op_type in _FREEZERS:
        return replace(blocker, reason=f"{blocker.reason}; its sizes are constants that the exporter wrote")
    waiting, seen = list(node.input), 0
    while waiting and seen < _FAR:
        maker = producers.get(waiting.pop(0))
        seen += 1
        if maker is None:
            continue
        if maker.op_type in _FREEZERS and _ignores_its_input(maker, producers, before, after):
            shape = list(before.by_name[maker.output[0]].shape or ())
            said = f"it makes {shape} of whatever comes in: its sizes are constants that the exporter wrote"
            return Blocker(maker.name, maker.op_type, f"{said}; {blocker.op_type} {blocker.node} fails on that")
        waiting += maker.input[:1] if maker.op_type in _FREEZERS else maker.input
    return replace(blocker, reason=f"{blocker.reason}; {constant}") if constant else blocker


def _ignores_its_input(
    node: NodeProto, producers: Mapping[str, NodeProto], before: TensorShapes, after: TensorShapes
) -> bool:
    """Whether the sizes it is given are constants and its leading size stays although its input grew."""
    sizes_are_constant = all(
        producers[name].op_type == "Constant" if name in producers else True for name in node.input[1:] if name
    )
    shapes = [(item.by_name.get(node.input[0]), item.by_name.get(node.output[0])) for item in (before, after)]
    (input_before, output_before), (input_after, output_after) = shapes
    if not (sizes_are_constant and input_before and input_after and output_before and output_after):
        return False
    same_start = (output_before.shape or (None,))[0] == (output_after.shape or (0,))[0]
    return input_before.shape != input_after.shape and same_start


def _constant_operand(model: Model, node: NodeProto, producers: Mapping[str, NodeProto]) -> str:
    """Words for weights whose size the node insists on: a table of positions, a kernel."""
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.proto.graph.initializer}
    for name in node.input:
        maker = producers.get(name)
        if maker is not None and maker.op_type == "Constant":
            dims = next((tuple(item.t.dims) for item in maker.attribute if item.name == "value"), ())
        else:
            dims = weights.get(name, ())
        if len(dims) > 1:
            return f"its weights {name} have the fixed shape {list(dims)}"
    return ""


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
        expected = np.concatenate(rows)
        if np.array_equal(expected, answer, equal_nan=answer.dtype.kind == "f"):
            continue  # infinite values and texts have no distance
        (apart,) = compare_outputs({name: expected}, {name: answer})
        if not apart.relative <= _MOST_RELATIVE:
            raise ShapeError(
                f"{', '.join(sorted(grown))}: dimension 0 cannot be opened as a batch: output {name} of one row "
                f"changes by {apart.relative:.1e} when another row stands beside it, so the graph mixes the rows."
            )


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
