"""A model in parts as one session: engines where they can run, ONNX Runtime for the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from workbench import backends
from workbench.backends import GpuSession, check_feeds
from workbench.backends.device_arrays import DeviceArray
from workbench.building import Built
from workbench.engine import open_engine
from workbench.errors import BackendError, FeedError
from workbench.machine import usable_cores
from workbench.model import Model
from workbench.reference import THREADS_REST, Reference
from workbench.subgraphs import Part, Partition, cut
from workbench.types import BuildConfig, Feeds, OptimizationProfile, Support, count_of


@dataclass(frozen=True)
class HybridEngine:
    """built: one for every engine of the partition, in order."""

    partition: Partition
    config: BuildConfig
    built: tuple[Built, ...]

    @property
    def by_part(self) -> dict[str, Built]:
        """Part's id -> its engine."""
        return dict(zip((part.id for part in self.partition.engines), self.built, strict=True))

    def __str__(self) -> str:
        reused = sum(item.reused for item in self.built)
        native = len(self.partition.parts) - len(self.built)
        model = self.partition.model.name
        return f"{model}: {count_of(len(self.built), 'engine')} ({reused} reused), {count_of(native, 'native part')}"


@dataclass(frozen=True)
class _Step:
    """A part, open: `run` gives the tensors it makes. done_with: those that nobody needs after it.

    profiles: what its engine was built for, where ONNX Runtime stands in. is_on_gpu: it takes arrays on the GPU;
    keeps_there: what it makes stays there.
    """

    part: Part
    run: Callable[[Feeds], Mapping[str, Any]]
    done_with: tuple[str, ...]
    profiles: tuple[OptimizationProfile, ...] = ()
    is_on_gpu: bool = False
    keeps_there: bool = False

    def inputs(self, values: dict[str, Any]) -> dict[str, Any]:
        """Its inputs among all values; what it needs on the host is fetched from the GPU, once."""
        for tensor in self.part.inputs if not self.is_on_gpu else ():
            values[tensor.name] = _on_host(values[tensor.name], tensor.dtype)
        return {tensor.name: values[tensor.name] for tensor in self.part.inputs}

    def check(self, inputs: Feeds) -> None:
        """The sizes that the engine was built for hold where ONNX Runtime stands in for it, too. Raises FeedError."""
        misfits = [_misfit(profile, inputs) for profile in self.profiles]
        if misfits and all(misfits):
            raise FeedError(
                f"subgraph {self.part.id} was built for other sizes: {misfits[0]}. Build it again with a profile or "
                "with collected samples that reach that far."
            )


class HybridSession:
    """All parts open, run one after another; satisfies Session.

    stand_ins: subgraphs that ONNX Runtime runs, as they stand, in place of their engines, which cannot run on this
    machine; note: says so in a sentence, empty where there are none. threads: processors that ONNX Runtime may use.
    """

    def __init__(self, hybrid: HybridEngine, *, threads: int | None = None) -> None:
        partition = hybrid.partition
        self.inputs, self.outputs = partition.model.inputs, partition.model.outputs
        support = backends.load(partition.backend).support()
        self.stand_ins = () if support.can_run else tuple(part.id for part in partition.engines)
        self.clock = "perf_counter around each part, added up, arrays on the host in and out"
        self.note = ""
        if self.stand_ins:
            self.clock += f"; ONNX Runtime in place of {support.title}"
            self.note = _note(hybrid, support)
        self._border = frozenset(tensor.name for tensor in partition.border)
        self.border_bytes = 0
        """What went from one part to another in the last run."""
        self._constants = _constant_outputs(partition.model)
        self._feeds: Feeds | None = None
        with ExitStack() as opened:
            self._steps = tuple(self._open(hybrid, threads, opened))
            self._exits = opened.pop_all()
        if any(step.keeps_there for step in self._steps):
            self.clock += ", on the GPU from engine to engine"

    def _open(self, hybrid: HybridEngine, threads: int | None, opened: ExitStack) -> Iterator[_Step]:
        partition = hybrid.partition
        engines = [part for part in partition.engines if part.id not in self.stand_ins]
        read_there = {tensor.name for part in engines for tensor in part.inputs}
        for part, done_with in zip(partition.parts, no_longer_needed(partition), strict=True):
            if not part.outputs:
                yield _Step(part, lambda feeds: {}, done_with)  # ONNX Runtime opens no model without outputs
            elif part in engines:
                session = open_engine(hybrid.by_part[part.id].engine, threads=threads, in_turns=True)
                opened.enter_context(session)
                if isinstance(session, GpuSession) and read_there & {tensor.name for tensor in part.outputs}:
                    yield _Step(part, session.run_on_device, done_with, is_on_gpu=True, keeps_there=True)
                else:
                    yield _Step(part, session.run, done_with, is_on_gpu=isinstance(session, GpuSession))
            else:
                profiles = hybrid.by_part[part.id].engine.config.profiles if part.is_engine else ()
                yield _Step(part, open_native(cut(partition.model, part), threads).run, done_with, profiles)

    def run(self, feeds: Feeds) -> dict[str, Any]:
        """Raises FeedError where arrays do not fit, RunError or BackendError where a part fails on them."""
        check_feeds(self.inputs, feeds)
        self._feeds = feeds
        return self._run(feeds)[0]

    def times_ms(self, iterations: int) -> list[float]:
        return [sum(times) for times in self._repeated(iterations)]

    def part_times_ms(self, iterations: int) -> dict[str, list[float]]:
        """As times_ms, for every part by its id."""
        rows = self._repeated(iterations)
        return {step.part.id: [row[index] for row in rows] for index, step in enumerate(self._steps)}

    def _repeated(self, iterations: int) -> list[list[float]]:
        if self._feeds is None:
            raise BackendError("nothing to repeat: run the session once before timing it.")
        return [self._run(self._feeds)[1] for _ in range(iterations)]

    def _run(self, feeds: Feeds) -> tuple[dict[str, Any], list[float]]:
        """Outputs, and how many milliseconds each part took."""
        values: dict[str, Any] = {**self._constants, **feeds}
        times, moved = [], 0
        for step in self._steps:
            step.check({tensor.name: values[tensor.name] for tensor in step.part.inputs})
            start = time.perf_counter_ns()
            made = step.run(step.inputs(values))
            times.append((time.perf_counter_ns() - start) / 1e6)
            values.update(made)
            moved += sum(getattr(value, "nbytes", 0) for name, value in made.items() if name in self._border)
            for name in step.done_with:
                del values[name]
        self.border_bytes = moved
        return {spec.name: _on_host(values[spec.name], spec.dtype) for spec in self.outputs}, times

    def __enter__(self) -> HybridSession:
        return self

    def __exit__(self, *raised: object) -> None:
        self._exits.close()


def _on_host(value: Any, dtype: str) -> Any:
    """In the model's type: an engine may have computed in a narrower one."""
    return value.to_host().astype(dtype, copy=False) if isinstance(value, DeviceArray) else value


def _misfit(profile: OptimizationProfile, inputs: Feeds) -> str:
    """The first input whose shape lies outside of the profile, in words; '' where all fit."""
    for name, item in profile.ranges.items():
        shape = np.shape(inputs[name])
        if not all(low <= size <= high for low, size, high in zip(item.min, shape, item.max, strict=True)):
            sizes = ["x".join(map(str, found)) for found in (shape, item.min, item.max)]
            return f"{name} is {sizes[0]}, and the engine takes {sizes[1]} to {sizes[2]}"
    return ""


def no_longer_needed(partition: Partition) -> Iterator[tuple[str, ...]]:
    """For every part the tensors at its border that no later part reads and that are no outputs of the model."""
    needed = {spec.name for spec in partition.model.outputs}
    found = []
    for part in reversed(partition.parts):
        border = {tensor.name for tensor in (*part.inputs, *part.outputs)}
        found.append(tuple(border - needed))
        needed |= border
    return reversed(found)


def open_native(model: Model, threads: int | None = None) -> Reference:
    """A model in ONNX Runtime with everything fused that it can fuse."""
    import onnxruntime

    settings = {
        "graph_optimization_level": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
        "intra_op_num_threads": threads or usable_cores(),
        **dict([THREADS_REST]),
    }
    return Reference(model, **settings)


def _constant_outputs(model: Model) -> dict[str, np.ndarray]:
    """Weights that are outputs: no part makes them."""
    names = {spec.name for spec in model.outputs}
    weights = (tensor for tensor in model.proto.graph.initializer if tensor.name in names)
    return {tensor.name: onnx.numpy_helper.to_array(tensor, str(model.path.parent)) for tensor in weights}


def _note(hybrid: HybridEngine, support: Support) -> str:
    engines, precision = count_of(len(hybrid.built), f"{support.title} engine"), hybrid.config.precision
    how = "as the model stands" + ("" if precision == "fp32" else f", not in {precision}")
    return f"{engines} cannot run here: {support.run_reason.rstrip('.')}. ONNX Runtime runs in their place, {how}."
