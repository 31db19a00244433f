"""The plain, frozen values that flow through the workbench."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from workbench.errors import ConfigError

Dim = int | str | None
"""A fixed size, the name of an open dimension, or None: open and nameless. Equal names mean equal sizes."""

Shape = tuple[int, ...]
Feeds = Mapping[str, np.ndarray]
"""Arrays on the host by tensor name."""

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")
SEVERITIES = ("error", "warning", "info", "verbose")


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: `dtype` is numpy's name for it ('float32', 'bfloat16')."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]

    @property
    def open_axes(self) -> tuple[int, ...]:
        return tuple(axis for axis, dim in enumerate(self.shape) if not isinstance(dim, int))

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join('?' if dim is None else str(dim) for dim in self.shape)}]"


@dataclass(frozen=True)
class ShapeRange:
    """The shapes an engine must take for one input: smallest, the one it is tuned for, largest."""

    min: Shape
    opt: Shape
    max: Shape


@dataclass(frozen=True)
class OptimizationProfile:
    """A ShapeRange for every input with open dimensions, by input name.

    values: for inputs from whose content sizes are computed, the smallest, usual and largest content, flattened.
    """

    ranges: Mapping[str, ShapeRange]
    values: Mapping[str, ShapeRange] = field(default_factory=dict)


COMPUTED = ("entropy", "minmax", "percentile", "mse")
"""The algorithms that a collection serves; 'legacy' is TensorRT's own."""
CALIBRATORS = (*COMPUTED, "legacy")
TABLE_FORMATS = ("trt-cache", "ranges", "ort", "qdq")


@dataclass(frozen=True)
class Calibration:
    """Where int8 takes the ranges of activations from.

    path: a collection (`*.calib`), a calibration table of any form, or .npz with samples: one array per input, the
    samples along its first axis. algorithm: how ranges are found, one of CALIBRATORS; a table tells its own. 'legacy'
    is TensorRT's own alone, up to release 10, and takes samples.
    """

    path: str
    algorithm: str = "entropy"


@dataclass(frozen=True)
class BuilderOptions:
    """What only NVIDIA's builder can be told; the defaults leave it its own choice.

    optimization_level: 0 (quick to build) to 5 (searches longest). tactic_sources: the only ones it may use, named as
    TensorRT does ('cublas', 'jit_convolutions'); empty for its own set. memory_pools: most bytes of a pool besides the
    workspace ('tactic_dram', 'dla_local_dram'). timing_cache: reuse what earlier builds on this GPU measured.
    version_compatible: later releases can open the plan too. refittable: its weights can be exchanged. strip_weights:
    the plan holds no weights, and is for programs that put them in (refit); sessions here do not. dla_core: this DLA
    core runs what it can, the GPU the rest. layer_precisions: 'fp32', 'fp16', 'int8' by ONNX node name, in place of
    BuildConfig.precision.
    """

    optimization_level: int | None = None
    tactic_sources: tuple[str, ...] = ()
    memory_pools: Mapping[str, int] = field(default_factory=dict)
    timing_cache: bool = True
    version_compatible: bool = False
    refittable: bool = False
    strip_weights: bool = False
    dla_core: int | None = None
    layer_precisions: Mapping[str, str] = field(default_factory=dict)

    @property
    def changed(self) -> tuple[str, ...]:
        """The names of those that are not left at their default."""
        usual = BuilderOptions()
        return tuple(item.name for item in fields(self) if getattr(self, item.name) != getattr(usual, item.name))


@dataclass(frozen=True)
class BuildConfig:
    """What the user wishes; a back end's `resolve` says what it will really build.

    precision: one of PRECISIONS. targets: what the engine shall run on ('sm89', 'sm120' for RTX; 'gpu', 'ampere+' for
    TensorRT; 'cpu', 'cuda' for ONNX Runtime), empty for the back end's default. keep_io_types: inputs and outputs keep
    the model's types. calibration: for int8, unless the model brings its ranges along.
    """

    precision: str = "fp32"
    profiles: tuple[OptimizationProfile, ...] = ()
    workspace_bytes: int | None = None
    targets: tuple[str, ...] = ()
    keep_io_types: bool = True
    calibration: Calibration | None = None
    builder: BuilderOptions = BuilderOptions()


@dataclass(frozen=True)
class Progress:
    """A step of a build. `total` is None where the back end does not tell; then only elapsed time is shown."""

    phase: str
    done: int
    total: int | None
    parent: str | None = None

    @property
    def finished(self) -> bool:
        return self.total is not None and self.done >= self.total


@dataclass(frozen=True)
class LogLine:
    """A line of a build log; `severity` is one of SEVERITIES."""

    severity: str
    text: str


Listener = Callable[[Progress | LogLine], None]


def ignore(event: Progress | LogLine) -> None:
    """The listener of those who do not listen."""


def under(phase: str, listener: Listener) -> Listener:
    """Hears phases that are part of no other as parts of the one called `phase`."""

    def hear(event: Progress | LogLine) -> None:
        listener(replace(event, parent=event.parent or phase) if isinstance(event, Progress) else event)

    return hear


@dataclass(frozen=True)
class Support:
    """What a back end can do on this machine. A reason is a sentence for the user, and empty where the answer is yes.

    precisions: those it can fulfil, with the reason for every other one in `precision_reasons`.
    targets: what may stand in BuildConfig.targets. takes_any_shape: profiles have no effect.
    precision_notes: what to know about a precision that it does fulfil. builder_options: the fields of BuilderOptions
    that it takes. one_target: targets exclude one another.
    """

    backend: str
    title: str
    release: str | None
    can_build: bool
    build_reason: str
    can_run: bool
    run_reason: str
    precisions: tuple[str, ...] = ()
    precision_reasons: Mapping[str, str] | None = None
    targets: tuple[str, ...] = ()
    default_targets: tuple[str, ...] = ()
    takes_any_shape: bool = False
    precision_notes: Mapping[str, str] | None = None
    builder_options: tuple[str, ...] = ()
    one_target: bool = False


@dataclass(frozen=True)
class Refusal:
    """A node that a back end does not take."""

    node: str
    op_type: str
    reason: str


@dataclass(frozen=True)
class ModelSupport:
    """Whether a back end takes a whole model, and the nodes it refuses."""

    backend: str
    supported: bool
    refusals: tuple[Refusal, ...] = ()


def parse_size(text: str) -> int:
    """'512M' -> 536870912; units K, M, G, T of 1024, bytes without one. Raises ConfigError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?\s*", text, re.IGNORECASE)
    if not match:
        raise ConfigError(f"{text!r} is not a size; write bytes, or 512M, or 1G.")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def format_size(size: int) -> str:
    """1073741824 -> '1 GiB', as short as it can be said exactly."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << power and size % (1 << power) == 0:
            return f"{size >> power:,} {unit}"
    return f"{size:,} bytes"


BOUNDS = ("min", "opt", "max")


def count_of(number: int, word: str) -> str:
    """1, 'layer' -> '1 layer'; 1200, 'layer' -> '1,200 layers'."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def profile_to_json(profile: OptimizationProfile) -> dict[str, dict[str, list[int]]]:
    data: dict[str, dict[str, list[int]]] = {}
    for ranges, suffix in ((profile.ranges, ""), (profile.values, "_values")):
        for name, item in ranges.items():
            data.setdefault(name, {}).update((bound + suffix, list(getattr(item, bound))) for bound in BOUNDS)
    return dict(sorted(data.items()))


def profile_from_json(data: Mapping[str, Mapping[str, list[int]]]) -> OptimizationProfile:
    ranges, values = (
        {
            name: ShapeRange(*(tuple(item[bound + suffix]) for bound in BOUNDS))
            for name, item in data.items()
            if "min" + suffix in item
        }
        for suffix in ("", "_values")
    )
    return OptimizationProfile(ranges, values)


def config_to_json(config: BuildConfig) -> dict[str, Any]:
    return {
        "precision": config.precision,
        "profiles": [profile_to_json(profile) for profile in config.profiles],
        "workspace_bytes": config.workspace_bytes,
        "targets": list(config.targets),
        "keep_io_types": config.keep_io_types,
        "calibration": asdict(config.calibration) if config.calibration else None,
        "builder": asdict(config.builder),
    }


def config_from_json(data: Mapping[str, Any]) -> BuildConfig:
    return BuildConfig(
        precision=data["precision"],
        profiles=tuple(profile_from_json(item) for item in data["profiles"]),
        workspace_bytes=data["workspace_bytes"],
        targets=tuple(data["targets"]),
        keep_io_types=data["keep_io_types"],
        calibration=Calibration(**data["calibration"]) if data["calibration"] else None,
        builder=BuilderOptions(**{**data["builder"], "tactic_sources": tuple(data["builder"]["tactic_sources"])}),
    )
