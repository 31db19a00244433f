"""Some nodes of a model as a model of their own, with the tensors that cross the border as inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, ValueInfoProto

from workbench.model import Model, graphs, reads
from workbench.tensor_shapes import TensorShape
from workbench.tensor_types import type_proto

_OLDEST_IR = 4
"""From this version of the file format on weights need not be inputs as well."""
_STANDARD = ("", "ai.onnx")


class Cutter:
    """Cuts one model any number of times.

    constants: Constant nodes by their tensor, but for those that are outputs of the model; they are copied into every
    part that reads them, as weights are. nodes: all others, in the model's order. reads: for each of these the
    tensors that it reads, without constants and weights; sources: the nodes, by their places, that make them.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        graph = model.proto.graph
        self._shown = {value.name for value in graph.output}
        made = ((node.output[0], node) for node in model.nodes if node.op_type == "Constant")
        self.constants = {name: node for name, node in made if name not in self._shown}
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._sparse = {tensor.values.name: tensor for tensor in graph.sparse_initializer}
        self._functions = {(item.domain, item.name, item.overload): item for item in model.proto.functions}
        self._opsets = {"" if item.domain in _STANDARD else item.domain: item for item in model.proto.opset_import}
        copied = {node.name for node in self.constants.values()}
        self.nodes = tuple(node for node in model.nodes if node.name not in copied)
        self.reads = [self._read_by(node) for node in self.nodes]
        self._maker = {name: index for index, node in enumerate(self.nodes) for name in node.output if name}
        self.sources = [sorted({self._maker[name] for name in names if name in self._maker}) for names in self.reads]
        self._readers: dict[str, list[int]] = {}
        for index, names in enumerate(self.reads):
            for name in names:
                self._readers.setdefault(name, []).append(index)

    def _read_by(self, node: NodeProto) -> tuple[str, ...]:
        """What the node reads and no part has a copy of."""
        copied = (self.constants, self._weights, self._sparse)
        return tuple(name for name in dict.fromkeys(reads(node)) if not any(name in names for names in copied))

    @cached_property
    def dead(self) -> frozenset[int]:
        """Nodes that no output of the model depends on."""
        alive = {index for index, node in enumerate(self.nodes) if not self._shown.isdisjoint(node.output)}
        for index in range(len(self.nodes) - 1, -1, -1):
            if index in alive:
                alive.update(self.sources[index])
        return frozenset(range(len(self.nodes))) - alive

    @cached_property
    def unfed(self) -> frozenset[int]:
        """Nodes that no input of the model leads to: what they make is the same in every run, or random."""
        found: set[int] = set()
        for index, names in enumerate(self.reads):
            if found.issuperset(self.sources[index]) and all(name in self._maker for name in names):
                found.add(index)
        return frozenset(found)

    def border(self, part: Sequence[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The tensors that come in and go out of some nodes, given by their places in ascending order."""
        within = set(part)
        read = dict.fromkeys(name for index in part for name in self.reads[index])
        made = (name for index in part for name in self.nodes[index].output if name)
        outputs = (
            name
            for name in made
            if name in self._shown or any(reader not in within for reader in self._readers.get(name, ()))
        )
        return tuple(name for name in read if self._maker.get(name, -1) not in within), tuple(outputs)

    def cut(
        self, nodes: Iterable[NodeProto], inputs: Iterable[TensorShape], outputs: Iterable[TensorShape], name: str
    ) -> Model:
        """The nodes, in the model's order, with the constants, weights and functions that they use.

        The content depends on nothing else in the model. Weights in external files stay there: the result's path,
        which `name` becomes part of, is one beside the model's own, and nothing is written.
        """
        body = tuple(nodes)
        used = list(dict.fromkeys(read for node in body for read in reads(node)))
        graph = GraphProto(name="subgraph")
        graph.node.extend(self.constants[read] for read in used if read in self.constants)
        graph.node.extend(body)
        graph.initializer.extend(self._weights[read] for read in used if read in self._weights)
        graph.sparse_initializer.extend(self._sparse[read] for read in used if read in self._sparse)
        graph.input.extend(map(value_info, inputs))
        graph.output.extend(map(value_info, outputs))
        functions = tuple(self._called(_all_nodes(graph)))
        called = (node for function in functions for node in function.node)
        domains = sorted({_domain(node) for node in (*_all_nodes(graph), *called)})
        proto = ModelProto(
            ir_version=max(self.model.proto.ir_version, _OLDEST_IR),
            opset_import=[self._opsets[domain] for domain in domains if domain in self._opsets],
            graph=graph,
            functions=functions,
        )
        path = self.model.path
        return Model(proto, path.with_name(f"{path.stem}.{name}.onnx"))

    def _called(self, nodes: Iterable[NodeProto]) -> Iterator[FunctionProto]:
        """The model's own functions that the nodes call, and those that these call."""
        waiting, seen = list(nodes), set()
        while waiting:
            node = waiting.pop()
            key = (node.domain, node.op_type, node.overload)
            if key in self._functions and key not in seen:
                seen.add(key)
                yield self._functions[key]
                waiting += self._functions[key].node


def _all_nodes(graph: GraphProto) -> list[NodeProto]:
    return [node for inner in graphs(graph) for node in inner.node]


def _domain(node: NodeProto) -> str:
    return "" if node.domain in _STANDARD else node.domain


def value_info(tensor: TensorShape) -> ValueInfoProto:
    """A dimension that is open and nameless stays so."""
    return ValueInfoProto(name=tensor.name, type=type_proto(tensor))
