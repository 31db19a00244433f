"""A search without machines: grounds, a landscape of true results, and a crew of simulated workers in virtual time."""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.accuracy import Interval
from workbench.errors import BackendError, StoreError
from workbench.machine import Gpu, Machine
from workbench.sharding.parcels import Parcel
from workbench.study import Study, Subject
from workbench.timing import Measurement
from workbench.tuning.candidate import Candidate
from workbench.tuning.crew import Hear, Report, Work
from workbench.tuning.finals import Finals
from workbench.tuning.goals import Goals, Score
from workbench.tuning.ground import Ground
from workbench.tuning.plan import Plan
from workbench.tuning.space import Rules, Space
from workbench.tuning.task import Task
from workbench.tuning.trial import COMPLETE, Trial
from workbench.tuning.trying import Job
from workbench.types import Progress, Support

H200, L4 = "NVIDIA H200", "NVIDIA L4"
OPTIONS = ("optimization_level", "tactic_sources", "layer_precisions")


def support(name: str, **changes: Any) -> Support:
    nvidia = name != "onnxruntime"
    usual = Support(
        name, name, None, True, "", True, "", ("fp32", "fp16", "int8"),
        takes_any_shape=not nvidia, builder_options=OPTIONS if nvidia else (),
    )  # fmt: skip
    return replace(usual, **changes)


def ground(host: str = "one", gpu: str = "", model: str = "", *, cores: int = 8, **supports: Support) -> Ground:
    """A worker with a GPU of this model, or with none. supports: of back ends that differ from the usual."""
    gpus = (Gpu(model or H200, "9.0", 1 << 36),) if gpu else ()
    machine = Machine("AMD EPYC", cores, "Linux x86_64", "3.11", gpus, "12.4" if gpu else None)
    usual = {name: support(name) for name in ("tensorrt", "onnxruntime")}
    if not gpu:
        usual["tensorrt"] = support("tensorrt", can_run=False, run_reason="there is no GPU.")
    return Ground(host, gpu, machine, {**usual, **supports})


def large_space(**changes: Any) -> Space:
    """4,256 candidates with a GPU and six layers in order."""
    usual = Space(
        backend=("tensorrt", "onnxruntime"),
        in_float=(0, 1, 2, 4),
        workspace_bytes=(None, 1 << 26, 1 << 28),
        optimization_level=(None, 3, 5),
        tactic_sources=((), ("CUBLAS",), ("CUBLAS", "CUDNN"), ("CUDNN",)),
        batch=(1, 4, 8, 16),
        cuda_graph=(True, False),
        threads=(None, 1, 2, 4),
    )
    return replace(usual, **changes)


def huge_space() -> Space:
    """17,360 candidates with a GPU and six layers in order."""
    return large_space(
        batch=(1, 2, 4, 8, 12, 16, 24, 32, 48, 64), workspace_bytes=(None, 1 << 24, 1 << 26, 1 << 28, 1 << 30)
    )


def rules(on: Ground | None = None, **changes: Any) -> Rules:
    return replace(Rules(on or ground(gpu="0"), has_ranges=True, layers=6), **changes)


def plan(space: Space | None = None, goals: Goals | None = None, sampler: str = "auto") -> Plan:
    """With a calibration, and six layers in order; its files are nowhere."""
    task = Task(
        Parcel("m" * 64, "net.onnx", Path("net.onnx"), ()),
        {"x": (1, 3, 8, 8)},
        goals or Goals(metric="top1"),
        order=tuple(f"conv_{number}" for number in range(6)),
    )
    return Plan(task, space or large_space(), "net", (), False, calibration="net.calib", sampler=sampler)


# ---- what is true


@dataclass(frozen=True)
class Landscape:
    """True latency and loss of every candidate on every kind of machine. The best few of thousands are hard to guess:
    knobs work together, and no two candidates are quite alike."""

    seed: int = 0

    def latency_ms(self, candidate: Candidate, column: str) -> float:
        speed = {"fp32": 1.0, "fp16": 0.45, "int8": 0.3}[candidate.precision]
        work = 4.0 * speed if candidate.backend == "tensorrt" else 18.0 * math.sqrt(speed) / _threads(candidate)
        work *= candidate.batch**0.9 * (1 + 0.06 * candidate.in_float)
        work *= {None: 1.0, 3: 0.96, 5: 0.88}.get(candidate.optimization_level, 1.0)
        work *= 0.85 if candidate.tactic_sources == ("CUBLAS", "CUDNN") and candidate.precision != "int8" else 1.0
        work *= 1.1 if candidate.workspace_bytes == 1 << 26 and candidate.optimization_level == 5 else 1.0
        work += 0.0 if candidate.cuda_graph else 0.4
        return work * (2.5 if column == L4 else 1.0) * (1 + 0.02 * self._luck(candidate, column))

    def loss(self, candidate: Candidate) -> float:
        """Points."""
        if candidate.precision != "int8":
            return 0.0 if candidate.precision == "fp32" else 0.02
        start = {"entropy": 0.9, "percentile": 0.7, "minmax": 1.4}[candidate.algorithm]
        return start * 0.55**candidate.in_float + 0.03

    def score(self, candidate: Candidate, column: str, draw: random.Random | None = None) -> Score:
        noise = draw.gauss(1, 0.01) if draw else 1.0
        ms, lost = self.latency_ms(candidate, column) * max(0.9, noise), self.loss(candidate)
        rate = 1000 * candidate.batch / ms
        return Score(
            Interval(ms, 0.98 * ms, 1.02 * ms),
            Interval(rate, rate / 1.02, rate / 0.98),
            Interval(lost, lost - 0.05, lost + 0.05),
            "top1",
            25_000_000 // (4 if candidate.precision == "int8" else 1),
            1 << 28,
        )

    def _luck(self, candidate: Candidate, column: str) -> float:
        digest = hashlib.sha256(f"{self.seed} {column} {candidate.key}".encode()).digest()
        return int.from_bytes(digest[:4], "big") / 2**31 - 1


def _threads(candidate: Candidate) -> float:
    return {None: 3.0, 1: 1.0, 2: 1.8, 4: 2.9}[candidate.threads]


def trial_of_job(job: Job, on: Ground, score: Score, **changes: Any) -> Trial:
    usual = Trial(
        job.task.trial_id(job.candidate, on.place(job.candidate.backend)),
        job.candidate,
        COMPLETE,
        on.column,
        score,
        engines=("e" * 32,),
        at="2026-12-01T00:00:00+00:00",
        attempts=job.attempt,
    )
    return replace(usual, **changes)


# ---- those who work


class VirtualClock:
    """Time goes on only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Chances:
    """Of what may happen to a work. nonsense: the worker answers at once with what cannot be. late: a hung one reports
    after it was dropped. comes_back: a worker that died, under another name."""

    dies: float = 0.0
    hangs: float = 0.0
    straggles: float = 0.0
    nonsense: float = 0.0
    twice: float = 0.0
    late: float = 0.5
    comes_back: float = 0.7


ROUGH = Chances(dies=0.04, hangs=0.02, straggles=0.05, nonsense=0.05, twice=0.1)


@dataclass
class SimulatedCrew:
    """Workers on these grounds, by name. Checks that two works never have one seat, and that a work is given to nobody
    who was not among `grounds` at the time.

    broken: workers that answer everything with nonsense. executions: how often a candidate was tried to its end in a
    column, and so reported. lost: how often in vain. shown: how many finals each column has had. engine: key that every
    trial tells.
    """

    grounds_by_name: dict[str, Ground]
    chances: Chances = Chances()
    seed: int = 0
    landscape: Landscape = Landscape()
    clock: VirtualClock = field(default_factory=VirtualClock)
    engine: str = "e" * 32
    trial_s: float = 20.0
    broken: frozenset[str] = frozenset()
    on_wait: Callable[[SimulatedCrew], None] = lambda crew: None
    executions: Counter[tuple[str, str]] = field(default_factory=Counter)
    lost: Counter[tuple[str, str]] = field(default_factory=Counter)
    tried_on: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    finals: Counter[str] = field(default_factory=Counter)
    brought: list[tuple[str, str]] = field(default_factory=list)
    jobs: list[tuple[str, Job]] = field(default_factory=list)
    gone: bool = False

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._given: dict[str, tuple[Work, str, Ground]] = {}
        self._ids: set[str] = set()
        self._reports: list[Report] = []
        self._heard: list[str] = []
        self._told: Mapping[str, Ground] = {}

    # ---- the protocol

    def grounds(self) -> Mapping[str, Ground]:
        if self.gone:
            raise BackendError("the scheduler is gone.")
        self._told = dict(self.grounds_by_name)
        return self._told

    def give(self, work_id: str, work: Work, worker: str) -> None:
        assert worker in self._told, f"{worker} is not there"
        on = self._told[worker]
        assert all(other.seat != on.seat for _, _, other in self._given.values()), f"two works on {on.seat}"
        assert work_id not in self._ids, f"{work_id} is given twice"
        self._ids.add(work_id)
        self._given[work_id] = work, worker, on
        if isinstance(work, Job):
            self.jobs.append((worker, work))
            self.tried_on.setdefault((on.column, work.candidate.key), []).append(worker)
        self._happen(work_id, work, worker, on)

    def wait(self, timeout_s: float, hear: Hear) -> Sequence[Report]:
        self.on_wait(self)
        if self.gone:
            raise BackendError("the scheduler is gone.")
        end = self.clock.now + timeout_s
        while not self._reports and self._events and self._events[0][0] <= end:
            self.clock.now, _, event = heapq.heappop(self._events)
            event()
            heard, self._heard = self._heard, []
            for work_id in heard:
                hear(work_id, Progress("Build", 0, None))
        if not self._reports:
            self.clock.now = max(self.clock.now, end)
        reports, self._reports = self._reports, []
        return reports

    def drop(self, work_id: str) -> None:
        """A nanny starts the worker again, under another name."""
        _, worker, on = self._given.pop(work_id)
        self._leave(worker, on)

    def stop(self) -> None:
        for work_id, (_, worker, _) in list(self._given.items()):
            self._report(work_id, Report(work_id, worker, failure="stopped", cancelled=True))

    def bring(self, key: str, worker: str) -> None:
        if worker not in self.grounds_by_name:
            raise StoreError(f"{worker} is gone.")
        self.brought.append((key, worker))

    # ---- what happens

    def _happen(self, work_id: str, work: Work, worker: str, on: Ground) -> None:
        chance, luck, s = self.chances, self.draw.random(), self.trial_s * self.draw.uniform(0.5, 1.5)
        self._later(0.0, lambda: self._heard.append(work_id))
        if worker in self.broken:
            self._later(0.1, lambda: self._answer(work_id, work, worker, on, self._nonsense(work, on)))
        elif luck < chance.dies:
            self._later(s, lambda: self._die(work_id, worker, on))
        elif (luck := luck - chance.dies) < chance.hangs:
            self._count_lost(work, on)
            if self.draw.random() < chance.late:
                result = self._result(work, worker, on)
                self._later(5000.0, lambda: self._reports.append(Report(work_id, worker, result)))
        elif (luck := luck - chance.hangs) < chance.straggles:
            for minute in range(20):
                self._later(60.0 * minute, lambda: self._heard.append(work_id))
            self._later(1200.0, lambda: self._finish(work_id, work, worker, on))
        elif luck - chance.straggles < chance.nonsense:
            self._later(0.1, lambda: self._answer(work_id, work, worker, on, self._nonsense(work, on)))
        else:
            self._later(s, lambda: self._finish(work_id, work, worker, on))

    def _later(self, seconds: float, event: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (self.clock.now + seconds, self._order, event))

    def _finish(self, work_id: str, work: Work, worker: str, on: Ground) -> None:
        if work_id not in self._given:
            return
        if isinstance(work, Job):
            self.executions[on.column, work.candidate.key] += 1
        else:
            self.finals[on.column] += 1
        report = Report(work_id, worker, self._result(work, worker, on))
        self._report(work_id, report)
        if self.draw.random() < self.chances.twice:
            self._reports.append(report)
        if self.draw.random() < self.chances.twice:
            self._later(300.0, lambda: self._reports.append(report))

    def _answer(self, work_id: str, work: Work, worker: str, on: Ground, result: Any) -> None:
        if work_id in self._given:
            self._count_lost(work, on)
            self._report(work_id, Report(work_id, worker, result))

    def _die(self, work_id: str, worker: str, on: Ground) -> None:
        if work_id in self._given:
            self._count_lost(self._given[work_id][0], on)
            self._report(work_id, Report(work_id, worker, failure="the worker died while it was at work"))
            self._leave(worker, on)

    def _leave(self, worker: str, on: Ground) -> None:
        self.grounds_by_name.pop(worker, None)
        if self.draw.random() < self.chances.comes_back:
            name = f"{worker.partition('+')[0]}+{self._order}"
            self._later(self.draw.uniform(1, 60), lambda: self.grounds_by_name.update({name: on}))

    def _count_lost(self, work: Work, on: Ground) -> None:
        if isinstance(work, Job):
            self.lost[on.column, work.candidate.key] += 1

    def _report(self, work_id: str, report: Report) -> None:
        self._given.pop(work_id)
        self._reports.append(report)

    def _result(self, work: Work, worker: str, on: Ground) -> Any:
        if isinstance(work, Finals):
            times = {name: self.landscape.latency_ms(item, on.column) for name, item in work.candidates.items()}
            return study_of(times, on, self.draw)
        score = self.landscape.score(work.candidate, on.column, self.draw)
        return trial_of_job(work, on, score, worker=worker, engines=(self.engine,))

    def _nonsense(self, work: Work, on: Ground) -> Any:
        if isinstance(work, Finals):
            return self.draw.choice((None, 3, study_of({"nobody": 1.0}, on, self.draw)))
        true = trial_of_job(work, on, self.landscape.score(work.candidate, on.column))
        assert true.score is not None
        return self.draw.choice((
            None,
            {"latency_ms": 1.0},
            replace(true, candidate=replace(work.candidate, batch=999)),
            replace(true, id="0" * 12),
            replace(true, column="another column"),
            replace(true, state="splendid"),
            replace(true, score=None),
            replace(true, score="fast"),
            replace(true, engines=({1, 2},)),
            replace(true, score=replace(true.score, latency_ms=Interval(math.nan, math.nan, math.nan))),
            replace(true, score=replace(true.score, latency_ms=Interval(-1.0, -1.0, -1.0))),
        ))  # fmt: skip


def study_of(times_ms: Mapping[str, float], on: Ground, draw: random.Random) -> Study:
    """Measured in turns: true times, with noise of half a percent."""
    noise = np.random.default_rng(draw.randrange(1 << 30))
    measured = tuple(
        Measurement(
            tuple(ms * noise.normal(1, 0.005, 60)), 5, {"x": (1, 3, 8, 8)}, "clock", on.machine, name=name,
        )
        for name, ms in times_ms.items()
    )  # fmt: skip
    subjects = tuple(Subject(name, "tensorrt", "fp16") for name in times_ms)
    return Study(
        f"{draw.randrange(1 << 48):012x}", "2026-12-01T00:00:00+00:00", "net", "m" * 64, subjects, measured,
        next(iter(times_ms)),
    )  # fmt: skip


def hundred(h200: int = 50, l4: int = 30, processors: int = 20) -> dict[str, Ground]:
    """Workers by name: eight GPUs to a host, and hosts without one, where two workers share each."""
    found = {f"h{number}": ground(f"host-h{number // 8}", f"GPU-{number % 8}", H200) for number in range(h200)}
    found |= {f"l{number}": ground(f"host-l{number // 8}", f"GPU-{number % 8}", L4) for number in range(l4)}
    return found | {f"c{number}": ground(f"host-c{number // 2}") for number in range(processors)}
