"""What TensorRT can do on a machine, and what it will really build there: plain functions of release, GPU and wish."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from workbench import precision
from workbench.backends import (
    _nvidia,
    calibrators,
    check_builder_options,
    check_config,
    check_targets,
    int8,
    settle_profiles,
)
from workbench.errors import ConfigError
from workbench.machine import Gpu, Machine
from workbench.model import Model
from workbench.types import BuildConfig, Support

COMMAND = "make gpu"
_BF16_SINCE = _AMPERE = (8, 0)
_INT8 = (
    "layers that have no int8 kernel, or a slower one, compute in fp16 or fp32; ranges come from a calibration, or "
    "with the model (Q/DQ nodes)."
)


def support_on(machine: Machine, release: str | None, *, has_pycuda: bool) -> Support:
    """release: of the installed TensorRT, None without one; its abilities are then those of the newest."""
    gpu = machine.gpus[0] if machine.gpus else None
    build_reason = _why_not(machine, release)
    run_reason = build_reason or ("" if has_pycuda else f"PyCUDA is not installed: {COMMAND}")
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
        precision_notes={"int8": _INT8 if able.weakly_typed else int8.NOTE},
        builder_options=able.builder_options,
        one_target=True,
    )


def _why_not(machine: Machine, release: str | None) -> str:
    if not machine.gpus:
        found = "the NVIDIA driver is there but shows no GPU" if machine.cuda_version else "no NVIDIA GPU was found"
        return (
            f"{found}, and TensorRT builds and runs on one only; use rtx to build for other machines, or onnxruntime."
        )
    if release is None:
        return f"TensorRT is not installed: {COMMAND}"
    if _nvidia.is_too_old(release):
        return f"TensorRT {release} is too old, 8.6 is the oldest that works: {COMMAND}"
    return ""


def _capability(gpu: Gpu) -> tuple[int, ...]:
    return tuple(int(part) for part in gpu.compute_capability.split("."))


def resolve_on(here: Support, gpu: Gpu, model: Model, config: BuildConfig) -> BuildConfig:
    """As Backend.resolve, for a back end that can do what `here` says and this GPU."""
    check_config(here, config)
    precision.check_nodes(model, config)
    config = replace(_settled(here, gpu, config), profiles=settle_profiles(model, config))
    if not _nvidia.abilities(here.release or "").weakly_typed:
        return int8.settled(model, config)
    if config.precision != "int8":
        return config
    return replace(config, calibration=calibrators.check_calibration(model, config))


def resolve_network_on(here: Support, gpu: Gpu, config: BuildConfig) -> BuildConfig:
    """As NetworkBackend.resolve_network. The layers are known when the description has run; the builder asks for
    those that are to compute in another precision then."""
    check_builder_options(here, config)
    return _settled(here, gpu, config)


def _settled(here: Support, gpu: Gpu, config: BuildConfig) -> BuildConfig:
    """Without what depends on a model."""
    check_targets(here, config)
    if len(config.targets) > 1:
        raise ConfigError(f"tensorrt builds for one target: choose one of {', '.join(here.targets)}.")
    if "ampere+" in config.targets and _capability(gpu) < _AMPERE:
        raise ConfigError(f"the {gpu.name} is older than Ampere: the target ampere+ cannot be built on it; choose gpu.")
    _check_options(config, _nvidia.abilities(here.release or ""))
    return replace(
        config,
        targets=config.targets or here.default_targets,
        keep_io_types=config.keep_io_types or config.precision not in precision.CONVERTED,
    )


def _check_options(config: BuildConfig, able: _nvidia.Abilities) -> None:
    wish = config.builder
    if wish.optimization_level is not None and not 0 <= wish.optimization_level <= 5:
        raise ConfigError(f"there is no optimization level {wish.optimization_level}; choose 0 to 5.")
    _check_names("tactic source", wish.tactic_sources, able.tactic_sources)
    _check_names("memory pool", wish.memory_pools, able.memory_pools)
    for name, size in [("workspace", config.workspace_bytes), *wish.memory_pools.items()]:
        if size is not None and not 0 < size < 2**48:
            raise ConfigError(f"a {name} of {size:,} bytes does not exist; write 512M or 1G.")
    if wish.dla_core is not None and wish.dla_core < 0:
        raise ConfigError(f"there is no DLA core {wish.dla_core}; they are counted from 0.")
    if wish.dla_core is not None and config.precision not in ("fp16", "int8"):
        raise ConfigError(
            f"a DLA computes in fp16 or int8, not in {config.precision}: choose one, or leave dla_core out."
        )
    precision.check_mix(config, able.mixes)


def _check_names(what: str, names: Iterable[str], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"this release has no {what} {name!r}; choose among {', '.join(known)}.")
