"""Exporter: from a framework's model to ONNX, in the notebook. A view over ExportState."""

from __future__ import annotations

from pathlib import Path

import ipywidgets as widgets
from traitlets import link

from workbench.export.exported import Exported
from workbench.widgets import render, render_export
from workbench.widgets.browser import CopyButton, Manners
from workbench.widgets.export_state import EXPORTING, FORM, TITLES, ExportState
from workbench.widgets.parts import Choice, CodeFold, Option, button, row
from workbench.widgets.progress import ProgressView


class ExportCard(widgets.HTML):
    """How an export went: the file, and how close it answers to its framework."""

    def __init__(self, exported: Exported) -> None:
        super().__init__(render.STYLE + render_export.export_card(exported))
        self.add_class("wb")
        self._text = str(exported)

    def __repr__(self) -> str:
        return self._text


class Exporter(widgets.VBox):
    """Name a model of PyTorch, Paddle or TensorFlow, export it, read how close its answers are.

    source: FILE.py:NAME, a file or a folder, to start with. `state` holds everything and can be used without the view;
    `exported` is the result.
    """

    def __init__(self, source: str | Path = "") -> None:
        self.state = ExportState(str(source))
        self._export = button("Export", self.state.start, primary=True)
        self._cancel = button("Cancel", self.state.cancel)
        self._verdict = widgets.HTML()
        form = widgets.VBox([_Source(self.state).box, *_Options(self.state).boxes, _Yes(self.state).box])
        form.add_class("wb-form")
        actions = widgets.HBox([self._export, self._cancel, self._verdict])
        actions.add_class("wb-actions")
        progress, result = ProgressView(self.state, [EXPORTING], "Log"), _Result(self.state)
        code = CodeFold(self.state, ("Python", "Command line"), FORM)
        super().__init__([widgets.HTML(render.STYLE), form, actions, progress.box, result.box, code.fold, Manners()])
        self.add_class("wb")
        self.state.observe(lambda change: self._show())
        self._show()

    @property
    def exported(self) -> Exported | None:
        return self.state.exported

    def _show(self) -> None:
        state = self.state
        problem = "" if state.busy else state.problem()  # it reads files
        self._export.disabled = bool(problem)
        (self._export.add_class if state.busy else self._export.remove_class)("wb-waiting")
        self._cancel.disabled = not state.busy
        if state.busy:
            self._verdict.value = f"<span role='status'>Exporting … {state.elapsed_s:.1f} s</span>"
        else:
            self._verdict.value = render.mistake(problem) if state.source.strip() else ""


class _Source:
    """A path or FILE.py:NAME, and whose model it is."""

    def __init__(self, state: ExportState) -> None:
        self.state = state
        self.text = widgets.Text(
            placeholder="net.py:make_model, inference/, saved_model/, model.pb …", continuous_update=False,
            layout=widgets.Layout(width="460px"),
        )  # fmt: skip
        self.note = widgets.HTML()
        self.box = row("Source", self.text, self.note)
        link((state, "source"), (self.text, "value"))
        state.observe(lambda change: self._show(), ["source", "status"])
        self._show()

    def _show(self) -> None:
        self.text.disabled = self.state.busy
        self.note.value = render_export.source_note(TITLES.get(self.state.framework, ""))


class _Options:
    """What only PyTorch's exporters ask for is hidden for the others."""

    def __init__(self, state: ExportState) -> None:
        self.state = state
        self.exporter = Choice([Option("dynamo", "dynamo"), Option("classic", "classic")], state.exporter)
        self.dims = widgets.Text(placeholder="input:0=batch input:2=height", layout=widgets.Layout(width="300px"))
        self.opset = widgets.Text(layout=widgets.Layout(width="76px"))
        self.opset.add_class("wb-number")
        exporters = "dynamo follows the code, classic (TorchScript) records one run; try the other if one fails"
        open_dims = "an engine takes other sizes only where the export left them open; equal names mean equal sizes"
        newest = "17 is the newest that TensorRT 8.6 reads; later releases and TensorRT-RTX take newer ones"
        self.torch_rows = [
            row("Exporter", self.exporter, _quiet(exporters)),
            row("Open sizes", self.dims, _quiet(open_dims)),
        ]
        self.shapes = widgets.Text(placeholder="x:1x3x224x224 x:4x3x224x224", layout=widgets.Layout(width="300px"))
        self.ends = widgets.Text(placeholder="image -> scores", layout=widgets.Layout(width="300px"))
        compared = "where the answers are compared; empty for sizes that fit. TorchScript needs one: the example's"
        self.ends_row = row("Ends", self.ends, _quiet("inputs and outputs of the frozen graph; empty for all of them"))
        self.boxes = [
            *self.torch_rows,
            row("Opset", self.opset, _quiet(newest)),
            row("Shapes", self.shapes, _quiet(compared)),
            self.ends_row,
        ]
        link((state, "shapes"), (self.shapes, "value"))
        link((state, "ends"), (self.ends, "value"))
        link((state, "open_dims"), (self.dims, "value"))
        link((state, "opset"), (self.opset, "value"))
        self.exporter.observe(lambda change: setattr(state, "exporter", change["new"]), "value")
        state.observe(lambda change: self._show(), ["source", "exporter"])
        self._show()

    def _show(self) -> None:
        self.exporter.choose(self.state.exporter)
        for item in self.torch_rows:
            item.layout.display = "" if self.state.framework == "torch" else "none"
        self.ends_row.layout.display = "" if self.state.is_frozen else "none"


class _Yes:
    """The environment that is missing, its size, and the user's yes."""

    def __init__(self, state: ExportState) -> None:
        self.state = state
        self.note = widgets.HTML()
        self.box_yes = widgets.Checkbox(description="yes, make it", indent=False)
        self.box = row("Environment", self.note, self.box_yes)
        link((state, "yes"), (self.box_yes, "value"))
        state.observe(lambda change: self._show(), ["source", "status"])
        self._show()

    def _show(self) -> None:
        missing = self.state.environment()
        self.box.layout.display = "" if missing else "none"
        self.note.value = render_export.environment_note(missing) if missing else ""


class _Result:
    """The card of the export or of the error, with the next step."""

    def __init__(self, state: ExportState) -> None:
        self.state = state
        self.card = widgets.HTML()
        self.copy = CopyButton(label="Copy the path")
        self.box = widgets.VBox([self.card, self.copy])
        state.observe(lambda change: self._show(), ["exported", "error"])
        self._show()

    def _show(self) -> None:
        exported, error = self.state.exported, self.state.error
        self.card.value = render.error_card(error) + (render_export.export_card(exported) if exported else "")
        self.copy.layout.display = "" if exported else "none"
        self.copy.text = str(exported.model.path) if exported else ""


def _quiet(text: str) -> widgets.HTML:
    return widgets.HTML(f"<span class='wb-quiet'>{text}</span>")
