"""`workbench accuracy --scheduler`: the same answer, computed on workers."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from distributed import LocalCluster
from models import FASHION_CNN
from PIL import Image

from workbench.cli import main
from workbench.runs import Filter, History

PICTURES = Path(__file__).parents[2] / "data" / "fashion_mnist_test"
ONE_BY_ONE = ["accuracy", str(FASHION_CNN), str(PICTURES)]
COMMAND = [*ONE_BY_ONE, "--precision", "fp32,fp16", "--batch-size", "16"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def home(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One store for all tests here, so that each engine is built once."""
    monkeypatch.setenv("WORKBENCH_HOME", str(shared))
    return shared


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a scheduler with three workers in this process."""
    options = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "silence_logs": 60}
    with LocalCluster(n_workers=3, processes=False, host="127.0.0.1", protocol="tcp", **options) as cluster:
        yield cluster.scheduler_address


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What is printed, without the study's id, which is another one for every call."""
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 0
    return re.sub(r'(--study |"study": ")[0-9a-f]{12}', r"\1", capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object, status: int) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments)]) == status
    return capsys.readouterr().err


def test_two_local_workers_tell_what_one_process_tells(capsys: pytest.CaptureFixture[str]) -> None:
    command = [*COMMAND, "--samples", "300", "--json"]
    found = answer(capsys, *command, "--scheduler", "local:2")
    assert found == answer(capsys, *command)
    assert (json.loads(found)["samples"], json.loads(found)["metric"]) == (300, "top1")


def test_text_and_history_are_the_same(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*COMMAND, "--samples", "100", "--max-drop", "5"]
    assert answer(capsys, *command, "--scheduler", address) == answer(capsys, *command)
    newest = History().list(Filter(kind="accuracy", limit=4))
    assert {(run.study, run.subject) for run in newest[:2]} != {(run.study, run.subject) for run in newest[2:]}
    assert [(run.subject, run.loss) for run in newest[:2]] == [(run.subject, run.loss) for run in newest[2:]]


def test_samples_may_be_fewer_than_workers(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*COMMAND, "--samples", "1", "--json"]
    assert answer(capsys, *command, "--scheduler", address) == answer(capsys, *command)


def test_broken_pictures_without_labels_are_left_out_and_told_all_the_same(
    address: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for number in range(9):
        Image.fromarray(np.full((28, 28), 20 * number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"nothing")
    command = ["accuracy", FASHION_CNN, tmp_path, "--json", "--threads", "1"]
    found = answer(capsys, *command, "--scheduler", address)
    assert found == answer(capsys, *command)
    assert json.loads(found)["samples"] == 8 and "3.png" in json.loads(found)["warnings"][0]
    assert "3.png" in refusal(capsys, *command, "--strict", "--scheduler", address, status=2)


def test_one_that_cannot_run_here_is_missing_all_the_same(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*ONE_BY_ONE, "--backend", "onnxruntime", "--precision", "fp32,bf16", "--samples", "9", "--json"]
    found = answer(capsys, *command, "--scheduler", address)
    assert found == answer(capsys, *command) and "onnxruntime:bf16" in json.loads(found)["failures"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheduler", "nowhere"], "'nowhere' is neither an address such as 'tcp://host:8786'"),
        (["--scheduler", "local:many"], "'local:many': write how many workers"),
        (["--scheduler", "local:0"], "0 workers do nothing"),
        (["--scheduler", "local", "--backend", "onnxruntime,paddle"], "leave out paddle or the scheduler"),
    ],
)
def test_what_cannot_be_spread_is_told(
    capsys: pytest.CaptureFixture[str], options: list[str], message: str, home: Path
) -> None:
    assert message in refusal(capsys, *ONE_BY_ONE, *options, status=2)


def test_ctrl_c_keeps_nothing_half_done(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    usual, before = signal.getsignal(signal.SIGINT), History().list(Filter(kind="accuracy", limit=None))

    def interrupt() -> None:
        while signal.getsignal(signal.SIGINT) is usual:
            time.sleep(0.01)
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert main([*ONE_BY_ONE, "--scheduler", address]) == 130
    thread.join()
    assert signal.getsignal(signal.SIGINT) is usual
    assert "workbench: stopped" in capsys.readouterr().err
    assert History().list(Filter(kind="accuracy", limit=None)) == before
