"""Calibration tables into every form."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from workbench import qdq
from workbench.calibration import ort_table
from workbench.calibration.lint import broken_ranges, lint, raise_for
from workbench.calibration.table import FORMATS, CalibrationTable
from workbench.calibration.text_tables import release_digits, write_cache, write_ranges
from workbench.errors import ConfigError
from workbench.model import Model
from workbench.saving import save_model

RELEASE = "8600"
"""TensorRT's release in the first line of a cache, if neither the table nor its user names one."""
_FORMS = {".cache": "trt-cache", ".table": "trt-cache", ".txt": "ranges", ".json": "ort", ".onnx": "qdq"}


def form_of(path: Path, wish: str | None = None) -> str:
    """The form that a file shall have: the wish, else what its name says. Raises ConfigError."""
    form = wish or _FORMS.get(path.suffix.lower())
    if form not in FORMATS:
        what = f"there is no form of tables {wish!r}" if wish else f"{path.name!r} does not tell which form is meant"
        raise ConfigError(f"{what}; choose one of {', '.join(FORMATS)} (--to).")
    return str(form)


def write_table(
    table: CalibrationTable,
    path: str | Path,
    form: str,
    *,
    model: Model | None = None,
    release: str = "",
    keep: Collection[str] = (),
) -> Path:
    """Write a table, whole or not at all; returns the path. The tensors keep their order.

    form: one of FORMATS. 'trt-cache': for this release of TensorRT ('8.6.1' or '8601'), without one the table's own or
    RELEASE; what TensorRT wrote is written byte for byte. 'ort': a folder for all of ONNX Runtime's files, or a name
    ending in one of their suffixes for that one. 'qdq': `model` with Q/DQ nodes, the nodes named in `keep` left in
    float. 'ranges' and 'ort' leave out tensors without a range.
    Raises ConfigError, also for ranges that are no finite numbers, names that the form cannot hold, and what
    check_target refuses.
    """
    path = check_target(path, form, model=model, release=release)
    raise_for(broken_ranges(table), f"{path} is not written")
    try:
        if form == "trt-cache":
            digits = release_digits(release or table.release or RELEASE)
            _write_text(path, table, write_cache(table.amax, digits, table.cache_header))
        elif form == "ranges":
            _write_text(path, table, write_ranges(table.amax))
        elif form == "ort":
            _write_ort(path, table)
        elif model is not None:
            _write_model(path, table, model, keep)
    except OSError as error:
        raise ConfigError(f"{path}: the table cannot be written ({error.strerror}).") from error
    return path


def check_target(path: str | Path, form: str, *, model: Model | None = None, release: str = "") -> Path:
    """The path, absolute, for write_table with the same arguments; made for asking before long work.

    Makes the path's folder. Raises ConfigError for what no table could be written to: a form or release that does not
    exist, a folder, the model itself or its weights, a place where nothing can be written; and for 'qdq' without a
    model.
    """
    path = Path(os.path.abspath(Path(path).expanduser()))
    if form not in FORMATS:
        raise ConfigError(f"there is no form of tables {form!r}; choose one of {', '.join(FORMATS)}.")
    if form == "trt-cache" and release:
        release_digits(release)
    if form == "qdq" and model is None:
        raise ConfigError(f"{path}: Q/DQ nodes stand in a model; name the one that the table belongs to.")
    check_place(path, model, is_folder=form == "ort" and path.suffix not in ort_table.SUFFIXES)
    return path


def check_place(path: Path, model: Model | None = None, *, is_folder: bool = False) -> None:
    """Raise ConfigError where nothing can be written, and for a path of the model itself or of its weights."""
    try:
        if path.exists() and path.is_dir() != is_folder:
            raise ConfigError(f"{path}: {'a file; name a folder' if is_folder else 'a folder; name a file in it'}.")
        if model is not None and any(_is_same(path, file) for file in (model.path, *model.external_files)):
            raise ConfigError(f"{path}: the model or its weights lie there; name another file.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-"):
            pass
    except OSError as error:
        raise ConfigError(f"{path}: it cannot be written ({error.strerror}).") from error


def _is_same(path: Path, file: Path) -> bool:
    return path == file or (path.exists() and file.exists() and path.samefile(file))


def _write_text(path: Path, table: CalibrationTable, text: str) -> None:
    for name in table.amax:
        if "\n" in name or not name.strip():
            raise ConfigError(f"{path}: a line of it cannot hold the tensor name {name!a}; choose the form ort.")
    _replace(path, text.encode())


def _write_ort(path: Path, table: CalibrationTable) -> None:
    files = ort_table.encode(table.amax)
    if path.suffix in files:
        _replace(path, files[path.suffix])
        return
    path.mkdir(exist_ok=True)
    for suffix, content in files.items():
        _replace(path / f"{ort_table.STEM}{suffix}", content)


def _write_model(path: Path, table: CalibrationTable, model: Model, keep: Collection[str]) -> None:
    raise_for(lint(table, model), str(path))
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        save_model(qdq.quantize(model, table.amax, Path(folder), keep=keep), path)


def _replace(path: Path, content: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        draft = Path(folder) / path.name
        draft.write_bytes(content)
        os.replace(draft, path)
