"""The shape of every tensor in a model, for given input sizes or by the names of open dimensions, and the memory that
activations take. Nothing is run but the arithmetic on shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from workbench.model import Model, operator, subgraphs, tensors
from workbench.types import Dim, Shape

_LARGE = 1024
"""Tensors of more elements hold no shapes: their content is left out, which makes a large model quick to study."""
_VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"}
_SIZES_FIRST = {"ConstantOfShape", "Range"}
"""Other operators take data first, then sizes."""
_ROUNDS = 500
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
    def bytes(self) -> int | None:
        """None while a dimension is open."""
        if self.shape is None or not all(isinstance(dim, int) for dim in self.shape):
            return None
        return math.prod(dim for dim in self.shape if isinstance(dim, int)) * _ITEM_BYTES.get(self.dtype, 0)


_ITEM_BYTES = {
    **dict.fromkeys(("bool", "int8", "uint8", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"), 1),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 2),
    **dict.fromkeys(("int32", "uint32", "float32"), 4),
    **dict.fromkeys(("int64", "uint64", "float64"), 8),
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
    """tensors: inputs first, then what the nodes make, in the graph's order; constants are left out.

    conflicts: where the sizes do not fit; what comes after such a node has no shape.
    """

    tensors: tuple[TensorShape, ...]
    conflicts: tuple[ShapeConflict, ...]
    peak_bytes: int
    """The most that is alive at once if every operator runs on its own; tensors of unknown size count nothing."""

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
        self._constants = {item.name for item in weights}
        self._weights = {
            item.name: onnx.helper.make_tensor_value_info(item.name, item.data_type, item.dims) for item in weights
        }
        self._constants |= {name for node in model.nodes if node.op_type == "Constant" for name in node.output}

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
        known: dict[str, ValueInfoProto] = {}
        conflicts: tuple[ShapeConflict, ...] = ()
        for _ in range(_ROUNDS):
            inferred, conflicts = _infer_once(proto)
            values = (*inferred.graph.output, *inferred.graph.value_info, *inferred.graph.input)
            known = {**self._weights, **{value.name: value for value in values}}
            if not _fold_shape_arithmetic(proto, known):
                break
        told = {item.node: item for item in (*conflicts, *_unnoticed(proto.graph.node, known))}
        conflicts = tuple(
            replace(told[key], node=node.name, reason=_with_shapes(told[key].reason, node, known))
            for index, node in enumerate(self.model.nodes)
            if (key := _key(index)) in told
        )
        names = {dim for spec in self.model.inputs for dim in spec.shape}
        found = tuple(_tensor(spec.name, known, names) for spec in self.model.inputs)
        found += tuple(
            _tensor(name, known, names, node)
            for node in self.model.nodes
            for name in node.output
            if name and name not in self._constants
        )
        return TensorShapes(found, conflicts, _peak_bytes(self.model, found))


def _skeleton(model: Model) -> ModelProto:
    """The model without the content of large tensors; nodes have keys for names, as no name may garble a message."""
    skeleton = ModelProto()
    skeleton.CopyFrom(model.proto)
    for sparse in skeleton.graph.sparse_initializer:  # ONNX's inference knows dense ones only
        skeleton.graph.initializer.add(name=sparse.values.name, data_type=sparse.values.data_type, dims=sparse.dims)
    del skeleton.graph.sparse_initializer[:]
    for tensor in tensors(skeleton.graph):
        if math.prod(tensor.dims) > _LARGE:
            for field in _CONTENT:
                tensor.ClearField(field)  # type: ignore[arg-type]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    for index, node in enumerate(skeleton.graph.node):
        node.name = _key(index)
    return skeleton


def _key(index: int) -> str:
    return f"#{index}"


def _bodies(graph: GraphProto) -> Iterator[GraphProto]:
    """All subgraphs, through all levels."""
    for node in graph.node:
        for inner in subgraphs(node):
            yield inner
            yield from _bodies(inner)


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


def _fold_shape_arithmetic(proto: ModelProto, known: Mapping[str, ValueInfoProto]) -> bool:
    """Compute integer tensors that ONNX's own inference gave up on and that follow from shapes alone; put them into the
    graph as constants. Returns whether there was one, and so whether inferring again may tell more."""
    producers = {name: node for node in proto.graph.node for name in node.output if name}
    constants = {item.name: item for item in proto.graph.initializer if math.prod(item.dims) <= _LARGE}
    wanted: dict[str, set[str]] = {}
    for node in proto.graph.node:
        if _sizes(known.get(node.output[0])) is None:
            for name in node.input if node.op_type in _SIZES_FIRST else node.input[1:]:
                if name in producers and producers[name].op_type != "Constant" and _is_integer(known.get(name)):
                    needed = _needed(name, producers, constants, known)
                    if needed is not None:
                        wanted[name] = needed
    if not wanted:
        return False
    values = _compute(proto, wanted, constants, known)
    for name, value in values.items():
        node = producers[name]
        node.CopyFrom(onnx.helper.make_node("Constant", [], [name], name=node.name, value=value))
    return bool(values)


def _needed(
    name: str,
    producers: Mapping[str, NodeProto],
    constants: Mapping[str, TensorProto],
    known: Mapping[str, ValueInfoProto],
) -> set[str] | None:
    """The keys of the nodes that compute a tensor from constants and known shapes; None if it depends on anything
    else."""
    found: dict[str, str] = {}
    waiting = [name]
    while waiting:
        item = waiting.pop()
        node = producers.get(item)
        if item in found or item in constants or not item:
            continue
        if node is None or (item == name and len(node.output) != 1) or len(found) > _LARGE:
            return None
        found[item] = node.name
        if node.op_type in ("Shape", "Size"):
            if _sizes(known.get(node.input[0])) is None:
                return None
        elif any(item.HasField("g") or math.prod(item.t.dims) > _LARGE for item in node.attribute):
            return None
        elif node.op_type != "Constant":
            waiting += node.input
    return set(found.values())


def _compute(
    proto: ModelProto,
    wanted: Mapping[str, set[str]],
    constants: Mapping[str, TensorProto],
    known: Mapping[str, ValueInfoProto],
) -> dict[str, TensorProto]:
    import onnxruntime

    needed = set().union(*wanted.values())
    order = [node for node in proto.graph.node if node.name in needed]
    sources = {name: known[name] for node in order if node.op_type in ("Shape", "Size") for name in node.input[:1]}
    fixed = [
        onnx.helper.make_node("ConstantOfShape", [f"{name}::shape"], [name], name=f"{name}::source") for name in sources
    ]
    shapes = [
        onnx.numpy_helper.from_array(np.array(_sizes(value), np.int64), f"{name}::shape")
        for name, value in sources.items()
    ]
    used = {name for node in order for name in node.input}
    graph = onnx.helper.make_graph(
        [*fixed, *order], "shapes", [], [ValueInfoProto(name=name) for name in wanted],
        [*shapes, *(item for name, item in constants.items() if name in used and name not in sources)],
    )  # fmt: skip
    small = onnx.helper.make_model(graph, opset_imports=proto.opset_import, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(small.SerializeToString(), options, providers=["CPUExecutionProvider"])
        values: list[Any] = session.run(list(wanted), {})
    except Exception:  # its exceptions have no common base but Exception; the tensor stays unknown, and is shown so
        alone = [{name: keys} for name, keys in wanted.items()] if len(wanted) > 1 else []
        return {name: value for one in alone for name, value in _compute(proto, one, constants, known).items()}
    return {name: onnx.numpy_helper.from_array(value, name) for name, value in zip(wanted, values, strict=True)}


def _unnoticed(nodes: Iterable[NodeProto], known: Mapping[str, ValueInfoProto]) -> Iterator[ShapeConflict]:
    """ONNX's inference counts neither the elements of a Reshape nor, in older operator sets, a Conv's channels, and
    leaves out the sizes that a kernel does not fit into."""
    for node in nodes:
        if node.op_type == "Reshape":
            given, made = _sizes(known.get(node.input[0])), _sizes(known.get(node.output[0]))
            if given is not None and made is not None and math.prod(given) != math.prod(made):
                into = f"{math.prod(given):,} values cannot become {math.prod(made):,} of the shape {list(made)}"
                yield ShapeConflict(node.name, "Reshape", into)
        elif node.op_type == "Conv":
            given, kernel = _sizes(known.get(node.input[0])), _sizes(known.get(node.input[1]))
            groups = next((item.i for item in node.attribute if item.name == "group"), 1)
            if given and kernel and given[1] != kernel[1] * groups:
                yield ShapeConflict(node.name, "Conv", f"it takes {kernel[1] * groups} channels, not {given[1]}")
            elif given and kernel and len(given) == len(kernel) and 0 in (_sizes(known.get(node.output[0])) or (0,)):
                yield ShapeConflict(node.name, "Conv", f"its kernel {list(kernel[2:])} does not fit into {list(given)}")
        elif node.op_type in ("MaxPool", "AveragePool"):
            given, made = _sizes(known.get(node.input[0])), _sizes(known.get(node.output[0]))
            if given and made is None:
                yield ShapeConflict(node.name, node.op_type, f"its kernel does not fit into {list(given)}")


def _with_shapes(reason: str, node: NodeProto, known: Mapping[str, ValueInfoProto]) -> str:
    """The sentence with the shapes that come in, as ONNX leaves them out."""
    if node.op_type in ("Conv", "MaxPool", "AveragePool"):
        return reason  # it tells its sizes itself
    data = node.input[:1] if node.op_type == "Reshape" else node.input
    shapes = [_sizes(known.get(name)) for name in data]
    said = " and ".join(str(list(shape)) for shape in shapes if shape)
    return f"{reason.rstrip('.')} (it gets {said})" if said else reason


def _sizes(value: ValueInfoProto | None) -> Shape | None:
    """A shape that is known in full, else None."""
    if value is None or not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    known = all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims)  # ONNX infers negative ones, too
    return tuple(dim.dim_value for dim in dims) if known else None


def _is_integer(value: ValueInfoProto | None) -> bool:
    return value is not None and value.type.tensor_type.elem_type in (TensorProto.INT64, TensorProto.INT32)


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


def _peak_bytes(model: Model, found: tuple[TensorShape, ...]) -> int:
    """Walk through the nodes in order; a tensor lives from its node to its last reader, a view in what it looks at."""
    sizes = {item.name: item.bytes or 0 for item in found}
    storage = {item.name: item.name for item in found}
    for node in model.nodes:
        if node.op_type in _VIEWS and node.input[0] in storage:
            storage[node.output[0]] = storage[node.input[0]]
            sizes[node.output[0]] = 0
    last: dict[str, int] = {}
    for index, node in enumerate(model.nodes):
        bodies = [graph for inner in subgraphs(node) for graph in (inner, *_bodies(inner))]
        captured = [name for graph in bodies for inner in graph.node for name in inner.input]
        captured += [output.name for graph in bodies for output in graph.output]
        for name in (*node.input, *captured, *node.output):
            if name in storage:
                last[storage[name]] = index
    for spec in model.outputs:
        if spec.name in storage:
            last[storage[spec.name]] = len(model.nodes)
    ending: dict[int, list[str]] = {}
    for name, index in last.items():
        ending.setdefault(index, []).append(name)
    alive = peak = sum(sizes[spec.name] for spec in model.inputs)
    for index, node in enumerate(model.nodes):
        alive += sum(sizes.get(name, 0) for name in node.output)
        peak = max(peak, alive)
        alive -= sum(sizes[name] for name in ending.get(index, ()))
    return peak
