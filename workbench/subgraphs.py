"""Which nodes of a model a back end takes, cut into subgraphs as Paddle-TRT's subgraph mode does."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.model import Model
from workbench.tensor_shapes import TensorShape
from workbench.types import Refusal

NATIVE = "native"
"""What runs the nodes that no engine takes: ONNX Runtime."""


@dataclass(frozen=True)
class Part:
    """Nodes that run together: a subgraph that becomes an engine, or what lies between and stays native.

    id: 'trt_0', 'trt_1', ... or 'native_0', ...; backend: what builds it ('rtx'), or NATIVE. nodes: names, in the
    model's order. inputs, outputs: the tensors that cross its border, weights left out.
    """

    id: str
    backend: str
    nodes: tuple[str, ...]
    inputs: tuple[TensorShape, ...]
    outputs: tuple[TensorShape, ...]

    @property
    def is_engine(self) -> bool:
        return self.backend != NATIVE

    @property
    def border_bytes(self) -> int | None:
        """All that crosses its border in one run; None while a size is not known."""
        sizes = [tensor.bytes for tensor in (*self.inputs, *self.outputs)]
        return None if None in sizes else sum(size for size in sizes if size is not None)


@dataclass(frozen=True)
class Partition:
    """parts: every node in exactly one of them, in an order in which they can run. refusals: the nodes that the back
    end does not take, with reasons; those of subgraphs below min_subgraph_size are native without being refused."""

    model: Model
    backend: str
    min_subgraph_size: int
    parts: tuple[Part, ...]
    refusals: tuple[Refusal, ...]

    @property
    def engines(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.is_engine)
