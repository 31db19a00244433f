"""What TensorRT and TensorRT-RTX share: parse, build, read plans. Alone in knowing the releases apart.

`trt` is the module of one of them, handed in by the back end. Everything here runs in the build's child process.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

from workbench.backends.nvidia_words import plain, remedy
from workbench.errors import BuildError
from workbench.layers import LayerInfo, parse_layer_records
from workbench.model import Model, graphs, operator
from workbench.types import BuildConfig, Listener, LogLine, OptimizationProfile, Progress, Refusal

_MAGIC = {b"ftrt": "tensorrt", b"vtrt": "rtx"}
_RTX_TARGET_BITS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")

_CODES = {
    "UNSUPPORTED_NODE": "TensorRT has no such operator",
    "UNSUPPORTED_NODE_ATTR": "TensorRT does not take one of its attributes",
    "UNSUPPORTED_NODE_DATATYPE": "TensorRT does not take its data type",
    "UNSUPPORTED_NODE_DYNAMIC": "TensorRT needs fixed dimensions here",
    "UNSUPPORTED_NODE_INPUT": "TensorRT does not take one of its inputs",
    "UNSUPPORTED_NODE_SHAPE": "TensorRT does not take its shape",
}


@dataclass(frozen=True)
class PlanHeader:
    """What the first bytes of a plan tell. `targets` is empty where the plan does not say what GPUs it is for."""

    backend: str
    release: str
    targets: tuple[str, ...]


def read_plan_header(path: Path) -> PlanHeader | None:
    """Read a plan's kind, release and compute capabilities; None if it is not a plan."""
    with path.open("rb") as file:
        head = file.read(0x28)
    if len(head) < 0x28 or head[:4] not in _MAGIC:
        return None
    backend = _MAGIC[head[:4]]
    (mask,) = struct.unpack_from("<I", head, 0x20)
    targets = tuple(name for bit, name in enumerate(_RTX_TARGET_BITS) if mask >> bit & 1) if backend == "rtx" else ()
    return PlanHeader(backend, ".".join(str(part) for part in head[0x18:0x1C]), targets)


_SAME_AS_STANDARD = {f"com.microsoft.{name}" for name in ("Gelu", "QuantizeLinear", "DequantizeLinear")}
_SEVERITIES = {"INTERNAL_ERROR": "error", "ERROR": "error", "WARNING": "warning", "INFO": "info", "VERBOSE": "verbose"}
_NO_GPU = "catchCudaError"
"""A machine without a GPU logs it as an error after every other error."""
_loggers: dict[str, Any] = {}


def logger_for(trt: ModuleType, listener: Listener) -> Any:
    """TensorRT's logger, its lines going to this listener from now on.

    The library keeps the first logger it is given for the life of the process and ignores every other, so there is
    one for each module, never freed.
    """

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        listener: Listener

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            self.listener(LogLine("verbose" if _NO_GPU in text else _SEVERITIES[severity.name], text))

    if trt.__name__ not in _loggers:
        _loggers[trt.__name__] = Logger()
    _loggers[trt.__name__].listener = listener
    return _loggers[trt.__name__]


def make_progress_monitor(trt: ModuleType, listener: Listener) -> Any:
    """Builder phases as Progress. Cancelling is not its business: the parent process ends the child."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases: dict[str, tuple[str | None, int]] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.phases[phase] = (parent, steps)
            listener(Progress(phase, 0, steps, parent))

        def step_complete(self, phase: str, step: int) -> bool:
            parent, steps = self.phases[phase]
            listener(Progress(phase, min(step + 1, steps), steps, parent))
            return True

        def phase_finish(self, phase: str) -> None:
            parent, steps = self.phases[phase]
            listener(Progress(phase, steps, steps, parent))

    return Monitor()


def check(trt: ModuleType, model: Model, listener: Listener) -> tuple[Refusal, ...]:
    """The nodes NVIDIA's parser refuses, each with the reason."""
    logger = logger_for(trt, listener)
    builder = trt.Builder(logger)
    network = create_network(trt, builder)  # the parser does not keep it alive
    parser = trt.OnnxParser(network, logger)
    supported = parser.supports_model_v2(model.to_bytes(), str(model.path))
    refusals = _refusals(model, parser) + _mistaken(model)
    if not supported and not refusals:
        return (Refusal("", "", "the parser refuses the model as a whole"),)
    return refusals


Fill = Callable[[ModuleType, Any, "LogKeeper"], tuple[str, ...]]
"""fill(trt, network, log): adds inputs, layers and outputs to an INetworkDefinition; returns the names of the nodes or
layers that errors may speak of. Raises BuildError."""


def parse(model: Model) -> Fill:
    """Fills a network with an ONNX model's nodes."""

    def fill(trt: ModuleType, network: Any, log: LogKeeper) -> tuple[str, ...]:
        for node in _mistaken(model):
            raise BuildError(f"{node.node} ({node.op_type}): {node.reason}", node=node.node, remedy=remedy(node.reason))
        parser = trt.OnnxParser(network, logger_for(trt, log))
        if not parser.parse(model.to_bytes(), str(model.path)):
            raise _parse_error(model, parser, log)
        return tuple(node.name for node in model.nodes)

    return fill


def build_plan(
    trt: ModuleType, fill: Fill, config: BuildConfig, path: Path, listener: Listener
) -> tuple[LayerInfo, ...]:
    """Fill a network, build it and write the plan to `path`; returns its layers as the build log lists them.

    Types are in the network already; only tf32 is a flag. Raises BuildError with reason, node or layer, and remedy.
    """
    log = LogKeeper(listener)
    builder = trt.Builder(logger_for(trt, log))
    network = create_network(trt, builder)
    names = fill(trt, network, log)
    plan = builder.build_serialized_network(network, builder_config(trt, builder, network, config, listener))
    if plan is None:
        raise _build_error(names, log)
    with path.open("wb") as file:
        file.write(memoryview(plan))
    return listed_layers(log.layer_records, listener)


def check_plan(path: Path, backend: str, targets: tuple[str, ...]) -> PlanHeader:
    """The header of a plan that was just built. Raises BuildError where it is not for this back end and these GPUs."""
    header = read_plan_header(path)
    if header is None or header.backend != backend or not set(targets) <= set(header.targets):
        raise BuildError(f"the plan is not the one that was asked for: its header says {header}")
    return header


def listed_layers(texts: list[str], listener: Listener) -> tuple[LayerInfo, ...]:
    """A record this release writes in a new form is told in the log; the engine itself is good."""
    layers: list[LayerInfo] = []
    for text in texts:
        try:
            layers += parse_layer_records(text)
        except ValueError as error:
            listener(LogLine("warning", f"the layers cannot be listed: {error}"))
    return tuple(layers)


def create_network(trt: ModuleType, builder: Any) -> Any:
    """Up to release 10 the explicit batch must be asked for; RTX and 11 know nothing else."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    return builder.create_network(1 << int(flag) if flag is not None else 0)


def builder_config(trt: ModuleType, builder: Any, network: Any, config: BuildConfig, listener: Listener) -> Any:
    options = builder.create_builder_config()
    options.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    options.progress_monitor = make_progress_monitor(trt, listener)
    if config.workspace_bytes is not None:
        options.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, config.workspace_bytes)
    if config.precision == "tf32":
        options.set_flag(trt.BuilderFlag.TF32)
    else:
        options.clear_flag(trt.BuilderFlag.TF32)
    for profile in config.profiles:
        options.add_optimization_profile(_profile(builder, network, profile))
    if config.targets:
        options.num_compute_capabilities = len(config.targets)
        for index, target in enumerate(config.targets):
            capability = getattr(trt.ComputeCapability, target.upper())
            if not options.set_compute_capability(capability, index):
                raise BuildError(f"this release does not build for {target}", remedy="Leave it out of the targets.")
    return options


def _profile(builder: Any, network: Any, profile: OptimizationProfile) -> Any:
    """Values go to those inputs only from which this network really computes shapes."""
    result = builder.create_optimization_profile()
    for name, item in profile.ranges.items():
        result.set_shape(name, item.min, item.opt, item.max)
    inputs = (network.get_input(index) for index in range(network.num_inputs))
    for name in (tensor.name for tensor in inputs if tensor.is_shape_tensor):
        if name in profile.values:
            item = profile.values[name]
            result.set_shape_input(name, item.min, item.opt, item.max)
    return result


class LogKeeper:
    """Passes lines on and keeps what the end of the build is made of: errors and layer records."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.errors: list[str] = []
        self.layer_records: list[str] = []

    def __call__(self, event: Progress | LogLine) -> None:
        if isinstance(event, LogLine):
            if event.severity == "error":
                self.errors.append(event.text)
            elif event.text.startswith("Layers:\n"):
                self.layer_records.append(event.text)
        self.listener(event)


def _refusals(model: Model, parser: Any) -> tuple[Refusal, ...]:
    refusals = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        node = model.nodes[error.node()] if 0 <= error.node() < len(model.nodes) else None
        name = error.node_name() or (node.name if node else "")
        op_type = operator(node) if node and node.name == name else error.node_operator()
        refusals.append(Refusal(name, op_type, _parser_reason(error)))
    return tuple(refusals)


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


def _parser_reason(error: Any) -> str:
    """A failed check of the parser reads 'condition && "sentence"', or 'Assertion failed: condition: Sentence.'; often
    there is only the condition."""
    text = error.desc().strip()
    if "Plugin not found" in text:
        return "TensorRT knows no operator and no plugin of this name"
    quoted = re.search(r'"([^"]+)"', text) or re.match(r"Assertion failed: .*?: ([A-Z].*)", text)
    if quoted:
        return quoted[1].rstrip(".")
    if text.startswith("Invalid Node - ") and "\n" in text:
        return plain(text.split("\n")[1]).removeprefix(f"{error.node_name()}: ").rstrip(".")
    code = error.code().name
    words = _CODES.get(code, code.replace("_", " ").lower())
    return words if text in ("", "false") else f"{words} ({text})"


def _parse_error(model: Model, parser: Any, log: LogKeeper) -> BuildError:
    refusals = _refusals(model, parser)
    if not refusals:
        return _build_error([node.name for node in model.nodes], log)
    first = refusals[0]
    more = f" ({len(refusals) - 1} more nodes are refused)" if len(refusals) > 1 else ""
    reason = f"{first.node} ({first.op_type}): NVIDIA's parser refuses it: {first.reason}{more}"
    return BuildError(reason, node=first.node, remedy=remedy(first.reason))


def _build_error(names: Iterable[str], log: LogKeeper) -> BuildError:
    text = log.errors[-1] if log.errors else "the builder gave no plan and no reason"
    known = set(names)
    found = re.findall(r"'([^']+)'|\"([^\"]+)\"|\[ONNX Layer: ([^\]]+)\]|\bI\w+Layer (\S+?):", text)
    node = next((name for groups in found for name in groups if name in known), None)
    return BuildError(plain(text), node=node, remedy=remedy(text))
