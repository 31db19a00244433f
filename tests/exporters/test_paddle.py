"""Paddle's own models, converted by paddle2onnx and compared with Paddle's predictor."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from workbench.building import build
from workbench.engine import open_engine, read_layers
from workbench.errors import Cancelled, ExportError
from workbench.export.calling import PADDLE_ADAPTER, Order, Trials, export_from
from workbench.export.environments import Made
from workbench.export.from_paddle import explain, export_paddle
from workbench.reference import Reference
from workbench.store import EngineStore
from workbench.types import BuildConfig, LogLine, Progress, ignore

BATCH, SIDE, LINE = (1, 2, 4), (64, 128, 256), (64, 320, 640)
OCR = {
    "ch_PP-OCRv4_det_infer": (("batch", 3, "height", "width"), {"batch": BATCH, "height": SIDE, "width": SIDE}),
    "ch_PP-OCRv4_rec_infer": (("batch", 3, 48, "width"), {"batch": BATCH, "width": LINE}),
    "ch_ppocr_mobile_v2_cls_infer": (
        ("batch", 3, "height", "width"),
        {"batch": BATCH, "height": (48, 48, 48), "width": (96, 192, 192)},
    ),
}
PADDLE_3 = {
    "mobilenet": (("batch", 3, 64, 64), {"batch": BATCH}),
    "pyramid": (("batch", 3, "height", "width"), {"batch": BATCH, "height": SIDE, "width": SIDE}),
    "norms": (("batch", "length", 12), {"batch": BATCH, "length": (1, 16, 32)}),
}


def nothing_left(folder: Path) -> bool:
    return not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize("name", OCR)
def test_paddle_2_models_answer_the_same_as_onnx(name: str, ocr_models: Path, tmp_path: Path, builds: Callable) -> None:
    shape, bounds = OCR[name]
    done = export_paddle(ocr_models / name, output=tmp_path / "out" / f"{name}.onnx")
    print(done)
    assert (done.framework, done.converter) == ("Paddle 2.6.2", "paddle2onnx 1.3.1")
    assert done.model.inputs[0].shape == shape
    assert len({parity.shapes["x"] for parity in done.parity}) == 2
    assert all(parity.relative <= 1e-4 for parity in done.parity)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{name}.onnx"]
    builds(done, **bounds)


def test_a_detector_is_compared_on_pictures_in_which_it_sees_something(ocr_models: Path, tmp_path: Path) -> None:
    """On noise it answers 1e-12 everywhere, where two runtimes share no digit."""
    done = export_paddle(ocr_models / "ch_PP-OCRv4_det_infer", output=tmp_path / "det.onnx")
    assert all(parity.differences[0].max_abs > 0 and parity.differences[0].cosine > 0.999 for parity in done.parity)


@pytest.mark.parametrize("name", PADDLE_3)
def test_paddle_3_models_answer_the_same_as_onnx(
    name: str, paddle_3_models: Path, tmp_path: Path, builds: Callable
) -> None:
    shape, bounds = PADDLE_3[name]
    done = export_paddle(paddle_3_models / f"{name}.json", output=tmp_path / f"{name}.onnx")
    print(done)
    assert (done.framework, done.converter) == ("Paddle 3.3.1", "paddle2onnx 2.1.0")
    assert done.model.inputs[0].shape == shape
    assert len(done.parity) == 2 and all(parity.relative <= 1e-4 for parity in done.parity)
    builds(done, **bounds)


def test_a_quantized_model_keeps_its_scales_and_builds(
    paddle_2_models: Path, tmp_path: Path, pictures: np.ndarray, builds: Callable
) -> None:
    done = export_paddle(
        paddle_2_models / "imperative.pdmodel", output=tmp_path / "quantized.onnx", feeds=[{"x": pictures}]
    )
    print(done, [parity.argmax_agreement for parity in done.parity])
    assert done.model.operators["DequantizeLinear"] == done.model.operators["QuantizeLinear"]  # no bias among them
    assert [parity.shapes["x"][0] for parity in done.parity] == [500, 250]
    assert all((parity.argmax_agreement or 0) >= 0.95 for parity in done.parity)
    assert any("quantized" in note for note in done.notes)
    builds(done, batch=(1, 8, 64))
    store, int8 = EngineStore(tmp_path / "store"), BuildConfig("int8")  # Paddle-TRT's use_calib_mode=False
    assert "int8" in {layer.precision for layer in read_layers(build(done.model, int8, "rtx", store=store).engine)}
    with open_engine(build(done.model, int8, "onnxruntime", store=store).engine) as session:
        (found,) = session.run({done.model.inputs[0].name: pictures[:200]}).values()
    (wanted,) = Reference(done.model).run({done.model.inputs[0].name: pictures[:200]}).values()
    assert (found.argmax(1) == wanted.argmax(1)).mean() >= 0.95


def test_a_quantized_model_whose_scales_the_converter_drops_is_said_to_be_float(
    paddle_2_models: Path, tmp_path: Path, pictures: np.ndarray, builds: Callable
) -> None:
    done = export_paddle(paddle_2_models / "qat.pdmodel", output=tmp_path / "qat.onnx", feeds=[{"x": pictures}])
    print(done, [parity.argmax_agreement for parity in done.parity])
    assert not done.model.is_quantized
    assert any("dropped its scales" in note for note in done.notes)
    assert all((parity.argmax_agreement or 0) >= 0.95 for parity in done.parity)
    builds(done, batch=(1, 8, 64))


def test_without_an_output_the_export_is_called_after_its_folder(ocr_models: Path, home: Path) -> None:
    done = export_paddle(ocr_models / "ch_ppocr_mobile_v2_cls_infer")
    assert done.model.path == home / "exports" / "ch_ppocr_mobile_v2_cls_infer.onnx"


def test_two_exports_of_a_model_are_the_same(ocr_models: Path, tmp_path: Path) -> None:
    source = ocr_models / "ch_ppocr_mobile_v2_cls_infer"
    first, second = (export_paddle(source, output=tmp_path / f"{name}.onnx") for name in "ab")
    assert first.model.sha256 == second.model.sha256


def test_a_configuration_beside_the_model_is_mentioned(ocr_models: Path, tmp_path: Path) -> None:
    source = tmp_path / "cls"
    shutil.copytree(ocr_models / "ch_ppocr_mobile_v2_cls_infer", source)
    configs = Path(__file__).parents[1] / "data" / "paddle_configs"
    shutil.copy(configs / "pplcnet_textline_ori" / "inference.yml", source)
    done = export_paddle(source, output=tmp_path / "cls.onnx")
    assert any("inference.yml says how pictures become inputs" in note for note in done.notes)
    (source / "inference.yml").write_text("PreProcess: {transform_ops: [")
    done = export_paddle(source, output=tmp_path / "cls.onnx")
    assert any("inference.yml: cannot be understood" in note for note in done.notes)


def truncated(source: Path, folder: Path, *, program: float = 1.0, weights: float = 1.0) -> Path:
    """A copy of a model of which only these shares of its files arrived."""
    folder.mkdir()
    for path in source.parent.glob(f"{source.stem}.*"):
        share = {".pdmodel": program, ".json": program, ".pdiparams": weights}.get(path.suffix, 1.0)
        data = path.read_bytes()
        (folder / path.name).write_bytes(data[: int(share * len(data))])
    return folder / source.name


@pytest.mark.parametrize(
    "share", [{"program": 0.5}, {"weights": 0.5}, {"weights": 0.99}], ids=["program", "half", "most"]
)
@pytest.mark.parametrize("release", [2, 3])
def test_files_that_are_cut_off_are_refused(
    release: int, share: dict[str, float], ocr_models: Path, paddle_3_models: Path, tmp_path: Path
) -> None:
    whole = paddle_3_models / "mobilenet.json"
    if release == 2:
        whole = ocr_models / "ch_ppocr_mobile_v2_cls_infer" / "inference.pdmodel"
    source = truncated(whole, tmp_path / "cut", **share)
    with pytest.raises(ExportError, match="cut off") as caught:
        export_paddle(source, output=tmp_path / "out" / "x.onnx")
    assert str(source.parent) in str(caught.value)
    assert nothing_left(tmp_path / "out")


def test_operators_that_paddle_2s_converter_does_not_know_are_named(paddle_2_models: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"unknown\.pdmodel: .* no ONNX form for lgamma: express it"):
        export_paddle(paddle_2_models / "unknown.pdmodel", output=tmp_path / "out" / "x.onnx")
    assert nothing_left(tmp_path / "out")


def test_operators_that_paddle_3s_converter_does_not_know_are_named(paddle_3_models: Path, tmp_path: Path) -> None:
    """It aborts without a name; the names come from comparing the program with the list of what it knows."""
    with pytest.raises(ExportError, match=r"unknown\.json: .* no ONNX form for lgamma, svd: express it"):
        export_paddle(paddle_3_models / "unknown.json", output=tmp_path / "out" / "x.onnx")
    assert nothing_left(tmp_path / "out")


def test_an_attribute_that_the_converter_does_not_take_is_named(paddle_3_models: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"operator pd_op\.softplus: Only support softplus with beta == 1"):
        export_paddle(paddle_3_models / "refused.json", output=tmp_path / "out" / "x.onnx")
    assert nothing_left(tmp_path / "out")


def test_an_opset_that_does_not_exist_is_refused(ocr_models: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="does not write this opset; 17 fits"):
        export_paddle(ocr_models / "ch_ppocr_mobile_v2_cls_infer", output=tmp_path / "out" / "x.onnx", opset=99)
    assert nothing_left(tmp_path / "out")


@pytest.mark.parametrize("name", ["ch_PP-OCRv4_rec_infer", "ch_ppocr_mobile_v2_cls_infer"])
def test_an_invalid_model_of_a_converter_that_ends_well_is_refused(
    name: str, ocr_models: Path, paddle_3: Made, tmp_path: Path
) -> None:
    """paddle2onnx 2.1 does that to real models of Paddle 2, which is why those have an environment of their own."""
    program, weights = (ocr_models / name / f"inference.{suffix}" for suffix in ("pdmodel", "pdiparams"))
    adapter = Path(__file__).with_name("wrapped_paddle.py")
    order = Order(
        program, adapter, {"model": str(program), "params": str(weights), "own": str(PADDLE_ADAPTER)}, explain
    )
    with pytest.raises(ExportError, match=r"ONNX Runtime refuses the export|wrote an invalid ONNX model") as caught:
        export_from(order, paddle_3, tmp_path / "out" / "x.onnx", 17, Trials(), ignore, threading.Event())
    print(caught.value)
    assert nothing_left(tmp_path / "out")


def test_shapes_that_paddle_itself_refuses_are_told(ocr_models: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"Paddle 2 itself does not answer on x 1x3x33x33: .* Give shapes="):
        export_paddle(
            ocr_models / "ch_PP-OCRv4_det_infer", output=tmp_path / "out" / "x.onnx", shapes=[{"x": (1, 3, 33, 33)}]
        )
    assert nothing_left(tmp_path / "out")


def test_cancelling_a_conversion_stops_it_and_leaves_nothing(ocr_models: Path, tmp_path: Path) -> None:
    cancel, begun = threading.Event(), list[str]()

    def listener(event: Progress | LogLine) -> None:
        if isinstance(event, Progress) and event.done == 0:
            begun.append(event.phase)
            if event.phase == "Loading Paddle 2":
                cancel.set()

    with pytest.raises(Cancelled):
        export_paddle(
            ocr_models / "ch_PP-OCRv4_rec_infer", output=tmp_path / "out" / "x.onnx", listener=listener, cancel=cancel
        )
    assert begun[-1] == "Loading Paddle 2", "nothing else was begun"
    assert nothing_left(tmp_path / "out")
