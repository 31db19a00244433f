"""What every export ends with: the checked file, under its final name, and how close its answers are."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.accuracy import Difference, compare_outputs, difference_from_json, difference_to_json
from workbench.errors import ExportError, FeedError, RunError
from workbench.model import Model, load_model
from workbench.reference import Reference
from workbench.store import EngineStore
from workbench.types import Feeds, Shape

MOST_RELATIVE = 1e-4
"""An export in float32 whose outputs lie further from the framework's than this is refused."""


@dataclass(frozen=True)
class Parity:
    """The ONNX model in ONNX Runtime against the framework, on inputs of these shapes."""

    shapes: Mapping[str, Shape]
    differences: tuple[Difference, ...]

    @property
    def relative(self) -> float:
        """Of the output that differs most."""
        return max((item.relative for item in self.differences), default=0.0)

    @property
    def argmax_agreement(self) -> float | None:
        """Of the output that agrees least; None where no output has a largest value to compare."""
        shares = [item.argmax_agreement for item in self.differences if item.argmax_agreement is not None]
        return min(shares, default=None)


@dataclass(frozen=True)
class Exported:
    """An export that went well.

    model: read back from its file, `model.path`. framework: with its release, 'PyTorch 2.13.0'. converter: what wrote
    the ONNX, with its release. parity: one entry for each set of shapes that was tried. notes: sentences on what the
    user should know, such as dimensions the exporter froze. elapsed_s: what the whole export took.
    """

    model: Model
    framework: str
    converter: str
    parity: tuple[Parity, ...]
    notes: tuple[str, ...]
    elapsed_s: float

    def __str__(self) -> str:
        model = self.model
        worst = max((item.relative for item in self.parity), default=0.0)
        inputs = ", ".join(map(str, model.inputs))
        lines = [
            f"{model.path.name}: {len(model.nodes)} nodes, opset {model.opset}, "
            f"from {self.framework} by {self.converter}",
            f"  inputs {inputs}; outputs {', '.join(map(str, model.outputs))}",
            f"  answers as {self.framework.split()[0]} does at {_count(len(self.parity), 'set')} of shapes: "
            f"relative difference at most {worst:.1e}",
        ]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A path of the same name in a hidden folder beside `path`; what is written there appears under its final name
    only when the block ends without an error. External data is written as '<name>.data' or any other file beside it.

    Raises ExportError when the folder cannot be written.
    """
    if path.is_dir():
        raise ExportError(f"{path}: a folder; name a file in it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
            yield Path(folder) / path.name
            others = [file for file in Path(folder).iterdir() if file.name != path.name]
            for file in (*others, Path(folder) / path.name):  # the model last: it is whole when it is there
                os.replace(file, path.parent / file.name)
    except OSError as error:
        raise ExportError(
            f"{path}: the export cannot be written ({error.strerror or error}); name another output."
        ) from error


def default_path(name: str) -> Path:
    """Where an export goes if the user names no file: `exports/NAME.onnx` in the workbench's own folder."""
    return EngineStore().folder / "exports" / f"{name}.onnx"


def check_parity(
    path: Path,
    answers: Sequence[tuple[Feeds, Mapping[str, np.ndarray]]],
    *,
    most_relative: float | None = MOST_RELATIVE,
) -> tuple[Parity, ...]:
    """Load the ONNX file and compare what it answers on each feeds with the framework's outputs, by name.

    most_relative: None where a difference is expected (quantized models); it is still stated.
    Raises ModelError for a file the checker refuses, ExportError when it does not run on these shapes or differs.
    """
    model = load_model(path)
    found = []
    try:
        reference = Reference(model)
    except RunError as error:
        raise ExportError(f"{path.name}: ONNX Runtime refuses the export: {error}") from error
    for feeds, wanted in answers:
        shapes: dict[str, Shape] = {name: tuple(np.shape(array)) for name, array in feeds.items()}
        said = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
        try:
            parity = Parity(shapes, compare_outputs(wanted, reference.run(feeds)))
        except (RunError, FeedError) as error:
            raise ExportError(
                f"{path.name}: the export does not run as the framework does on {said}: {error}"
            ) from error
        if most_relative is not None and not parity.relative <= most_relative:
            worst = max(parity.differences, key=lambda item: item.relative)
            raise ExportError(
                f"{path.name}: output {worst.output} differs from the framework's by {worst.relative:.1e} on {said} "
                f"(at most {most_relative:.0e} is taken): a branch or a size may be frozen into the export."
            )
        found.append(parity)
    return tuple(found)


def exported_to_json(exported: Exported) -> dict[str, Any]:
    """What `workbench export --json` prints; infinite and undefined differences are null."""
    model = exported.model
    return {
        "onnx": str(model.path),
        "framework": exported.framework,
        "converter": exported.converter,
        "opset": model.opset,
        "nodes": len(model.nodes),
        "inputs": [str(spec) for spec in model.inputs],
        "outputs": [str(spec) for spec in model.outputs],
        "parity": [
            {
                "shapes": {name: list(shape) for name, shape in item.shapes.items()},
                "outputs": [difference_to_json(difference) for difference in item.differences],
            }
            for item in exported.parity
        ],
        "notes": list(exported.notes),
        "elapsed_s": round(exported.elapsed_s, 3),
    }


def exported_from_json(data: Mapping[str, Any]) -> Exported:
    """The inverse, by the file that was written."""
    parity = tuple(
        Parity(
            {name: tuple(shape) for name, shape in item["shapes"].items()},
            tuple(map(difference_from_json, item["outputs"])),
        )
        for item in data["parity"]
    )
    model = load_model(data["onnx"])
    return Exported(model, data["framework"], data["converter"], parity, tuple(data["notes"]), data["elapsed_s"])
