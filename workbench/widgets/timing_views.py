"""The lower half of TimingBoard: what came out, as plots or tables, with what was recorded beside it."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from workbench.widgets import render, render_timing
from workbench.widgets.parts import Choice, Option, Select, button, row, said
from workbench.widgets.timing_export import FORMS
from workbench.widgets.timing_results import LATENCY, LAYERS, SECTIONS
from workbench.widgets.timing_state import VIEW, TimingState

_PLOT, _TABLE = "plot", "table"


class RecordedPicker:
    """Which recorded model stands beside."""

    def __init__(self, state: TimingState) -> None:
        self.state = state
        self.choice = Select("recorded model", lambda key: setattr(state, "recorded", key))
        self.note = widgets.HTML()
        self.box = row("Recorded", self.choice.control, self.note)
        state.observe(lambda change: self._show(), ["model", "recorded"])
        self._show()

    def _show(self) -> None:
        options = [("nothing recorded", ""), *((item.title, item.key) for item in self.state.recordings)]
        self.choice.offer(options, self.state.recorded if self.state.recording else "")
        self.note.value = render_timing.recording_note(self.state.recording)


class LayerSides:
    """Whose layers lie side by side."""

    def __init__(self, state: TimingState) -> None:
        self.state = state
        self.selects = [
            Select(label, lambda name, trait=trait: setattr(state, trait, name), "250px")
            for label, trait in (("layers of", "before"), ("beside", "after"))
        ]
        self.struck = widgets.HTML()
        named = [part for item in self.selects for part in (said(item.control.tooltip), item.control)]
        self.box = widgets.HBox([*named, self.struck])
        self.box.add_class("wb-toolbar")
        state.observe(lambda change: self.show(), ["study", "recorded", "section", "before", "after"])
        self.show()

    def show(self) -> None:
        sources = self.state.layer_sources()
        able = [name for name, problem in sources.items() if not problem]
        self.box.layout.display = "" if self.state.section == LAYERS and able else "none"
        for select, name in zip(self.selects, self.state.sides, strict=True):
            select.offer(able, name or None)
        told = [f"{name}: {problem}" for name, problem in sources.items() if problem]
        self.struck.value = render.quiet(". ".join(told))


class Results:
    """Sections, their views, plot or table, files; the card that tells how it was measured stays in sight above."""

    def __init__(self, state: TimingState) -> None:
        self.state = state
        self._stems: tuple[str, ...] = ()
        self.card, self.latency, self.picture, self.files = (widgets.HTML() for _ in range(4))
        self.sections = Choice([Option(name, title) for name, title in SECTIONS.items()], state.section)
        self.views, self.form = Choice(), Choice([Option(_PLOT, _PLOT), Option(_TABLE, _TABLE)], _PLOT)
        self.exports = {form: button(form.upper(), lambda form=form: state.export(form)) for form in FORMS}
        tools = widgets.HBox([self.views, self.form, *self.exports.values(), self.files])
        tools.add_class("wb-toolbar")
        recorded, sides = RecordedPicker(state).box, LayerSides(state).box
        parts: list[Any] = [self.card, recorded, self.sections, self.latency, sides, tools, self.picture]
        self.box = widgets.VBox(parts)
        self.box.add_class("wb-section")
        self.sections.observe(lambda change: setattr(state, "section", change["new"]), "value")
        self.views.observe(lambda change: setattr(state, "view", change["new"]), "value")
        self.form.observe(lambda change: setattr(state, "as_table", change["new"] == _TABLE), "value")
        state.observe(lambda change: self._show(), VIEW)
        state.observe(lambda change: self._show_files(), ["exported", "export_error"])
        state.observe(lambda change: self._show_card(), ["study", "status", "offered", "chosen", "iterations", "data"])
        self._show_card()
        self._show()

    def _show_card(self) -> None:
        state = self.state
        if state.study is not None:
            self.card.value = render_timing.study_card(state.study, form_has_changed=state.form_has_changed)
        else:
            self.card.value = "" if state.busy else render.quiet(render_timing.EMPTY)
        self.box.layout.display = "" if state.model is not None else "none"

    def _show(self) -> None:
        state = self.state
        if state.model is None:
            return
        found, shown = state.views(), state.picture()
        drawn = render_timing.picture_html(shown, as_table=state.as_table)  # the longest, so that all changes at once
        self.sections.choose(state.section)
        stems = tuple(item.stem for item in found)
        if stems != self._stems:
            self._stems = stems
            self.views.offer([Option(item.stem, item.title) for item in found], shown.stem)
        self.views.choose(shown.stem)
        self.views.layout.display = "" if len(found) > 1 else "none"
        self.form.choose(_TABLE if state.as_table else _PLOT)
        self.form.layout.display = "" if shown.plots else "none"
        for form, control in self.exports.items():
            control.disabled = not (shown.sheet.heads if form == "csv" else shown.plots)
        sheet = state.latency()
        is_told = state.section == LATENCY and (sheet.rows or sheet.recorded)
        self.latency.value = render_timing.sheet_table(sheet) if is_told else ""
        self.picture.value = drawn

    def _show_files(self) -> None:
        self.files.value = render_timing.export_note(self.state.exported, self.state.export_error)
