"""Measurement: raw times and where they are from; all that is said of them is derived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from workbench.accuracy import Interval
from workbench.conditions import Conditions, conditions_from_json
from workbench.machine import Machine, machine_from_json
from workbench.timing.statistics import drift, independent_runs, median_interval, quantile_ms
from workbench.types import Shape, count_of

FEW_RUNS = 10
"""So many independent runs at least make an interval worth its name."""
_DRIFT = 0.05


@dataclass(frozen=True)
class Measurement:
    """times_ms: one per iteration, in the order of their taking, after `warmup` runs that are not counted.

    shapes: of the inputs, by name. name: what was measured. host_times_ms: on a GPU as many runs again, from arrays on
    the host to arrays on the host, by `host_clock`. settled: whether the times had settled when the warm-up ended.
    copies: whether `times_ms` holds the copies between host and GPU; None where there is no GPU. cuda_graph: whether
    one was replayed. threads: processors that one run may use. rivals: names of what was measured in turns with it.
    layer_times_ms: of every layer that the back end times, one for each of some more runs. releases: of whatever took
    part, by name.
    """

    times_ms: tuple[float, ...]
    warmup: int
    shapes: Mapping[str, Shape]
    clock: str
    machine: Machine
    host_times_ms: tuple[float, ...] = ()
    host_clock: str = ""
    name: str = ""
    settled: bool = True
    copies: bool | None = None
    cuda_graph: bool | None = None
    threads: int | None = None
    rivals: tuple[str, ...] = ()
    conditions: Conditions | None = None
    releases: Mapping[str, str] = field(default_factory=dict)
    layer_times_ms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """Pictures (or rows) per run: the first dimension of the first input that has one."""
        return next((shape[0] for shape in self.shapes.values() if shape), 1)

    @property
    def inputs(self) -> str:
        """What went in: 'image 1x3x224x224'."""
        return ", ".join(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in self.shapes.items())

    @cached_property
    def median(self) -> Interval:
        """In ms, with its 95 % confidence interval; results whose intervals overlap are not ranked."""
        return median_interval(self.times_ms)

    @cached_property
    def host_median(self) -> Interval | None:
        return median_interval(self.host_times_ms) if self.host_times_ms else None

    @property
    def median_ms(self) -> float:
        return float(np.median(self.times_ms))

    @property
    def host_median_ms(self) -> float | None:
        """None where no GPU was measured."""
        return float(np.median(self.host_times_ms)) if self.host_times_ms else None

    @property
    def mean_ms(self) -> float:
        return float(np.mean(self.times_ms))

    @property
    def p90_ms(self) -> float:
        return quantile_ms(self.times_ms, 0.90)

    @property
    def p99_ms(self) -> float:
        """The time that 99 % of the runs do not exceed; one that was measured, never interpolated."""
        return quantile_ms(self.times_ms, 0.99)

    @property
    def throughput_per_s(self) -> float:
        """Pictures (or rows) per second, one run after the other: batch over mean time."""
        return self.batch / self.mean_ms * 1000

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the times may not be what they seem, in sentences."""
        found = list(self.conditions.warnings) if self.conditions else []
        if not self.settled:
            found.append("The times had not settled when the warm-up ended.")
        moved = drift(self.times_ms)
        if abs(moved) > _DRIFT:
            found.append(f"The times drifted by {100 * moved:+.0f} % from the first third of the runs to the last.")
        alone = independent_runs(self.times_ms)
        if alone < FEW_RUNS:
            found.append(
                f"{count_of(len(self.times_ms), 'run')} tell as much as {alone:.1f} independent ones; run longer."
            )
        return tuple(found)

    @property
    def clocked(self) -> str:
        """What was counted, by whom: clock, copies, graph, threads."""
        copies = {None: "", True: "copies included", False: "copies not counted"}[self.copies]
        graph = {None: "", True: "CUDA graph", False: "no CUDA graph"}[self.cuda_graph]
        threads = count_of(self.threads, "thread") if self.threads else ""
        return ", ".join(filter(None, (self.clock, copies, graph, threads)))

    @property
    def released(self) -> str:
        """'onnxruntime 1.23.0, numpy 2.3.0'."""
        return ", ".join(f"{name} {release}" for name, release in self.releases.items())

    @property
    def provenance(self) -> str:
        """How and where, in a few sentences: clock, copies, graph, threads, conditions, releases, machine."""
        rivals = f"in turns with {', '.join(self.rivals)}" if self.rivals else ""
        how = ", ".join(filter(None, (self.clocked, rivals)))
        return ". ".join(filter(None, (how, str(self.conditions or ""), self.released, str(self.machine))))

    def to_json(self) -> dict[str, Any]:
        """Raw times and provenance; derived numbers are not in it."""
        return asdict(self)


def measurement_from_json(data: Mapping[str, Any]) -> Measurement:
    """The inverse of Measurement.to_json."""
    conditions = data["conditions"]
    values = {
        **data,
        "machine": machine_from_json(data["machine"]),
        "conditions": conditions_from_json(conditions) if conditions else None,
        "shapes": {name: tuple(shape) for name, shape in data["shapes"].items()},
        "layer_times_ms": {name: tuple(times) for name, times in data["layer_times_ms"].items()},
    }
    for name in ("times_ms", "host_times_ms", "rivals"):
        values[name] = tuple(data[name])
    return Measurement(**values)
