"""TensorRT-RTX: NVIDIA engines built ahead of time on any x86-64 machine, with or without a GPU."""

from __future__ import annotations

import platform
import sys
import tempfile
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
    check_builder_options,
    check_config,
    check_targets,
    int8,
    nvidia_build,
    nvidia_parser,
    ready,
    settle_profiles,
)
from workbench.backends.plan_record import check_plan
from workbench.errors import BackendError, ConfigError
from workbench.layers import LayerInfo
from workbench.machine import Machine, this_machine
from workbench.model import Model
from workbench.types import BuildConfig, Listener, LogLine, ModelSupport, Support, ignore

PLAN = "engine.plan"
STARTS_SLOWLY = False
PORTABLE = ("sm80", "sm86", "sm89", "sm120", "sm121")
"""What RTX builds for when no target is named: one plan for Ampere to Blackwell."""
_TARGETS = ("sm75", *PORTABLE)
_PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")
_CUDA = (12, 9)
"""The oldest CUDA release of a driver that runs TensorRT-RTX 1.x."""


def support() -> Support:
    release, reason = _installed()
    return Support(
        backend="rtx",
        title="TensorRT-RTX",
        release=release,
        can_build=not reason,
        build_reason=reason,
        can_run=False,
        run_reason=reason or why_not_run(this_machine()),
        precisions=_PRECISIONS,
        precision_reasons={},
        targets=_TARGETS,
        default_targets=PORTABLE,
        precision_notes={"int8": int8.NOTE},
        builder_options=("layer_precisions",),
    )


def resolve(model: Model, config: BuildConfig) -> BuildConfig:
    check_config(ready(support()), config)
    precision.check_nodes(model, config)
    config = replace(_settled(config), profiles=settle_profiles(model, config))
    return int8.settled(model, config)


def resolve_network(config: BuildConfig) -> BuildConfig:
    check_builder_options(ready(support()), config)
    return _settled(config)


def _settled(config: BuildConfig) -> BuildConfig:
    """Without what depends on a model."""
    check_targets(support(), config)
    precision.check_mix(config, precision.MIXES)
    if "sm75" in config.targets and config.precision == "bf16":
        raise ConfigError("Turing (sm75) has no bf16: leave sm75 out of the targets, or choose fp16.")
    if config.workspace_bytes is not None and not 0 < config.workspace_bytes < 2**48:
        raise ConfigError(f"a workspace of {config.workspace_bytes:,} bytes does not exist; write 512M or 1G.")
    return replace(
        config,
        targets=tuple(name for name in _TARGETS if name in config.targets) or PORTABLE,
        keep_io_types=config.keep_io_types or config.precision not in precision.CONVERTED,
    )


def ingredients(config: BuildConfig) -> dict[str, Any]:
    converter = {"converter": precision.converter_release()} if config.precision in precision.CONVERTED else {}
    return {"release": _installed()[0], **converter, **int8.ingredients(config)}


def check(model: Model, listener: Listener = ignore) -> ModelSupport:
    refusals = nvidia_parser.check(nvidia_api(), model, listener)
    return ModelSupport("rtx", not refusals, refusals)


def build(
    model: Model, config: BuildConfig, folder: Path, listener: Listener, *, caches: Path
) -> tuple[LayerInfo, ...]:
    with tempfile.TemporaryDirectory(dir=folder) as work:
        source = int8.rewritten(model, config, Path(work), folder, listener)
        return _built(nvidia_parser.parse(source), replace(config, calibration=None), folder, listener)


def build_network(
    describe: Describe, config: BuildConfig, folder: Path, listener: Listener, *, caches: Path
) -> tuple[LayerInfo, ...]:
    return _built(lambda api, network, log: describe(api, network), config, folder, listener)


def _built(fill: nvidia_parser.Fill, config: BuildConfig, folder: Path, listener: Listener) -> tuple[LayerInfo, ...]:
    targets = () if config.targets == PORTABLE else config.targets  # RTX's own default set, in one smaller plan
    plan = folder / PLAN
    built = nvidia_build.build_plan(nvidia_api(), fill, replace(config, targets=targets), plan, listener)
    header = check_plan(plan, "rtx", config.targets)
    listener(LogLine("info", f"Plan of TensorRT-RTX {header.release} for {', '.join(header.targets)}"))
    return nvidia_build.listed_layers(built.layer_records, listener)


def open(plan: Path, config: BuildConfig, *, threads: int | None = None, in_turns: bool = False) -> Session:
    raise BackendError(
        f"{plan.name} cannot run here: {support().run_reason.rstrip('.')}. To run the model here, use onnxruntime."
    )


def nvidia_api() -> ModuleType:
    try:
        return import_module("tensorrt_rtx")
    except (ImportError, OSError) as error:
        raise BackendError(f"tensorrt_rtx cannot be loaded: {error}") from error


@cache
def _installed() -> tuple[str | None, str]:
    """The release, or the reason why there is none."""
    try:
        return version("tensorrt_rtx"), ""
    except PackageNotFoundError:
        pass
    machine = platform.machine().lower()
    if sys.platform not in ("linux", "win32") or machine not in ("x86_64", "amd64"):
        return None, f"NVIDIA has no TensorRT-RTX wheel for {platform.system()} on {machine}; use onnxruntime here."
    return None, "TensorRT-RTX is not installed: pip install tensorrt-rtx"


def why_not_run(machine: Machine) -> str:
    """RTX engines are built here for other machines; the sentence says what this one lacks to run them."""
    if machine.cuda_version is None:
        return "no NVIDIA GPU with a driver was found; engines are built for other machines."
    if tuple(int(part) for part in machine.cuda_version.split(".")) < _CUDA:
        wanted = ".".join(map(str, _CUDA))
        return f"the NVIDIA driver is too old: it supports CUDA {machine.cuda_version}, TensorRT-RTX needs {wanted}."
    if not machine.gpus:
        return "the NVIDIA driver is there but shows no GPU; engines are built for other machines."
    for gpu in machine.gpus:
        if "sm" + gpu.compute_capability.replace(".", "") in _TARGETS:
            return f"running RTX engines on the {gpu.name} is not part of this release; it builds them only."
    gpu = machine.gpus[0]
    return f"TensorRT-RTX does not support the {gpu.name} (compute capability {gpu.compute_capability})."
