"""A trial in words: in a line while the search goes on, and as `workbench runs show` tells it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from workbench.accuracy import Interval
from workbench.tuning.candidate import KNOBS, TITLES, value_text
from workbench.tuning.goals import Score
from workbench.tuning.goals import value_text as objective_text
from workbench.tuning.trial import COMPLETE, FAILED, PRUNED, Trial

STATES = {COMPLETE: "measured", PRUNED: "given up early", FAILED: "failed"}
"""What became of a trial, for people."""


def trial_line(trial: Trial, number: int, total: int | None) -> str:
    """'trial 3 of 25: onnxruntime fp16: 0.083 ms, 0.00 points lost'."""
    score, what = trial.score, trial.reason
    if trial.is_complete and score is not None:
        loss = objective_text("accuracy", score.loss.value, score.metric)
        what = f"{objective_text('latency', score.latency_ms.value)}, {loss} lost"
    of, known = f" of {total}" if total else "", ", known from before" if trial.known else ""
    return f"trial {number}{of}: {trial.candidate}: {what}{known}"


def trial_rows(trial: Trial) -> list[tuple[str, str]]:
    """(name, value): what it was, what became of it, what was measured, where."""
    candidate = trial.candidate
    found = [("candidate", str(candidate)), ("what became of it", STATES[trial.state]), ("why", trial.reason)]
    knobs = {name: getattr(candidate, name) for name in KNOBS}
    found += [(TITLES[name], value_text(name, value)) for name, value in knobs.items() if _tells(name, value)]
    found += list(_score_rows(trial.score)) if trial.score is not None else []
    if trial.seconds:
        told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in trial.seconds.items())
        found.append(("took", told))
    found += [("engines", ", ".join(trial.engines)), ("machine", trial.column), ("worker", trial.worker)]
    found.append(("tries", str(trial.attempts) if trial.attempts > 1 else ""))
    return [(name, value) for name, value in [*found, *(("warning", text) for text in trial.warnings)] if value]


def _tells(knob: str, value: object) -> bool:
    """Not of what the back end has no use for."""
    return not (knob in ("cuda_graph", "algorithm", "profiles") and value in (None, ""))


def _score_rows(score: Score) -> Iterator[tuple[str, str]]:
    yield "latency", _interval(score.latency_ms, "ms")
    yield "throughput", _interval(score.throughput, "per second, one run after the other")
    if math.isfinite(score.loss.value):
        yield "lost", _interval(score.loss, f"{'%' if score.metric == 'relative' else 'points'} of {score.metric}")
    yield "size", objective_text("size", score.size_bytes)
    yield "memory", objective_text("memory", score.memory_bytes)


def _interval(found: Interval, unit: str) -> str:
    """'0.083 ms (0.0826 to 0.0834)'."""
    sure = math.isfinite(found.low) and math.isfinite(found.high) and found.low < found.high
    ends = f" ({found.low:.4g} to {found.high:.4g})" if sure else ""
    return f"{found.value:.4g} {unit}{ends}"
