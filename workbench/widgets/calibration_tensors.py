"""The middle of CalibrationStudio: the tensors, one's histogram, the algorithm for all or for this one."""

from __future__ import annotations

import ipywidgets as widgets
from traitlets import link

from workbench.calibration.thresholds import COMPUTED
from workbench.types import count_of
from workbench.widgets import render, render_calibration
from workbench.widgets.parts import Choice, Option, button, row
from workbench.widgets.range_state import ORDERS, PAGE, RangeState
from workbench.widgets.render_histogram import histogram_svg
from workbench.widgets.tensor_table import TensorTable, shown_row

_TITLES = {"entropy": "entropy (KL)", "minmax": "min-max", "percentile": "percentile 99.99", "mse": "least error"}


class TensorList:
    """A page of the tensors, sorted and searched."""

    def __init__(self, state: RangeState) -> None:
        self.state = state
        self.algorithm = Choice([Option(name, _TITLES[name]) for name in COMPUTED], state.algorithm)
        self.reset = button("Same for all", state.reset)
        self.own = widgets.HTML()
        self.words = widgets.Text(placeholder="search tensors and operators", layout=widgets.Layout(width="240px"))
        self.order = widgets.Dropdown(options=[(text, name) for name, text in ORDERS.items()], tooltip="order")
        self.note = widgets.HTML()
        self.table = TensorTable()
        self.back, self.on = button("Back", lambda: state.turn(-1)), button("More", lambda: state.turn(1))
        tools = widgets.HBox([self.words, self.order, self.back, self.on, self.note])
        tools.add_class("wb-pager")
        algorithms = row("Algorithm", self.algorithm, self.own, self.reset)
        self.box = widgets.VBox([algorithms, tools, self.table])
        self.algorithm.observe(lambda change: setattr(state, "algorithm", change["new"]), "value")
        link((state, "words"), (self.words, "value"))
        link((state, "order"), (self.order, "value"))
        link((state, "order"), (self.table, "order"))
        link((state, "selected"), (self.table, "selected"))
        state.observe(lambda change: self._show(), ["collection", "algorithm", "overrides", "order", "words", "page"])
        state.observe(lambda change: self._found(), "found")
        self._show()

    def _found(self) -> None:
        """Sorted anew when all are found; until then the note alone changes."""
        (self._show if self.state.is_complete and self.state.order != "model" else self._note)()

    def _show(self) -> None:
        state, collection = self.state, self.state.collection
        self.algorithm.choose(state.algorithm)
        rows = state.rows()
        self.table.rows = (
            [shown_row(item, collection.histogram(item.tensor), state.algorithm) for item in rows] if collection else []
        )
        self._note()
        self.back.disabled, self.on.disabled = state.page == 0, state.page >= state.pages - 1
        for item in (self.back, self.on):
            item.layout.display = "" if state.pages > 1 else "none"
        own = [f"{tensor}: {algorithm}" for tensor, algorithm in state.overrides.items()]
        shown = "; ".join(own[:5]) + (f"; and {len(own) - 5} more" if len(own) > 5 else "")
        self.own.value = render.quiet(f"{count_of(len(own), 'tensor')} of its own: {shown}" if own else "")
        self.own.layout.display = self.reset.layout.display = "" if own else "none"

    def _note(self) -> None:
        state = self.state
        count, start = state.matching, state.page * PAGE
        text = count_of(count, "tensor")
        if count > PAGE:
            text = f"{start + 1:,} to {min(start + PAGE, count):,} of {count:,} tensors"
        if not count:
            text = "No tensor fits the search."
        if not state.is_complete:
            text += f" · ranges found: {state.found:,} of {len(state.tensors):,}, sorted when all are"
        self.note.value = f"<span class='wb-quiet' data-found='{state.found}'>{text}</span>"


class TensorDetail:
    """The selected tensor: its histogram, every algorithm's threshold, and its own algorithm."""

    def __init__(self, state: RangeState) -> None:
        self.state = state
        self.facts, self.picture = widgets.HTML(), widgets.HTML()
        self.counts = Choice([Option("log", "log counts"), Option("linear", "linear counts")], "log")
        self.values = Choice([Option("linear", "linear magnitudes"), Option("log", "log magnitudes")], "linear")
        self.algorithm = Choice([Option(name, _TITLES[name]) for name in COMPUTED], state.algorithm)
        self.box = widgets.VBox(
            [
                row("This tensor", self.facts),
                row("Its algorithm", self.algorithm),
                row("Histogram", self.counts, self.values),
                self.picture,
            ]
        )
        self.counts.observe(lambda change: setattr(state, "log_counts", change["new"] == "log"), "value")
        self.values.observe(lambda change: setattr(state, "log_values", change["new"] == "log"), "value")
        self.algorithm.observe(lambda change: self._chosen(change["new"]), "value")
        traits = ["collection", "selected", "algorithm", "overrides", "log_counts", "log_values"]
        state.observe(lambda change: self._show(), traits)
        self._show()

    def _chosen(self, algorithm: str) -> None:
        if self.state.selected and algorithm != self.state.algorithm_of(self.state.selected):
            self.state.override(self.state.selected, algorithm)

    def _show(self) -> None:
        state, found, collection = self.state, self.state.row(), self.state.collection
        self.box.layout.display = "" if found else "none"
        if found is None or collection is None:
            return
        limits = state.thresholds()
        self.algorithm.choose(found.chosen.algorithm)
        self.facts.value = render_calibration.tensor_facts(found, limits)
        self.picture.value = histogram_svg(
            collection.histogram(found.tensor), limits, found.chosen.algorithm,
            log_counts=state.log_counts, log_values=state.log_values,
        )  # fmt: skip
