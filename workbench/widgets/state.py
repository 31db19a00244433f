"""BuilderState: everything EngineBuilder shows and does, without a browser: the form, and how its build goes."""

from __future__ import annotations

import threading
from dataclasses import replace

from traitlets import Dict, Instance, Unicode

from workbench.backends import LayerClock
from workbench.building import Built, build
from workbench.engine import open_engine, read_log
from workbench.layer_times import median_times
from workbench.profiles import opt_shapes, opt_values
from workbench.reference import random_feeds
from workbench.store import EngineStore
from workbench.timing import PHASE, Measurement, Timing, measure
from workbench.types import BuilderOptions, LogLine, Progress
from workbench.widgets.form_state import FormState
from workbench.widgets.work_state import FormWork

BUILDING, TIMING = "building", "timing"
_TIMING_S = 10.0
_LAYER_RUNS = 20


class BuilderState(FormWork, FormState):
    """The form, and how its build goes."""

    built = Instance(Built, allow_none=True)
    measurement = Instance(Measurement, allow_none=True)
    measured_on = Unicode(help="'back end precision' that the measurement is of")
    layer_times_ms = Dict(help="median time of every layer of the built engine, where it was timed on a GPU")

    def __init__(self, store: EngineStore | None = None) -> None:
        self.built_code = self.timed_runs = ""
        super().__init__(store)

    def about_to_change(self) -> None:
        """What is shown belongs to the model that is there. Raises ConfigError while something runs."""
        super().about_to_change()
        with self.hold_trait_notifications():
            self._take(None)
            self._forget_work()

    @property
    def form_has_changed(self) -> bool:
        """Whether the form asks for something else than what was built last."""
        return self.built is not None and self.code().get("Python", "") != self.built_code

    def start(self) -> None:
        """Build in the background; does nothing while something runs already."""
        if not self._is_ready():
            return
        assert self.model is not None
        model, config, backend, reuse = self.model, self.config(), self.backend, self.reuse
        code = self.code()["Python"]
        self._forget_work()

        def work(cancel: threading.Event) -> None:
            built = build(model, config, backend, store=self.store, reuse=reuse, listener=self._listen, cancel=cancel)
            if built.reused:
                self.log = list(read_log(built.engine))
            self._take(built, code)

        self._run(BUILDING, work)

    @property
    def timed_engine(self) -> str:
        """What `time_it` would measure: the built engine where it can run, else ONNX Runtime's of the same model."""
        if self.built is None:
            return ""
        engine = self.built.engine
        if self.supports[engine.backend].can_run:
            return f"{engine.backend} {engine.precision}"
        precision = engine.precision if engine.precision in self.supports["onnxruntime"].precisions else "fp32"
        return f"onnxruntime {precision}"

    def time_it(self) -> None:
        """Measure `timed_engine` in the background, at the profile's opt shapes."""
        if self.busy or self.built is None or self.model is None:
            return
        model, built = self.model, self.built
        backend, precision = self.timed_engine.split()
        self.timed_runs = ""
        config = built.engine.config
        calibration = config.calibration if precision == "int8" else None
        kept = {} if calibration is None else config.builder.layer_precisions
        plain = BuilderOptions(layer_precisions=kept)
        wish = replace(config, precision=precision, targets=(), calibration=calibration, builder=plain)

        def work(cancel: threading.Event) -> None:
            engine = built.engine
            if engine.backend != backend:
                engine = build(model, wish, backend, store=self.store, cancel=cancel).engine
            profiles, layer_times = built.engine.config.profiles, {}
            with open_engine(engine) as session:
                feeds = random_feeds(session.inputs, opt_shapes(session.inputs, profiles), opt_values(profiles))
                measured = measure(
                    session, feeds, Timing(limit_s=_TIMING_S), listener=self._listen_to_timing, cancel=cancel
                )
                if engine is built.engine and isinstance(session, LayerClock):
                    layer_times = median_times(session.layer_times_ms(_LAYER_RUNS))
            with self.hold_trait_notifications():
                self.measured_on = f"{backend} {precision}"
                self.measurement, self.layer_times_ms = measured, layer_times

        self._run(TIMING, work)

    def _take(self, built: Built | None, code: str = "") -> None:
        """What was measured belongs to the engine that was there. code: that builds this one."""
        self.built_code = code
        with self.hold_trait_notifications():
            self.built, self.measurement, self.layer_times_ms = built, None, {}

    def _listen_to_timing(self, event: Progress | LogLine) -> None:
        if isinstance(event, Progress) and event.phase == PHASE:
            self.timed_runs = f"{event.done:,} of {event.total:,} runs"
