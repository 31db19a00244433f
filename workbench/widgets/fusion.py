"""FusionView: a network before and after TensorRT, linked: which nodes became which kernel, and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from workbench.model import Model
from workbench.widgets import render, render_fusion
from workbench.widgets.browser import Manners
from workbench.widgets.fusion_state import Files, FusionState, Source
from workbench.widgets.graph import GraphView
from workbench.widgets.parts import CodeFold, Fold, button


class FusionView(widgets.VBox):
    """Look into an engine: `FusionView(built)`, or anything that `workbench.open_fusion` opens.

    source: an engine, the start of its key, its folder, or a file: inspector JSON, what trtexec or the engine explorer
    wrote, a VERBOSE build log. model: the ONNX model, where it is not found by itself. profile: trtexec's times of
    layers; times_ms: instead of it, the times by the layers' names. log: a VERBOSE build log. against: another engine
    of the same model to compare with.
    Raises what `open_fusion` raises. `state` holds everything and can be used without the view.
    """

    def __init__(
        self,
        source: Source,
        *,
        model: Model | str | Path | None = None,
        profile: str | Path | None = None,
        log: str | Path | None = None,
        against: Source | None = None,
        times_ms: Mapping[str, float] | None = None,
    ) -> None:
        self.state = FusionState(source, Files(model, profile, log, times_ms), against)
        opened = self.state.opened
        self.graph = GraphView(self.state.picture)
        parts: list[Any] = [widgets.HTML(render_fusion.fusion_card(opened)), self.graph]
        if self.state.difference and self.state.other:
            card = render_fusion.difference_card(self.state.difference, opened.title, self.state.other.title)
            parts.append(Fold("Compared with the other engine", widgets.HTML(card), is_open=True))
        parts.append(_lazy_fold("Every layer", lambda: render_fusion.group_table(opened.fusion)))
        if opened.fusion.fates:
            title = "Nodes without a kernel of their own"
            parts.append(_lazy_fold(title, lambda: render_fusion.fate_table(opened.fusion.fates)))
        if self.state.passes:
            parts.append(_Story(self.state).fold)
        parts += [CodeFold(self.state, ("Python", "Command line"), ()).fold, Manners()]
        super().__init__([widgets.HTML(render.STYLE), *parts])
        self.add_class("wb")
        self.add_class("wb-wide")

    def __repr__(self) -> str:
        lines = [self.state.opened.title, self.state.opened.fusion.summary]
        return "\n".join([*lines, self.state.difference.summary] if self.state.difference else lines)


def _lazy_fold(title: str, make: Any) -> Fold:
    """A fold whose content is made when it is opened: a large network has thousands of rows."""
    body = widgets.HTML()
    fold = Fold(title, body)
    fold.on_toggle(lambda: setattr(body, "value", make() if fold.is_open else ""))
    return fold


class _Story:
    """What the builder did, pass by pass."""

    def __init__(self, state: FusionState) -> None:
        self.state = state
        self.back, self.on = button("Back", lambda: state.turn(-1)), button("Next pass", lambda: state.turn(1))
        self.page = widgets.HTML()
        steps = widgets.HBox([self.back, self.on])
        steps.add_class("wb-actions")
        self.fold = Fold("How the builder got there, pass by pass", steps, self.page)
        state.observe(lambda change: self._show(), "place")
        self._show()

    def _show(self) -> None:
        self.back.disabled, self.on.disabled = self.state.place == 0, self.state.place == len(self.state.passes) - 1
        self.page.value = render_fusion.story_page(self.state.passes, self.state.place)
