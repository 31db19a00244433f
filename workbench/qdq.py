"""Model -> Model in int8: with QuantizeLinear and DequantizeLinear where NVIDIA's builder and ONNX Runtime use them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path

import onnx

from workbench.errors import ConfigError, ModelError
from workbench.model import LARGE_BYTES, Model, load_model
from workbench.precision import check_names, with_weights
from workbench.qdq_nodes import fold_batch_normalizations, insert
from workbench.qdq_plan import Graph, plan
from workbench.types import Listener, LogLine, Progress, count_of, ignore

RELEASE = "1"
"""Belongs to what an engine was made from: raised when the same model and ranges give other nodes."""
_OPSET = 13
"""The first in which QuantizeLinear takes one scale per channel."""
_NAMED = 5


def quantizable(model: Model) -> tuple[str, ...]:
    """The names of the nodes that compute in int8 when all ranges are known; in the model's order."""
    return tuple(plan(model.proto.graph, None))


def quantize(
    model: Model,
    amax: Mapping[str, float],
    folder: Path,
    *,
    keep: Collection[str] = (),
    listener: Listener = ignore,
) -> Model:
    """The model with pairs of QuantizeLinear and DequantizeLinear nodes; written into `folder`.

    amax: the largest magnitude kept of every activation; those without one, or with 0, stay in float. keep: names of
    nodes that stay in float. Activations take one scale for a tensor, weights one per channel, all are symmetric;
    biases stay float. BatchNormalization goes into the weights before it, opsets below 13 are converted. Bodies of If,
    Loop and Scan stay as they are, and a model that is quantized already is returned itself.

    Raises ConfigError for a name in `keep` that no node has, a model without a node for int8, and where more than half
    of those nodes lack a range.
    """
    if model.is_quantized:
        listener(LogLine("info", f"{model.name} brings its ranges along (Q/DQ nodes) and stays as it is"))
        return model
    check_names(model, keep)
    phase = "Quantizing the model to int8"
    listener(Progress(phase, 0, 1))
    check_ranges(model, amax, keep, listener)
    known = _known(amax)
    proto = with_weights(_converted(model), folder)
    chosen = plan(proto.graph, known, keep)
    fold_batch_normalizations(proto.graph, chosen)
    insert(proto.graph, chosen, known)
    proto.ir_version = max(proto.ir_version, 4)  # from it on initializers need not be inputs
    path = folder / f"{model.name}.int8.onnx"
    too_large = sum(tensor.ByteSize() for tensor in proto.graph.initializer) > LARGE_BYTES
    onnx.save_model(proto, str(path), save_as_external_data=too_large, location=f"{path.name}.data")
    kept = f", {count_of(len(keep), 'node')} stay in float on request" if keep else ""
    listener(LogLine("info", f"{count_of(len(chosen), 'node')} of {len(model.nodes):,} compute in int8{kept}"))
    listener(Progress(phase, 1, 1))
    return load_model(path)


def _known(amax: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in amax.items() if math.isfinite(value) and value > 0}


def check_ranges(
    model: Model, amax: Mapping[str, float], keep: Collection[str] = (), listener: Listener = ignore
) -> None:
    """Raise ConfigError as `quantize` does; what lacks a range in a table that serves is a warning for the listener."""
    check_quantizable(model)
    known = _known(amax)
    graph = Graph(model.proto.graph)
    weighted = [node for node in graph.nodes if graph.is_weighted(node)]
    wanted = [node.input[0] for node in weighted if node.name not in keep]
    missing = list(dict.fromkeys(name for name in wanted if name not in known))
    lacking = sum(name not in known for name in wanted)
    if not missing:
        return
    named = ", ".join(missing[:_NAMED]) + (f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")
    if 2 * lacking > len(wanted):
        raise ConfigError(
            f"{model.name}: {lacking} of {count_of(len(wanted), 'node')} that could compute in int8 read tensors "
            f"without a range ({named}): calibrate this very model, or take a table that was made from it."
        )
    listener(LogLine("warning", f"{count_of(lacking, 'node')} stay in float, as no range is known of {named}"))


def check_quantizable(model: Model) -> None:
    """Raise ConfigError for a model that int8 serves no node of."""
    graph = Graph(model.proto.graph)
    if not any(graph.is_weighted(node) for node in graph.nodes):
        raise ConfigError(
            f"{model.name} has no convolution or matrix product of float32 activations with constant weights, so "
            "nothing of it would compute in int8: build it as fp32 or fp16."
        )


def _converted(model: Model) -> Model:
    """In an opset that knows scales per channel. Raises ModelError."""
    if model.opset >= _OPSET:
        return model
    try:
        return Model(onnx.version_converter.convert_version(model.proto, _OPSET), model.path)
    except (RuntimeError, onnx.version_converter.ConvertError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"{model.name}: int8 needs opset {_OPSET}, and the model's {model.opset} cannot be converted ({reason}); "
            f"export it again with opset {_OPSET} or later."
        ) from error
