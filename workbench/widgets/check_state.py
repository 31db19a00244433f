"""CheckState: what int8 costs: which layers hurt, the fewest to leave in float, accuracy before and after."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from traitlets import Instance, Unicode

from workbench.calibration.plan import Plan, plan
from workbench.calibration.samples import Part, Samples, choose, open_samples
from workbench.calibration.sensitivity import Sensitivity, sensitivity
from workbench.calibration.source import SAMPLES, kind_of
from workbench.calibration.table import CalibrationTable
from workbench.calibration.trials import Trials
from workbench.calibration.work import gain_in_words, node_work
from workbench.errors import ConfigError, WorkbenchError
from workbench.evaluation import Evaluation, overlap
from workbench.model import Model
from workbench.profiles import default_profile, opt_shapes
from workbench.widgets.counts import read_count
from workbench.widgets.data_state import DataState
from workbench.widgets.range_state import RangeState
from workbench.widgets.work_state import WorkState

MEASURING, PLANNING, JUDGING = "measuring", "planning", "judging"
CHECKING = (MEASURING, PLANNING, JUDGING)


@dataclass(frozen=True)
class Accuracy:
    """All layers in int8, and those of `keep` in float, each against the model. warning: why it may flatter."""

    plain: Evaluation
    planned: Evaluation | None
    keep: tuple[str, ...]
    warning: str


class CheckState(WorkState):
    """One half of the samples finds layers and plan, the other one judges them; those of the calibration are left out
    as long as there are others."""

    data = Unicode(help="other samples than the studio's; '' for those of them that were not collected")
    layer_count = Unicode("64", help="samples that every layer is measured on; '' for all")
    plan_count = Unicode("500", help="samples that the plan is searched with")
    accuracy_count = Unicode("1000", help="samples that accuracy is told of")
    max_drop = Unicode("0.2")
    metric = Unicode(help="one of evaluation.METRICS; '' for the one that matters most")
    layers = Instance(Sensitivity, allow_none=True)
    plan = Instance(Plan, allow_none=True)
    accuracy = Instance(Accuracy, allow_none=True)
    gain = Unicode(help="which layers int8 serves, and what those of the plan cost, in words")

    def __init__(self, ranges: RangeState, form: DataState) -> None:
        super().__init__()
        self.ranges, self.form = ranges, form
        self._measured_with: object = None

    def problem(self) -> str:
        """Why nothing can be measured, as a sentence; empty when it can."""
        if self.ranges.collection is None:
            return "Collect first, or open a collection."
        if self.form.busy:
            return "Wait for the collection, or cancel it."
        if not self.data.strip() and self.form.samples is None:
            return "Name samples to measure with."
        try:
            for text in (self.layer_count, self.plan_count, self.accuracy_count):
                read_count(text)
            self._drop()
        except ConfigError as error:
            return str(error)
        return ""

    @property
    def is_stale(self) -> bool:
        """Whether the ranges were chosen anew since the layers were measured."""
        return (self.layers or self.accuracy) is not None and self._measured_with != self.ranges.choice

    def measure(self) -> None:
        """Every layer's error, in the background; what an earlier run measured with the same ranges is kept."""

        def work(given: _Given, cancel: threading.Event) -> None:
            self._measure(given, self._halves(given.model)[0], cancel)

        self._begin(MEASURING, work)

    def search(self) -> None:
        """The fewest layers in float that lose at most `max_drop`; measures the layers first where that is to be
        done."""

        def work(given: _Given, cancel: threading.Event) -> None:
            finding, _ = self._halves(given.model)
            if self.layers is None or not self.layers.finished or self.is_stale:
                self._measure(given, finding, cancel)
            assert self.layers is not None
            self.plan = plan(
                given.model, given.table, finding, self.layers, max_drop=self._drop(), metric=self.metric,
                count=read_count(self.plan_count), listener=self._listen, cancel=cancel,
            )  # fmt: skip
            self.gain, self.accuracy = _gain(given.model, self.plan.keep), None

        self._begin(PLANNING, work)

    def judge(self) -> None:
        """Accuracy of the model, of int8, and of int8 with the plan, if there is one."""

        def work(given: _Given, cancel: threading.Event) -> None:
            if self.is_stale:
                self.layers = self.plan = None
            self._measured_with = given.choice
            _, judging = self._halves(given.model)
            indices = choose(len(judging), read_count(self.accuracy_count))
            trials = Trials(given.model, given.table.amax, judging, indices, listener=self._listen, cancel=cancel)
            keep = self.plan.keep if self.plan else ()
            plain = trials.measure((), "Measuring all layers in int8")
            planned = trials.measure(keep, "Measuring the plan") if keep else None
            warning = overlap(plain.digests, given.digests)
            self.accuracy = Accuracy(plain, planned, keep, warning)

        self._begin(JUDGING, work)

    def forget(self) -> None:
        """What was measured belongs to a collection that is gone."""
        with self.hold_trait_notifications():
            self.layers = self.plan = self.accuracy = None
            self._measured_with, self.gain = None, ""
        self._forget_work()

    def _begin(self, status: str, work: Callable[[_Given, threading.Event], None]) -> None:
        if self.busy or self.problem():
            return
        self._forget_work()
        self._run(status, lambda cancel: work(self._given(), cancel))

    def _given(self) -> _Given:
        collection, model = self.ranges.collection, self.ranges.model
        if collection is None or model is None:
            raise ConfigError("the collection is gone: collect again.")
        choice = self.ranges.choice
        return _Given(model, self.ranges.table(), choice, frozenset(collection.samples.values()))

    def _measure(self, given: _Given, samples: Samples, cancel: threading.Event) -> None:
        if self.is_stale:
            self.plan = self.accuracy = None
        self._measured_with = given.choice
        self.gain = _gain(given.model, self.plan.keep if self.plan else ())
        self.layers = sensitivity(
            given.model, given.table, samples, count=read_count(self.layer_count), earlier=self.layers,
            each=self._keep_layers, listener=self._listen, cancel=cancel,
        )  # fmt: skip

    def _keep_layers(self, layers: Sensitivity) -> None:
        self.layers = layers

    def _halves(self, model: Model) -> tuple[Samples, Samples]:
        samples, indices = self._samples(model)
        if len(indices) < 2:
            return samples, samples
        return Part(samples, indices[0::2]), Part(samples, indices[1::2])

    def _samples(self, model: Model) -> tuple[Samples, Sequence[int]]:
        """All samples, and which of them the calibration has not used."""
        collection, path = self.ranges.collection, self.data.strip()
        if path:
            how = collection.preprocessing if collection is not None and _are_pictures(path) else None
            samples = open_samples(path, model, how)
            return samples, range(len(samples))
        samples = self.form.samples
        used = collection.samples if collection is not None else {}
        return samples, [index for index in range(len(samples)) if samples.id_of(index) not in used] or range(
            len(samples)
        )

    def _drop(self) -> float:
        try:
            value = float(self.max_drop)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1000:
            raise ConfigError(f"{self.max_drop.strip()!r} is no loss; write points, such as 0.2.")
        return value


@dataclass(frozen=True)
class _Given:
    """What a measurement is made of, taken when it begins. digests: of the calibration's samples."""

    model: Model
    table: CalibrationTable
    choice: object
    digests: frozenset[str]


def _gain(model: Model, keep: Sequence[str]) -> str:
    shapes = opt_shapes(model.inputs, (default_profile(model.inputs),))
    return gain_in_words(node_work(model, shapes), keep)


def _are_pictures(path: str) -> bool:
    """Whether a preprocessing makes them: arrays are fed as they are."""
    try:
        return kind_of(path) != SAMPLES
    except WorkbenchError:
        return Path(path).suffix not in (".npz", ".npy")
