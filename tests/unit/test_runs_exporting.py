"""The history as CSV and JSON: everything is in it, and nothing half-written is left."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from helpers_runs import filled, timed

from workbench.errors import ConfigError, StoreError
from workbench.runs import Filter, History, Run, export_runs, run_to_json

KINDS = {name: kind for name, kind in Run.__annotations__.items()}


def read_cell(name: str, text: str) -> Any:
    """What a reader of the table makes of it."""
    kind = KINDS[name] if isinstance(KINDS[name], str) else KINDS[name].__forward_arg__
    if "None" in kind and text == "":
        return None
    return {"bool": lambda: text == "true", "int": lambda: int(text), "float": lambda: float(text)}.get(
        kind.partition(" ")[0], lambda: text
    )()


@pytest.fixture
def history(tmp_path: Path) -> History:
    history, _ = filled(tmp_path / "store", 3)
    odd = timed(1e300, 5e-324, 1e308, model='a,"b"\n größer 🚀', copies=True, note="=1+1", config='{"a":[1,2]}')
    history.add_many(
        [(odd, {"text": "größer\ud800", "times_ms": [1e300]}), (timed(None, kind="build", copies=False), {})]
    )
    return history


def test_csv_holds_every_field_to_the_last_digit(history: History, tmp_path: Path) -> None:
    runs = history.list()
    path = export_runs(history, runs, tmp_path / "new" / "runs.CSV")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(Run(**{name: read_cell(name, text) for name, text in row.items()}) for row in rows) == runs
    assert rows[0]["copies"] == "false" and rows[1]["median_ms"] == "1e+300" and rows[2]["copies"] == ""


def test_json_holds_the_data_too(history: History, tmp_path: Path) -> None:
    runs = history.list()
    items = json.loads(export_runs(history, runs, tmp_path / "runs.json").read_text())
    assert [Run(**{name: item[name] for name in Run._fields}) for item in items] == list(runs)
    assert [item["data"] for item in items] == [history.data(run) for run in runs]
    assert items[1]["data"]["text"] == "größer\ud800"


@pytest.mark.parametrize("count", [0, 1, 450])
def test_any_number_of_runs_is_one_json_list(tmp_path: Path, count: int) -> None:
    history, runs = filled(tmp_path / "store", count)
    path = export_runs(history, history.list(Filter(limit=None)), tmp_path / "runs.json")
    items = json.loads(path.read_text())
    assert [item["id"] for item in items] == [run.id for run in runs[::-1]]
    assert export_runs(history, (), tmp_path / "none.csv").read_text() == ",".join(Run._fields) + "\n"


def test_an_export_that_fails_leaves_the_file_that_was_there(history: History, tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    export_runs(history, history.list(), path)
    before, (run, *_) = path.read_bytes(), history.list()
    history.delete(run)
    with pytest.raises(StoreError, match=f"there is no run {run.id}"):
        export_runs(history, [*history.list(), run], path)
    assert path.read_bytes() == before
    assert {item.name for item in tmp_path.iterdir() if item.is_file()} == {"runs.json"}


def test_other_endings_and_impossible_places_are_sentences(history: History, tmp_path: Path) -> None:
    for name in ("runs.txt", "runs", "runs.json.gz"):
        with pytest.raises(ConfigError, match=r"runs are written as \.csv \(the table\) or \.json \(everything\)"):
            export_runs(history, (), tmp_path / name)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="the runs cannot be written"):
        export_runs(history, (), tmp_path / "file" / "runs.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(StoreError, match="the runs cannot be written"):
        export_runs(history, (), tmp_path / "folder.csv")


def test_a_run_as_json_has_its_fields_by_name() -> None:
    run = timed(1.5)
    assert run_to_json(run)["median_ms"] == 1.5 and tuple(run_to_json(run)) == Run._fields
