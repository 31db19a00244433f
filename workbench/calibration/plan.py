"""Which layers to leave in float so that int8 costs no more accuracy than was allowed: found by measuring."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workbench.accuracy import Interval, all_finite
from workbench.calibration.samples import Samples, choose
from workbench.calibration.sensitivity import Sensitivity
from workbench.calibration.table import CalibrationTable
from workbench.calibration.trials import Trials
from workbench.errors import ConfigError
from workbench.evaluation import METRICS, Evaluation
from workbench.model import Model
from workbench.types import Listener, LogLine, Progress, count_of, ignore

TRIALS = 40
"""The most variants that are measured in search of a plan."""
_PHASE = "Searching for the layers to leave in float"
_WORDS = {
    "top1": ("top-1 accuracy", "points"),
    "top5": ("top-5 accuracy", "points"),
    "argmax": ("agreement with the model's own answers", "points"),
    "relative": ("relative error of the outputs", "%"),
}


@dataclass(frozen=True)
class Trial:
    """keep: the nodes that were in float."""

    keep: tuple[str, ...]
    evaluation: Evaluation


@dataclass(frozen=True)
class Plan:
    """keep: names of the nodes to leave in float, most harmful first; for qdq.quantize's `keep`.

    metric: one of METRICS, in which at most `max_drop` may be lost. total: how many nodes would be in int8 else.
    before: all of them in int8; after: this plan. trials: all that was measured, in order. reached: whether `after` is
    within max_drop. certain: whether all of its interval is.
    """

    metric: str
    max_drop: float
    keep: tuple[str, ...]
    total: int
    before: Evaluation
    after: Evaluation
    trials: tuple[Trial, ...]

    @property
    def reached(self) -> bool:
        return self.after.drop(self.metric).value <= self.max_drop

    @property
    def certain(self) -> bool:
        return self.after.drop(self.metric).high <= self.max_drop

    def layer_precisions(self, precision: str = "fp16") -> dict[str, str]:
        """For BuilderOptions.layer_precisions of TensorRT up to 10."""
        return dict.fromkeys(self.keep, precision)

    @property
    def verdict(self) -> str:
        """What came out, in sentences."""
        return " ".join([_about(self), _confidence(self)])

    def to_json(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "max_drop": self.max_drop,
            "keep": list(self.keep),
            "quantizable": self.total,
            "reached": self.reached,
            "certain": self.certain,
            "verdict": self.verdict,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "trials": [
                {"keep": list(trial.keep), "drop": all_finite(asdict(trial.evaluation.drop(self.metric)))}
                for trial in self.trials
            ],
        }


def plan(
    model: Model,
    table: CalibrationTable,
    samples: Samples,
    measured: Sensitivity,
    *,
    max_drop: float = 0.2,
    metric: str = "",
    count: int | None = None,
    size: int = 8,
    trials: int = TRIALS,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Plan:
    """The fewest nodes in float with which `samples` lose at most `max_drop`.

    measured: tells the order in which nodes return to float. How many are needed is found by doubling, then halving;
    then each of them goes back to int8 where that is still within max_drop, the least harmful first, as long as
    `trials` last. metric: '' for top-1 with labels, else argmax, else relative. count: of samples, spread over all;
    None for all. size: samples at once. They should be others than those of the calibration, and the accuracy of what
    comes out is best measured on others again: the search takes what suits these ones.

    Raises Cancelled; ConfigError for a loss that is no number, a metric that these samples do not give, and where
    nothing was measured; FeedError where nothing can be read.
    """
    if metric and metric not in METRICS:
        raise ConfigError(f"there is no metric {metric!r}; choose one of {', '.join(METRICS)}.")
    if not math.isfinite(max_drop):
        raise ConfigError(f"{max_drop} is no loss to keep within; give a number of {_WORDS[metric or 'argmax'][1]}.")
    if not measured.layers:
        raise ConfigError(f"no layer of {model.name} was measured; run sensitivity first.")
    indices = choose(len(samples), count)
    ground = Trials(model, table.amax, samples, indices, size=size, listener=listener, cancel=cancel)
    search = _Search(ground, measured.order, max_drop, metric, trials, listener)
    keep = search.fewer(search.prefix())
    listener(Progress(_PHASE, 1, 1))
    return Plan(search.metric, max_drop, keep, measured.total, search.before, search.results[keep], search.trials)


class _Search:
    def __init__(
        self, ground: Trials, order: Sequence[str], max_drop: float, metric: str, most: int, listener: Listener
    ) -> None:
        self.ground, self.order, self.max_drop = ground, tuple(order), max_drop
        self.most, self.listener = most, listener
        self.results: dict[tuple[str, ...], Evaluation] = {}
        self.before = ground.measure((), _PHASE, 0, most)
        self.results[()] = self.before
        self.metric = metric or self.before.metrics[0]

    @property
    def trials(self) -> tuple[Trial, ...]:
        return tuple(Trial(keep, evaluation) for keep, evaluation in self.results.items())

    def is_enough(self, keep: tuple[str, ...]) -> bool:
        """Measure it, unless it was measured already."""
        if keep not in self.results:
            self.results[keep] = self.ground.measure(keep, _PHASE, len(self.results), self.most)
            told = _told(self.results[keep].drop(self.metric), self.metric)
            self.listener(LogLine("info", f"{count_of(len(keep), 'layer')} in float: {told}"))
        return self.results[keep].drop(self.metric).value <= self.max_drop

    def prefix(self) -> tuple[str, ...]:
        """The first nodes of the order, as few as are enough; all of them where nothing less is."""
        if self.is_enough(()):
            return ()
        low, high = 0, 1
        while high < len(self.order) and not self.is_enough(self.order[:high]):
            low, high = high, 2 * high
        high = min(high, len(self.order))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.is_enough(self.order[:middle]) else (middle, high)
        return self.order[:high]

    def fewer(self, keep: tuple[str, ...]) -> tuple[str, ...]:
        """Without the nodes that need not be in float, after all."""
        if not self.is_enough(keep):
            return keep
        for name in reversed(keep):
            without = tuple(other for other in keep if other != name)
            if len(keep) > 1 and len(self.results) < self.most and self.is_enough(without):
                keep = without
        return keep


def _about(plan: Plan) -> str:
    what, before = _WORDS[plan.metric][0], plan.before.drop(plan.metric)
    plain = f"All {count_of(plan.total, 'layer')} in int8: {_told(before, plan.metric)}."
    if not plan.keep:
        return f"{plain} The {what} needs no layer in float."
    share = f"{count_of(len(plan.keep), 'layer')} of {plan.total} in float"
    after = f"{plain} {share}: {_told(plan.after.drop(plan.metric), plan.metric)}."
    return after if plan.reached else f"{after} No plan stays within {plan.max_drop:g}."


def _confidence(plan: Plan) -> str:
    """Whether the number of pictures is enough to say so."""
    drop, count = plan.after.drop(plan.metric), plan.after.count
    if plan.certain or drop.low > plan.max_drop or plan.metric == "relative":
        return f"Measured on {count_of(count, 'sample')}."
    doubt = max(drop.high - drop.value, drop.value - drop.low)
    needed = math.ceil(count * (doubt / plan.max_drop) ** 2 / 100) * 100 if plan.max_drop else 0
    more = f"; about {needed:,} would" if needed > count else ""
    return f"{count_of(count, 'sample')} are too few to be sure of {plan.max_drop:g} {_WORDS[plan.metric][1]}{more}."


def _told(drop: Interval, metric: str) -> str:
    what, unit = _WORDS[metric]
    if metric == "relative":
        return f"{what} {drop.value:.2f} {unit} ({drop.low:.2f} to {drop.high:.2f} with 95 % confidence)"
    return f"{drop.value:+.2f} {unit} of {what} lost ({drop.low:+.2f} to {drop.high:+.2f} with 95 % confidence)"
