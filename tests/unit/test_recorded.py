"""Recorded runs: what the file must hold, how they are found, and that they always say where they are from."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench.cli import main
from workbench.errors import ViewError
from workbench.recorded import load_recorded, recorded_folders

LABEL = "recorded on NVIDIA H200, TensorRT 8.6.0, 2026-08-01"
RUN = {
    "model": "resnet18", "precision": "fp16", "batch": 1, "shapes": {"x": [1, 3, 224, 224]}, "peer": "workbench",
    "clock": "CUDA events", "median_ms": 0.163, "p99_ms": 0.165, "mean_ms": 0.164, "iterations": 1000, "build_s": 34.6,
    "plan_bytes": 23113124, "relative": 0.0006, "inspector": "layers.json", "profile": None, "table": None,
    "ranges": None, "top1": None,
}  # fmt: skip
PEER = {**RUN, "peer": "<b>torch</b> eager", "build_s": None, "plan_bytes": None, "inspector": None, "median_ms": 1.5}


def content() -> dict[str, Any]:
    gpu = {"name": "NVIDIA H200", "compute_capability": "9.0", "memory_bytes": 150754820096}
    machine = {"cpu": "Xeon", "cores": 16, "system": "Linux", "python": "3.10.12", "gpus": [gpu], "cuda_version": "13"}
    return {
        "machine": machine,
        "releases": {"tensorrt": "8.6.0", "torch": "2.11.0"},
        "date": "2026-08-01",
        "how": "python benchmarks/gpu_latency.py",
        "models": {"resnet18": {"about": "ResNet-18", "sha256": None, "nodes": None}},
        "runs": [RUN, PEER],
    }


def write(root: Path, data: Any, name: str = "h200") -> Path:
    folder = root / "data" / "recorded" / name
    folder.mkdir(parents=True)
    (folder / "layers.json").write_text("{}")
    (folder / "runs.json").write_text(json.dumps(data))
    return folder


def test_a_recording_is_read_with_its_label_runs_and_files(tmp_path: Path) -> None:
    folder = write(tmp_path, content())
    found = load_recorded(folder)
    assert found.label == LABEL
    first, second = found.runs
    assert (first.peer, first.median_ms, first.shapes) == ("workbench", 0.163, {"x": (1, 3, 224, 224)})
    assert (first.inspector, second.inspector) == (folder / "layers.json", None)
    assert found.models["resnet18"].about == "ResNet-18"


def test_text_and_notebook_show_every_run_under_the_label(tmp_path: Path) -> None:
    found = load_recorded(write(tmp_path, content()))
    lines = str(found).splitlines()
    assert lines[0] == LABEL and len(lines) == 4
    assert "resnet18" in lines[2] and "0.163" in lines[2] and "23.1" in lines[2]
    html = found._repr_html_()
    assert f"<caption>{LABEL}</caption>" in html and html.count("<tr>") == 3
    assert "&lt;b&gt;torch" in html and "<b>" not in html


def test_its_repr_is_one_short_line(tmp_path: Path) -> None:
    recorded = load_recorded(write(tmp_path, content()))
    assert repr(recorded) == "<Recorded NVIDIA H200, TensorRT 8.6.0, 2026-08-01: 2 runs of 1 model>"
    whole = [load_recorded(folder) for folder in recorded_folders(Path(__file__).parent)]
    assert whole and all(len(repr(item)) < 100 for item in whole)


def test_columns_of_which_nothing_was_recorded_are_left_out(tmp_path: Path) -> None:
    assert "build s" in str(load_recorded(write(tmp_path, content())))
    assert "build s" not in str(load_recorded(write(tmp_path, {**content(), "runs": [PEER]}, "peers")))


def test_runs_of_one_model_and_precision(tmp_path: Path) -> None:
    recorded = load_recorded(write(tmp_path, content()))
    assert recorded.of("resnet18") == recorded.of("resnet18", "fp16") == recorded
    with pytest.raises(ViewError, match=r"nothing of resnet18 int8 .* there are resnet18 fp16"):
        recorded.of("resnet18", "int8")


def test_recordings_are_those_beside_the_notebook(tmp_path: Path) -> None:
    folder = write(tmp_path, content())
    (tmp_path / "data" / "recorded" / "without-runs").mkdir()
    (tmp_path / "notebooks").mkdir()
    assert recorded_folders(tmp_path / "notebooks") == recorded_folders(tmp_path) == [folder]


def broken(**changes: Any) -> dict[str, Any]:
    return {**content(), "runs": [RUN, {**PEER, **changes}]}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in content().items() if key != name}


MISTAKES: dict[str, tuple[Any, str]] = {
    "no object": ([1], "not a recording"),
    "no machine": (without("machine"), "'machine' is missing"),
    "no release": ({**content(), "releases": {}}, "'tensorrt' is missing"),
    "no date": (without("date"), "'date' is missing"),
    "unknown model": (broken(model="vgg"), "run 2 is of vgg"),
    "no number": (broken(median_ms="fast"), 'median_ms of run 2 is "fast"'),
    "no time": (broken(median_ms=None), "median_ms of run 2 is null"),
    "no such file": (broken(profile="none.json"), "there is no file none.json"),
    "file elsewhere": (broken(table="../../../etc/passwd"), "there is no file"),
    "shapes": (broken(shapes=[1, 3]), "shapes of run 2"),
    "missing": ({**content(), "runs": [{"model": "resnet18"}]}, "'precision of run 1' is missing"),
    "unknown key": (broken(extra=1), "extra"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_broken_file_is_told_in_one_sentence(tmp_path: Path, name: str) -> None:
    data, says = MISTAKES[name]
    folder = write(tmp_path, data)
    with pytest.raises(ViewError) as error:
        load_recorded(folder)
    assert str(error.value).startswith(f"{folder / 'runs.json'}: ") and says in str(error.value)


def packed(root: Path) -> Path:
    """A recording of which only runs.json.gz is there; returns that file."""
    path = write(root, content()) / "runs.json"
    target = path.with_name("runs.json.gz")
    target.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()
    return target


def test_a_compressed_recording_is_found_and_read_as_any_other(tmp_path: Path) -> None:
    folder = packed(tmp_path).parent
    assert recorded_folders(tmp_path) == [folder]
    found = load_recorded(folder)
    assert found.label == LABEL and [run.peer for run in found.runs] == ["workbench", PEER["peer"]]


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-20], lambda data: data[:40] + b"0000" + data[44:], lambda data: b"{}" + data]
)
def test_a_compressed_recording_that_is_damaged_is_told(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = packed(tmp_path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ViewError, match=r"runs\.json\.gz: cannot be read"):
        load_recorded(path.parent)


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("{"), lambda path: path.unlink()])
def test_what_is_no_recording_is_told(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    folder = write(tmp_path, content())
    spoil(folder / "runs.json")
    with pytest.raises(ViewError, match=r"cannot be read|no recording"):
        load_recorded(folder)


def test_the_command_line_lists_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path, content())
    monkeypatch.chdir(tmp_path)
    assert main(["recorded"]) == 0
    assert LABEL in capsys.readouterr().out
    assert main(["recorded", str(folder), "--json"]) == 0
    (item,) = json.loads(capsys.readouterr().out)
    assert item["label"] == LABEL and item["runs"][0]["inspector"] == str(folder / "layers.json")
    assert item["runs"][1]["build_s"] is None and item["machine"]["gpus"][0]["name"] == "NVIDIA H200"
    assert main(["recorded", str(tmp_path)]) == 2
    assert "no recording" in capsys.readouterr().err
