"""FormState: what to build, as the user fills it in, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from traitlets import Bool, Dict, HasTraits, Instance, Tuple, Unicode, observe

from workbench import backends, snippets
from workbench.dimensions import edit
from workbench.errors import ConfigError, ShapeError, StoreError, WorkbenchError
from workbench.model import Model, load_model
from workbench.profiles import open_dimensions
from workbench.store import EngineStore
from workbench.types import BuildConfig, OptimizationProfile, Support, parse_size
from workbench.widgets.bounds import bounds_problems, propose_bounds, read_bounds

FORM = ("model", "backend", "precision", "bounds", "workspace", "targets", "keep_io_types", "reuse")
"""The traits that say what to build."""


class FormState(HasTraits):
    """The traits are what the user changes; everything else follows from them."""

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

    def __init__(self, store: EngineStore | None = None) -> None:
        super().__init__()
        self.store = store
        self.supports: Mapping[str, Support] = backends.available()
        self._stamp: tuple[int, int] | None = None
        self.backend = backends.default_backend()

    def about_to_change(self) -> None:
        """Called before another model is taken; raises a WorkbenchError to prevent it."""

    def load(self, path: str | Path) -> None:
        """Take another model; an unusable one empties the form and leaves its reason in `model_error`.

        Raises what `about_to_change` raises.
        """
        self.about_to_change()
        with self.hold_trait_notifications():
            try:
                self.take(load_model(path))
            except WorkbenchError as error:
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
        """Take a model that is already loaded. Raises what `about_to_change` raises."""
        self.about_to_change()
        with self.hold_trait_notifications():
            self.model, self.model_error, self.model_path = model, "", str(model.path)
            self._stamp = _stamp(model.path)
            self.bounds = propose_bounds(model.inputs)

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

    def read_again_if_changed(self) -> None:
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


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written again; None when it is gone."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
