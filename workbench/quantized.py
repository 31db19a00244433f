"""What NVIDIA's parser does not take of quantized models, made so that it does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from workbench.model import attribute, constants, graphs, reads


def fold_int32_biases(proto: ModelProto, folder: Path | None = None) -> ModelProto:
    """A copy in which every DequantizeLinear of a constant INT32 tensor has become the constant it computes.

    Converters quantize biases to INT32 (Paddle's QAT, ONNX Runtime's `quantize_static` with QuantizeBias), and NVIDIA's
    parser rejects a DequantizeLinear of that type. The value is (q - zero point) * scale in float32, per tensor or per
    channel, as ONNX Runtime computes it. folder: where external data lies. Left alone: values, scales or zero points
    that are not constant or scaled in blocks, those in external files without a folder, and graph outputs. The same
    object is returned where nothing is to be done.
    """
    if not any(_folded(graph, folder) for graph in graphs(proto.graph)):
        return proto
    copy = ModelProto()
    copy.CopyFrom(proto)
    for graph in graphs(copy.graph):
        _fold(graph, folder)
    return copy


def _fold(graph: GraphProto, folder: Path | None) -> None:
    folded = _folded(graph, folder)
    kept: list[NodeProto] = []
    gone: list[NodeProto] = []
    for node in graph.node:
        (gone if node.output[0] in folded else kept).append(node)
    scales = {name for node in gone for name in node.input}
    read = {value.name for value in graph.output} | {name for node in kept for name in reads(node)}
    unread = scales - read
    kept = [node for node in kept if not (node.op_type == "Constant" and node.output[0] in unread)]
    weights = [tensor for tensor in graph.initializer if tensor.name not in unread]
    weights += [numpy_helper.from_array(value, name) for name, value in folded.items()]
    inputs = [value for value in graph.input if value.name not in unread]  # IR version 3 lists initializers there
    del graph.node[:], graph.initializer[:], graph.input[:]
    graph.node.extend(kept)
    graph.initializer.extend(weights)
    graph.input.extend(inputs)


def _folded(graph: GraphProto, folder: Path | None) -> dict[str, np.ndarray]:
    """What the foldable nodes of a graph compute, by the name of their output."""
    stored = _constants(graph, folder)
    outputs = {value.name for value in graph.output}
    return {
        node.output[0]: _dequantized(node, stored, folder)
        for node in graph.node
        if node.op_type == "DequantizeLinear"
        and node.domain in ("", "ai.onnx")
        and node.output[0] not in outputs
        and not attribute(node, "block_size", 0)
        and all(name in stored for name in node.input if name)
        and stored[node.input[0]].data_type == TensorProto.INT32
    }


def _dequantized(node: NodeProto, stored: dict[str, TensorProto], folder: Path | None) -> np.ndarray:
    arrays = [numpy_helper.to_array(stored[name], str(folder or "")) for name in node.input if name]
    values, scale = arrays[:2]
    zero = arrays[2] if len(arrays) > 2 else np.zeros_like(scale, dtype=np.int32)
    if scale.size > 1 or (scale.ndim and values.ndim > 1):
        shape = [1] * values.ndim
        shape[attribute(node, "axis", 1) % values.ndim] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    else:
        scale, zero = scale.reshape(()), zero.reshape(())
    result = (values - zero).astype(np.float32) * scale.astype(np.float32)
    return np.asarray(result).astype(scale.dtype)


def _constants(graph: GraphProto, folder: Path | None) -> dict[str, TensorProto]:
    """Initializers and Constant nodes of a graph; those in external files only with their folder."""
    tensors = constants(graph).items()
    return {name: tensor for name, tensor in tensors if folder or tensor.data_location != TensorProto.EXTERNAL}
