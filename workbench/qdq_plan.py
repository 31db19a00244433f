"""Which nodes of a model compute in int8, and at which of their inputs QuantizeLinear and DequantizeLinear go.

The rules are those of NVIDIA's documentation of explicit quantization: every input of a node with weights is quantized
and its output is not, so that bias, BatchNormalization and activation are computed in the same kernel; of a residual
addition the input that does not come from the convolution is quantized, so that the kernel adds it as well.
ONNX Runtime's QDQQuantizer cannot place nodes so: it knows one range for a tensor and hands it to all who read it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from onnx import GraphProto, NodeProto, TensorProto

from workbench.model import constants, reads

WEIGHTED = ("Conv", "Gemm", "MatMul")
"""Not ConvTranspose: neither TensorRT-RTX 1.7 nor ONNX Runtime 1.31 has it in int8."""
_AVERAGING = ("AveragePool", "GlobalAveragePool")
_UNCHANGING = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout")
"""They move values and change none; quantization moves through them by itself."""


@dataclass(frozen=True)
class Edge:
    """Input number `index` of a node, read in int8 with the range of the tensor `range_of`."""

    index: int
    range_of: str


class Graph:
    """Who makes and who reads the tensors of a graph, and which of them are constant."""

    def __init__(self, graph: GraphProto) -> None:
        self.nodes = [node for node in graph.node if node.op_type != "Constant"]
        self.tensors = constants(graph)
        self.values = {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}
        self.places = {node.name: place for place, node in enumerate(self.nodes)}
        self.makers = {name: node for node in self.nodes for name in node.output if name}
        self.readers: Counter[str] = Counter(name for node in self.nodes for name in reads(node))
        self.readers.update(value.name for value in graph.output)
        self.constants = {
            *self.tensors,
            *(name for node in graph.node if node.op_type == "Constant" for name in node.output),
        }
        for node in self.nodes:
            if all(name in self.constants for name in reads(node)) and list(reads(node)):
                self.constants.update(node.output)

    def weight(self, name: str) -> TensorProto | None:
        """The constant tensor of this name, also behind an Identity, which exporters use for shared weights."""
        while name not in self.tensors and name in self.makers and self.makers[name].op_type == "Identity":
            name = self.makers[name].input[0]
        return self.tensors.get(name)

    def is_weighted(self, node: NodeProto) -> bool:
        """Whether the node multiplies an activation of float32 with constant weights."""
        if node.domain not in ("", "ai.onnx") or node.op_type not in WEIGHTED or node.input[0] in self.constants:
            return False
        weight = self.weight(node.input[1])
        return weight is not None and weight.data_type == TensorProto.FLOAT and len(weight.dims) > 1

    def differ(self, one: str, other: str) -> bool:
        """Whether two tensors are known to have different shapes; an open dimension may be any size."""
        shapes = [self.values[name].type.tensor_type.shape.dim for name in (one, other) if name in self.values]
        if len(shapes) < 2:
            return False
        pairs = zip(*shapes, strict=False)
        return len(shapes[0]) != len(shapes[1]) or any(
            a.dim_value and b.dim_value and a.dim_value != b.dim_value for a, b in pairs
        )

    def convolution(self, name: str) -> NodeProto | None:
        """The convolution that makes this tensor, perhaps with bias and BatchNormalization, for one reader only."""
        while self.readers[name] == 1 and name in self.makers:
            node = self.makers[name]
            if node.op_type == "Conv":
                return node
            others = [item for item in node.input if item not in self.constants]
            if node.op_type not in ("BatchNormalization", "Add", "Mul") or len(others) != 1:
                return None
            name = others[0]
        return None


def plan(graph: GraphProto, ranges: Collection[str] | None, keep: Collection[str] = ()) -> dict[str, tuple[Edge, ...]]:
    """The edges to quantize by the name of their node, weights left aside; in the graph's order.

    ranges: the tensors whose range is known; None for all. keep: names of nodes that stay in float.
    """
    return _Planner(Graph(graph), ranges, keep).planned()


class _Planner:
    def __init__(self, graph: Graph, ranges: Collection[str] | None, keep: Collection[str]) -> None:
        self.graph, self.ranges, self.keep = graph, ranges, keep
        self.edges: dict[str, tuple[Edge, ...]] = {}
        self.int8_readers: Counter[str] = Counter()
        self.read_with: dict[str, str] = {}
        """The tensor whose range a tensor is read with in int8, after those who read it."""

    def planned(self) -> dict[str, tuple[Edge, ...]]:
        for node in self.graph.nodes:
            if node.name not in self.keep and self.graph.is_weighted(node):
                self._take(node, [Edge(0, node.input[0])])
        for node in reversed(self.graph.nodes):
            if node.domain in ("", "ai.onnx") and node.name not in self.edges:
                self._visit(node)
        return {node.name: self.edges[node.name] for node in self.graph.nodes if node.name in self.edges}

    def _take(self, node: NodeProto, edges: list[Edge]) -> None:
        if self.ranges is not None and not all(edge.range_of in self.ranges for edge in edges):
            return
        self.edges[node.name] = tuple(edges)
        for edge in edges:
            self._read(node.input[edge.index], edge.range_of)

    def _read(self, tensor: str, range_of: str) -> None:
        self.int8_readers[tensor] += 1
        if self.read_with.get(tensor) != tensor:  # its own range goes before that of a concatenation
            self.read_with[tensor] = range_of

    def _visit(self, node: NodeProto) -> None:
        """Nodes without weights compute in int8 where that saves a conversion."""
        kept = node.name in self.keep
        if node.op_type in ("Add", "Sum") and len(node.input) == 2:
            if not kept:
                self._visit_addition(node)
            return
        read_with = self._read_with(node.output[0])
        if read_with is None or node.input[0] in self.graph.constants:
            return
        if node.op_type in _UNCHANGING:
            self._read(node.input[0], read_with)
        elif node.op_type == "MaxPool" and not kept and len(node.output) == 1:
            self._take(node, [Edge(0, read_with)])
        elif node.op_type in _AVERAGING and not kept:
            self._take(node, [Edge(0, node.input[0])])
        elif node.op_type == "Concat" and not kept and not any(name in self.graph.constants for name in node.input):
            self._take(node, [Edge(index, read_with) for index in range(len(node.input))])

    def _read_with(self, tensor: str) -> str | None:
        """The range that all who read this tensor have in common; None where one of them reads it in float."""
        return self.read_with[tensor] if 0 < self.int8_readers[tensor] == self.graph.readers[tensor] else None

    def _visit_addition(self, node: NodeProto) -> None:
        one, other = node.input
        if {one, other} & self.graph.constants or self.graph.differ(one, other):
            return
        fused = list(self._fused(node))
        if fused:
            self._take(node, [Edge(index, node.input[index]) for index in (0, 1) if index != fused[-1]])
        elif self._read_with(node.output[0]):
            self._take(node, [Edge(index, name) for index, name in enumerate(node.input)])

    def _fused(self, node: NodeProto) -> Iterator[int]:
        """The inputs that come from a convolution in int8, that of the later one last."""
        found = []
        for index, name in enumerate(node.input):
            maker = self.graph.convolution(name)
            if maker is not None and maker.name in self.edges:
                found.append((self.graph.places[maker.name], index))
        yield from (index for _, index in sorted(found))
