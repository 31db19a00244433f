"""Plan: what a search shall do, made ready: ranges collected, layers put in order, samples packed."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from workbench.backends import NETWORK_NAMES
from workbench.calibration.collect import fixed_batch
from workbench.calibration.samples import Samples, open_samples, read_samples
from workbench.errors import ConfigError
from workbench.model import Model
from workbench.preprocessing import Preprocessing
from workbench.profiles import check_profile, opt_shapes, opt_values
from workbench.qdq import quantizable
from workbench.sharding.parcels import pack
from workbench.timing import Timing
from workbench.tuning.goals import Goals
from workbench.tuning.ground import Ground
from workbench.tuning.materials import Gather, Materials, gather_here
from workbench.tuning.space import Rules, Space
from workbench.tuning.task import LOOK, TIMING, Task
from workbench.types import Feeds, Listener, OptimizationProfile, TensorSpec, ignore

CALIBRATED = 256
"""Samples that ranges are collected from; the others serve for the comparison of outputs."""
COMPARED = 1000


@dataclass(frozen=True)
class Data:
    """Samples for calibration and comparison, which are different ones.

    source, preprocessing: as calibration.samples.open_samples takes them, or what it gave. compared: on so many
    outputs are compared, None for all that are left. calibrated: from so many ranges are collected. calibration: a
    file with ranges that are there already.
    """

    source: Samples | str | Path | Iterable[Feeds] | Mapping[str, Any] | None = None
    preprocessing: Preprocessing | None = None
    calibration: str | None = None
    calibrated: int = CALIBRATED
    compared: int | None = COMPARED

    @property
    def has_ranges(self) -> bool:
        """Whether there is something to find ranges for int8 in."""
        return self.source is not None or self.calibration is not None


@dataclass(frozen=True)
class Plan:
    """task: for the workers. space: what is searched. inputs: of the model. calibration: where its file lies here.
    data: the samples in words. batches: what the sets of profiles take, smallest and largest, by name. again: code that
    makes the same search, by title."""

    task: Task
    space: Space
    model_name: str
    inputs: tuple[TensorSpec, ...]
    is_quantized: bool
    calibration: str | None = None
    data: str = ""
    sampler: str = "auto"
    batches: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    again: Mapping[str, str] = field(default_factory=dict)

    @property
    def goals(self) -> Goals:
        return self.task.goals

    @cached_property
    def id(self) -> str:
        """12 hexadecimal digits: the same search, whenever it is started."""
        told = {name: value for name, value in asdict(self.space).items() if name != "profiles"}
        text = json.dumps([self.task.key, told, list(self.space.profiles), self.sampler], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def rules(self, ground: Ground) -> Rules:
        return Rules(
            ground,
            is_quantized=self.is_quantized,
            has_ranges=self.calibration is not None,
            layers=len(self.task.order),
            fixed_batch=self.task.fixed_batch,
            batches=self.batches,
        )


def make_plan(
    model: Model,
    space: Space,
    goals: Goals | None = None,
    data: Data | None = None,
    *,
    profile: OptimizationProfile | None = None,
    timing: Timing = TIMING,
    look: Timing = LOOK,
    sampler: str = "auto",
    gather: Gather = gather_here,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Plan:
    """Collect ranges where int8 is in the space, put layers in order where some may stay in float, pack the samples.

    What was collected before, from the same samples, is taken from the store. profile: whose opt shapes are timed where
    there are no samples. gather: collects ranges, here or on a cluster.

    Raises ConfigError, ShapeError, FeedError, Cancelled.
    """
    goals, data = goals or Goals(), data or Data()
    for found in space.profiles.values():
        for item in found:
            check_profile(model.inputs, item)
    if profile is not None:
        check_profile(model.inputs, profile)
    samples = _opened(model, data)
    if goals.metric in ("top1", "top5") and (samples is None or not samples.has_labels):
        raise ConfigError(f"{goals.metric} needs samples with labels: give data that have some, or limit accuracy.")
    given = () if profile is None else (profile,)
    shapes, values = dict(opt_shapes(model.inputs, given)), dict(opt_values(given))
    materials = Materials(model, samples, data.calibration, (data.calibrated, data.compared), gather, listener, cancel)
    fixed = fixed_batch(model)
    if samples is not None:
        first = next(read_samples(samples, range(len(samples)), skipped=[]))  # one that can be read
        shapes = {name: array.shape for name, array in first.feeds.items()}
    elif fixed is None:
        shapes = {name: (1, *shape[1:]) for name, shape in shapes.items()}
    space, calibration = materials.ranges(space)
    order = materials.order(space, calibration)
    task = Task(
        model=pack(model),
        shapes=shapes,
        goals=goals,
        samples=pack(materials.packed(calibration)) if samples is not None else None,
        calibration=None if calibration is None else pack(calibration),
        order=order,
        profiles={name: found for name, found in space.profiles.items() if name},
        values=values,
        on_gpu_clock=all(name in NETWORK_NAMES for name in space.backend),
        fixed_batch=fixed,
        timing=timing,
        look=look,
    )
    return Plan(
        task, space, model.name, model.inputs, model.is_quantized, calibration,
        "" if samples is None else samples.about, sampler,
        {name: _reach(found, model) for name, found in space.profiles.items() if name},
    )  # fmt: skip


def _opened(model: Model, data: Data) -> Samples | None:
    source: Any = data.source
    if source is None or all(hasattr(source, name) for name in ("about", "id_of", "read")):
        found: Samples | None = source
        return found
    return open_samples(source, model, data.preprocessing)


def _reach(profiles: tuple[OptimizationProfile, ...], model: Model) -> tuple[int, int]:
    """The smallest and largest batch that one of the profiles takes."""
    axes = [spec.name for spec in model.inputs if 0 in spec.open_axes]
    ranges = [item.ranges[name] for item in profiles for name in axes if name in item.ranges]
    if not ranges:
        return 1, 1 << 30
    return min(item.min[0] for item in ranges), max(item.max[0] for item in ranges)


def usual_space(ground: Ground, model: Model, *, has_data: bool) -> Space:
    """What is worth trying on such a machine: what its back ends can build and run, and a few values of the rest."""
    running = tuple(name for name, item in ground.supports.items() if item.can_build and item.can_run)
    if not running:
        raise ConfigError(f"no back end can both build and run on {ground.host}; see `workbench backends`.")
    precisions = [
        name
        for name in ("fp32", "fp16", "int8")
        if any(name in ground.supports[item].precisions for item in running)
        and (name != "int8" or has_data or model.is_quantized)
    ]
    nvidia = any(name in NETWORK_NAMES for name in running)
    layers = len(quantizable(model)) if "int8" in precisions and not model.is_quantized else 0
    cores = ground.machine.cores
    return Space(
        backend=running,
        precision=tuple(precisions),
        algorithm=("entropy", "minmax", "percentile"),
        in_float=tuple(sorted({0, *(count for count in (1, 2, 4) if count < layers)})),
        optimization_level=(None, 5) if nvidia else (None,),
        cuda_graph=(True, False) if nvidia else (True,),
        threads=tuple(dict.fromkeys((None, 1, *([cores // 2] if cores > 3 else [])))),
    )
