"""A small text encoder as ONNX, with generated weights: what attention looks like before and after TensorRT."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from workbench.model import Model, load_model


def text_encoder(path: str | Path, *, blocks: int = 2, width: int = 64, vocabulary: int = 0, seed: int = 0) -> Model:
    """Write an encoder of one attention head a block to `path`, opset 17, and load it.

    Token embeddings float32[batch, tokens, width] -> float32[batch, tokens, width]; with a vocabulary, tokens
    int64[batch, tokens] below it, each distinct one being embedded once. The same for the same seed.
    """
    writer = _Writer(np.random.default_rng(seed))
    value = helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", "tokens", width])
    if vocabulary:
        value = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "tokens"])
        _embed(writer, vocabulary, width)
    tensor = "embeddings"
    for index in range(blocks):
        tensor = _block(writer, f"/blocks/blocks.{index}", tensor, width)
    writer.node("/final_norm", "LayerNormalization", [tensor, *writer.norm("final_norm", width)], "encoded", axis=-1)
    output = helper.make_tensor_value_info("encoded", TensorProto.FLOAT, ["batch", "tokens", width])
    graph = helper.make_graph(writer.nodes, "text_encoder", [value], [output], writer.weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8, producer_name="workbench"), str(path))
    return load_model(path)


def _embed(writer: _Writer, vocabulary: int, width: int) -> None:
    """How many distinct tokens there are only the data tell: a size that no profile of the inputs can give."""
    distinct, place = "/embed/distinct_output", "/embed/distinct_place"
    names = [distinct, "/embed/distinct_first", place, "/embed/distinct_counts"]
    writer.nodes.append(helper.make_node("Unique", ["tokens"], names, name="/embed/distinct", sorted=1))
    rows = writer.node("/embed/table", "Gather", [writer.matrix("embed.table", vocabulary, width), distinct], axis=0)
    normed = writer.node("/embed/norm", "LayerNormalization", [rows, *writer.norm("embed.norm", width)], axis=-1)
    mixed = writer.node("/embed/mix", "MatMul", [normed, writer.matrix("embed.mix", width, width)])
    active = writer.node("/embed/tanh", "Tanh", [mixed])
    spread = writer.node("/embed/spread", "Gather", [active, place], axis=0)
    size = writer.node("/embed/size", "Shape", ["tokens"])
    sizes = [size, writer.weight("embed.width", np.array([width], np.int64))]
    shape = writer.node("/embed/shape", "Concat", sizes, axis=0)
    writer.node("/embed/reshape", "Reshape", [spread, shape], "embeddings")


def _block(writer: _Writer, name: str, tensor: str, width: int) -> str:
    """Attention and a feed-forward network, each with its norm before and its sum after."""
    normed = writer.node(f"{name}/norm1", "LayerNormalization", [tensor, *writer.norm(f"{name}.norm1", width)], axis=-1)
    q, k, v = (
        writer.node(f"{name}/attention/{part}", "MatMul", [normed, writer.matrix(f"{name}.{part}", width, width)])
        for part in "qkv"
    )
    turned = writer.node(f"{name}/attention/transpose", "Transpose", [k], perm=[0, 2, 1])
    scores = writer.node(f"{name}/attention/scores", "MatMul", [q, turned])
    scale = writer.weight(f"{name}.scale", np.array(1 / math.sqrt(width), np.float32))
    scaled = writer.node(f"{name}/attention/scale", "Mul", [scores, scale])
    shares = writer.node(f"{name}/attention/softmax", "Softmax", [scaled], axis=-1)
    mixed = writer.node(f"{name}/attention/mix", "MatMul", [shares, v])
    out = writer.node(f"{name}/attention/out", "MatMul", [mixed, writer.matrix(f"{name}.out", width, width)])
    added = writer.node(f"{name}/attention/add", "Add", [tensor, out])
    normed = writer.node(f"{name}/norm2", "LayerNormalization", [added, *writer.norm(f"{name}.norm2", width)], axis=-1)
    up = writer.node(f"{name}/feed_forward/up", "MatMul", [normed, writer.matrix(f"{name}.up", width, 4 * width)])
    bias = writer.weight(f"{name}.up_bias", np.zeros(4 * width, np.float32))
    biased = writer.node(f"{name}/feed_forward/bias", "Add", [up, bias])
    active = _gelu(writer, f"{name}/feed_forward/gelu", biased)
    down = writer.node(f"{name}/feed_forward/down", "MatMul", [active, writer.matrix(f"{name}.down", 4 * width, width)])
    return writer.node(f"{name}/feed_forward/add", "Add", [added, down])


def _gelu(writer: _Writer, name: str, tensor: str) -> str:
    """x * (1 + erf(x / sqrt 2)) / 2, in the operators that PyTorch exports."""
    root, one, half = (
        writer.weight(f"{name}.{word}", np.array(value, np.float32))
        for word, value in (("root", math.sqrt(2)), ("one", 1), ("half", 0.5))
    )
    divided = writer.node(f"{name}/div", "Div", [tensor, root])
    erf = writer.node(f"{name}/erf", "Erf", [divided])
    raised = writer.node(f"{name}/add", "Add", [erf, one])
    product = writer.node(f"{name}/mul", "Mul", [tensor, raised])
    return writer.node(f"{name}/half", "Mul", [product, half])


class _Writer:
    """Nodes and weights as they are added; each returns the name of its tensor."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self._generator = generator

    def node(self, name: str, op_type: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{name}_output"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=name, **attributes))
        return output

    def weight(self, name: str, value: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def matrix(self, name: str, rows: int, columns: int) -> str:
        value = self._generator.standard_normal((rows, columns), dtype=np.float32) / np.float32(math.sqrt(rows))
        return self.weight(name, value)

    def norm(self, name: str, width: int) -> list[str]:
        ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
        return [self.weight(f"{name}.weight", ones), self.weight(f"{name}.bias", zeros)]
