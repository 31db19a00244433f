"""The form of EngineBuilder: model, back end, precision, shapes, advanced options."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets
from traitlets import link

from workbench.profiles import BOUNDS, OpenDimension, open_dimensions
from workbench.widgets import render
from workbench.widgets.beginning import sample_models
from workbench.widgets.parts import Choice, Fold, Option, button, row
from workbench.widgets.shape_state import ShapeState
from workbench.widgets.state import BuilderState

_GPUS = {
    "sm75": "Turing: T4, RTX 20",
    "sm80": "Ampere: A100, A30",
    "sm86": "Ampere: A10, RTX 30",
    "sm89": "Ada: L4, L40, RTX 40",
    "sm120": "Blackwell: RTX 50",
    "sm121": "Blackwell: DGX Spark",
    "cpu": "this processor",
    "cuda": "CUDA provider",
    "gpu": "the GPU model that is here",
    "ampere+": "Ampere and newer",
    "same-cc": "this compute capability",
}
_USUAL = "The engine takes sizes from min to max, as far as the graph itself does, and is tuned for opt."


class ModelPicker:
    """Choose a model of data/, type a path, or upload a file."""

    def __init__(self, state: ShapeState) -> None:
        self.state = state
        known = [(path.name, str(path)) for path in sample_models()]
        self.known = widgets.Dropdown(
            options=[("choose from data/models …", ""), *known], layout=widgets.Layout(width="240px")
        )
        self.path = widgets.Text(
            placeholder="or the path of an ONNX file", continuous_update=False, layout=widgets.Layout(width="300px")
        )
        self.upload = widgets.FileUpload(
            accept=".onnx",
            description="Upload",
            tooltip="an ONNX file without external data; for large files type the path instead",
        )
        self.facts = widgets.HTML()
        self.box = row("Model", self.known, self.path, self.upload, self.facts)
        for control in (self.known, self.path):
            control.observe(lambda change: self._chosen(change["new"].strip()), "value")
        self.upload.observe(lambda change: self._uploaded(), "value")
        state.observe(lambda change: self._show(), ["model", "model_error", "model_path"])
        state.observe(lambda change: self._lock(), "status")
        self._show()

    def _lock(self) -> None:
        """The result of what runs belongs to the model that is there."""
        for control in (self.known, self.path, self.upload):
            control.disabled = self.state.busy

    def _chosen(self, path: str) -> None:
        if path and path != self.state.model_path:
            self.state.load(path)

    def _uploaded(self) -> None:
        for item in self.upload.value:
            self.state.upload(item["name"], bytes(item["content"]))
        self.upload.value = ()

    def _show(self) -> None:
        paths = {path for _, path in self.known.options}
        self.known.value = self.state.model_path if self.state.model_path in paths else ""
        self.path.value = "" if self.known.value else self.state.model_path
        model = self.state.model
        if model is not None:
            self.facts.value = render.model_facts(model)
        elif self.state.model_error:
            self.facts.value = render.mistake(self.state.model_error)
        else:
            self.facts.value = "<span class='wb-quiet'>Choose a model to begin.</span>"


class BackendPicker:
    """Back end and precision; what cannot be chosen is struck out and the reason stands below."""

    def __init__(self, state: BuilderState) -> None:
        self.state = state
        options = [Option(name, item.title, item.build_reason) for name, item in state.supports.items()]
        self.backend, self.precision = Choice(options, state.backend), Choice()
        unusable = [(item.title, item.build_reason) for item in state.supports.values() if item.build_reason]
        self.note, self.precision_note = widgets.HTML(), widgets.HTML()
        self.unusable = widgets.HTML(render.reasons(unusable))
        self.boxes = [
            row("Back end", self.backend, self.note, *([self.unusable] if unusable else [])),
            row("Precision", self.precision, self.precision_note),
        ]
        self.backend.observe(lambda change: setattr(state, "backend", change["new"]), "value")
        self.precision.observe(lambda change: setattr(state, "precision", change["new"]), "value")
        state.observe(lambda change: self._show(), "backend")
        state.observe(lambda change: self.precision.choose(state.precision), "precision")
        self._show()

    def _show(self) -> None:
        support = self.state.support
        self.backend.choose(self.state.backend)
        why = dict(support.precision_reasons or {})
        self.note.value = render.backend_note(support)
        notes = {**(support.precision_notes or {}), **why}
        self.precision_note.value = render.reasons(notes.items())
        options = [Option(name, name) for name in support.precisions] + [Option(name, name, why[name]) for name in why]
        self.precision.offer(options, self.state.precision)


class ShapeTable:
    """Min, opt and max of every open dimension, checked while one types."""

    def __init__(
        self,
        state: ShapeState,
        usual: str = _USUAL,
    ) -> None:
        self.state, self.usual = state, usual
        self.rows = widgets.VBox()
        self.rows.add_class("wb-shapes")
        self.note = widgets.HTML()
        self.box = row("Shapes", self.rows, self.note)
        self.problems: dict[str, widgets.HTML] = {}
        self.lines: dict[str, widgets.HBox] = {}
        self.fields: dict[str, list[widgets.Text]] = {}
        state.observe(lambda change: self._build(), "model")
        state.observe(lambda change: self._show(), ["bounds", "backend"])
        self._build()

    def _build(self) -> None:
        self.problems, self.lines, self.fields = {}, {}, {}
        dims = open_dimensions(self.state.model.inputs) if self.state.model else ()
        heads = (widgets.HTML(f"<div class='wb-head'>{bound}</div>") for bound in BOUNDS)
        head = widgets.HBox([widgets.HTML(), *heads, widgets.HTML()])
        head.add_class("wb-shape")
        self.rows.children = (head, *(self._line(dim) for dim in dims)) if dims else ()
        self._show()

    def _line(self, dim: OpenDimension) -> widgets.HBox:
        where = ", ".join(f"{name}[{axis}]" for name, axis in dim.places)
        if len({name for name, _ in dim.places}) < len(dim.places):
            where += ": one size, as they share the name "
        title: Any = widgets.HTML(render.dimension(str(dim), where if dim.name else ""))
        if len({name for name, _ in dim.places}) < len(dim.places):
            title = widgets.VBox([title, button("Treat as separate", lambda: self._part(dim.key))])
        fields = [
            widgets.Text(value=text, tooltip=f"{dim} {bound}")
            for bound, text in zip(BOUNDS, self.state.bounds[dim.key], strict=True)
        ]
        for index, field in enumerate(fields):
            field.add_class("wb-number")
            field.observe(lambda change, index=index: self._typed(dim.key, index, change["new"]), "value")
        self.fields[dim.key] = fields
        self.problems[dim.key] = widgets.HTML()
        line = widgets.HBox([title, *fields, self.problems[dim.key]])
        line.add_class("wb-shape")
        self.lines[dim.key] = line
        return line

    def _part(self, key: str) -> None:
        if not self.state.busy:
            self.state.part(key)

    def _typed(self, key: str, index: int, text: str) -> None:
        texts = list(self.state.bounds[key])
        texts[index] = text
        self.state.bounds = {**self.state.bounds, key: tuple(texts)}

    def _show(self) -> None:
        wanted = bool(self.lines) and not self.state.no_shapes_note
        self.rows.layout.display = "" if wanted else "none"
        if self.state.no_shapes_note:
            self.note.value = f"<span class='wb-quiet'>{self.state.no_shapes_note}</span>"
        elif self.state.model and not self.lines:
            self.note.value = "<span class='wb-quiet'>None: every dimension is fixed by the model.</span>"
        else:
            text = self.usual if wanted else "Choose a model first."
            self.note.value = f"<span class='wb-quiet'>{text}</span>"
        problems = self.state.shape_problems()
        for key, line in self.lines.items():
            self.problems[key].value = render.mistake(problems.get(key, ""))
            (line.add_class if key in problems else line.remove_class)("wb-wrong")
            for field, text in zip(self.fields[key], self.state.bounds.get(key, ()), strict=False):
                field.value = text


class AdvancedOptions:
    """Workspace, target GPUs, types of inputs and outputs, and calibration where int8 wants it; folded away."""

    def __init__(self, state: BuilderState) -> None:
        self.state = state
        self.workspace = widgets.Text(placeholder="default", layout=widgets.Layout(width="120px"))
        self.workspace_note = widgets.HTML()
        self.targets = widgets.HBox()
        self.targets.add_class("wb-controls")
        self.keep = widgets.Checkbox(description="keep the model's types (float32)", indent=False)
        self.calibration = widgets.Text(
            placeholder="path of a collection, a table, or samples as .npz", continuous_update=False,
            layout=widgets.Layout(width="300px"),
        )  # fmt: skip
        self.calibration_note = widgets.HTML()
        self.calibration_row = row("Calibration", self.calibration, self.calibration_note)
        self.taken = widgets.HTML()
        self.taken_row = row("Taken over", self.taken, button("Drop", state.drop_taken))
        self.fold = Fold(
            "Advanced options",
            row("Workspace", self.workspace, self.workspace_note),
            row("Targets", self.targets),
            row("I/O types", self.keep),
            self.calibration_row,
            self.taken_row,
        )
        for name in ("workspace", "calibration"):
            link((state, name), (getattr(self, name), "value"))
        link((state, "keep_io_types"), (self.keep, "value"))
        state.observe(lambda change: self._show(), "backend")
        state.observe(lambda change: self._check(), ["workspace", "backend"])
        state.observe(lambda change: self._check_calibration(), ["calibration", "precision", "backend", "model"])
        state.observe(lambda change: self._show_taken(), ["algorithm", "options"])
        self._show()
        self._check()
        self._check_calibration()
        self._show_taken()

    def _show_taken(self) -> None:
        """What a search has found and no other field shows is not folded away."""
        told = self.state.taken()
        self.taken.value = render.dimension(told, "")
        self.taken_row.layout.display = "" if told else "none"
        if told:
            self.fold.is_open = True

    def _show(self) -> None:
        support = self.state.support
        self.targets.children = (self._one_target(),) if support.one_target else self._any_targets()

    def _one_target(self) -> Choice:
        """Targets that exclude one another."""
        support = self.state.support
        choice = Choice([Option(name, _target(name)) for name in support.targets], *support.default_targets)
        choice.observe(lambda change: self._chosen((change["new"],)), "value")
        return choice

    def _any_targets(self) -> tuple[widgets.Checkbox, ...]:
        support = self.state.support
        boxes = []
        for name in support.targets:
            box = widgets.Checkbox(
                value=name in support.default_targets, indent=False, description=_target(name),
                layout=widgets.Layout(width="220px"), disabled=len(support.targets) == 1,
            )  # fmt: skip
            box.observe(lambda change: self._ticked(), "value")
            boxes.append(box)
        return tuple(boxes)

    def _ticked(self) -> None:
        names = self.state.support.targets
        self._chosen(tuple(name for name, box in zip(names, self.targets.children, strict=True) if box.value))

    def _chosen(self, targets: tuple[str, ...]) -> None:
        self.state.targets = None if targets == self.state.support.default_targets else targets

    def _check(self) -> None:
        if self.state.no_shapes_note:
            self.workspace_note.value = f"<span class='wb-quiet'>has no effect on {self.state.support.title}</span>"
            return
        quiet = "<span class='wb-quiet'>the most scratch memory a layer may use, for example 512M or 1G</span>"
        self.workspace_note.value = render.mistake(self.state.workspace_problem()) or quiet

    def _check_calibration(self) -> None:
        """What is still to be filled in is not folded away."""
        problem = self.state.calibration_problem()
        self.calibration_row.layout.display = "" if self.state.wants_calibration else "none"
        none_needed = "<span class='wb-quiet'>none needed: the model brings its ranges along (Q/DQ nodes)</span>"
        self.calibration_note.value = render.mistake(problem) or (none_needed if self.state.brings_ranges else "")
        if problem:
            self.fold.is_open = True


def _target(name: str) -> str:
    return f"{name} ({_GPUS[name]})" if name in _GPUS else name


def reuse_box(state: BuilderState) -> Any:
    box = widgets.Checkbox(description="reuse a stored engine (use_static)", indent=False)
    link((state, "reuse"), (box, "value"))
    return box
