"""An export is proven or refused: whole outputs, every slice of them, types, shapes, and outputs that say nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import RELU, parse, save

from workbench.errors import ExportError
from workbench.export.parity import MOST_SLICE_RELATIVE, check_parity, check_told, worst_slice

GENERATOR = np.random.default_rng(0)
IDENTITY = "(float[n,k,m] x) => (float[n,k,m] y) { y = Identity(x) }"


@pytest.fixture(autouse=True)
def same_numbers_in_any_order() -> None:
    """Whichever tests ran before."""
    GENERATOR.bit_generator.state = np.random.default_rng(0).bit_generator.state


def detections(boxes: int, scores: int, *, score: float, channels_first: bool) -> np.ndarray:
    """float32[1, 800, boxes + scores], or [1, boxes + scores, 800]: boxes in pixels and scores around `score`."""
    found = np.concatenate(
        [GENERATOR.random((1, 800, boxes)) * 640, GENERATOR.random((1, 800, scores)) * 2 * score], -1
    ).astype(np.float32)
    return np.ascontiguousarray(found.swapaxes(1, 2)) if channels_first else found


def without_scores(found: np.ndarray, channels_first: bool) -> np.ndarray:
    wrong = found.copy()
    wrong[(slice(None), slice(4, None)) if channels_first else (..., slice(4, None))] = 0
    return wrong


# ---- slices


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize(("scores", "score"), [(80, 6e-4), (80, 0.5), (1, 0.1)])
def test_scores_that_are_all_lost_beside_boxes_in_pixels_are_refused(
    scores: int, score: float, channels_first: bool, tmp_path: Path
) -> None:
    path = save(tmp_path / "net.onnx", IDENTITY)
    wanted = detections(4, scores, score=score, channels_first=channels_first)
    given = without_scores(wanted, channels_first)
    if score == 6e-4:
        assert np.linalg.norm(wanted - given) / np.linalg.norm(wanted) < 1e-4  # the whole alone says nothing
    check_parity(path, [({"x": wanted}, {"y": wanted})])
    with pytest.raises(ExportError, match=r"output y differs from the framework's by \d"):
        check_parity(path, [({"x": given}, {"y": wanted})])


def test_the_message_says_which_slice(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", "(float[n,c,h,w] x) => (float[n,c,h,w] y) { y = Identity(x) }")
    wanted = np.ones((2, 20, 8, 8), np.float32)
    wanted[:, 7] *= 0.1
    given = wanted.copy()
    given[:, 7] *= 1.002
    with pytest.raises(ExportError, match=r"by 2\.0e-03 at index 7 of axis 1 on x 2x20x8x8 .*of the whole output"):
        check_parity(path, [({"x": given}, {"y": wanted})])


@pytest.mark.parametrize(
    "wanted",
    [
        GENERATOR.standard_normal((3, 1000)),
        np.maximum(GENERATOR.standard_normal((2, 64, 8, 8)), 0) * (GENERATOR.random((1, 64, 1, 1)) > 0.7),
        np.exp(-30 * GENERATOR.random((1, 1, 64, 64))),
        np.exp(-30 * GENERATOR.random((2, 20, 500))),
        GENERATOR.standard_normal((1, 1, 1)),
        np.array(3.0),
    ],
    ids=["logits", "dead channels", "heat map", "softmax", "one value", "scalar"],
)
def test_rounding_of_float32_is_taken_near_zero_too(wanted: np.ndarray) -> None:
    """As real models round: by 1e-5 of an output's usual size, or of 1 where a sigmoid or softmax comes last."""
    usual = np.sqrt(np.mean(np.square(wanted)))
    noise = GENERATOR.standard_normal(wanted.shape) * (1e-5 if usual > 0.5 else 1e-7)
    relative, _, _ = worst_slice(wanted, wanted + noise)
    assert relative < MOST_SLICE_RELATIVE / 2


def test_an_empty_output_has_no_slices() -> None:
    assert worst_slice(np.zeros((0, 4)), np.zeros((0, 4))) == (0.0, 0, 0)


# ---- types and shapes


@pytest.mark.parametrize(
    ("net", "x", "wanted", "words"),
    [
        ("(int64[n] x) => (int64[n] y) { y = Identity(x) }", [1000000, 2], [1000001, 2], r"in 1 of 2 values on x 2: "),
        ("(bool[n] x) => (bool[n] y) { y = Not(x) }", [True, True], [False, True], r"in 1 of 2 values on x 2: "),
        ("(float[n] x) => (double[n] y) { y = Cast <to = 11> (x) }", [1.5], [1.5], "is float32 in .* and float64 in"),
        ("(float[n] x) => (string[n] y) { y = Cast <to = 8> (x) }", [1.5], ["1.5"], "output y holds strings"),
    ],
    ids=["integers", "booleans", "types", "strings"],
)
def test_integers_are_equal_and_types_the_frameworks(
    net: str, x: list[float], wanted: list[object], words: str, tmp_path: Path
) -> None:
    types = {"int64": np.int64, "bool": np.bool_, "float": np.float32}
    given = np.array(x, types[net[1 : net.index("[")]])
    answers = np.array(wanted) if isinstance(wanted[0], str) else np.array(wanted, given.dtype)
    with pytest.raises(ExportError, match=words):
        check_parity(save(tmp_path / "net.onnx", net), [({"x": given}, {"y": answers})])


@pytest.mark.parametrize("stated", ["float[1,4] y", "float[n,5] y", "float[n,4,1] y"])
def test_a_shape_that_the_model_states_and_does_not_give_is_refused(stated: str, tmp_path: Path) -> None:
    """ONNX Runtime only warns, and an engine is built for what is stated."""
    proto = parse(RELU)
    proto.graph.output[0].CopyFrom(parse(RELU.replace("float[n,4] y", stated)).graph.output[0])
    onnx.save(proto, tmp_path / "relu.onnx")
    x = np.ones((2, 4), np.float32)
    with pytest.raises(ExportError, match=r"the export states the output y: float32\[.*\], but it is 2x4 on x 2x4"):
        check_parity(tmp_path / "relu.onnx", [({"x": x}, {"y": x})])


def test_an_open_size_of_an_output_is_that_of_the_input_of_its_name(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", "(float[n] x) => (float[n] y) { y = Concat <axis = 0> (x, x) }")
    x = np.ones(3, np.float32)
    with pytest.raises(ExportError, match=r"states the output y: float32\[n\], but it is 6 on x 3"):
        check_parity(path, [({"x": x}, {"y": np.ones(6, np.float32)})])


# ---- outputs that say nothing


ONE, NONE, ZERO = np.ones((2, 4)), np.ones((0, 4)), np.zeros((2, 4))


@pytest.mark.parametrize(
    ("answers", "notes"),
    [
        ([{"y": ONE, "boxes": NONE}, {"y": ONE, "boxes": NONE}], ["boxes was empty"]),
        ([{"y": ONE, "boxes": ZERO}, {"y": ONE, "boxes": NONE}], ["boxes was zero"]),
        ([{"y": ONE, "boxes": NONE}, {"y": ONE, "boxes": ONE}], []),
        ([], []),
    ],
)
def test_an_output_that_was_empty_or_zero_every_time_is_noted(
    answers: list[Mapping[str, np.ndarray]], notes: list[str]
) -> None:
    found = check_told("net.onnx", [({}, outputs) for outputs in answers])
    assert list(found) == [
        f"output {note} on every trial: compare it on real inputs with feeds=[{{input: array}}]" for note in notes
    ]


def test_an_export_of_which_no_output_said_anything_is_refused() -> None:
    answers = [({}, {"a": NONE, "b": ZERO}), ({}, {"a": NONE, "b": ZERO})]
    with pytest.raises(ExportError, match=r"net\.onnx: the export is not proven: output a was empty.*b was zero"):
        check_told("net.onnx", answers)


# ---- quantized


@pytest.mark.parametrize(
    ("factor", "words"),
    [(1.0, ""), (0.8, ""), (-1.0, r"\(cosine -1\.00, 0% of the largest"), (0.0, r"\(cosine 0\.00")],
)
def test_a_quantized_export_is_refused_where_it_has_nothing_to_do_with_the_framework(
    factor: float, words: str, tmp_path: Path
) -> None:
    path = save(tmp_path / "net.onnx", "(float[n,4] x) => (float[n,4] y) { y = Identity(x) }")
    x = GENERATOR.random((16, 4), np.float32)
    answers = [({"x": (x * np.float32(factor)).astype(np.float32)}, {"y": x})]
    if not words:
        assert check_parity(path, answers, most_relative=None)[0].argmax_agreement == 1.0
        return
    with pytest.raises(ExportError, match=rf"output y has little to do with .* on x 16x4 {words}.*feeds="):
        check_parity(path, answers, most_relative=None)
