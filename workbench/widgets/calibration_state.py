"""CalibrationState: everything CalibrationStudio shows and does, without a browser."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

from traitlets import Bool, Instance, Int, Unicode, observe

from workbench.calibration.collect import COLLECTING as PHASE
from workbench.calibration.collect import collect
from workbench.calibration.collection import Collection, load_collection
from workbench.calibration.samples import Samples
from workbench.calibration.source import COLLECTION, kind_of
from workbench.errors import ConfigError, WorkbenchError
from workbench.model import Model
from workbench.preprocessing import Preprocessing, preprocessing_to_json
from workbench.store import EngineStore
from workbench.types import Calibration, LogLine, Progress
from workbench.widgets.calibration_code import Wish, calibration_code
from workbench.widgets.check_state import CheckState
from workbench.widgets.counts import read_count
from workbench.widgets.data_state import Data, DataState
from workbench.widgets.range_state import RangeState
from workbench.widgets.work_state import FormWork
from workbench.widgets.write_state import WriteState

COLLECTING = "collecting"
FORM = ("model", "samples", "count", "until_settled", "collection", "revision")
"""The traits that `code` follows."""


class CalibrationState(FormWork, DataState):
    """A model, its data, and what was collected. ranges, checks, writer: what is done with that."""

    count = Unicode("512", help="how many samples, spread over all; '' for all")
    until_settled = Bool(True, help="stop when no range grows any more")
    collection = Instance(Collection, allow_none=True)
    opened = Unicode(help="the file that the collection was read from")
    revision = Int(help="counts up when other ranges are chosen or a file is written")

    def __init__(self, store: EngineStore | None = None) -> None:
        self.ranges = RangeState()
        self._first: tuple[float, int] | None = None
        self._origin: object = None
        super().__init__(store)
        self.checks = CheckState(self.ranges, self)
        self.writer = WriteState(self.ranges, self.checks)
        self.ranges.observe(self._count_up, ["algorithm", "overrides"])
        self.checks.observe(self._count_up, "plan")
        self.writer.observe(self._count_up, "written")

    @property
    def is_locked(self) -> bool:
        """Whether something runs that belongs to the model and its data."""
        return self.busy or self.checks.busy or self.writer.busy

    # ---- collecting

    def problem(self) -> str:
        """Why Collect cannot be clicked, as a sentence; empty when it can."""
        waits = self.checks.busy or self.writer.busy
        return self.mistake() or ("Wait for what runs below, or cancel it." if waits else "")

    def mistake(self) -> str:
        """What is missing or wrong in the form."""
        if self.model is None:
            return self.model_error or "Choose a model first."
        if self.samples is None:
            return self.field_error or self.data_error or "Name data first."
        try:
            self.wanted()
        except ConfigError as error:
            return str(error)
        return ""

    def wanted(self) -> int | None:
        """The number of samples, None for all. Raises ConfigError for a text that is none."""
        return read_count(self.count)

    def start(self) -> None:
        """Collect in the background, from where an earlier run was stopped; does nothing while something runs."""
        if not self._is_ready():
            return
        model, samples, count, until_settled = self.model, self.samples, self.wanted(), self.until_settled
        assert model is not None and samples is not None
        self._forget_work()
        self._first = None

        def work(cancel: threading.Event) -> None:
            partial = self._partial(model, samples)
            partial.parent.mkdir(parents=True, exist_ok=True)
            collected = collect(
                model, samples, count=count, until_settled=until_settled, partial=partial,
                listener=self._listen, cancel=cancel,
            )  # fmt: skip
            self._take_collection(collected)
            self._origin = self._what()
            partial.unlink(missing_ok=True)

        self._run(COLLECTING, work)

    @property
    def can_resume(self) -> bool:
        """Whether a run over this model and these data was stopped before its end."""
        return self.model is not None and self.samples is not None and self._partial(self.model, self.samples).exists()

    @property
    def time_left_s(self) -> float | None:
        """By the samples so far; None before the second one."""
        phase = next((item for item in self.phases if item.name == PHASE), None)
        if not self.busy or phase is None or phase.total is None or self._first is None:
            return None
        seconds, done = self.elapsed_s - self._first[0], phase.done - self._first[1]
        return seconds / done * (phase.total - phase.done) if done > 0 else None

    def _listen(self, event: Progress | LogLine) -> None:
        if isinstance(event, Progress) and event.phase == PHASE and self._first is None:
            self._first = (self.elapsed_s, event.done)
        super()._listen(event)

    def _partial(self, model: Model, samples: Samples) -> Path:
        """Where what was collected stays when it is stopped: one file for a model and its data."""
        how = samples.preprocessing
        what = [model.sha256, self.data and str(Path(self.data).expanduser().absolute()), samples.about]
        key = hashlib.sha256(json.dumps([*what, preprocessing_to_json(how) if how else None]).encode()).hexdigest()
        return (self.store or EngineStore()).folder / "collections" / f"{model.name[:60]}-{key[:12]}.part.calib"

    # ---- what was collected

    def open_data(self, source: Data) -> None:
        """Take other data, or a collection made before. Raises as `about_to_change`."""
        if isinstance(source, str | Path) and _is_collection(source):
            self.open_collection(source)
            return
        if self.opened:
            self._take_collection(None)
        super().open_data(source)

    def open_collection(self, path: str | Path) -> None:
        """Look at a collection of this model; a file that is none of it leaves its reason in `data_error`."""
        super().open_data("")
        self.data = str(path).strip()
        try:
            collection = load_collection(path)
            self._check(collection)
        except WorkbenchError as error:
            self.data_error = str(error)
            return
        self._take_collection(collection)
        self.opened = str(path)

    def _check(self, collection: Collection) -> None:
        if self.model is None:
            raise ConfigError("choose the model first that the collection was made of.")
        if collection.model_sha256 != self.model.sha256:
            raise ConfigError(
                f"it was collected from another model ({collection.model_name}, or {self.model.name} before it was "
                "changed): collect again."
            )

    def _take_collection(self, collection: Collection | None) -> None:
        self._origin = None
        with self.hold_trait_notifications():
            self.collection, self.opened = collection, ""
        self.ranges.take(collection, self.model)
        self.checks.forget()
        self.writer.forget()

    def _what(self) -> object:
        """Which samples would be collected; arrays in memory are always other ones."""
        samples = self.samples
        return self.data or object(), samples and (len(samples), samples.preprocessing)

    def _count_up(self, change: object) -> None:
        self.revision += 1

    @observe("model", "samples")
    def _other_data(self, change: object) -> None:
        """What is shown belongs to the model and the data that were there; a slip in the form changes neither."""
        if self.opened:
            self.data = ""
        model, found = self.model, self.collection
        is_slip = self.samples is None and bool(self.data_error or self.field_error)
        is_same = is_slip or self._what() == self._origin
        is_of_model = found is not None and model is not None and found.model_sha256 == model.sha256
        if found is not None and not self.busy and not (is_same and is_of_model):
            self._take_collection(None)
        if not self.busy:
            self._forget_work()

    # ---- what others do with it

    def code(self) -> dict[str, str]:
        """The same in Python and for the shell, by title; empty while the form has a mistake."""
        if self.model is None or (self.mistake() and not self.opened):
            return {}
        file, plan = self.writer.written, self.checks.plan
        stated: Preprocessing | None = None if self.opened else self.stated
        wish = Wish(
            data=self.data, opened=self.opened, preprocessing=stated, count=None if self.opened else self.wanted(),
            until_settled=self.until_settled, algorithm=self.ranges.algorithm, overrides=dict(self.ranges.overrides),
            form=file.form if file else "", path=str(file.path) if file else "",
            release=file.release if file else "", keep=file.keep if file else (), plan=plan.keep if plan else (),
        )  # fmt: skip
        return calibration_code(self.model, wish)

    @property
    def calibration(self) -> Calibration:
        """For BuildConfig: what was written last. Raises ConfigError where it holds other ranges than are chosen."""
        return self.writer.calibration


def _is_collection(path: str | Path) -> bool:
    try:
        return Path(path).expanduser().is_file() and kind_of(path) == COLLECTION
    except (WorkbenchError, ValueError, OSError):
        return False
