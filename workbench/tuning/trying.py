"""Try one candidate on this machine: build it, look shortly, compare its outputs, time it."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from workbench.accuracy import Interval
from workbench.backends import NETWORK_NAMES, GpuSession, Session, load
from workbench.building import build
from workbench.calibration.source import read_ranges
from workbench.engine import Engine, open_engine
from workbench.errors import Cancelled, StoreError, WorkbenchError
from workbench.hybrid import HybridSession, build_parts
from workbench.model import Model
from workbench.qdq import quantize
from workbench.runs import History
from workbench.store import EngineStore
from workbench.subgraphs import partition
from workbench.timing import Measurement, Timing, measure
from workbench.tuning.candidate import Candidate
from workbench.tuning.goals import Score
from workbench.tuning.ground import Ground
from workbench.tuning.ledger import find_trial, keep_trial, still_there
from workbench.tuning.memory import Reading, memory_now
from workbench.tuning.opened import Opened, drop, folder_for, open_task
from workbench.tuning.quiet import alone_on
from workbench.tuning.task import LOOK_SAMPLES, Task, config_of, with_float_layers
from workbench.tuning.trial import COMPLETE, FAILED, PRUNED, Trial
from workbench.types import BuildConfig, Feeds, Listener, Progress, ignore

UNKNOWN = Interval(math.nan, -math.inf, math.inf)


@dataclass(frozen=True)
class Job:
    """One candidate to try. rivals: what the search has found so far on such machines, by name, so that a hopeless
    candidate is given up early. attempt: counted from 1."""

    task: Task
    candidate: Candidate
    rivals: Mapping[str, Score] = field(default_factory=dict)
    attempt: int = 1


def try_candidate(
    job: Job,
    ground: Ground,
    *,
    data: Mapping[str, bytes] | None = None,
    worker: str = "",
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Trial:
    """What this machine measured of it before, its engines built again where the store has lost them; or measure it
    now, alone on the machine, and keep it in the history.

    data: the task's files by key, where they are not here. A candidate that cannot be built or does not run is a failed
    trial. Raises ParcelMissing, StoreError, Cancelled.
    """
    history, store = History(), EngineStore()
    known = find_trial(history, job.task, job.candidate, ground)
    if known is not None and still_there(known, store):
        return known
    opened = open_task(job.task, data or {})
    uses_gpu, cancel = job.candidate.backend in NETWORK_NAMES, cancel or threading.Event()
    with alone_on(ground, listener, cancel, gpu=uses_gpu, host=not uses_gpu):
        known = find_trial(history, job.task, job.candidate, ground)  # another process may have been at it
        if known is not None:
            made_ready(job.task, job.candidate, opened, listener, cancel)
            return known
        trial = _Attempt(job, ground, opened, worker, listener, cancel).run()
    keep_trial(history, trial, job.task, ground, opened.model.name)
    return trial


class _Attempt:
    def __init__(
        self, job: Job, ground: Ground, opened: Opened, worker: str, listener: Listener, cancel: threading.Event
    ) -> None:
        self.job, self.ground, self.opened, self.worker = job, ground, opened, worker
        self.listener, self.cancel = listener, cancel
        self.seconds: dict[str, float] = {}
        self.engines: tuple[Engine, ...] = ()

    def run(self) -> Trial:
        try:
            with self._timed("build"):
                made = made_ready(self.job.task, self.job.candidate, self.opened, self.listener, self.cancel)
            self.engines = made.engines
            feeds = self.opened.feeds(self.job.candidate.batch)
            before = memory_now(self.job.candidate.backend, self.ground.gpu)
            with made.open(self.job.candidate.threads) as session:
                return self._measured(session, feeds, before)
        except (Cancelled, StoreError):
            raise
        except WorkbenchError as error:
            return self._trial(FAILED, None, reason=str(error))

    def _measured(self, session: Session, feeds: Feeds, before: Reading) -> Trial:
        """Raises WorkbenchError where it does not run."""
        candidate, task, goals = self.job.candidate, self.job.task, self.job.task.goals
        if isinstance(session, GpuSession) and candidate.cuda_graph is not None:
            session.cuda_graph = candidate.cuda_graph
        session.run(feeds)
        memory = memory_now(candidate.backend, self.ground.gpu).since(before)
        with self._timed("look"):
            look = self._time(session, feeds, task.look)
        size = sum(engine.plan_bytes for engine in self.engines)
        score = score_of(task, look, UNKNOWN, goals.metric, size, memory)
        known = ("latency", "throughput", "size", "memory")
        if why := goals.why_hopeless(score, self.job.rivals, known):
            return self._trial(PRUNED, score, reason=why)
        with self._timed("accuracy"):
            loss, metric = self._loss(session, LOOK_SAMPLES)
            score = score_of(task, look, loss, metric, size, memory)
            if why := goals.why_hopeless(score, self.job.rivals, (*known, "accuracy")):
                return self._trial(PRUNED, score, reason=why)
            loss, metric = self._loss(session, None)
        score = score_of(task, look, loss, metric, size, memory)
        if why := goals.why_hopeless(score, self.job.rivals, (*known, "accuracy")):
            return self._trial(PRUNED, score, reason=why)
        with self._timed("timing"):
            session.run(feeds)
            measured = self._time(session, feeds, task.timing)
        return self._trial(
            COMPLETE, score_of(task, measured, loss, metric, size, memory), warnings=tuple(measured.warnings)
        )

    def _time(self, session: Session, feeds: Mapping[str, Any], timing: Timing) -> Measurement:
        return measure(session, feeds, timing, listener=self.listener, cancel=self.cancel)

    def _loss(self, session: Session, most: int | None) -> tuple[Interval, str]:
        """On the first samples, or all; of engines that were evaluated before, what came out then."""
        keys = tuple(engine.key for engine in self.engines)
        found = self.opened.losses.get(keys)
        if found is None:
            found = self.opened.evaluate(session, self.job.candidate.batch, most, self.listener, self.cancel)
            if most is None:
                self.opened.losses[keys] = found
        return drop(found, self.job.task.goals.metric)

    def _trial(self, state: str, score: Score | None, *, reason: str = "", warnings: tuple[str, ...] = ()) -> Trial:
        task, candidate = self.job.task, self.job.candidate
        return Trial(
            id=task.trial_id(candidate, self.ground.place(candidate.backend), judged=state != COMPLETE),
            candidate=candidate,
            state=state,
            column=self.ground.column,
            score=score,
            reason=reason,
            engines=tuple(engine.key for engine in self.engines),
            worker=self.worker,
            at=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            seconds={name: round(value, 3) for name, value in self.seconds.items()},
            attempts=self.job.attempt,
            warnings=warnings,
        )

    @contextlib.contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        self.listener(Progress(phase.capitalize(), 0, None))
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - start


@dataclass(frozen=True)
class Made:
    """A candidate's engines, and what opens them."""

    engines: tuple[Engine, ...]
    hybrid: Any = None

    def open(self, threads: int | None) -> Any:
        if self.hybrid is not None:
            return contextlib.nullcontext(HybridSession(self.hybrid, threads=threads))
        return open_engine(self.engines[0], threads=threads, in_turns=True)


def made_ready(
    task: Task, candidate: Candidate, opened: Opened, listener: Listener = ignore, cancel: threading.Event | None = None
) -> Made:
    """The candidate's engines, built or from the store. Raises as `build` does."""
    store = EngineStore()
    model, config = wish_of(task, candidate, opened, store.folder)
    if candidate.min_subgraph_size is None:
        found = build(model, config, candidate.backend, store=store, listener=listener, cancel=cancel)
        return Made((found.engine,))
    parts = partition(model, candidate.backend, candidate.min_subgraph_size, listener=listener, cancel=cancel)
    hybrid = build_parts(parts, config, store=store, listener=listener, cancel=cancel)
    return Made(tuple(item.engine for item in hybrid.built), hybrid)


def wish_of(task: Task, candidate: Candidate, opened: Opened, store: Path) -> tuple[Model, BuildConfig]:
    """What is built: with layers in float, a model with Q/DQ nodes where the back end cannot be told of layers."""
    config = config_of(task, candidate, opened.model.inputs, opened.calibration)
    keep = task.in_float(candidate)
    if not keep:
        return opened.model, config
    if "layer_precisions" in load(candidate.backend).support().builder_options:
        return opened.model, with_float_layers(config, keep)
    ranges = read_ranges(str(opened.calibration), opened.model, candidate.algorithm).amax
    folder = folder_for(task.ranges_key(candidate), store)
    return quantize(opened.model, ranges, folder, keep=keep), replace(config, calibration=None)


def score_of(task: Task, measured: Measurement, loss: Interval, metric: str, size: int, memory: int) -> Score:
    """By the clock that the task compares."""
    own = measured.median if task.on_gpu_clock else measured.host_median or measured.median
    per_ms = measured.batch * 1000
    ends = (_rate(per_ms, own.value), _rate(per_ms, own.high), _rate(per_ms, max(own.low, 0.0)))
    return Score(own, Interval(*ends), loss, metric, size, memory)


def _rate(rows: float, ms: float) -> float:
    return rows / ms if ms > 0 else math.inf
