"""TimingState and TimingBoard without a browser: set a trait, assert a trait; the runs are real."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from helpers_building import PATIENCE_S, small, wait_until
from helpers_widgets import in_order
from models import FASHION_CNN, OCR_DET, save

from workbench.backends import available
from workbench.baselines import baseline
from workbench.building import build
from workbench.calibration.collect import collect
from workbench.calibration.collection import save_collection
from workbench.calibration.samples import open_samples
from workbench.cli import main
from workbench.errors import BackendError, BuildError, Cancelled, ConfigError
from workbench.model import Model, load_model
from workbench.runs import Filter, History
from workbench.store import EngineStore
from workbench.study import rest_of_row
from workbench.timing.throughput import PHASE as SWEEPING
from workbench.types import BuildConfig, BuilderOptions, Feeds, TensorSpec
from workbench.widgets import TimingBoard
from workbench.widgets.aside import Aside
from workbench.widgets.timing_choices import (
    BASELINE_ROW,
    BUILD,
    ELSEWHERE_ROW,
    NOTEBOOK_ROW,
    PLAIN,
    STORE_ROW,
    plain_session,
)
from workbench.widgets.timing_export import FORMS, export
from workbench.widgets.timing_results import LAYERS, OUTPUTS, SECTIONS, THROUGHPUT, Picture, Sheet
from workbench.widgets.timing_run import PREPARING, feeds_of_batch
from workbench.widgets.timing_state import MEASURING, WAITING, TimingState
from workbench.widgets.work_state import CANCELLED, DONE, FAILED, IDLE

FASHION = Path(__file__).parents[2] / "data" / "fashion_mnist_test"
FP32, FP16, INT8 = (f"ONNX Runtime {precision}" for precision in ("fp32", "fp16", "int8"))


@pytest.fixture
def state(home: Path, tmp_path: Path) -> TimingState:
    """A small model whose batch is open, and runs that are soon over."""
    return quick(small(tmp_path / "net.onnx", batch="n"))


def quick(model: Model) -> TimingState:
    state = TimingState()
    state.take(model)
    state.iterations, state.limit, state.batches, state.sweep_s = "20", "20", "", 0.05
    return state


def finished(state: TimingState) -> TimingState:
    assert state.wait(PATIENCE_S), "it does not end"
    return state


def measured(state: TimingState) -> TimingState:
    state.start()
    assert finished(state).status == DONE, state.error
    return state


class Gate:
    """A session that answers only while it is open, as a long run in native code does. runs: how often it was asked."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    clock = "of a gate"

    def __init__(self) -> None:
        self.open, self.runs, self.closed = threading.Event(), 0, False

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        self.runs += 1
        assert self.open.wait(PATIENCE_S)
        return {"y": np.zeros((len(feeds["x"]), 2), np.float32)}

    def times_ms(self, iterations: int) -> list[float]:
        assert self.open.wait(PATIENCE_S)
        return [1.0 + 0.001 * (number % 7) for number in range(iterations)]

    def __enter__(self) -> Gate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def candidate(state: TimingState, name: str) -> Any:
    (found,) = (item for item in state.offered if item.name == name)
    return found


# ---- what can be measured


def test_at_first_it_asks_for_a_model(home: Path) -> None:
    state = TimingState()
    assert state.problem() == "Choose a model first." and state.offered == () and state.code() == {}
    state.start()
    assert state.status == FAILED and isinstance(state.error, ConfigError)


def test_it_begins_with_an_engine_of_this_machine_and_plain_onnx_runtime(state: TimingState) -> None:
    assert {PLAIN} < set(state.chosen) and len(state.chosen) == 2
    assert state.problem() == "" and state.compared_with == PLAIN


def test_every_precision_is_offered_and_what_is_struck_out_says_why(state: TimingState) -> None:
    for backend, support in available().items():
        own = [item for item in state.offered if item.backend == backend and item.kind == BUILD]
        reasons = {item.precision: item.reason for item in own}
        if support.can_run:
            assert {*support.precisions, *(support.precision_reasons or {})} == set(reasons)
        else:
            assert reasons == {"": support.run_reason} and reasons[""]
    assert "needs the range" in candidate(state, INT8).reason
    assert "neither overflow" in candidate(state, FP16).note
    assert not candidate(state, FP32).reason


def test_what_cannot_run_here_stands_last_and_cannot_be_chosen(state: TimingState) -> None:
    state.supports = {
        name: replace(item, can_run=name == "onnxruntime", run_reason="no GPU was found")
        for name, item in state.supports.items()
    }
    state.offer_again()
    rows = list(dict.fromkeys(item.row for item in state.offered))
    assert rows == ["ONNX Runtime", BASELINE_ROW, ELSEWHERE_ROW]
    before = state.chosen
    state.choose("TensorRT-RTX", True)
    state.choose(INT8, True)
    assert state.chosen == before


def test_candidates_are_chosen_in_the_order_of_the_form(state: TimingState) -> None:
    state.chosen = ()
    assert state.problem() == "Choose something to measure."
    for name in (PLAIN, FP16, FP32):
        state.choose(name, True)
    assert state.chosen == (FP32, FP16, PLAIN) and state.compared_with == PLAIN
    state.reference = FP16
    assert state.compared_with == FP16
    state.choose(FP16, False)
    assert state.compared_with == PLAIN, "a reference that is not measured is none"
    state.choose(PLAIN, False)
    assert state.compared_with == FP32


def test_int8_can_be_chosen_once_ranges_are_named(home: Path, tmp_path: Path) -> None:
    model = load_model(FASHION_CNN)
    save_collection(collect(model, open_samples(FASHION, model), count=8), tmp_path / "net.calib")
    state = quick(model)
    state.calibration = str(tmp_path / "net.calib")
    assert not candidate(state, INT8).reason
    state.choose(INT8, True)
    state.calibration = str(tmp_path / "missing.calib")
    assert "missing.calib" in candidate(state, INT8).reason and INT8 not in state.chosen


def test_what_the_notebook_gave_is_chosen_alone_and_no_name_comes_twice(state: TimingState) -> None:
    engine = build(state.model, BuildConfig("fp16"), "onnxruntime").engine
    state.give({FP32: engine, "mine": baseline(lambda feeds: feeds["x"])}, None)
    assert state.chosen == (FP32, "mine") and candidate(state, FP32).row == NOTEBOOK_ROW
    assert candidate(state, FP32).precision == "fp16" and candidate(state, f"{FP32} (workbench)").kind == BUILD
    assert len({item.name for item in state.offered}) == len(state.offered)


def test_what_the_notebook_gave_belongs_to_its_model(state: TimingState, tmp_path: Path) -> None:
    model, feeds = state.model, {"x": np.zeros((3, 3, 8, 8), np.float32)}
    state.give({"mine": baseline(lambda feeds: feeds["x"])}, feeds)
    assert state.is_own_feeds and state.batch == 3 and state.feeds() is feeds
    state.take(small(tmp_path / "other.onnx", seed=1))
    assert "mine" not in {item.name for item in state.offered} and not state.is_own_feeds and state.batch == 1
    state.take(model)
    assert state.chosen == ("mine",) and state.is_own_feeds


def test_stored_engines_of_this_model_are_offered_and_those_a_build_reuses_once(
    state: TimingState, tmp_path: Path
) -> None:
    plain = build(state.model, BuildConfig(), "onnxruntime").engine
    mixed = BuildConfig("fp16", builder=BuilderOptions(layer_precisions={"conv": "fp32"}))
    other = build(state.model, mixed, "onnxruntime").engine
    converted = build(state.model, BuildConfig("fp16", keep_io_types=False), "onnxruntime").engine
    build(small(tmp_path / "other.onnx", seed=5), BuildConfig(), "onnxruntime")
    state.offer_again()
    assert candidate(state, FP32).engine == plain.key and candidate(state, FP16).engine == ""
    stored = [item for item in state.offered if item.row == STORE_ROW]
    assert {item.engine: bool(item.reason) for item in stored} == {other.key: False, converted.key: True}
    state.chosen = tuple(item.name for item in stored if not item.reason)
    (subject,) = measured(state).study.subjects  # type: ignore[union-attr]
    assert subject.engine is not None and subject.engine.key == other.key


def test_without_a_model_that_of_the_first_engine_is_taken(home: Path, tmp_path: Path) -> None:
    model = small(tmp_path / "net.onnx")
    built = build(model, BuildConfig(), "onnxruntime")
    board = TimingBoard(contestants={"mine": built})
    assert board.state.model_path == str(model.path) and board.state.chosen == ("mine",) and board.study is None


# ---- mistakes in the form


@pytest.mark.parametrize(
    ("trait", "text", "said"),
    [
        ("iterations", "0", "Runs: '0' is none"),
        ("iterations", "many", "Runs: 'many' is none"),
        ("iterations", "10,000,000", "from 1 to 1,000,000"),
        ("limit", "-1", "Time limit: '-1' is none"),
        ("limit", "nan", "Time limit: 'nan' is none"),
        ("batches", "1, x", "Batches: 'x' is none"),
        ("streams", "0", "Streams: '0' is none"),
        ("count", "few", "'few' is no number of samples"),
        ("data", "nowhere", "nowhere: the samples cannot be read"),
    ],
)
def test_a_mistake_is_told_while_typing_and_nothing_runs(state: TimingState, trait: str, text: str, said: str) -> None:
    before = getattr(state, trait)
    setattr(state, trait, text)
    assert said in state.problem() and state.code() == {}
    state.start()
    assert state.status == FAILED and state.study is None
    setattr(state, trait, before)
    assert state.problem() == ""


def test_wrong_sizes_are_told_and_what_was_offered_stays(state: TimingState) -> None:
    offered = state.offered
    state.bounds = {"n": ("9", "1", "8")}
    assert "min 9 is larger than opt 1" in state.problem() and state.offered == offered


def test_a_model_with_a_fixed_batch_is_swept_at_that_alone(home: Path, tmp_path: Path) -> None:
    state = TimingState()
    state.take(small(tmp_path / "fixed.onnx", batch=2))
    assert state.batches == "2" and state.sweep().batches == (2,)  # type: ignore[union-attr]
    state.batches = "1, 2"
    assert "takes 2 samples at once" in state.problem()


def test_a_model_that_is_exported_again_keeps_what_was_chosen(state: TimingState, tmp_path: Path) -> None:
    state.choose(FP16, True)
    state.batches, state.reference = "2", FP16
    chosen, before = state.chosen, state.model.sha256  # type: ignore[union-attr]
    small(tmp_path / "net.onnx", seed=3, batch="n")
    state.read_again_if_changed()
    assert state.model is not None and state.model.sha256 != before
    assert (state.chosen, state.batches, state.compared_with) == (chosen, "2", FP16)


def test_batches_are_sorted_and_each_comes_once(state: TimingState) -> None:
    state.batches, state.streams = "8 1, 8,2", ""
    sweep = state.sweep()
    assert sweep is not None and (sweep.batches, sweep.streams) == ((1, 2, 8), (1,))


# ---- running


def test_chosen_ones_are_built_measured_in_turns_and_compared(state: TimingState) -> None:
    state.choose(FP16, True)
    study = measured(state).study
    assert study is not None and study.reference == PLAIN
    assert [item.name for item in study.measurements] == [FP32, FP16, PLAIN]
    assert all(len(item.times_ms) == 20 and len(item.rivals) == 2 for item in study.measurements)
    assert study[FP32].layer_times_ms and not study[PLAIN].layer_times_ms
    assert study.comparison is not None and study.comparison.count == 1
    assert (study.model, study.model_sha256) == ("net", state.model.sha256)  # type: ignore[union-attr]
    assert study.failures == {} and study.throughputs == {}
    assert all(phase.ended_s is not None for phase in state.phases)
    assert [phase.name for phase in state.phases if not phase.depth][:2] == [PREPARING, "Opening engines"]
    assert candidate(state, FP32).engine == study.subject(FP32).engine.key  # type: ignore[union-attr]


def test_the_form_may_change_and_what_was_measured_says_so(state: TimingState) -> None:
    state.chosen = (PLAIN,)
    assert not state.form_has_changed
    assert not measured(state).form_has_changed
    state.iterations = "30"
    assert state.form_has_changed
    state.iterations = "20"
    assert not state.form_has_changed


def test_labelled_samples_tell_accuracy(home: Path) -> None:
    state = quick(load_model(FASHION_CNN))
    state.data, state.count = str(FASHION), "50"
    state.give({"again": plain_session(state.model)}, None)
    state.choose(PLAIN, True)
    assert "10,000 samples with labels" in state.data_note
    found = measured(state).study.comparison  # type: ignore[union-attr]
    assert found is not None and found.count == 50
    scores = {item.name: item.evaluation.top1 for item in found.contestants if item.evaluation}
    assert scores[PLAIN] is not None and 80 < scores[PLAIN].other.value <= 100


def test_samples_without_labels_and_broken_ones_are_told(state: TimingState, tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", x=np.zeros((5, 3, 8, 8), np.float32))
    state.data = str(tmp_path / "samples.npz")
    state.give({"again": plain_session(state.model)}, None)
    state.choose(PLAIN, True)
    assert "5 samples without labels" in state.data_note
    found = measured(state).study.comparison  # type: ignore[union-attr]
    assert found is not None and found.count == 5 and all(item.evaluation.top1 is None for item in found.others)
    np.savez(tmp_path / "samples.npz", wrong=np.zeros((5, 3, 8, 8), np.float32))
    state.start()
    assert finished(state).status == FAILED and "wrong" in str(state.error), "the file was written anew meanwhile"
    assert state.study is not None, "what was measured before stays"


def test_a_model_that_is_broken_meanwhile_is_told_above_what_was_measured_before(state: TimingState) -> None:
    board = TimingBoard(state.model)
    board.state.chosen, board.state.iterations, board.state.batches = (PLAIN,), "20", ""
    found = measured(board.state).study
    board.state.model.path.write_bytes(b"no model")  # type: ignore[union-attr]
    board.state.start()
    assert board.state.status == FAILED and "net.onnx" in str(board.state.error)
    assert board.study is found and in_order(board, "The result from before stands below", "data-study")


def test_batches_and_streams_are_swept(state: TimingState) -> None:
    state.chosen, state.batches, state.streams = (FP32,), "1, 3", "1, 2"
    study = measured(state).study
    assert study is not None and list(study.throughputs) == [FP32]
    assert [(item.batch, item.streams) for item in study.throughputs[FP32]] == [(1, 1), (1, 2), (3, 1), (3, 2)]
    assert next(item for item in state.phases if item.name == SWEEPING).total == 4


def test_a_run_is_in_the_history_once_with_its_throughputs_and_who_is_missing(state: TimingState) -> None:
    def broken(feeds: Feeds) -> None:
        raise ValueError("no such weights")

    state.give({"broken": baseline(broken)}, None)
    state.chosen, state.batches = (FP32, PLAIN, "broken"), "1, 3"
    study = measured(state).study
    assert study is not None and set(study.throughputs) == {FP32, PLAIN}
    rows = History().list(Filter(kind="measurement"))
    assert sorted((run.subject, run.study) for run in rows) == [(FP32, study.id), (PLAIN, study.id)]
    for run, data in zip(rows, History().data_of(rows), strict=True):
        assert rest_of_row(data) == (study.failures, study.throughputs[run.subject])


def test_a_run_that_is_cancelled_leaves_nothing_in_the_history(state: TimingState, gate: Gate) -> None:
    state.give({"gate": gate}, None)
    state.start()
    wait_until(lambda: gate.runs == 1, "the run has begun")
    state.cancel()
    assert finished(state).status == CANCELLED
    gate.open.set()
    after = measured(replace_choice(state, PLAIN)).study
    assert after is not None and {run.study for run in History().list()} == {after.id}


def test_a_single_session_is_swept_with_one_stream_and_stays_open(state: TimingState, gate: Gate) -> None:
    gate.open.set()
    state.give({"gate": gate}, None)
    state.batches, state.streams = "1", "1, 2"
    study = measured(state).study
    assert study is not None and [item.streams for item in study.throughputs["gate"]] == [1]
    assert list(study.failures) == ["gate, 2 streams"] and not gate.closed


def test_arrays_grow_along_the_open_axis_alone(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "two.onnx", "(float[n,2] x, float[3] w) => (float[n,2] y) { y = Relu(x) }"))
    feeds = {"x": np.array([[1, 2], [3, 4]], np.float32), "w": np.zeros(3, np.float32)}
    grown = feeds_of_batch(model, feeds, 3)
    assert grown["x"].tolist() == [[1, 2], [3, 4], [1, 2]] and grown["w"].shape == (3,)
    assert feeds_of_batch(model, feeds, 1)["x"].tolist() == [[1, 2]]


def test_who_fails_is_left_out_with_the_reason_and_the_others_are_measured(state: TimingState) -> None:
    def broken(feeds: Feeds) -> None:
        raise ValueError("no such weights")

    state.give({"broken": baseline(broken), "good": baseline(lambda feeds: {"y": feeds["x"]})}, None)
    study = measured(state).study
    assert study is not None and [item.name for item in study.measurements] == ["good"]
    assert "ValueError: no such weights" in study.failures["broken"] and "broken" in study.notes[0]
    state.chosen = ("broken",)
    state.start()
    assert finished(state).status == FAILED and "no such weights" in str(state.error)
    assert measured(replace_choice(state, "good")).error is None, "it goes on"


def replace_choice(state: TimingState, *names: str) -> TimingState:
    state.chosen = names
    return state


def test_a_build_that_fails_is_told_as_builds_are(home: Path, tmp_path: Path) -> None:
    state = quick(load_model(save(tmp_path / "foreign.onnx", "(float[2] x) => (float[2] y) { y = foreign.Frob(x) }")))
    state.start()
    assert finished(state).status == FAILED and isinstance(state.error, BuildError)
    state.chosen = (PLAIN,)
    state.start()
    assert finished(state).status == FAILED and "plain ONNX Runtime does not open foreign" in str(state.error)


def test_what_a_session_raises_while_it_is_timed_is_shown_and_the_log_has_the_lines(state: TimingState) -> None:
    calls = iter(range(10**6))

    def moody(feeds: Feeds) -> np.ndarray:
        return feeds["x"] if next(calls) < 6 else feeds["no such input"]

    state.give({"moody": baseline(moody)}, None)
    state.start()
    assert finished(state).status == FAILED and isinstance(state.error, BackendError)
    assert "KeyError" in str(state.error) and any("moody" in line.text for line in state.log)


# ---- cancelling


def test_cancel_does_not_wait_for_a_run_under_way_and_the_next_run_does(state: TimingState, gate: Gate) -> None:
    state.give({"gate": gate}, None)
    state.start()
    wait_until(lambda: gate.runs == 1, "the run has begun")
    assert state.status == MEASURING
    with pytest.raises(ConfigError, match="something runs"):
        state.load(FASHION_CNN)
    state.cancel()
    assert finished(state).status == CANCELLED and isinstance(state.error, Cancelled), "the run is still under way"
    state.start()
    wait_until(lambda: any(phase.name == WAITING for phase in state.phases), "the next run waits")
    assert gate.runs == 1
    gate.open.set()
    assert finished(state).status == DONE and state.study is not None


def test_cancel_reaches_real_runs(home: Path, tmp_path: Path) -> None:
    state = quick(small(tmp_path / "net.onnx"))
    state.iterations, state.limit, state.chosen = "1000000", "600", (PLAIN,)
    state.start()
    wait_until(lambda: any(phase.name == "Timing" for phase in state.phases), "it measures")
    state.cancel()
    assert finished(state).status == CANCELLED and state.study is None


def test_work_that_is_left_behind_is_waited_for_by_the_next() -> None:
    aside, first, cancel = Aside(), threading.Event(), threading.Event()
    order: list[str] = []

    def long() -> None:
        assert first.wait(PATIENCE_S)
        order.append("first")

    cancel.set()
    with pytest.raises(Cancelled):
        aside.run(long, cancel)  # was not even begun
    assert not aside.is_occupied
    cancel.clear()
    threading.Timer(0.05, cancel.set).start()
    with pytest.raises(Cancelled):
        aside.run(long, cancel)
    assert aside.is_occupied and not order
    threading.Timer(0.05, first.set).start()
    assert aside.run(lambda: order.append("second") or "found", threading.Event()) == "found"
    assert order == ["first", "second"] and not aside.is_occupied
    with pytest.raises(ZeroDivisionError):
        aside.run(lambda: 1 // 0, threading.Event())


# ---- what is shown


def test_the_recording_of_the_same_content_stands_beside_by_itself(home: Path) -> None:
    state = quick(load_model(FASHION_CNN))
    assert state.recording is not None and (state.recording.model, state.recording.note) == ("fashion_cnn", "")
    assert {item.model for item in state.recordings} >= {"fashion_cnn", "resnet18"}
    (other,) = (item.key for item in state.recordings if item.model == "resnet18")
    state.recorded = other
    assert "another model, resnet18" in state.recording.note and "resnet18" in state.shown().label
    state.load(OCR_DET)
    assert state.recorded == "" and state.recording is None and state.latency().recorded == ()


def test_before_the_first_run_every_section_shows_what_was_recorded_or_says_what_to_do(home: Path) -> None:
    state = quick(load_model(FASHION_CNN))
    for section in SECTIONS:
        state.section = section
        shown = state.picture()
        assert bool(shown.empty) == (section == OUTPUTS)
    state.recorded = ""
    for section in SECTIONS:
        state.section = section
        assert "click Run" in state.picture().empty


def test_sections_have_views_and_a_view_belongs_to_its_section(state: TimingState) -> None:
    state.give({"again": plain_session(state.model)}, None)
    state.choose(PLAIN, True)
    measured(state)
    assert [item.stem for item in state.views()] == ["medians", "distribution"]
    state.view = "distribution"
    assert state.picture().stem == "distribution"
    state.section = OUTPUTS
    assert state.view == "" and state.picture().stem == "outputs-scores"
    state.section = THROUGHPUT
    assert "No batches were swept" in state.picture().empty


def test_layers_of_two_engines_lie_side_by_side_recorded_ones_too(home: Path) -> None:
    state = quick(load_model(FASHION_CNN))
    state.section = LAYERS
    before = state.sides
    assert all(name.startswith("recorded") and name.endswith("batch 32") for name in before)
    state.choose(FP16, True)
    measured(state)
    assert state.sides == (FP32, FP16)
    sources = state.layer_sources()
    assert "nobody tells its layers" in sources[PLAIN] and sources[FP32] == ""
    state.before, state.after = "recorded fp32, batch 32", "recorded int8 (entropy), batch 32"
    heads = state.picture().sheet.heads
    assert heads[1:] == (f"{state.before} ms", f"{state.after} ms")
    assert state.shown().layers == state.shown().layers, "opened once"
    state.before = PLAIN
    assert state.sides[0] == FP32, "whose layers nobody tells is not shown"


def test_another_model_forgets_what_was_measured(state: TimingState, tmp_path: Path) -> None:
    state.chosen = (PLAIN,)
    measured(state)
    state.take(small(tmp_path / "other.onnx", seed=1))
    assert state.study is None and state.status == IDLE and state.phases == []


# ---- files


def test_files_are_numbered_and_none_is_replaced(
    state: TimingState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state.chosen = (PLAIN,)
    measured(state)
    (tmp_path / "net-medians.csv").write_text("mine")
    state.export("csv")
    state.export("csv")
    assert state.exported == (str(tmp_path / "net-medians-3.csv"),) and not state.export_error
    assert (tmp_path / "net-medians.csv").read_text() == "mine"
    rows = (tmp_path / "net-medians-2.csv").read_text().splitlines()
    assert rows[0].startswith(",clock,median ms") and rows[0].endswith(",measured") and len(rows) == 2
    assert rows[1].startswith(f"{PLAIN},") and rows[1].endswith(",here")
    state.view = "distribution"
    assert state.exported == (), "what was written before is told no more"
    for form, start in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        state.export(form)
        (path,) = state.exported
        assert Path(path).name == f"net-distribution.{form}" and Path(path).read_bytes().startswith(start)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_cannot_be_written_is_told(state: TimingState, tmp_path: Path) -> None:
    state.recorded, state.chosen = "", (PLAIN,)
    state.export("png")
    assert "click Run" in state.export_error and state.exported == ()
    picture = measured(state).picture()
    (tmp_path / "file").write_text("no folder")
    for form in FORMS:
        with pytest.raises(ConfigError, match=r"net-medians.*cannot be written"):
            export(picture, form, "net", tmp_path / "file")
    with pytest.raises(ConfigError, match="as CSV"):
        export(replace(picture, plots=()), "png", "net", tmp_path)


@pytest.mark.parametrize(
    ("model", "stem"),
    [("../up", "_up"), ("a b\0c", "a_b_c"), ("..", "model"), ("x" * 300, "x" * 80), ("ü-1.2", "ü-1.2")],
)
def test_a_models_name_makes_a_plain_file_name(tmp_path: Path, model: str, stem: str) -> None:
    picture = Picture("medians", "medians", (), Sheet(("name",), (("a",),)))
    (path,) = export(picture, "csv", model, tmp_path)
    assert path == tmp_path / f"{stem}-medians.csv"


# ---- the same as code


def run_python(code: str, home: Path) -> str:
    quick = code.replace("iterations=20", "iterations=5").replace("seconds=0.5", "seconds=0.05")
    done = subprocess.run([sys.executable, "-c", quick], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_code_does_the_same(home: Path, tmp_path: Path) -> None:
    state = quick(load_model(FASHION_CNN))
    mixed = BuilderOptions(layer_precisions={"/classifier/Gemm": "fp32"})
    stored = build(state.model, BuildConfig("fp16", builder=mixed), "onnxruntime").engine
    state.offer_again()
    (name,) = (item.name for item in state.offered if item.engine == stored.key)
    state.choose(name, True)
    state.reference, state.batches, state.data, state.count = PLAIN, "1, 2", str(FASHION), "20"
    told = run_python(state.code()["Python"], home)
    assert all(name in told for name in state.chosen) and f"against {PLAIN}" in told
    assert "20 samples" in told and "batch 2, 1 streams" in told


def test_the_command_line_does_the_same(state: TimingState, capsys: pytest.CaptureFixture[str]) -> None:
    state.chosen, state.reference = (FP32, FP16), FP16
    (line,) = state.code()["Command line"].splitlines()
    words = shlex.split(line)
    assert words[:2] == ["workbench", "compare"] and words.index("onnxruntime:fp16") < words.index("onnxruntime:fp32")
    assert words[-4:] == ["--iterations", "20", "--limit-s", "20"]
    assert main(words[1:]) == 0
    state.chosen, state.limit = (FP32,), ""
    (bench,) = state.code()["Command line"].splitlines()
    assert "--limit-s" not in bench and main(shlex.split(bench)[1:]) == 0
    assert "20 runs" in capsys.readouterr().out
    state.chosen = (PLAIN,)
    assert state.code()["Command line"] == f"# {PLAIN}: as in Python"


def test_one_line_compares_all_that_the_command_knows(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(FASHION_CNN)
    save_collection(collect(model, open_samples(FASHION, model), count=8), tmp_path / "net.calib")
    state = quick(model)
    state.give({"mine": baseline(lambda feeds: {"y": feeds["image"]})}, None)
    state.calibration = str(tmp_path / "net.calib")
    state.chosen, state.reference = (FP32, FP16, INT8, PLAIN, "mine"), PLAIN
    line, comment = state.code()["Command line"].splitlines()
    words = shlex.split(line)
    assert words[3:7] == ["plain", "onnxruntime:fp32", "onnxruntime:fp16", "onnxruntime:int8"]
    assert words[words.index("--calibration") + 1] == str(tmp_path / "net.calib")
    assert comment == "# mine: as in Python"
    assert main([*words[1:], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["reference"] == "plain" and len(told["contestants"]) == 4 and not told["failures"]
    state.chosen = (FP32, PLAIN)
    assert "--calibration" not in state.code()["Command line"]


def test_code_leaves_a_place_for_what_the_notebook_gave(state: TimingState) -> None:
    state.give({"it's mine\n": baseline(lambda feeds: feeds["x"])}, {"x": np.zeros((1, 3, 8, 8), np.float32)})
    code = state.code()
    assert '"it\'s mine\\n": ...,  # yours' in code["Python"] and "feeds = ...  # yours" in code["Python"]
    compile(code["Python"], "code", "exec")
    assert code["Command line"] == "# it's mine: as in Python"


def test_the_board_shows_a_run_from_its_state_alone(home: Path, tmp_path: Path) -> None:
    board = TimingBoard(small(tmp_path / "net.onnx"), store=EngineStore(tmp_path / "store"))
    board.state.iterations, board.state.limit, board.state.batches = "20", "0.2", ""
    board.state.chosen = (PLAIN,)
    assert measured(board.state).study is board.study and board.study is not None
    (row,) = History(tmp_path / "store").list()
    assert row.study == board.study.id and History().list() == (), "its store has a history of its own"
