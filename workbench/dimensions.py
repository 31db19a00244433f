"""Dimensions of a Model set as told, whether or not the graph follows: `openings.edit` tries before it opens one."""

from __future__ import annotations

import re
from collections.abc import Mapping

import onnx
from onnx import ModelProto

from workbench.errors import ModelError
from workbench.model import Model
from workbench.types import Dim


def set_dimension(model: Model, name: str, dim: int | str) -> Model:
    """The model with the open dimension `name` fixed (int) or renamed (str) everywhere.

    A name that exists already makes the two dimensions equal.
    """
    proto = _copy(model.proto)
    found = 0
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for item in value.type.tensor_type.shape.dim:
            if item.dim_param == name:
                _set_dim(item, dim)
                found += 1
    if not found:
        names = sorted({dim for spec in model.inputs for dim in spec.shape if isinstance(dim, str)})
        raise ModelError(f"{model.name} has no dimension {name!r}; it has {', '.join(names) or 'no named ones'}.")
    return Model(proto, model.path, (*model.edits, f"{name}={dim}"))


def set_input_dimension(model: Model, input_name: str, axis: int, dim: int | str) -> Model:
    """The model with one axis of one input fixed (int) or given a name of its own (str).

    What the exporter inferred about inner tensors and output shapes is dropped, because it may no longer hold.
    """
    proto = _copy(model.proto)
    value = next((item for item in proto.graph.input if item.name == input_name), None)
    if value is None:
        known = ", ".join(spec.name for spec in model.inputs)
        raise ModelError(f"{model.name} has no input {input_name!r}; it has {known}.")
    dims = value.type.tensor_type.shape.dim
    if not 0 <= axis < len(dims):
        raise ModelError(f"input {input_name} has {len(dims)} dimensions; {axis} is not one of them, counted from 0.")
    was_fixed = dims[axis].dim_value > 0
    _set_dim(dims[axis], dim)
    del proto.graph.value_info[:]
    for output in proto.graph.output:
        for item in output.type.tensor_type.shape.dim:
            if item.dim_param or was_fixed:
                item.Clear()
    return Model(proto, model.path, (*model.edits, f"{input_name}:{axis}={dim}"))


def read_places(model: Model, change: str) -> tuple[tuple[tuple[str, int], ...], int | str]:
    """The (input, axis) places and the new value of a change such as 'x:2=height' or 'ids:0,mask:0=batch'; no places
    if it goes by a dimension's name. Raises ModelError for what cannot be read."""
    target, dim = read_change(change)
    inputs = {spec.name for spec in model.inputs}
    for words in ([target], target.split(",")):  # an input's name may hold commas
        parts = [(word if len(words) == 1 else word.strip()).rpartition(":") for word in words]
        if all(axis.isdecimal() and name in inputs for name, _, axis in parts):
            return tuple((name, int(axis)) for name, _, axis in parts), dim
    return (), dim


def set_output_shapes(model: Model, shapes: Mapping[str, tuple[Dim, ...]]) -> Model:
    """The model with these dimensions stated for its outputs, which are known but could not be inferred."""
    proto = _copy(model.proto)
    for value in proto.graph.output:
        if value.name in shapes:
            value.type.tensor_type.ClearField("shape")
            for dim in shapes[value.name]:
                item = value.type.tensor_type.shape.dim.add()
                if dim is not None:
                    _set_dim(item, dim)
    return Model(proto, model.path, model.edits)


def read_change(change: str) -> tuple[str, int | str]:
    """What to change and its new value: 'batch=4' -> ('batch', 4). Raises ModelError for what cannot be read."""
    target, equals, value = change.rpartition("=")
    if not equals or not target or not value:
        raise ModelError(f"dimension {change!r}: write NAME=SIZE, NAME=NEWNAME or INPUT:AXIS=SIZE.")
    return target, _read_dim(value, change)


def _read_dim(value: str, change: str) -> int | str:
    if re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    if value[0].isalpha() or value[0] in "_?":
        return value
    raise ModelError(f"dimension {change!r}: {value!r} is neither a size nor a name that starts with a letter.")


def _copy(proto: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(proto)
    return copy


def _set_dim(item: onnx.TensorShapeProto.Dimension, dim: int | str) -> None:
    if isinstance(dim, int):
        if not 1 <= dim < 2**31:
            raise ModelError(f"a dimension cannot be fixed to {dim}: a size is at least 1 and at most {2**31 - 1:,}.")
        item.dim_value = dim
    else:
        item.dim_param = dim
