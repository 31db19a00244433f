"""The ranges that an ONNX model carries in its QuantizeLinear nodes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper
from onnx.helper import tensor_dtype_to_np_dtype

from workbench.calibration.text_tables import Ranges
from workbench.errors import ConfigError
from workbench.model import Model, constants

_SYMMETRIC = {"int8": 0, "uint8": 128, "int16": 0, "uint16": 32768}
"""The zero point with which as many steps are used below zero as above."""


def read_qdq(model: Model) -> Ranges:
    """By the float tensor that each QuantizeLinear reads, in the graph's order; weights are left out.

    The range is scale * 127 with a zero point in the middle. Without one there, and where a tensor is quantized in
    several ways or per channel, it is the largest magnitude that is kept, and a note says so. Where the pair ends in an
    output of the model, the range bears that output's name. Raises ConfigError for a model without such nodes.
    """
    stored = constants(model.proto.graph)
    names = _names(model)
    amax: dict[str, float] = {}
    notes: list[str] = []
    for node in model.nodes:
        if node.op_type != "QuantizeLinear" or node.input[0] in stored:
            continue
        name = names.get(node.output[0], node.input[0])
        found, why = _range(model, node, stored)
        if name in amax and amax[name] != found:
            why = "it is quantized in several ways"
            found = max(found, amax[name])
        if why:
            notes.append(f"{name}: {why}; its range is the largest magnitude kept.")
        amax[name] = found
    if not amax:
        raise ConfigError(
            f"{model.path}: no tensor of it is quantized (QuantizeLinear), so it holds no ranges; give a model with "
            "Q/DQ nodes, or a calibration table."
        )
    return Ranges(amax, tuple(dict.fromkeys(notes)))


def _names(model: Model) -> dict[str, str]:
    """Quantized tensor -> the output of the model that it is turned back into."""
    outputs = {spec.name for spec in model.outputs}
    pairs = ((node.input[0], node.output[0]) for node in model.nodes if node.op_type == "DequantizeLinear")
    return {quantized: name for quantized, name in pairs if name in outputs}


def _range(model: Model, node: NodeProto, stored: dict[str, TensorProto]) -> tuple[float, str]:
    """The largest magnitude kept, and why it is not that of every value, or ''. Raises ConfigError."""
    values = list(_parameters(model, node, stored))
    scale = np.abs(values[0].astype(np.float64).ravel())
    zero = values[1].ravel() if len(values) > 1 else np.zeros(1, _dtype(node))
    if zero.dtype.name not in _SYMMETRIC:
        raise ConfigError(f"{model.path}: {node.name} quantizes to {zero.dtype.name}; only int8 and int16 have ranges.")
    limits = np.iinfo(zero.dtype)
    point = zero.astype(np.int64)
    symmetric = bool((point == _SYMMETRIC[zero.dtype.name]).all())
    steps = np.full_like(point, limits.max // 2 if limits.min == 0 else limits.max)
    if not symmetric:
        steps = np.maximum(limits.max - point, point - limits.min)
    why = "" if symmetric else "its zero point is not in the middle"
    return float((scale * steps).max()), why if len(scale) == 1 else "it is quantized per channel"


def _dtype(node: NodeProto) -> np.dtype:
    """What a node without a zero point quantizes to."""
    told = next((item.i for item in node.attribute if item.name == "output_dtype"), 0)
    return tensor_dtype_to_np_dtype(told or TensorProto.UINT8)


def _parameters(model: Model, node: NodeProto, stored: dict[str, TensorProto]) -> Iterator[np.ndarray]:
    """Scale and, where it has one, zero point."""
    for name in node.input[1:]:
        if name not in stored:
            raise ConfigError(f"{model.path}: {node.name} computes its scale as it runs; only stored ones can be read.")
        yield numpy_helper.to_array(stored[name], str(model.path.parent))
