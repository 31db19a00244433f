"""What every export ends with: the checked file, under its final name, and how close its answers are."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto

from workbench.accuracy import difference_from_json, difference_to_json
from workbench.errors import ExportError
from workbench.export.parity import MOST_RELATIVE, Parity
from workbench.model import LARGE_BYTES, Model, load_model
from workbench.store import EngineStore
from workbench.types import count_of

_DATA = re.compile(r"\.([0-9a-f]{8}\.)?data")
"""What follows a model's name in that of its external data."""


@dataclass(frozen=True)
class Exported:
    """An export that went well.

    model: read back from its file, `model.path`. framework: with its release, 'PyTorch 2.13.0'. converter: what wrote
    the ONNX, with its release. parity: one entry for each set of shapes that was tried. notes: sentences on what the
    user should know, such as dimensions the exporter froze. elapsed_s: what the whole export took. most_relative: the
    difference that was allowed, None where it was stated only (quantized models).
    """

    model: Model
    framework: str
    converter: str
    parity: tuple[Parity, ...]
    notes: tuple[str, ...]
    elapsed_s: float
    most_relative: float | None = MOST_RELATIVE

    @property
    def verdict(self) -> str:
        """'agrees' where that was judged, else what is known: '98.8 % agree' of the largest values, or that nothing is.

        The share is the lowest of all outputs and shapes.
        """
        if self.most_relative is not None:
            return "agrees"
        shares = [item.argmax_agreement for item in self.parity if item.argmax_agreement is not None]
        return f"{min(shares):.1%} agree".replace("%", " %") if shares else "compared, not judged"

    def __str__(self) -> str:
        model = self.model
        worst = max((item.relative for item in self.parity), default=0.0)
        inputs, name = ", ".join(map(str, model.inputs)), self.framework.split()[0]
        judged = self.most_relative is not None
        found = f"answers as {name} does" if judged else f"against {name}: {self.verdict}"
        lines = [
            f"{model.path.name}: {len(model.nodes)} nodes, opset {model.opset}, "
            f"from {self.framework} by {self.converter}",
            f"  inputs {inputs}; outputs {', '.join(map(str, model.outputs))}",
            f"  {found} at {count_of(len(self.parity), 'set')} of shapes: relative difference at most {worst:.1e}",
        ]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A path of the same name in a hidden folder beside `path`; what is written there appears under its final name
    only when the block ends without an error. Any other file in that folder comes along: external data, called
    '<name>.<hash>.data' by `write_model`, so that an older graph never meets newer weights. The data that an older
    model of this name referred to is removed once the new one is in its place.

    Raises ExportError when the folder cannot be written; what the block raises comes through.
    """
    if path.is_dir():
        raise ExportError(f"{path}: a folder; name a file in it.")
    if path.suffix.lower() != ".onnx":  # else a slip of the keyboard replaces the source
        raise ExportError(f"{path}: an export is called NAME.onnx; name it so.")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-")
    with work as folder:
        yield Path(folder) / path.name
        with writing(path):
            others = [file for file in Path(folder).iterdir() if file.name != path.name]
            old = _data_of(path) - {file.name for file in others}
            for file in (*others, Path(folder) / path.name):  # the model last: it is whole when it is there
                os.replace(file, path.parent / file.name)
            for name in old:
                (path.parent / name).unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around what writes `path`: an OSError is an ExportError that says so."""
    try:
        yield
    except OSError as error:
        raise ExportError(
            f"{path}: the export cannot be written ({error.strerror or error}); name another output."
        ) from error


def write_model(proto: ModelProto, path: Path, *, large_bytes: int = LARGE_BYTES) -> None:
    """The same bytes for the same content; from `large_bytes` on its weights lie beside it, called by their content.

    Raises ExportError where that fails.
    """
    with writing(path):
        if sum(len(tensor.raw_data) for tensor in proto.graph.initializer) < large_bytes:
            path.write_bytes(proto.SerializeToString(deterministic=True))
            return
        digest = hashlib.sha256()
        for tensor in proto.graph.initializer:
            digest.update(tensor.raw_data)
        location = f"{path.name}.{digest.hexdigest()[:8]}.data"
        onnx.save_model(proto, str(path), save_as_external_data=True, size_threshold=0, location=location)


def _data_of(path: Path) -> set[str]:
    """The files beside a model that hold its weights and nobody else's, by their names; none where it is no model."""
    try:
        proto = onnx.load(str(path), format="protobuf", load_external_data=False)
    except (OSError, DecodeError, ValueError):
        return set()
    names = {file.name for file in Model(proto, path).external_files if file.parent == path.parent}
    return {name for name in names if name.startswith(path.name) and _DATA.fullmatch(name, len(path.name))}


def default_path(name: str, source: Path | None = None) -> Path:
    """Where an export goes if the user names no file: `exports/NAME.onnx` in the workbench's own folder.

    source: what is exported; of another one that has the name, the export stays: this one becomes NAME-2.onnx and so
    on. `NAME.source` tells whose it is. Modules that were handed over in Python have no source but their class.
    """
    folder, wanted = EngineStore().folder / "exports", f"{source.expanduser().absolute()}" if source else ""
    for number in itertools.count(1):
        stem = name if number == 1 else f"{name}-{number}"
        path, owner = folder / f"{stem}.onnx", folder / f"{stem}.source"
        with writing(path):
            known = owner.read_text() if owner.exists() else ""
            if known != wanted and path.exists():
                continue
            if wanted:
                folder.mkdir(parents=True, exist_ok=True)
                owner.write_text(wanted)
            else:
                owner.unlink(missing_ok=True)
        return path
    raise AssertionError("there are always more numbers")


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
        "most_relative": exported.most_relative,
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
    return Exported(
        model=load_model(data["onnx"]),
        framework=data["framework"],
        converter=data["converter"],
        parity=parity,
        notes=tuple(data["notes"]),
        elapsed_s=data["elapsed_s"],
        most_relative=data["most_relative"],
    )
