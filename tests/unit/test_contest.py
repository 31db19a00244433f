"""What a contest is fed with, what it is built for, and which model is meant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from models import FASHION_CNN, save

from workbench.calibration.samples import open_samples
from workbench.contest import Accuracy, Benchmark, Contest, Entrant, Rules, accuracy, benchmark, entrants, open_source
from workbench.contest.feeding import OverBatches, Whole, profile_of_sizes, read_ahead
from workbench.contest.source import find_source
from workbench.errors import Cancelled, ConfigError, ExportError, FeedError
from workbench.export.environments import PADDLE_3
from workbench.export.from_paddle import PaddleModel
from workbench.model import Model, load_model
from workbench.timing import Timing, measure_together, measuring
from workbench.types import Feeds, LogLine, Progress, ShapeRange, TensorSpec

QUICK = Timing(iterations=20, warmup=1, limit_s=0.2)


class Recorder:
    """A session that notes of which batch each timed run was, and how many runs a call asked for."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    clock = "none"
    threads = 3
    releases: Mapping[str, str] = {"recorder": "1"}

    def __init__(self) -> None:
        self.calls: list[tuple[float, int]] = []
        self.last = -1.0

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        self.last = float(feeds["x"][0])
        return dict(feeds)

    def times_ms(self, iterations: int) -> list[float]:
        self.calls.append((self.last, iterations))
        return [1.0 + 0.01 * number for number in range(iterations)]

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class OnGpu(Recorder):
    host_clock = "with copies"
    copies = False

    def host_times_ms(self, iterations: int) -> list[float]:
        self.calls.append((self.last, iterations))
        return [2.0] * iterations


def numbered(count: int) -> list[dict[str, np.ndarray]]:
    return [{"x": np.full(2, number, np.float32)} for number in range(count)]


# ---- batches in turns


@pytest.fixture
def twenty_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the machine lets a first run wait."""
    monkeypatch.setattr(measuring, "_CHUNK_S", 600.0)


@pytest.mark.parametrize("rivals", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 4, 5, 20])
def test_every_batch_is_timed_however_many_run_in_turns(twenty_rounds: None, rivals: int, count: int) -> None:
    sessions = {f"{number}": Recorder() for number in range(rivals)}
    turning = {name: OverBatches(item, numbered(count), rivals=rivals > 1) for name, item in sessions.items()}
    measured = measure_together(turning, numbered(1)[0], Timing(iterations=60, warmup=1))
    for session, item in zip(sessions.values(), measured, strict=True):
        timed = {batch for batch, runs in session.calls if runs > 1}
        assert timed == set(range(count)) and len(item.times_ms) == 60
    assert all(session.fed == count for session in turning.values())


def test_the_clock_with_copies_counts_the_batch_of_its_turn(twenty_rounds: None) -> None:
    session = OnGpu()
    turning = OverBatches(session, numbered(20), rivals=False)
    (found,) = measure_together({"": turning}, numbered(1)[0], Timing(iterations=60, warmup=1))
    assert (found.copies, found.threads, found.host_clock, len(found.host_times_ms)) == (False, 3, "with copies", 60)
    assert found.releases == {"recorder": "1"}
    assert {batch for batch, runs in session.calls if runs > 1} == set(range(20))


# ---- reading beforehand


def contest(arrays: np.ndarray | Path, model: Model, **rules: Any) -> Contest:
    samples = open_samples({model.inputs[0].name: arrays} if isinstance(arrays, np.ndarray) else arrays, model)
    return Contest(open_source(model.path), samples, (Entrant("onnxruntime", "fp32"),), Rules(**rules))


def test_no_more_is_read_than_the_budget_holds(fashion_cnn: Model) -> None:
    pictures = np.zeros((100, 1, 28, 28), np.float32)
    ahead = read_ahead(contest(pictures, fashion_cnn, batches=(2,), budget_bytes=10 * 28 * 28 * 4))
    assert len(ahead.samples) == 11
    assert ahead.about == "11 samples of 100 were read beforehand, 0.0 MB (no more, by the budget of 0.0 MB)."
    assert len(read_ahead(contest(pictures, fashion_cnn, batches=(16,), budget_bytes=1)).samples) == 16
    assert len(read_ahead(contest(pictures, fashion_cnn, batches=(2,))).samples) == 40
    assert len(read_ahead(contest(pictures, fashion_cnn, batches=(2,), samples=7)).samples) == 7


def test_the_last_batch_begins_anew_where_samples_run_out(fashion_cnn: Model) -> None:
    pictures = np.arange(5, dtype=np.float32).reshape(5, 1, 1, 1) * np.ones((1, 1, 28, 28), np.float32)
    ahead = read_ahead(contest(pictures, fashion_cnn, batches=(2, 7)))
    assert [batch["image"][:, 0, 0, 0].tolist() for batch in ahead.batches(2)] == [[0, 1], [2, 3], [4, 0]]
    assert [batch["image"][:, 0, 0, 0].tolist() for batch in ahead.batches(7)] == [[0, 1, 2, 3, 4, 0, 1]]
    assert len(ahead.batches(1)) == 5


def test_samples_that_have_no_batch_axis_are_fed_alone(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "net.onnx", "(float[n] x) => (float[n] y) { y = Relu(x) }"))
    ahead = read_ahead(contest(np.zeros((3, 5), np.float32), model, batches=(1, 2)))
    assert len(ahead.batches(1)) == 3
    with pytest.raises(FeedError, match="cannot be stacked; ask for batches of 1"):
        ahead.batches(2)


def test_reading_can_be_stopped(fashion_cnn: Model) -> None:
    started = contest(np.zeros((9, 1, 28, 28), np.float32), fashion_cnn)
    started.cancel.set()
    with pytest.raises(Cancelled, match="stopped after reading 0 samples"):
        read_ahead(started)
    with pytest.raises(Cancelled):
        accuracy(started)


# ---- profiles and whole batches


def test_a_profile_takes_single_samples_and_is_tuned_for_whole_batches(fashion_cnn: Model) -> None:
    profile = profile_of_sizes(fashion_cnn, [{"image": (1, 1, 28, 28)}], 8)
    assert profile is not None
    assert profile.ranges == {"image": ShapeRange((1, 1, 28, 28), (8, 1, 28, 28), (8, 1, 28, 28))}


def test_a_profile_spans_the_sizes_of_all_samples(tmp_path: Path) -> None:
    graph = "(float[n,3,h,w] x, float[2] scale) => (float[n,3,h,w] y) { y = Relu(x) }"
    model = load_model(save(tmp_path / "net.onnx", graph))
    sizes = [{"x": (1, 3, *size), "scale": (2,)} for size in ((64, 96), (32, 128), (64, 96))]
    profile = profile_of_sizes(model, sizes, 4)
    assert profile is not None
    assert profile.ranges == {"x": ShapeRange((1, 3, 32, 96), (4, 3, 64, 96), (4, 3, 64, 128))}
    fixed = load_model(save(tmp_path / "fixed.onnx", "(float[1,4] x) => (float[1,4] y) { y = Relu(x) }"))
    assert profile_of_sizes(fixed, [{"x": (1, 4)}], 1) is None


def test_fewer_samples_than_a_fixed_batch_are_filled_up_and_cut(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "net.onnx", "(float[4,2] x) => (float[4,2] y) { y = Relu(x) }"))

    class Runs:
        def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
            assert feeds["x"].shape == (4, 2)
            return {"y": feeds["x"] * 2, "whole": np.zeros(3)}

    feeds = {"x": np.array([[1, 2], [3, 4]], np.float32)}
    outputs = Whole(Runs(), model).run(feeds)
    assert outputs["y"].tolist() == [[2, 4], [6, 8]] and outputs["whole"].shape == (3,)
    full = {"x": np.ones((4, 2), np.float32)}
    assert Whole(Runs(), model).run(full)["y"].shape == (4, 2)


# ---- the contests from Python


def test_pictures_of_several_sizes_are_measured_at_the_commonest_and_all_compared(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "net.onnx", "(float[n,3,h,w] x) => (float[n,3,h,w] y) { y = Relu(x) }"))
    feeds = [{"x": np.ones((1, 3, size, size), np.float32)} for size in (8, 16, 8, 8)]
    events: list[Progress | LogLine] = []
    held = Contest(
        open_source(model.path), open_samples(feeds, model), entrants(["onnxruntime"], ["fp32", "fp16"]),
        Rules(batches=(2,), timing=QUICK), events.append,
    )  # fmt: skip
    found = benchmark(held)
    assert isinstance(found, Benchmark) and "1 sample of other sizes were left out" in found.about
    assert found.rounds[0].study["onnxruntime:fp32"].shapes == {"x": (2, 3, 8, 8)}
    told = accuracy(held)
    assert isinstance(told, Accuracy) and told.comparison.count == 4 and told.metric == "relative"
    compared = [event for event in events if isinstance(event, Progress) and event.phase == "Comparing outputs"]
    assert [(event.done, event.total) for event in compared] == [(1, 4), (2, 4), (4, 4), (4, 4)]


def test_labels_without_classes_tell_no_accuracy(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "net.onnx", "(float[n,3,8,8] x) => (float[n,3,8,8] y) { y = Relu(x) }"))
    arrays = {"x": np.ones((4, 3, 8, 8), np.float32), "labels": np.arange(4)}
    held = Contest(open_source(model.path), open_samples(arrays, model), entrants(["onnxruntime"]))
    assert accuracy(held).warnings == ("No output gives one number for each class, so the labels tell no accuracy.",)


def test_nothing_is_left_where_the_data_fit_nobody(tmp_path: Path) -> None:
    """One sentence, not one for each of those that refuse."""
    model = load_model(save(tmp_path / "net.onnx", "(float[n,4] x, float[n,4] z) => (float[n,4] y) { y = Add(x, z) }"))
    arrays = {"x": np.ones((4, 4), np.float32), "z": np.ones((4, 4), np.float32)}
    samples = open_samples(arrays, model)
    other = save(tmp_path / "other.onnx", "(float[n,4] x) => (float[n,4] y) { y = Relu(x) }")
    held = Contest(open_source(other), samples, entrants(["onnxruntime"], ["fp32", "fp16"]))
    with pytest.raises(FeedError, match=r"^there is no input z; feed x"):
        accuracy(held)


def test_entrants_are_back_ends_by_precision_and_paddle_once() -> None:
    assert [str(item) for item in entrants(["paddle", "onnxruntime", "paddle"], ["fp32", "fp16"])] == [
        "paddle", "onnxruntime:fp32", "onnxruntime:fp16",
    ]  # fmt: skip
    (first,) = entrants()
    assert first.precision == "fp32"


def test_rules_that_measure_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="one picture at least"):
        Rules(batches=(0,))
    with pytest.raises(ConfigError, match="0 samples measure nothing"):
        Rules(samples=0)


# ---- which model


def program_3(path: Path) -> None:
    path.write_text(json.dumps({"base_code": {"magic": "pir", "version": 4}, "program": {"regions": []}}))
    path.with_suffix(".pdiparams").write_bytes(b"\0" * 4)


def test_onnx_files_are_themselves(tmp_path: Path) -> None:
    assert find_source(FASHION_CNN) == FASHION_CNN
    source = open_source(FASHION_CNN)
    assert (source.model.name, source.paddle, source.note, source.folder) == (
        "fashion_cnn", None, "", FASHION_CNN.parent,
    )  # fmt: skip


def test_a_damaged_paddle_model_is_told(tmp_path: Path) -> None:
    program_3(tmp_path / "net.json")
    with pytest.raises(ExportError, match=r"net\.pdiparams: the weights are cut off"):
        find_source(tmp_path)
    (tmp_path / "net.json").write_text("{}")
    with pytest.raises(ExportError, match="not a Paddle 3 program"):
        find_source(tmp_path / "net.json")


def test_a_paddle_model_is_found_by_its_folder(tmp_path: Path) -> None:
    program_3(tmp_path / "net.json")
    (tmp_path / "net.pdiparams").write_bytes(bytes([0] * 16) + b"\x02\0\0\0\x08\x05" + b"\0" * 4)
    found = find_source(tmp_path)
    assert isinstance(found, PaddleModel) and found.environment == PADDLE_3
