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

BLOCKED = "com.microsoft.nchwc"
"""The processor's own layout: channels in groups beside one another."""
CAST = "InsertedPrecisionFreeCast_"
"""What computes in float32 in place of float16 writes its result under this name."""
_SUM = 3
"""The place of the input of a blocked Conv that is added to its result."""


def optimized_layers(model: Model, optimized: onnx.ModelProto) -> tuple[LayerInfo, ...]:
    """The nodes of the optimized graph, each with the model's nodes that it replaces.

    Those are found on the way back from the node's outputs to tensors that the optimized graph still has.
    """
    graph, network = optimized.graph, Network(model)
    types = {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}
    made = [network.made_by(node) for node in graph.node]
    alive = {name for names in made for name in names} | {item.name for item in graph.initializer}
    names = unique_names(node.name for node in graph.node)
    return tuple(
        LayerInfo(
            name=name,
            kind=operator(node),
            inputs=tuple(_tensor(name, types) for name in node.input if name),
            outputs=tuple(_tensor(name, types) for name in node.output if name),
            tactic="",
            nodes=_origins(written, network.makers, alive),
        )
        for name, node, written in zip(names, graph.node, made, strict=True)
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


def _origins(made: tuple[str, ...], makers: Mapping[str, NodeProto], alive: set[str]) -> tuple[str, ...]:
    origins: dict[str, None] = {}
    waiting = [name for name in made if name in makers]
    while waiting:
        origin = makers[waiting.pop()]
        if origin.name not in origins:
            origins[origin.name] = None
            waiting += [name for name in origin.input if name in makers and name not in alive]
    return tuple(origins)


class Network:
    """The model's tensors as the optimizer renames them. makers: the node that makes a tensor."""

    def __init__(self, model: Model) -> None:
        self.makers = {name: node for node in model.nodes for name in node.output if name}
        self._readers = readers_of(model.nodes)

    def made_by(self, node: NodeProto) -> tuple[str, ...]:
        """What a node of the plan makes, under the model's names where they are known.

        Results in float32 in place of float16 bear a prefix. Those in the processor's blocked layout have new names,
        but the node keeps the old one.
        """
        own = tuple(name.removeprefix(CAST) for name in node.output)
        blocked = self.blocked(node)
        return (*own, blocked) if blocked else own

    def blocked(self, node: NodeProto) -> str:
        """The model's name of what a node writes in the blocked layout, '' where there is none.

        The node keeps the name of what it wrote before a sum and an activation were fused into it, in this order.
        """
        if node.domain != BLOCKED or not node.name.endswith("_nchwc"):
            return ""
        tensor = node.name.removesuffix("_nchwc").removeprefix(CAST)
        if tensor not in self.makers:
            return ""
        activation = next((item.s.decode() for item in node.attribute if item.name == "activation"), "")
        if len(node.input) > _SUM and node.input[_SUM]:
            tensor = self._written_by(tensor, ("Add", "Sum"))
        if activation and tensor and self.makers[tensor].op_type != activation:
            tensor = self._written_by(tensor, (activation,))
        return tensor

    def _written_by(self, tensor: str, operators: tuple[str, ...]) -> str:
        """What the only reader makes of a tensor, '' unless it is one of these operators."""
        readers = self._readers.get(tensor, ())
        return readers[0].output[0] if len(readers) == 1 and readers[0].op_type in operators else ""


def readers_of(nodes: Iterable[NodeProto]) -> dict[str, list[NodeProto]]:
    """The nodes that read a tensor, each once."""
    found: dict[str, list[NodeProto]] = {}
    for node in nodes:
        for name in dict.fromkeys(node.input):
            found.setdefault(name, []).append(node)
    return found


def _tensor(name: str, types: dict[str, onnx.ValueInfoProto]) -> LayerTensor:
    if name not in types:
        return LayerTensor(name, (), "")
    tensor = types[name].type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
    return LayerTensor(name, shape, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name)
