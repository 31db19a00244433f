"""TimingState: everything TimingBoard shows and does, without a browser: form, run and results."""

from __future__ import annotations

import threading
import traceback
from pathlib import Path
from typing import Any

from traitlets import Bool, Instance, Tuple, Unicode, observe

from workbench.errors import BackendError, WorkbenchError
from workbench.fusion.shares import GroupTimes
from workbench.store import EngineStore
from workbench.study import Study
from workbench.types import LogLine, Progress
from workbench.widgets.aside import Aside
from workbench.widgets.timing_export import export
from workbench.widgets.timing_form_state import TimingFormState
from workbench.widgets.timing_layers import group_times_of, layer_sources, usual_sides
from workbench.widgets.timing_recorded import Recording, recordings, usual_recording
from workbench.widgets.timing_results import LATENCY, LAYERS, Picture, Sheet, Shown, latency_sheet, pictures
from workbench.widgets.timing_run import Order, carry_out
from workbench.widgets.work_state import FormWork

MEASURING = "measuring"
WAITING = "Waiting for the run that was cancelled to end"
VIEW = ("study", "recorded", "section", "view", "as_table", "before", "after", "bounds")
"""The traits that say what is shown."""


class TimingState(FormWork, TimingFormState):
    """study: what was measured last. The other traits: what is looked at."""

    study = Instance(Study, allow_none=True)
    measured_code = Unicode(help="the form as Python when the study was made")
    recorded = Unicode(help="the key of a Recording to stand beside it; '' for none")
    section = Unicode(LATENCY, help="one of timing_results.SECTIONS")
    view = Unicode(help="the stem of one of the section's pictures; '' for the first")
    as_table = Bool(False)
    before = Unicode(help="whose layers to show; '' for the usual ones")
    after = Unicode(help="whose layers lie beside them; '' for the usual ones")
    exported: Any = Tuple(help="paths of the files that were written last, as text")
    export_error = Unicode()

    def __init__(self, store: EngineStore | None = None) -> None:
        self.recordings: tuple[Recording, ...] = ()
        self._aside = Aside()
        self._layers: dict[tuple[str, object], GroupTimes] = {}
        super().__init__(store)

    # ---- measuring

    def start(self) -> None:
        """Measure in the background; does nothing while something runs already."""
        if not self._is_ready():
            return
        try:
            order = self.order(self.feeds())
        except WorkbenchError as error:  # such as inputs that no random values fit
            self._fail(error)
            return
        code = self.code()["Python"]
        self._forget_work()

        def work(cancel: threading.Event) -> None:
            found = self._measured(order, cancel)
            with self.hold_trait_notifications():
                self.measured_code, self.before, self.after, self.view = code, "", "", ""
                self.study = found
            self.offer_again()

        self._run(MEASURING, work)

    def _measured(self, order: Order, cancel: threading.Event) -> Study:
        def listen(event: Progress | LogLine) -> None:
            if not cancel.is_set():  # what was left behind has nothing to tell any more
                self._listen(event)

        was_occupied = self._aside.is_occupied
        if was_occupied:
            listen(Progress(WAITING, 0, None))

        def measure() -> Study:
            if was_occupied:
                listen(Progress(WAITING, 1, 1))
            return carry_out(order, self.store or EngineStore(), listen, cancel)

        try:
            return self._aside.run(measure, cancel)
        except WorkbenchError:
            raise
        except Exception as error:  # a session of the notebook raises anything
            for line in traceback.format_exc().splitlines():
                self._listen(LogLine("error", line))
            raise BackendError(f"measuring failed: {type(error).__name__}: {error}; the log has the lines.") from error

    @property
    def form_has_changed(self) -> bool:
        """Whether the form asks for something else than what was measured last."""
        return self.study is not None and self.code().get("Python", "") != self.measured_code

    # ---- looking

    @property
    def recording(self) -> Recording | None:
        return next((item for item in self.recordings if item.key == self.recorded), None)

    def shown(self) -> Shown:
        """What the sections show, layers only where these are looked at."""
        batch = self.study.measurements[0].batch if self.study is not None else self.batch
        layers, problem = self._sides() if self.section == LAYERS else ((), "")
        return Shown(self.study, self.recording, batch, layers, problem)

    def latency(self) -> Sheet:
        return latency_sheet(self.shown())

    def views(self) -> tuple[Picture, ...]:
        """The pictures of the section."""
        return pictures(self.section, self.shown())

    def picture(self) -> Picture:
        """The one that is looked at."""
        found = self.views()
        return next((item for item in found if item.stem == self.view), found[0])

    def layer_sources(self) -> dict[str, str]:
        """Whose layers can be shown: by name why not, or ''."""
        return layer_sources(self.study, self.recording)

    @property
    def sides(self) -> tuple[str, str]:
        """Whose layers are shown: those chosen, else the usual ones; the second may be ''."""
        able = [name for name, problem in self.layer_sources().items() if not problem]
        usual = usual_sides(self.study, self.recording)
        first, second = (name if name in able else "" for name in (self.before, self.after))
        return first or usual[0], second or (usual[1] if usual[1] != first else "")

    def _sides(self) -> tuple[tuple[GroupTimes, ...], str]:
        """The layers of both, and in a sentence why one cannot be shown."""
        found = []
        for name in dict.fromkeys(filter(None, self.sides)):
            try:
                found.append(self._group_times(name))
            except WorkbenchError as error:
                return (), f"{name}: {error}"
        return tuple(found), ""

    def _group_times(self, name: str) -> GroupTimes:
        """Opened once, as large networks take a second."""
        assert self.model is not None
        key = (name, self.recorded if self.study is None else (self.study.id, self.recorded))
        if key not in self._layers:
            self._layers[key] = group_times_of(name, self.study, self.recording, self.model)
        return self._layers[key]

    # ---- files

    def export(self, form: str) -> None:
        """Write what is looked at into the working folder; `exported` or `export_error` tells how it went."""
        self.exported, self.export_error = (), ""
        name = self.study.model if self.study is not None else self.model.name if self.model is not None else "model"
        try:
            self.exported = tuple(map(str, export(self.picture(), form, name, Path.cwd())))
        except WorkbenchError as error:
            self.export_error = str(error)

    @observe("section", "view", "study", "recorded", "before", "after")
    def _other_view(self, change: Any) -> None:
        self.exported, self.export_error = (), ""
        if change["name"] == "section":
            self.view = ""

    @observe("model")
    def _other_results(self, change: Any) -> None:
        """What is shown belongs to the model that was there."""
        with self.hold_trait_notifications():
            self.study, self._layers = None, {}
            self.recordings = recordings(self.model) if self.model is not None else ()
            self.recorded = usual_recording(self.recordings, self.model) if self.model is not None else ""
        if not self.busy:
            self._forget_work()
