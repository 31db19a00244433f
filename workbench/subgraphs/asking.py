"""Which nodes a back end takes: asked of the whole model, then of what is left when the refused ones are cut out.

A parser judges a model that it does not take node by node, but not what comes after a refused node. So the subgraphs
between are asked for as models of their own, until each is taken. Runs in a child process, as parsers are native code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

from onnx import GraphProto, ModelProto

from workbench.backends import Backend
from workbench.cutting import Cutter, value_info
from workbench.model import Model, graphs, operator, subgraphs
from workbench.subgraphs.grouping import group_nodes
from workbench.tensor_shapes import TensorShape
from workbench.types import Listener, Progress, Refusal

ASKING = "Asking which nodes it takes"


def find_refusals(
    model: Model, backend: Backend, tensors: Mapping[str, TensorShape], excluded: Mapping[str, str], listener: Listener
) -> tuple[Refusal, ...]:
    """The nodes that the back end refuses or that `excluded` names (node -> reason), in the model's order.

    tensors: type and shape of what is fed and made, by name.
    """
    listener(Progress(ASKING, 0, None))
    reasons = dict(excluded)
    parts = _Parts(model, backend, tensors, listener)
    if not reasons:
        support = backend.check(model, listener)
        if support.supported:
            listener(Progress(ASKING, 1, 1))
            return ()
        reasons = parts.by_node(support.refusals)
    while more := parts.refused(reasons):
        reasons |= more
    return tuple(Refusal(node.name, operator(node), reasons[node.name]) for node in model.nodes if node.name in reasons)


class _Parts:
    """The subgraphs between refused nodes. accepted: those that were taken, not to be asked for again."""

    def __init__(self, model: Model, backend: Backend, tensors: Mapping[str, TensorShape], listener: Listener) -> None:
        self.cutter = Cutter(model)
        self.backend = backend
        self.tensors = tensors
        self.listener = listener
        self.accepted: set[tuple[int, ...]] = set()
        self.takes_type = cache(self._takes_type)
        self.outer = dict(_with_inner_names(model))

    def by_node(self, refusals: Iterable[Refusal]) -> dict[str, str]:
        """Node -> reason; a node in a body is told as the one that the body belongs to."""
        return {self.outer[item.node]: item.reason for item in refusals if item.node in self.outer}

    def refused(self, reasons: Mapping[str, str]) -> dict[str, str]:
        """What is refused if the nodes with a reason are cut out, node -> reason."""
        cutter = self.cutter
        taken = [node.name not in reasons and index not in cutter.dead for index, node in enumerate(cutter.nodes)]
        groups = [group.nodes for group in group_nodes(cutter.sources, taken) if group.is_engine]
        found: dict[str, str] = {}
        for done, nodes in enumerate(groups, 1):
            if nodes not in self.accepted:
                more = self._untold(nodes) or self._asked(nodes)
                if not more:
                    self.accepted.add(nodes)
                found |= more
            self.listener(Progress(ASKING, done, len(groups)))
        return found

    def _asked(self, nodes: Sequence[int]) -> dict[str, str]:
        cutter = self.cutter
        inputs, outputs = ([self.tensors[name] for name in names] for names in cutter.border(nodes))
        members = [cutter.nodes[index] for index in nodes]
        support = self.backend.check(cutter.cut(members, inputs, outputs, "part"), self.listener)
        if support.supported:
            return {}
        at_fault = self.by_node(support.refusals)
        return at_fault or {node.name: support.refusals[0].reason for node in members}

    def _untold(self, nodes: Sequence[int]) -> dict[str, str]:
        """Nodes with a tensor at the border that an engine cannot take or give, and those that would then be there."""
        inputs, outputs = self.cutter.border(nodes)
        border = {*inputs, *outputs}
        found: dict[str, str] = {}
        for index in (*nodes, *reversed(nodes)):
            node, reads = self.cutter.nodes[index], self.cutter.reads[index]
            told = [self._why_not("input", name) for name in reads if name in border]
            told += [self._why_not("output", name) for name in node.output if name in border]
            reason = next(filter(None, told), "")
            if reason:
                found.setdefault(node.name, reason)
                border.update((*reads, *filter(None, node.output)))
        return found

    def _why_not(self, place: str, name: str) -> str:
        tensor = self.tensors[name]
        if not tensor.dtype:
            return f"the type of its {place} {name} is not known"
        if tensor.shape is None:
            return f"the number of dimensions of its {place} {name} is not known before it runs"
        if 0 in tensor.shape:
            return f"its {place} {name} is empty"
        if not self.takes_type(tensor.dtype):
            kind = "string" if tensor.dtype == "object" else tensor.dtype
            return f"its {place} {name} is {kind}, which {self.backend.support().title} does not take"
        return ""

    def _takes_type(self, dtype: str) -> bool:
        """Whether the back end takes a network with an input of this type."""
        proto = self.cutter.model.proto
        value = value_info(TensorShape("x", dtype, (1,)))
        graph = GraphProto(name="type", input=[value], output=[value])
        probe = ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, graph=graph)
        return self.backend.check(Model(probe, self.cutter.model.path), self.listener).supported


def _with_inner_names(model: Model) -> Iterator[tuple[str, str]]:
    """Every node's name and those in its bodies, each with the name of the node in the main graph."""
    for node in model.nodes:
        yield node.name, node.name
        for body in subgraphs(node):
            yield from ((inner.name, node.name) for graph in graphs(body) for inner in graph.node)
