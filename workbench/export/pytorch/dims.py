"""Open dimensions through PyTorch's exporters: proven open, named, or the node that froze them named."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorShapeProto, numpy_helper

from workbench.errors import ExportError, RunError
from workbench.types import TensorSpec

_SHAPED = ("Reshape", "Expand", "Tile", "ConstantOfShape")


def tokens(specs: Sequence[TensorSpec]) -> dict[str, str]:
    """For every open dimension a name that PyTorch takes for a Python name too."""
    names = dict.fromkeys(str(spec.shape[axis]) for spec in specs for axis in spec.open_axes)
    return {name: f"dim_{index}" for index, name in enumerate(names)}


def check_open(
    proto: ModelProto, specs: Sequence[TensorSpec], name: str, exporter: str, sources: Mapping[str, str]
) -> None:
    """Raise ExportError when the exporter fixed a dimension that shall be open."""
    for spec, value in zip(specs, proto.graph.input, strict=True):
        for axis in spec.open_axes:
            item = value.type.tensor_type.shape.dim[axis]
            if item.dim_value:
                raise ExportError(
                    f"{name}: dimension {spec.shape[axis]} (axis {axis} of input {spec.name}) shall be open, but the "
                    f"{exporter} exporter fixed it to {item.dim_value}, although the module runs at other sizes. "
                    + _advice(_suspect(proto, item.dim_value), proto, sources)
                )


def frozen(
    error: ExportError,
    proto: ModelProto,
    sizes: Mapping[str, int],
    name: str,
    exporter: str,
    sources: Mapping[str, str],
) -> ExportError:
    """The explanation when an export answers well on the example's shapes only. sizes: what the exporter saw."""
    cause = error.__cause__
    blamed = cause.node if isinstance(cause, RunError) else None
    node = next((node for node in proto.graph.node if node.name == blamed), None)
    for size in sizes.values():
        node = node or _suspect(proto, size)
    dims = " and ".join(sizes) or "a branch"
    return ExportError(
        f"{name}: {dims} shall be open, but the {exporter} exporter froze a size: the export answers well on the "
        f"example and not at other shapes. {_advice(node, proto, sources)} {error}"
    )


def _suspect(proto: ModelProto, size: int) -> NodeProto | None:
    """The first node that gives a tensor a constant shape with this size in it."""
    return next((node for node in proto.graph.node if size in (_constant_shape(node, proto) or ())), None)


def _advice(node: NodeProto | None, proto: ModelProto, sources: Mapping[str, str]) -> str:
    where = ""
    if node is not None:
        shape = _constant_shape(node, proto)
        to = f" to the constant shape {'x'.join(map(str, shape))}" if shape else ""
        source = f", {sources[node.name]}" if node.name in sources else ""
        where = f"Most likely at node {node.name} ({node.op_type}{to}{source}). "
    return f"{where}Use sizes as they are (x.shape[0], x.flatten(1), -1), not Python numbers such as int(x.shape[0])."


def _constant_shape(node: NodeProto, proto: ModelProto) -> list[int] | None:
    if node.op_type not in _SHAPED:
        return None
    name = node.input[0 if node.op_type == "ConstantOfShape" else 1]
    tensor = next((item for item in proto.graph.initializer if item.name == name), None)
    if tensor is None:
        maker = next((item for item in proto.graph.node if name in item.output and item.op_type == "Constant"), None)
        tensor = maker.attribute[0].t if maker else None
    return None if tensor is None else [int(size) for size in numpy_helper.to_array(tensor).ravel()]


def set_dims(
    proto: ModelProto,
    specs: Sequence[TensorSpec],
    seen: Sequence[tuple[Mapping[str, int], Mapping[str, np.ndarray]]],
) -> None:
    """Call the inputs' dimensions as the user does, and the outputs' in terms of them.

    seen: sizes of the open dimensions, and the outputs that the framework gave at them. An output's size that varied
    is open, whatever the exporter says.
    """
    words = {token: name for name, token in tokens(specs).items()}
    for spec, value in zip(specs, proto.graph.input, strict=True):
        _set_shape(value.type.tensor_type.shape, spec.shape)
    for value in (*proto.graph.value_info, *proto.graph.output):
        for item in value.type.tensor_type.shape.dim:
            if item.dim_param:
                item.dim_param = re.sub(r"\bdim_\d+\b", lambda match: words.get(match[0], match[0]), item.dim_param)
    for output in proto.graph.output:
        dims = output.type.tensor_type.shape.dim
        for axis, item in enumerate(dims):
            lengths = [(sizes, found[output.name].shape[axis]) for sizes, found in seen]
            is_fixed = item.dim_value and len({length for _, length in lengths}) == 1
            if is_fixed or any(
                re.search(rf"(?<!\w){re.escape(name)}(?!\w)", item.dim_param) for name in words.values()
            ):
                continue
            name = _observed(lengths)
            item.Clear()
            if name:
                item.dim_param = name


def _observed(seen: Sequence[tuple[Mapping[str, int], int]]) -> str:
    """The open dimension that an output's size equals at all shapes; '' if none or several do."""
    names = [name for name in seen[0][0] if all(sizes[name] == size for sizes, size in seen)]
    varied = len({size for _, size in seen}) > 1
    return names[0] if len(names) == 1 and varied else ""


def _set_shape(shape: TensorShapeProto, dims: Sequence[Any]) -> None:
    for item, dim in zip(shape.dim, dims, strict=True):
        item.Clear()
        if isinstance(dim, str):
            item.dim_param = dim
        else:
            item.dim_value = dim
