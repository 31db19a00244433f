"""The layers of an engine of ONNX Runtime: the nodes of its optimized graph, with the model's nodes in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import onnx
from onnx import NodeProto

from workbench.inspector import unique_names
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
    names = unique_names(node.name for node in graph.node)
    return tuple(
        LayerInfo(
            name=name,
            kind=operator(node),
            inputs=tuple(_tensor(name, types) for name in node.input if name),
            outputs=tuple(_tensor(name, types) for name in node.output if name),
            tactic="",
            nodes=_origins(node, producers, alive),
        )
        for name, node in zip(names, graph.node, strict=True)
    )


def layer_times_ms(profile: str, optimized: onnx.ModelProto, iterations: int) -> dict[str, tuple[float, ...]]:
    """The times of the last `iterations` runs by layer, as `optimized_layers` names them, from ONNX Runtime's profile
    (JSON, whole microseconds). Nodes within If and Loop count for the node that holds them."""
    nodes = [node.name for node in optimized.graph.node]
    taken: dict[int, list[float]] = {}
    for event in _kernels(json.loads(profile)):
        index = int(event["args"]["node_index"])
        if index < len(nodes) and event["name"] == f"{nodes[index]}_kernel_time":
            taken.setdefault(index, []).append(event["dur"] / 1000)
    names = unique_names(nodes)
    return {names[index]: tuple(taken[index][-iterations:]) for index in sorted(taken)}


def _kernels(events: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    return (event for event in events if event["cat"] == "Node" and event["name"].endswith("_kernel_time"))


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
