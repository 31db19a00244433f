"""A filled network and a configuration -> a plan, for TensorRT and TensorRT-RTX alike; in the build's process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from workbench.backends import _nvidia
from workbench.backends.calibrators import Batch, make_calibrator
from workbench.backends.nvidia_log import LogKeeper, logger_for
from workbench.backends.nvidia_parser import Fill, build_error, make_builder
from workbench.backends.nvidia_words import dtype_name
from workbench.backends.timing_cache import merge_cache, read_cache
from workbench.errors import BuildError, WorkbenchError
from workbench.inspector import parse_inspection
from workbench.layers import LayerInfo, parse_layer_records
from workbench.types import BuildConfig, Dim, Listener, LogLine, OptimizationProfile, ShapeRange, TensorSpec

INSPECTION = "inspector.json"


@dataclass(frozen=True)
class BuiltPlan:
    """inputs, outputs: of the network, as TensorRT knows them. layer_records: what RTX lists in its log."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layer_records: tuple[str, ...]


def build_plan(
    trt: ModuleType, fill: Fill, config: BuildConfig, plan: Path, listener: Listener, *, timings: Path | None = None
) -> BuiltPlan:
    """Fill a network, build it and write the plan; a calibration's table goes beside it.

    timings: the timing cache to take from and add to. Raises BuildError with reason, node or layer, and remedy.
    """
    log = LogKeeper(_nvidia.log_listener(trt, listener))
    builder = make_builder(trt, log)
    network = _nvidia.create_network(trt, builder)
    names = fill(trt, network, log)
    options = builder_config(trt, builder, network, config, listener)
    calibrator = _calibrate(trt, builder, network, options, config, plan.parent, listener)
    known = _load_timings(options, timings, listener) if timings else None
    content = builder.build_serialized_network(network, options)
    if calibrator is not None and calibrator.error is not None:
        raise _calibration_error(calibrator.error)
    if content is None:
        raise build_error(names, log)
    with plan.open("wb") as file:
        file.write(memoryview(content))
    if timings:
        _keep_timings(options, known, timings, listener)
    return BuiltPlan(*network_specs(network), tuple(log.layer_records))


def builder_config(trt: ModuleType, builder: Any, network: Any, config: BuildConfig, listener: Listener) -> Any:
    options = builder.create_builder_config()
    options.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    _nvidia.follow_progress(trt, options, listener)
    _nvidia.set_types(trt, network, options, config, listener)
    _nvidia.set_targets(trt, options, config.targets)
    for profile in config.profiles:
        options.add_optimization_profile(_profile(builder, network, profile))
    if config.profiles:
        _nvidia.share_profiles(trt, options)
    if config.workspace_bytes is not None:
        options.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, config.workspace_bytes)
    _set_options(trt, builder, options, config)
    return options


def _set_options(trt: ModuleType, builder: Any, options: Any, config: BuildConfig) -> None:
    wish = config.builder
    for name, size in wish.memory_pools.items():
        options.set_memory_pool_limit(getattr(trt.MemoryPoolType, name.upper()), size)
    if wish.optimization_level is not None:
        options.builder_optimization_level = wish.optimization_level
    if wish.tactic_sources:
        sources = (getattr(trt.TacticSource, name.upper()) for name in wish.tactic_sources)
        options.set_tactic_sources(sum(1 << int(source) for source in sources))
    if wish.version_compatible:
        options.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if wish.refittable:
        options.set_flag(trt.BuilderFlag.REFIT)
    if wish.strip_weights:
        _nvidia.strip_weights(trt, options)
    if wish.dla_core is not None:
        _use_dla(trt, builder, options, wish.dla_core)


def _use_dla(trt: ModuleType, builder: Any, options: Any, core: int) -> None:
    if core >= builder.num_DLA_cores:
        have = f"DLA cores 0 to {builder.num_DLA_cores - 1} only" if builder.num_DLA_cores else "no DLA"
        raise BuildError(
            f"this GPU has {have}, so nothing runs on DLA core {core}: Jetson Xavier and Orin have some",
            remedy="Leave dla_core out.",
        )
    options.default_device_type = trt.DeviceType.DLA
    options.DLA_core = core
    options.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _profile(builder: Any, network: Any, profile: OptimizationProfile) -> Any:
    """Values go to those inputs only from which this network really computes shapes."""
    result = builder.create_optimization_profile()
    for name, item in profile.ranges.items():
        result.set_shape(name, item.min, item.opt, item.max)
    for name in (tensor.name for tensor in _inputs(network) if tensor.is_shape_tensor):
        if name in profile.values:
            item = profile.values[name]
            result.set_shape_input(name, item.min, item.opt, item.max)
    return result


def _inputs(network: Any) -> list[Any]:
    return [network.get_input(index) for index in range(network.num_inputs)]


# ---- calibration


def _calibrate(
    trt: ModuleType, builder: Any, network: Any, options: Any, config: BuildConfig, folder: Path, listener: Listener
) -> Any:
    """The calibrator that the builder will ask; None where nothing is calibrated."""
    if config.calibration is None:
        return None
    tensors, first = _inputs(network), config.profiles[0] if config.profiles else OptimizationProfile({})
    shapes = {
        tensor.name: first.ranges[tensor.name].opt if tensor.name in first.ranges else tuple(tensor.shape)
        for tensor in tensors
    }
    dtypes = {tensor.name: np.dtype(dtype_name(tensor.dtype)) for tensor in tensors}
    calibrator = make_calibrator(trt, config.calibration, Batch(shapes, dtypes), folder, listener)
    fixed = {name: ShapeRange(item.opt, item.opt, item.opt) for name, item in first.ranges.items()}
    profile = _profile(builder, network, replace(first, ranges=fixed)) if config.profiles else None
    _nvidia.set_calibrator(trt, options, calibrator, profile)
    return calibrator


def _calibration_error(error: Exception) -> BuildError:
    text = str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
    return BuildError(f"calibration fails: {text}")


# ---- timing cache


def _load_timings(options: Any, path: Path, listener: Listener) -> Any:
    """The cache that the build reads and adds to; it must live as long."""
    timings = options.create_timing_cache(read_cache(path, listener))
    if timings is None or not options.set_timing_cache(timings, ignore_mismatch=False):
        listener(LogLine("warning", f"{path}: TensorRT does not take this timing cache; kernels are timed anew"))
        timings = options.create_timing_cache(b"")
        options.set_timing_cache(timings, ignore_mismatch=False)
    return timings


def _keep_timings(options: Any, timings: Any, path: Path, listener: Listener) -> None:
    """Together with what other processes have added meanwhile."""

    def combine(content: bytes) -> bytes:
        other = options.create_timing_cache(content) if content else None
        if other is not None:
            timings.combine(other, ignore_mismatch=False)
        return bytes(memoryview(timings.serialize()))

    merge_cache(path, combine, listener)


# ---- what was built


def network_specs(network: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs."""
    outputs = (network.get_output(index) for index in range(network.num_outputs))
    return tuple(tensor_spec(tensor) for tensor in _inputs(network)), tuple(tensor_spec(tensor) for tensor in outputs)


def tensor_spec(tensor: Any) -> TensorSpec:
    dims: list[Dim] = []
    for axis, size in enumerate(tuple(tensor.shape)):
        dims.append(size if size >= 0 else tensor.get_dimension_name(axis) or None)
    return TensorSpec(tensor.name, dtype_name(tensor.dtype), tuple(dims))


def listed_layers(texts: Iterable[str], listener: Listener) -> tuple[LayerInfo, ...]:
    """A record this release writes in a new form is told in the log; the engine itself is good."""
    layers: list[LayerInfo] = []
    for text in texts:
        try:
            layers += parse_layer_records(text)
        except ValueError as error:
            listener(LogLine("warning", f"the layers cannot be listed: {error}"))
    return tuple(layers)


def inspect_plan(trt: ModuleType, plan: Path, listener: Listener) -> tuple[LayerInfo, ...]:
    """The layers as TensorRT's engine inspector tells them, all profiles; its JSON is kept beside the plan unchanged.

    Raises BuildError where the plan cannot be opened on this GPU.
    """
    log = LogKeeper(listener)
    runtime = trt.Runtime(logger_for(trt, log))
    runtime.engine_host_code_allowed = True  # it was built a moment ago, in this process
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        raise build_error((), log)
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    plan.with_name(INSPECTION).write_text(text, encoding="utf-8")
    try:
        inspection = parse_inspection(text)
    except ValueError as error:
        listener(LogLine("warning", f"the layers cannot be listed: {error}"))
        return ()
    return inspection.layers + inspection.other_profiles
