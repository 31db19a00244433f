"""Which layers cost the accuracy: each one in int8 by itself, then all of them while one after another returns."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from workbench import qdq
from workbench.accuracy import finite
from workbench.calibration.samples import Samples, choose
from workbench.calibration.table import CalibrationTable
from workbench.calibration.trials import Trials
from workbench.evaluation import Evaluation
from workbench.model import Model, operator
from workbench.types import Listener, LogLine, ignore

SAMPLES = 64
"""How many samples tell the layers apart; every layer runs on each of them."""
_FEW = 40


@dataclass(frozen=True)
class LayerError:
    """What one node in int8 does to the model's outputs.

    harm: the relative error that it adds, in percent. alone: measured with every other node in float; else, for nodes
    that are in int8 only together with their neighbours, such as a residual addition, from how much smaller the error
    gets when it alone is in float. evaluation: of that variant against the model.
    """

    node: str
    op_type: str
    harm: float
    alone: bool
    evaluation: Evaluation


@dataclass(frozen=True)
class Step:
    """The `count` most harmful nodes are in float, all others in int8."""

    count: int
    evaluation: Evaluation


@dataclass(frozen=True)
class Sensitivity:
    """layers: those measured, in the model's order. steps: by rising count; the first has all in int8. total: how many
    nodes are in int8 with these ranges. digests: of the samples. key: of the model, the ranges and the samples.
    finished: False for what had been measured when a run was stopped."""

    model: str
    total: int
    int8: Evaluation
    layers: tuple[LayerError, ...]
    steps: tuple[Step, ...]
    digests: tuple[str, ...]
    key: str
    finished: bool

    @property
    def order(self) -> tuple[str, ...]:
        """Names of the nodes, most harmful first."""
        return tuple(item.node for item in sorted(self.layers, key=lambda item: -item.harm))

    @property
    def samples(self) -> int:
        return self.int8.count

    def to_json(self) -> dict[str, Any]:
        """The layers most harmful first; numbers that are not finite as null."""
        by_name = {item.node: item for item in self.layers}
        return {
            "model": self.model,
            "samples": self.samples,
            "quantizable": self.total,
            "finished": self.finished,
            "key": self.key,
            "int8": self.int8.to_json(),
            "layers": [_row(by_name[name]) for name in self.order],
            "cumulative": [{"in_float": step.count, **step.evaluation.to_json()} for step in self.steps],
            "digests": list(self.digests),
        }


def _row(layer: LayerError) -> dict[str, Any]:
    about = {"node": layer.node, "op_type": layer.op_type, "harm": finite(layer.harm), "alone": layer.alone}
    return {**about, **layer.evaluation.to_json()}


def sensitivity(
    model: Model,
    table: CalibrationTable,
    samples: Samples,
    *,
    count: int | None = SAMPLES,
    size: int = 8,
    earlier: Sensitivity | None = None,
    each: Callable[[Sensitivity], None] | None = None,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Sensitivity:
    """Measure every node that these ranges bring to int8, on `count` samples spread over all, None for all. The model
    runs about twice as often as nodes times samples; rounding is simulated (see Trials).

    size: samples at once. earlier: what it holds for the same model, ranges and samples is not measured again. each:
    gets what is known after every node, also when this is stopped then. Raises Cancelled; ConfigError as
    qdq.quantize does; FeedError where nothing can be read.
    """
    indices = choose(len(samples), count)
    trials = Trials(model, table.amax, samples, indices, size=size, listener=listener, cancel=cancel)
    run = _Run(model, trials, each or (lambda _: None), listener)
    run.start(_key(model, table), earlier)
    run.one_by_one()
    run.cumulative()
    return run.result(finished=True)


class _Run:
    """What has been measured so far."""

    def __init__(self, model: Model, trials: Trials, each: Callable[[Sensitivity], None], listener: Listener) -> None:
        self.operators = {node.name: operator(node) for node in model.nodes}
        self.model, self.trials, self.each, self.listener = model, trials, each, listener
        self.nodes = tuple(qdq.planned(model, trials.amax))
        self.layers: dict[str, LayerError] = {}
        self.steps: dict[int, Step] = {}

    def start(self, key: str, earlier: Sensitivity | None) -> None:
        self.int8 = self.trials.measure((), "Measuring the model in int8")
        self.key = hashlib.sha256((key + "".join(self.int8.digests)).encode()).hexdigest()
        if earlier is not None and earlier.key == self.key:
            self.layers = {item.node: item for item in earlier.layers}
            self.steps = {step.count: step for step in earlier.steps}
            self.listener(LogLine("info", f"{len(self.layers):,} of {len(self.nodes):,} layers were measured before"))

    def one_by_one(self) -> None:
        for done, name in enumerate(self.nodes):
            if name not in self.layers:
                self.layers[name] = self._layer(name, done)
                self.each(self.result(finished=False))

    def cumulative(self) -> None:
        order, counts = self.result(finished=False).order, _counts(len(self.nodes))
        for done, count in enumerate(counts):
            if count not in self.steps:
                phase = "Returning layers to float one after another"
                evaluation = self.trials.measure(order[:count], phase, done, len(counts))
                self.steps[count] = Step(count, _bare(evaluation))
                self.each(self.result(finished=False))

    def _layer(self, name: str, done: int) -> LayerError:
        phase, total = "Measuring layers one by one", len(self.nodes)
        others = [node for node in self.nodes if node != name]
        alone = name in qdq.planned(self.model, self.trials.amax, others)
        evaluation = self.trials.measure(others if alone else (name,), phase, done, total)
        harm = evaluation.drop("relative").value
        if not alone:  # errors of independent roundings add up by their squares
            whole = self.int8.drop("relative").value
            harm = math.sqrt(max(0.0, whole**2 - harm**2)) if math.isfinite(whole) else 0.0
        return LayerError(name, self.operators[name], harm, alone, _bare(evaluation))

    def result(self, *, finished: bool) -> Sensitivity:
        return Sensitivity(
            model=self.model.name,
            total=len(self.nodes),
            int8=_bare(self.int8),
            layers=tuple(self.layers[name] for name in self.nodes if name in self.layers),
            steps=tuple(self.steps[count] for count in sorted(self.steps)),
            digests=self.int8.digests,
            key=self.key,
            finished=finished,
        )


def _bare(evaluation: Evaluation) -> Evaluation:
    """Without the samples' digests, which are the same for all of them."""
    return replace(evaluation, digests=())


def _counts(total: int) -> list[int]:
    """All counts of few layers; of many the first ones, then fewer and fewer."""
    if total <= _FEW:
        return list(range(total + 1))
    spread = {round(total ** (step / _FEW)) for step in range(_FEW + 1)}
    return sorted({0, *spread})


def _key(model: Model, table: CalibrationTable) -> str:
    ranges = "".join(f"{name}\0{value!r}\0" for name, value in sorted(table.amax.items()))
    return f"{model.sha256}\0{qdq.RELEASE}\0{ranges}"
