"""What became of a network in an engine: ONNX nodes and kernels linked many to many, and the kind of every fusion."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from workbench.fusion import roles
from workbench.fusion.nodes import WITHOUT_EFFECT, Node, NodeGraph
from workbench.fusion.story import story, told_of_nodes
from workbench.layers import LayerInfo
from workbench.types import LogLine, count_of

KERNELS = ("single", "vertical", "horizontal", "region")
"""The kinds of groups that do the work of nodes."""
_BIASED = {"Conv", "ConvTranspose", "Gemm"}
_BIAS = 2
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True)
class Group:
    """A layer and the nodes it does the work of.

    kind: 'single' one node; 'vertical' nodes that feed one another (conv + bias + relu, conv + add + relu);
    'horizontal' siblings, of which none feeds the other; 'region' a Myelin region of several, not told apart;
    'reformat' a copy, a reformat or a view that was added; 'constant' it brings or copies constants; 'sync' it only
    waits; 'other' a layer that names no node although it computes, such as sizes on the host.
    nodes: in the model's order, then those that are not in the model (a conversion of precision added them).
    words: of a kernel, its nodes' operators, as 'conv + bias + relu'; '' where the model is not at hand.
    time_ms: of the layer, where it was measured.
    """

    layer: LayerInfo
    kind: str
    nodes: tuple[str, ...]
    words: str = ""
    time_ms: float | None = None

    @property
    def label(self) -> str:
        """A few words for people: what it fuses, or the kernel's own kind, or why it is there."""
        return self.words or (self.layer.kind if self.kind in KERNELS else self.kind)


@dataclass(frozen=True)
class Fate:
    """What became of one node.

    kind: 'kernel' its work is done by `layers`; 'folded' it has no work on the data, as all it reads are constants or
    sizes (if the engine keeps a copy of such a constant, `layers` names it); 'removed' dead or without effect;
    'absorbed' the build log tells that it went into another node that then vanished or was renamed; 'unmatched' nobody
    tells. reason: a few words, or the log's.
    """

    node: str
    kind: str
    layers: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Fusion:
    """groups: one for every layer, in the order of running. fates: one for every node, in the order of the model;
    empty where neither the model nor its nodes were at hand."""

    nodes: tuple[Node, ...]
    groups: tuple[Group, ...]
    fates: tuple[Fate, ...]

    @property
    def coverage(self) -> float:
        """The share of the model's nodes that have a known fate, 0 to 1."""
        return 1 - len(self.unmatched) / len(self.fates) if self.fates else 1.0

    @property
    def unmatched(self) -> tuple[str, ...]:
        return tuple(fate.node for fate in self.fates if fate.kind == "unmatched")

    @property
    def kernels(self) -> tuple[Group, ...]:
        """The groups that do the work of nodes."""
        return tuple(group for group in self.groups if group.kind in KERNELS)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many nodes met each fate."""
        return dict(Counter(fate.kind for fate in self.fates))

    @property
    def time_ms(self) -> float | None:
        """The sum over all layers that were measured, None when none was."""
        times = [group.time_ms for group in self.groups if group.time_ms is not None]
        return sum(times) if times else None

    @property
    def summary(self) -> str:
        """'65 nodes -> 23 kernels; 48 in kernels, 16 folded, 1 absorbed, 0 unmatched; coverage 100 %'."""
        kernels = count_of(len(self.kernels), "kernel")
        if not self.fates:
            names = {node for group in self.kernels for node in group.nodes}
            return f"{count_of(len(self.groups), 'layer')}, {kernels} naming {count_of(len(names), 'node')}"
        kinds = [("kernel", "in kernels"), *((kind, kind) for kind in ("folded", "removed", "absorbed"))]
        told = [f"{self.counts[kind]} {words}" for kind, words in kinds if kind in self.counts]
        told.append(f"{len(self.unmatched)} unmatched")
        share = f"coverage {100 * self.coverage:.4g} %"
        return f"{count_of(len(self.nodes), 'node')} -> {kernels}; {', '.join(told)}; {share}"


def link(
    layers: Iterable[LayerInfo],
    nodes: Iterable[Node],
    *,
    log: Iterable[LogLine] = (),
    times_ms: Mapping[str, float] = MappingProxyType({}),
) -> Fusion:
    """Link an engine's layers with the model's nodes.

    nodes: of the model, in its order; empty when it is not at hand. log: of the build, for what no layer tells.
    times_ms: by layer name.
    """
    layers, graph = tuple(layers), NodeGraph(nodes)
    names = _names(layers, graph)
    done_by: dict[str, list[str]] = {}
    for layer, members in zip(layers, names, strict=True):
        for name in members:
            done_by.setdefault(name, []).append(layer.name)
    sources = graph.sources(graph.by_name.keys() - done_by.keys())
    groups = []
    for layer, members in zip(layers, names, strict=True):
        chains = _chains([name for name in members if name in graph.needed], graph, sources)
        kind = _kind(layer, members, len(chains), graph, done_by)
        words = _words(kind, chains) if kind in KERNELS else ""
        groups.append(Group(layer, kind, members, words, times_ms.get(layer.name)))
    return Fusion(graph.nodes, tuple(groups), _fates(graph, done_by, log))


def _names(layers: Sequence[LayerInfo], graph: NodeGraph) -> list[tuple[str, ...]]:
    """The nodes of each layer: what its metadata say, else what its name says, and for a region its tensors."""
    written = {tensor.name for layer in layers for tensor in layer.outputs}
    held = _held(layers, graph)
    by_name_only = not any(layer.nodes for layer in layers)  # releases before 8.6 have no metadata
    found = []
    for layer in layers:
        names = layer.nodes
        if not names and (graph.nodes or by_name_only):
            names = roles.named_nodes(layer, graph.by_name)
            if roles.role(layer) == roles.REGION:
                names += graph.needed_for((held.get(tensor.name, tensor.name) for tensor in layer.outputs), written)
        found.append(tuple(sorted(dict.fromkeys(names), key=lambda name: graph.place.get(name, len(graph.nodes)))))
    return found


def _held(layers: Sequence[LayerInfo], graph: NodeGraph) -> dict[str, str]:
    """Tensor that the builder added -> the model's that it holds in another type or layout: a region in fp16 writes
    'Reformatted Output Tensor 0 to ...', and a copy of that is the model's output."""
    held: dict[str, str] = {}
    for layer in reversed(layers):
        if roles.reformats(layer):
            name, copy = layer.inputs[0].name, layer.outputs[0].name
            copy = held.get(copy, copy)
            if copy in graph.producers and name not in graph.producers:
                held[name] = copy
    return held


def _chains(names: Sequence[str], graph: NodeGraph, sources: Mapping[str, str]) -> list[list[Node]]:
    """The nodes parted into those that feed one another, in the order of the model."""
    root = {name: name for name in names}

    def find(name: str) -> str:
        while root[name] != name:
            root[name] = name = root[root[name]]
        return name

    for name in names:
        for tensor in graph.by_name[name].inputs:
            maker = graph.producers.get(sources.get(tensor, tensor))
            if maker is not None and maker.name in root:
                root[find(name)] = find(maker.name)
    chains: dict[str, list[Node]] = {}
    for name in names:
        chains.setdefault(find(name), []).append(graph.by_name[name])
    return list(chains.values())


def _kind(
    layer: LayerInfo, names: Sequence[str], chains: int, graph: NodeGraph, done_by: Mapping[str, Sequence[str]]
) -> str:
    role = roles.role(layer)
    if role == roles.SYNC:
        return "sync"
    if role == roles.CONSTANT or (names and graph.constants.issuperset(names)):
        return "constant"
    done_elsewhere = all(len(done_by[name]) > 1 or (graph.nodes and name not in graph.by_name) for name in names)
    if roles.was_added(layer) or (role == roles.COPY and not names):
        return "reformat"
    if roles.moves_only(layer) and done_elsewhere:  # such as channels padded for the convolution that follows
        return "reformat"
    if role == roles.REGION:
        return "region"
    if sum(not graph.nodes or name in graph.needed for name in names) < 2:
        return "single" if names else "other"
    return "horizontal" if chains > 1 or (not chains and " || " in layer.name) else "vertical"


def _words(kind: str, chains: Sequence[Sequence[Node]]) -> str:
    if kind == "region":
        operators = Counter(_word(node) for chain in chains for node in chain)
        return ", ".join(f"{count} {word}" for word, count in operators.most_common())
    told = Counter(" + ".join(_word(node) for node in chain) for chain in chains)
    return " | ".join(words if count == 1 else f"{count} x {words}" for words, count in told.items())


def _word(node: Node) -> str:
    """'conv + bias' for a Conv with a bias, 'batch norm' for BatchNormalization, 'matmul' for MatMul."""
    word = _WORD.sub(" ", node.op_type).lower().replace("normalization", "norm").replace("mat mul", "matmul")
    has_bias = node.op_type in _BIASED and len(node.inputs) > _BIAS and node.inputs[_BIAS]
    return f"{word} + bias" if has_bias else word


def _fates(graph: NodeGraph, done_by: Mapping[str, Sequence[str]], log: Iterable[LogLine]) -> tuple[Fate, ...]:
    steps, regions = told_of_nodes(story(log)) if graph.nodes else ({}, {})

    def fate(node: Node) -> Fate:
        layers = tuple(done_by.get(node.name, ()))
        if node.name in graph.constants:
            return Fate(node.name, "folded", layers, "it works on constants only")
        if layers:
            return Fate(node.name, "kernel", layers)
        if node.name in graph.dead:
            return Fate(node.name, "removed", reason="no output of the model needs it")
        if node.name in steps:
            return Fate(node.name, "absorbed", reason="; ".join(steps[node.name]))
        if node.name in graph.sizes:
            return Fate(node.name, "folded", reason="it works on sizes only, which takes no kernel")
        if node.op_type in WITHOUT_EFFECT:
            return Fate(node.name, "removed", reason=WITHOUT_EFFECT[node.op_type])
        if node.name in regions:
            where = f"it is in the region {regions[node.name]}, of whose kernels none names it"
            return Fate(node.name, "absorbed", reason=where)
        return Fate(node.name, "unmatched", reason="neither a layer nor the build log names it")

    return tuple(fate(node) for node in graph.nodes)
