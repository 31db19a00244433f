"""Exporter without a browser: its state, its controls, the code it shows, and how it tells what went wrong."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import shlex
from collections.abc import Iterator
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeVar

import ipywidgets as widgets
import numpy as np
import pytest
from helpers_building import PATIENCE_S, save, wait_until
from helpers_sources import NEEDS_TORCH, PADDLE_SCALAR, write_net
from models import FASHION_CNN
from onnx import helper
from PIL import Image
from test_render import EVIL, read

from workbench.accuracy import Difference
from workbench.cli import _parser
from workbench.errors import Cancelled, ExportError, FeedError
from workbench.export.environments import PADDLE_2, TENSORFLOW
from workbench.export.exported import Exported
from workbench.export.parity import Parity
from workbench.export.sources import parse_open_dims
from workbench.model import load_model
from workbench.types import LogLine, Progress
from workbench.widgets import render_export
from workbench.widgets.browser import CopyButton
from workbench.widgets.export_state import EXPORTING, FORM, ExportState
from workbench.widgets.exporter import ExportCard, Exporter
from workbench.widgets.parts import Choice, CodeFold, Fold
from workbench.widgets.pictures import Pictures
from workbench.widgets.work_state import CANCELLED, DONE, FAILED, IDLE

W = TypeVar("W", bound=widgets.Widget)
DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with net.py, a model of Paddle 2 and one of TensorFlow in it."""
    monkeypatch.chdir(tmp_path)
    write_net(tmp_path)
    (tmp_path / "old.pdmodel").write_bytes(b"program")
    (tmp_path / "old.pdiparams").write_bytes(PADDLE_SCALAR)
    (tmp_path / "frozen.pb").write_bytes(b"graph")
    return tmp_path


def finished(state: ExportState) -> ExportState:
    assert state.wait(PATIENCE_S), "it does not end"
    return state


def within(widget: Any) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from within(child)


def shown(widget: Any) -> Iterator[Any]:
    """What is not hidden."""
    if widget.layout is None or widget.layout.display != "none":
        yield widget
        for child in getattr(widget, "children", ()):
            yield from shown(child)


def find(widget: Any, kind: type[W], **traits: object) -> W:
    found = [item for item in within(widget) if isinstance(item, kind)]
    (one,) = [item for item in found if all(getattr(item, name) == value for name, value in traits.items())]
    return one


def source(widget: Exporter) -> widgets.Text:
    return next(item for item in within(widget) if isinstance(item, widgets.Text) and "net.py" in item.placeholder)


def button(widget: Exporter, name: str) -> widgets.Button:
    return find(widget, widgets.Button, description=name)


def words(widget: Any) -> str:
    """What a person reads."""
    return " ".join(read_safely(item.value) for item in shown(widget) if isinstance(item, widgets.HTML))


def read_safely(html: str) -> str:
    return read(re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)).text


def evil_export(path: Path) -> Exported:
    nodes = [helper.make_node("Relu", [EVIL], [f"out {EVIL}"], name=EVIL)]
    model = save(path, nodes, [f"n{EVIL}", 4], [f"n{EVIL}", 4], names=(EVIL, f"out {EVIL}"))
    parity = Parity({EVIL: (1, 4)}, (Difference(EVIL, 0.5, 1e-3, 1.0, None),))
    return Exported(model, f"PyTorch {EVIL}", EVIL, (parity,), (EVIL,), 2.0)


# ---- the state


def test_at_first_it_asks_for_a_model() -> None:
    state = ExportState()
    assert (state.problem(), state.code(), state.framework) == ("Name a model first.", {}, "")
    assert (state.status, state.busy, state.exported) == (IDLE, False, None)
    state.start()
    assert state.status == IDLE


@pytest.mark.parametrize(
    ("named", "framework"),
    [("net.py:make", "torch"), (" net.py:make ", "torch"), ("old.pdmodel", "paddle"), ("frozen.pb", "tensorflow")],
)
def test_the_source_tells_the_framework(named: str, framework: str) -> None:
    state = ExportState(named)
    assert state.framework == framework
    assert state.request().source == named.strip()


@pytest.mark.parametrize(
    ("trait", "value", "sentence"),
    [
        ("source", "nowhere", "there is no such file or folder"),
        ("source", "nowhere.pdmodel", "there is no such file or folder"),
        ("source", "net.onnx", "this is ONNX already"),
        ("source", "old.uff", "UFF is gone"),
        ("source", "~nobody-of-this-name/net.pt2", "not a path"),
        ("source", "x" * 300, "not a path"),
        ("source", EVIL, "there is no such file or folder"),
        ("opset", "", "opset '' is not a number"),
        ("opset", "seventeen", "opset 'seventeen' is not a number"),
        ("opset", "-1", "opset '-1' is not a number"),
        ("opset", "²", "opset '²' is not a number"),
        ("open_dims", "input", "write INPUT:AXIS=NAME"),
        ("open_dims", "input:0=batch and more", "open dimension 'and'"),
        ("open_dims", "x:²=n", "write INPUT:AXIS=NAME"),
    ],
)
def test_a_mistake_is_a_sentence_stops_the_export_and_leaves_no_code(trait: str, value: str, sentence: str) -> None:
    state = ExportState("net.py:make")
    assert state.problem() == "" and state.code()
    setattr(state, trait, value)
    assert sentence in state.problem()
    assert state.code() == {} and state.environment() is None
    state.start()
    assert (state.status, state.job) == (IDLE, None)


def test_a_missing_environment_needs_a_yes_which_another_source_takes_back() -> None:
    state = ExportState("old.pdmodel")
    assert state.environment() is PADDLE_2
    assert state.problem() == "Say yes to the environment first."
    state.start()
    assert state.status == IDLE
    state.yes = True
    assert state.problem() == ""
    state.source = "frozen.pb"
    assert (state.environment(), state.yes) == (TENSORFLOW, False)
    assert state.problem() == "Say yes to the environment first."
    state.source = "net.py:make"
    assert (state.environment(), state.problem()) == (None, "")


# ---- the export


@NEEDS_TORCH
def test_an_export_goes_well_and_its_code_writes_the_same_file(home: Path) -> None:
    widget = Exporter("net.py:fixed")
    state = widget.state
    state.open_dims, state.exporter, state.opset = "input:0=rows", "classic", "18"
    button(widget, "Export").click()
    assert state.busy and state.status == EXPORTING
    job = state.job
    state.start()
    assert state.job is job, "one at a time"
    assert button(widget, "Cancel").disabled is False and source(widget).disabled
    assert finished(state).status == DONE and state.error is None

    exported = widget.exported
    assert exported is not None and exported.model.path == home / "exports" / "net_fixed.onnx"
    assert [str(spec) for spec in exported.model.inputs] == ["input: float32[rows, 4]"]
    assert (exported.model.opset, exported.converter) == (18, "torch.onnx (classic)")
    assert "net_fixed.onnx · from PyTorch" in words(widget) and "input 4×4" in words(widget)
    copy = find(widget, CopyButton, label="Copy the path")
    assert copy.text == str(exported.model.path) and copy in list(shown(widget))
    assert [phase.name for phase in state.phases][:2] == ["Starting PyTorch", "Exporting with torch.onnx (classic)"]
    assert button(widget, "Cancel").disabled and not source(widget).disabled

    before = exported.model.path
    first = load_model(before)
    before.unlink()
    namespace: dict[str, Any] = {}
    exec(state.code()["Python"], namespace)
    again = namespace["exported"].model
    assert again.path == before
    assert (again.inputs, again.outputs, again.opset) == (first.inputs, first.outputs, first.opset)


@NEEDS_TORCH
def test_the_python_code_keeps_open_what_the_function_leaves_open(home: Path) -> None:
    namespace: dict[str, Any] = {}
    exec(ExportState("net.py:make").code()["Python"], namespace)
    model = namespace["exported"].model
    assert [str(spec) for spec in model.inputs] == ["input: float32[batch, 4]"]
    assert model.path == home / "exports" / "net_make.onnx"


@NEEDS_TORCH
def test_an_export_that_fails_is_told_and_another_one_forgets_it() -> None:
    widget = Exporter("net.py:raises")
    state = widget.state
    state.start()
    assert finished(state).status == FAILED
    assert isinstance(state.error, ExportError) and widget.exported is None
    assert "no such weights" in words(widget)
    copy = find(widget, CopyButton, label="Copy the path")
    assert copy not in list(shown(widget))
    state.source = "net.py:waits"
    state.start()
    assert state.busy and state.error is None and "no such weights" not in words(widget)
    wait_until(Path("waiting").exists, "the user's code runs")
    state.cancel()
    assert finished(state).status == CANCELLED and isinstance(state.error, Cancelled)
    assert "Nothing was left behind." in words(widget)
    assert button(widget, "Export").disabled is False


# ---- the code


@pytest.mark.parametrize(
    ("traits", "expected"),
    [
        ({"source": "net.py:make"}, ["export", "net.py:make"]),
        ({"source": "it's mine/net.py:make", "opset": " 020 "}, ["export", "it's mine/net.py:make", "--opset", "20"]),
        (
            {"source": "net.py:make", "open_dims": "x:0=a  y:1=b", "exporter": "classic"},
            ["export", "net.py:make", "--open=x:0=a", "--open=y:1=b", "--exporter", "classic"],
        ),
        ({"source": "old.pdmodel", "open_dims": "x:0=a", "exporter": "classic"}, ["export", "old.pdmodel", "--yes"]),
        ({"source": "frozen.pb", "opset": "15"}, ["export", "frozen.pb", "--opset", "15", "--yes"]),
    ],
)
def test_the_shell_line_says_what_the_form_says_and_the_command_line_takes_it(
    traits: dict[str, str], expected: list[str]
) -> None:
    state = ExportState()
    for name, value in traits.items():
        setattr(state, name, value)
    program, *line = shlex.split(state.code()["Command line"])
    assert (program, line) == ("workbench", expected)
    options, request = _parser().parse_args(line), state.request()
    assert (options.source, options.opset) == (request.source, request.opset)
    assert options.yes is (state.framework != "torch")
    if state.framework == "torch":
        assert (options.exporter, parse_open_dims(options.open)) == (request.exporter, request.open_dims)


@pytest.mark.parametrize(
    ("named", "line"),
    [
        ("old.pdmodel", "exported = export.paddle('old.pdmodel', make_environment=True, opset=15)"),
        ("frozen.pb", "exported = export.tensorflow('frozen.pb', make_environment=True, opset=15)"),
    ],
)
def test_the_python_code_of_other_frameworks_can_be_compiled(named: str, line: str) -> None:
    state = ExportState(named)
    state.opset = "015"
    code = state.code()["Python"]
    compile(code, "code", "exec")
    assert code.splitlines() == ["from workbench import export", "", line]


def test_a_source_with_quotes_stays_one_string_in_the_code(folder: Path) -> None:
    named = """it's "so".py:make"""
    state = ExportState(named)
    assert f"export.load_torch({named!r})" in state.code()["Python"]
    compile(state.code()["Python"], "code", "exec")


def test_the_code_that_is_shown_follows_the_form() -> None:
    state = ExportState("net.py:make")
    code = CodeFold(state, ("Python", "Command line"), FORM)
    assert code.copy.text == state.code()["Python"] and escape(code.copy.text) in code.text.value
    code.kind.choose("Command line")
    assert code.copy.text == "workbench export net.py:make"
    state.exporter = "classic"
    assert code.copy.text == "workbench export net.py:make --exporter classic"
    state.opset = "none"
    assert code.copy.text == "" and "Complete the form first" in code.text.value


# ---- the controls


def test_controls_and_state_say_the_same_whoever_changes_which() -> None:
    widget = Exporter()
    state = widget.state
    opset = next(item for item in within(widget) if isinstance(item, widgets.Text) and item.value == "17")
    dims = next(item for item in within(widget) if isinstance(item, widgets.Text) and "batch" in item.placeholder)
    choice = next(item for item in within(widget) if isinstance(item, Choice) and item.value == "dynamo")
    source(widget).value, opset.value, dims.value, choice.value = "net.py:make", "15", "x:0=n", "classic"
    assert (state.source, state.opset, state.open_dims, state.exporter) == ("net.py:make", "15", "x:0=n", "classic")
    state.source, state.opset, state.open_dims, state.exporter = "net.py:fixed", "16", "x:1=m", "dynamo"
    said = (source(widget).value, opset.value, dims.value, choice.value)
    assert said == ("net.py:fixed", "16", "x:1=m", "dynamo")


def test_what_only_pytorch_asks_for_is_hidden_for_others() -> None:
    widget = Exporter()

    def rows() -> bool:
        return "equal names mean equal sizes" in words(widget)

    assert not rows() and "PyTorch: FILE.py:NAME" in words(widget)
    widget.state.source = "net.py:make"
    assert rows() and "a model of PyTorch" in words(widget)
    widget.state.source = "frozen.pb"
    assert not rows() and "a model of TensorFlow" in words(widget)


def test_export_can_be_clicked_when_nothing_is_missing() -> None:
    widget = Exporter()
    export, cancel = button(widget, "Export"), button(widget, "Cancel")
    assert export.disabled and cancel.disabled
    assert "Name a model first" not in words(widget), "nobody has made a mistake yet"
    source(widget).value = "net.py:make"
    assert not export.disabled and cancel.disabled
    source(widget).value = "nowhere"
    assert export.disabled and "nowhere: there is no such file" in words(widget)


def test_a_missing_environment_is_told_with_its_size_and_waits_for_a_yes(home: Path) -> None:
    widget = Exporter("old.pdmodel")
    yes = find(widget, widgets.Checkbox)
    assert yes in list(shown(widget)) and not yes.value
    assert "159 MB to download, 593 MB on disk" in words(widget)
    assert "paddle2onnx==1.3.1" in words(widget) and str(home / "environments" / "paddle-2") in words(widget)
    assert button(widget, "Export").disabled
    yes.value = True
    assert widget.state.yes and not button(widget, "Export").disabled
    source(widget).value = "net.py:make"
    assert yes not in list(shown(widget)) and not yes.value
    assert not (home / "environments" / "paddle-2").exists()


def test_the_log_is_text_and_can_be_searched() -> None:
    widget = Exporter("net.py:make")
    for text in (f"one {EVIL}", "two"):
        widget.state._listen(LogLine("info", text))
    widget.state._listen(Progress(f"Phase {EVIL}", 0, None))
    widget.state.changed += 1
    log = next(item for item in within(widget) if isinstance(item, Fold) and item.title == "Log")
    log.is_open = True
    assert f"one {EVIL}" in words(widget) and "two" in words(widget)
    next(item for item in within(log) if isinstance(item, widgets.Text)).value = "two"
    assert f"one {EVIL}" not in words(widget)


# ---- nothing hostile gets through


def test_names_in_an_export_are_text_and_never_markup(tmp_path: Path) -> None:
    exported = evil_export(tmp_path / "<b>evil<b>.onnx")
    text = read_safely(render_export.export_card(exported))
    assert text.count(EVIL) >= 6 and "<b>evil<b>.onnx" in text
    widget = Exporter(EVIL)
    widget.state.exported = exported
    widget.state.error = ExportError(EVIL)
    assert words(widget).count(EVIL) >= 8
    assert "Copy the path" in [item.label for item in shown(widget) if isinstance(item, CopyButton)]


def test_a_folder_with_a_hostile_name_is_text_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "<b>&home"))
    assert "<b>&home" in read_safely(render_export.environment_note(PADDLE_2))


def test_an_output_without_classes_and_an_infinite_difference_are_shown(tmp_path: Path) -> None:
    model = load_model(FASHION_CNN)
    lost = (Difference("y", np.inf, np.inf, np.nan, None),)
    parity = (Parity({"x": (2, 3), "s": ()}, lost), Parity({"x": (1, 3)}, (Difference("y", 0.25, 2e-6, 1, 0.5),)))
    text = read_safely(render_export.export_card(Exported(model, "Paddle 2.6.2", "paddle2onnx", parity, (), 1234.5)))
    assert "x 2×3, s scalar" in text and "inf" in text
    assert "2.0e-06" in text and "50.0%" in text and "ONNX Runtime against Paddle at" in text
    assert "1,234.5 s" in text


# ---- cards and pictures


def test_a_card_is_its_export_in_html_and_in_text(tmp_path: Path) -> None:
    exported = evil_export(tmp_path / "net.onnx")
    card = ExportCard(exported)
    assert repr(card) == str(exported)
    assert render_export.export_card(exported) in card.value and "wb" in card._dom_classes
    assert "data-parity='1'" in card.value


def test_a_card_says_agrees_only_where_that_was_judged(tmp_path: Path) -> None:
    judged = evil_export(tmp_path / "net.onnx")
    share = (Parity({"x": (1, 4)}, (Difference("y", 0.5, 0.2, 0.97, 0.988),)),)
    stated = dataclasses.replace(judged, most_relative=None)
    counted = dataclasses.replace(stated, parity=share)
    cards = [render_export.export_card(item) for item in (judged, stated, counted)]
    verdicts = [re.findall("<em>(.*?)</em>", card)[-1] for card in cards]
    assert verdicts == ["agrees", "compared, not judged", "98.8 % agree"]


def test_pictures_are_small_inside_the_page_and_have_their_captions() -> None:
    paths = [DATA / "pictures" / "chelsea.jpg", str(DATA / "pictures" / "coffee.jpg")]
    shown_ = Pictures(paths, ["a cat", EVIL])
    assert repr(shown_) == f"chelsea.jpg: a cat\ncoffee.jpg: {EVIL}"
    assert f"<figcaption>{escape(EVIL)}</figcaption>" in shown_.value
    assert "<script" not in shown_.value and "onerror=alert(1)>" not in shown_.value
    found = re.findall(r"<img alt='(\w+)' src='data:image/jpeg;base64,([^']+)'>", shown_.value)
    assert [name for name, _ in found] == ["chelsea", "coffee"]
    for _, data in found:
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert (picture.format, picture.height) == ("JPEG", 120)
    assert len(shown_.value) < 60_000


def test_a_hostile_file_name_stays_inside_its_attribute(tmp_path: Path) -> None:
    name = "x' onerror='alert(1)' a='\"><b>.png"
    Image.new("RGBA", (400, 10), (255, 0, 0, 128)).save(tmp_path / name)
    value = Pictures([tmp_path / name], ["wide"]).value
    reader = _Attributes()
    reader.feed(value)
    assert reader.of_images == [{"alt": name.removesuffix(".png"), "src": reader.of_images[0]["src"]}]
    with Image.open(io.BytesIO(base64.b64decode(str(reader.of_images[0]["src"]).partition(",")[2]))) as picture:
        assert picture.size == (400, 10), "a small one stays as it is"


class _Attributes(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.of_images: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.of_images.append(dict(attrs))


def test_pictures_need_files_and_a_caption_each(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match=r"nowhere.jpg: cannot be shown as a picture \(No such file"):
        Pictures([tmp_path / "nowhere.jpg"], ["nothing"])
    with pytest.raises(FeedError, match="1 pictures and 0 captions"):
        Pictures([DATA / "pictures" / "chelsea.jpg"], [])
