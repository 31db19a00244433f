"""NVIDIA's ONNX parser, the same for TensorRT and TensorRT-RTX: models in, networks or refused nodes out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import onnx

from workbench.backends import _nvidia
from workbench.backends.nvidia_log import LogKeeper, logger_for
from workbench.backends.nvidia_words import plain, remedy
from workbench.errors import BuildError
from workbench.model import Model, graphs, operator
from workbench.quantized import fold_int32_biases
from workbench.types import Listener, Refusal

_CODES = {
    "UNSUPPORTED_NODE": "TensorRT has no such operator",
    "UNSUPPORTED_NODE_ATTR": "TensorRT does not take one of its attributes",
    "UNSUPPORTED_NODE_DATATYPE": "TensorRT does not take its data type",
    "UNSUPPORTED_NODE_DYNAMIC": "TensorRT needs fixed dimensions here",
    "UNSUPPORTED_NODE_INPUT": "TensorRT does not take one of its inputs",
    "UNSUPPORTED_NODE_SHAPE": "TensorRT does not take its shape",
}
_UNKNOWN = "TensorRT knows no operator and no plugin of this name"
_NOT_HERE = "NVIDIA's parser does not take it here"
_SAME_AS_STANDARD = {f"com.microsoft.{name}" for name in ("Gelu", "QuantizeLinear", "DequantizeLinear")}

Fill = Callable[[ModuleType, Any, LogKeeper], tuple[str, ...]]
"""fill(trt, network, log): adds inputs, layers and outputs to an INetworkDefinition; returns the names of the nodes or
layers that errors may speak of. Raises BuildError."""


_builders: dict[str, Any] = {}


def make_builder(trt: ModuleType, log: LogKeeper) -> Any:
    """The process's builder: TensorRT loads its kernels with the first, for seconds, and drops them with the last.

    Raises BuildError where TensorRT cannot use the GPU.
    """
    logger = logger_for(trt, log)
    try:
        builder = _builders.get(trt.__name__) or trt.Builder(logger)
    except (TypeError, RuntimeError) as error:  # its factory gave no builder
        reason = plain(log.errors[-1]) if log.errors else str(error)
        raise BuildError(f"TensorRT cannot start: {reason}", remedy=remedy(reason)) from error
    _builders[trt.__name__] = builder
    builder.reset()
    return builder


def check(trt: ModuleType, model: Model, listener: Listener) -> tuple[Refusal, ...]:
    """The nodes NVIDIA's parser refuses, each with the reason."""
    model = _mended(model)
    log = LogKeeper(listener)
    builder = make_builder(trt, log)
    network = _nvidia.create_network(trt, builder)  # the parser does not keep it alive
    parser = trt.OnnxParser(network, logger_for(trt, log))
    supported, taken = _nvidia.supported_nodes(trt, parser, model)
    refusals = _refusals(trt, model, parser)
    if taken is not None and not supported:
        refusals += _left_out(model, parser, taken, {refusal.node for refusal in refusals})
    refusals += _mistaken(model)
    if not supported and not refusals:
        return (Refusal("", "", "the parser refuses the model as a whole"),)
    return refusals


def parse(model: Model) -> Fill:
    """Fills a network with an ONNX model's nodes."""
    model = _mended(model)

    def fill(trt: ModuleType, network: Any, log: LogKeeper) -> tuple[str, ...]:
        for node in _mistaken(model):
            raise BuildError(f"{node.node} ({node.op_type}): {node.reason}", node=node.node, remedy=remedy(node.reason))
        parser = trt.OnnxParser(network, logger_for(trt, log))
        if not parser.parse(model.to_bytes(), str(model.path)):
            raise _parse_error(trt, model, parser, log)
        return tuple(node.name for node in model.nodes)

    return fill


def _mended(model: Model) -> Model:
    """Without the INT32 biases of some quantized models, which the parser refuses."""
    proto = fold_int32_biases(model.proto, model.path.parent)
    return model if proto is model.proto else Model(proto, model.path)


def _refusals(trt: ModuleType, model: Model, parser: Any) -> tuple[Refusal, ...]:
    refusals = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        name, op_type = _nvidia.culprit(trt, error, model)
        refusals.append(Refusal(name, op_type, _parser_reason(error, name)))
    return tuple(refusals)


def _left_out(model: Model, parser: Any, taken: frozenset[int], told: set[str]) -> tuple[Refusal, ...]:
    """Nodes that the parser neither takes nor tells an error of; it stops at the first."""
    return tuple(
        Refusal(node.name, operator(node), _UNKNOWN if not parser.supports_operator(node.op_type) else _NOT_HERE)
        for index, node in enumerate(model.nodes)
        if index not in taken and node.name not in told
    )


def _mistaken(model: Model) -> tuple[Refusal, ...]:
    """Nodes of other domains whose operators are called like standard ones: the parser does not look at domains."""
    own = {(function.domain, function.name) for function in model.proto.functions}
    return tuple(
        Refusal(node.name, operator(node), f"NVIDIA's parser would take it for the standard {node.op_type}")
        for graph in graphs(model.proto.graph)
        for node in graph.node
        if node.domain not in ("", "ai.onnx")
        and (node.domain, node.op_type) not in own
        and onnx.defs.has(node.op_type)
        and operator(node) not in _SAME_AS_STANDARD
    )


def _parser_reason(error: Any, node: str) -> str:
    """A failed check of the parser reads 'condition && "sentence"', or 'Assertion failed: condition: Sentence.'; often
    there is only the condition."""
    text = error.desc().strip()
    if "Plugin not found" in text:
        return _UNKNOWN
    quoted = re.search(r'"([^"]+)"', text) or re.match(r"Assertion failed: .*?: ([A-Z].*)", text)
    if quoted:
        return quoted[1].rstrip(".")
    if text.startswith("Invalid Node - ") and "\n" in text:
        return plain(text.split("\n")[1]).removeprefix(f"{node}: ").rstrip(".")
    code = error.code().name
    words = _CODES.get(code, code.replace("_", " ").lower())
    return words if text in ("", "false") else f"{words} ({text})"


def _parse_error(trt: ModuleType, model: Model, parser: Any, log: LogKeeper) -> BuildError:
    refusals = _refusals(trt, model, parser)
    if not refusals:
        return build_error([node.name for node in model.nodes], log)
    first = refusals[0]
    more = f" ({len(refusals) - 1} more nodes are refused)" if len(refusals) > 1 else ""
    reason = f"{first.node} ({first.op_type}): NVIDIA's parser refuses it: {first.reason}{more}"
    return BuildError(reason, node=first.node, remedy=remedy(first.reason))


def build_error(names: Iterable[str], log: LogKeeper) -> BuildError:
    """The last error of the log, with the node or layer that it names."""
    text = log.errors[-1] if log.errors else "the builder gave no plan and no reason"
    known = set(names)
    found = re.findall(r"'([^']+)'|\"([^\"]+)\"|\[ONNX Layer: ([^\]]+)\]|\bI\w+Layer (\S+?):", text)
    node = next((name for groups in found for name in groups if name in known), None)
    return BuildError(plain(text), node=node, remedy=remedy(text))
