"""SubgraphView: what a back end takes of a model, as engines and native parts, with min_subgraph_size on a slider."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets
from traitlets import link

from workbench import backends
from workbench.errors import ShapesNotSet
from workbench.model import Model, load_model
from workbench.picture import Pane, Picture
from workbench.store import EngineStore
from workbench.types import Feeds, OptimizationProfile, count_of
from workbench.widgets import render, render_subgraphs
from workbench.widgets.browser import Manners
from workbench.widgets.graph import GraphView
from workbench.widgets.parts import CodeFold, Fold, button, row
from workbench.widgets.progress import ProgressView
from workbench.widgets.subgraph_state import ASKING, BUILDING, COLLECTING, SubgraphState

_DOING = {ASKING: "Asking the parser", COLLECTING: "Collecting shapes", BUILDING: "Building and running the parts"}
_HANDS = ("Python", "Command line", "Paddle-TRT")
_NOTHING = Picture("", Pane("", (), ()), Pane("", (), ()), (), ())


class SubgraphView(widgets.VBox):
    """Paddle-TRT's subgraph mode for any ONNX model, to look at and to try.

    model: a Model or a path. backend: whose parser is asked, the default back end if not given. profile: the sizes
    to build for; a proposal if not given. samples: feeds by input name, to collect shapes from and to run the first;
    without a profile all sizes come from them, without samples random ones in the profile's sizes are made. `state`
    holds everything and can be used without the view.
    """

    def __init__(
        self,
        model: Model | str | Path,
        backend: str | None = None,
        min_subgraph_size: int = 3,
        *,
        profile: OptimizationProfile | None = None,
        samples: Sequence[Feeds] = (),
        store: EngineStore | None = None,
    ) -> None:
        found = model if isinstance(model, Model) else load_model(model)
        chosen = backend or backends.default_backend()
        self.state = SubgraphState(found, chosen, min_subgraph_size, profile=profile, samples=samples, store=store)
        self.graph = GraphView(_NOTHING)
        form = widgets.VBox([_model_row(self.state), _Native(self.state).box, _Slider(self.state).box])
        form.add_class("wb-form")
        parts = [
            form,
            _Actions(self.state).box,
            ProgressView(self.state, list(_DOING), "Log").box,
            _Trouble(self.state).box,
            _Outcome(self.state).card,
            self.graph,
            _Tables(self.state).box,
            CodeFold(self.state, _HANDS, ("partition", "min_subgraph_size", "collected")).fold,
            Manners(),
        ]
        super().__init__([widgets.HTML(render.STYLE), *parts])
        self.add_class("wb")
        self.add_class("wb-wide")
        self.state.observe(lambda change: self._draw(), "partition")
        self.state.ask()

    def _draw(self) -> None:
        self.graph.picture = self.state.picture or _NOTHING

    def __repr__(self) -> str:
        return f"{self.state.model.name}: its subgraphs for {self.state.backend}"


def _model_row(state: SubgraphState) -> widgets.HBox:
    return row(
        "Model",
        widgets.HTML(render_subgraphs.model_line(state.model, state.backend, state.profile, len(state.samples))),
    )


class _Native:
    """Operators and nodes that the user keeps out of engines."""

    def __init__(self, state: SubgraphState) -> None:
        self.state = state
        self.text = widgets.Text(
            placeholder="operators or nodes, with commas", continuous_update=False, layout=widgets.Layout(width="320px")
        )
        self.again = button("Ask again", state.ask)
        quiet = "<span class='wb-quiet'>What you name here stays native, whatever the parser says (disable_ops).</span>"
        self.box = row("Keep native", self.text, self.again, widgets.HTML(quiet))
        link((state, "disabled"), (self.text, "value"))
        state.observe(lambda change: self._show(), "status")
        self._show()

    def _show(self) -> None:
        self.text.disabled = self.again.disabled = self.state.busy


class _Slider:
    """min_subgraph_size, and at once what it leaves."""

    def __init__(self, state: SubgraphState) -> None:
        self.state = state
        self.size = widgets.IntSlider(
            value=state.min_subgraph_size, min=1, max=max(3, state.min_subgraph_size), description="min_subgraph_size"
        )
        self.size.add_class("wb-slider")
        self.facts, self.steps = widgets.HTML(), widgets.HTML()
        self.box = row("Subgraphs", self.size, self.facts, self.steps)
        link((state, "min_subgraph_size"), (self.size, "value"))
        state.observe(lambda change: self._show(), ["partition", "status"])
        state.observe(lambda change: self._stretch(), "steps")
        self._show()

    def _stretch(self) -> None:
        self.size.max = max(self.state.last_size, self.state.min_subgraph_size, 3)

    def _show(self) -> None:
        self.size.disabled = self.state.busy or self.state.support is None
        partition = self.state.partition
        if partition is None:
            self.facts.value = "<span class='wb-quiet'>Known when the parser has answered.</span>"
            return
        self.facts.value = render_subgraphs.partition_facts(partition)
        self.steps.value = render_subgraphs.step_table(self.state.steps, self.state.min_subgraph_size)


class _Actions:
    def __init__(self, state: SubgraphState) -> None:
        self.state = state
        self.build = button("Build and run", state.build, primary=True)
        self.collect = button("Collect shapes", state.collect)
        self.cancel = button("Cancel", state.cancel)
        self.verdict = widgets.HTML()
        self.box = widgets.HBox([self.build, self.collect, self.cancel, self.verdict])
        self.box.add_class("wb-actions")
        state.observe(lambda change: self._show(), ["status", "changed", "partition", "collected"])
        self._show()

    def _show(self) -> None:
        state = self.state
        self.build.disabled = state.busy or state.partition is None
        self.collect.disabled = state.busy
        self.collect.layout.display = "" if state.has_open_inputs else "none"
        self.cancel.disabled = not state.busy
        if state.busy:
            text = f"{_DOING[state.status]} … {state.elapsed_s:.1f} s"
        else:
            text = f"Shapes collected: {state.collected}" if state.collected else ""
        self.verdict.value = f"<span class='wb-quiet' role='status'>{text}</span>"


class _Trouble:
    """What went wrong; where sizes are missing, both ways out as buttons."""

    def __init__(self, state: SubgraphState) -> None:
        self.state = state
        self.card = widgets.HTML()
        self.collect = button("Collect shapes", state.collect, primary=True)
        self.skip = button("", state.skip)
        self.ways = widgets.HBox([self.collect, self.skip])
        self.ways.add_class("wb-actions")
        self.box = widgets.VBox([self.card, self.ways])
        state.observe(lambda change: self._show(), ["error", "status"])
        self._show()

    def _show(self) -> None:
        error = self.state.error
        self.card.value = render.error_card(error, self.state.outcome)
        is_missing = isinstance(error, ShapesNotSet)
        self.ways.layout.display = "" if is_missing else "none"
        if isinstance(error, ShapesNotSet):
            left = count_of(self.state.engines_left(error.skip_at), "engine")
            self.skip.description = f"Raise min_subgraph_size to {error.skip_at}: leaves {left}"


class _Outcome:
    def __init__(self, state: SubgraphState) -> None:
        self.state = state
        self.card = widgets.HTML()
        state.observe(lambda change: self._show(), "outcome")

    def _show(self) -> None:
        outcome = self.state.outcome
        self.card.value = render_subgraphs.outcome_card(outcome) if outcome else ""


class _Tables:
    """The same in tables: every part, and every node that was refused."""

    def __init__(self, state: SubgraphState) -> None:
        self.state = state
        self.parts, self.refused = widgets.HTML(), widgets.HTML()
        self.folds = (Fold("Every part", self.parts), Fold("Refused nodes", self.refused))
        self.box: Any = widgets.VBox(self.folds)
        for fold in self.folds:
            fold.on_toggle(self._show)
        state.observe(lambda change: self._show(), "partition")
        self._show()

    def _show(self) -> None:
        partition = self.state.partition
        self.box.layout.display = "" if partition else "none"
        if partition is not None:
            parts, refused = self.folds
            refused.title = f"Refused nodes: {len(partition.refusals):,}"
            self.parts.value = render_subgraphs.part_table(partition) if parts.is_open else ""
            self.refused.value = render_subgraphs.refusal_table(partition) if refused.is_open else ""
