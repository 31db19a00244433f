"""What became of a network in an engine: ONNX nodes and kernels linked many to many, and the kind of every fusion."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.layers import LayerInfo
from workbench.model import Model


@dataclass(frozen=True)
class Node:
    """What fusion needs to know of an ONNX node; a recorded list of them does as well as the model."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """A layer and the nodes it does the work of.

    kind: 'single' one node; 'vertical' a chain (conv + bias + relu, conv + add + relu); 'horizontal' siblings merged;
    'region' a Myelin region of several; 'reformat' a copy or reformat that was added; 'constant'; 'sync'; 'other' for
    a layer that names no node although it computes.
    words: the nodes' operators, as 'conv + bias + relu'. time_ms: of the layer, where it was measured.
    """

    layer: LayerInfo
    kind: str
    nodes: tuple[str, ...]
    words: str = ""
    time_ms: float | None = None


@dataclass(frozen=True)
class Fate:
    """What became of one node.

    kind: 'kernel' its work is done by `layers`; 'folded' computed while building; 'removed' dead or without effect;
    'absorbed' the build log tells that it went into another node that then vanished or was renamed; 'unmatched' nobody tells.
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


def nodes_of(model: Model) -> tuple[Node, ...]:
    return tuple(Node(node.name, node.op_type, tuple(node.input), tuple(node.output)) for node in model.nodes)
