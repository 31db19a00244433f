"""WriteState: the chosen ranges go into a file, checked before."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from traitlets import Bool, Instance, Unicode, observe

from workbench.calibration.collection import SUFFIX, save_collection
from workbench.calibration.lint import Finding, lint, raise_for
from workbench.calibration.text_tables import release_digits
from workbench.calibration.writing import RELEASE, write_table
from workbench.errors import ConfigError
from workbench.types import Calibration
from workbench.widgets.check_state import CheckState
from workbench.widgets.range_state import RangeState
from workbench.widgets.work_state import WorkState

WRITING = "writing"
COLLECTION_FORM = "collection"
FORMS = {
    COLLECTION_FORM: "the histograms: serves every algorithm and release later",
    "trt-cache": "TensorRT's calibration cache, for one release; also Paddle-TRT's",
    "ranges": "name: amax, a line each, as NVIDIA's samples read it",
    "ort": "ONNX Runtime's calibration.json, .cache and .flatbuffers, in a folder",
    "qdq": "the model with Q/DQ nodes: for TensorRT-RTX, TensorRT 11, ONNX Runtime",
}
_ENDINGS = {
    COLLECTION_FORM: SUFFIX,
    "trt-cache": ".cache",
    "ranges": ".ranges.txt",
    "ort": "-ort",
    "qdq": ".int8.onnx",
}


@dataclass(frozen=True)
class Written:
    """A file and what was chosen when it was written. keep: nodes that Q/DQ leaves in float."""

    path: Path
    form: str
    release: str
    keep: tuple[str, ...]
    choice: object
    findings: tuple[Finding, ...]


class WriteState(WorkState):
    """What to write, and what was written last."""

    form = Unicode(COLLECTION_FORM)
    path = Unicode(help="'' for `proposed`")
    release = Unicode(RELEASE, help="TensorRT's, for its cache")
    with_plan = Bool(True, help="Q/DQ leaves the layers of the plan in float")
    written = Instance(Written, allow_none=True)

    def __init__(self, ranges: RangeState, checks: CheckState) -> None:
        super().__init__()
        self.ranges, self.checks = ranges, checks

    @property
    def proposed(self) -> str:
        """A path for this form, in the working folder."""
        model = self.ranges.model
        return f"{model.name if model else 'model'}{_ENDINGS[self.form]}"

    @property
    def target(self) -> Path:
        """Where it goes."""
        return Path(self.path.strip() or self.proposed).expanduser().absolute()

    @property
    def keep(self) -> tuple[str, ...]:
        """The nodes that Q/DQ leaves in float."""
        plan = self.checks.plan
        return plan.keep if plan is not None and self.form == "qdq" and self.with_plan else ()

    def problem(self) -> str:
        """Why Write cannot be clicked; empty when it can."""
        if self.ranges.collection is None:
            return "Collect first; then there is something to write."
        if self.ranges.model is not None and self.target == self.ranges.model.path:
            return f"{self.target}: the model itself has this name; name another."
        if self.form == "trt-cache":
            try:
                release_digits(self.release)
            except ConfigError as error:
                return str(error)
        return ""

    def start(self) -> None:
        """Write in the background; an error among the findings prevents it."""
        if self.busy or self.problem() or self.ranges.model is None or self.ranges.collection is None:
            return
        model, collection = self.ranges.model, self.ranges.collection
        form, release, keep = self.form, self.release if self.form == "trt-cache" else "", self.keep
        path, choice = self.target, self.ranges.choice
        self._forget_work()

        def work(cancel: threading.Event) -> None:
            findings: tuple[Finding, ...] = ()
            if form == COLLECTION_FORM:
                save_collection(collection, path)
            else:
                table = self.ranges.table()
                findings = lint(table, model)
                raise_for(findings, str(path))
                write_table(table, path, form, model=model, release=release, keep=keep)
            self.written = Written(path, form, release, keep, choice, findings)

        self._run(WRITING, work)

    @property
    def calibration(self) -> Calibration:
        """What was written last, for BuildConfig. Raises ConfigError where it is of no use there."""
        file = self.written
        if file is None:
            raise ConfigError("nothing was written yet: write a collection or a table first.")
        if file.form == "qdq":
            raise ConfigError(f"{file.path} is a model with Q/DQ nodes: build it as it is, it needs no calibration.")
        algorithm, overrides = self.ranges.choice
        if file.form == COLLECTION_FORM and overrides:
            raise ConfigError("a collection does not hold what was chosen for single tensors: write a table.")
        if self.is_stale:
            raise ConfigError(f"{file.path} holds other ranges than are chosen now: write it again.")
        return Calibration(str(file.path), algorithm if file.form == COLLECTION_FORM else Calibration.algorithm)

    @property
    def is_stale(self) -> bool:
        """Whether the file holds other ranges than are chosen now; a collection holds what all are made of."""
        file = self.written
        return file is not None and file.form != COLLECTION_FORM and file.choice != self.ranges.choice

    def forget(self) -> None:
        """What was written belongs to a collection that is gone."""
        self.written = None
        self._forget_work()

    @observe("form")
    def _form_changed(self, change: object) -> None:
        self.path = ""
