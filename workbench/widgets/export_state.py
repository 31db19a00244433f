"""ExportState: everything Exporter shows and does, without a browser."""

from __future__ import annotations

import re
import shlex
import threading

from traitlets import Bool, Instance, Unicode, observe

from workbench.errors import ConfigError, WorkbenchError
from workbench.export.environments import Environment, why_make
from workbench.export.exported import Exported
from workbench.export.sources import (
    ExportRequest,
    environment_for,
    export_source,
    framework_of,
    parse_open_dims,
    parse_shape_sets,
    torch_name,
)
from workbench.widgets.work_state import WorkState

EXPORTING = "exporting"
FORM = ("source", "exporter", "opset", "open_dims", "shapes", "ends", "yes")
TITLES = {"torch": "PyTorch", "paddle": "Paddle", "tensorflow": "TensorFlow"}


class ExportState(WorkState):
    """What to export, as the user fills it in, and how the export goes."""

    source = Unicode(help="FILE.py:NAME, a file or a folder")
    exporter = Unicode("dynamo", help="PyTorch's: dynamo or classic")
    opset = Unicode("17")
    open_dims = Unicode(help="PyTorch's: 'input:0=batch input:2=height'")
    shapes = Unicode(help="'x:1x3x64x64 x:4x3x64x64': where to compare; TorchScript's first is the example's")
    ends = Unicode(help="'image -> scores': inputs and outputs of a frozen TensorFlow graph")
    yes = Bool(False, help="whether the converter's environment may be made")
    exported = Instance(Exported, allow_none=True)

    def __init__(self, source: str = "") -> None:
        super().__init__()
        self.source = source

    @property
    def framework(self) -> str:
        """'torch', 'paddle', 'tensorflow', or '' while the source is none."""
        try:
            return framework_of(self.source.strip()) if self.source.strip() else ""
        except WorkbenchError:
            return ""

    def environment(self) -> Environment | None:
        """The environment that the source needs and that is not there yet, or broken."""
        try:
            needed = environment_for(self.request())
            return needed if needed and why_make(needed) else None
        except WorkbenchError:
            return None

    def problem(self) -> str:
        """Why Export cannot be clicked, as a sentence; empty when it can."""
        if not self.source.strip():
            return "Name a model first."
        try:
            environment_for(self.request())
        except WorkbenchError as error:
            return str(error)
        if self.environment() and not self.yes:
            return "Say yes to the environment first."
        return ""

    def request(self) -> ExportRequest:
        """What is filled in. Raises ConfigError for what cannot be read."""
        torch, frozen = self.framework == "torch", self.is_frozen
        inputs, _, outputs = self.ends.partition("->")
        return ExportRequest(
            self.source.strip(),
            opset=self._opset(),
            exporter=self.exporter if torch else "dynamo",
            open_dims=parse_open_dims(_words(self.open_dims)) if torch else {},
            inputs=tuple(_words(inputs)) if frozen else (),
            outputs=tuple(_words(outputs)) if frozen else (),
            shapes=parse_shape_sets(_words(self.shapes)),
        )

    @property
    def is_frozen(self) -> bool:
        """Whether the source is a frozen TensorFlow graph, whose ends may be named."""
        return self.source.strip().lower().endswith(".pb")

    def _opset(self) -> int:
        if not self.opset.strip().isdecimal():
            raise ConfigError(f"opset {self.opset!r} is not a number; 17 is the newest that TensorRT 8.6 reads.")
        return int(self.opset)

    def start(self) -> None:
        """Export in the background; does nothing while something runs already."""
        if self.busy or self.problem():
            return
        request, yes = self.request(), self.yes
        self.exported = None
        self._forget_work()

        def work(cancel: threading.Event) -> None:
            self.exported = export_source(request, make_environment=yes, listener=self._listen, cancel=cancel)

        self._run(EXPORTING, work)

    def code(self) -> dict[str, str]:
        """The same in Python and for the shell, by title; empty while the form has a mistake."""
        if not self.source.strip() or (self.problem() and not self.environment()):
            return {}
        return {"Python": self._python(), "Command line": self._shell()}

    def _shell(self) -> str:
        words = ["workbench", "export", self.source.strip()]
        if self.framework == "torch":
            words += [f"--open={text}" for text in _words(self.open_dims)]
            words += ["--exporter", self.exporter] if self.exporter != "dynamo" else []
        words += ["--opset", str(self._opset())] if self._opset() != 17 else []
        words += [f"--shapes={text}" for text in _words(self.shapes)]
        if self.is_frozen:
            inputs, _, outputs = self.ends.partition("->")
            words += [f"--inputs={','.join(_words(inputs))}"] if _words(inputs) else []
            words += [f"--outputs={','.join(_words(outputs))}"] if _words(outputs) else []
        words += ["--yes"] if self.framework != "torch" else []
        return shlex.join(words)

    def _python(self) -> str:
        source, more = self.source.strip(), f", opset={self._opset()}" if self._opset() != 17 else ""
        lines, request = ["from workbench import export", ""], self.request()
        sets = [dict(item) for item in request.shapes]
        for name, value in (("inputs", request.inputs), ("outputs", request.outputs)):
            more += f", {name}={value!r}" if value else ""
        is_example = self.framework == "torch" and not source.rpartition(":")[2].isidentifier()  # TorchScript's
        example = f", shapes={sets[0]!r}" if sets and is_example else ""
        others = sets[1:] if is_example else sets
        more += f", shapes={others!r}" if others else ""
        if self.framework != "torch":
            return "\n".join([*lines, f"exported = export.{self.framework}({source!r}, make_environment=True{more})"])
        more += f", exporter={self.exporter!r}" if self.exporter != "dynamo" else ""
        open_dims = repr(dict(request.open_dims)) if self.open_dims.strip() else "found.open_dims"
        named = f"open_dims={open_dims}, name={torch_name(source)!r}{more}"
        lines += [f"found = export.load_torch({source!r}{example})"]
        return "\n".join([*lines, f"exported = export.torch(found.module, found.example, {named})"])

    @observe("source")
    def _source_changed(self, change: object) -> None:
        self.yes = False
        if not self.busy:  # what is shown belongs to the source that was there
            self.exported = None
            self._forget_work()


def _words(text: str) -> list[str]:
    """Parted by spaces or commas."""
    return [word for word in re.split(r"[\s,]+", text) if word]
