"""ShapeState: a model and the sizes its open dimensions may take, as the user types them."""

from __future__ import annotations

from pathlib import Path

from traitlets import Dict, HasTraits, Instance, Unicode

from workbench.errors import ShapeError, StoreError, WorkbenchError
from workbench.model import Model, load_model
from workbench.openings import edit
from workbench.profiles import open_dimensions
from workbench.store import EngineStore
from workbench.types import OptimizationProfile
from workbench.widgets.bounds import bounds_of, bounds_problems, propose_bounds, read_bounds


class ShapeState(HasTraits):
    """What the form of EngineBuilder and ShapeExplorer have in common."""

    model_path = Unicode()
    model = Instance(Model, allow_none=True)
    model_error = Unicode()
    bounds = Dict(help="open dimension's key -> (min, opt, max) as the user typed them")

    @property
    def busy(self) -> bool:
        """Whether something runs that belongs to the model; nothing does here."""
        return False

    @property
    def no_shapes_note(self) -> str:
        """Why no sizes are asked for; empty where they are."""
        return ""

    def __init__(self, store: EngineStore | None = None) -> None:
        super().__init__()
        self.store = store
        self._stamp: tuple[int, int] | None = None

    def about_to_change(self) -> None:
        """Called before another model is taken; raises a WorkbenchError to prevent it."""

    def problem(self) -> str:
        """What is missing or wrong in the form, as a sentence; empty where nothing is."""
        return "" if self.model is not None else self.model_error or "Choose a model first."

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

    def shape_problems(self) -> dict[str, str]:
        """What is wrong with the typed sizes, in words, by the open dimension's key."""
        if self.model is None or self.no_shapes_note:
            return {}
        return bounds_problems(self.model.inputs, self.bounds)

    @property
    def profile(self) -> OptimizationProfile:
        """The profile that was typed. Raises ShapeError for sizes that make none."""
        problems = self.shape_problems()
        if problems:
            key, text = next(iter(problems.items()))
            raise ShapeError(f"{key}: {text}.")
        if self.model is None or self.no_shapes_note:
            return OptimizationProfile({})
        return read_bounds(self.model.inputs, self.bounds)

    def fill_in(self, profile: OptimizationProfile) -> None:
        """Type a profile's sizes into the form."""
        if self.model is not None:
            self.bounds = {**self.bounds, **bounds_of(self.model.inputs, profile)}

    def read_again_if_changed(self) -> None:
        """Take the file anew if somebody has exported the model again, with the sizes that were typed. Raises
        WorkbenchError for a file that is none any more; then all stays as it was."""
        if self.model is None or _stamp(self.model.path) == self._stamp:
            return
        edits, bounds = self.model.edits, self.bounds
        model = load_model(self.model.path)
        for change in edits:
            model = edit(model, change)
        if model.sha256 == self.model.sha256:
            self._stamp = _stamp(model.path)
            return
        self.take(model)
        if self.bounds.keys() == bounds.keys():
            self.bounds = bounds


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written again; None when it is gone."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
