"""TunerFormState: what to search, as the user fills it in, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from traitlets import Dict, Tuple, Unicode, observe

from workbench.calibration.collect import fixed_batch
from workbench.errors import ConfigError, WorkbenchError
from workbench.qdq import quantizable
from workbench.store import EngineStore
from workbench.tuning import Budget, Goals, Space, usual_space
from workbench.tuning import Data as TuningData
from workbench.tuning.again import limit_text
from workbench.tuning.goals import parse_limit
from workbench.tuning.ground import Ground, this_ground
from workbench.tuning.plan import CALIBRATED, COMPARED
from workbench.tuning.space import Rules, count, sizes
from workbench.widgets.counts import read_count
from workbench.widgets.data_state import DataState
from workbench.widgets.tuner_code import SearchWish, search_code
from workbench.widgets.tuner_knobs import KnobRow, knob_rows, read_space, texts_of
from workbench.widgets.tuner_run import ADDRESS, HERE, LOCAL, Order

FORM = (
    "model", "bounds", "samples", "data", "data_error", "fields", "field_error", "objectives", "limits", "metric",
    "knobs", "trials", "minutes", "where", "address", "compared", "calibrated", "calibration",
)  # fmt: skip
"""The traits that say what to search."""
_TRIALS = "25"


class TunerFormState(DataState):
    """The traits are what the user changes; everything else follows from them."""

    objectives: Any = Tuple(Goals().objectives, help="what shall be good, what matters most first")
    limits = Unicode(help="what must hold: 'accuracy<=0.2, latency<=2'")
    metric = Unicode(help="what accuracy is told in, one of evaluation.METRICS; '' for what suits the data")
    knobs = Dict(help="the values of every knob as typed")
    trials = Unicode(_TRIALS, help="in all; '' for as many as there is time for")
    minutes = Unicode(help="of one Start; '' for no limit")
    where = Unicode(HERE, help="one of tuner_run.WHERE")
    address = Unicode(help="of a Dask scheduler, as tcp://host:8786")
    compared = Unicode(str(COMPARED), help="samples that outputs are compared on; '' for all that are left")
    calibrated = Unicode(str(CALIBRATED), help="samples that ranges are collected from")
    calibration = Unicode(help="path of ranges that are there already")

    def __init__(self, store: EngineStore | None = None, space: Space | None = None) -> None:
        self.given = space
        self.usual: Space | None = space
        self.usual_error = ""
        self.ground: Ground = this_ground()
        self._layers = 0
        super().__init__(store)

    def set_goals(self, goals: Goals) -> None:
        """Fill in what shall be good and what must hold."""
        self.objectives, self.metric = goals.objectives, goals.metric
        self.limits = ", ".join(map(limit_text, goals.limits))

    def wish_for(self, objective: str, on: bool) -> None:
        """Ask for one more, as the last; or do not ask for it. One is always left."""
        left = tuple(name for name in self.objectives if name != objective)
        self.objectives = (*left, objective) if on else left or self.objectives

    # ---- the space

    @property
    def has_ranges(self) -> bool:
        """Whether int8 has something to find its ranges in."""
        return self.samples is not None or bool(self.calibration.strip())

    @property
    def is_elsewhere(self) -> bool:
        """Whether nobody here knows what the workers can do."""
        return self.where == ADDRESS

    @property
    def is_usual(self) -> bool:
        """Whether the space is the one that is usual on this machine."""
        return self.given is None and self.is_unchanged

    @property
    def is_unchanged(self) -> bool:
        """Whether every knob is as it was at first."""
        return self.usual is not None and self.knobs == texts_of(self.usual)

    def space(self) -> Space:
        """The one that was typed. Raises ConfigError."""
        if self.usual is None:
            raise ConfigError(self.usual_error or "Choose a model first.")
        return read_space(self.usual, self.knobs)

    def rules(self) -> Rules | None:
        """What is known of model, data and this machine; None without a model."""
        if self.model is None:
            return None
        return Rules(
            self.ground, is_quantized=self.model.is_quantized, has_ranges=self.has_ranges, layers=self._layers,
            fixed_batch=fixed_batch(self.model),
        )  # fmt: skip

    def knob_rows(self) -> tuple[KnobRow, ...]:
        """One for every knob; none without a model."""
        rules = self.rules()
        if self.usual is None or rules is None:
            return ()
        return knob_rows(self.usual, self.knobs, None if self.is_elsewhere else rules)

    def set_knob(self, knob: str, text: str) -> None:
        """Type the values of a knob."""
        self.knobs = {**self.knobs, knob: text}

    def as_usual(self) -> None:
        """Undo what was typed."""
        self.knobs = texts_of(self.usual) if self.usual is not None else {}

    def sizes(self) -> tuple[str, tuple[str, ...]]:
        """'72 combinations, 28 after rules', and why fewer; '' while a knob is wrong."""
        rules = self.rules()
        if rules is None or self.usual is None:
            return "", ()
        if self.is_elsewhere and self.is_usual:
            return "What is usual where the workers are", ("It is counted when they are there.",)
        try:
            space = self.space()
        except WorkbenchError:
            return "", ()
        if self.is_elsewhere:
            return f"{space.size:,} combinations before rules", (
                "What the workers can do is asked when they are there.",
            )
        return sizes(space, rules), rules.left_out(space)

    # ---- what is wrong

    def goals(self) -> Goals:
        """Raises ConfigError for a limit that is none."""
        found = [parse_limit(text) for text in self.limits.replace(";", ",").split(",") if text.strip()]
        metrics = list(dict.fromkeys(filter(None, (self.metric, *(metric for _, metric in found)))))
        if len(metrics) > 1:
            raise ConfigError(f"accuracy is told in one metric: name {metrics[0]} or {metrics[1]}, not both.")
        return Goals(tuple(self.objectives), tuple(limit for limit, _ in found), "".join(metrics))

    def limit_problem(self) -> str:
        try:
            self.goals()
        except WorkbenchError as error:
            return str(error)
        return ""

    def budget(self) -> Budget:
        """Raises ConfigError."""
        trials = _number("Trials", self.trials, whole=True)
        minutes = _number("Minutes", self.minutes)
        return Budget(None if trials is None else int(trials), minutes)

    def budget_problem(self) -> str:
        try:
            found = self.budget()
        except WorkbenchError as error:
            return str(error)
        return "" if found.trials or found.minutes else "Say how many trials, or how many minutes."

    def calibration_problem(self) -> str:
        path = self.calibration.strip()
        is_missing = bool(path) and not Path(path).expanduser().exists()
        return f"{path}: there is no such file; name a collection or a table." if is_missing else ""

    def where_problem(self) -> str:
        text = self.address.strip()
        if self.where != ADDRESS or "://" in text:
            return ""
        return f"{text!r} is no address; write it like tcp://host:8786." if text else "Write the scheduler's address."

    def data_problem(self) -> str:
        if self.data_error or self.field_error:
            return self.data_error or f"Preprocessing: {self.field_error}"
        try:
            read_count(self.compared), read_count(self.calibrated)
        except WorkbenchError as error:
            return str(error)
        return self.calibration_problem()

    def problem(self) -> str:
        """Why Start cannot be clicked, as a sentence; empty when it can."""
        if self.model is None:
            return self.model_error or "Choose a model first."
        known = self.data_problem() or self.limit_problem() or self.budget_problem() or self.where_problem()
        if known:
            return known
        try:
            space = self.space()
            if self.samples is None:
                _ = self.profile
        except WorkbenchError as error:
            return str(error)
        rules = self.rules()
        if not self.is_elsewhere and rules is not None and count(space, rules) == 0:
            return " ".join(["No candidate is left to try.", *rules.left_out(space)])
        return ""

    # ---- what follows

    def order(self) -> Order:
        """Raises ConfigError and ShapeError where `problem` tells one."""
        if self.model is None or self.problem():
            raise ConfigError(self.problem() or "Choose a model first.")
        path = self.calibration.strip()
        data = TuningData(
            self.samples, None, str(Path(path).expanduser()) if path else None,
            read_count(self.calibrated) or CALIBRATED, read_count(self.compared),
        )  # fmt: skip
        profile = self.profile if self.samples is None else None
        return Order(
            self.model, None if self.is_elsewhere and self.is_usual else self.space(), self.goals(), data,
            self.budget(), self.scheduler, profile if profile and profile.ranges else None,
        )  # fmt: skip

    @property
    def scheduler(self) -> str | None:
        """As tuning.connect takes it."""
        return {HERE: None, LOCAL: "local", ADDRESS: self.address.strip()}[self.where]

    def code(self) -> dict[str, str]:
        """The same in Python and for the shell, by title; empty while the form has a mistake."""
        if self.problem():
            return {}
        wish = SearchWish(self.order(), self.data, self.stated, self.usual if self.given is None else None)
        return search_code(wish)

    # ---- the form follows itself

    @observe("model", "samples", "calibration")
    def _other_space(self, change: Any) -> None:
        """What is usual follows model and data; knobs that were changed stay."""
        before = texts_of(self.usual) if self.usual is not None and self.knobs else {}
        self.usual, self.usual_error = self._usual()
        if self.usual is None:
            self.knobs = {}
            return
        new = texts_of(self.usual)
        self.knobs = {knob: new[knob] if self.knobs.get(knob) == before.get(knob) else self.knobs[knob] for knob in new}

    def _usual(self) -> tuple[Space | None, str]:
        self._layers = 0
        if self.model is None:
            return None, ""
        try:
            if self.samples is not None and not self.model.is_quantized:
                self._layers = len(quantizable(self.model))
            if self.given is not None:
                return self.given, ""
            return usual_space(self.ground, self.model, has_data=self.has_ranges), ""
        except WorkbenchError as error:
            return None, str(error)


def _number(title: str, text: str, *, whole: bool = False) -> float | None:
    """None for nothing."""
    plain = text.strip().replace(",", "")
    if not plain:
        return None
    try:
        value = float(plain)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6 or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise ConfigError(f"{title}: {text.strip()!r} is none; write {kind} above 0, or nothing for no limit.")
    return value
