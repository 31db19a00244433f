"""BuilderState: everything EngineBuilder shows and does, without a browser."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from traitlets import Bool, Dict, HasTraits, Instance, Int, Tuple, Unicode, observe

from workbench import backends, snippets
from workbench.building import Built, build
from workbench.dimensions import edit
from workbench.engine import open_engine, read_log
from workbench.errors import BuildError, Cancelled, ConfigError, ShapeError, StoreError, WorkbenchError
from workbench.model import Model, load_model
from workbench.profiles import open_dimensions, opt_shapes
from workbench.store import EngineStore
from workbench.timing import Measurement, measure, random_feeds
from workbench.types import BuildConfig, LogLine, OptimizationProfile, Progress, Support, parse_size
from workbench.widgets.bounds import bounds_problems, propose_bounds, read_bounds
from workbench.widgets.jobs import Job
from workbench.widgets.phases import Phase, update_phases

IDLE, BUILDING, DONE, FAILED, CANCELLED, TIMING = "idle", "building", "done", "failed", "cancelled", "timing"
_BUSY = (BUILDING, TIMING)
_TIMING_S = 10.0


class BuilderState(HasTraits):
    """What to build (traits the user changes), what is wrong with it, and how the build goes.

    `changed` counts up whenever something that is not a trait of its own has changed: phases, log, elapsed time.
    """

    model_path = Unicode()
    model = Instance(Model, allow_none=True)
    model_error = Unicode()
    backend = Unicode()
    precision = Unicode("fp32")
    bounds = Dict(help="open dimension's key -> (min, opt, max) as the user typed them")
    workspace = Unicode(help="'' for the back end's default, else '512M', '1G' or bytes")
    targets: Any = Tuple(allow_none=True, default_value=None, help="None for the back end's default")
    keep_io_types = Bool(True)
    reuse = Bool(True)

    status = Unicode(IDLE)
    built = Instance(Built, allow_none=True)
    measurement = Instance(Measurement, allow_none=True)
    measured_on = Unicode(help="'back end precision' that the measurement is of")
    error = Instance(WorkbenchError, allow_none=True)
    changed = Int()

    def __init__(self, store: EngineStore | None = None) -> None:
        super().__init__()
        self.store = store
        self.supports: Mapping[str, Support] = backends.available()
        self.phases: list[Phase] = []
        self.log: list[LogLine] = []
        self.job: Job | None = None
        self.built_code = self.timed_runs = ""
        self._stamp: tuple[int, int] | None = None
        self._clock = time.monotonic
        self._started = self._stopped = 0.0
        self._lock = threading.Lock()
        self.backend = backends.default_backend()

    # ---- what to build

    def load(self, path: str | Path) -> None:
        """Take another model; an unusable one empties the form and leaves its reason in `model_error`.

        Raises ConfigError while something runs: its result belongs to the model that is there.
        """
        self._refuse_while_busy()
        with self.hold_trait_notifications():
            try:
                self.take(load_model(path))
            except WorkbenchError as error:
                self._forget_result()
                self.model, self.model_error, self.bounds, self.model_path = None, str(error), {}, str(path)

    def upload(self, name: str, content: bytes) -> None:
        """Keep an uploaded ONNX file in the store and take it."""
        try:
            path = (self.store or EngineStore()).keep_upload(name, content)
        except StoreError as error:
            self.model_error = str(error)
            return
        self.load(path)
        self.model_error = self.model_error.replace(str(path), path.name)
        if "its weights are missing" in self.model_error:
            self.model_error += " One file is uploaded at a time: type the model's path instead."

    def take(self, model: Model) -> None:
        """Take a model that is already loaded. Raises ConfigError while something runs."""
        self._refuse_while_busy()
        with self.hold_trait_notifications():
            self.model, self.model_error, self.model_path = model, "", str(model.path)
            self._stamp = _stamp(model.path)
            self.bounds = propose_bounds(model.inputs)
            self._forget_result()

    def part(self, key: str) -> None:
        """Give every place of a shared dimension a name of its own, so that the sizes may differ."""
        assert self.model is not None
        model, bounds = self.model, self.bounds
        (dim,) = (item for item in open_dimensions(model.inputs) if item.key == key)
        for name, axis in dim.places:
            model = edit(model, f"{name}:{axis}={name}_{axis}")
        self.take(model)
        self.bounds = {item: bounds.get(item, texts) for item, texts in self.bounds.items()}

    @property
    def form_has_changed(self) -> bool:
        """Whether the form asks for something else than what was built last."""
        return self.built is not None and self.code().get("Python", "") != self.built_code

    @property
    def support(self) -> Support:
        return self.supports[self.backend]

    @property
    def uses_profiles(self) -> bool:
        """NVIDIA's builders want min, opt and max of every open dimension."""
        return not self.support.takes_any_shape

    def shape_problems(self) -> dict[str, str]:
        """What is wrong with the typed sizes, in words, by the open dimension's key."""
        if self.model is None or not self.uses_profiles:
            return {}
        return bounds_problems(self.model.inputs, self.bounds)

    def config(self) -> BuildConfig:
        """The configuration as typed. Raises ShapeError or ConfigError for what cannot be read."""
        problems = self.shape_problems()
        if problems:
            key, text = next(iter(problems.items()))
            raise ShapeError(f"{key}: {text}.")
        if self.targets == ():
            raise ConfigError("choose at least one target (Advanced options).")
        profiles: tuple[OptimizationProfile, ...] = ()
        if self.model is not None and self.bounds and self.uses_profiles:
            profiles = (read_bounds(self.model.inputs, self.bounds),)
        return BuildConfig(
            precision=self.precision,
            profiles=profiles,
            workspace_bytes=parse_size(self.workspace) if self.workspace.strip() else None,
            targets=self.targets or (),
            keep_io_types=self.keep_io_types,
        )

    def workspace_problem(self) -> str:
        try:
            parse_size(self.workspace.strip() or "0")
        except ConfigError as error:
            return str(error)
        return ""

    def problem(self) -> str:
        """Why Build cannot be clicked, as a sentence; empty when it can."""
        if self.model is None:
            return self.model_error or "Choose a model first."
        try:
            backends.load(self.backend).resolve(self.model, self.config())
        except WorkbenchError as error:
            return str(error)
        return ""

    def code(self) -> dict[str, str]:
        """The same build as people write it elsewhere, by title; empty while the form has a mistake."""
        if self.model is None or self.problem():
            return {}
        model, config, reuse = self.model, self.config(), self.reuse
        return {
            "Python": snippets.python_code(model, config, self.backend, reuse=reuse),
            "Command line": snippets.shell_line(model, config, self.backend, reuse=reuse),
            "trtexec": snippets.trtexec_line(model, config),
            "Paddle-TRT": snippets.paddle_code(model, config, reuse=reuse),
        }

    @observe("backend")
    def _backend_changed(self, change: Any) -> None:
        """Keep what the new back end can fulfil."""
        if self.precision not in self.support.precisions:
            self.precision = self.support.precisions[0]
        self.targets = None

    # ---- building

    @property
    def busy(self) -> bool:
        return self.status in _BUSY

    @property
    def elapsed_s(self) -> float:
        return (self._clock() if self.busy else self._stopped) - self._started

    def start(self) -> None:
        """Build in the background; does nothing while something runs already."""
        if self.busy:
            return
        self._read_again_if_changed()
        if self.problem():
            self._fail(ConfigError(self.problem()))
            return
        assert self.model is not None
        model, config, backend, reuse = self.model, self.config(), self.backend, self.reuse
        self._forget_result()
        self.built_code = self.code()["Python"]

        def work(cancel: threading.Event) -> None:
            built = build(model, config, backend, store=self.store, reuse=reuse, listener=self._listen, cancel=cancel)
            if built.reused:
                self.log = list(read_log(built.engine))
            self.built = built

        self._run(BUILDING, work)

    def cancel(self) -> None:
        """Stop what runs; the status says so within a second."""
        if self.job is not None:
            self.job.cancel.set()

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
        wish = replace(built.engine.config, precision=precision, targets=())

        def work(cancel: threading.Event) -> None:
            engine = built.engine
            if engine.backend != backend:
                engine = build(model, wish, backend, store=self.store, cancel=cancel).engine
            with open_engine(engine) as session:
                feeds = random_feeds(session, opt_shapes(session.inputs, built.engine.config.profiles))
                measured = measure(session, feeds, limit_s=_TIMING_S, listener=self._listen_to_timing, cancel=cancel)
            with self.hold_trait_notifications():
                self.measured_on = f"{backend} {precision}"
                self.measurement = measured

        self._run(TIMING, work)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until the work in the background has ended; False if it has not within timeout_s."""
        return self.job is None or self.job.wait(timeout_s)

    def _run(self, status: str, work: Callable[[threading.Event], None]) -> None:
        self._started = self._clock()
        self.timed_runs = ""
        self.error = None
        self.status = status

        def guarded(cancel: threading.Event) -> None:
            try:
                work(cancel)
                self._end(DONE)
            except Cancelled as error:
                self._fail(error, CANCELLED)
            except WorkbenchError as error:
                self._fail(error)
            except Exception as error:  # the edge: what was not foreseen is shown, and the kernel lives on
                self._fail(
                    BuildError(f"{type(error).__name__}: {error}", log_tail=tuple(traceback.format_exc().splitlines()))
                )

        self.job = Job(guarded, self._tick)

    def _end(self, status: str) -> None:
        self._stopped = self._clock()
        self.status = status

    def _fail(self, error: WorkbenchError, status: str = FAILED) -> None:
        self.error = error
        self._end(status)

    def _forget_result(self) -> None:
        with self._lock:
            self.phases, self.log = [], []
        with self.hold_trait_notifications():
            self.built = self.measurement = self.error = None
            self.status = IDLE
            self.changed += 1

    def _refuse_while_busy(self) -> None:
        if self.busy:
            raise ConfigError("something runs already: wait for it or cancel it first.")

    def _read_again_if_changed(self) -> None:
        """Take the file anew if somebody has exported the model again, with the sizes that were typed."""
        if self.model is None or _stamp(self.model.path) == self._stamp:
            return
        path, edits, bounds = self.model.path, self.model.edits, self.bounds
        try:
            model = load_model(path)
            for change in edits:
                model = edit(model, change)
            self.take(model)
        except WorkbenchError as error:
            self.model, self.model_error = None, str(error)
        if self.bounds.keys() == bounds.keys():
            self.bounds = bounds

    def _tick(self) -> None:
        self.changed += 1

    def _listen_to_timing(self, event: Progress | LogLine) -> None:
        if isinstance(event, Progress):
            self.timed_runs = f"{event.done:,} of {event.total:,} runs"

    def _listen(self, event: Progress | LogLine) -> None:
        with self._lock:
            if isinstance(event, LogLine):
                self.log.append(event)
            else:
                update_phases(self.phases, event, self._clock() - self._started)


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written again; None when it is gone."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
