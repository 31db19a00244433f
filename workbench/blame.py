"""The node that holds a dimension to one size: found by shape inference at two sizes, nothing is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from onnx import NodeProto

from workbench.model import Model
from workbench.profiles import default_profile, open_dimensions
from workbench.tensor_shapes import ShapeConflict, ShapeInference, TensorShapes
from workbench.types import Dim, Shape, ShapeRange, TensorSpec

_FREEZERS = {"Reshape", "Expand", "Tile", "Slice", "Resize", "ConstantOfShape", "Pad", "Upsample"}
"""Operators that take sizes as an input, which exporters often fill with constants."""
_FAR = 50
_PICTURE = 64


def find_blockers(model: Model) -> dict[tuple[str, int], ShapeConflict]:
    """By (input, axis): the node that does not follow when the axis doubles, found by shape inference alone."""
    inference, small = ShapeInference(model), probe_shapes(model.inputs)
    before = inference.at(small)
    found = {}
    for spec in model.inputs:
        for axis, dim in enumerate(spec.shape):
            large = doubled(small, places_of(model, dim) | {(spec.name, axis)})
            blocker = new_blocker(model, before, inference.at(large))
            if blocker is not None:
                found[spec.name, axis] = blocker
    return found


def new_blocker(model: Model, before: TensorShapes, after: TensorShapes) -> ShapeConflict | None:
    """The first conflict that is there after and not before, explained."""
    known = {item.node for item in before.conflicts}
    conflict = next((item for item in after.conflicts if item.node not in known), None)
    return None if conflict is None else explain(model, conflict, before, after)


def explain(model: Model, conflict: ShapeConflict, before: TensorShapes, after: TensorShapes) -> ShapeConflict:
    """Where the node that fails only passes on what was frozen further up, name the one that froze it."""
    producers = {name: node for node in model.nodes for name in node.output if name}
    node = next((item for item in model.nodes if item.name == conflict.node), None)
    if node is None or node.op_type == "Conv":  # that tells its channels itself
        return conflict
    if node.op_type in _FREEZERS:
        return replace(conflict, reason=f"{conflict.reason}; its sizes are constants that the exporter wrote")
    waiting, seen = list(node.input), 0
    while waiting and seen < _FAR:
        maker = producers.get(waiting.pop(0))
        seen += 1
        if maker is None:
            continue
        if maker.op_type in _FREEZERS and _ignores_its_input(maker, producers, before, after):
            shape = list(before.by_name[maker.output[0]].shape or ())
            said = f"it makes {shape} of whatever comes in: its sizes are constants that the exporter wrote"
            return ShapeConflict(maker.name, maker.op_type, f"{said}; {conflict.op_type} {conflict.node} fails on that")
        waiting += maker.input[:1] if maker.op_type in _FREEZERS else maker.input
    constant = _constant_operand(model, node, producers)
    return replace(conflict, reason=f"{conflict.reason}; {constant}") if constant else conflict


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


def probe_shapes(inputs: Iterable[TensorSpec]) -> dict[str, Shape]:
    """Shapes to try a model at: its fixed sizes; for open dimensions the default profile's min, but pictures of 64."""
    specs = tuple(inputs)
    ranges = default_profile(specs).ranges
    shapes: dict[str, Shape] = {}
    for spec in specs:
        shapes[spec.name] = tuple(
            dim if isinstance(dim, int) else _probe_size(ranges[spec.name], axis) for axis, dim in enumerate(spec.shape)
        )
    return shapes


def _probe_size(proposed: ShapeRange, axis: int) -> int:
    """Of one pixel every tensor broadcasts; 64 are few and halve six times."""
    is_side = proposed.opt[axis] >= _PICTURE and len(proposed.opt) == 4
    return _PICTURE if is_side else proposed.min[axis]


def places_of(model: Model, dim: Dim) -> set[tuple[str, int]]:
    """Where in the inputs a named dimension stands; none for a nameless or fixed one."""
    if not isinstance(dim, str):
        return set()
    return {place for item in open_dimensions(model.inputs) if item.name == dim for place in item.places}


def doubled(shapes: Mapping[str, Shape], places: set[tuple[str, int]]) -> dict[str, Shape]:
    return {
        name: tuple(2 * size if (name, axis) in places else size for axis, size in enumerate(shape))
        for name, shape in shapes.items()
    }
