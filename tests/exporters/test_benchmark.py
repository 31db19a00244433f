"""Paddle itself beside engines: the tutorial's steps with real Paddle models, each in a Paddle of its time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from workbench.baselines import baseline
from workbench.cli import main
from workbench.errors import BackendError, Cancelled, FeedError
from workbench.export.environments import Made
from workbench.export.from_paddle import export_paddle
from workbench.export.paddle_session import paddle_session
from workbench.reference import Reference
from workbench.runs import Filter, History
from workbench.study import study
from workbench.timing import Timing
from workbench.types import Progress

QUICK = ["--iterations", "20", "--seconds", "1"]


@pytest.fixture
def inference(paddle_2_models: Path, tmp_path: Path) -> Path:
    """The network for Fashion-MNIST in the tutorial's layout: a folder with `model` and `params`."""
    folder = tmp_path / "inference"
    folder.mkdir()
    for name, suffix in (("model", "pdmodel"), ("params", "pdiparams")):
        shutil.copy(paddle_2_models / f"qat.{suffix}", folder / name)
    return folder


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def children() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


# ---- the session


def test_paddle_answers_in_its_own_process_as_its_export_does(paddle_3_models: Path, tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).random((5, 3, 64, 64), np.float32)
    model = export_paddle(paddle_3_models / "mobilenet.json", output=tmp_path / "net.onnx").model
    before = children()
    with paddle_session(paddle_3_models / "mobilenet.json", model=model, threads=1) as session:
        assert len(children() - before) == 1
        assert (session.threads, session.copies, session.device) == (1, None, "cpu")
        assert (session.inputs, session.outputs) == (model.inputs, model.outputs)
        for count in (1, 5, 2):
            found = session.run({"x": pictures[:count]})
            wanted = Reference(model).run({"x": pictures[:count]})
            assert found.keys() == wanted.keys()
            for name, array in found.items():
                assert np.linalg.norm(array - wanted[name]) <= 1e-4 * np.linalg.norm(wanted[name])
        times = session.times_ms(7)
        assert len(times) == 7 and min(times) > 0
        with pytest.raises(FeedError, match="it must be float32"):
            session.run({"x": pictures.astype(np.float64)})
    assert children() == before


def test_a_model_that_onednn_does_not_take_runs_without_it(paddle_3_models: Path) -> None:
    with paddle_session(paddle_3_models / "pyramid.json") as session:
        assert session.releases == {"paddle": "3.3.1", "oneDNN": "on"}
        (found,) = session.run({"x": np.ones((1, 3, 64, 64), np.float32)}).values()
        assert found.shape == (1, 1, 64, 64) and session.releases["oneDNN"] == "off"
    with paddle_session(paddle_3_models / "mobilenet.json") as session:
        session.run({"x": np.ones((2, 3, 64, 64), np.float32)})
        assert session.releases["oneDNN"] == "on"


def test_what_paddle_refuses_is_a_sentence_and_the_session_goes_on(paddle_2_models: Path) -> None:
    with paddle_session(paddle_2_models / "qat.pdmodel") as session:
        with pytest.raises(BackendError, match="nothing to repeat: run the session once"):
            session.times_ms(1)
        with pytest.raises(BackendError, match=r"qat\.pdmodel: Paddle 2 does not run it: it asks for the input x"):
            session.run({"y": np.zeros((1, 4), np.float32)})
        with pytest.raises(BackendError, match=r"Paddle 2 does not run it: .*width"):
            session.run({"x": np.zeros((1, 1, 20, 20), np.float32)})
        assert session.run({"x": np.zeros((1, 1, 28, 28), np.float32)})
        assert session.releases["oneDNN"] == "on"
    with pytest.raises(BackendError, match="the session was closed; open another one"):
        session.times_ms(1)


def test_the_death_of_its_process_is_a_sentence(paddle_2_models: Path) -> None:
    before = children()
    session = paddle_session(paddle_2_models / "qat.pdmodel")
    (process,) = children() - before
    os.kill(process, signal.SIGSEGV)
    for _ in range(2):
        with pytest.raises(BackendError, match=r"its process crashed \(SIGSEGV\) inside native code; open another"):
            session.run({"x": np.zeros((1, 1, 28, 28), np.float32)})
    assert children() == before


def test_the_process_ends_with_a_program_that_is_killed(paddle_2_models: Path) -> None:
    code = (
        "import sys; from workbench.export.paddle_session import paddle_session\n"
        "session = paddle_session(sys.argv[1]); print(session._process._process.pid, flush=True); input()"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", code, paddle_2_models / "qat.pdmodel"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert program.stdout is not None and program.stdin is not None
    runner = psutil.Process(int(program.stdout.readline()))
    program.kill()
    program.wait()
    runner.wait(timeout=60)
    for stream in (program.stdout, program.stdin):
        stream.close()


def test_opening_can_be_cancelled(paddle_2_models: Path) -> None:
    before, cancel = children(), threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        paddle_session(paddle_2_models / "qat.pdmodel", cancel=cancel)
    assert children() == before


def test_paddle_takes_part_in_a_study(paddle_3: Made, paddle_3_models: Path, tmp_path: Path) -> None:
    model = export_paddle(paddle_3_models / "mobilenet.json", output=tmp_path / "net.onnx").model
    reference, events = Reference(model), []
    with paddle_session(paddle_3_models / "mobilenet.json", model=model, listener=events.append) as paddle:
        found = study(
            {"Paddle": paddle, "ONNX": baseline(reference.run)},
            {"x": np.ones((2, 3, 64, 64), np.float32)},
            Timing(iterations=20, limit_s=1.0),
        )
    assert [item.name for item in found.measurements] == ["Paddle", "ONNX"] and not found.failures
    assert found.subject("Paddle").backend == "paddle" and found["Paddle"].batch == 2
    assert Progress("Starting Paddle 3", 1, 1) in events


# ---- the tutorial's steps


def test_the_steps_of_the_tutorial(
    inference: Path, pictures: np.ndarray, capsys: pytest.CaptureFixture[str], tmp_path: Path, home: Path
) -> None:
    """2.3 pictures become a binary data set, then run_benchmark.sh and test_acc.sh."""
    user = tmp_path / "imagenet_user"
    (user / "val").mkdir(parents=True)
    with paddle_session(inference) as session:
        (logits,) = session.run({"x": pictures}).values()
    for number, picture in enumerate(pictures):
        Image.fromarray((picture[0] * 255).round().astype(np.uint8)).save(user / "val" / f"{number}.png")
    lines = (f"val/{number}.png {label}\n" for number, label in enumerate(logits.argmax(1)))
    (user / "val_list.txt").write_text("".join(lines))

    contest = ["--backend", "paddle,onnxruntime"]
    measured = told(capsys, "benchmark", inference, user, *contest, "--batch-size", "1,4", *QUICK)
    exported = home / "exports" / "inference.onnx"
    assert measured["model"] == str(exported) and "from Paddle 2.6.2 by paddle2onnx" in measured["note"]
    told(capsys, "dataset", exported, "--data", user, "-o", tmp_path / "val.bin")

    again = told(capsys, "benchmark", inference, tmp_path / "val.bin", *contest, *QUICK)
    assert again["note"] == f"Exported before from {inference / 'model'}: {exported}"
    for part in (*measured["rounds"], *again["rounds"]):
        assert [row["name"] for row in part["results"]] == ["paddle", "onnxruntime:fp32"] and not part["study"][
            "failures"
        ]
        assert part["study"]["measurements"][0]["releases"]["paddle"] == "2.6.2"

    found = told(capsys, "accuracy", inference, tmp_path / "val.bin", *contest, "--batch-size", "32", "--max-drop", "5")
    assert (found["samples"], found["comparison"]["reference"]) == (500, "paddle")
    first, other = (item["evaluation"]["top1"] for item in found["comparison"]["contestants"])
    assert first["other"]["value"] == 100, "the labels are what Paddle itself finds"
    assert other["other"]["value"] >= 95
    assert {run.subject for run in History().list(Filter(kind="accuracy"))} == {"paddle", "onnxruntime:fp32"}


def test_a_model_that_changed_is_exported_again(
    inference: Path, paddle_2_models: Path, pictures: np.ndarray, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", x=pictures[:8])
    command = ["accuracy", inference, tmp_path / "x.npz"]
    hashes = [told(capsys, *command)["model_sha256"] for _ in range(2)]
    for name, suffix in (("model", "pdmodel"), ("params", "pdiparams")):
        shutil.copy(paddle_2_models / f"imperative.{suffix}", inference / name)
    changed = told(capsys, *command)
    assert "Exported before" not in changed["note"]
    assert hashes[0] == hashes[1] != changed["model_sha256"]
    assert [item["name"] for item in changed["subjects"]] == ["onnxruntime:fp32", "onnxruntime:int8"]


def test_what_lies_beside_the_paddle_model_says_how_pictures_become_inputs(
    paddle_3_models: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    own, folder = tmp_path / "own", tmp_path / "pictures"
    for path in (own, folder):
        path.mkdir()
    for suffix in ("json", "pdiparams"):
        shutil.copy(paddle_3_models / f"mobilenet.{suffix}", own)
    normalize = "{scale: 1.0/255.0, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25], order: ''}"
    steps = f"  - NormalizeImage: {normalize}\n  - ToCHWImage: null\n"
    (own / "inference.yml").write_text(f"PreProcess:\n  transform_ops:\n{steps}")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "a.png")
    found = told(capsys, "accuracy", own, folder)
    assert f"Preprocessing from {own / 'inference.yml'}: " in found["data"] and "0.25" in found["data"]


def test_ctrl_c_ends_paddles_process_too(inference: Path, tmp_path: Path, pictures: np.ndarray) -> None:
    np.savez(tmp_path / "x.npz", x=np.concatenate([pictures] * 20))
    assert main(["accuracy", str(inference), str(tmp_path / "x.npz"), "--samples", "1"]) == 0  # exported now
    before, usual = children(), signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        while children() == before:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert main(["accuracy", str(inference), str(tmp_path / "x.npz"), "--backend", "paddle"]) == 130
    thread.join()
    assert children() == before and signal.getsignal(signal.SIGINT) is usual
