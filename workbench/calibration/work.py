"""What int8 can gain: the multiplications of every node that computes in it, and its time where a GPU told it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from onnx import NodeProto

from workbench.model import Model, operator
from workbench.qdq import quantizable
from workbench.qdq_plan import WEIGHTED, Graph
from workbench.tensor_shapes import ShapeInference, TensorShapes
from workbench.types import Shape, count_of

LITTLE_PERCENT = 1.0
"""Below this share of all multiplications, a node's own time is lost among the others."""


@dataclass(frozen=True)
class NodeWork:
    """One node that can compute in int8, for given input sizes.

    macs: multiplications, each with its addition; None where a size is not known. macs_percent: of all such nodes.
    elements: of the activations and weights that it reads and writes, a byte each in int8. int8_ms, float_ms: median
    times on a GPU, None where not given.
    """

    node: str
    op_type: str
    macs: int | None
    macs_percent: float
    elements: int | None
    int8_ms: float | None = None
    float_ms: float | None = None

    @property
    def gain_ms(self) -> float | None:
        """What int8 saves on that GPU; what returning it to float costs."""
        return None if self.int8_ms is None or self.float_ms is None else self.float_ms - self.int8_ms

    @property
    def gains(self) -> bool:
        """Whether int8 makes this node noticeably faster: by its times, without them by its multiplications."""
        return self.macs_percent >= LITTLE_PERCENT if self.gain_ms is None else self.gain_ms > 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "gain_ms": self.gain_ms, "gains": self.gains}


def node_work(
    model: Model,
    shapes: Mapping[str, Shape],
    *,
    int8_ms: Mapping[str, float] | None = None,
    float_ms: Mapping[str, float] | None = None,
) -> tuple[NodeWork, ...]:
    """Every quantizable node in the model's order. shapes: of the inputs. int8_ms, float_ms: of an engine of each kind,
    by ONNX node name; the time of a kernel of several nodes belongs to one of them."""
    known, graph = ShapeInference(model).at(shapes), Graph(model.proto.graph)
    names = frozenset(quantizable(model))
    nodes = [node for node in model.nodes if node.name in names]
    macs = {node.name: _macs(node, known, graph) for node in nodes}
    total = sum(value or 0 for value in macs.values())
    return tuple(
        NodeWork(
            node=node.name,
            op_type=operator(node),
            macs=macs[node.name],
            macs_percent=100 * (macs[node.name] or 0) / total if total else 0.0,
            elements=_elements(node, known, graph),
            int8_ms=(int8_ms or {}).get(node.name),
            float_ms=(float_ms or {}).get(node.name),
        )
        for node in nodes
    )


def gain_in_words(work: Collection[NodeWork], keep: Collection[str] = ()) -> str:
    """Which nodes int8 serves, and what the nodes of `keep` in float cost."""
    most = [item for item in work if item.gains]
    share = sum(item.macs_percent for item in most)
    text = (
        f"{count_of(len(most), 'layer')} of {len(work)} gain from int8: they do {share:.0f} % of the multiplications."
    )
    kept = [item for item in work if item.node in set(keep)]
    if not kept:
        return text
    cost = [item.gain_ms for item in kept if item.gain_ms is not None]
    lost = f"{sum(item.macs_percent for item in kept):.1f} % of the multiplications"
    slower = f" and makes the engine about {sum(cost):.3f} ms slower" if len(cost) == len(kept) else ""
    return f"{text} Leaving {count_of(len(kept), 'layer')} in float takes {lost} out of int8{slower}."


def _macs(node: NodeProto, known: TensorShapes, graph: Graph) -> int | None:
    if node.op_type not in WEIGHTED:
        return 0
    made, weight = _size(node.output[0], known), graph.weight(node.input[1])
    if made is None or weight is None:
        return None
    if node.op_type == "Conv":
        return made * math.prod(weight.dims[1:])
    transposed = any(item.name == "transB" and item.i for item in node.attribute)
    return made * weight.dims[-1 if transposed else -2]


def _elements(node: NodeProto, known: TensorShapes, graph: Graph) -> int | None:
    total = 0
    for name in (*node.input, node.output[0]):
        weight = graph.weight(name)
        size = math.prod(weight.dims) if weight is not None else _size(name, known)
        if name and size is None:
            return None
        total += size or 0
    return total


def _size(name: str, known: TensorShapes) -> int | None:
    item = known.by_name.get(name)
    return None if item is None else item.elements
