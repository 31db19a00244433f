"""The shape of every tensor in a model, for given input sizes or by the names of open dimensions, and the memory that
activations take. Nothing is run but the arithmetic on shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

import onnx
from onnx import ModelProto, NodeProto, ValueInfoProto

from workbench.activation_memory import peak_bytes
from workbench.model import Model, graphs, operator, subgraphs, tensors
from workbench.shape_arithmetic import LARGE, fold_shape_arithmetic, full_shape
from workbench.types import Dim, Shape

_WINDOW = 256
_ERROR = re.compile(r"\(op_type:(?P<op_type>.*?), node name: (?P<node>.*?)\): (?:\[\w+\] ?)*(?P<reason>.*)")
_FOLLOWS = "expected to have type but instead is null"
_CONTENT = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


@dataclass(frozen=True)
class TensorShape:
    """A tensor, its type and shape; `shape` is None where not even the rank is known. node, op_type: what makes it,
    empty for an input."""

    name: str
    dtype: str
    shape: tuple[Dim, ...] | None
    node: str = ""
    op_type: str = ""

    @property
    def elements(self) -> int | None:
        """None while a dimension is open."""
        sizes = [dim for dim in self.shape or () if isinstance(dim, int)]
        return math.prod(sizes) if self.shape is not None and len(sizes) == len(self.shape) else None

    @property
    def bytes(self) -> int | None:
        """None while a dimension is open, and for types whose size is not known here, such as strings."""
        elements, bits = self.elements, _BITS.get(self.dtype)
        return None if elements is None or bits is None else math.ceil(elements * bits / 8)


_BITS = {
    **dict.fromkeys(("int4", "uint4", "float4_e2m1fn"), 4),
    **dict.fromkeys(("bool", "int8", "uint8", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"), 8),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 16),
    **dict.fromkeys(("int32", "uint32", "float32"), 32),
    **dict.fromkeys(("int64", "uint64", "float64", "complex64"), 64),
}


@dataclass(frozen=True)
class ShapeConflict:
    """A node whose inputs have shapes that it cannot take."""

    node: str
    op_type: str
    reason: str

    def __str__(self) -> str:
        return f"{self.op_type} {self.node}: {self.reason}"


@dataclass(frozen=True)
class TensorShapes:
    """conflicts: where the sizes do not fit; what comes after such a node has no shape. known: what ONNX's inference
    says, by tensor. constants: names of tensors that are no activations."""

    model: Model
    conflicts: tuple[ShapeConflict, ...]
    known: Mapping[str, ValueInfoProto] = field(repr=False)
    constants: frozenset[str] = field(repr=False)

    @cached_property
    def tensors(self) -> tuple[TensorShape, ...]:
        """Inputs first, then what the nodes make, in the graph's order; constants are left out."""
        names = {dim for spec in self.model.inputs for dim in spec.shape}
        found = [_tensor(spec.name, self.known, names) for spec in self.model.inputs]
        for node in self.model.nodes:
            made = (name for name in node.output if name and name not in self.constants)
            found += [_tensor(name, self.known, names, node) for name in made]
        return tuple(found)

    @cached_property
    def peak_bytes(self) -> int:
        """The most that is alive at once if every operator runs on its own; tensors of unknown size count nothing."""
        return peak_bytes(self.model, {item.name: item.bytes or 0 for item in self.tensors})

    @cached_property
    def by_name(self) -> dict[str, TensorShape]:
        return {item.name: item for item in self.tensors}

    @property
    def unknown(self) -> tuple[TensorShape, ...]:
        """Tensors whose size cannot be told without running the model on data."""
        return tuple(item for item in self.tensors if item.bytes is None)


class ShapeInference:
    """Studies one model at any number of sizes: `ShapeInference(model).at({"image": (1, 3, 224, 224)})`."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._skeleton = _skeleton(model)
        weights = self._skeleton.graph.initializer
        self._weights = {
            item.name: onnx.helper.make_tensor_value_info(item.name, item.data_type, item.dims) for item in weights
        }
        made = (name for node in model.nodes if node.op_type == "Constant" for name in node.output)
        self._constants = frozenset((*self._weights, *made))

    def at(self, shapes: Mapping[str, Shape]) -> TensorShapes:
        """Every tensor's shape when the inputs have these shapes."""
        proto = ModelProto()
        proto.CopyFrom(self._skeleton)
        del proto.graph.value_info[:]
        for output in proto.graph.output:
            output.type.tensor_type.ClearField("shape")
        for value in proto.graph.input:
            for item, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
                item.dim_value = size
            for output in proto.graph.output:
                if output.name == value.name:
                    output.CopyFrom(value)
        return self._infer(proto)

    def symbolic(self) -> TensorShapes:
        """Every tensor's shape by the names of open dimensions; None where a size is computed from them."""
        return self._infer(self._skeleton)

    def _infer(self, proto: ModelProto) -> TensorShapes:
        """The whole graph at once, as a rule; from the first node on that reads computed sizes, window by window."""
        known = dict(self._weights)
        told: dict[str, ShapeConflict] = {}
        count = len(proto.graph.node)
        start, end = 0, count
        while True:
            inferred, found = _infer_once(proto if start == 0 and end == count else _window(proto, known, start, end))
            values = (*inferred.graph.output, *inferred.graph.value_info, *inferred.graph.input)
            known.update(
                (value.name, value) for value in values if _sizes_told(value) >= _sizes_told(known.get(value.name))
            )
            told = {key: item for key, item in told.items() if int(key[1:]) < start}
            told |= {item.node: item for item in found}
            again = fold_shape_arithmetic(proto, known, start, end)
            if again is None and end == count:
                break
            start = end if again is None else again
            end = min(start + _WINDOW, count)
        told |= {item.node: item for item in _unnoticed(proto.graph.node, known)}
        conflicts = tuple(
            replace(told[key], node=node.name, reason=_with_shapes(told[key].reason, node, known))
            for index, node in enumerate(self.model.nodes)
            if (key := _key(index)) in told
        )
        return TensorShapes(self.model, conflicts, known, self._constants)


def _skeleton(model: Model) -> ModelProto:
    """The model without the content of large tensors; nodes have keys for names, as no name may garble a message."""
    skeleton = ModelProto()
    skeleton.CopyFrom(model.proto)
    for sparse in skeleton.graph.sparse_initializer:  # ONNX's inference knows dense ones only
        skeleton.graph.initializer.add(name=sparse.values.name, data_type=sparse.values.data_type, dims=sparse.dims)
    del skeleton.graph.sparse_initializer[:]
    for tensor in tensors(skeleton.graph):
        if math.prod(tensor.dims) > LARGE:
            for field in _CONTENT:
                tensor.ClearField(field)  # type: ignore[arg-type]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    for index, node in enumerate(skeleton.graph.node):
        node.name = _key(index)
    return skeleton


def _key(index: int) -> str:
    return f"#{index}"


def _sizes_told(value: ValueInfoProto | None) -> int:
    """How much is known of a shape: -1 for nothing, else its rank and its sizes; a window sees less than the whole."""
    if value is None or not value.type.tensor_type.HasField("shape"):
        return -1
    dims = value.type.tensor_type.shape.dim
    return len(dims) + sum(dim.HasField("dim_value") for dim in dims)


def _window(proto: ModelProto, known: Mapping[str, ValueInfoProto], start: int, end: int) -> ModelProto:
    """Some nodes as a graph of their own; what is known of the tensors that they read goes in."""
    window = ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    window.graph.name = "window"
    nodes = proto.graph.node[start:end]
    made = {name for node in nodes for name in node.output}
    bodies = [graph for node in nodes for inner in subgraphs(node) for graph in graphs(inner)]
    read = {name for node in (*nodes, *(node for graph in bodies for node in graph.node)) for name in node.input} - made
    window.graph.initializer.extend(item for item in proto.graph.initializer if item.name in read)
    earlier = (node for node in proto.graph.node[:start] if node.op_type == "Constant" and node.output[0] in read)
    constants = {node.output[0]: node for node in earlier}
    window.graph.node.extend((*constants.values(), *nodes))
    window.graph.input.extend(known[name] for name in sorted(read - constants.keys()) if name in known)
    window.graph.value_info.extend(item for item in proto.graph.value_info if item.name in made)
    window.graph.output.extend(item for item in proto.graph.output if item.name in made)
    return window


def _infer_once(proto: ModelProto) -> tuple[ModelProto, tuple[ShapeConflict, ...]]:
    try:
        return onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True), ()
    except onnx.shape_inference.InferenceError as error:
        conflicts = tuple(_conflicts(str(error)))
    return onnx.shape_inference.infer_shapes(proto, data_prop=True), conflicts


def _conflicts(text: str) -> Iterator[ShapeConflict]:
    """ONNX lists every node that fails and, after it, all those that miss its output."""
    for match in _ERROR.finditer(text):
        if _FOLLOWS not in match["reason"]:
            yield ShapeConflict(match["node"], match["op_type"], match["reason"].strip())


def _unnoticed(nodes: Iterable[NodeProto], known: Mapping[str, ValueInfoProto]) -> Iterator[ShapeConflict]:
    """ONNX's inference counts neither the elements of a Reshape nor, in older operator sets, a Conv's channels, and
    leaves out the sizes that a kernel does not fit into."""
    for node in nodes:
        if node.op_type == "Reshape":
            given, made = full_shape(known.get(node.input[0])), full_shape(known.get(node.output[0]))
            if given is not None and made is not None and math.prod(given) != math.prod(made):
                into = f"{math.prod(given):,} values cannot become {math.prod(made):,} of the shape {list(made)}"
                yield ShapeConflict(node.name, "Reshape", into)
        elif node.op_type == "Conv":
            given, kernel, made = (full_shape(known.get(name)) for name in (*node.input[:2], node.output[0]))
            groups = next((item.i for item in node.attribute if item.name == "group"), 1)
            if given and kernel and given[1] != kernel[1] * groups:
                yield ShapeConflict(
                    node.name,
                    "Conv",
                    f"it takes {kernel[1] * groups} channel{'s' * (kernel[1] * groups > 1)}, not {given[1]}",
                )
            elif (
                given and kernel and len(given) == len(kernel) and 0 in (full_shape(known.get(node.output[0])) or (0,))
            ):
                yield ShapeConflict(node.name, "Conv", f"its kernel {list(kernel[2:])} does not fit into {list(given)}")
        elif node.op_type in ("MaxPool", "AveragePool"):
            given, made = full_shape(known.get(node.input[0])), full_shape(known.get(node.output[0]))
            if given and made is None:
                yield ShapeConflict(node.name, node.op_type, f"its kernel does not fit into {list(given)}")


def _with_shapes(reason: str, node: NodeProto, known: Mapping[str, ValueInfoProto]) -> str:
    """The sentence with the shapes that come in, as ONNX leaves them out."""
    if node.op_type in ("Conv", "MaxPool", "AveragePool"):
        return reason  # it tells its sizes itself
    data = node.input[:1] if node.op_type == "Reshape" else node.input
    shapes = [full_shape(known.get(name)) for name in data]
    said = " and ".join(str(list(shape)) for shape in shapes if shape)
    return f"{reason.rstrip('.')} (it gets {said})" if said else reason


def _tensor(
    name: str, known: Mapping[str, ValueInfoProto], names: Collection[Dim], node: NodeProto | None = None
) -> TensorShape:
    """names: of the inputs' dimensions; ONNX makes up others, which say nothing."""
    made_by = (node.name, operator(node)) if node is not None else ("", "")
    value = known.get(name)
    if value is None or value.type.WhichOneof("value") != "tensor_type":
        return TensorShape(name, "", None, *made_by)
    tensor = value.type.tensor_type
    dtype = _dtype_name(tensor.elem_type)
    if not tensor.HasField("shape"):
        return TensorShape(name, dtype, None, *made_by)
    dims: list[Dim] = []
    for dim in tensor.shape.dim:
        named = dim.dim_param if dim.dim_param in names or not dim.dim_param.startswith("unk__") else ""
        dims.append(dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else named or None)
    return TensorShape(name, dtype, tuple(dims), *made_by)


@cache
def _dtype_name(elem_type: int) -> str:
    return onnx.helper.tensor_dtype_to_np_dtype(elem_type).name if elem_type else ""
