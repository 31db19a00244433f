"""Opset 18 -> 17, the newest that TensorRT 8.6 reads: what onnx's own converter refuses or gets wrong, made right.

onnx 1.23 leaves attributes on Reduce* that opset 17 has not, and knows no way down for Split, Pad and Mish.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import onnx
from onnx import GraphProto, ModelProto, NodeProto, defs, helper, numpy_helper

from workbench.errors import ExportError
from workbench.model import graphs, operator, subgraphs

_LOWEST_RULE, _HIGHEST_RULE = 17, 18


def lower_opset(proto: ModelProto, opset: int) -> ModelProto:
    """The model in standard opset `opset` and the IR version that goes with it; as it is where it is no newer.

    Raises ExportError naming the node and operator that has no counterpart there.
    """
    if _version(proto) == _HIGHEST_RULE and opset <= _LOWEST_RULE:
        proto = _Lowering(proto).run()
    if _version(proto) > opset:
        try:
            proto = onnx.version_converter.convert_version(proto, opset)
        except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
            raise _refused(str(error), opset) from error
    proto.ir_version = helper.find_min_ir_version_for(list(proto.opset_import))
    return proto


def _version(proto: ModelProto) -> int:
    return next((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), 0)


def _refused(text: str, opset: int) -> ExportError:
    match = re.search(r"(?:No Adapter .* for|Previous Version of|for operator) (\w+)", text)
    what = match[1] if match else text.split("\n")[0][:200]
    return ExportError(f"{what} cannot be written in opset {opset}: choose a newer opset, or exporter='classic'.")


class _Lowering:
    """A copy of a model on its way down. A rule returns the nodes that take a node's place."""

    def __init__(self, proto: ModelProto) -> None:
        self.proto = ModelProto()
        self.proto.CopyFrom(proto)
        self.graph = self.proto.graph
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.shapes = {
            value.name: [item.dim_value or None for item in value.type.tensor_type.shape.dim]
            for value in (*self.graph.input, *self.graph.value_info, *self.graph.output)
            if value.type.tensor_type.HasField("shape")
        }
        self.shapes |= {tensor.name: list(tensor.dims) for tensor in self.graph.initializer}
        self.dropped: set[str] = set()

    def run(self) -> ModelProto:
        for item in self.proto.opset_import:
            if item.domain in ("", "ai.onnx"):
                item.version = _LOWEST_RULE
        self._lower(self.graph)
        read = {name for graph in graphs(self.graph) for node in graph.node for name in node.input}
        read |= {output.name for output in self.graph.output}
        kept = [item for item in self.graph.initializer if item.name in read or item.name not in self.dropped]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
        return self.proto

    def _lower(self, graph: GraphProto) -> None:
        self.constants |= {tensor.name: tensor for tensor in graph.initializer}
        nodes: list[NodeProto] = []
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self.constants[node.output[0]] = node.attribute[0].t
            for inner in subgraphs(node):
                self._lower(inner)
            nodes += [node] if _unchanged(node) else _RULES.get(node.op_type, _Lowering.refuse)(self, node)
        del graph.node[:]
        graph.node.extend(nodes)

    # ---- rules

    def refuse(self, node: NodeProto, because: str = "") -> list[NodeProto]:
        what = f"{operator(node)} {because}".strip()
        raise ExportError(
            f"{node.name or node.output[0]}: {what} cannot be written in opset 17, the newest that TensorRT 8.6 reads: "
            "use exporter='classic', or opset=18 for TensorRT 10, TensorRT-RTX and ONNX Runtime."
        )

    def reduce(self, node: NodeProto) -> list[NodeProto]:
        axes = self._take_constant(node, 1)
        if axes is None and _take(node, "noop_with_empty_axes", 0):
            self.refuse(node, "without axes")
        _take(node, "noop_with_empty_axes", 0)
        if axes:
            node.attribute.append(helper.make_attribute("axes", axes))
        return [node]

    def split(self, node: NodeProto) -> list[NodeProto]:
        _take(node, "num_outputs", 0)
        if len(node.input) > 1 and node.input[1]:
            return [node]
        axis = next((item.i for item in node.attribute if item.name == "axis"), 0)
        shape = self.shapes.get(node.input[0])
        size, parts = (shape[axis] if shape else None), len(node.output)
        if size is None:
            return self.refuse(node, "of an open dimension")
        if size % parts:
            chunk = -(-size // parts)
            sizes = [min(chunk, size - chunk * index) for index in range(parts)]
            name = f"{node.output[0]}_split"
            self.graph.initializer.append(helper.make_tensor(name, onnx.TensorProto.INT64, [parts], sizes))
            node.input.append(name)
        return [node]

    def pad(self, node: NodeProto) -> list[NodeProto]:
        if len(node.input) < 4 or not node.input[3]:
            del node.input[3:]
            return [node]
        axes, pads, shape = self._take_constant(node, 3), self._constant(node, 1), self.shapes.get(node.input[0])
        if axes is None or pads is None or shape is None:
            return self.refuse(node, "with axes or sizes that are computed")
        whole = [0] * (2 * len(shape))
        for index, axis in enumerate(axes):
            whole[axis % len(shape)] = pads[index]
            whole[axis % len(shape) + len(shape)] = pads[index + len(axes)]
        name = f"{node.output[0]}_pads"
        self.graph.initializer.append(helper.make_tensor(name, onnx.TensorProto.INT64, [len(whole)], whole))
        self.dropped.add(node.input[1])
        node.input[1] = name
        return [node]

    def resize(self, node: NodeProto) -> list[NodeProto]:
        if _take(node, "antialias", 0):
            self.refuse(node, "with antialias")
        if any(item.name == "axes" for item in node.attribute):
            self.refuse(node, "with axes")
        if _take(node, "keep_aspect_ratio_policy", b"stretch") != b"stretch":
            self.refuse(node, "that keeps the ratio of the sides")
        return [node]

    def scatter(self, node: NodeProto) -> list[NodeProto]:
        if any(item.name == "reduction" and item.s in (b"max", b"min") for item in node.attribute):
            self.refuse(node, "with reduction max or min")
        return [node]

    def mish(self, node: NodeProto) -> list[NodeProto]:
        """x * tanh(softplus(x)), the operator's definition."""
        x, y, name = node.input[0], node.output[0], node.name
        return [
            helper.make_node("Softplus", [x], [f"{y}_softplus"], name=f"{name}_softplus"),
            helper.make_node("Tanh", [f"{y}_softplus"], [f"{y}_tanh"], name=f"{name}_tanh"),
            helper.make_node("Mul", [x, f"{y}_tanh"], [y], name=name),
        ]

    # ---- constants

    def _constant(self, node: NodeProto, index: int) -> list[int] | None:
        """The values of a constant input; None where there is none or it is computed."""
        tensor = self.constants.get(node.input[index]) if index < len(node.input) else None
        return None if tensor is None else [int(value) for value in numpy_helper.to_array(tensor).ravel()]

    def _take_constant(self, node: NodeProto, index: int) -> list[int] | None:
        """As `_constant`, and the node loses that input, which is its last. Refuses one that is computed."""
        values = self._constant(node, index)
        if values is None and index < len(node.input) and node.input[index]:
            self.refuse(node, "with computed axes")
        self.dropped.update(node.input[index:])
        del node.input[index:]
        return values


def _take(node: NodeProto, name: str, default: object) -> object:
    """Remove an attribute and return its value."""
    for index, item in enumerate(node.attribute):
        if item.name == name:
            value = helper.get_attribute_value(item)
            del node.attribute[index]
            return value
    return default


def _unchanged(node: NodeProto) -> bool:
    """Whether the operator is the same in both opsets."""
    if node.domain not in ("", "ai.onnx"):
        return True
    versions = []
    for opset in (_LOWEST_RULE, _HIGHEST_RULE):
        try:
            versions.append(defs.get_schema(node.op_type, opset, "").since_version)
        except defs.SchemaError:
            versions.append(0)
    return versions[0] == versions[1]


_RULES: dict[str, Callable[[_Lowering, NodeProto], list[NodeProto]]] = {
    "Split": _Lowering.split,
    "Pad": _Lowering.pad,
    "Resize": _Lowering.resize,
    "ScatterElements": _Lowering.scatter,
    "ScatterND": _Lowering.scatter,
    "Mish": _Lowering.mish,
    **{
        f"Reduce{kind}": _Lowering.reduce
        for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
    },
}
