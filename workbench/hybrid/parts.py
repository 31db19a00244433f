"""A model in parts: an engine for every subgraph that its back end takes, built, run and compared with the whole."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from workbench.accuracy import Difference, compare_outputs
from workbench.building import build
from workbench.errors import BuildError, Cancelled, ConfigError, RunError, ShapeError
from workbench.hybrid.profiles import other_opt, part_configs
from workbench.hybrid.session import HybridEngine, HybridSession, open_native
from workbench.hybrid.shapes import CollectedShapes
from workbench.model import operator
from workbench.store import EngineStore
from workbench.subgraphs import Part, Partition, cut
from workbench.types import BuildConfig, Feeds, Listener, Progress, Shape, count_of, ignore, under

PHASE = "Building subgraphs"
_TIMING = "Timing"  # as workbench.timing says it, which `import workbench` does without


def build_parts(
    partition: Partition,
    config: BuildConfig | None = None,
    *,
    shapes: CollectedShapes | None = None,
    store: EngineStore | None = None,
    reuse: bool = True,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> HybridEngine:
    """Build every subgraph, or reuse what is stored: each has a key of its own, by its own content.

    shapes: what was collected, for borders whose sizes do not follow from the inputs'. Raises as `build` does, the
    errors naming the subgraph, and before anything is built ShapesNotSet, and ShapeError for another model's shapes.
    """
    config, store = config or BuildConfig(), store or EngineStore()
    if not config.keep_io_types:
        raise ConfigError(
            "tensors that go from part to part keep the model's types: do not convert inputs and outputs."
        )
    if shapes is not None:
        shapes.check(partition.model)
    wanted = part_configs(partition, config, shapes)
    _check_native(partition)
    built = []
    for number, (part, wish) in enumerate(wanted):
        listener(Progress(PHASE, number, len(wanted)))
        hear = under(PHASE, listener)
        try:
            model = cut(partition.model, part)
            built.append(build(model, wish, part.backend, store=store, reuse=reuse, listener=hear, cancel=cancel))
        except BuildError as error:
            raise _failed(partition, part, error, other_opt(config, shapes) if shapes else "") from error
        except ShapeError as error:
            raise ShapeError(f"subgraph {part.id}: {error}") from error
    listener(Progress(PHASE, len(wanted), len(wanted)))
    return HybridEngine(partition, config, tuple(built))


def _check_native(partition: Partition) -> None:
    """Before minutes go into engines: ONNX Runtime must take what they leave."""
    for part in partition.parts:
        if part.outputs and not part.is_engine:
            try:
                open_native(cut(partition.model, part))
            except RunError as error:
                why = f"{part.id} stays native, and ONNX Runtime does not take it either: {error.reason.rstrip('.')}"
                raise RunError(f"{why}; export the model without that operator", node=error.node) from error


def _failed(partition: Partition, part: Part, error: BuildError, hint: str) -> BuildError:
    """hint: what may be the matter with the sizes, or ''."""
    names = set(part.nodes)
    operators = {node.name: operator(node) for node in partition.model.nodes if node.name in names}
    node = error.node or _named_in(error.reason, operators)
    exclude = f", or exclude {operators[node]} (disable_ops)" if node in operators else ""
    native = f"To leave it native, raise min_subgraph_size to {len(part.nodes) + 1}{exclude}."
    return BuildError(
        f"subgraph {part.id} ({count_of(len(part.nodes), 'operator')}): {error.reason}",
        node=node,
        remedy=" ".join(text for text in (hint or error.remedy, native) if text),
        log_tail=error.log_tail,
    )


def _named_in(reason: str, nodes: Iterable[str]) -> str | None:
    """The node that the sentence names; NVIDIA adds a number where a node became several layers."""
    words = {re.sub(r"_\d+$", "", word) for word in reason.split()} | set(reason.split())
    return next((name for name in nodes if name in words), None)


@dataclass(frozen=True)
class HybridRun:
    """The same feeds through all parts and through ONNX Runtime alone, in turns.

    part_times_ms: by part, one for every iteration. differences: of the outputs; text is left out.
    border_bytes: what went through the partition's border. clock, note, stand_ins: as HybridSession has them.
    """

    hybrid: HybridEngine
    shapes: Mapping[str, Shape]
    differences: tuple[Difference, ...]
    part_times_ms: Mapping[str, tuple[float, ...]]
    alone_times_ms: tuple[float, ...]
    border_bytes: int
    clock: str
    note: str
    stand_ins: tuple[str, ...]

    @property
    def times_ms(self) -> tuple[float, ...]:
        rows = self.part_times_ms.values()
        return tuple(sum(row[index] for row in rows) for index in range(len(self.alone_times_ms)))

    @property
    def median_ms(self) -> float:
        return float(np.median(self.times_ms))

    @property
    def alone_median_ms(self) -> float:
        return float(np.median(self.alone_times_ms))


def run_hybrid(
    hybrid: HybridEngine,
    feeds: Feeds,
    *,
    iterations: int = 20,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> HybridRun:
    """Compare and time; two runs of each before the clock starts. Raises as HybridSession.run does, and Cancelled."""
    if iterations < 1:
        raise ConfigError(f"{iterations} runs cannot be timed; take 1 or more.")
    alone, alone_times, rows = open_native(hybrid.partition.model), [], []
    with HybridSession(hybrid) as session:
        outputs = session.run(feeds)
        differences = compare_outputs(_numbers(alone.run(feeds)), _numbers(outputs))
        alone.run(feeds)
        session.times_ms(1)
        for done in range(iterations):
            if cancel is not None and cancel.is_set():
                raise Cancelled("cancelled; nothing was measured.")
            listener(Progress(_TIMING, done, iterations))
            start = time.perf_counter_ns()
            alone.run(feeds)
            alone_times.append((time.perf_counter_ns() - start) / 1e6)
            rows.append(session.part_times_ms(1))
        listener(Progress(_TIMING, iterations, iterations))
        return HybridRun(
            hybrid=hybrid,
            shapes={name: tuple(array.shape) for name, array in feeds.items()},
            differences=differences,
            part_times_ms={part.id: tuple(row[part.id][0] for row in rows) for part in hybrid.partition.parts},
            alone_times_ms=tuple(alone_times),
            border_bytes=session.border_bytes,
            clock=session.clock,
            note=session.note,
            stand_ins=session.stand_ins,
        )


def _numbers(outputs: Feeds) -> Feeds:
    """Without text, which has no distance."""
    return {name: value for name, value in outputs.items() if value.dtype.kind != "O"}


def fragmentation(
    partitions: Iterable[Partition],
    feeds: Feeds,
    config: BuildConfig | None = None,
    *,
    shapes: CollectedShapes | None = None,
    iterations: int = 20,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> tuple[HybridRun, ...]:
    """What cutting costs: every partition built and run, as `[divide(support, size) for size in (1, 3, 10, 50)]`."""
    runs = []
    for item in partitions:
        hybrid = build_parts(item, config, shapes=shapes, listener=listener, cancel=cancel)
        runs.append(run_hybrid(hybrid, feeds, iterations=iterations, listener=listener, cancel=cancel))
    return tuple(runs)
