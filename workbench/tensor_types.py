"""The type and rank of every tensor, also where ONNX's inference does not know the operator that makes it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import onnx
from onnx import ModelProto, TensorProto, TypeProto, ValueInfoProto

from workbench.errors import ShapeError
from workbench.model import Model
from workbench.shape_arithmetic import LARGE
from workbench.tensor_shapes import ShapeInference, TensorShape
from workbench.types import Shape

_CONTAINER = re.compile(r"(sequence|optional)\((.*)\)")


def find_types(model: Model, shapes: Mapping[str, Shape] | None = None) -> dict[str, TensorShape]:
    """What the model is fed and its nodes make, by name: at these shapes of the inputs, else by open dimensions' names.

    What ONNX's inference cannot tell, ONNX Runtime is asked for; it loads the model without its weights and runs
    nothing. Sequences have the type 'sequence(float32)'. A type that nobody knows is '', and a rank None. Raises
    ShapeError where the graph does not take these shapes.
    """
    inference = ShapeInference(model)
    found = inference.at(shapes) if shapes else inference.symbolic()
    found = replace(found, constants=found.constants - {value.name for value in model.proto.graph.output})
    if shapes and found.conflicts:
        raise ShapeError(f"the graph does not take these sizes: {found.conflicts[0]}.")
    tensors = {item.name: _with_container(item, found.known.get(item.name)) for item in found.tensors}
    unknown = [item for item in tensors.values() if item.shape is None and not _CONTAINER.match(item.dtype)]
    return {**tensors, **_told_by_runtime(model, unknown, shapes or {})} if unknown else tensors


def type_proto(tensor: TensorShape) -> TypeProto:
    """The inverse, for a graph's inputs and outputs."""
    kind = TypeProto()
    inner, words = kind, tensor.dtype
    while match := _CONTAINER.fullmatch(words):
        inner = inner.sequence_type.elem_type if match[1] == "sequence" else inner.optional_type.elem_type
        words = match[2]
    if words:
        inner.tensor_type.elem_type = _elem_types()[words]
        if inner is kind and tensor.shape is not None:
            inner.tensor_type.shape.SetInParent()
            for dim in tensor.shape:
                item = inner.tensor_type.shape.dim.add()
                if isinstance(dim, int):
                    item.dim_value = dim
                elif dim is not None:
                    item.dim_param = dim
    return kind


def _told_by_runtime(
    model: Model, unknown: Sequence[TensorShape], shapes: Mapping[str, Shape]
) -> dict[str, TensorShape]:
    """What ONNX Runtime knows of these tensors; empty where it cannot load the model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_mem_reuse = False  # planning it takes half a minute for 10,000 nodes with open dimensions
    proto = _without_weights(model, shapes)
    shown = {value.name for value in proto.graph.output}
    proto.graph.output.extend(ValueInfoProto(name=item.name) for item in unknown if item.name not in shown)
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # its exceptions have no common base but Exception
        return {}
    told = {value.name: value for value in session.get_outputs()}
    named = {dim for spec in model.inputs for dim in spec.shape if isinstance(dim, str)}
    return {item.name: _with_told(item, told[item.name], named) for item in unknown}


def _with_told(tensor: TensorShape, told: Any, named: Collection[str]) -> TensorShape:
    """ONNX Runtime writes types as 'tensor(float)' and makes up names of dimensions; a rank that it does not know looks
    like a scalar's."""
    words = re.sub(r"\bseq\(", "sequence(", re.sub(r"tensor\((\w+)\)", lambda match: _numpy_name(match[1]), told.type))
    dims = tuple(dim if isinstance(dim, int) or dim in named else None for dim in told.shape)
    return replace(tensor, dtype=words or tensor.dtype, shape=dims or None)


def _numpy_name(word: str) -> str:
    name = {"float": "float32", "double": "float64", "string": "object"}.get(word, word)
    return name if name in _elem_types() else ""


def _without_weights(model: Model, shapes: Mapping[str, Shape]) -> ModelProto:
    """Large weights, which no shape depends on, as inputs."""
    source = model.proto.graph
    proto = ModelProto(
        ir_version=model.proto.ir_version, opset_import=model.proto.opset_import, functions=model.proto.functions
    )
    graph = proto.graph
    graph.name = source.name or "graph"
    graph.node.extend(source.node)
    graph.output.extend(source.output)
    graph.sparse_initializer.extend(source.sparse_initializer)
    weights = {tensor.name for tensor in source.initializer}
    graph.input.extend(value for value in source.input if value.name not in weights)
    for tensor in source.initializer:
        if tensor.data_location != TensorProto.EXTERNAL and math.prod(tensor.dims) <= LARGE:
            graph.initializer.append(tensor)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for value in graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            dim.dim_value = size
    return proto


def _with_container(tensor: TensorShape, value: ValueInfoProto | None) -> TensorShape:
    is_container = value is not None and value.type.WhichOneof("value") in ("sequence_type", "optional_type")
    return replace(tensor, dtype=_words(value.type)) if value is not None and is_container else tensor


def _words(kind: TypeProto) -> str:
    """'sequence(float32)', or '' for what is neither that nor a tensor."""
    which = kind.WhichOneof("value")
    if which == "tensor_type":
        return next((name for name, number in _elem_types().items() if number == kind.tensor_type.elem_type), "")
    if which == "sequence_type":
        return f"sequence({_words(kind.sequence_type.elem_type)})"
    return f"optional({_words(kind.optional_type.elem_type)})" if which == "optional_type" else ""


@cache
def _elem_types() -> dict[str, int]:
    """numpy's names of ONNX's types."""
    numbers = (number for number in TensorProto.DataType.values() if number)
    return {onnx.helper.tensor_dtype_to_np_dtype(number).name: number for number in numbers}
