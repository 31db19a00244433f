"""Integers that follow from shapes alone, computed where ONNX's own inference gives up on them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from workbench.types import Shape

LARGE = 1024
"""Tensors of more elements hold no shapes."""
_SIZES_FIRST = {"ConstantOfShape", "Range"}
"""Other operators take data first, then sizes."""


def fold_shape_arithmetic(proto: ModelProto, known: Mapping[str, ValueInfoProto], start: int, end: int) -> int | None:
    """Put the integers that the nodes from `start` to before `end` read into the graph as constants.

    known: what inference found, by tensor; every node has a name of its own. Returns the index of the first node that
    reads one, from which on inferring again may tell more; None if there was none.
    """
    producers = {name: node for node in proto.graph.node[:end] for name in node.output if name}
    constants = {item.name: item for item in proto.graph.initializer if math.prod(item.dims) <= LARGE}
    wanted: dict[str, set[str]] = {}
    readers: dict[str, int] = {}
    for index, node in enumerate(proto.graph.node[start:end], start):
        if full_shape(known.get(node.output[0])) is None:
            for name in node.input if node.op_type in _SIZES_FIRST else node.input[1:]:
                if name in producers and producers[name].op_type != "Constant" and _is_integer(known.get(name)):
                    needed = _needed(name, producers, constants, known)
                    if needed is not None:
                        wanted[name] = needed
                        readers.setdefault(name, index)
    values = _compute(proto, wanted, constants, known) if wanted else {}
    for name, value in values.items():
        node = producers[name]
        node.CopyFrom(onnx.helper.make_node("Constant", [], [name], name=node.name, value=value))
    return min((readers[name] for name in values), default=None)


def values_from_shapes(
    proto: ModelProto, names: Iterable[str], known: Mapping[str, ValueInfoProto]
) -> dict[str, np.ndarray]:
    """What these tensors hold, as far as it is integers that follow from constants and known shapes."""
    producers = {name: node for node in proto.graph.node for name in node.output if name}
    constants = {item.name: item for item in proto.graph.initializer if math.prod(item.dims) <= LARGE}
    needed = {name: _needed(name, producers, constants, known) for name in names if name in producers}
    wanted = {name: keys for name, keys in needed.items() if keys is not None}
    values = _compute(proto, wanted, constants, known) if wanted else {}
    return {name: onnx.numpy_helper.to_array(value) for name, value in values.items()}


def _needed(
    name: str,
    producers: Mapping[str, NodeProto],
    constants: Mapping[str, TensorProto],
    known: Mapping[str, ValueInfoProto],
) -> set[str] | None:
    """The keys of the nodes that compute a tensor from constants and known shapes; None if it depends on anything
    else."""
    found: dict[str, str] = {}
    waiting = [name]
    while waiting:
        item = waiting.pop()
        node = producers.get(item)
        if item in found or item in constants or not item:
            continue
        if node is None or (item == name and len(node.output) != 1) or len(found) > LARGE:
            return None
        found[item] = node.name
        if node.op_type in ("Shape", "Size"):
            if full_shape(known.get(node.input[0])) is None:
                return None
        elif any(item.HasField("g") or math.prod(item.t.dims) > LARGE for item in node.attribute):
            return None
        elif node.op_type != "Constant":
            waiting += node.input
    return set(found.values())


def _compute(
    proto: ModelProto,
    wanted: Mapping[str, set[str]],
    constants: Mapping[str, TensorProto],
    known: Mapping[str, ValueInfoProto],
) -> dict[str, TensorProto]:
    """The values, by tensor. In Python: a division by zero in ONNX Runtime's kernels may end the whole process."""
    from onnx.reference import ReferenceEvaluator

    needed = set().union(*wanted.values())
    order = [_told(node, known) for node in proto.graph.node if node.name in needed]
    used = {name for node in order for name in node.input}
    weights = [item for name, item in constants.items() if name in used]
    outputs = [ValueInfoProto(name=name) for name in wanted]
    graph = onnx.helper.make_graph(order, "shapes", [], outputs, weights)
    small = onnx.helper.make_model(graph, opset_imports=proto.opset_import, ir_version=8)
    try:
        with np.errstate(divide="raise", invalid="raise"):
            values: Any = ReferenceEvaluator(small).run(list(wanted), {})
    except Exception:  # it raises many kinds; the tensor stays unknown, and is shown so
        alone = [{name: keys} for name, keys in wanted.items()] if len(wanted) > 1 else []
        return {name: value for one in alone for name, value in _compute(proto, one, constants, known).items()}
    found = zip(wanted, map(np.asarray, values), strict=True)
    return {name: onnx.numpy_helper.from_array(value, name) for name, value in found if value.dtype.kind == "i"}


def _told(node: NodeProto, known: Mapping[str, ValueInfoProto]) -> NodeProto:
    """A Shape or Size of what is known as a constant; any other node as it is."""
    if node.op_type not in ("Shape", "Size"):
        return node
    sizes = full_shape(known.get(node.input[0])) or ()
    attributes = {item.name: item.i for item in node.attribute}
    value = np.array(sizes[slice(attributes.get("start"), attributes.get("end"))], np.int64)
    if node.op_type == "Size":
        value = np.array(math.prod(sizes), np.int64)
    return onnx.helper.make_node("Constant", [], list(node.output), value=onnx.numpy_helper.from_array(value))


def full_shape(value: ValueInfoProto | None) -> Shape | None:
    """A shape that is known in full, else None."""
    if value is None or not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    known = all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims)  # ONNX infers negative ones, too
    return tuple(dim.dim_value for dim in dims) if known else None


def _is_integer(value: ValueInfoProto | None) -> bool:
    return value is not None and value.type.tensor_type.elem_type in (TensorProto.INT64, TensorProto.INT32)
