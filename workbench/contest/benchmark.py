"""How fast: every back end and precision in turns, on batches of the user's own data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from workbench.accuracy import finite
from workbench.contest.entrants import check_entrants, opened
from workbench.contest.feeding import Ahead, OverBatches, check_batches, profile_of_sizes, read_ahead, sizes_of
from workbench.contest.rules import Contest
from workbench.contest.source import Source
from workbench.runs import Run, new_id
from workbench.study import Study, study_runs
from workbench.timing import Measurement, measure_together


@dataclass(frozen=True)
class Round:
    """One batch size. batches: so many different ones were fed."""

    batch: int
    batches: int
    study: Study

    def __str__(self) -> str:
        return f"{self.batches} batch{'' if self.batches == 1 else 'es'} of {self.batch}, in turns\n{self.study}"

    def to_json(self) -> dict[str, Any]:
        """Rows of numbers to read, and the whole study with its raw times."""
        rows = [_row(self.study, item) for item in self.study.measurements]
        return {"batch": self.batch, "batches": self.batches, "results": rows, "study": self.study.to_json()}


@dataclass(frozen=True)
class Benchmark:
    """about: what was fed, in sentences."""

    source: Source
    about: str
    rounds: tuple[Round, ...]

    def __str__(self) -> str:
        clocks = {
            item.name: ", ".join(filter(None, (item.clocked, item.released)))
            for part in self.rounds
            for item in part.study.measurements
        }
        first = self.rounds[0].study.measurements[0]
        conditions = dict.fromkeys(str(part.study.measurements[0].conditions or "") for part in self.rounds)
        told = [self.about, *(f"\n{part}" for part in self.rounds), ""]
        return "\n".join([*told, *_joined(clocks), *filter(None, conditions), str(first.machine)])

    @property
    def runs(self) -> list[tuple[Run, dict[str, Any]]]:
        """For the history: a row for every measurement; those of a round share a study."""
        return [row for part in self.rounds for row in study_runs(part.study)]

    def to_json(self) -> dict[str, Any]:
        model = self.source.model
        about = {"model": str(model.path), "model_sha256": model.sha256, "data": self.about}
        return {**about, "note": self.source.note, "rounds": [part.to_json() for part in self.rounds]}


def benchmark(contest: Contest) -> Benchmark:
    """Measure all that can run here in turns, on data that was read beforehand, at every batch size of the rules.

    Raises ConfigError for what cannot be asked, FeedError for data that do not fit, BackendError where nobody can run,
    Cancelled.
    """
    check_entrants(contest)
    sizes = dict.fromkeys(contest.rules.batches)
    check_batches(contest.source.model, sizes)
    ahead = read_ahead(contest)
    rounds = [_round(contest, ahead, size) for size in sizes]
    return Benchmark(contest.source, f"{contest.samples.about}\n{ahead.about}", tuple(rounds))


def _round(contest: Contest, ahead: Ahead, size: int) -> Round:
    model, batches = contest.source.model, ahead.batches(size)
    profile = profile_of_sizes(model, [sizes_of(ahead.samples[0].feeds)], size)
    with opened(contest, profile, batches[0]) as field:
        rivals = len(field.sessions) > 1
        turning = {name: OverBatches(session, batches, rivals=rivals) for name, session in field.sessions.items()}
        timing, listener, cancel = contest.rules.timing, contest.listener, contest.cancel
        measured = measure_together(turning, batches[0], timing, listener=listener, cancel=cancel)
    study = Study(
        id=new_id(),
        at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=model.name,
        model_sha256=model.sha256,
        subjects=tuple(field.subjects.values()),
        measurements=measured,
        reference=next(iter(field.sessions)),
        failures=field.failures,
    )
    return Round(size, min(session.fed for session in turning.values()), study)


def _row(study: Study, item: Measurement) -> dict[str, Any]:
    subject, median = study.subject(item.name), item.median
    return {
        "name": item.name,
        "backend": subject.backend,
        "precision": subject.precision,
        "engine": subject.engine.key if subject.engine else None,
        "median_ms": median.value,
        "low_ms": finite(median.low),
        "high_ms": finite(median.high),
        "p90_ms": item.p90_ms,
        "p99_ms": item.p99_ms,
        "host_median_ms": item.host_median_ms,
        "throughput_per_s": item.throughput_per_s,
        "rank": study.ranks[item.name],
        "verdict": study.verdict(item.name),
    }


def _joined(told: dict[str, str]) -> list[str]:
    """'a, b: the same for both', one line for each text."""
    names: dict[str, list[str]] = {}
    for name, text in told.items():
        names.setdefault(text, []).append(name)
    return [f"{', '.join(group)}: {text}" for text, group in names.items()]
