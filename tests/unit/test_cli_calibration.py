"""`workbench calibrate`, `calibration`, `dataset`: one collection, every form."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from models import FASHION_CNN, OCR_CLS, save
from PIL import Image

from workbench.calibration.collection import load_collection
from workbench.calibration.samples import open_samples
from workbench.calibration.table import read_table
from workbench.cli import main
from workbench.model import load_model

PICTURES = Path(__file__).parents[2] / "data" / "fashion_mnist_test"


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibration") / "fashion.calib"
    assert main(["calibrate", str(FASHION_CNN), "--data", str(PICTURES), "--samples", "64", "-o", str(path)]) == 0
    return path


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    return capsys.readouterr().err


def test_calibrate_writes_a_table_and_keeps_the_collection(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = tmp_path / "fashion.cache"
    data = told(capsys, "calibrate", str(FASHION_CNN), "--data", str(PICTURES), "--samples", "40", "-o", str(table))
    assert data["samples"] == 40 and data["tensors"] == 27 and not data["skipped"]
    assert (data["file"], data["format"]) == (str(table), "trt-cache")
    assert len(load_collection(data["collection"]).samples) == 40
    assert read_table(table).release == "8600" and len(read_table(table).amax) == 27
    assert not list(tmp_path.glob("*.partial"))


def test_pictures_are_prepared_as_the_options_say(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((50, 100, 3), 60 * number + 60, np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    output = tmp_path / "o.calib"
    options = ["--size", "48x192", "--channels", "BGR", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"]
    data = told(capsys, "calibrate", str(OCR_CLS), "--data", str(folder), "-o", str(output), *options)
    found = load_collection(output)
    assert (data["samples"], data["skipped"]) == (3, ["broken.png"])
    assert found.preprocessing is not None
    assert (found.preprocessing.size, found.preprocessing.channels) == ((48, 192), "BGR")
    assert found.histograms["x"].minimum == pytest.approx((60 / 255 - 0.5) / 0.5)
    strict = ["calibrate", str(OCR_CLS), "--data", str(folder), "-o", str(output), *options, "--strict"]
    assert "broken.png" in refused(capsys, *strict)


@pytest.mark.parametrize("algorithm", ["entropy", "minmax", "percentile", "mse"])
def test_show_tells_every_algorithm_of_one_collection(
    collected: Path, capsys: pytest.CaptureFixture[str], algorithm: str
) -> None:
    data = told(capsys, "calibration", "show", str(collected), "--algorithm", algorithm)
    assert (data["format"], data["algorithm"], len(data["tensors"])) == ("collection", algorithm, 27)
    assert data["tensors"][0].keys() == {"tensor", "amax", "scale"}
    assert data["tensors"][0]["scale"] == pytest.approx(data["tensors"][0]["amax"] / 127)


@pytest.mark.parametrize(
    ("name", "form"), [("t.cache", "trt-cache"), ("t.txt", "ranges"), ("t.json", "ort"), ("t.onnx", "qdq")]
)
def test_a_collection_becomes_every_form_and_comes_back(
    collected: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, form: str
) -> None:
    path = tmp_path / name
    data = told(capsys, "calibration", "convert", str(collected), "-o", str(path), "--model", str(FASHION_CNN))
    assert data["format"] == form and path.exists()
    wanted = {row["tensor"]: row["amax"] for row in told(capsys, "calibration", "show", str(collected))["tensors"]}
    shown = told(capsys, "calibration", "show", str(path), "--model", str(FASHION_CNN) if form != "qdq" else str(path))
    assert shown["format"] == form and shown["tensors"]
    found = {row["tensor"]: row["amax"] for row in shown["tensors"] if row["tensor"] in wanted}
    assert len(found) == 27 or (form == "qdq" and "image" in found)
    for tensor, amax in found.items():
        assert amax == pytest.approx(wanted[tensor], rel=1e-6)


def test_show_tells_people_what_it_is(collected: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibration", "show", str(collected)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "collection of 64 samples, entropy"


def test_shards_merge(collected: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    common = ["calibrate", str(FASHION_CNN), "--data", str(PICTURES), "--samples", "20"]
    for name, shard in (("a", "1/2"), ("b", "2/2")):
        told(capsys, *common, "--shard", shard, "-o", str(tmp_path / f"{name}.calib"))
    merged = tmp_path / "both.calib"
    data = told(capsys, "calibration", "merge", str(tmp_path / "a.calib"), str(tmp_path / "b.calib"), "-o", str(merged))
    told(capsys, *common, "-o", str(tmp_path / "whole.calib"))
    assert data["samples"] == 20 and merged.read_bytes() == (tmp_path / "whole.calib").read_bytes()
    assert "would count twice" in refused(capsys, "calibration", "merge", str(merged), str(merged), "-o", "x.calib")


def test_dataset_writes_what_paddles_tutorial_reads(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = tmp_path / "fashion.bin"
    folder = tmp_path / "pictures"
    for label, name in enumerate(("boot", "coat")):
        (folder / name).mkdir(parents=True)
        Image.fromarray(np.full((28, 28), 100 * label + 50, np.uint8)).save(folder / name / "1.png")
    data = told(capsys, "dataset", str(FASHION_CNN), "--data", str(folder), "-o", str(output))
    assert data["samples"] == 2 and output.stat().st_size == 8 + 2 * 28 * 28 * 4 + 2 * 8
    raw = output.read_bytes()
    assert np.frombuffer(raw[:8], np.int64)[0] == 2
    assert np.frombuffer(raw[-16:], np.int64).tolist() == [0, 1]
    calibrated = told(capsys, "calibrate", str(FASHION_CNN), "--data", str(output), "-o", str(tmp_path / "c.calib"))
    assert calibrated["samples"] == 2


def test_what_is_missing_or_does_not_fit_is_told(
    collected: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "nowhere" in refused(capsys, "calibrate", str(FASHION_CNN), "--data", "nowhere", "-o", "x.calib")
    assert "nowhere.cache" in refused(capsys, "calibration", "show", "nowhere.cache")
    said = refused(capsys, "calibrate", str(FASHION_CNN), "--data", str(PICTURES), "-o", str(tmp_path / "x.dat"))
    assert "'x.dat' does not tell which form is meant" in said
    said = refused(capsys, "calibration", "convert", str(collected), "-o", str(tmp_path / "x.onnx"))
    assert "name the one that the table belongs to" in said
    table = tmp_path / "t.cache"
    told(capsys, "calibration", "convert", str(collected), "-o", str(table))
    said = refused(capsys, "calibration", "convert", str(table), "-o", "y.txt", "--model", str(OCR_CLS))
    assert "wrong model" in said and load_model(OCR_CLS).name in said
    assert "reads one file; 2 are named" in refused(capsys, "calibration", "show", str(table), str(table))
    assert "name it with -o FILE" in refused(capsys, "calibration", "convert", str(table))
    assert "--size 224: write HEIGHTxWIDTH" in refused(
        capsys, "calibrate", str(FASHION_CNN), "--data", str(PICTURES), "-o", "x.calib", "--size", "224"
    )


def test_sensitivity_tells_layers_plan_and_what_int8_gains(
    collected: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    samples = open_samples(PICTURES, load_model(FASHION_CNN))
    items = [samples.read(index) for index in range(101, 400)]
    np.savez(
        tmp_path / "test.npz",
        image=np.concatenate([item.feeds["image"] for item in items]),
        labels=np.array([item.label for item in items]),
    )
    common = ["sensitivity", str(FASHION_CNN), "--data", str(tmp_path / "test.npz"), "--calibration", str(collected)]
    data = told(capsys, *common, "--samples", "16", "--max-drop", "5")
    layers = data["sensitivity"]["layers"]
    assert len(layers) == data["plan"]["quantizable"] == 11
    assert layers[0]["harm"] >= layers[-1]["harm"] >= 0 and layers[0]["harm"] > 0
    assert (data["plan"]["metric"], data["plan"]["reached"], data["plan"]["keep"]) == ("top1", True, [])
    assert {row["node"] for row in data["work"]} == {row["node"] for row in layers}
    assert data["gain"].startswith("7 layers of 11 gain from int8")


def test_the_same_pictures_in_calibration_and_test_are_told(
    collected: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["sensitivity", str(FASHION_CNN), "--data", str(PICTURES), "--calibration", str(collected)]
    data = told(capsys, *common, "--samples", "8", "--max-drop", "5")
    assert data["warning"].startswith("64 pictures of 10,000 served for calibration too")


def test_the_model_itself_is_never_written_over(
    collected: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    own, link = tmp_path / "own.onnx", tmp_path / "link.onnx"
    own.write_bytes(FASHION_CNN.read_bytes())
    link.symlink_to(own)
    for output in (own, link):
        said = refused(capsys, "calibrate", str(own), "--data", str(PICTURES), "-o", str(output))
        assert "the model or its weights lie there" in said
        said = refused(capsys, "calibration", "convert", str(collected), "-o", str(output), "--model", str(own))
        assert "the model or its weights lie there" in said
    assert own.read_bytes() == FASHION_CNN.read_bytes() and link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.onnx", "own.onnx"]


@pytest.mark.parametrize(
    ("output", "words", "said"),
    [
        ("/", ["--to", "ranges"], "/: a folder; name a file in it"),
        ("", ["--to", "ranges"], "-o is empty"),
        ("..", ["--to", "ranges"], "a folder; name a file in it"),
        ("FOLDER/dir.calib", [], "dir.calib: a folder; name a file in it"),
        ("FOLDER/dir.cache", [], "dir.calib: a folder; name a file in it"),
        ("FOLDER/file/x.calib", [], "cannot be written"),
        ("FOLDER/file/x.cache", [], "cannot be written"),
        ("FOLDER/file", ["--to", "ort"], "a file; name a folder"),
        ("FOLDER/x.cache", ["--release", "abc"], "'abc' is no release of TensorRT"),
        ("FOLDER/x.txt", ["--release", "10.3"], "--release has no effect on x.txt, in the form ranges"),
        ("FOLDER/x.calib", ["--release", "abc"], "--release has no effect on x.calib, a collection"),
        ("FOLDER/x.calib", ["--to", "ranges"], "--to has no effect on x.calib, a collection"),
        ("FOLDER/x.calib", ["--algorithm", "mse"], "--algorithm has no effect on x.calib, a collection"),
        ("FOLDER/x.calib", ["--resize-to", "5"], "--resize-to has no effect on --resize stretch"),
        ("FOLDER/x.calib", ["--scale", "nan"], "not infinite and not NaN"),
    ],
)
def test_what_cannot_come_out_is_told_before_anything_is_collected(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, output: str, words: list[str], said: str
) -> None:
    (tmp_path / "dir.calib").mkdir()
    (tmp_path / "file").write_text("")
    path = output.replace("FOLDER", str(tmp_path))
    assert said in refused(capsys, "calibrate", str(FASHION_CNN), "--data", str(PICTURES), "-o", path, *words)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["dir.calib", "file"]


def test_a_collection_of_another_model_is_not_replaced_in_passing(
    collected: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    common = ["calibrate", str(FASHION_CNN), "--data", str(PICTURES), "--samples", "4"]
    told(capsys, *common, "-o", str(tmp_path / "x.txt"))
    told(capsys, *common, "-o", str(tmp_path / "x.cache"))  # of the same model
    other = tmp_path / "other.onnx"
    changed = load_model(FASHION_CNN).proto
    changed.producer_name = "another"
    other.write_bytes(changed.SerializeToString())
    before = (tmp_path / "x.calib").read_bytes()
    for content in (before, b"something else"):
        (tmp_path / "x.calib").write_bytes(content)
        said = refused(capsys, "calibrate", str(other), "--data", str(PICTURES), "-o", str(tmp_path / "x.json"))
        assert "what lies there is none of other; name another file than x.json" in said
        assert (tmp_path / "x.calib").read_bytes() == content
    assert not (tmp_path / "x.json").exists()


def test_what_was_begun_is_taken_up_and_removed_when_the_collection_is_saved(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    common = ["calibrate", str(FASHION_CNN), "--data", str(PICTURES)]
    told(capsys, *common, "--samples", "20", "-o", str(tmp_path / "part.calib"))
    partial = tmp_path / "whole.calib.partial"
    (tmp_path / "part.calib").rename(partial)
    told(capsys, *common, "--samples", "20", "-o", str(tmp_path / "whole.calib"))
    assert [path.name for path in tmp_path.iterdir()] == ["whole.calib"]


def test_a_model_of_integers_has_nothing_to_calibrate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = save(tmp_path / "whole.onnx", "(int64[1,4] x) => (int64[1,4] y) { y = Add(x, x) }")
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 4), np.int64))
    said = refused(capsys, "calibrate", str(model), "--data", str(tmp_path / "x.npz"), "-o", str(tmp_path / "x.cache"))
    assert "whole: nothing to calibrate" in said


def test_a_release_is_read_as_people_write_it(
    collected: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = tmp_path / "t.cache"
    told(capsys, "calibration", "convert", str(collected), "-o", str(table))
    show = ["calibration", "show", str(table), "--model", str(FASHION_CNN), "--release"]
    assert [item["severity"] for item in told(capsys, *show, "8.6.1")["findings"]] == ["warning"]
    assert told(capsys, *show, "8.6.0")["findings"] == []
    assert "'abc' is no release of TensorRT" in refused(capsys, *show, "abc")
    assert "--release has no effect without a model" in refused(
        capsys, "calibration", "show", str(table), "--release", "8.6"
    )


def test_options_that_would_be_passed_over_are_refused(
    collected: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = tmp_path / "t.json"
    told(capsys, "calibration", "convert", str(collected), "-o", str(table))
    said = refused(capsys, "calibration", "show", str(table), "-o", str(tmp_path / "shown.txt"))
    assert "--output has no effect on calibration show" in said
    for words in (["show", str(table)], ["convert", str(table), "-o", str(tmp_path / "t.txt")]):
        said = refused(capsys, "calibration", *words, "--algorithm", "mse")
        assert "t.json is no collection; the ranges of a table stay as they are" in said
    said = refused(capsys, "calibration", "convert", str(collected), "-o", str(collected), "--to", "ranges")
    assert "name a table" in said and len(load_collection(collected).samples) == 64
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.json"]
    build = ["build", str(FASHION_CNN), "--backend", "onnxruntime", "--precision", "int8", "--calibration", str(table)]
    assert "is a table, whose ranges stay as they are" in refused(capsys, *build, "--calibrator", "minmax")


@pytest.mark.parametrize("drop", ["nan", "inf", "-1"])
def test_a_drop_that_is_no_number_of_points_is_refused(
    collected: Path, capsys: pytest.CaptureFixture[str], drop: str
) -> None:
    common = ["sensitivity", str(FASHION_CNN), "--data", str(PICTURES), "--calibration", str(collected)]
    assert f"--max-drop {drop}: write how many points may be lost" in refused(capsys, *common, f"--max-drop={drop}")


def test_values_that_are_not_finite_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The logarithm of a negative number is none, that of 0 is infinite."""
    model = save(tmp_path / "net.onnx", "(float[n,4] x) => (float[n,4] y) { l = Log(x) y = Abs(l) }")
    np.savez(tmp_path / "x.npz", x=np.array([[-1, 0, 2, 4], [1, 2, 3, 5]], np.float32))
    path = tmp_path / "x.calib"
    told(capsys, "calibrate", str(model), "--data", str(tmp_path / "x.npz"), "-o", str(path))
    assert main(["calibration", "show", str(path)]) == 0
    assert "warning: l: 2 values left out, being infinite or no number (NaN)" in capsys.readouterr().out
    findings = told(capsys, "calibration", "show", str(path))["findings"]
    assert [(item["severity"], item["tensor"]) for item in findings] == [("warning", "l"), ("warning", "y")]
    assert findings[0]["text"].startswith("2 values left out")


def test_ctrl_c_keeps_what_was_collected_and_the_same_command_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output, usual = tmp_path / "long.calib", signal.getsignal(signal.SIGINT)
    command = ["calibrate", str(FASHION_CNN), "--data", str(PICTURES), "--samples", "0", "--to-the-end"]

    def interrupt() -> None:
        while signal.getsignal(signal.SIGINT) is usual:
            time.sleep(0.01)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert main([*command, "-o", str(output)]) == 130
    thread.join()
    assert signal.getsignal(signal.SIGINT) is usual
    done = len(load_collection(tmp_path / "long.calib.partial").samples)
    assert f"stopped after {done:,} samples. The same command goes on from there." in capsys.readouterr().err
    assert 0 < done < 10_000 and not output.exists()
    assert main([*command, "--verbose", "-o", str(output)]) == 0
    assert f"{done:,} samples were collected before; the others follow" in capsys.readouterr().err
    assert len(load_collection(output).samples) == 10_000 and not (tmp_path / "long.calib.partial").exists()
