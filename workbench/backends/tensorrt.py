"""TensorRT 8.6 to 11 on an NVIDIA GPU: builds for the GPU it runs on, and runs through PyCUDA."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from workbench import precision
from workbench.backends import Describe, Session, _nvidia, calibrators, int8, nvidia_build, nvidia_parser, ready
from workbench.backends.plan_record import PlanRecord, check_plan, read_plan_record, why_not_open, write_plan_record
from workbench.backends.tensorrt_config import COMMAND, resolve_network_on, resolve_on, support_on
from workbench.backends.timing_cache import cache_path
from workbench.errors import BackendError
from workbench.layers import LayerInfo
from workbench.machine import Gpu, this_machine
from workbench.model import Model
from workbench.types import BuildConfig, Listener, LogLine, ModelSupport, Support, TensorSpec, ignore

PLAN = "engine.plan"
STARTS_SLOWLY = True
_PACKAGES = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11")


@cache
def support() -> Support:
    return support_on(this_machine(), _release(), has_pycuda=importlib.util.find_spec("pycuda") is not None)


def resolve(model: Model, config: BuildConfig) -> BuildConfig:
    return resolve_on(ready(support()), _gpu(), model, config)


def resolve_network(config: BuildConfig) -> BuildConfig:
    return resolve_network_on(ready(support()), _gpu(), config)


def ingredients(config: BuildConfig) -> dict[str, Any]:
    gpu = _gpu()
    found = {"release": _release(), "gpu": gpu.name, "compute_capability": gpu.compute_capability}
    if _is_weakly_typed():
        return found if config.calibration is None else {**found, **int8.content(config.calibration)}
    if config.precision in precision.CONVERTED:
        found["converter"] = precision.converter_release()
    return {**found, **int8.ingredients(config)}


def _is_weakly_typed() -> bool:
    """Where typing is strong, lower precision is the model's business."""
    return _nvidia.abilities(_release() or "").weakly_typed


def check(model: Model, listener: Listener = ignore) -> ModelSupport:
    refusals = nvidia_parser.check(nvidia_api(), model, listener)
    return ModelSupport("tensorrt", not refusals, refusals)


def build(
    model: Model, config: BuildConfig, folder: Path, listener: Listener, *, caches: Path
) -> tuple[LayerInfo, ...]:
    with tempfile.TemporaryDirectory(dir=folder) as work:
        if _is_weakly_typed():
            source, config = model, calibrators.with_table(model, config, folder, listener)
        else:
            source = int8.rewritten(model, config, Path(work), folder, listener)
            config = replace(config, calibration=None)
        return _built(nvidia_parser.parse(source), config, folder, listener, caches, source)


def build_network(
    describe: Describe, config: BuildConfig, folder: Path, listener: Listener, *, caches: Path
) -> tuple[LayerInfo, ...]:
    return _built(lambda api, network, log: describe(api, network), config, folder, listener, caches, None)


def _built(
    fill: nvidia_parser.Fill, config: BuildConfig, folder: Path, listener: Listener, caches: Path, model: Model | None
) -> tuple[LayerInfo, ...]:
    api, plan, gpu, release = nvidia_api(), folder / PLAN, _gpu(), _release() or ""
    timings = cache_path(caches, release, gpu.name) if config.builder.timing_cache else None
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


def _as_in_model(built: tuple[TensorSpec, ...], model: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """The network's inputs or outputs, with the model's types and names of dimensions.

    float32 may have been lowered on purpose, and an ONNX file need not tell the shapes of its outputs.
    """
    told = {spec.name: spec for spec in model}
    specs = []
    for spec in built:
        own = told.get(spec.name, spec)
        shape = own.shape if len(own.shape) == len(spec.shape) else spec.shape
        specs.append(TensorSpec(spec.name, spec.dtype if own.dtype == "float32" else own.dtype, shape))
    return tuple(specs)


def open(plan: Path, config: BuildConfig, *, threads: int | None = None, in_turns: bool = False) -> Session:
    """Refuses a plan of another release or for another GPU before it is deserialized."""
    here = support()
    if not here.can_run:
        raise BackendError(f"{plan.name} cannot run here: {here.run_reason.rstrip('.')}.")
    record = read_plan_record(plan)
    reason = why_not_open(plan, record, here.release or "", _gpu())
    if reason:
        raise BackendError(reason)
    from workbench.backends.nvidia_engine import deserialize
    from workbench.backends.nvidia_session import NvidiaSession

    return NvidiaSession(deserialize(nvidia_api(), plan, record), record, config.profiles)


def nvidia_api() -> ModuleType:
    try:
        return import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise BackendError(f"tensorrt cannot be loaded: {error}. Install it again: {COMMAND}") from error


# ---- this machine


def _release() -> str | None:
    """Of the installed TensorRT, without importing it."""
    if importlib.util.find_spec("tensorrt") is None:
        return None
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            return version(package)
    return None


def _gpu() -> Gpu:
    """The one that TensorRT uses: the first that this process sees."""
    gpus = this_machine().gpus
    if not gpus:
        raise BackendError(support().build_reason)
    return gpus[0]
