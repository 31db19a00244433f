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
from workbench.study import Study, Subject
from workbench.timing import Measurement
from workbench.tuning.candidate import Candidate
from workbench.tuning.crew import Hear, Report, Work
from workbench.tuning.finals import Finals
from workbench.tuning.goals import Goals, Score
from workbench.tuning.ground import Ground
from workbench.tuning.parcels import Parcel
from workbench.tuning.plan import Plan
from workbench.tuning.space import Rules, Space
from workbench.tuning.task import Task
from workbench.tuning.trial import COMPLETE, FAILED, Trial
from workbench.tuning.trying import Job
from workbench.types import Progress, Support

H200, L4 = "NVIDIA H200", "NVIDIA L4"
OPTIONS = ("optimization_level", "tactic_sources", "layer_precisions")


def support(name: str, **changes: Any) -> Support:
    nvidia = name != "onnxruntime"
    usual = Support(
        name, name, "8.6", True, "", True, "", ("fp32", "fp16", "int8"),
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
    """5,496 candidates with a GPU and six layers in order."""
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
    """20,640 candidates."""
    return large_space(batch=(1, 2, 4, 8, 12, 16, 24, 32, 48, 64), workspace_bytes=(None, 1 << 24, 1 << 26, 1 << 28, 1 << 30))


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
        job.task.trial_id(job.candidate, on.machine_id),
        job.candidate,
        COMPLETE,
        on.column,
        score,
        engines=("e" * 32,),
        at="2026-12-01T00:00:00+00:00",
        attempts=job.attempt,
    )
    return replace(usual, **changes)
