"""Runs as a file for other programs: a table as CSV, or everything, raw times included, as JSON."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from workbench.errors import ConfigError, StoreError
from workbench.runs.history import History
from workbench.runs.records import Run, run_to_json

_AT_ONCE = 200


def export_runs(history: History, runs: Sequence[Run], path: str | Path) -> Path:
    """Write the runs as `path`'s ending says, .csv or .json, in one step; returns its absolute path.

    CSV: a row of names, then a row for each run; empty where nothing is told, true or false, times as they are. JSON: a
    list of runs, each with its `data`. Raises ConfigError for another ending, StoreError when it cannot be written.
    """
    path = Path(path).expanduser().absolute()
    form = path.suffix.lower()
    if form not in (".csv", ".json"):
        raise ConfigError(f"{path.name}: runs are written as .csv (the table) or .json (everything); name such a file.")
    draft = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w", encoding="utf-8", newline="") as file:
            if form == ".csv":
                _write_csv(runs, file)
            else:
                _write_json(_with_data(history, runs), file)
        draft.replace(path)
    except OSError as error:
        raise StoreError(f"{path}: the runs cannot be written ({error.strerror}).") from error
    finally:
        with contextlib.suppress(OSError):  # there is none where all went well, or where its folder is no folder
            draft.unlink()
    return path


def _write_csv(runs: Sequence[Run], file: TextIO) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(Run._fields)
    writer.writerows(map(_cell, run_to_json(run).values()) for run in runs)


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _write_json(items: Iterator[dict[str, Any]], file: TextIO) -> None:
    """One run on a line, so that as many as there are need no memory."""
    separator = "[\n"
    for item in items:
        file.write(separator + json.dumps(item))
        separator = ",\n"
    file.write("[]\n" if separator == "[\n" else "\n]\n")


def _with_data(history: History, runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    for begin in range(0, len(runs), _AT_ONCE):
        part = runs[begin : begin + _AT_ONCE]
        for run, data in zip(part, history.data_of(part), strict=True):
            yield {**run_to_json(run), "data": data}
