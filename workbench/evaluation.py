"""What quantization costs: two sessions on the same pictures, in the terms of the task and of the outputs."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from workbench.accuracy import Interval, all_finite
from workbench.errors import Cancelled, ConfigError, FeedError
from workbench.tally import Fed, OutputAgreement, Tally, TaskScore
from workbench.types import Feeds, Listener, Progress, count_of, ignore

METRICS = ("top1", "top5", "argmax", "relative")
"""What a loss is told in: points of top-1 or top-5 accuracy (needs labels), points of pictures whose class, the
largest value, changes, and relative error in percent."""


class Runs(Protocol):
    def run(self, feeds: Feeds) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Evaluation:
    """`other` against `reference` on `count` pictures. changed: ids of those whose class is another one now. digests:
    of what was fed, in order."""

    count: int
    top1: TaskScore | None
    top5: TaskScore | None
    outputs: tuple[OutputAgreement, ...]
    changed: tuple[str, ...] = ()
    digests: tuple[str, ...] = field(default=(), repr=False)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those of METRICS that were measured, the one that matters most first."""
        scores = {"top1": self.top1, "top5": self.top5, "argmax": self._classes}
        return (*(name for name, score in scores.items() if score), "relative")

    def drop(self, metric: str) -> Interval:
        """What was lost, in points of one of METRICS. Raises ConfigError where it was not measured."""
        if metric not in self.metrics:
            why = "the pictures have no labels" if metric in ("top1", "top5") else "it fits no output"
            if metric == "top5" and self.top1:
                why = "the network tells no more than five classes apart"
            raise ConfigError(f"{metric!r} was not measured: {why}; choose one of {', '.join(self.metrics)}.")
        if metric == "relative":
            return max((item.relative for item in self.outputs), key=lambda interval: interval.value)
        if metric == "argmax":
            kept = self._classes
            return Interval(100 - kept.value, 100 - kept.high, 100 - kept.low) if kept else Interval(0, 0, 0)
        score = self.top1 if metric == "top1" else self.top5
        return score.drop if score else Interval(0, 0, 0)

    @property
    def _classes(self) -> Interval | None:
        return next((item.argmax for item in self.outputs if item.argmax), None)

    def __str__(self) -> str:
        """What matters most first: accuracy with what was lost, then how far outputs lie apart."""
        scores = (("top-1", self.top1), ("top-5", self.top5))
        lines = [
            f"{name} {score.reference.value:.2f} % -> {score.other.value:.2f} %, {score.drop.value:+.2f} points lost "
            f"({score.drop.low:+.2f} to {score.drop.high:+.2f} with 95 % confidence)"
            for name, score in scores
            if score
        ]
        for item in self.outputs:
            same = f", {item.argmax.value:.2f} % of the classes the same" if item.argmax else ""
            lines.append(f"{item.output}: {item.relative.value:.2f} % apart, {item.snr_db.value:.1f} dB{same}")
        return "\n".join([count_of(self.count, "picture"), *lines])

    def to_json(self) -> dict[str, Any]:
        """JSON has no infinity and no NaN: null in their place."""
        data: dict[str, Any] = all_finite(asdict(self))
        return data


def evaluation_from_json(data: Mapping[str, Any]) -> Evaluation:
    """The inverse of Evaluation.to_json."""
    return Evaluation(
        count=data["count"],
        top1=_score(data["top1"]),
        top5=_score(data["top5"]),
        outputs=tuple(_output(item) for item in data["outputs"]),
        changed=tuple(data["changed"]),
        digests=tuple(data["digests"]),
    )


def _score(data: Mapping[str, Any] | None) -> TaskScore | None:
    if data is None:
        return None
    shares = {name: Interval(**data[name]) for name in ("reference", "other", "drop")}
    return TaskScore(**shares, lost=data["lost"], gained=data["gained"])


def _output(data: Mapping[str, Any]) -> OutputAgreement:
    """What was not finite: an error without end, a cosine of nothing, and a ratio without noise, or all noise where the
    error has no end."""
    relative = data["relative"]
    noise = {"value": relative["value"], "low": relative["high"], "high": relative["low"]}
    ratios = {name: -math.inf if error is None else math.inf for name, error in noise.items()}
    return OutputAgreement(
        output=data["output"],
        relative=_interval(relative, dict.fromkeys(relative, math.inf)),
        snr_db=_interval(data["snr_db"], ratios),
        cosine=_interval(data["cosine"], dict.fromkeys(relative, math.nan)),
        argmax=None if data["argmax"] is None else Interval(**data["argmax"]),
        max_abs=math.inf if data["max_abs"] is None else data["max_abs"],
    )


def _interval(data: Mapping[str, float | None], missing: Mapping[str, float]) -> Interval:
    ends = {name: missing[name] if value is None else value for name, value in data.items()}
    return Interval(**ends)


def evaluate(
    reference: Runs,
    other: Runs,
    batches: Iterable[Fed],
    *,
    total: int | None = None,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Evaluation:
    """Run both on the same pictures, one batch after another; nothing but scores is kept.

    total: the number of pictures, for Progress. Raises FeedError for outputs that do not belong together, or that
    have no row for each picture (feed one at a time then), and Cancelled.
    """
    tally = Tally()
    for batch in batches:
        if cancel is not None and cancel.is_set():
            raise Cancelled(f"stopped after {count_of(tally.count, 'picture')}.")
        tally.add(reference.run(batch.feeds), other.run(batch.feeds), batch)
        listener(Progress("Comparing outputs", tally.count, total))
    return evaluation_of(tally)


def evaluation_of(tally: Tally) -> Evaluation:
    """Raises FeedError where nothing was added."""
    if not tally.count:
        raise FeedError("there are no pictures to compare on.")
    scores = tally.scores()
    return Evaluation(tally.count, scores[1], scores[5], tally.outputs(), tuple(tally.changed), tuple(tally.digests))


def overlap(evaluation: Collection[str], calibration: Collection[str]) -> str:
    """A warning where pictures, told by their digests, were used for both; '' where they are disjoint."""
    twice = len(set(evaluation) & set(calibration))
    if not twice:
        return ""
    return (
        f"{count_of(twice, 'picture')} of {len(evaluation):,} served for calibration too: the accuracy comes out "
        "better than on new pictures. Evaluate on others."
    )
