"""Searches as data, without searching: what is shown of them does not depend on how they came about."""

from __future__ import annotations

from dataclasses import replace

from workbench.accuracy import Interval
from workbench.machine import this_machine
from workbench.study import Study, Subject
from workbench.timing import Measurement
from workbench.tuning.candidate import Candidate
from workbench.tuning.goals import Goals, Limit, Score
from workbench.tuning.result import FINISHED, Best, Column, Tuned
from workbench.tuning.trial import COMPLETE, FAILED, PRUNED, Trial
from workbench.types import BuildConfig

HERE = "EPYC, 2 cores"
HOSTILE = "<img src=x onerror=alert(1)>|`$@a"
MB = 1_000_000


def score(ms: float, lost: float = 0.0, *, batch: int = 1, size: int = MB, metric: str = "top1") -> Score:
    """Intervals of 1 % and 0.1 points to both sides."""
    rate = 1000 * batch / ms
    return Score(
        Interval(ms, 0.99 * ms, 1.01 * ms), Interval(rate, 0.99 * rate, 1.01 * rate),
        Interval(lost, lost - 0.1, lost + 0.1), metric, size, 2 * size,
    )  # fmt: skip


def trial(number: int, candidate: Candidate, found: Score | None, state: str = COMPLETE, **fields: object) -> Trial:
    made = Trial(f"{number:012x}", candidate, state, HERE, found, at="2026-12-01T12:00:00+00:00", worker="here")
    return replace(made, engines=(f"{number:032x}",), seconds={"build": 1.0, "timing": 0.5}, **fields)  # type: ignore[arg-type]


def trials() -> tuple[Trial, ...]:
    """fp32 and fp16 by hand; int8 faster and worse; one beyond the limit, one given up, one that failed."""
    ort = "onnxruntime"
    return (
        trial(1, Candidate(ort), score(4.0, 0.0, size=4 * MB)),
        trial(2, Candidate(ort, "fp16"), score(2.0, 0.1, size=2 * MB), known=True),
        trial(3, Candidate(ort, "int8", "entropy"), score(1.0, 0.4)),
        trial(4, Candidate(ort, "int8", "minmax"), score(1.2, 3.0), warnings=("Other programs were busy.",)),
        trial(5, Candidate(ort, "int8", "minmax", threads=1), score(9.0), PRUNED, reason="it is hopeless"),
        trial(6, Candidate(ort, "int8", "entropy", threads=1), None, FAILED, reason=HOSTILE, attempts=3),
    )


def study(medians_ms: dict[str, float]) -> Study:
    """In turns, 30 runs each within 1 %."""
    measured = tuple(
        Measurement(
            tuple(ms * (1 + 0.01 * ((7 * run) % 11 - 5) / 5) for run in range(30)), 2, {"image": (1, 1, 28, 28)},
            "perf_counter", this_machine(), name=name,
        )
        for name, ms in medians_ms.items()
    )  # fmt: skip
    subjects = tuple(Subject(name, "onnxruntime", "fp32") for name in medians_ms)
    return Study("5" * 12, "2026-12-01T12:00:00+00:00", "net", "a" * 64, subjects, measured, next(iter(medians_ms)))


def tuned(**fields: object) -> Tuned:
    """A finished search with finals and a best."""
    best = Best("000000000003", (f"{3:032x}",), BuildConfig("int8"), ("000000000003",), "Its latency is the best.")
    finalists = {"onnxruntime fp16": "000000000002", "onnxruntime int8 entropy": "000000000003"}
    column = Column(
        HERE, "72 combinations, 28 after rules", ("rtx cannot run here: no GPU",), finalists,
        study({"onnxruntime fp16": 2.0, "onnxruntime int8 entropy": 1.0}), best,
        {"latency": {"precision": 0.9, "threads": 0.1}, "accuracy": {"precision": 0.4, "algorithm": 0.6}},
    )  # fmt: skip
    found = Tuned(
        "abcdef012345", "net", "a" * 64, Goals(limits=(Limit("accuracy", 1.0),)), FINISHED, trials(), (column,),
        seconds=44.0, at="2026-12-01T12:01:00+00:00", shapes={"image": (1, 1, 28, 28)}, data="100 pictures",
    )  # fmt: skip
    return replace(found, **fields)  # type: ignore[arg-type]
