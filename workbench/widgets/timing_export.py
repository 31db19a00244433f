"""Plots and tables of TimingBoard as files in the notebook's folder; no file that is there is ever replaced."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from workbench.errors import ConfigError
from workbench.plots.output import save
from workbench.widgets.timing_results import Picture, Sheet

FORMS = ("png", "svg", "csv")
_MOST = 10_000


def export(picture: Picture, form: str, model: str, folder: Path) -> tuple[Path, ...]:
    """Write a picture's table as CSV, or each of its plots as PNG or SVG; returns where.

    The names are '<model>-<picture>.png', '...-2.png' where that is taken. Raises ConfigError where there is nothing to
    write, or it cannot be written.
    """
    stem = f"{_plain(model)}-{picture.stem}"
    if form == "csv":
        if not picture.sheet.heads:
            raise ConfigError(picture.empty or "there is nothing to write yet.")
        text = csv_text(picture.sheet)
        return (_write(folder, stem, form, lambda path: path.write_text(text, encoding="utf-8", newline="")),)
    if not picture.plots:
        raise ConfigError(picture.empty or "this is a table without a plot: write it as CSV.")
    return tuple(_write(folder, stem, form, partial(save, plot)) for plot in picture.plots)


def csv_text(sheet: Sheet) -> str:
    """The head first; the last column tells where each row was measured."""
    stream = io.StringIO()
    rows = [(*row, "here") for row in sheet.rows] + [(*row, sheet.label) for row in sheet.recorded]
    csv.writer(stream).writerows([(*sheet.heads, "measured"), *rows])
    return stream.getvalue()


def _plain(name: str) -> str:
    """A file's name that every system takes."""
    return "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in name).strip(".")[:80] or "model"


def _names(stem: str, form: str) -> Iterator[str]:
    yield f"{stem}.{form}"
    yield from (f"{stem}-{number}.{form}" for number in range(2, _MOST))


def _write(folder: Path, stem: str, form: str, write: Callable[[Path], object]) -> Path:
    """Under the first free name, whole or not at all: the name is taken first, so that nobody else gets it."""
    for name in _names(stem, form):
        path = folder / name
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            continue
        except OSError as error:
            what = f"cannot be written ({error.strerror}); start the notebook in another folder"
            raise ConfigError(f"{path}: {what}.") from error
        draft = path.with_name(f".part-{name}")
        try:
            write(draft)
            draft.replace(path)
        except OSError as error:
            path.unlink()
            raise ConfigError(f"{path}: cannot be written ({error.strerror}).") from error
        except ConfigError:
            path.unlink()
            raise
        finally:
            draft.unlink(missing_ok=True)
        return path
    raise ConfigError(f"{folder / stem}.{form}: {_MOST:,} files have this name already; remove some.")
