"""Run: a row of the history, and how builds, measurements and comparisons become one."""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from workbench.accuracy import Difference, Interval, finite
from workbench.engine import Engine
from workbench.evaluation import Evaluation
from workbench.machine import Machine, machine_from_json, this_machine
from workbench.model import Model
from workbench.recipe import recipe_entries
from workbench.timing import Measurement

KINDS = ("build", "measurement", "comparison", "accuracy", "trial")


class Run(NamedTuple):
    """What was built or measured, where, and what came out; '' or None where there is nothing to tell.

    id: 12 hexadecimal digits. at: ISO 8601, UTC, with milliseconds. study: shared by what was measured in turns.
    median_ms, low_ms, high_ms: with the ends of its 95 % interval, None where one run tells none. kind: one of KINDS; a
    trial is a candidate of a search, with why it was given up or failed as its note.
    model_sha256: of its content. subject: what it was, for people: 'tensorrt fp16', 'PyTorch eager'. config: the
    BuildConfig as canonical JSON, a calibration without its path. engine: its key. machine: in words. machine_id: equal
    for the same processor, GPUs, driver and system, whatever the release of Python. shapes: what went in: 'image
    1x3x224x224'. copies, threads, batch: as in Measurement. size_bytes: of the plan. build_s: seconds that the build
    took. loss: points lost of `metric`, one of evaluation.METRICS; relative errors in percent.

    A tuple, as a history may hold a hundred thousand of them.
    """

    id: str
    at: str
    study: str = ""
    median_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    p99_ms: float | None = None
    throughput_per_s: float | None = None
    kind: str = ""
    model: str = ""
    model_sha256: str = ""
    subject: str = ""
    backend: str = ""
    precision: str = ""
    config: str = ""
    engine: str = ""
    machine: str = ""
    machine_id: str = ""
    shapes: str = ""
    clock: str = ""
    copies: bool | None = None
    threads: int | None = None
    batch: int | None = None
    size_bytes: int | None = None
    build_s: float | None = None
    metric: str = ""
    loss: float | None = None
    note: str = ""

    @property
    def median(self) -> Interval | None:
        """In ms; from 0 to infinity where one run tells nothing. None for what was not timed."""
        if self.median_ms is None:
            return None
        low = 0.0 if self.low_ms is None else max(self.low_ms, 0.0)
        return Interval(self.median_ms, low, math.inf if self.high_ms is None else self.high_ms)

    @property
    def title(self) -> str:
        """For sentences: 'resnet18, tensorrt fp16'."""
        return ", ".join(filter(None, (self.model, self.subject))) or self.id


RESULTS = Run._fields[: Run._fields.index("kind")]
"""What differs from run to run."""
SETUP = Run._fields[len(RESULTS) :]
"""What mostly stays as it is when the same is measured again; it is written once for all runs that share it."""


def run_to_json(run: Run) -> dict[str, Any]:
    return {name: finite(value) for name, value in run._asdict().items()}


def new_id() -> str:
    """For a run, or for a study that several runs share."""
    return secrets.token_hex(6)


def stamp(moment: datetime | None = None) -> str:
    """A moment, now if none, as Run.at tells it, so that texts are in the order of time. Without a zone it is UTC."""
    moment = moment or datetime.now(timezone.utc)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")


def machine_id(machine: Machine) -> str:
    """Eight hexadecimal digits."""
    told = {name: value for name, value in machine.to_json().items() if name != "python"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]


def run_of_build(engine: Engine, *, note: str = "") -> Run:
    return Run(
        new_id(),
        stamp(datetime.fromisoformat(engine.built_at)),
        kind="build",
        note=note,
        **_what(None, engine, ""),
        **_where(machine_from_json(engine.machine)),
    )


def build_to_json(engine: Engine) -> dict[str, Any]:
    """What the history keeps of a build besides its Run."""
    names = ("recipe", "model_path", "plan", "layers", "nodes", "nodes_covered", "built_at", "machine")
    return {"release": engine.release, **{name: getattr(engine, name) for name in names}}


def run_of_measurement(
    measured: Measurement, *, model: Model | None = None, engine: Engine | None = None, study: str = "", note: str = ""
) -> Run:
    """model: what was measured, where no engine tells; of a PyTorch baseline, the model that stands for the same. Give
    History.add the run with `measured.to_json()`."""
    median = measured.median
    return Run(
        new_id(),
        stamp(),
        study=study,
        median_ms=median.value,
        low_ms=finite(median.low),
        high_ms=finite(median.high),
        p99_ms=measured.p99_ms,
        throughput_per_s=measured.throughput_per_s,
        note=note,
        kind="measurement",
        shapes=measured.inputs,
        clock=measured.clock,
        copies=measured.copies,
        threads=measured.threads,
        batch=measured.batch,
        **_what(model, engine, measured.name),
        **_where(measured.machine),
    )


def run_of_comparison(
    differences: Sequence[Difference],
    *,
    model: Model | None = None,
    engine: Engine | None = None,
    subject: str = "",
    study: str = "",
) -> Run:
    """Outputs of `engine`, or of what `subject` says, against a reference; the loss is that of the worst output. Give
    History.add the run with `{"outputs": [difference_to_json(item) for item in differences]}`."""
    worst = max((100 * item.relative for item in differences), default=None)
    result = {"loss": finite(worst), "metric": "relative"}
    return Run(new_id(), stamp(), study, kind="comparison", **result, **_what(model, engine, subject), **_where())


def run_of_evaluation(
    evaluation: Evaluation,
    *,
    model: Model | None = None,
    engine: Engine | None = None,
    subject: str = "",
    study: str = "",
) -> Run:
    """The loss is told in the metric that matters most. Give History.add the run with `evaluation.to_json()`."""
    metric = evaluation.metrics[0]
    result = {"loss": finite(evaluation.drop(metric).value), "metric": metric}
    return Run(new_id(), stamp(), study, kind="accuracy", **result, **_what(model, engine, subject), **_where())


def _what(model: Model | None, engine: Engine | None, subject: str) -> dict[str, Any]:
    if engine is None:
        told = {"model": model.name, "model_sha256": model.sha256} if model else {}
        return {**told, "subject": subject}
    return {
        "model": engine.model_name,
        "model_sha256": str(engine.recipe["model"]),
        "subject": subject or f"{engine.backend} {engine.precision}",
        "backend": engine.backend,
        "precision": engine.precision,
        "config": json.dumps(recipe_entries(engine.config), sort_keys=True, separators=(",", ":")),
        "engine": engine.key,
        "size_bytes": engine.plan_bytes,
        "build_s": engine.build_s,
    }


def _where(machine: Machine | None = None) -> dict[str, Any]:
    machine = machine or this_machine()
    return {"machine": str(machine), "machine_id": machine_id(machine)}
