"""ExplorerState: everything ShapeExplorer shows and does, without a browser."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from traitlets import Unicode

from workbench import snippets
from workbench.errors import WorkbenchError
from workbench.model import Model
from workbench.openings import InputDimension, describe_dimensions, edit
from workbench.profiles import BOUNDS
from workbench.store import EngineStore
from workbench.tensor_shapes import ShapeConflict, ShapeInference, TensorShape, TensorShapes
from workbench.types import Shape
from workbench.widgets.shape_state import ShapeState


class ExplorerState(ShapeState):
    """A model, the sizes to study it at, and the changes made to its dimensions."""

    bound = Unicode("opt", help="which of min, opt and max the table of tensors shows")
    words = Unicode(help="what the names or operators in the table must hold")
    said = Unicode(help="what the last change did")
    mistake = Unicode(help="why the last change was refused")

    def __init__(self, store: EngineStore | None = None) -> None:
        super().__init__(store)
        self.history: list[Model] = []
        self._study: _Study | None = None

    def take(self, model: Model) -> None:
        super().take(model)
        self.history, self.said, self.mistake = [], "", ""

    def load(self, path: str | Path) -> None:
        with self.hold_trait_notifications():
            super().load(path)
            if self.model is None:
                self.history, self.said, self.mistake = [], "", ""

    def part(self, key: str) -> None:
        before, history = self.model, self.history
        super().part(key)
        assert before is not None
        self.history = [*history, before]
        self.said = "Done: each place has a name of its own. The file itself is not changed."

    def change(self, text: str) -> None:
        """Fix, rename or open a dimension, as 'batch=4', 'batch=n' or 'x:2=height'; a refusal goes to `mistake`."""
        if self.model is None:
            self.mistake = "Choose a model first."
            return
        before = self.model
        try:
            after = edit(before, text.strip())
        except WorkbenchError as error:
            self.said, self.mistake = "", str(error)
            return
        self._replace(after, [*self.history, before])
        self.said = f"Done: {text.strip()}. The file itself is not changed."

    def undo(self) -> None:
        if self.history:
            self._replace(self.history[-1], self.history[:-1])
            self.said = "Taken back."

    def _replace(self, model: Model, history: list[Model]) -> None:
        """Take a changed model, with the sizes that were typed for dimensions it still has."""
        bounds = self.bounds
        with self.hold_trait_notifications():
            super().take(model)
            self.bounds = {key: bounds.get(key, texts) for key, texts in self.bounds.items()}
            self.history, self.mistake = history, ""

    @property
    def study(self) -> _Study | None:
        """What follows from the model alone; None without a model."""
        if self.model is None:
            return None
        if self._study is None or self._study.model is not self.model:
            self._study = _Study(self.model)
        return self._study

    def shapes(self) -> dict[str, TensorShapes]:
        """Every tensor at min, opt and max; empty while the sizes have a mistake."""
        if self.study is None or self.model is None or self.shape_problems():
            return {}
        ranges = self.profile.ranges
        fixed = {spec.name: tuple(dim for dim in spec.shape if isinstance(dim, int)) for spec in self.model.inputs}
        return {
            bound: self.study.at({**fixed, **{name: getattr(item, bound) for name, item in ranges.items()}})
            for bound in BOUNDS
        }

    def conflicts(self) -> list[tuple[str, ShapeConflict]]:
        """What the graph itself cannot take, with the bound where it happens first."""
        found: dict[str, tuple[str, ShapeConflict]] = {}
        for bound, shapes in self.shapes().items():
            for item in shapes.conflicts:
                found.setdefault(item.node, (bound, item))
        return list(found.values())

    def rows(self) -> list[tuple[TensorShape, TensorShape | None]]:
        """Every tensor by names and, if the sizes are right, at the chosen bound; those that `words` asks for."""
        if self.study is None:
            return []
        sized = self.shapes().get(self.bound)
        words = self.words.lower().split()
        return [
            (item, sized.by_name.get(item.name) if sized else None)
            for item in self.study.symbolic.tensors
            if all(word in f"{item.name} {item.op_type} {item.node}".lower() for word in words)
        ]

    def code(self) -> dict[str, str]:
        """The same edits and profile in Python and for the shell, by title; empty while the sizes have a mistake."""
        if self.model is None or self.shape_problems():
            return {}
        return {
            "Python": snippets.profile_code(self.model, self.profile),
            "Command line": snippets.inspect_line(self.model, self.profile),
        }


class _Study:
    def __init__(self, model: Model) -> None:
        self.model = model
        self._inference = ShapeInference(model)
        self._known: dict[tuple[tuple[str, Shape], ...], TensorShapes] = {}

    @cached_property
    def dimensions(self) -> tuple[InputDimension, ...]:
        return describe_dimensions(self.model)

    @cached_property
    def symbolic(self) -> TensorShapes:
        return self._inference.symbolic()

    def at(self, shapes: dict[str, Shape]) -> TensorShapes:
        """Remembers the last few: one keystroke changes one bound of three."""
        key = tuple(sorted(shapes.items()))
        if key not in self._known:
            if len(self._known) > 8:
                self._known.clear()
            self._known[key] = self._inference.at(shapes)
        return self._known[key]
