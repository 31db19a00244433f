"""Searches in files: those of a store, and sweeps recorded on a GPU, which say so wherever they are shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers_tuned import tuned

from workbench.errors import ConfigError, UnknownRun, ViewError
from workbench.recorded import load_recorded
from workbench.tuning.html import tuned_html
from workbench.tuning.plots import front_plot
from workbench.tuning.recorded import find_search, is_search, keep_search, recorded_sweeps, stored_searches
from workbench.tuning.result import Tuned, load_tuned, save_tuned

ROOT = Path(__file__).parents[2]
GRIDS = ROOT / "data" / "recorded"


@pytest.fixture(scope="module")
def sweeps() -> tuple[Tuned, ...]:
    return recorded_sweeps(GRIDS)


def test_a_search_is_kept_in_the_store_and_found_by_its_id(tmp_path: Path) -> None:
    assert stored_searches() == ()
    first, other = keep_search(tuned()), keep_search(tuned(id="abc000000000", state="stopped"))
    os.utime(first, ns=(10**18, 10**18))
    assert stored_searches() == (other, first)
    assert find_search("abcd") == tuned()
    assert find_search("abc000000000").state == "stopped"
    with pytest.raises(UnknownRun, match="2 searches"):
        find_search("abc")
    for unknown in ("123", "", "../"):
        with pytest.raises(UnknownRun):
            find_search(unknown)


def test_a_later_state_takes_the_place_of_the_former() -> None:
    keep_search(tuned(state="stopped"))
    keep_search(tuned())
    assert [load_tuned(path).state for path in stored_searches()] == ["finished"]


def test_a_file_is_labelled_with_where_it_was_recorded(tmp_path: Path) -> None:
    path = save_tuned(tuned(), tmp_path / "x.sweep.json.gz")
    assert find_search(str(path)).recorded == "recorded on EPYC, 2 cores, 2026-12-01"
    assert [item.id for item in recorded_sweeps(tmp_path)] == [tuned().id]
    assert is_search(path)
    assert not is_search(GRIDS / "tensorrt-8.6.0-h200-study" / "study.json.gz")


def test_what_is_no_sweep_is_refused(tmp_path: Path) -> None:
    assert recorded_sweeps(tmp_path) == ()
    (tmp_path / "x.sweep.json.gz").write_bytes(b"nothing")
    with pytest.raises(ViewError, match="not a search"):
        recorded_sweeps(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        recorded_sweeps(tmp_path / "missing")


def test_recorded_sweeps_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert {item.model for item in recorded_sweeps()} >= {"resnet18", "efficientnet_lite0", "minilm_l6", "fashion_cnn"}
    assert find_search(recorded_sweeps()[0].id[:6]).recorded


def test_every_recorded_sweep_says_where_it_is_from(sweeps: tuple[Tuned, ...]) -> None:
    for item in sweeps:
        assert item.recorded.startswith("recorded on NVIDIA H200, TensorRT 8.6.0, 2026-")
        assert any("not measured here" in note for note in front_plot(item).notes)
    assert "Recorded on NVIDIA H200" in tuned_html(sweeps[0])


def test_the_grids_hold_what_was_recorded_and_choose_nothing(sweeps: tuple[Tuned, ...]) -> None:
    recorded = load_recorded(GRIDS / "tensorrt-8.6.0-h200").of("resnet18", "int8")
    medians = {run.median_ms for run in recorded.runs if run.peer == "workbench" and "replay" in run.clock}
    grid = next(item for item in sweeps if item.model == "resnet18" and len(item.trials) == 12)
    found = {item.score.latency_ms.value for item in grid.trials if item.score and item.candidate.precision == "int8"}
    assert medians <= found
    grids = [item for item in sweeps if "not found by the tuner" in " ".join(item.notes)]
    assert len(grids) == 5
    for item in grids:
        assert item.best is None
        assert all(one.score and one.score.latency_ms.low < one.score.latency_ms.value for one in item.trials)
