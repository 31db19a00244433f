"""TimingFormState: what to measure, as the user fills it in, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from traitlets import Bool, Float, Tuple, Unicode, observe

from workbench import backends
from workbench.calibration.collect import fixed_batch
from workbench.calibration.samples import open_samples
from workbench.errors import ConfigError, WorkbenchError
from workbench.profiles import opt_shapes, opt_values
from workbench.reference import random_feeds
from workbench.store import EngineStore
from workbench.study import Contestant
from workbench.timing import Timing
from workbench.types import Feeds, Shape, Support, count_of
from workbench.widgets.counts import read_count
from workbench.widgets.shape_state import ShapeState
from workbench.widgets.timing_choices import BASELINE, GIVEN, Candidate, Offer, candidates, engines_of, usual_choice
from workbench.widgets.timing_code import timing_code
from workbench.widgets.timing_run import Order, Sweep

FORM = (
    "model", "bounds", "offered", "chosen", "reference", "iterations", "limit", "layers", "batches", "streams", "data",
    "data_error", "count", "calibration",
)  # fmt: skip
"""The traits that say what to measure."""
_BATCHES = "1, 2, 4, 8"
_MOST_ITERATIONS = 1_000_000


class TimingFormState(ShapeState):
    """The traits are what the user changes, but for `offered` and what is said about the data."""

    offered: Any = Tuple(help="every Candidate, those that cannot be measured here too")
    chosen: Any = Tuple(help="names of candidates")
    reference = Unicode(help="a name; '' for the first of those that are chosen")
    iterations = Unicode("200")
    limit = Unicode("5", help="about so many seconds for each; '' for no limit")
    layers = Bool(True, help="time every layer too")
    batches = Unicode(_BATCHES, help="for throughput; '' for none")
    streams = Unicode("1")
    sweep_s = Float(0.5, help="seconds for each batch and number of streams")
    data = Unicode(help="path of samples to compare outputs on; '' for what is measured on")
    data_note, data_error = Unicode(), Unicode()
    count = Unicode("500", help="samples to compare outputs on; '' for all")
    calibration = Unicode(help="path of ranges for int8")

    def __init__(self, store: EngineStore | None = None) -> None:
        self.given: Mapping[str, Contestant] = {}
        self.given_feeds: Feeds | None = None
        self._given_for = ""
        self._usual_batches = _BATCHES
        self.supports: Mapping[str, Support] = backends.available()
        super().__init__(store)

    def give(self, contestants: Mapping[str, Contestant], feeds: Feeds | None) -> None:
        """What the notebook brings; it belongs to the model that is there."""
        self.given, self.given_feeds = dict(contestants), feeds
        self._given_for = self.model.sha256 if self.model is not None else ""
        self.offer_again()
        self.chosen = usual_choice(self.offered)

    @property
    def is_given_for_this(self) -> bool:
        """Whether the model is the one that the notebook's contestants and feeds belong to."""
        return self.model is not None and self.model.sha256 == self._given_for

    # ---- candidates

    def offer(self) -> Offer | None:
        """None without a model. Raises ShapeError for sizes that make no profile."""
        if self.model is None:
            return None
        return Offer(
            self.model, self.profile, self.supports, engines_of(self.model, self.store or EngineStore()),
            self.given if self.is_given_for_this else {}, self.calibration.strip(),
        )  # fmt: skip

    def offer_again(self) -> None:
        """Follow the form and the store; while the sizes have a mistake, what was offered stays."""
        try:
            offer = self.offer()
        except WorkbenchError:
            return
        self.offered = candidates(offer) if offer else ()
        able = {item.name for item in self.offered if not item.reason}
        self.chosen = tuple(name for name in self.chosen if name in able)

    def choose(self, name: str, on: bool) -> None:
        """Measure one, or do not; those that cannot be measured here stay out."""
        wanted = {*self.chosen, name} if on else {*self.chosen} - {name}
        self.chosen = tuple(item.name for item in self.offered if item.name in wanted and not item.reason)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Those that are chosen, in the order of the form."""
        return tuple(item for item in self.offered if item.name in self.chosen)

    @property
    def compared_with(self) -> str:
        """The reference: the one that was named, else a baseline of the workbench, else the first; '' without any."""
        usual = sorted(self.candidates, key=lambda item: item.kind != BASELINE)
        names = [item.name for item in usual]
        return self.reference if self.reference in names else next(iter(names), "")

    # ---- what is wrong

    def problem(self) -> str:
        """Why Run cannot be clicked, as a sentence; empty when it can."""
        if self.model is None:
            return self.model_error or "Choose a model first."
        if self.data_error:
            return self.data_error
        try:
            _ = self.profile
            self.timing(), self.sweep(), read_count(self.count)
        except WorkbenchError as error:
            return str(error)
        return "" if self.chosen else "Choose something to measure."

    def timing(self) -> Timing:
        """Raises ConfigError."""
        text = self.limit.strip()
        return Timing(
            iterations=_whole("Runs", self.iterations, _MOST_ITERATIONS),
            limit_s=_seconds(text) if text else None,
            layers=self.layers,
        )

    def sweep(self) -> Sweep | None:
        """None where no batches are named. Raises ConfigError."""
        batches = _several("Batches", self.batches, 1_000_000)
        streams = _several("Streams", self.streams, 256) or (1,)
        fixed = fixed_batch(self.model) if self.model is not None else None
        wrong = [batch for batch in batches if fixed and batch != fixed]
        if wrong:
            what = count_of(fixed or 1, "sample")
            raise ConfigError(f"Batches: the model takes {what} at once; write {fixed}, or nothing for no sweep.")
        return Sweep(batches, streams, self.sweep_s) if batches else None

    # ---- what follows

    def feeds(self) -> Feeds:
        """What the notebook gave, else random arrays in the profile's opt shapes. Raises FeedError and ShapeError."""
        if self.given_feeds is not None and self.is_given_for_this:
            return self.given_feeds
        assert self.model is not None
        profiles = (self.profile,)
        return random_feeds(self.model.inputs, opt_shapes(self.model.inputs, profiles), opt_values(profiles))

    @property
    def is_own_feeds(self) -> bool:
        """Whether the notebook gave the arrays."""
        return self.given_feeds is not None and self.is_given_for_this

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Of what is measured on, by input; empty where they are not known."""
        if self.given_feeds is not None and self.is_given_for_this:
            return {name: array.shape for name, array in self.given_feeds.items()}
        try:
            return opt_shapes(self.model.inputs, (self.profile,)) if self.model is not None else {}
        except WorkbenchError:
            return {}

    @property
    def inputs(self) -> str:
        """'image 1x1x28x28'."""
        sizes = {name: "x".join(map(str, shape)) or "scalar" for name, shape in self.shapes.items()}
        return ", ".join(f"{name} {size}" for name, size in sizes.items())

    @property
    def batch(self) -> int:
        """Of what is measured on; 1 where that is not known."""
        return next((shape[0] for shape in self.shapes.values() if shape), 1)

    def order(self, feeds: Feeds) -> Order:
        """Raises ConfigError and ShapeError where `problem` tells one."""
        offer = self.offer()
        if offer is None or self.problem():
            raise ConfigError(self.problem() or "Choose a model first.")
        return Order(
            offer, self.candidates, self.compared_with, feeds, self.timing(), self.sweep(), self.data.strip(),
            read_count(self.count),
        )  # fmt: skip

    def code(self) -> dict[str, str]:
        """The same in Python and for the shell, by title; empty while the form has a mistake."""
        if self.problem():
            return {}
        return timing_code(self.order({}), self.batch, own_feeds=self.is_own_feeds)

    # ---- the form follows itself

    @observe("model")
    def _other_model(self, change: Any) -> None:
        """What the user chose stays where the new model has it too, as one that was exported again does."""
        fixed = fixed_batch(self.model) if self.model is not None else None
        usual = str(fixed) if fixed else _BATCHES
        if self.batches == self._usual_batches:
            self.batches = usual
        self._usual_batches = usual
        had_given = any(item.kind == GIVEN for item in self.offered)
        self.offer_again()
        has_given = any(item.kind == GIVEN for item in self.offered)
        if not self.chosen or (has_given and not had_given):
            self.chosen = usual_choice(self.offered)
        self._look_at_data()

    @observe("bounds", "calibration")
    def _other_engines(self, change: Any) -> None:
        self.offer_again()

    @observe("data")
    def _other_data(self, change: Any) -> None:
        self._look_at_data()

    def _look_at_data(self) -> None:
        """What was found there, or why it cannot be used."""
        self.data_note = self.data_error = ""
        if not self.data.strip() or self.model is None:
            return
        try:
            samples = open_samples(self.data.strip(), self.model)
        except WorkbenchError as error:
            self.data_error = str(error)
            return
        labels = "with labels: accuracy is told" if samples.has_labels else "without labels: only outputs are compared"
        self.data_note = f"{count_of(len(samples), 'sample')} {labels}. {samples.about}"


def _whole(title: str, text: str, most: int) -> int:
    plain = text.strip().replace(",", "")
    if not plain.isdecimal() or not 0 < int(plain) <= most:
        raise ConfigError(f"{title}: {text.strip()!r} is none; write a whole number from 1 to {most:,}.")
    return int(plain)


def _several(title: str, text: str, most: int) -> tuple[int, ...]:
    """'1, 4 16' -> (1, 4, 16), each once and the smallest first."""
    return tuple(sorted({_whole(title, part, most) for part in text.replace(",", " ").split()}))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise ConfigError(f"Time limit: {text!r} is none; write seconds, such as 5, or nothing for no limit.")
    return value
