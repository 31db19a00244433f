"""What takes part in a contest: an ONNX file, or a Paddle model, which becomes ONNX first and may run itself, too."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import ConfigError, ExportError, ModelError
from workbench.export.exported import default_path
from workbench.export.from_paddle import PaddleModel, export_paddle, find_paddle_model
from workbench.model import Model, load_model
from workbench.saving import replace_file, sha256_of
from workbench.types import Listener, ignore

_PADDLE = (".pdmodel", ".pdiparams", ".json")
_OLD_PADDLE = ("__model__", "model")


@dataclass(frozen=True)
class Source:
    """model: as ONNX. paddle: what it was exported from. note: a sentence on the export, '' for what was ONNX."""

    model: Model
    paddle: PaddleModel | None = None
    note: str = ""

    @property
    def folder(self) -> Path:
        """Where the model comes from, with the configuration that may lie there."""
        return self.paddle.program.parent if self.paddle else self.model.path.parent


def find_source(path: str | Path) -> Path | PaddleModel:
    """The ONNX file or Paddle model that a path names: a file, or the folder of one. Nothing is made.

    Raises ConfigError for what is neither or both, ExportError for a damaged Paddle model.
    """
    place = Path(path).expanduser().absolute()
    if not place.exists():
        raise ConfigError(f"{place}: there is no such file or folder; name an ONNX file or a model's folder.")
    if place.is_dir():
        return _in_folder(place)
    if place.suffix == ".onnx":
        return place
    if place.suffix in _PADDLE or _is_old_paddle(place):
        return find_paddle_model(place)
    raise ConfigError(
        f"{place}: neither ONNX nor a Paddle model; export it first (`workbench export`) and name the ONNX file."
    )


def _in_folder(folder: Path) -> Path | PaddleModel:
    files = sorted(folder.glob("*.onnx"))
    paddle = sorted(path.name for path in folder.iterdir() if path.suffix in _PADDLE[:2] or _is_old_paddle(path))
    if files and (paddle or len(files) > 1):
        names = ", ".join([*(path.name for path in files), *paddle])
        raise ConfigError(f"{folder}: holds several models ({names}); name one of these files.")
    if files:
        return files[0]
    if not paddle:
        raise ConfigError(f"{folder}: holds neither an ONNX file nor a Paddle model; name the folder that does.")
    return find_paddle_model(folder)


def _is_old_paddle(path: Path) -> bool:
    return path.name in _OLD_PADDLE and path.is_file()


def open_source(
    path: str | Path,
    *,
    make_environment: bool = False,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Source:
    """The model; one of Paddle's is exported into the workbench's folder as `workbench export` does, once for the same
    files. make_environment: the user's yes to making Paddle's environment where it is not there yet.

    Raises what `find_source`, `load_model` and `export_paddle` raise.
    """
    found = find_source(path)
    if isinstance(found, Path):
        return Source(load_model(found))
    target = default_path(found.name, found.program)
    model, made_from = _known(target, found), _made_from(found)
    if model is not None:
        return Source(model, found, f"Exported before from {found.program}: {target}")
    exported = export_paddle(
        found.program, output=target, make_environment=make_environment, listener=listener, cancel=cancel
    )
    record = {**made_from, "onnx": exported.model.sha256}
    replace_file(_record_of(target), json.dumps(record, indent=1).encode())
    return Source(exported.model, found, str(exported))


# ---- exporting once


def _known(target: Path, found: PaddleModel) -> Model | None:
    """The export that lies there, if it was made of the same files with the same converter and is as it was written."""
    try:
        record = json.loads(_record_of(target).read_text())
        model = load_model(target)
    except (OSError, ValueError, ModelError):
        return None
    return model if record == {**_made_from(found), "onnx": model.sha256} else None


def _made_from(found: PaddleModel) -> dict[str, Any]:
    try:
        files = {path.name: sha256_of(path) for path in (found.program, found.weights)}
    except OSError as error:
        raise ExportError(f"{error.filename}: cannot be read ({error.strerror}); copy it again.") from error
    return {"files": files, "requirements": list(found.environment.requirements)}


def _record_of(target: Path) -> Path:
    return target.with_suffix(".made-from")
