"""Integers that follow from shapes alone, computed where ONNX's own inference gives up on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
    import onnxruntime

    needed = set().union(*wanted.values())
    order = [node for node in proto.graph.node if node.name in needed]
    sources = {name: known[name] for node in order if node.op_type in ("Shape", "Size") for name in node.input[:1]}
    fixed = [
        onnx.helper.make_node("ConstantOfShape", [f"{name}::shape"], [name], name=f"{name}::source") for name in sources
    ]
    shapes = [
        onnx.numpy_helper.from_array(np.array(full_shape(value), np.int64), f"{name}::shape")
        for name, value in sources.items()
    ]
    used = {name for node in order for name in node.input}
    graph = onnx.helper.make_graph(
        [*fixed, *order], "shapes", [], [ValueInfoProto(name=name) for name in wanted],
        [*shapes, *(item for name, item in constants.items() if name in used and name not in sources)],
    )  # fmt: skip
    small = onnx.helper.make_model(graph, opset_imports=proto.opset_import, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(small.SerializeToString(), options, providers=["CPUExecutionProvider"])
        values: list[Any] = session.run(list(wanted), {})
    except Exception:  # its exceptions have no common base but Exception; the tensor stays unknown, and is shown so
        alone = [{name: keys} for name, keys in wanted.items()] if len(wanted) > 1 else []
        return {name: value for one in alone for name, value in _compute(proto, one, constants, known).items()}
    return {name: onnx.numpy_helper.from_array(value, name) for name, value in zip(wanted, values, strict=True)}


def full_shape(value: ValueInfoProto | None) -> Shape | None:
    """A shape that is known in full, else None."""
    if value is None or not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    known = all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims)  # ONNX infers negative ones, too
    return tuple(dim.dim_value for dim in dims) if known else None


def _is_integer(value: ValueInfoProto | None) -> bool:
    return value is not None and value.type.tensor_type.elem_type in (TensorProto.INT64, TensorProto.INT32)
