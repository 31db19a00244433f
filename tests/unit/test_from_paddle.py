"""Exports by a converter in another process: which files are a model, and what becomes of converters that fail.

The converter here is a small one of the tests, in this Python; tests/exporters has Paddle's and TensorFlow's own.
"""

from __future__ import annotations

import json
import struct
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_building import PATIENCE_S
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import parse

from workbench.errors import Cancelled, ConfigError, ExportError, ShapeError
from workbench.export import shapes
from workbench.export.calling import Order, Trials, export_from
from workbench.export.converters import child
from workbench.export.environments import PADDLE_2, PADDLE_3, Made
from workbench.export.exported import Exported
from workbench.export.from_paddle import explain, export_paddle, find_paddle_model
from workbench.export.paddle_weights import check_whole
from workbench.types import Feeds, Listener, LogLine, Progress, Shape, TensorSpec, ignore

# ---- files


def program_3(path: Path) -> Path:
    path.write_text(json.dumps({"base_code": {"magic": "pir", "version": 4}, "program": {"regions": []}}))
    return path


def tensor(values: np.ndarray) -> bytes:
    """As Paddle writes a float32 tensor: versions and levels of detail, a TensorDesc, the values."""
    dims = b"".join(bytes([0x10, size]) for size in values.shape)
    return struct.pack("<IQIi", 0, 0, 0, 2 + len(dims)) + b"\x08\x05" + dims + values.astype("<f4").tobytes()


WEIGHTS = tensor(np.zeros((3, 5))) + tensor(np.ones(7)) + tensor(np.zeros(()))


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(WEIGHTS if "params" in path.name else b"content")


@pytest.mark.parametrize(
    ("program", "weights"),
    [("inference.pdmodel", "inference.pdiparams"), ("__model__", "__params__"), ("model", "params")],
)
@pytest.mark.parametrize("by_folder", [True, False])
def test_a_model_of_paddle_2_is_found(tmp_path: Path, program: str, weights: str, by_folder: bool) -> None:
    write(tmp_path / program, tmp_path / weights, tmp_path / "inference.pdiparams.info")
    found = find_paddle_model(tmp_path if by_folder else tmp_path / program)
    assert (found.program.name, found.weights.name, found.environment) == (program, weights, PADDLE_2)


@pytest.mark.parametrize("named", ["", "net.json", "net.pdiparams"])
def test_a_model_of_paddle_3_is_found(tmp_path: Path, named: str) -> None:
    program_3(tmp_path / "net.json")
    write(tmp_path / "net.pdiparams")
    (tmp_path / "config.json").write_text("{}")  # another one's JSON has no weights beside it
    found = find_paddle_model(tmp_path / named)
    assert (found.program.name, found.weights.name, found.environment) == ("net.json", "net.pdiparams", PADDLE_3)


@pytest.mark.parametrize(
    ("files", "named", "message"),
    [
        (["a.pdmodel"], "a.pdmodel", r"a\.pdiparams: the model's weights: the file is missing; copy it again"),
        (["a.pdparams"], "a.pdparams", r"a checkpoint of a training .* no network; save it with paddle\.jit\.save"),
        (["a.pdparams", "a.pdopt"], "", r"holds a checkpoint of a training"),
        (["a.pdmodel", "a.pdiparams", "b.pdmodel", "b.pdiparams"], "", r"several models \(a\.pdmodel, b\.pdmodel\)"),
        (["a.pdmodel", "a.json", "a.pdiparams"], "a.pdiparams", r"several models \(a\.pdmodel, a\.json\)"),
        (["__model__", "conv1.w_0"], "__model__", r"__params__: .*weights in a file each are not taken"),
        (["a.json", "a.pdiparams"], "a.json", r"a\.json: cut off, or not a Paddle 3 program \(7 bytes\)"),
        (["a.txt"], "a.txt", r"a\.txt: not a Paddle model; name its \.pdmodel"),
        (["a.txt"], "", r"holds no Paddle model"),
        ([], "absent.pdmodel", r"absent\.pdmodel: there is no such file"),
    ],
)
def test_what_is_no_model_is_said_before_any_environment_is_asked_for(
    tmp_path: Path, files: list[str], named: str, message: str
) -> None:
    write(*(tmp_path / name for name in files))
    with pytest.raises(ExportError, match=message):
        export_paddle(tmp_path / named)


def test_empty_weights_are_noticed(tmp_path: Path) -> None:
    write(tmp_path / "a.pdmodel")
    (tmp_path / "a.pdiparams").touch()
    with pytest.raises(ExportError, match="the file is empty"):
        export_paddle(tmp_path)


def test_whole_weights_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.pdiparams")
    assert check_whole(tmp_path / "a.pdiparams") == 3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(cut=st.integers(1, len(WEIGHTS) - 1))
def test_weights_cut_off_anywhere_are_refused_unless_whole_tensors_remain(tmp_path: Path, cut: int) -> None:
    """Paddle 3 and its converter fill what is missing with anything, and agree on it."""
    path = tmp_path / "a.pdiparams"
    path.write_bytes(WEIGHTS[:cut])
    if cut in (len(tensor(np.zeros((3, 5)))), len(WEIGHTS) - len(tensor(np.zeros(())))):
        assert check_whole(path) in (1, 2)
    else:
        with pytest.raises(ExportError, match="cut off in tensor"):
            check_whole(path)


@given(data=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_what_follows_the_weights_is_noticed(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.pdiparams"
    path.write_bytes(WEIGHTS + b"x" + data)
    with pytest.raises(ExportError, match="cut off in tensor 4"):
        check_whole(path)


def test_weights_that_are_cut_off_are_told_before_any_environment_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "a.pdmodel")
    (tmp_path / "a.pdiparams").write_bytes(WEIGHTS[:-1])
    with pytest.raises(ExportError, match=r"a\.pdiparams: the weights are cut off in tensor 3"):
        export_paddle(tmp_path / "a.pdmodel")


def test_an_export_without_its_environment_asks(tmp_path: Path) -> None:
    write(tmp_path / "a.pdmodel", tmp_path / "a.pdiparams")
    with pytest.raises(ConfigError, match=r"needs the Paddle 2 environment .*make_environment=True"):
        export_paddle(tmp_path, output=tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    ("log", "meaning"),
    [
        (
            "[Paddle2ONNX] Oops, there are some operators not supported yet, including lgamma,svd,\n"
            "[ERROR] Due to the unsupported operators, the conversion is aborted.",
            "no ONNX form for lgamma,svd: express",
        ),
        (
            "unknown operators: lgamma, svd\n[Paddle2ONNX] \n"
            "[ERROR][Paddle2ONNX] Due to the unsupported operators, the conversion is aborted.",
            "no ONNX form for lgamma, svd: express",
        ),
        (
            "[Paddle2ONNX] Oops, there are some operators not supported yet, including fake_quantize_abs_max,\n"
            "[ERROR] Due to the unsupported operators, the conversion is aborted.",
            "save the quantized model with onnx_format=True",
        ),
        (
            "[ERROR][Paddle2ONNX] Due to the unsupported operators, the conversion is aborted.",
            "some operators, which it does not name",
        ),
        (
            "unknown operators: odd\n"
            "[ERROR][Paddle2ONNX] [OP: pd_op.softplus] Only support softplus with beta == 1.0 and threshold == 20.0.",
            "operator pd_op.softplus: Only support softplus with beta == 1.0 and threshold == 20.0; change it",
        ),
        ("[ERROR][Paddle2ONNX] Can not get input 'axis(dim)' value.", "Can not get input 'axis(dim)' value; try"),
        ("[Paddle2ONNX] The Opset Version must be between 7 and 21.", "does not write this opset"),
        ("[Paddle2ONNX] Failed to parse paddlepaddle model from read content.", "cut off, or do not belong together"),
        ("IndexError: Input conv2d_3.w_0 is undefined!", "cut off, or do not belong together"),
        ("all is well", ""),
    ],
)
def test_the_converters_log_is_understood(log: str, meaning: str) -> None:
    said = explain(log)
    assert meaning in said and bool(said) == bool(meaning)


# ---- a converter

ADAPTER = """
import os, sys, time
import numpy as np
import onnx

def releases():
    return "Framework 1.0", "converter 2.0"

def convert(source, output, opset, tell):
    {convert}

def predictor(source, tell):
    def predict(feeds):
        x = feeds["x"]
        {predict}
    return predict
"""
WRITE = "open(output, 'wb').write(open(source['file'], 'rb').read())"
NET = "(float[unk_1, 3, unk_2, unk_3] x) => (float[a, 3, b, c] y) { [relu] y = Relu(x) }"
FAILING = [
    ("os.abort()", r"the process crashed \(SIGABRT\) inside native code"),
    ("print('out of luck', file=sys.stderr); os._exit(0)", r"ended early \(exit status 0\)\..*out of luck"),
    ("raise ValueError('first line\\nthe reason')", r"the conversion failed: first line the reason"),
    ("import absent_module", r"No module named 'absent_module'. The Paddle 2 environment in .* seems damaged"),
    ("pass", r"converter 2\.0 wrote no ONNX model"),
    ("open(output, 'wb').write(b'no model')", r"converter 2\.0 wrote no ONNX model"),
    (
        "import signal; os.kill(os.getpid(), signal.SIGKILL)",
        r"killed by the system, most likely because memory",
    ),
]


def export(
    tmp_path: Path,
    *,
    net: str = NET,
    convert: str = WRITE,
    predict: str = "return {'y': np.maximum(x, 0)}",
    shapes: list[dict[str, Shape]] | None = None,
    feeds: list[Feeds] | None = None,
    opset: int = 17,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Exported:
    """An export whose converter copies `net`, and whose framework computes `predict`."""
    adapter, model = tmp_path / "adapter.py", tmp_path / "net.onnx"
    adapter.write_text(ADAPTER.format(convert=convert, predict=textwrap.indent(predict, " " * 8).strip()))
    model.write_bytes(parse(net).SerializeToString())
    order = Order(tmp_path / "source.file", adapter, {"file": str(model)}, lambda log: "")
    here = Made(PADDLE_2, Path(sys.prefix), (3, 11), 0)
    trials = Trials(shapes, feeds)
    return export_from(order, here, tmp_path / "out" / "out.onnx", opset, trials, listener, cancel or threading.Event())


def left(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "out").iterdir()]


def test_an_export_is_checked_compared_and_described(tmp_path: Path) -> None:
    events: list[Progress | LogLine] = []
    done = export(tmp_path, listener=events.append)
    assert (done.framework, done.converter) == ("Framework 1.0", "converter 2.0")
    assert done.model.path == tmp_path / "out" / "out.onnx"
    assert [dict(parity.shapes) for parity in done.parity] == [{"x": (1, 3, 128, 160)}, {"x": (2, 3, 160, 96)}]
    assert all(parity.relative == 0 for parity in done.parity)
    assert done.notes == ("input x is open in batch, height, width and fixed in dimension 1 (3).",)
    assert left(tmp_path) == ["out.onnx"]
    begun = [event.phase for event in events if isinstance(event, Progress) and event.done == 0]
    assert begun == [
        "Starting Paddle 2",
        "Loading Paddle 2",
        "Converting with converter 2.0",
        "Starting Paddle 2",
        "Loading Paddle 2",
        "Asking Paddle 2 for its own answers",
        "Comparing the export with its framework",
    ]


def test_open_dimensions_are_called_what_they_are_and_outputs_after_the_inputs_they_follow(tmp_path: Path) -> None:
    done = export(tmp_path)
    assert done.model.inputs[0].shape == ("batch", 3, "height", "width")
    assert done.model.outputs[0].shape == ("batch", 3, "height", "width")


def test_an_output_that_follows_no_input_gets_names_of_its_own(tmp_path: Path) -> None:
    net = "(float[n, 3, h, w] x) => (float[n, k, l, m] y) { [pool] y = AveragePool <kernel_shape = [2, 2]> (x) }"
    predict = "return {'y': (x[..., :-1, :-1] + x[..., 1:, :-1] + x[..., :-1, 1:] + x[..., 1:, 1:]) / 4}"
    assert export(tmp_path, net=net, predict=predict).model.outputs[0].shape == ("batch", "y_1", "y_2", "y_3")


def test_outputs_of_other_names_are_matched_by_their_order(tmp_path: Path) -> None:
    done = export(tmp_path, predict="return {'fetch_0': np.maximum(x, 0)}")
    assert [difference.output for difference in done.parity[0].differences] == ["y"]


@pytest.mark.parametrize(("convert", "message"), FAILING)
def test_a_converter_that_fails_is_one_sentence_and_leaves_nothing(tmp_path: Path, convert: str, message: str) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        export(tmp_path, convert=convert)
    assert str(tmp_path / "source.file") in str(caught.value) and "\n" not in str(caught.value)
    assert left(tmp_path) == []


def test_an_invalid_model_is_refused_though_the_converter_said_that_all_went_well(tmp_path: Path) -> None:
    spoil = f"{WRITE}; m = onnx.load(output); m.graph.node[0].input[0] = 'nowhere'; onnx.save(m, output)"
    with pytest.raises(ExportError, match=r"wrote an invalid ONNX model: .*nowhere"):
        export(tmp_path, convert=spoil)
    assert left(tmp_path) == []


def test_an_operator_that_is_not_onnx_is_named(tmp_path: Path) -> None:
    spoil = f"{WRITE}; m = onnx.load(output); m.graph.node[0].op_type = 'Svd'; onnx.save(m, output)"
    with pytest.raises(ExportError, match=r"converter 2\.0 has no ONNX form for Svd \(node relu\): express it"):
        export(tmp_path, convert=spoil)
    assert left(tmp_path) == []


def test_an_export_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"output y differs from the framework's by 1\.0e-03"):
        export(tmp_path, predict="return {'y': np.maximum(x, 0) * 1.001}")
    assert left(tmp_path) == []


def test_a_framework_that_does_not_run_on_the_shapes_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"Paddle 2 itself does not answer on .*: too wide\. Give shapes="):
        export(tmp_path, predict="raise ValueError('too wide')")
    assert left(tmp_path) == []


def test_a_lost_output_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"the ONNX model has the outputs y, the framework answers with a, b"):
        export(tmp_path, predict="return {'a': x, 'b': x}")


def test_the_users_shapes_are_tried_and_another_where_they_are_one(tmp_path: Path) -> None:
    done = export(tmp_path, shapes=[{"x": (5, 3, 7, 9)}, {"x": (4, 3, 8, 8)}])
    assert [dict(parity.shapes) for parity in done.parity] == [{"x": (5, 3, 7, 9)}, {"x": (4, 3, 8, 8)}]
    done = export(tmp_path, shapes=[{"x": (5, 3, 7, 9)}])
    assert [dict(parity.shapes) for parity in done.parity] == [{"x": (5, 3, 7, 9)}, {"x": (2, 3, 160, 96)}]
    done = export(tmp_path, shapes=[{"x": (5, 3, 7, 9)}, {"x": (5, 3, 8, 9)}])
    assert done.parity[2].shapes == {"x": (2, 3, 7, 96)}
    with pytest.raises(ShapeError, match="no set of shapes is given"):
        export(tmp_path, shapes=[])


FROZEN = """(float[n, 3, h, w] x) => (float[n, 3, h, w] y) {
    four = Constant <value = float {4.0}> () sum = ReduceSum <keepdims = 1> (x) mean = Div(sum, four)
    size = Shape(x) y = Expand(mean, size) }"""
MEAN = "return {'y': np.broadcast_to(x.sum(keepdims=True) / x.shape[0], x.shape).copy()}"


@pytest.mark.parametrize("rows", [1, 4])
def test_one_size_of_the_users_does_not_prove_a_dimension_open(rows: int, tmp_path: Path) -> None:
    """The graph divides by four, which is right for four rows."""
    x = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)
    given: dict[str, Any] = {"shapes": [{"x": x.shape}]} if rows == 4 else {"feeds": [{"x": x}, {"x": x + 1}]}
    with pytest.raises(ExportError, match=r"output y differs from the framework's by .* on x 2x3x160x96"):
        export(tmp_path, net=FROZEN, predict=MEAN, **given)
    assert left(tmp_path) == []


def test_a_dimension_at_which_the_framework_runs_at_one_size_only_is_not_called_open(tmp_path: Path) -> None:
    predict = "assert x.shape[2:] == (8, 8), 'eight by eight'\nreturn {'y': np.maximum(x, 0)}"
    done = export(tmp_path, shapes=[{"x": (1, 3, 8, 8)}, {"x": (2, 3, 8, 8)}], predict=predict)
    assert done.model.inputs[0].shape == ("batch", 3, 8, 8)
    (note,) = (note for note in done.notes if note.startswith("height is fixed"))
    assert note == (
        "height is fixed at the one size it was tried at: Paddle 2 itself does not run on x 1x3x160x96 "
        "(eight by eight); give shapes=[..., ...] with two sizes that it takes, and it stays open."
    )
    assert any(note.startswith("width is fixed") for note in done.notes)


def test_an_output_size_that_the_converter_froze_is_open_where_it_varies(tmp_path: Path) -> None:
    done = export(tmp_path, net=NET.replace("float[a, 3, b, c] y", "float[1, 3, 128, 160] y"))
    assert done.model.outputs[0].shape == ("batch", 3, "height", "width")


@pytest.mark.parametrize("wrong", [{"x": (5, 4, 7, 9)}, {"x": (5, 3, 7)}, {"y": (1,)}, {"x": (0, 3, 7, 9)}])
def test_shapes_that_do_not_fit_are_refused(tmp_path: Path, wrong: dict[str, Shape]) -> None:
    with pytest.raises(ShapeError):
        export(tmp_path, shapes=[wrong])
    assert left(tmp_path) == []


def test_the_users_own_inputs_are_compared_on_whole_and_by_halves(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((6, 3, 8, 8), np.float32)
    done = export(tmp_path, feeds=[{"x": x}], predict="assert x.min() < -1\nreturn {'y': np.maximum(x, 0)}")
    assert [dict(parity.shapes) for parity in done.parity] == [{"x": (6, 3, 8, 8)}, {"x": (3, 3, 8, 8)}]


def test_feeds_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"input x: .* is missing among the feeds"):
        export(tmp_path, feeds=[{}])
    with pytest.raises(ShapeError, match="the shape scalar does not fit the input x"):
        export(tmp_path, feeds=[{"x": np.array(3.0, np.float32)}])


def test_an_output_that_says_nothing_is_noted_and_refused_where_it_is_the_only_one(tmp_path: Path) -> None:
    net = NET.replace("y) {", "y, float[m] rare) {").replace(
        "Relu(x)", "Relu(x) none = Shape <start = 0, end = 0> (x) rare = Cast <to = 1> (none)"
    )
    predict = "return {'y': np.maximum(x, 0), 'rare': np.zeros(0, np.float32)}"
    done = export(tmp_path, net=net, predict=predict)
    assert any(
        note.startswith("output rare was empty on every trial: compare it on real inputs") for note in done.notes
    )
    silent = "(float[n, 3] x) => (float[n, 3] y) { y = Sub(x, x) }"
    with pytest.raises(ExportError, match=r"the export is not proven: output y was zero on every trial: .*feeds="):
        export(tmp_path, net=silent, predict="return {'y': x - x}")


def test_an_input_that_the_converter_left_out_and_strings_are_said(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"asks for the input mask, which the converter left out .*Save the model"
    ) as it:
        export(tmp_path, predict="return {'y': x * feeds['mask']}")
    assert "shapes=" not in str(it.value)
    with pytest.raises(ExportError, match=r"output y holds strings, which engines do not give"):
        export(tmp_path, predict="return {'y': np.array([b'a'], object)}")


@pytest.mark.parametrize(("asked", "older"), [(17, None), (9, ""), (18, "")])
def test_another_opset_than_the_one_asked_for_is_noted(asked: int, older: str | None, tmp_path: Path) -> None:
    done = export(tmp_path, opset=asked)
    told = [note for note in done.notes if note.startswith("opset")]
    assert [note.partition(":")[0] for note in told] == ([] if older is None else [f"opset 17 instead of {asked}"])
    newer = f"{WRITE}; m = onnx.load(output); m.opset_import[0].version = 18; onnx.save(m, output)"
    (note,) = (note for note in export(tmp_path, convert=newer).notes if note.startswith("opset"))
    assert note.startswith("opset 18 instead of 17") and "TensorRT 8.6 reads up to 17" in note


def test_cancelling_stops_the_converter_and_leaves_nothing(tmp_path: Path) -> None:
    cancel, asked_s = threading.Event(), list[float]()

    def listener(event: Progress | LogLine) -> None:
        if isinstance(event, Progress) and event.phase == "Converting with converter 2.0":
            asked_s.append(time.monotonic())
            cancel.set()

    with pytest.raises(Cancelled):
        export(tmp_path, convert="time.sleep(600)", listener=listener, cancel=cancel)
    assert time.monotonic() - asked_s[0] < PATIENCE_S, "it would convert for ten minutes"
    assert left(tmp_path) == []


def test_what_a_converter_prints_is_log_and_no_answer(tmp_path: Path) -> None:
    events: list[Progress | LogLine] = []
    export(tmp_path, convert=f"print('chatter'); os.system('echo native'); {WRITE}", listener=events.append)
    said = {event.text for event in events if isinstance(event, LogLine)}
    assert {"chatter", "native"} <= said


def test_a_quantized_model_is_compared_by_agreement_only(tmp_path: Path) -> None:
    net = """(float[n, 4] x) => (float[n, 4] y) {
        s = Constant <value = float {0.5}> () z = Constant <value = int8 {0}> ()
        q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"""
    done = export(tmp_path, net=net, predict="return {'y': x}")
    assert done.parity[0].relative > 1e-2 and done.parity[0].argmax_agreement is not None
    assert [dict(parity.shapes)["x"][0] for parity in done.parity] == [24, 32]
    assert any("quantized" in note for note in done.notes)
    assert done.most_relative is None and done.verdict.endswith("% agree")
    with pytest.raises(ExportError, match="output y has little to do with the framework's"):
        export(tmp_path, net=net, predict="return {'y': -x}")


# ---- what it is compared on


def test_inputs_are_made_up_until_the_answers_tell_something() -> None:
    """A detector answers 1e-12 to noise; compared there, rounding errors are all that differs."""
    seen: list[float] = []

    def detector(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.append(float(feeds["x"].min()))
        return {"y": np.where(feeds["x"] < 0, 1.0, 1e-12).astype(np.float32)}

    given = {"inputs": [{"name": "x", "dtype": "float32", "shape": [1, 3, 64, 64]}]}
    _, outputs = child._answer(detector, given, 0)
    assert outputs["y"].max() == 1 and len(seen) == 2 and seen[0] >= 0


def test_an_empty_output_tells_nothing() -> None:
    """A detector's boxes: none in noise, whatever else it answers."""
    calls: list[int] = []

    def detector(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        calls.append(1)
        return {"boxes": np.ones((len(calls) // 3, 4), np.float32), "map": np.ones(5, np.float32)}

    _, outputs = child._answer(detector, {"inputs": [{"name": "x", "dtype": "float32", "shape": [2, 2]}]}, 0)
    assert outputs["boxes"].shape == (1, 4) and len(calls) == 3


def test_a_framework_that_says_nothing_is_not_asked_for_ever() -> None:
    calls: list[int] = []

    def silent(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        calls.append(1)
        return {"y": np.full(3, 1e-9, np.float32)}

    child._answer(silent, {"inputs": [{"name": "x", "dtype": "float32", "shape": [2, 2]}]}, 0)
    assert len(calls) == 16


@pytest.mark.parametrize("attempt", range(6))
def test_made_up_arrays_have_the_shapes_and_types_asked_for(attempt: int) -> None:
    wanted = [
        ("a", "float32", [2, 3, 16, 20]),
        ("b", "float16", [2, 16, 20, 3]),
        ("c", "int64", [2, 7]),
        ("d", "bool", []),
    ]
    feeds = child.made_up([{"name": name, "dtype": dtype, "shape": shape} for name, dtype, shape in wanted], attempt, 0)
    assert [(name, array.dtype.name, list(array.shape)) for name, array in feeds.items()] == wanted
    again = child.made_up([{"name": name, "dtype": dtype, "shape": shape} for name, dtype, shape in wanted], attempt, 0)
    assert all(np.array_equal(feeds[name], again[name]) for name in feeds)


def test_paddledetections_inputs_get_what_its_pictures_have() -> None:
    inputs = [
        {"name": "im_shape", "dtype": "float32", "shape": [2, 2]},
        {"name": "image", "dtype": "float32", "shape": [2, 3, 96, 128]},
        {"name": "scale_factor", "dtype": "float32", "shape": [2, 2]},
    ]
    feeds = child.made_up(inputs, 0, 0)
    assert feeds["im_shape"].tolist() == [[96, 128]] * 2 and feeds["scale_factor"].tolist() == [[1, 1]] * 2


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((None, 3, None, None), [(1, 3, 128, 160), (2, 3, 160, 96)]),
        ((None, None, None, 3), [(1, 128, 160, 3), (2, 160, 96, 3)]),
        ((None, 3, 48, None), [(1, 3, 48, 128), (2, 3, 48, 160)]),
        ((None, None), [(1, 16), (2, 24)]),
        ((4, 3, 8, 8), [(4, 3, 8, 8), (4, 3, 8, 8)]),
        ((), [(), ()]),
    ],
)
def test_proposed_shapes_keep_what_is_fixed(shape: tuple[int | None, ...], wanted: list[Shape]) -> None:
    proposed = shapes.trial_shapes([TensorSpec("x", "float32", shape)], None)
    assert [item["x"] for item in proposed] == wanted


def test_dimensions_of_several_inputs_are_not_said_to_be_equal() -> None:
    proto = parse("(float[p, 4] a, float[q, 4] b) => (float[r, 4] y) { y = Add(a, b) }")
    shapes.name_input_dimensions(proto)
    names = [value.type.tensor_type.shape.dim[0].dim_param for value in proto.graph.input]
    assert names == ["a_batch", "b_batch"]
    onnx.checker.check_model(proto)
