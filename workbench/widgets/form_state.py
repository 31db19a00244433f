"""FormState: what to build, as the user fills it in, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from traitlets import Bool, Instance, Tuple, Unicode, observe

from workbench import backends, snippets
from workbench.errors import ConfigError, WorkbenchError
from workbench.store import EngineStore
from workbench.trtexec import trtexec_line
from workbench.types import BuildConfig, BuilderOptions, Calibration, Support, parse_size
from workbench.widgets.shape_state import ShapeState

FORM = (
    "model", "backend", "precision", "bounds", "workspace", "targets", "keep_io_types", "calibration",
    "algorithm", "options", "reuse",
)  # fmt: skip
"""The traits that say what to build."""


class FormState(ShapeState):
    """The traits are what the user changes; everything else follows from them."""

    backend = Unicode()
    precision = Unicode("fp32")
    workspace = Unicode(help="'' for the back end's default, else '512M', '1G' or bytes")
    targets: Any = Tuple(allow_none=True, default_value=None, help="None for the back end's default")
    keep_io_types = Bool(True)
    calibration = Unicode(help="for int8: path of a collection, of a calibration table or of samples as .npz")
    algorithm = Unicode(Calibration.algorithm, help="how ranges are found; no field, see take_config")
    options = Instance(BuilderOptions, (), help="no fields, see take_config")
    reuse = Bool(True)

    def __init__(self, store: EngineStore | None = None) -> None:
        super().__init__(store)
        self.supports: Mapping[str, Support] = backends.available()
        self.backend = backends.default_backend()

    @property
    def support(self) -> Support:
        return self.supports[self.backend]

    @property
    def no_shapes_note(self) -> str:
        """NVIDIA's builders want min, opt and max of every open dimension."""
        return f"{self.support.title} takes any shape; nothing to choose." if self.support.takes_any_shape else ""

    def config(self) -> BuildConfig:
        """The configuration as typed. Raises ShapeError or ConfigError for what cannot be read."""
        profile = self.profile
        if self.targets == ():
            raise ConfigError("choose at least one target (Advanced options).")
        if self.calibration_problem():
            raise ConfigError(self.calibration_problem())
        path = self.calibration.strip() if self.wants_calibration else ""
        return BuildConfig(
            precision=self.precision,
            profiles=(profile,) if profile.ranges and not self.no_shapes_note else (),
            workspace_bytes=parse_size(self.workspace) if self.workspace.strip() else None,
            targets=self.targets or (),
            keep_io_types=self.keep_io_types,
            calibration=Calibration(str(Path(path).expanduser()), self.algorithm) if path else None,
            builder=self.options,
        )

    def take_config(self, backend: str, config: BuildConfig) -> None:
        """Fill in a whole configuration, such as a search has found; what has no field stands in `algorithm` and
        `options` until another back end or calibration is chosen. Raises as `about_to_change`."""
        self.about_to_change()
        self.backend = backend
        found = config.calibration
        self.workspace = "" if config.workspace_bytes is None else str(config.workspace_bytes)
        self.calibration = found.path if found is not None else ""
        self.precision, self.keep_io_types = config.precision, config.keep_io_types
        self.targets = config.targets or None
        self.algorithm = found.algorithm if found is not None else Calibration.algorithm
        self.options = config.builder
        for profile in config.profiles[:1]:
            self.fill_in(profile)

    def taken(self) -> str:
        """What was taken over and has no field, in words; '' for nothing."""
        options = {name: getattr(self.options, name) for name in self.options.changed}
        told = [f"ranges by {self.algorithm}"] if self.algorithm != Calibration.algorithm else []
        return ", ".join([*told, *(f"{name.replace('_', ' ')} {value}" for name, value in options.items())])

    def drop_taken(self) -> None:
        """Back to what is usual."""
        self.algorithm, self.options = Calibration.algorithm, BuilderOptions()

    @property
    def wants_calibration(self) -> bool:
        """Whether int8 is chosen, which needs ranges."""
        return self.precision == "int8" and "int8" in self.support.precisions

    def calibration_problem(self) -> str:
        """A model with Q/DQ nodes brings its ranges along."""
        path = self.calibration.strip()
        if not self.wants_calibration or (not path and self.brings_ranges):
            return ""
        if not path:
            found = "name a collection, a calibration table, or samples as .npz (Advanced options)"
            return f"int8 needs the range of every activation: {found}."
        return "" if Path(path).expanduser().exists() else f"{path}: there is no such calibration file."

    @property
    def brings_ranges(self) -> bool:
        """Whether the model has Q/DQ nodes, so that int8 needs no calibration."""
        return self.model is not None and self.model.is_quantized

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
            "trtexec": trtexec_line(model, config, self.backend),
            "Paddle-TRT": snippets.paddle_code(model, config, reuse=reuse),
        }

    @observe("backend")
    def _backend_changed(self, change: Any) -> None:
        """Keep what the new back end can fulfil."""
        if self.precision not in self.support.precisions:
            self.precision = self.support.precisions[0]
        self.targets = None
        self.options = BuilderOptions()

    @observe("calibration")
    def _calibration_changed(self, change: Any) -> None:
        self.algorithm = Calibration.algorithm
