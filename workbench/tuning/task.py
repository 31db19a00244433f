"""Task: all that a worker must know to try candidates, and how a candidate becomes feeds and a configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from workbench.sharding.parcels import Parcel
from workbench.timing import Timing
from workbench.tuning.candidate import Candidate
from workbench.tuning.goals import Goals
from workbench.types import (
    BuildConfig,
    BuilderOptions,
    Calibration,
    Feeds,
    OptimizationProfile,
    Shape,
    ShapeRange,
    TensorSpec,
    profile_to_json,
)

TIMING = Timing(200, limit_s=1.5)
LOOK = Timing(12, limit_s=0.3)
"""A short look, after which a hopeless candidate is given up."""
LOOK_SAMPLES = 64


@dataclass(frozen=True)
class Task:
    """model, samples, calibration: files by content; samples are those on which outputs are compared, and the first of
    them are timed. shapes: of the inputs, of one row. values: the content of inputs that hold sizes. order: nodes,
    those that int8 harms most first. profiles: sets of them by name. on_gpu_clock: latency is the GPU's own time; else
    from host to host, which is the same for every back end. fixed_batch: the model takes no other.
    """

    model: Parcel
    shapes: Mapping[str, Shape]
    goals: Goals
    samples: Parcel | None = None
    calibration: Parcel | None = None
    order: tuple[str, ...] = ()
    profiles: Mapping[str, tuple[OptimizationProfile, ...]] = field(default_factory=dict)
    values: Mapping[str, Shape] = field(default_factory=dict)
    on_gpu_clock: bool = False
    fixed_batch: int | None = None
    timing: Timing = TIMING
    look: Timing = LOOK

    @property
    def parcels(self) -> tuple[Parcel, ...]:
        return tuple(filter(None, (self.model, self.samples, self.calibration)))

    @cached_property
    def key(self) -> str:
        """Equal for tasks in which every candidate is measured and judged alike."""
        return _digest([self._measured, self._judged])

    def trial_id(self, candidate: Candidate, place: str, *, judged: bool = False) -> str:
        """12 hexadecimal digits: of a candidate, measured so, at a Ground.place, whatever others of the task need.
        judged: also by these goals, which decide what is given up early."""
        needless = {
            "calibration": candidate.precision != "int8",
            "order": not candidate.in_float,
            "profiles": not candidate.profiles,
        }
        measured = {name: value for name, value in self._measured.items() if not needless.get(name)}
        return _digest([measured, self._judged if judged else None, candidate.key, place])[:12]

    @cached_property
    def _judged(self) -> dict[str, Any]:
        limits = [asdict(item) for item in self.goals.limits]
        return {"objectives": self.goals.objectives, "limits": limits, "look": asdict(self.look)}

    @cached_property
    def _measured(self) -> dict[str, Any]:
        return {
            "model": self.model.key,
            "samples": self.samples.key if self.samples else None,
            "calibration": self.calibration.key if self.calibration else None,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "values": {name: list(shape) for name, shape in self.values.items()},
            "order": list(self.order),
            "profiles": {name: [profile_to_json(item) for item in found] for name, found in self.profiles.items()},
            "metric": self.goals.metric,
            "on_gpu_clock": self.on_gpu_clock,
            "timing": asdict(self.timing),
        }

    def ranges_key(self, candidate: Candidate) -> str:
        """Equal for candidates whose model has the same Q/DQ nodes."""
        calibration = self.calibration.key if self.calibration else ""
        return _digest([self.model.key, calibration, candidate.algorithm, list(self.in_float(candidate))])

    def in_float(self, candidate: Candidate) -> tuple[str, ...]:
        """The nodes that this candidate leaves in float."""
        return self.order[: candidate.in_float]

    def rows(self, feeds: Feeds, batch: int) -> dict[str, np.ndarray]:
        """`batch` rows of these feeds, repeated where there are fewer."""
        if self.fixed_batch is not None:
            return dict(feeds)
        rows = max(array.shape[0] for array in feeds.values())
        return {name: array[np.arange(batch) % rows] for name, array in feeds.items()}


def config_of(task: Task, candidate: Candidate, inputs: tuple[TensorSpec, ...], calibration: str | None) -> BuildConfig:
    """inputs: of the model. calibration: where the file lies on this machine."""
    wanted = None
    if candidate.precision == "int8" and calibration is not None:
        wanted = Calibration(calibration, candidate.algorithm or Calibration.algorithm)
    return BuildConfig(
        precision=candidate.precision,
        profiles=task.profiles.get(candidate.profiles) or _timed_profile(task, candidate.batch, inputs),
        workspace_bytes=candidate.workspace_bytes,
        calibration=wanted,
        builder=BuilderOptions(
            optimization_level=candidate.optimization_level, tactic_sources=candidate.tactic_sources
        ),
    )


def with_float_layers(config: BuildConfig, nodes: tuple[str, ...]) -> BuildConfig:
    """Where TensorRT can be told the precision of single layers."""
    precisions = dict.fromkeys(nodes, "fp16")
    return replace(config, builder=replace(config.builder, layer_precisions=precisions))


def _timed_profile(task: Task, batch: int, inputs: tuple[TensorSpec, ...]) -> tuple[OptimizationProfile, ...]:
    """From one row to what is timed; none where all shapes are fixed."""
    ranges = {}
    for spec in inputs:
        if not spec.open_axes:
            continue
        least = tuple(task.shapes[spec.name])
        most = least if task.fixed_batch is not None else (batch, *least[1:])
        ranges[spec.name] = ShapeRange(least, most, most)
    values = {name: ShapeRange(content, content, content) for name, content in task.values.items()}
    return (OptimizationProfile(ranges, values),) if ranges or values else ()


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
