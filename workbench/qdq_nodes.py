"""Changes of a graph's nodes for int8: BatchNormalization folded, QuantizeLinear and DequantizeLinear put in."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

from workbench.calibration.lint import SMALLEST
from workbench.model import attribute, reads
from workbench.qdq_plan import Edge, Graph

LARGEST = 127
"""Of the values of int8 that are used: -127 to 127."""
_ZERO = "int8_zero_point"
_FOLDED = ("Conv", "Gemm")
"""Not MatMul: it has no bias, and the last axis need not be the one that BatchNormalization knows as channels."""


def fold_batch_normalizations(graph: GraphProto, names: Collection[str]) -> None:
    """Put BatchNormalization into the weights of the Conv and Gemm nodes of these names, where nothing else reads them.

    Scales of weights then fit what is computed; and no conversion stands between the two.
    """
    facts = Graph(graph)
    taken = set(facts.tensors) | set(facts.makers)
    gone: list[NodeProto] = []
    for node in facts.nodes:
        conv = facts.makers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if conv is None or conv.op_type not in _FOLDED or conv.name not in names or facts.readers[node.input[0]] != 1:
            continue
        arrays = [facts.weight(name) for name in (*conv.input[1:], *node.input[1:])]
        axis = _channel_axis(conv, facts)
        if None in arrays or axis is None or attribute(node, "training_mode", 0) or any(node.output[1:]):
            continue
        weight, bias = _folded(facts, conv, node, axis)
        for index, value, what in ((1, weight, "weight"), (2, bias, "bias")):
            name = fresh(f"{conv.name}.folded_{what}", taken)
            graph.initializer.append(numpy_helper.from_array(value, name))
            del conv.input[index:]
            conv.input.append(name)
        for item in [item for item in conv.attribute if item.name == "beta"]:
            conv.attribute.remove(item)  # it is in the bias now
        conv.output[0] = node.output[0]
        gone.append(node)
    _keep_nodes(graph, [node for node in graph.node if not any(node is other for other in gone)])


def _folded(facts: Graph, conv: NodeProto, node: NodeProto, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias of a convolution with what a BatchNormalization does, in float32."""
    scale, shift, mean, variance = (_array(facts, name) for name in node.input[1:5])
    factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    weight = _array(facts, conv.input[1])
    bias = _array(facts, conv.input[2]) if len(conv.input) > 2 and conv.input[2] else np.zeros_like(mean)
    bias = bias * attribute(conv, "beta", 1.0)
    shape = [1] * weight.ndim
    shape[axis] = -1
    return (weight * factor.reshape(shape)).astype(np.float32), ((bias - mean) * factor + shift).astype(np.float32)


def _array(facts: Graph, name: str) -> np.ndarray:
    tensor = facts.weight(name)
    assert tensor is not None
    return numpy_helper.to_array(tensor).astype(np.float64)


def _channel_axis(node: NodeProto, facts: Graph) -> int | None:
    """The axis of a node's weights along which its outputs lie; None where TensorRT takes one scale for all."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    weight = facts.weight(node.input[1])
    return 1 if weight is not None and len(weight.dims) == 2 else None


def insert(graph: GraphProto, edges: Mapping[str, tuple[Edge, ...]], amax: Mapping[str, float]) -> None:
    """Put the pairs of nodes in: at the given edges, and at the weights of nodes that have some."""
    _Inserter(graph, amax).insert(edges)


class _Inserter:
    def __init__(self, graph: GraphProto, amax: Mapping[str, float]) -> None:
        self.graph, self.facts, self.amax = graph, Graph(graph), amax
        self.taken = {*self.facts.tensors, *self.facts.makers, *(value.name for value in graph.input)}
        self.taken |= {node.name for node in graph.node}
        self.nodes: list[NodeProto] = []
        self.scales: dict[str, str] = {}
        self.quantized: dict[tuple[str, str], str] = {}
        self.zero = self._constant(_ZERO, np.int8(0))

    def insert(self, edges: Mapping[str, tuple[Edge, ...]]) -> None:
        for node in self.graph.node:
            for edge in edges.get(node.name, ()):
                self._quantize(node, edge)
            if node.name in edges and self.facts.is_weighted(node):
                self._quantize_weight(node)
            self.nodes.append(node)
        _keep_nodes(self.graph, self.nodes)

    def _quantize(self, node: NodeProto, edge: Edge) -> None:
        """A tensor is quantized once, and every node that reads it has a DequantizeLinear of its own."""
        tensor = node.input[edge.index]
        if edge.range_of not in self.scales:
            scale = np.float32(self.amax[edge.range_of] / LARGEST)
            self.scales[edge.range_of] = self._constant(f"{edge.range_of}_scale", scale)
        scale_name = self.scales[edge.range_of]
        key = (tensor, scale_name)
        if key not in self.quantized:
            self.quantized[key] = self._add("QuantizeLinear", [tensor, scale_name, self.zero], f"{tensor}_quantized")
        wanted = f"{tensor}_dequantized_for_{node.name}"
        node.input[edge.index] = self._add("DequantizeLinear", [self.quantized[key], scale_name, self.zero], wanted)

    def _quantize_weight(self, node: NodeProto) -> None:
        tensor = self.facts.weight(node.input[1])
        assert tensor is not None
        values, axis = np.abs(numpy_helper.to_array(tensor)), _channel_axis(node, self.facts)
        largest = values.max(axis=tuple(index for index in range(values.ndim) if index != axis))
        scales = np.where(largest >= SMALLEST, largest / LARGEST, 1).astype(np.float32)
        scale = self._constant(f"{tensor.name or node.input[1]}_scale", scales)
        zero = self.zero if axis is None else self._constant(f"{scale}_zero", np.zeros(scales.shape, np.int8))
        quantized = self._add("QuantizeLinear", [node.input[1], scale, zero], f"{node.input[1]}_quantized", axis)
        node.input[1] = self._add("DequantizeLinear", [quantized, scale, zero], f"{quantized}_dequantized", axis)

    def _constant(self, wanted: str, value: np.ndarray | np.generic) -> str:
        name = fresh(wanted, self.taken)
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _add(self, op_type: str, inputs: list[str], wanted: str, axis: int | None = None) -> str:
        output = fresh(wanted, self.taken)
        node = helper.make_node(op_type, inputs, [output], name=fresh(f"{output}/{op_type}", self.taken))
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self.nodes.append(node)
        return output


def _keep_nodes(graph: GraphProto, nodes: list[NodeProto]) -> None:
    """Only these nodes, and only the constants that they read; inputs that the file fills itself are none any more."""
    read = {name for node in nodes for name in reads(node)} | {value.name for value in graph.output}
    kept = [node for node in nodes if node.op_type != "Constant" or node.output[0] in read]
    filled = {tensor.name for tensor in graph.initializer}
    weights = [tensor for tensor in graph.initializer if tensor.name in read]
    inputs = [value for value in graph.input if value.name not in filled]
    del graph.node[:], graph.initializer[:], graph.input[:]
    graph.node.extend(kept)
    graph.initializer.extend(weights)
    graph.input.extend(inputs)


def fresh(wanted: str, taken: set[str]) -> str:
    """The name, with a number where it is taken; it is taken then."""
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    taken.add(name)
    return name
