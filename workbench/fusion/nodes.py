"""An ONNX graph as fusion sees it: nodes, and which of them have no work to do on the data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from workbench.model import Model, operator, reads

_RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
_SIZES = {"Shape", "Size"}
WITHOUT_EFFECT = {
    "Identity": "it hands its input on",
    "Dropout": "it does nothing outside of training",
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), "it changes the shape only, no data moves"),
}
"""Operators that need no kernel, and why."""


@dataclass(frozen=True)
class Node:
    """What fusion needs to know of an ONNX node; a recorded list of them does as well as the model.

    inputs: tensors that it reads, those that its If, Loop or Scan bodies read included. weights: the initializers
    among them. results: the model's outputs among its outputs.
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...] = ()
    results: tuple[str, ...] = ()


def nodes_of(model: Model) -> tuple[Node, ...]:
    graph = model.proto.graph
    weights = {item.name for item in graph.initializer} | {item.values.name for item in graph.sparse_initializer}
    results = {item.name for item in graph.output}
    return tuple(
        Node(
            name=node.name,
            op_type=operator(node),
            inputs=(inputs := (*node.input, *(name for name in dict.fromkeys(reads(node)) if name not in node.input))),
            outputs=tuple(node.output),
            weights=tuple(name for name in inputs if name in weights),
            results=tuple(name for name in node.output if name in results),
        )
        for node in model.nodes
    )


class NodeGraph:
    """Nodes in an order in which they can run, as ONNX demands it. Everything takes time in proportion to them."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes = tuple(nodes)
        self.place = {node.name: place for place, node in enumerate(self.nodes)}
        self.by_name = {node.name: node for node in self.nodes}
        self.producers = {name: node for node in self.nodes for name in node.outputs if name}

    @cached_property
    def constants(self) -> frozenset[str]:
        """Names of nodes that work on constants only."""
        tensors = {name for node in self.nodes for name in node.weights}
        return frozenset(self._reached(tensors, frozenset()))

    @cached_property
    def needed(self) -> frozenset[str]:
        """Names of nodes that work on more than constants."""
        return frozenset(self.by_name) - self.constants

    @cached_property
    def sizes(self) -> frozenset[str]:
        """Names of nodes that work on sizes only: Shape, and the arithmetic on what it gives."""
        tensors = {name for node in self.nodes for name in node.weights}
        return frozenset(self._reached(tensors, _SIZES)) - self.constants

    def _reached(self, tensors: set[str], sources: Iterable[str]) -> Iterator[str]:
        """Nodes that read nothing but these tensors, or what such nodes make; `sources` are such whatever they read."""
        for node in self.nodes:
            if node.op_type in sources or (
                node.op_type not in _RANDOM and all(not name or name in tensors for name in node.inputs)
            ):
                tensors.update(node.outputs)
                yield node.name

    @cached_property
    def dead(self) -> frozenset[str]:
        """Names of nodes that no output of the model needs. Where no outputs are known, what nobody reads is one."""
        ends = {name for node in self.nodes for name in node.results}
        if not ends:
            read = {name for node in self.nodes for name in node.inputs}
            ends = {name for node in self.nodes for name in node.outputs if name not in read}
        needed = set(ends)
        dead = []
        for node in reversed(self.nodes):
            if needed.isdisjoint(node.outputs):
                dead.append(node.name)
            else:
                needed.update(node.inputs)
        return frozenset(dead)

    def needed_for(self, outputs: Iterable[str], given: Collection[str]) -> tuple[str, ...]:
        """Names of the nodes that make these tensors out of the given ones, constants aside, in the graph's order."""
        found = set[str]()
        waiting = list(outputs)
        while waiting:
            node = self.producers.get(waiting.pop())
            if node is not None and node.name not in found and node.name not in self.constants:
                found.add(node.name)
                waiting.extend(name for name in node.inputs if name not in given)
        return tuple(sorted(found, key=self.place.__getitem__))

    def sources(self, names: Iterable[str]) -> dict[str, str]:
        """Tensor -> the one it stands for, after the named nodes have vanished, each of which hands its first input
        on that is not constant."""
        stands_for: dict[str, str] = {}
        vanished = set(names)
        constant = {name for node in self.nodes for name in node.weights}
        constant |= {name for node in self.nodes if node.name in self.constants for name in node.outputs}
        for node in self.nodes:
            if node.name in vanished:
                given = next((name for name in node.inputs if name and name not in constant), None)
                if given is not None:
                    stands_for.update((name, stands_for.get(given, given)) for name in node.outputs if name)
        return stands_for
