"""What sets releases of TensorRT (8.6 to 11) and TensorRT-RTX apart; no other module asks which one it speaks to.

`abilities` answers from the release's number, before anything is loaded. Every other function is handed the module,
`trt`, and asks it for the name that it is about to use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from workbench import precision
from workbench.backends.nvidia_callbacks import progress_monitor
from workbench.backends.nvidia_log import LogPhases
from workbench.errors import BuildError
from workbench.layers import metadata_nodes
from workbench.model import Model, operator
from workbench.types import BuildConfig, Listener, LogLine

OLDEST = (8, 6)


@dataclass(frozen=True)
class Abilities:
    """What a release of TensorRT can be told.

    weakly_typed: precisions are flags for the builder, and calibration is its business; else types are the model's.
    precision_reasons: why it does not fulfil the others. mixes: what single layers may compute in, by the precision of
    the whole. tactic_sources, memory_pools: in the form of BuilderOptions.
    """

    weakly_typed: bool
    precisions: tuple[str, ...]
    precision_reasons: Mapping[str, str]
    mixes: Mapping[str, tuple[str, ...]]
    targets: tuple[str, ...]
    tactic_sources: tuple[str, ...]
    memory_pools: tuple[str, ...]
    builder_options: tuple[str, ...]


_TARGET_LEVELS = {"gpu": "NONE", "ampere+": "AMPERE_PLUS", "same-cc": "SAME_COMPUTE_CAPABILITY"}
_OPTIONS_8 = (
    "optimization_level", "tactic_sources", "memory_pools", "timing_cache", "version_compatible", "refittable",
    "dla_core", "layer_precisions",
)  # fmt: skip
_POOLS_8 = ("dla_managed_sram", "dla_local_dram", "dla_global_dram", "tactic_dram")
_8 = Abilities(
    weakly_typed=True,
    precisions=("fp32", "tf32", "fp16", "int8"),
    precision_reasons={"bf16": "TensorRT has bf16 from release 9 on; choose fp16, or install a later release."},
    mixes={
        "fp32": ("fp32", "fp16"),
        "tf32": ("fp32", "fp16"),
        "fp16": ("fp32", "fp16"),
        "bf16": ("fp32",),
        "int8": ("fp32", "fp16", "int8"),
    },
    targets=("gpu", "ampere+"),
    tactic_sources=("cublas", "cublas_lt", "cudnn", "edge_mask_convolutions", "jit_convolutions"),
    memory_pools=_POOLS_8,
    builder_options=_OPTIONS_8,
)
_10 = replace(
    _8,
    precisions=("fp32", "tf32", "fp16", "bf16", "int8"),
    precision_reasons={},
    targets=("gpu", "ampere+", "same-cc"),
    memory_pools=(*_POOLS_8, "tactic_shared_memory"),
    builder_options=(*_OPTIONS_8, "strip_weights"),
)
_11 = replace(
    _10,
    weakly_typed=False,
    mixes=precision.MIXES,
    tactic_sources=("edge_mask_convolutions", "jit_convolutions"),
)


def abilities(release: str) -> Abilities:
    """What TensorRT of this release ('8.6.0', '10.16.1.11') can be told."""
    major = int(release.split(".")[0])
    if major == 9:
        return replace(_10, builder_options=_OPTIONS_8)
    return _8 if major < 9 else _10 if major < 11 else _11


def is_too_old(release: str) -> bool:
    return tuple(int(part) for part in re.findall(r"\d+", release)[:2]) < OLDEST


def create_network(trt: ModuleType, builder: Any) -> Any:
    """Up to release 10 the explicit batch must be asked for; RTX and 11 know nothing else."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    return builder.create_network(1 << int(flag) if flag is not None else 0)


# ---- the parser


def supported_nodes(trt: ModuleType, parser: Any, model: Model) -> tuple[bool, frozenset[int] | None]:
    """Whether the parser takes the model; and which nodes it does, by index, where only that is told (release 8)."""
    content, path = model.to_bytes(), str(model.path)
    if hasattr(trt.OnnxParser, "supports_model_v2"):
        return parser.supports_model_v2(content, path), None
    if not model.nodes:  # supports_model crashes on it
        return parser.parse(content, path), None
    supported, subgraphs = parser.supports_model(content, path)
    return supported, frozenset(index for nodes, _ in subgraphs for index in nodes)


def culprit(trt: ModuleType, error: Any, model: Model) -> tuple[str, str]:
    """Name and operator of the node that a parser's error is about; '' where it does not tell."""
    node = model.nodes[error.node()] if 0 <= error.node() < len(model.nodes) else None
    told = (node.name, operator(node)) if node else ("", "")
    if not hasattr(trt.ParserError, "node_name"):
        return told
    name = error.node_name() or told[0]
    return told if node and node.name == name else (name, error.node_operator())


# ---- types


def set_types(trt: ModuleType, network: Any, options: Any, config: BuildConfig, listener: Listener) -> None:
    """What makes the network compute in this precision; where typing is strong the model itself does.

    Raises BuildError for a wish about a node that no layer comes from.
    """
    if config.precision == "tf32":
        options.set_flag(trt.BuilderFlag.TF32)
    else:
        options.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(trt.BuilderFlag, "FP16"):
        _set_weak_types(trt, network, options, config, listener)


def _set_weak_types(trt: ModuleType, network: Any, options: Any, config: BuildConfig, listener: Listener) -> None:
    """Flags allow a type; the builder takes it where that is faster, unless a layer is constrained."""
    found, wishes = _types_in(network), config.builder.layer_precisions
    allowed = {"fp16": {"FP16"}, "bf16": {"BF16"}, "int8": {"INT8", "FP16"}}.get(config.precision, set())
    allowed |= {"FP16"} if "fp16" in wishes.values() or "HALF" in found else set()
    allowed |= {"BF16"} & found
    if "INT8" in found and config.calibration is None:
        listener(LogLine("info", "The model brings its ranges along (Q/DQ nodes): int8 is allowed, nothing calibrated"))
        allowed.add("INT8")
    for name in sorted(allowed):
        options.set_flag(getattr(trt.BuilderFlag, name))
    if not config.keep_io_types:
        _lower_io_types(trt, network, config)
    is_plain = config.precision in ("fp32", "tf32")
    if wishes or (is_plain and allowed & {"FP16", "BF16"}):
        options.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
        _constrain_layers(trt, network, wishes, "fp32" if is_plain else None)


def _types_in(network: Any) -> set[str]:
    """The types that layers and inputs have, by TensorRT's names."""
    made = (layer.get_output(index) for layer in _layers(network) for index in range(layer.num_outputs))
    fed = (network.get_input(index) for index in range(network.num_inputs))
    return {tensor.dtype.name for tensor in (*made, *fed) if tensor is not None}


def _layers(network: Any) -> Iterator[Any]:
    return (network.get_layer(index) for index in range(network.num_layers))


def _lower_io_types(trt: ModuleType, network: Any, config: BuildConfig) -> None:
    lower = getattr(trt.DataType, "BF16" if config.precision == "bf16" else "HALF")
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    for tensor in (*inputs, *(network.get_output(index) for index in range(network.num_outputs))):
        if tensor.dtype == trt.DataType.FLOAT:
            tensor.dtype = lower


def _constrain_layers(trt: ModuleType, network: Any, wishes: Mapping[str, str], others: str | None) -> None:
    """others: what layers of float32 without a wish compute in; None leaves it to the builder."""
    open_wishes = set(wishes)
    for layer in _layers(network):
        nodes = metadata_nodes(layer.metadata) or (layer.name,)
        wish = next((wishes[name] for name in nodes if name in wishes), None)
        open_wishes -= set(nodes)
        if wish or others:
            _constrain(trt, layer, wish or others, is_wish=bool(wish))
    if open_wishes:
        names = ", ".join(sorted(open_wishes))
        raise BuildError(
            f"no layer of the network comes from {names}, so its precision cannot be chosen",
            node=min(open_wishes),
            remedy="Leave it out of the layer precisions: such nodes are folded into constants before.",
        )


_WISHED = {"fp32": "FLOAT", "fp16": "HALF", "int8": "INT8"}


def _constrain(trt: ModuleType, layer: Any, wish: str | None, *, is_wish: bool) -> None:
    """Layers of integers or shapes have no precision to choose; inputs and outputs of the network keep their type."""
    floats = ("FLOAT", "HALF", "BF16") if is_wish else ("FLOAT",)
    tensors = [layer.get_output(index) for index in range(layer.num_outputs)]
    chosen = [index for index, tensor in enumerate(tensors) if tensor.dtype.name in floats]
    if not chosen or wish is None or any(tensor.is_shape_tensor for tensor in tensors):
        return
    layer.precision = getattr(trt.DataType, _WISHED[wish])
    for index in chosen:
        if wish != "int8" and not tensors[index].is_network_output:
            layer.set_output_type(index, layer.precision)


# ---- what the builder is told


def set_targets(trt: ModuleType, options: Any, targets: tuple[str, ...]) -> None:
    """TensorRT builds for the GPU it runs on, and perhaps for its kin; RTX for any, by compute capability."""
    if hasattr(trt, "ComputeCapability"):
        _set_capabilities(trt, options, targets)
    else:
        for target in targets:
            level = getattr(trt.HardwareCompatibilityLevel, _TARGET_LEVELS[target])
            options.hardware_compatibility_level = level


def _set_capabilities(trt: ModuleType, options: Any, targets: tuple[str, ...]) -> None:
    if not targets:
        return
    options.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        if not options.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), index):
            raise BuildError(f"this release does not build for {target}", remedy="Leave it out of the targets.")


def strip_weights(trt: ModuleType, options: Any) -> None:
    """Only where `abilities` lists it."""
    if hasattr(trt.BuilderFlag, "STRIP_PLAN"):
        options.set_flag(trt.BuilderFlag.STRIP_PLAN)


def share_profiles(trt: ModuleType, options: Any) -> None:
    """Several contexts may use one optimization profile at a time; from release 11 on they always may."""
    if hasattr(trt.PreviewFeature, "PROFILE_SHARING_0806"):
        options.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)


def set_calibrator(trt: ModuleType, options: Any, calibrator: Any, profile: Any) -> None:
    """profile: with the shapes of the samples, where dimensions are open; else None."""
    if hasattr(trt, "IInt8Calibrator"):
        _set_int8_calibrator(options, calibrator, profile)


def _set_int8_calibrator(options: Any, calibrator: Any, profile: Any) -> None:
    options.int8_calibrator = calibrator
    if profile is not None:
        options.set_calibration_profile(profile)


# ---- progress


def follow_progress(trt: ModuleType, options: Any, listener: Listener) -> None:
    """Where the builder tells of its progress, let it."""
    if hasattr(trt, "IProgressMonitor"):
        options.progress_monitor = progress_monitor(trt, listener)


def log_listener(trt: ModuleType, listener: Listener) -> Listener:
    """Where the builder does not tell of its progress, read it from the log."""
    return listener if hasattr(trt, "IProgressMonitor") else LogPhases(listener)


# ---- contexts


def activation_bytes(engine: Any) -> int:
    """The memory a context needs at the largest shapes, in bytes."""
    size = engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size
    return int(size)


def new_context(trt: ModuleType, engine: Any, address: int, size: int) -> Any:
    """A context that computes in this memory, which others may use between its runs; None when there is none."""
    if hasattr(trt, "ExecutionContextAllocationStrategy"):
        context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    else:
        context = engine.create_execution_context_without_device_memory()
    if context is not None and hasattr(context, "set_device_memory"):
        context.set_device_memory(address, size)
    elif context is not None:
        context.device_memory = address
    return context
