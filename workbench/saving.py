"""Files that are whole or not there: a Model with the changes to its dimensions, or any bytes."""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from workbench.errors import ModelError
from workbench.model import Model, load_model

_PIECE = 1 << 22


def save_model(model: Model, path: str | Path) -> Model:
    """Write a model, changes to its dimensions included, and return it as read back from there.

    Weights outside the ONNX file are copied beside it. A file of that name is replaced when the new one is whole, but
    the model's own file is not. Raises ModelError.
    """
    path = Path(os.path.abspath(Path(path).expanduser()))
    weights = [file.relative_to(model.path.parent) for file in model.external_files]
    try:
        if path == model.path or (path.exists() and path.samefile(model.path)):
            raise ModelError(f"{path}: the model was read from this file; name another.")
        if path.is_dir():
            raise ModelError(f"{path}: a folder; name a file in it.")
        if any(path == path.parent / file for file in weights):
            raise ModelError(f"{path}: the model's weights have this name; name another.")
        content = model.to_bytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
            (Path(folder) / path.name).write_bytes(content)
            for file in _copy_external_files(model, path.parent, Path(folder)):
                (path.parent / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(folder) / file, path.parent / file)
            os.replace(Path(folder) / path.name, path)
    except OSError as error:
        raise ModelError(f"{path}: the model cannot be written ({error.strerror}).") from error
    except ValueError as error:
        raise ModelError(f"{str(path)[:200]!r}: not a path ({error}).") from error
    return load_model(path)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file in one step; makes its folder. Raises OSError, and ValueError for what is no path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def sha256_of(path: Path) -> str:
    """Of a file of any size, as `sha256sum` tells it. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _copy_external_files(model: Model, wanted: Path, staging: Path) -> list[Path]:
    """Copy the weights that are not in the wanted folder yet; returns their names, relative to it."""
    copied = []
    for file in model.external_files:
        name = file.relative_to(model.path.parent)
        there = wanted / name
        if there.exists() and (there.samefile(file) or filecmp.cmp(there, file, shallow=False)):
            continue
        if there.exists():
            raise ModelError(f"{there}: weights of another model lie here; name a folder without them.")
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, staging / name)
        copied.append(name)
    return copied
