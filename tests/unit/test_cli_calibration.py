"""`workbench calibrate`, `calibration`, `dataset`: one collection, every form."""

import json
from pathlib import Path

import numpy as np
import pytest
from models import FASHION_CNN, OCR_CLS
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
