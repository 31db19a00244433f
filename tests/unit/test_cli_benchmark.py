"""`workbench benchmark` and `accuracy`: the steps of PaddleSlim's tutorial, on the data set that `dataset` writes."""

import gzip
import json
import lzma
import os
import shutil
import signal
import struct
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from models import FASHION_CNN, save
from PIL import Image

from workbench.cli import main
from workbench.dimensions import set_input_dimension
from workbench.model import load_model
from workbench.runs import Filter, History
from workbench.saving import save_model

PICTURES = Path(__file__).parents[2] / "data" / "fashion_mnist_test"
QUICK = ["--iterations", "20", "--seconds", "0.2"]


def pixels(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first pictures of the test set, float32[count, 1, 28, 28] in [0, 1], and their classes."""
    images = lzma.decompress((PICTURES / "t10k-images-idx3-ubyte.xz").read_bytes())
    labels = gzip.decompress((PICTURES / "t10k-labels-idx1-ubyte.gz").read_bytes())
    pictures = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28)[:count].astype(np.float32) / 255
    return pictures, np.frombuffer(labels, np.uint8, offset=8)[:count].astype(np.int64)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def home(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One store for all tests here, so that each engine is built once."""
    monkeypatch.setenv("WORKBENCH_HOME", str(shared))
    return shared


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 pictures in the tutorial's layout: val_list.txt beside val/."""
    folder = tmp_path_factory.mktemp("imagenet_user")
    (folder / "val").mkdir()
    lines = []
    for number, (picture, label) in enumerate(zip(*pixels(200), strict=True)):
        name = f"val/{number:08}.png"
        Image.fromarray((picture[0] * 255).round().astype(np.uint8)).save(folder / name)
        lines.append(f"{name} {label}\n")
    (folder / "val_list.txt").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def data(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Paddle's binary data set of them, as the tutorial's first step writes it."""
    path = tmp_path_factory.mktemp("binary") / "val.bin"
    assert main(["dataset", str(FASHION_CNN), "--data", str(folder), "-o", str(path)]) == 0
    return path


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    out = capsys.readouterr().out
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def said(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 2) -> str:
    capsys.readouterr()
    assert main(list(map(str, arguments))) == status
    captured = capsys.readouterr()
    return captured.err if status else captured.out


# ---- how fast


def test_benchmark_measures_every_precision_on_the_data_set(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "benchmark", FASHION_CNN, data, "--precision", "fp32,fp16", *QUICK)
    (part,) = found["rounds"]
    names = ["onnxruntime:fp32", "onnxruntime:fp16"]
    assert (part["batch"], [row["name"] for row in part["results"]]) == (1, names) and 1 <= part["batches"] <= 20
    for row in part["results"]:
        assert row["low_ms"] <= row["median_ms"] <= row["high_ms"] and row["throughput_per_s"] > 0
    assert [item["shapes"] for item in part["study"]["measurements"]] == [{"image": [1, 1, 28, 28]}] * 2
    assert part["study"]["measurements"][0]["rivals"] == ["onnxruntime:fp16"]
    assert "200 pictures of" in found["data"] and "20 samples of 200 were read beforehand, 0.1 MB" in found["data"]


def test_every_batch_size_is_a_round_with_an_engine_for_it(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "benchmark", FASHION_CNN, data, "--batch-size", "1,16", *QUICK)
    assert [part["batch"] for part in found["rounds"]] == [1, 16] and 1 <= found["rounds"][1]["batches"] <= 13
    shapes = [part["study"]["measurements"][0]["shapes"]["image"] for part in found["rounds"]]
    assert shapes == [[1, 1, 28, 28], [16, 1, 28, 28]]


def test_benchmark_tells_people_clock_machine_and_who_is_missing(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, "benchmark", FASHION_CNN, data, "--backend", "onnxruntime,rtx", *QUICK, status=0)
    assert " of 1, in turns\n" in text and "95 % interval" in text
    assert "rtx:fp32: it cannot run here: " in text
    assert "onnxruntime:fp32: perf_counter around InferenceSession.run" in text and "cores" in text
    assert "In the history: workbench runs --study " in text


def test_what_was_measured_in_turns_is_a_study_of_the_history(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = told(capsys, "benchmark", FASHION_CNN, data, "--precision", "fp32,fp16", *QUICK)["rounds"][0]["study"]
    runs = History().list(Filter(kind="measurement", study=study["id"]))
    assert {(run.study, run.subject, run.precision) for run in runs} == {
        (study["id"], "onnxruntime:fp32", "fp32"),
        (study["id"], "onnxruntime:fp16", "fp16"),
    }
    assert len(runs) == 2 and all(run.model == "fashion_cnn" and run.batch == 1 and run.median_ms for run in runs)


def test_pictures_may_be_fewer_than_a_batch(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "benchmark", FASHION_CNN, data, "--batch-size", "8", "--samples", "3", *QUICK)
    assert found["rounds"][0]["batches"] == 1 and "3 samples of 200" in found["data"]


def test_a_batch_that_the_model_fixes_is_its_default_and_no_other_is_taken(
    data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fixed = save_model(set_input_dimension(load_model(FASHION_CNN), "image", 0, 4), tmp_path / "fixed.onnx").path
    assert told(capsys, "benchmark", fixed, data, *QUICK)["rounds"][0]["batch"] == 4
    text = said(capsys, "benchmark", fixed, data, "--batch-size", "1", *QUICK)
    assert "fixed takes batches of 4 only" in text and "--batch-size 4, or open the dimension" in text


# ---- how accurate


def test_accuracy_counts_what_onnx_runtime_itself_finds(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, labels = pixels(200)
    (logits,) = onnxruntime.InferenceSession(FASHION_CNN).run(None, {"image": pictures})
    top1 = 100 * np.mean(logits.argmax(1) == labels)
    top5 = 100 * np.mean((np.argsort(-logits, axis=1)[:, :5] == labels[:, None]).any(1))
    found = told(capsys, "accuracy", FASHION_CNN, data, "--precision", "fp32,fp16", "--batch-size", "32")
    assert (found["samples"], found["metric"], found["comparison"]["reference"]) == (200, "top1", "onnxruntime:fp32")
    for item in found["comparison"]["contestants"]:
        score = item["evaluation"]["top1"]
        assert score["other"]["value"] == pytest.approx(top1)
        assert item["evaluation"]["top5"]["other"]["value"] == pytest.approx(top5)
        assert score["drop"]["low"] < score["drop"]["value"] == 0 < score["drop"]["high"]


def test_folder_binary_data_set_and_arrays_tell_the_same(
    data: Path, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pictures, labels = pixels(200)
    np.savez(tmp_path / "val.npz", image=pictures, labels=labels)
    found = [told(capsys, "accuracy", FASHION_CNN, source) for source in (data, folder, tmp_path / "val.npz")]
    scores = {item["comparison"]["contestants"][0]["evaluation"]["top1"]["other"]["value"] for item in found}
    assert len(scores) == 1
    assert found[0]["comparison"]["digests"] == found[1]["comparison"]["digests"]


def test_the_last_pictures_count_where_the_model_fixes_a_larger_batch(
    data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = set_input_dimension(load_model(FASHION_CNN), "image", 0, 16)
    fixed = save_model(model, tmp_path / "fixed.onnx").path
    scores = []
    for name in (FASHION_CNN, fixed):
        found = told(capsys, "accuracy", name, data, "--samples", "50")
        assert found["samples"] == 50
        scores.append(found["comparison"]["contestants"][0]["evaluation"]["top1"])
    assert scores[0] == scores[1]


def test_data_without_labels_tell_how_far_outputs_agree(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=pixels(20)[0])
    command = ["accuracy", FASHION_CNN, tmp_path / "x.npz", "--precision", "fp32,fp16"]
    text = said(capsys, *command, status=0)
    assert "The data have no labels" in text and "top-1" not in text and "same class, %" in text
    assert told(capsys, *command, "--max-drop", "0.5")["metric"] == "argmax"


def test_pictures_that_served_for_calibration_are_told(
    data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    collection = tmp_path / "c.calib"
    told(capsys, "calibrate", FASHION_CNN, "--data", data, "--samples", "40", "--to-the-end", "-o", collection)
    found = told(capsys, "accuracy", FASHION_CNN, data, "--calibration", collection)
    assert [item["name"] for item in found["subjects"]] == ["onnxruntime:fp32", "onnxruntime:int8"]
    assert found["warnings"] == [
        "40 pictures of 200 served for calibration too: the accuracy comes out better than on new pictures. "
        "Evaluate on others."
    ]


def test_losing_more_than_allowed_is_a_failure_that_shows_what_was_measured(
    data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With ranges a hundredth of what they should be almost nothing is recognised."""
    collection, table = tmp_path / "c.calib", tmp_path / "narrow.txt"
    told(capsys, "calibrate", FASHION_CNN, "--data", data, "--samples", "40", "-o", collection)
    rows = told(capsys, "calibration", "show", collection)["tensors"]
    table.write_text("".join(f"{row['tensor']}: {row['amax'] / 100}\n" for row in rows))
    command = ["accuracy", FASHION_CNN, data, "--calibration", table]
    text = said(capsys, *command, "--max-drop", "1", status=1)
    assert "onnxruntime:int8 loses" in text and "top-1, %" in text
    assert "where 1 points of top-1 accuracy may be lost" in text and "95 % confidence" in text
    study = text.partition("workbench runs --study ")[2].split()[0]
    runs = History().list(Filter(kind="accuracy", study=study))
    assert {run.subject: run.loss > 1 for run in runs} == {"onnxruntime:fp32": False, "onnxruntime:int8": True}
    assert told(capsys, *command, "--max-drop", "100")["samples"] == 200


def test_a_loss_within_what_is_allowed_is_well(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["accuracy", FASHION_CNN, data, "--precision", "fp32,fp16", "--max-drop"]
    assert "shows no measurable loss of top-1 accuracy" in said(capsys, *command, "0", status=0)
    assert "--max-drop nan: write how many points" in said(capsys, *command, "nan")
    assert "is alone, and loses nothing" in said(capsys, "accuracy", FASHION_CNN, data, "--max-drop", "1")


def test_one_that_is_missing_has_not_passed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["accuracy", FASHION_CNN, data, "--backend", "onnxruntime,rtx", "--samples", "10"]
    assert "rtx:fp32 is missing" in said(capsys, *command, "--max-drop", "1", status=1)
    assert "rtx:fp32: it cannot run here" in said(capsys, *command, status=0)
    assert "it cannot run here" in said(capsys, "accuracy", FASHION_CNN, data, "--backend", "rtx", status=1)


def test_broken_pictures_are_left_out_and_told(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "own")
    (tmp_path / "own/val/00000003.png").write_bytes(b"nothing")
    found = told(capsys, "accuracy", FASHION_CNN, tmp_path / "own")
    assert found["samples"] == 199
    assert found["warnings"] == ["1 sample left out for being unreadable: val/00000003.png."]
    assert "00000003.png" in said(capsys, "accuracy", FASHION_CNN, tmp_path / "own", "--strict")
    text = said(capsys, "benchmark", FASHION_CNN, tmp_path / "own", "--batch-size", "10", *QUICK, status=0)
    assert "199 samples of 200 were read beforehand, 0.6 MB; 1 sample could not be read." in text


def test_ctrl_c_keeps_nothing_half_done(capsys: pytest.CaptureFixture[str]) -> None:
    usual, before = signal.getsignal(signal.SIGINT), History().list(Filter(kind="accuracy", limit=None))

    def interrupt() -> None:
        while signal.getsignal(signal.SIGINT) is usual:
            time.sleep(0.01)
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert main(["accuracy", str(FASHION_CNN), str(PICTURES)]) == 130
    thread.join()
    assert signal.getsignal(signal.SIGINT) is usual
    assert "workbench: stopped." in capsys.readouterr().err
    assert History().list(Filter(kind="accuracy", limit=None)) == before


# ---- what is named


def test_a_folder_with_one_onnx_file_is_that_model(
    data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copy(FASHION_CNN, tmp_path / "net.onnx")
    (tmp_path / "model").mkdir()
    assert told(capsys, "accuracy", tmp_path, data, "--samples", "5")["model"] == str(tmp_path / "net.onnx")
    shutil.copy(FASHION_CNN, tmp_path / "other.onnx")
    assert "holds several models (net.onnx, other.onnx); name one" in said(capsys, "accuracy", tmp_path, data)


def write_paddle(folder: Path) -> None:
    """Files in the tutorial's layout that look like a model: a program, and weights of one tensor without axes."""
    folder.mkdir(exist_ok=True)
    (folder / "model").write_bytes(b"program")
    header = struct.pack("<IQIi", 0, 0, 0, 2) + b"\x08\x05"
    (folder / "params").write_bytes(header + struct.pack("<f", 1.0))


def test_a_paddle_model_asks_before_an_environment_is_made(
    data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, shared: Path
) -> None:
    write_paddle(tmp_path / "inference")
    text = said(capsys, "benchmark", tmp_path / "inference", data)
    assert "needs the Paddle 2 environment" in text and "is not there yet" in text
    assert not list((shared / "environments").glob("*"))
    shutil.copy(FASHION_CNN, tmp_path / "inference" / "net.onnx")
    assert "holds several models (net.onnx, model)" in said(capsys, "benchmark", tmp_path / "inference", data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend", "paddle"], "paddle runs models of its own, and "),
        (["--backend", "cudnn"], "there is no back end 'cudnn'; choose one of tensorrt, rtx, onnxruntime, paddle"),
        (["--precision", "fp8"], "there is no precision 'fp8'"),
        (["--precision", "int8"], "int8 needs the range of every activation, and fashion_cnn brings none along"),
        (["--precision", "fp16", "--calibration", "x.calib"], "a calibration serves int8 only"),
        (["--precision", "bf16"], "onnxruntime cannot build bf16"),
        (["--batch-size", "1,2"], "accuracy does not depend on it"),
    ],
)
def test_what_cannot_be_asked_is_told(
    data: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert message in said(capsys, "accuracy", FASHION_CNN, data, *options)


def test_a_precision_that_one_back_end_lacks_is_left_out(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "accuracy", FASHION_CNN, data, "--precision", "fp32,bf16", "--samples", "10")
    assert [item["name"] for item in found["subjects"]] == ["onnxruntime:fp32"]
    assert found["failures"]["onnxruntime:bf16"].startswith("onnxruntime cannot build bf16")


def test_models_and_data_that_are_none_are_told(data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "net.pt").write_bytes(b"x")
    for name, message in (("nowhere", "no such file or folder"), ("empty", "neither an ONNX file nor a Paddle model")):
        assert message in said(capsys, "accuracy", tmp_path / name, data)
    assert "export it first (`workbench export`)" in said(capsys, "accuracy", tmp_path / "net.pt", data)
    assert "the samples cannot be read" in said(capsys, "accuracy", FASHION_CNN, tmp_path / "nowhere")
    other = save(tmp_path / "net.onnx", "(float[n,4] x) => (float[n,4] y) { y = Relu(x) }")
    assert "feeds one float32 input of four dimensions" in said(capsys, "accuracy", other, data)
