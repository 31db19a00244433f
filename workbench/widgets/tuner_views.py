"""The lower half of Tuner: what was found so far, as a front to click, tables and plots, of one search."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from workbench.tuning.goals import OBJECTIVES
from workbench.tuning.result import FINISHED
from workbench.widgets import render, render_timing, render_tuner
from workbench.widgets.parts import Choice, Option, Select, button, row, said
from workbench.widgets.timing_export import FORMS
from workbench.widgets.timing_results import Picture
from workbench.widgets.tuner_points import PointPlot, RowTable, shown_heads, shown_row, shown_spot
from workbench.widgets.tuner_results import FRONT, NOT_SEARCHED, SECTIONS, trial_heads, trial_rows
from workbench.widgets.tuner_state import TunerState
from workbench.widgets.tuner_view_state import VIEW

_PLOT, _TABLE = "plot", "table"


class SearchPicker:
    """The own search or a recorded one, and which kind of machine of it."""

    def __init__(self, state: TunerState) -> None:
        self.state = state
        self.search = Select("search", lambda key: setattr(state, "recorded", key), "560px")
        self.column = Select("kind of machine", lambda name: setattr(state, "column", name))
        self.note = widgets.HTML()
        self.box = row("Look at", self.search.control, self.column.control, self.note)
        state.observe(lambda change: self._show(), ["recorded", "column", "tuned", "model"])
        self._show()

    def _show(self) -> None:
        state = self.state
        own = ("your search" if state.tuned is not None else "your search: none yet", "")
        options = [own, *((f"{item.model}, {item.recorded}", item.id) for item in state.recordings)]
        self.search.offer(options, state.recorded)
        names = [column.name for column in state.viewed.columns] if state.viewed is not None else []
        self.column.offer([(name, name) for name in names], state.viewed_column.name if names else None)
        self.column.control.layout.display = "" if len(names) > 1 else "none"
        told = [state.recordings_error] if state.recordings_error else []
        told += ["Each kind of machine has results of its own; nothing is ranked across."] if len(names) > 1 else []
        self.note.value = render.quiet(" ".join(told))
        self.note.layout.display = "" if told else "none"
        self.box.layout.display = "" if state.recordings or len(names) > 1 or told else "none"


class Results:
    """The verdict, then sections: the front with its trials, progress, knobs, finalists."""

    def __init__(self, state: TunerState) -> None:
        self.state = state
        self._drawn: Any = None
        self.card, self.picture, self.files = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.points, self.rows = PointPlot(), RowTable()
        self.sections = Choice([Option(name, title) for name, title in SECTIONS.items()], state.section)
        self.form = Choice([Option(_PLOT, _PLOT), Option(_TABLE, _TABLE)], _PLOT)
        self.axes = {
            trait: Select(label, lambda name, trait=trait: setattr(state, trait, name), "130px")
            for trait, label in (("x_axis", "across"), ("y_axis", "upwards"))
        }
        self.exports = {form: button(form.upper(), lambda form=form: state.export(form)) for form in FORMS}
        named = [part for item in self.axes.values() for part in (said(item.control.tooltip), item.control)]
        self.choosing = widgets.HBox(named)
        self.choosing.add_class("wb-controls")
        self.tools = widgets.HBox([self.choosing, self.form, *self.exports.values(), self.files])
        self.tools.add_class("wb-toolbar")
        parts = [SearchPicker(state).box, self.card, self.sections, self.tools, self.picture, self.points, self.rows]
        self.box = widgets.VBox(parts)
        self.box.add_class("wb-section")
        self.sections.observe(lambda change: setattr(state, "section", change["new"]), "value")
        self.form.observe(lambda change: setattr(state, "as_table", change["new"] == _TABLE), "value")
        for table in (self.points, self.rows):
            table.observe(lambda change: setattr(state, "selected", change["new"]), "selected")
        state.observe(lambda change: self._show_selected(), "selected")
        state.observe(lambda change: self._show(), [*VIEW, "status"])
        state.observe(lambda change: self._show_files(), ["exported", "export_error"])
        self._show()

    def _show(self) -> None:
        """Redrawn only where something else is to be seen: what is tried now is told twice a second."""
        state, found = self.state, self.state.viewed
        self.sections.choose(state.section)
        for part in (self.sections, self.tools):
            part.layout.display = "" if found is not None else "none"
        if found is None:
            self.card.value = "" if state.busy else f"<div class='wb-nothing'>{NOT_SEARCHED}</div>"
            self._drawn = None
            self._draw(None)
            return
        has_changed = not found.recorded and not state.busy and state.form_has_changed
        self.card.value = render_tuner.search_card(found, state.viewed_column, form_has_changed=has_changed)
        column = state.viewed_column
        key = (found.id, len(found.trials), found.state == FINISHED, column.finals is None, column.best,
               *(getattr(state, name) for name in VIEW[1:]))  # fmt: skip
        if key != self._drawn:
            self._drawn = key
            self._draw(state.picture())

    def _draw(self, picture: Picture | None) -> None:
        state, is_front = self.state, self.state.section == FRONT and picture is not None
        self.rows.layout.display = "" if is_front else "none"
        self.points.layout.display = "" if is_front and picture is not None and picture.plots else "none"
        if picture is None:
            self.picture.value, self.points.spots, self.points.svg, self.rows.rows = "", [], "", []
            return
        if is_front:
            self._draw_front(picture)
        else:
            self.picture.value = render_timing.picture_html(picture, as_table=state.as_table)
        self.choosing.layout.display = "" if is_front else "none"
        for trait, select in self.axes.items():
            select.offer([(name, name) for name in OBJECTIVES], getattr(state, trait))
        self.form.choose(_TABLE if state.as_table else _PLOT)
        self.form.layout.display = "" if picture.plots and not is_front else "none"
        for form, control in self.exports.items():
            control.disabled = not (picture.sheet.heads if form == "csv" else picture.plots)

    def _draw_front(self, picture: Picture) -> None:
        """The scatter, below it all trials, also those that are not drawn."""
        state, found = self.state, self.state.viewed
        assert found is not None
        trials = {item.id: item for item in found.trials}
        self.picture.value = "" if picture.plots else render_timing.picture_html(picture, as_table=False)
        svg, spots = render_tuner.drawn(picture.plots[0]) if picture.plots else ("", ())
        if svg or self.points.svg:
            with self.points.hold_sync():
                self.points.spots = [shown_spot(spot, trials[spot.id]) for spot in spots]
                self.points.svg = svg
        with self.rows.hold_sync():
            self.rows.heads = shown_heads(trial_heads(found))
            self.rows.rows = [shown_row(item) for item in trial_rows(found, state.viewed_column.name)]
        self._show_selected()

    def _show_selected(self) -> None:
        self.points.selected = self.rows.selected = self.state.selected

    def _show_files(self) -> None:
        self.files.value = render_timing.export_note(self.state.exported, self.state.export_error)
        self.files.layout.display = "" if self.files.value else "none"
