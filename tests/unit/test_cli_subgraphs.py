"""`workbench subgraphs`: one JSON value for programs, tables and sentences for people."""

import json
from pathlib import Path
from typing import Any

import pytest
from models import FASHION_CNN, FOREIGN, save

from workbench.cli import main

NET = str(FASHION_CNN)


@pytest.fixture
def odd(tmp_path: Path) -> str:
    """An operator that TensorRT lacks between two that it has."""
    graph = "(float[n,4] x) => (float[n,4] y) { [first] t = Relu(x) [odd] u = Bernoulli(t) [last] y = Neg(u) }"
    return str(save(tmp_path / "odd.onnx", graph))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["subgraphs", *arguments])
    return status, *capsys.readouterr()


def data_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    status, out, err = run(capsys, *arguments, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


@pytest.mark.rtx
def test_json_lists_the_parts_with_their_borders(odd: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_of(capsys, odd, "--min-subgraph-size", "1", "--shapes", "x:2x4")
    assert [(part["id"], part["backend"], part["nodes"]) for part in data["subgraphs"]] == [
        ("trt_0", "rtx", ["first"]),
        ("native_0", "native", ["odd"]),
        ("trt_1", "rtx", ["last"]),
    ]
    assert data["subgraphs"][0]["outputs"] == [{"name": "t", "dtype": "float32", "shape": [2, 4], "bytes": 32}]
    assert [part["border_bytes"] for part in data["subgraphs"]] == [64, 64, 64]
    assert data["refusals"] == [{"node": "odd", "op_type": "Bernoulli", "reason": "TensorRT has no such operator"}]
    assert data["sizes"] == [
        {"min_subgraph_size": 1, "engines": 2, "border_tensors": 2, "border_bytes": 64},
        {"min_subgraph_size": 2, "engines": 0, "border_tensors": 0, "border_bytes": 0},
    ]
    assert (data["min_subgraph_size"], data["border_tensors"], data["border_bytes"]) == (1, 2, 64)


@pytest.mark.rtx
def test_text_tells_parts_refusals_and_sizes(odd: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, odd, "--min-subgraph-size", "1")
    assert status == 0
    assert "odd.onnx: 2 of 3 operators in 2 TensorRT-RTX engines, 1 native part (min_subgraph_size 1)" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["trt_0", "rtx", "1", "Relu", "x", "t", "?"] in lines
    assert ["native_0", "ONNX", "Runtime", "1", "Bernoulli", "t", "u", "?"] in lines
    assert "  Bernoulli odd: TensorRT has no such operator" in out
    assert ["1", "2", "2", "?"] in lines
    assert ["2", "or", "more", "0", "0", "0"] in lines
    assert "at sizes such as --shapes x:1x4 the bytes are counted" in out
    assert "In Paddle-TRT: config.enable_tensorrt_engine(min_subgraph_size=1, ...)" in out


def test_operators_can_be_left_native(capsys: pytest.CaptureFixture[str]) -> None:
    wish = ["--disable-ops", "Conv,Relu", "--disable-ops", "/classifier/Gemm", "--min-subgraph-size", "1"]
    status, out, _ = run(capsys, NET, "--backend", "onnxruntime", *wish)
    assert status == 0
    assert "15 operators refused:" in out
    assert "Conv /stem/conv/Conv and 6 more: left native, as you wish (disable_ops)" in out
    assert "config.exp_disable_tensorrt_ops(['Conv', 'Relu', '/classifier/Gemm'])" in out


def test_a_dimension_can_be_fixed_first(capsys: pytest.CaptureFixture[str]) -> None:
    data = data_of(capsys, NET, "--backend", "onnxruntime", "--dim", "batch=2")
    assert data["subgraphs"][0]["border_bytes"] == 4 * 2 * (28 * 28 + 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--disable-ops", "Conf"], "no operator and no node 'Conf' to disable; did you mean Conv?"),
        (["--release", "9"], "no list of operators is known for release '9'; choose one of 8.6, 10.15."),
        (["--shapes", "image:1x1x28"], "has 4 dimensions, not 3"),
        (["--backend", "cuda"], "there is no back end 'cuda'; choose one of"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, NET, "--backend", "onnxruntime", *arguments)
    assert (status, out) == (2, "")
    assert message in err


@pytest.mark.rtx
def test_a_native_model_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, str(save(tmp_path / "m.onnx", FOREIGN)))
    assert status == 0
    assert "m.onnx: 0 of 2 operators in 0 TensorRT-RTX engines, 1 native part" in out
