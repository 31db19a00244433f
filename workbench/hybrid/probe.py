"""A model that answers with the sizes of its tensors, and with what shape tensors hold, instead of its outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from workbench.model import Model, graphs, reads, subgraphs
from workbench.reference import Reference
from workbench.tensor_shapes import TensorShape
from workbench.tensor_types import find_types, type_proto
from workbench.types import Feeds, Shape

LONGEST = 64
"""A shape tensor of more elements is none."""
_AFTER_DATA = (
    "AffineGrid", "CenterCropPad", "Col2Im", "Expand", "NonMaxSuppression", "OneHot", "Pad", "Reshape", "Resize",
    "Slice", "Split", "SplitToSequence", "Squeeze", "Tile", "TopK", "Trilu", "Unsqueeze", "Upsample",
)  # fmt: skip
_TAKES_SIZES = {**dict.fromkeys(_AFTER_DATA, 1), "ConstantOfShape": 0, "Range": 0}
"""Operator -> the first input that tells a size, an axis or a count; reductions take their axes so, too."""

Entry = Shape | None
"""A shape, or what a shape tensor holds; None where it is none after all."""


class ShapeProbe:
    """A model that answers with the shapes of its tensors instead of its outputs.

    keys: ('shape' or 'value', tensor) for every entry of what `run` gives.
    """

    def __init__(self, model: Model) -> None:
        import onnxruntime

        tensors = find_types(model)
        read, holders = _read(model), shape_tensors(model.nodes, tensors)
        seen = [item for item in tensors.values() if item.name in read and not item.dtype.endswith(")")]  # no sequence
        self.keys = [("shape", item.name) for item in seen]
        self.keys += [("value", item.name) for item in seen if item.name in holders]
        self._inputs = {spec.name for spec in model.inputs}
        proto = _with_shape_nodes(model, [key for key in self.keys if key[1] not in self._inputs], tensors)
        self._reference = Reference(
            Model(proto, model.path),
            graph_optimization_level=onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
            execution_order=onnxruntime.ExecutionOrder.PRIORITY_BASED,  # each Shape at once: its tensor is dropped
            enable_mem_pattern=False,  # it would plan anew for every shape
        )
        self._interned: dict[Shape, Shape] = {}

    def run(self, feeds: Feeds) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
        """What tells the sample's kind: entries of the inputs; and all entries."""
        answers = self._reference.run(feeds)
        entries = [self._entry(kind, name, feeds, answers) for kind, name in self.keys]
        kind = tuple(entry for entry, (_, name) in zip(entries, self.keys, strict=True) if name in self._inputs)
        return kind, tuple(entries)

    def _entry(self, kind: str, name: str, feeds: Feeds, answers: Mapping[str, np.ndarray]) -> Entry:
        if name in feeds:
            array = np.asarray(feeds[name])
            numbers = np.array(array.shape) if kind == "shape" else array
        else:
            numbers = answers[_shape_output(name) if kind == "shape" else name]
        if kind == "value" and numbers.size > LONGEST:
            return None
        entry = tuple(numbers.ravel().tolist())
        return self._interned.setdefault(entry, entry)


def _read(model: Model) -> frozenset[str]:
    """What is fed, what some node reads, and what is an output."""
    specs = (*model.inputs, *model.outputs)
    return frozenset(name for node in model.nodes for name in reads(node)) | {spec.name for spec in specs}


def _shape_output(name: str) -> str:
    return f"workbench.shape_of {name}"


def _with_shape_nodes(model: Model, keys: Iterable[tuple[str, str]], tensors: Mapping[str, TensorShape]) -> ModelProto:
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    del proto.graph.output[:]
    if not model.opset:
        proto.opset_import.add(domain="", version=17)
    for kind, name in keys:
        if kind == "shape":
            output = _shape_output(name)
            proto.graph.node.add(op_type="Shape", name=output, input=[name], output=[output])
            proto.graph.output.append(onnx.helper.make_tensor_value_info(output, TensorProto.INT64, [None]))
        else:
            proto.graph.output.append(ValueInfoProto(name=name, type=type_proto(tensors[name])))
    return proto


def shape_tensors(nodes: Iterable[NodeProto], tensors: Mapping[str, TensorShape]) -> frozenset[str]:
    """The integers of rank 0 or 1 from which these nodes compute sizes, as far as types and ranks are known."""
    everywhere = [inner for node in nodes for inner in _with_bodies(node)]
    makers = {name: node for node in everywhere for name in node.output if name}
    waiting = [
        name
        for node in everywhere
        if node.op_type in _TAKES_SIZES or node.op_type.startswith("Reduce")
        for name in node.input[_TAKES_SIZES.get(node.op_type, 1) :]
    ]
    small: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in small and name in tensors and _is_small(tensors[name]):
            small.add(name)
            if name in makers and makers[name].op_type not in ("Shape", "Size"):
                waiting += makers[name].input
    return frozenset(name for name in small if tensors[name].dtype in ("int32", "int64"))


def _with_bodies(node: NodeProto) -> Iterator[NodeProto]:
    yield node
    for body in subgraphs(node):
        for graph in graphs(body):
            yield from graph.node


def _is_small(tensor: TensorShape) -> bool:
    """Whether it may hold sizes; on the way they may be of any type, such as the scales of a Resize."""
    dims = tensor.shape
    return dims is not None and len(dims) <= 1 and all(not isinstance(dim, int) or dim <= LONGEST for dim in dims)
