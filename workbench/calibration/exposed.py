"""A model with its inner tensors given out, cut into pieces so that no more than a budget is held at once.

Every node runs once for a batch: a piece reads what earlier pieces gave out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from workbench.calibration.collection import Repeated
from workbench.cutting import Cutter
from workbench.machine import usable_cores
from workbench.model import Model
from workbench.reference import Reference
from workbench.tensor_shapes import TensorShape
from workbench.tensor_types import find_types
from workbench.types import Feeds, Shape

FLOATS = ("float16", "bfloat16", "float32", "float64")
_RESHAPING = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Dropout")
"""Their output holds the very values of their first input."""
_THREADS_REST = {"session.intra_op.allow_spinning": "0"}
"""Threads that wait at full speed would take the processor from the counting."""


def float_tensors(model: Model) -> tuple[tuple[str, ...], dict[str, Repeated]]:
    """The activations that have a range: those to be counted, in the model's order, and those whose values follow from
    another's. What is the same in every run, for it depends on weights only, is none."""
    cutter, types = Cutter(model), find_types(model)
    fixed = {name for index in cutter.unfed for name in cutter.nodes[index].output}
    scalars = dict(_scalars(model))
    counted = {spec.name: None for spec in model.inputs if spec.dtype in FLOATS}
    repeated: dict[str, Repeated] = {}
    for node in cutter.nodes:
        for place, name in enumerate(node.output):
            tensor = types.get(name)
            if tensor is None or tensor.dtype not in FLOATS or name in fixed:
                continue
            source = node.input[0] if node.input and place == 0 else ""
            limits = _limits(node, scalars)
            if limits is None or (source not in counted and source not in repeated):
                counted[name] = None
            else:
                repeated[name] = repeated.get(source, Repeated(source)).within(*limits)
    return tuple(counted), repeated


def _limits(node: NodeProto, scalars: Mapping[str, float]) -> tuple[float, float] | None:
    """What the node sets its input's values within; None where it does something else to them."""
    if node.op_type in _RESHAPING:
        return -math.inf, math.inf
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.op_type != "Clip" or not all(name in scalars for name in node.input[1:] if name):
        return None
    found = {"min": -math.inf, "max": math.inf}
    found |= {item.name: item.f for item in node.attribute}
    found |= {end: scalars[name] for end, name in zip(found, node.input[1:], strict=False) if name}
    return found["min"], found["max"]


def _scalars(model: Model) -> Iterator[tuple[str, float]]:
    """Constants of one element, by name."""
    tensors = [(tensor.name, tensor) for tensor in model.proto.graph.initializer]
    attributes = (
        (node.output[0], item) for node in model.nodes if node.op_type == "Constant" for item in node.attribute
    )
    for name, item in attributes:
        if item.name == "value_float":
            yield name, item.f
        elif item.name == "value":
            tensors.append((name, item.t))
    for name, tensor in tensors:
        if math.prod(tensor.dims) == 1 and tensor.data_location != TensorProto.EXTERNAL:
            yield name, float(numpy_helper.to_array(tensor).reshape(-1)[0])


@dataclass(frozen=True)
class _Piece:
    """nodes: places in the cutter's order. reads, gives: names of tensors; gives are counted or read later."""

    nodes: tuple[int, ...]
    reads: tuple[str, ...]
    gives: tuple[str, ...]


class ExposedModel:
    """Runs a model on the processor and gives out the tensors that are to be counted.

    shapes: of the inputs, one batch. budget_bytes: what the tensors of a piece may take; a single node's are held
    whole in any case. threads: processors that a run may use, None for all.
    """

    def __init__(
        self,
        model: Model,
        counted: Sequence[str],
        shapes: Mapping[str, Shape],
        budget_bytes: int,
        threads: int | None = None,
    ) -> None:
        self._cutter, self._types = Cutter(model), find_types(model, shapes)
        self._counted = frozenset(counted)
        self._pieces = tuple(self._cut(budget_bytes))
        self._sessions: dict[int, Reference] = {}
        self._settings = {**_THREADS_REST, "intra_op_num_threads": threads or usable_cores()}

    def run(self, feeds: Feeds) -> Iterator[dict[str, np.ndarray]]:
        """The counted tensors by name, a piece at a time, inputs first. Raises RunError naming the node that fails."""
        held = dict(feeds)
        yield {name: array for name, array in feeds.items() if name in self._counted}
        for index, piece in enumerate(self._pieces):
            if index not in self._sessions:
                self._sessions[index] = Reference(self._model_of(piece), **self._settings)
            made = self._sessions[index].run({name: held[name] for name in piece.reads})
            yield {name: array for name, array in made.items() if name in self._counted}
            later = {name for other in self._pieces[index + 1 :] for name in other.reads}
            held = {name: array for name, array in {**held, **made}.items() if name in later}

    def _cut(self, budget_bytes: int) -> Iterator[_Piece]:
        groups: list[list[int]] = [[]]
        size = 0
        for index, node in enumerate(self._cutter.nodes):
            if index in self._cutter.dead and not self._counted.intersection(node.output):
                continue
            own = sum(self._size(name) for name in node.output if name)
            if groups[-1] and size + own > budget_bytes:
                groups.append([])
                size = 0
            groups[-1].append(index)
            size += own
        for group in groups:
            if group:
                reads, crossing = self._cutter.border(group)
                made = dict.fromkeys(name for index in group for name in self._cutter.nodes[index].output if name)
                wanted = self._counted.union(crossing)
                yield _Piece(tuple(group), reads, tuple(name for name in made if name in wanted))

    def _size(self, name: str) -> int:
        tensor = self._types.get(name)
        return (tensor.bytes or 0) if tensor is not None else 0

    def _model_of(self, piece: _Piece) -> Model:
        nodes = [self._cutter.nodes[index] for index in piece.nodes]
        name = f"piece_{self._pieces.index(piece)}"
        return self._cutter.cut(nodes, map(self._open, piece.reads), map(self._open, piece.gives), name)

    def _open(self, name: str) -> TensorShape:
        """Type alone: batches may differ in their shapes."""
        tensor = self._types.get(name, TensorShape(name, "", None))
        return TensorShape(name, tensor.dtype, None)
