"""The layers of an engine of ONNX Runtime: the nodes of its optimized graph, with the model's nodes in them."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import NodeProto

from workbench.layers import LayerInfo, LayerTensor
from workbench.model import Model, operator


def optimized_layers(model: Model, optimized: onnx.ModelProto) -> tuple[LayerInfo, ...]:
    """The nodes of the optimized graph, each with the model's nodes that it replaces.

    Those are found on the way back from the node's outputs to tensors that the optimized graph still has.
    """
    graph = optimized.graph
    producers = {name: node for node in model.nodes for name in node.output if name}
    types = {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}
    alive = {name for node in graph.node for name in _made(node)} | {item.name for item in graph.initializer}
    return tuple(
        LayerInfo(
            name=node.name,
            kind=operator(node),
            inputs=tuple(_tensor(name, types) for name in node.input if name),
            outputs=tuple(_tensor(name, types) for name in node.output if name),
            tactic="",
            nodes=_origins(node, producers, alive),
        )
        for node in graph.node
    )


def _origins(node: NodeProto, producers: Mapping[str, NodeProto], alive: set[str]) -> tuple[str, ...]:
    origins: dict[str, None] = {}
    waiting = [name for name in _made(node) if name in producers]
    while waiting:
        origin = producers[waiting.pop()]
        if origin.name not in origins:
            origins[origin.name] = None
            waiting += [name for name in origin.input if name in producers and name not in alive]
    return tuple(origins)


def _made(node: NodeProto) -> tuple[str, ...]:
    """The tensors a node makes. Those in the processor's blocked layout have new names, but the node keeps the old."""
    return (*node.output, node.name.removesuffix("_nchwc")) if node.name.endswith("_nchwc") else tuple(node.output)


def _tensor(name: str, types: dict[str, onnx.ValueInfoProto]) -> LayerTensor:
    if name not in types:
        return LayerTensor(name, (), "")
    tensor = types[name].type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
    return LayerTensor(name, shape, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name)
