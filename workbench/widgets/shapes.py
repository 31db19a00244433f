"""ShapeExplorer: a model's dimensions, what follows from them, and a profile for EngineBuilder. DimensionTable: the
same to look at only."""

from __future__ import annotations

from html import escape
from pathlib import Path

import ipywidgets as widgets

from workbench.model import Model, load_model
from workbench.openings import describe_dimensions, what_back_ends_ask
from workbench.profiles import BOUNDS
from workbench.store import EngineStore
from workbench.types import OptimizationProfile
from workbench.widgets import render, render_shapes
from workbench.widgets.beginning import begin
from workbench.widgets.browser import Manners
from workbench.widgets.explorer_state import ExplorerState
from workbench.widgets.form import ModelPicker, ShapeTable
from workbench.widgets.parts import Choice, CodeFold, Fold, Option, button, row


class DimensionTable(widgets.HTML):
    """Inputs and outputs of a model: open dimensions, equal ones, frozen ones with the node at fault."""

    def __init__(self, model: Model | str | Path) -> None:
        found = model if isinstance(model, Model) else load_model(model)
        table = render_shapes.dimension_table(found, describe_dimensions(found), what_back_ends_ask(found))
        super().__init__(render.STYLE + table)
        self.add_class("wb")
        self._text = "\n".join(map(str, (f"{found.name}:", *found.inputs, "->", *found.outputs)))

    def __repr__(self) -> str:
        return self._text


class ShapeExplorer(widgets.VBox):
    """Change dimensions, see what every tensor becomes, and make a profile.

    model: a Model, a path, or nothing to start with the first model of data/. `model` and `profile` are what has been
    made so far, for `EngineBuilder(explorer.model, profile=explorer.profile)`; `state` holds everything and can be used
    without the view.
    """

    def __init__(self, model: Model | str | Path | None = None, *, store: EngineStore | None = None) -> None:
        self.state = ExplorerState(store)
        begin(self.state, model)
        form = widgets.VBox(
            [
                ModelPicker(self.state).box,
                _Dimensions(self.state).box,
                ShapeTable(self.state, "Every tensor below follows these sizes; a profile is made of them.").box,
                _Memory(self.state).box,
            ]
        )
        form.add_class("wb-form")
        parts = [
            form,
            _Tensors(self.state).fold,
            CodeFold(self.state, ("Python", "Command line"), ("model", "bounds")).fold,
            Manners(),
        ]
        super().__init__([widgets.HTML(render.STYLE), *parts])
        self.add_class("wb")

    @property
    def model(self) -> Model | None:
        """The model with the changes made to its dimensions; None while there is none."""
        return self.state.model

    @property
    def profile(self) -> OptimizationProfile:
        """The sizes as typed. Raises ShapeError for sizes that make no profile."""
        return self.state.profile


class _Dimensions:
    """What the dimensions are, and a line to change them."""

    def __init__(self, state: ExplorerState) -> None:
        self.state = state
        self.table, self.said = widgets.HTML(), widgets.HTML()
        self.text = widgets.Text(
            placeholder="batch=4, batch=n or x:2=height", continuous_update=False, layout=widgets.Layout(width="260px")
        )
        self.apply = button("Change", self._apply)
        self.undo = button("Undo", state.undo)
        help_text = (
            "NAME=SIZE fixes a dimension, NAME=NEW renames it. INPUT:AXIS=NAME names one, and opens it if it was fixed "
            "and the graph allows."
        )
        quiet = widgets.HTML(f"<span class='wb-quiet'>{help_text}</span>")
        self.box = row("Dimensions", self.table, self.text, self.apply, self.undo, quiet, self.said)
        state.observe(lambda change: self._show(), ["model", "said", "mistake"])
        self._show()

    def _apply(self) -> None:
        if self.text.value.strip():
            self.state.change(self.text.value)
            if not self.state.mistake:
                self.text.value = ""

    def _show(self) -> None:
        state, study = self.state, self.state.study
        self.table.value = (
            render_shapes.dimension_table(study.model, study.dimensions, what_back_ends_ask(study.model))
            if study
            else ""
        )
        self.undo.disabled, self.apply.disabled = not state.history, state.model is None
        self.said.value = (
            render.mistake(state.mistake) or f"<span class='wb-good' role='status'>{escape(state.said)}</span>"
        )


class _Memory:
    def __init__(self, state: ExplorerState) -> None:
        self.state = state
        self.facts, self.conflicts = widgets.HTML(), widgets.HTML()
        self.box = row("Memory", self.facts, self.conflicts)
        state.observe(lambda change: self._show(), ["model", "bounds"])
        self._show()

    def _show(self) -> None:
        self.box.layout.display = "" if self.state.model else "none"
        shapes = self.state.shapes()
        waiting = "<span class='wb-quiet'>Correct the sizes first.</span>" if self.state.model else ""
        self.facts.value = render_shapes.memory_card(shapes) if shapes else waiting
        self.conflicts.value = render_shapes.conflict_card(self.state.conflicts())


class _Tensors:
    """Every tensor's shape, by names and at one of the bounds."""

    def __init__(self, state: ExplorerState) -> None:
        self.state = state
        self.bound = Choice([Option(name, name) for name in BOUNDS], state.bound)
        self.words = widgets.Text(placeholder="search tensors and operators", layout=widgets.Layout(width="240px"))
        self.table = widgets.HTML()
        tools = widgets.HBox([self.bound, self.words])
        tools.add_class("wb-controls")
        self.fold = Fold("Every tensor", tools, self.table, is_open=True)
        self.fold.on_toggle(self._show)
        self.bound.observe(lambda change: setattr(state, "bound", change["new"]), "value")
        self.words.observe(lambda change: setattr(state, "words", change["new"]), "value")
        state.observe(lambda change: self._show(), ["model", "bounds", "bound", "words"])
        self._show()

    def _show(self) -> None:
        self.fold.layout.display = "" if self.state.model else "none"
        if self.fold.is_open:
            self.table.value = render_shapes.tensor_table(self.state.rows(), self.state.bound)
