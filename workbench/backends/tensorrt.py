"""TensorRT 8.6 to 11 on an NVIDIA GPU: builds for the GPU it runs on, and runs through PyCUDA."""

from __future__ import annotations

import hashlib
import importlib.util
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from workbench import precision
from workbench.backends import (
    Describe,
    Session,
    _nvidia,
    calibrators,
    check_builder_options,
    check_config,
    check_targets,
    nvidia_build,
    nvidia_parser,
    settle_profiles,
)
from workbench.backends.plan_record import PlanRecord, check_plan, read_plan_record, why_not_open, write_plan_record
from workbench.errors import BackendError, ConfigError
from workbench.layers import LayerInfo
from workbench.machine import Gpu, this_machine
from workbench.model import Model
from workbench.types import BuildConfig, Listener, LogLine, ModelSupport, Support, TensorSpec, ignore

PLAN = "engine.plan"
_PACKAGES = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11")
_COMMAND = "pip install 'tensorrt-workbench[gpu]'"
_BF16_SINCE, _AMPERE = (8, 0), (8, 0)
_NEEDS_RANGES = (
    "int8 needs the range of every activation: give a calibration table or samples, "
    "BuildConfig('int8', calibration=Calibration('samples.npz')), or a model with Q/DQ nodes."
)


@cache
def support() -> Support:
    release, gpu = _release(), _gpu()
    build_reason = _why_not(release, gpu)
    run_reason = build_reason or ("" if _has_pycuda() else f"PyCUDA is not installed: {_COMMAND}")
    able = _nvidia.abilities(release or "11")
    reasons = dict(able.precision_reasons)
    if gpu and "bf16" in able.precisions and _capability(gpu) < _BF16_SINCE:
        reasons["bf16"] = f"the {gpu.name} (compute capability {gpu.compute_capability}) has no bf16; choose fp16."
    return Support(
        backend="tensorrt",
        title="TensorRT",
        release=release,
        can_build=not build_reason,
        build_reason=build_reason,
        can_run=not run_reason,
        run_reason=run_reason,
        precisions=tuple(name for name in able.precisions if name not in reasons),
        precision_reasons=reasons,
        targets=able.targets,
        default_targets=("gpu",),
        precision_notes={"int8": "layers that have no int8 kernel, or a slower one, compute in fp16 or fp32."},
        builder_options=able.builder_options,
        one_target=True,
    )


def resolve(model: Model, config: BuildConfig) -> BuildConfig:
    here = _ready()
    check_config(here, model, config)
    config = replace(_settled(here, config), profiles=settle_profiles(model, config))
    precision.check_nodes(model, config)
    if config.precision != "int8":
        return config
    if model.is_quantized:
        if config.calibration is not None:
            raise ConfigError(f"{model.name} brings its ranges along (Q/DQ nodes); leave the calibration out.")
        return config
    if config.calibration is None:
        raise ConfigError(_NEEDS_RANGES)
    return replace(config, calibration=calibrators.check_calibration(model, config))


def resolve_network(config: BuildConfig) -> BuildConfig:
    """Layers are known when the description has run: wishes for their precision are checked then."""
    here = _ready()
    check_builder_options(here, config)
    return _settled(here, config)


def _ready() -> Support:
    here = support()
    if not here.can_build:
        raise BackendError(here.build_reason)
    return here


def _settled(here: Support, config: BuildConfig) -> BuildConfig:
    """Without what depends on a model."""
    check_targets(here, config)
    gpu, wish, able = _present_gpu(), config.builder, _nvidia.abilities(here.release or "")
    if len(config.targets) > 1:
        raise ConfigError(f"tensorrt builds for one target: choose one of {', '.join(here.targets)}.")
    if "ampere+" in config.targets and _capability(gpu) < _AMPERE:
        raise ConfigError(f"the {gpu.name} is older than Ampere: the target ampere+ cannot be built on it; choose gpu.")
    if wish.optimization_level is not None and not 0 <= wish.optimization_level <= 5:
        raise ConfigError(f"there is no optimization level {wish.optimization_level}; choose 0 to 5.")
    _check_names("tactic source", wish.tactic_sources, able.tactic_sources)
    _check_names("memory pool", wish.memory_pools, able.memory_pools)
    for name, size in [("workspace", config.workspace_bytes), *wish.memory_pools.items()]:
        if size is not None and not 0 < size < 2**48:
            raise ConfigError(f"a {name} of {size:,} bytes does not exist; write 512M or 1G.")
    if wish.dla_core is not None and (wish.dla_core < 0 or config.precision not in ("fp16", "int8")):
        raise ConfigError("a DLA computes in fp16 or int8, and its cores are counted from 0: choose another precision.")
    precision.check_mix(config, able.mixes)
    return replace(
        config,
        targets=config.targets or here.default_targets,
        keep_io_types=config.keep_io_types or config.precision not in precision.CONVERTED,
    )


def _check_names(what: str, names: Iterable[str], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"this release has no {what} {name!r}; choose among {', '.join(known)}.")


def ingredients(config: BuildConfig) -> dict[str, Any]:
    gpu = _present_gpu()
    found = {"release": _release(), "gpu": gpu.name, "compute_capability": gpu.compute_capability}
    if _is_converted(config):
        found["converter"] = precision.converter_release()
    if config.calibration is not None:
        found["calibration_content"] = _content(Path(config.calibration.path))
    return found


def _content(path: Path) -> str:
    """SHA-256, hexadecimal. Raises ConfigError."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
    except OSError as error:
        raise ConfigError(f"{path}: the calibration file cannot be read ({error.strerror}).") from error
    return digest.hexdigest()


def _is_converted(config: BuildConfig) -> bool:
    """Where typing is strong, lower precision is the model's business."""
    return config.precision in precision.CONVERTED and not _nvidia.abilities(_release() or "").weakly_typed


def check(model: Model, listener: Listener = ignore) -> ModelSupport:
    refusals = nvidia_parser.check(nvidia_api(), model, listener)
    return ModelSupport("tensorrt", not refusals, refusals)


def build(
    model: Model, config: BuildConfig, folder: Path, listener: Listener, *, caches: Path
) -> tuple[LayerInfo, ...]:
    with tempfile.TemporaryDirectory(dir=folder) as work:
        source = precision.converted(model, config, Path(work), listener) if _is_converted(config) else model
        return _built(nvidia_parser.parse(source), config, folder, listener, caches, source)


def build_network(
    describe: Describe, config: BuildConfig, folder: Path, listener: Listener, *, caches: Path
) -> tuple[LayerInfo, ...]:
    return _built(lambda api, network, log: describe(api, network), config, folder, listener, caches, None)


def _built(
    fill: nvidia_parser.Fill, config: BuildConfig, folder: Path, listener: Listener, caches: Path, model: Model | None
) -> tuple[LayerInfo, ...]:
    api, plan, gpu, release = nvidia_api(), folder / PLAN, _present_gpu(), _release() or ""
    timings = nvidia_build.timings_path(caches, config, release, gpu.name)
    built = nvidia_build.build_plan(api, fill, config, plan, listener, timings=timings)
    header = check_plan(plan, "tensorrt", ())
    record = PlanRecord(
        release=release,
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        target=config.targets[0],
        version_compatible=config.builder.version_compatible,
        refittable=config.builder.refittable,
        stripped=config.builder.strip_weights,
        inputs=_as_in_model(built.inputs, model.inputs if model else ()),
        outputs=_as_in_model(built.outputs, model.outputs if model else ()),
    )
    write_plan_record(plan, record)
    listener(LogLine("info", f"Plan of TensorRT {header.release} for the {gpu.name} (target {record.target})"))
    return nvidia_build.inspect_plan(api, plan, listener)


_FLOATS = ("float32", "float16", "bfloat16")


def _as_in_model(built: tuple[TensorSpec, ...], model: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """The network's inputs or outputs, with the model's types of integers and names of dimensions.

    Types of floats may have been lowered on purpose, and an ONNX file need not tell the shapes of its outputs.
    """
    told = {spec.name: spec for spec in model}
    specs = []
    for spec in built:
        own = told.get(spec.name, spec)
        shape = own.shape if len(own.shape) == len(spec.shape) else spec.shape
        specs.append(TensorSpec(spec.name, spec.dtype if spec.dtype in _FLOATS else own.dtype, shape))
    return tuple(specs)


def open(plan: Path, config: BuildConfig, *, threads: int | None = None, in_turns: bool = False) -> Session:
    """Refuses a plan of another release or for another GPU before it is deserialized."""
    here = support()
    if not here.can_run:
        raise BackendError(f"{plan.name} cannot run here: {here.run_reason.rstrip('.')}.")
    record = read_plan_record(plan)
    reason = why_not_open(plan, record, here.release or "", _present_gpu())
    if reason:
        raise BackendError(reason)
    from workbench.backends.nvidia_session import open_plan

    return open_plan(nvidia_api(), plan, record, config)


def nvidia_api() -> ModuleType:
    try:
        return import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise BackendError(f"tensorrt cannot be loaded: {error}. Install it again: {_COMMAND}") from error


# ---- this machine


def _release() -> str | None:
    if importlib.util.find_spec("tensorrt") is None:
        return None
    for package in _PACKAGES:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None


def _gpu() -> Gpu | None:
    return next(iter(this_machine().gpus), None)


def _present_gpu() -> Gpu:
    gpu = _gpu()
    if gpu is None:
        raise BackendError(support().build_reason)
    return gpu


def _has_pycuda() -> bool:
    return importlib.util.find_spec("pycuda") is not None


def _capability(gpu: Gpu) -> tuple[int, ...]:
    return tuple(int(part) for part in gpu.compute_capability.split("."))


def _why_not(release: str | None, gpu: Gpu | None) -> str:
    if gpu is None:
        driver = this_machine().cuda_version
        found = "no NVIDIA GPU was found" if driver is None else "the NVIDIA driver is there but shows no GPU"
        return (
            f"{found}, and TensorRT builds and runs on one only; use rtx to build for other machines, or onnxruntime."
        )
    if release is None:
        return f"TensorRT is not installed: {_COMMAND}"
    if _nvidia.is_too_old(release):
        return f"TensorRT {release} is too old, 8.6 is the oldest that works: {_COMMAND}"
    return ""
