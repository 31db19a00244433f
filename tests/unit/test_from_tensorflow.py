"""Which files are a TensorFlow model, and what is said of the others. tests/exporters converts real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.errors import ConfigError, ExportError
from workbench.export.from_tensorflow import explain, export_tensorflow, kind_of
from workbench.types import LogLine, Progress


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content")


@pytest.mark.parametrize(
    ("file", "named", "kind", "loaded"),
    [
        ("net/saved_model.pb", "net", "saved_model", "net"),
        ("net/saved_model.pb", "net/saved_model.pb", "saved_model", "net"),
        ("net.keras", "net.keras", "keras", "net.keras"),
        ("net.h5", "net.h5", "keras", "net.h5"),
        ("frozen.pb", "frozen.pb", "frozen", "frozen.pb"),
    ],
)
def test_the_kind_is_told_from_the_files(tmp_path: Path, file: str, named: str, kind: str, loaded: str) -> None:
    write(tmp_path / file)
    assert kind_of(tmp_path / named) == (kind, tmp_path / loaded)


@pytest.mark.parametrize(
    ("file", "named", "message"),
    [
        ("net/variables.index", "net", r"no SavedModel, which is a folder with saved_model\.pb in it"),
        ("model.ckpt.data-00000-of-00001", "model.ckpt.data-00000-of-00001", "a checkpoint of a training"),
        ("net.tflite", "net.tflite", "a TensorFlow Lite model"),
        ("net.txt", "net.txt", r"not a TensorFlow model; name a SavedModel's folder"),
        ("net.txt", "absent.pb", "there is no such file or folder"),
    ],
)
def test_what_is_no_model_is_said_before_any_environment_is_asked_for(
    tmp_path: Path, file: str, named: str, message: str
) -> None:
    write(tmp_path / file)
    with pytest.raises(ExportError, match=message):
        export_tensorflow(tmp_path / named)


def test_uff_is_answered_with_what_replaced_it(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        export_tensorflow(tmp_path / "lenet.uff")
    text = str(caught.value)
    assert "TensorRT 8.6 was the last release" in text and "`workbench export model.pb`" in text


def test_names_that_do_not_apply_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "net.keras", tmp_path / "net" / "saved_model.pb")
    with pytest.raises(ConfigError, match="inputs are named for frozen graphs only"):
        export_tensorflow(tmp_path / "net", inputs=["image"])
    with pytest.raises(ConfigError, match="a Keras model has its own outputs"):
        export_tensorflow(tmp_path / "net.keras", outputs=["classes"])


def test_an_export_without_its_environment_asks(tmp_path: Path) -> None:
    write(tmp_path / "net.keras")
    heard: list[Progress | LogLine] = []
    with pytest.raises(ConfigError, match=r"needs the TensorFlow environment .*make_environment=True"):
        export_tensorflow(tmp_path / "net.keras", listener=heard.append)
    said = "net.keras: a graph of TensorFlow's can write files as it runs; open only what you trust."
    assert heard == [LogLine("warning", said)]


@pytest.mark.parametrize(
    ("log", "meaning"),
    [
        (
            "TypeError: Could not locate class 'MyLayer'. Make sure custom classes are decorated",
            "a layer of your own, MyLayer",
        ),
        ("ValueError: The `Lambda` layer ... pass `safe_mode=False` to the loading function", "a Lambda layer"),
        ("google.protobuf.message.DecodeError: Error parsing message", "the file is cut off"),
        ("OSError: Unable to synchronously open file (truncated file: eof = 9)", "the file is cut off"),
        ("ValueError: File not found: filepath=x.keras. Please ensure the file is an accessible", "cut off"),
        ("TypeError: <class 'GlorotUniform'> could not be deserialized properly.", "another release of Keras"),
        ("something else", ""),
    ],
)
def test_what_tensorflow_says_is_understood(log: str, meaning: str) -> None:
    said = explain(log)
    assert meaning in said and bool(said) == bool(meaning)
