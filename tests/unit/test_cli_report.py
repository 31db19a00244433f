"""`workbench report`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from workbench.cli import main
from workbench.machine import this_machine
from workbench.model import load_model
from workbench.runs import History, run_of_measurement
from workbench.timing import Measurement

FASHION_CNN = Path(__file__).parents[2] / "data" / "models" / "fashion_cnn.onnx"


@pytest.fixture
def run_id(home: Path) -> str:
    times = tuple(map(float, 1 + 0.01 * np.sin(np.arange(30))))
    item = Measurement(times, 1, {"image": (1, 1, 28, 28)}, "clock", this_machine(), name="onnxruntime fp32")
    run = run_of_measurement(item, model=load_model(FASHION_CNN))
    History().add(run, item.to_json())
    return run.id


def test_a_report_is_written_and_its_verdict_told(
    run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.html"
    assert main(["report", run_id[:8], "-o", str(path)]) == 0
    told = capsys.readouterr().out
    assert re.match(r"onnxruntime fp32 takes 1[\d.]* ms \(0\.99", told)
    assert told.rstrip().endswith(str(path))
    assert "<h1>Report on fashion_cnn</h1>" in path.read_text()


def test_json_tells_file_title_verdict_and_runs(
    run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.md"
    assert main(["report", run_id, "--output", str(path), "--title", "Release 2 <b>", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["file"], data["title"], data["runs"]) == (str(path), "Release 2 <b>", [run_id])
    assert len(data["verdict"]) == 1
    assert path.read_text().startswith("# Release 2 &lt;b>\n")


def test_mistakes_are_told_and_nothing_is_written(
    run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", run_id, "-o", str(tmp_path / "report.pdf")]) == 2
    assert ".html or .md" in capsys.readouterr().err
    assert main(["report", "nothing", "-o", str(tmp_path / "report.md")]) == 2
    assert "'nothing'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["report", run_id])
    assert stopped.value.code == 2
    assert [item.name for item in tmp_path.iterdir() if item.name != "home"] == []
