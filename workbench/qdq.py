"""Model -> Model in int8: with QuantizeLinear and DequantizeLinear where NVIDIA's builder and ONNX Runtime use them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from weakref import WeakKeyDictionary

import onnx
from onnx import GraphProto, ModelProto

from workbench.calibration.lint import LARGEST, SMALLEST
from workbench.errors import ConfigError, ModelError
from workbench.model import LARGE_BYTES, Model, load_model
from workbench.precision import check_names
from workbench.qdq_nodes import fold_batch_normalizations, fresh, insert
from workbench.qdq_plan import Edge, Graph, plan
from workbench.types import Listener, LogLine, Progress, count_of, ignore

RELEASE = "2"
"""Belongs to what an engine was made from: raised when the same model and ranges give other nodes."""
_OPSET = 13
"""The first in which QuantizeLinear takes one scale per channel."""
_NAMED = 5


_PREPARED: WeakKeyDictionary[Model, ModelProto] = WeakKeyDictionary()


def quantizable(model: Model) -> tuple[str, ...]:
    """The names of the nodes that compute in int8 when all ranges are known; in the model's order. Raises ModelError
    as `quantize` does."""
    return tuple(planned(model, None))


def planned(model: Model, amax: Mapping[str, float] | None, keep: Collection[str] = ()) -> dict[str, tuple[Edge, ...]]:
    """The edges that `quantize` reads in int8, by the names of their nodes; amax: None if all ranges are known."""
    return plan(_prepared(model).graph, None if amax is None else _known(amax), keep)


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
    of those nodes lack a range; ModelError for a model whose opset or shapes cannot be found.
    """
    if model.is_quantized:
        listener(LogLine("info", f"{model.name} brings its ranges along (Q/DQ nodes) and stays as it is"))
        return model
    check_names(model, keep)
    phase = "Quantizing the model to int8"
    listener(Progress(phase, 0, 1))
    check_ranges(model, amax, keep, listener)
    chosen = planned(model, amax, keep)
    proto = ModelProto()
    proto.CopyFrom(_prepared(model))
    if model.external_files:
        onnx.load_external_data_for_model(proto, str(model.path.parent))
    fold_batch_normalizations(proto.graph, chosen)
    insert(proto.graph, chosen, amax)
    proto.ir_version = max(proto.ir_version, 4)  # from it on initializers need not be inputs
    path = folder / f"{model.name}.int8.onnx"
    too_large = sum(tensor.ByteSize() for tensor in proto.graph.initializer) > LARGE_BYTES
    onnx.save_model(proto, str(path), save_as_external_data=too_large, location=f"{path.name}.data")
    kept = f", {count_of(len(keep), 'node')} stay in float on request" if keep else ""
    listener(LogLine("info", f"{count_of(len(chosen), 'node')} of {len(model.nodes):,} compute in int8{kept}"))
    listener(Progress(phase, 1, 1))
    return load_model(path)


def _known(amax: Mapping[str, float]) -> dict[str, float]:
    """Those that a float32 scale expresses; a smaller one would become 0, and 0 / 0 no number."""
    return {name: value for name, value in amax.items() if SMALLEST <= value <= LARGEST}


def check_ranges(
    model: Model, amax: Mapping[str, float], keep: Collection[str] = (), listener: Listener = ignore
) -> None:
    """Raise ConfigError as `quantize` does; what lacks a range in a table that serves is a warning for the listener."""
    check_quantizable(model)
    known = _known(amax)
    graph = Graph(_prepared(model).graph)
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
    stay = f"{count_of(lacking, 'node')} {'stays' if lacking == 1 else 'stay'} in float"
    listener(LogLine("warning", f"{stay}, as no range is known of {named}"))


def check_quantizable(model: Model) -> None:
    """Raise ConfigError for a model that int8 serves no node of."""
    graph = Graph(model.proto.graph)
    if not any(graph.is_weighted(node) for node in graph.nodes):
        raise ConfigError(
            f"{model.name} has no convolution or matrix product of float32 activations with constant weights, so "
            "nothing of it would compute in int8: build it as fp32 or fp16."
        )


def _prepared(model: Model) -> ModelProto:
    """The model in an opset that knows scales per channel, with the shapes of its tensors, under its own names; tensors
    in external files are not loaded. Kept as long as the model: read-only. Raises ModelError."""
    if model not in _PREPARED:
        proto = model.proto if model.opset >= _OPSET else _converted(model)
        try:
            _PREPARED[model] = onnx.shape_inference.infer_shapes(proto)
        except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:
            raise ModelError(f"{model.name}: shape inference fails: {error}") from error
    return _PREPARED[model]


def _converted(model: Model) -> ModelProto:
    shown = len(model.proto.graph.output)
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    outputs = {value.name for value in proto.graph.output}
    inner = [name for node in proto.graph.node for name in node.output if name and name not in outputs]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)  # the converter renames no outputs
    try:
        proto = onnx.version_converter.convert_version(proto, _OPSET)
    except (RuntimeError, onnx.version_converter.ConvertError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"{model.name}: int8 needs opset {_OPSET}, and the model's {model.opset} cannot be converted ({reason}); "
            f"export it again with opset {_OPSET} or later."
        ) from error
    del proto.graph.output[shown:]
    _name_nodes(proto.graph, model)
    return proto


def _name_nodes(graph: GraphProto, model: Model) -> None:
    """The nodes that the converter made are called as the one whose result they give."""
    taken = {node.name for node in graph.node if node.name}
    names = {name: node.name for node in model.nodes for name in node.output}
    for node in graph.node:
        if not node.name:
            node.name = fresh(names.get(node.output[0], f"node_of_{node.output[0]}"), taken)
