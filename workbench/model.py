"""An ONNX file as a Model: checked, every node uniquely named, dimensions and contents known."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from workbench.errors import ModelError
from workbench.types import Dim, TensorSpec

LARGE_BYTES = 1 << 30
"""From this size on tensors are written to a file of their own; one protobuf holds 2 GB at most."""
_CHUNK = 1 << 22


@dataclass(frozen=True, eq=False)
class Model:
    """A checked ONNX model.

    proto: every node has a unique name; tensors in external files are not loaded, so models of any size fit.
    Treat it as read-only. path: the file it was read from; external data lies in the same folder.
    edits: what `edit` did to it since, such as 'batch=4'.
    """

    proto: ModelProto
    path: Path
    edits: tuple[str, ...] = ()
    _hashes: dict[tuple[tuple[int, int], ...], str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        return self.path.stem

    @cached_property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the user feeds: graph inputs without those that an initializer already fills."""
        weights = {tensor.name for tensor in self.proto.graph.initializer}
        return tuple(_spec(value) for value in self.proto.graph.input if value.name not in weights)

    @cached_property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return tuple(_spec(value) for value in self.proto.graph.output)

    @cached_property
    def nodes(self) -> tuple[NodeProto, ...]:
        """The nodes of the main graph in their order; those inside If, Loop and Scan bodies belong to their node."""
        return tuple(self.proto.graph.node)

    @cached_property
    def operators(self) -> dict[str, int]:
        """Operator -> count, most frequent first; operators of other domains as 'domain.Operator'."""
        return dict(Counter(operator(node) for node in self.nodes).most_common())

    @property
    def opset(self) -> int:
        """The version of the standard operator set, 0 when the model uses none of its operators."""
        return next((item.version for item in self.proto.opset_import if item.domain in ("", "ai.onnx")), 0)

    @property
    def producer(self) -> str:
        return f"{self.proto.producer_name} {self.proto.producer_version}".strip()

    @cached_property
    def parameters(self) -> int:
        """The number of weights: elements of all floating-point and quantized initializers and constants."""
        return sum(_elements(tensor) for tensor in tensors(self.proto.graph) if tensor.data_type in _WEIGHT_TYPES)

    @cached_property
    def external_files(self) -> tuple[Path, ...]:
        """The files that hold tensors outside the ONNX file."""
        names = {_external(tensor)["location"] for tensor in tensors(self.proto.graph) if _external(tensor)}
        return tuple(self.path.parent / name for name in sorted(names))

    @property
    def stamps(self) -> tuple[tuple[int, int], ...]:
        """Size and time of change of the external files: the same as before means that their content is, too."""
        try:
            return tuple((stat.st_size, stat.st_mtime_ns) for stat in (path.stat() for path in self.external_files))
        except OSError as error:
            raise ModelError(f"{error.filename}: weights of {self.name} are gone; put the file back.") from error

    @property
    def sha256(self) -> str:
        """Hexadecimal hash of the whole content, external files included; the file's name plays no part."""
        return self.hash_content(lambda: None)

    def hash_content(self, check: Callable[[], None]) -> str:
        """As `sha256`; calls `check` every few megabytes, which may raise to stop."""
        stamps = self.stamps
        if stamps not in self._hashes:
            digest = hashlib.sha256(self.to_bytes())
            for path in self.external_files:
                digest.update(b"\0" + path.name.encode() + b"\0")
                with path.open("rb") as file:
                    while chunk := file.read(_CHUNK):
                        check()
                        digest.update(chunk)
            self._hashes[stamps] = digest.hexdigest()
        return self._hashes[stamps]

    @cached_property
    def holds_half_precision(self) -> bool:
        """Whether some of its tensors are float16 or bfloat16 already."""
        half = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
        return any(tensor.data_type in half for tensor in tensors(self.proto.graph))

    @property
    def is_quantized(self) -> bool:
        """Whether the model brings its own scales: QuantizeLinear / DequantizeLinear nodes."""
        return "DequantizeLinear" in self.operators

    def to_bytes(self) -> bytes:
        """The serialized model without its external data, the same bytes for the same content."""
        try:
            return self.proto.SerializeToString(deterministic=True)
        except (EncodeError, ValueError) as error:
            raise ModelError(f"{self.path}: over 2 GB in one protobuf; keep the weights in external data.") from error


def load_model(path: str | Path) -> Model:
    """Read and check an ONNX file.

    Raises ModelError: no such file, not ONNX, refused by the ONNX checker, or external data that is missing, too
    short, or outside the model's folder.
    """
    path = Path(os.path.abspath(Path(path).expanduser()))  # not resolved: external data lies beside a link
    try:
        if path.is_dir():
            raise ModelError(f"{path}: a folder; name the .onnx file in it.")
        if not path.is_file():
            raise ModelError(f"{path}: there is no such file.")
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(path)[:200]}: not a path ({error}).") from error
    try:
        proto = onnx.load(str(path), format="protobuf", load_external_data=False)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).") from error
    except (DecodeError, ValueError) as error:
        size = path.stat().st_size
        advice = "export it with its weights as external data" if size >= 2**31 else "export or copy it again"
        raise ModelError(f"{path}: not an ONNX file, or cut off ({size:,} bytes); {advice}.") from error
    if not proto.graph.node and not proto.graph.output:
        raise ModelError(f"{path}: not an ONNX model: it holds no graph.")
    _check_external_data(proto, path)
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, RuntimeError) as error:
        reason = str(error).split("\n\n==>")[0].strip()
        raise ModelError(f"{path}: the ONNX checker refuses it: {reason}") from error
    _name_nodes(proto)
    model = Model(proto, path)
    _ = model.inputs, model.outputs  # refuses inputs that are not tensors now rather than later
    return model


def operator(node: NodeProto) -> str:
    """'Conv' for a standard operator, 'com.microsoft.Gelu' for one of another domain."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _spec(value: ValueInfoProto) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise ModelError(f"{value.name}: a {str(kind).replace('_type', '')}; engines take and give tensors only.")
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    dims: list[Dim] = []
    for item in tensor.shape.dim:
        if item.HasField("dim_value") and item.dim_value > 0:
            dims.append(item.dim_value)
        else:
            dims.append(item.dim_param or None)
    return TensorSpec(value.name, dtype, tuple(dims))


_WEIGHT_TYPES = frozenset((
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.INT8,
    TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1,
))  # fmt: skip
_PACKED_BITS = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "float4_e2m1fn": 4}


def _elements(tensor: TensorProto) -> int:
    return math.prod(tensor.dims)


def constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Initializers and the tensors of Constant nodes, by the name of the value."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found.update((node.output[0], item.t) for item in node.attribute if item.name == "value")
    return found


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """The value of an attribute, or the default where the node does not state it."""
    return next((onnx.helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The bodies of an If, Loop or Scan node."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and all subgraphs, through all levels."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from graphs(inner)


def reads(node: NodeProto) -> Iterator[str]:
    """The tensors that a node reads, with those that its bodies (of If, Loop and Scan) take from around them."""
    yield from filter(None, node.input)
    for body in subgraphs(node):
        inner = tuple(graphs(body))
        made = {value.name for graph in inner for value in (*graph.input, *graph.initializer)}
        made |= {tensor.values.name for graph in inner for tensor in graph.sparse_initializer}
        made |= {name for graph in inner for item in graph.node for name in item.output}
        named = (name for graph in inner for item in graph.node for name in item.input)
        shown = (value.name for graph in inner for value in graph.output)
        yield from (name for name in (*named, *shown) if name and name not in made)


def tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Initializers and the tensors in attributes, through all subgraphs."""
    for item in graphs(graph):
        yield from item.initializer
        for attribute in (attribute for node in item.node for attribute in node.attribute):
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == AttributeProto.TENSORS:
                yield from attribute.tensors


def _external(tensor: TensorProto) -> dict[str, str]:
    if tensor.data_location != TensorProto.EXTERNAL:
        return {}
    return {entry.key: entry.value for entry in tensor.external_data}


def _check_external_data(proto: ModelProto, path: Path) -> None:
    folder = path.parent.resolve()
    sizes: dict[str, int] = {}
    for tensor in tensors(proto.graph):
        entry = _external(tensor)
        if not entry:
            continue
        location = entry.get("location", "")
        if location not in sizes:
            sizes[location] = _external_size(folder, location, tensor, path)
        try:
            needed = _tensor_bytes(tensor)
            offset, length = int(entry.get("offset", 0)), int(entry.get("length", needed))
        except ValueError as error:
            raise ModelError(f"{path}: tensor {tensor.name} has an unreadable place in {location}: {error}.") from error
        if offset < 0 or length != needed:
            wrong = f"{length} bytes at {offset} for the {needed} it needs"
            raise ModelError(f"{path}: tensor {tensor.name} has a wrong place in {location}: {wrong}; export it again.")
        if offset + needed > sizes[location]:
            have = f"{sizes[location]:,} bytes, {offset + needed:,} needed"
            raise ModelError(f"{path}: {location} is cut off: {have}; copy it again.")


def _external_size(folder: Path, location: str, tensor: TensorProto, path: Path) -> int:
    try:
        file = (folder / location).resolve()
        if not location or not file.is_relative_to(folder):
            raise ModelError(f"{path}: tensor {tensor.name} reads {location!r}, outside the model's folder; refused.")
        if not file.is_file():
            raise ModelError(f"{path}: its weights are missing: put {location} beside it.")
        return file.stat().st_size
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: tensor {tensor.name} reads {location[:80]!r}, which is no file name.") from error


def _tensor_bytes(tensor: TensorProto) -> int:
    """What the tensor takes in a file; several values of the smallest types share a byte."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    bits = _PACKED_BITS.get(dtype.name, 8 * dtype.itemsize)
    return math.ceil(_elements(tensor) * bits / 8)


def _name_nodes(proto: ModelProto) -> None:
    """Give every node a name of its own, subgraphs included: TensorRT reports layers by node name.

    A nameless node becomes 'node_of_<first output>', as TensorRT itself would call it.
    """
    nodes = [node for graph in graphs(proto.graph) for node in graph.node]
    taken = {node.name for node in nodes}
    seen: set[str] = set()
    for node in nodes:
        wanted = node.name or f"node_of_{next((name for name in node.output if name), node.op_type)}"
        name, number = wanted, 2
        while name in seen or (name in taken and name != node.name):
            name, number = f"{wanted}_{number}", number + 1
        node.name = name
        seen.add(name)
