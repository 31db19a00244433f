"""`workbench tune`: a front, the best engine in the store, a report; killed at any moment, it goes on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from models import FASHION_CNN

from workbench.cli import main
from workbench.runs import Filter, History
from workbench.store import EngineStore
from workbench.tuning import load_tuned

PICTURES = Path(__file__).parents[2] / "data" / "fashion_mnist_test"
QUICK = ["--limit-s", "0.2", "--compared", "60", "--calibrated", "40", "--backend", "onnxruntime"]
SMALL = [str(FASHION_CNN), *QUICK, "--precision", "fp32,fp16", "--space", "threads=default,1"]


def tuned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    capsys.readouterr()
    assert main(["tune", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def started(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "workbench.cli", "tune", *arguments, "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def after_trials(process: subprocess.Popen[str], count: int) -> None:
    """Return when so many trials were told."""
    assert process.stderr is not None
    for line in process.stderr:
        count -= line.startswith("trial ")
        if count == 0:
            return
    raise AssertionError(f"it ended before: {process.wait()}")


def trial_times() -> dict[str, str]:
    """When each trial of the history ended, by id."""
    return {run.id: run.at for run in History().list(Filter(kind="trial", limit=None))}


def test_it_ends_with_a_front_its_best_engine_in_the_store_and_a_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report, kept = tmp_path / "report.html", tmp_path / "search.json.gz"
    arguments = ["--data", str(PICTURES), "--limit", "top1<=5", "-o", str(report), "--save", str(kept)]
    found = tuned(capsys, *SMALL, "--precision", "fp32,fp16,int8", "--space", "in-float=0", *arguments)
    assert found["state"] == "finished" and found["front"]
    states = {trial["candidate"]["precision"] for trial in found["trials"]}
    assert states == {"fp32", "fp16", "int8"}
    best = found["best"]
    assert best["engine"] in {engine.key for engine in EngineStore().engines()}
    assert best["config"]["precision"] == best["candidate"]["precision"]
    assert best["trial"] in best["tied"] and best["reason"]
    assert found["report"] == str(report) and "<html" in report.read_text()
    assert "--limit 'top1<=5'" in load_tuned(kept).again["Shell"]
    assert load_tuned(kept).trials[0].id == found["trials"][0]["id"]


def test_the_same_search_again_measures_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    first = tuned(capsys, *SMALL)
    times, runs = trial_times(), len(History().list(Filter(limit=None)))
    assert len(first["trials"]) == 4 == len(times)
    again = tuned(capsys, *SMALL)
    assert [trial["id"] for trial in again["trials"]] == [trial["id"] for trial in first["trials"]]
    assert trial_times() == times
    assert len(History().list(Filter(limit=None))) == runs  # neither are the finalists
    assert again["columns"][0]["finals"]["id"] == first["columns"][0]["finals"]["id"]
    assert again["best"] == first["best"]
    assert any("measured in turns on" in note for note in again["notes"])


def test_another_search_takes_what_was_measured_for_other_goals(capsys: pytest.CaptureFixture[str]) -> None:
    first = tuned(capsys, *SMALL, "--trials", "2")
    other = tuned(capsys, *SMALL, "--objective", "size,latency")
    done = {trial["id"] for trial in first["trials"] if trial["state"] == "complete"}
    assert done <= {trial["id"] for trial in other["trials"] if trial["known"]}


def test_killed_in_the_middle_it_goes_on_and_no_trial_is_done_twice(capsys: pytest.CaptureFixture[str]) -> None:
    more = [*SMALL, "--space", "batch=1,2,4", "--trials", "8"]
    process = started(*more)
    after_trials(process, 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    times = trial_times()
    assert 2 <= len(times) < 8
    found = tuned(capsys, *more)
    assert len(found["trials"]) == 8 and found["best"]["engine"]
    assert {name: at for name, at in trial_times().items() if name in times} == times


def test_ctrl_c_ends_it_with_what_was_found() -> None:
    process = started(*SMALL, "--space", "batch=1,2,3,4,5,6,7,8")
    after_trials(process, 2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    found = json.loads(output)
    assert process.returncode == 0 and found["best"]
    assert 2 <= len(found["trials"]) < 16


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--limit", "speed<=2"], "speed"),
        (["--limit", "throughput<=2"], "at least: >="),
        (["--limit", "top1<=1", "--limit", "argmax<=1"], "one metric"),
        (["--objective", "beauty"], "beauty"),
        (["--space", "colour=red"], "colour"),
        (["--space", "batch=0"], "batch"),
        (["--precision", "fp7"], "fp7"),
        (["--precision", "int8"], "int8 needs ranges"),
        (["--calibration", "nowhere.calib"], "nowhere.calib"),
        (["-o", "report.pdf"], ".html or .md"),
        (["-o", "/proc/nope/report.html"], "nothing can be written there"),
        (["--limit", "top1<=1"], "labels"),
        (["--shapes", "imag:1x1x28x28"], "imag"),
    ],
)
def test_a_mistake_is_told_before_anything_is_tried(
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(["tune", str(FASHION_CNN), *QUICK, *arguments]) == 2
    assert told in capsys.readouterr().err
    assert not trial_times()


def test_limits_that_nothing_keeps_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", *SMALL, "--limit", "latency<=0.000001", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["best"] is None and not found["front"]
    assert any("no candidate stays within" in note for note in found["notes"])
