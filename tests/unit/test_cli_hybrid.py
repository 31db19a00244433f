"""`workbench shapes` and `workbench hybrid`, as a shell runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_shapes import floats, ints, network, saved
from models import FASHION_CNN, parse

from workbench import Model
from workbench.cli import main
from workbench.hybrid.shapes import load_shapes

TWO = """(float[n,4] x) => (float[n,4] y) {
    a = Relu(x) b = Exp(a) middle = com.microsoft.QuickGelu(b) c = Relu(middle) y = Tanh(c) }"""


def two(folder: Path) -> Model:
    proto = parse(TWO)
    proto.opset_import.add(domain="com.microsoft", version=1)
    return saved(folder, proto)


def found(folder: Path) -> Model:
    return network(folder, "(float[n] x) => (int64[1,k] y) { r = Relu(x) t = NonZero(r) a = Abs(t) y = Neg(a) }")


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    assert main([str(word) for word in (*words, "--json")]) == 0
    return json.loads(capsys.readouterr().out)


def complaint(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main([str(word) for word in words]) == 2
    shown = capsys.readouterr()
    assert not shown.out
    return shown.err


def test_shapes_are_collected_from_files_and_random_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = two(tmp_path)
    np.savez(tmp_path / "sample.npz", x=floats(7, 4))
    data = answer(
        capsys, "shapes", model.path, "--feeds", tmp_path / "sample.npz",
        "--shapes", "x:1x4,2x4,3x4", "--shapes", "x:5x4", "-o", tmp_path / "shapes.json",
    )  # fmt: skip
    assert data["samples"] == 6 and data["sha256"] == model.sha256
    assert data["shapes"]["middle"] == {"min": [1, 4], "opt": [2, 4], "max": [7, 4]}
    assert load_shapes(data["file"], model).ranges["middle"].max == (7, 4)


def test_shapes_are_shown_as_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = "(float[n,m] x) => (float[?,?] y) { s = Shape(x) t = Concat<axis = 0>(s, one) y = Expand(x, t) }"
    model = network(tmp_path, graph.replace("Concat<axis = 0>(s, one)", "Mul(s, one)"), one=ints(1))
    assert main(["shapes", str(model.path), "--shapes", "x:1x2,3x4,5x6"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["x", "1x2", "3x4", "5x6"] in lines
    assert ["values", "of", "t", "[1,", "2]", "[3,", "4]", "[5,", "6]"] in lines


def test_samples_may_have_sizes_that_contradict_the_names_of_dimensions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network(tmp_path, "(float[n,n] x) => (float[n,n] y) { y = Relu(x) }")
    assert answer(capsys, "shapes", model.path, "--shapes", "x:2x3")["shapes"]["y"]["opt"] == [2, 3]
    assert "has no input z" in complaint(capsys, "shapes", model.path, "--shapes", "z:2x3")


def test_a_model_of_fixed_sizes_needs_no_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = network(tmp_path, "(float[2,4] x) => (float[2,4] y) { y = Relu(x) }")
    assert answer(capsys, "shapes", fixed.path)["shapes"]["y"]["opt"] == [2, 4]
    assert "give samples, as --feeds FILE.npz or --shapes" in complaint(capsys, "shapes", FASHION_CNN)


@pytest.mark.rtx
def test_a_model_is_run_in_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("hybrid", two(tmp_path).path, "--min-subgraph-size", "1", "--iterations", "3", "--backend", "rtx")
    data = answer(capsys, *words, "--shapes", "x:1x4,2x4,8x4")
    (split,) = data["splits"]
    assert [part["id"] for part in split["parts"]] == ["trt_0", "native_0", "trt_1"]
    assert [part["nodes"] for part in split["parts"]] == [
        ["node_of_a", "node_of_b"], ["node_of_middle"], ["node_of_c", "node_of_y"],
    ]  # fmt: skip
    assert [part["reused"] for part in split["parts"]] == [False, None, False]
    assert split["border_tensors"] == 2 and split["border_bytes"] == 64
    assert data["shapes"] == {"x": [2, 4]} and split["outputs"][0]["max_abs"] < 1e-6
    assert split["median_ms"] > 0 and split["alone_median_ms"] > 0
    stand_ins = [part["stand_in"] for part in split["parts"]]
    assert stand_ins == ([True, False, True] if data["note"] else [False] * 3)

    assert main([str(word) for word in (*words, "--shapes", "x:1x4,2x4,8x4")]) == 0
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines()]
    assert [row[:2] for row in rows if row and row[0] in ("trt_0", "native_0", "trt_1")] == [
        ["trt_0", "2"], ["native_0", "1"], ["trt_1", "2"],
    ]  # fmt: skip
    assert text.count("reused") == 2 and "3 runs at x 2x4" in text
    assert ("note: 2 TensorRT-RTX engines cannot run here" in text) == bool(data["note"])


def test_several_sizes_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("hybrid", FASHION_CNN, "--backend", "onnxruntime", "--disable-ops", "Relu,GlobalAveragePool")
    data = answer(capsys, *words, "--min-subgraph-size", "1,3,50", "--iterations", "2")
    assert [split["min_subgraph_size"] for split in data["splits"]] == [1, 3, 50]
    engines = [split["engines"] for split in data["splits"]]
    assert engines[0] > engines[1] > engines[2] == 0
    assert data["note"] == ""


@pytest.mark.rtx
def test_collected_shapes_go_into_the_engines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, file = found(tmp_path), tmp_path / "shapes.json"
    words = ("hybrid", model.path, "--disable-ops", "NonZero", "--min-subgraph-size", "2", "--iterations", "1")
    error = complaint(capsys, *words)
    assert "some trt inputs dynamic shape info not set: subgraph trt_0 reads t" in error
    assert "raise min_subgraph_size to 3" in error
    answer(capsys, "shapes", model.path, "--shapes", "x:5", "-o", file)
    (split,) = answer(capsys, *words, "--collected", file)["splits"]
    assert split["engines"] == 1
    assert "shapes are of another model" in complaint(capsys, "hybrid", FASHION_CNN, "--collected", file)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--disable-ops", "relu"], "did you mean Relu?"),
        (["--backend", "nowhere"], "there is no back end 'nowhere'"),
        (["--backend", "onnxruntime", "--precision", "fp16", "--convert-io"], "do not convert inputs and outputs"),
        (["--feeds", "nowhere.npz"], "nowhere.npz"),
        (["--collected", "nowhere.json"], "nowhere.json: cannot be read"),
    ],
)
def test_mistakes_are_told_in_a_sentence(capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    assert told in complaint(capsys, "hybrid", FASHION_CNN, *words)


@pytest.mark.parametrize("text", ["0", "a", "1,", "-3"])
def test_a_size_is_a_number_of_at_least_one(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit):
        main(["hybrid", str(FASHION_CNN), f"--min-subgraph-size={text}"])
    assert "is not a number of at least 1" in capsys.readouterr().err
