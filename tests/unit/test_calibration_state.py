"""CalibrationState and CalibrationStudio without a browser: set a trait, assert a trait."""

from __future__ import annotations

import io
import lzma
import shlex
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_widgets import find, in_order, texts
from models import FASHION_CNN, RELU, save
from PIL import Image

from workbench.calibration.collect import COLLECTING as PHASE
from workbench.calibration.collect import collect
from workbench.calibration.collection import Collection, load_collection, save_collection
from workbench.calibration.histograms import Counter, Histogram
from workbench.calibration.samples import open_samples
from workbench.calibration.table import read_table
from workbench.calibration.thresholds import COMPUTED, thresholds
from workbench.cli import main
from workbench.errors import Cancelled, ConfigError
from workbench.model import Model, load_model
from workbench.preprocessing import Preprocessing, apply
from workbench.types import Calibration, Progress
from workbench.widgets import CalibrationStudio, render_calibration
from workbench.widgets.calibration_state import COLLECTING, CalibrationState
from workbench.widgets.preprocessing_fields import fields_of, read_fields
from workbench.widgets.preview import pixels
from workbench.widgets.range_state import PAGE, RangeState
from workbench.widgets.render_histogram import bars_of, histogram_svg
from workbench.widgets.tensor_ranges import TensorRanges
from workbench.widgets.tensor_table import share, shown_row, small_bars
from workbench.widgets.work_state import CANCELLED, DONE, FAILED
from workbench.widgets.write_state import FORMS

FASHION = Path(__file__).parents[2] / "data" / "fashion_mnist_test"
STEM = "/stem/relu/Relu_output_0"


@pytest.fixture
def state() -> CalibrationState:
    state = CalibrationState()
    state.load(FASHION_CNN)
    state.open_data(FASHION)
    state.count = "24"
    return state


@pytest.fixture
def collected(state: CalibrationState, fashion: Collection) -> CalibrationState:
    state._take_collection(fashion)
    return state


@pytest.fixture(scope="module")
def fashion() -> Collection:
    model = load_model(FASHION_CNN)
    return collect(model, open_samples(FASHION, model), count=24)


def finish(work: object) -> None:
    assert work.wait(60)  # type: ignore[attr-defined]


# ---- data


def test_the_first_pictures_are_shown_as_they_are_fed(state: CalibrationState) -> None:
    assert [item.label for item in state.shown] == [9, 5, 3, 2, 7, 0]
    content = lzma.decompress((FASHION / "t10k-images-idx3-ubyte.xz").read_bytes())
    first = np.frombuffer(content, np.uint8, 28 * 28, 16).reshape(28, 28)
    picture = np.asarray(Image.open(io.BytesIO(state.shown[0].png)))
    assert picture.shape == (28, 28, 3) and all((picture[..., channel] == first).all() for channel in range(3))
    (values,) = state.shown[0].values
    assert (values.name, values.shape, values.low, values.high) == ("image", (1, 1, 28, 28), 0.0, 1.0)


@pytest.mark.parametrize(
    "how",
    [
        Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        Preprocessing(channels="BGR", layout="NHWC", scale=1.0, mean=(103.0, 116.0, 123.0)),
        Preprocessing(mean=(0.5,), std=(0.5,)),
    ],
)
def test_what_preprocessing_did_is_undone_to_the_pixel(how: Preprocessing) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    assert (pixels(how, apply(how, picture)) == picture).all()


def test_fields_show_what_was_found_and_change_it(state: CalibrationState) -> None:
    assert state.fields["size"] == "28x28" and state.fields["scale"] == "1/255" and state.fields["channels"] == "GRAY"
    assert state.stated is None
    state.edit_field("mean", "0.5")
    state.edit_field("std", "0.25")
    assert state.stated is not None and (state.stated.mean, state.stated.std) == ((0.5,), (0.25,))
    assert (state.shown[0].values[0].low, state.shown[0].values[0].high) == (-2.0, 2.0)
    state.as_found()
    assert state.stated is None and state.fields["mean"] == "0"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("scale", "abc", "scale: 'abc' is not a number"),
        ("size", "28", "write height x width"),
        ("size", "32x32", "another size"),
        ("channels", "RGB", "1 channels"),
        ("std", "0", "divides by nothing"),
        ("mean", " ", "one number for each channel"),
        ("resize_to", "-3", "no number of pixels"),
    ],
)
def test_a_mistake_in_a_field_is_told_and_nothing_can_be_collected(
    state: CalibrationState, name: str, text: str, said: str
) -> None:
    state.edit_field(name, text)
    assert said in state.field_error and said in state.problem()
    assert state.samples is None and state.code() == {}
    assert state.fields[name] == text
    state.as_found()
    assert (state.field_error, state.problem()) == ("", "")


@pytest.mark.parametrize(
    "how",
    [
        Preprocessing(),
        Preprocessing(size=(224, 200), resize="shorter", resize_to=256, scale=0.0173, mean=(1.5, 2.25, 0.1)),
        Preprocessing(channels="BGR", layout="NHWC", interpolation="area", multiple_of=32, pad=114),
    ],
)
def test_unchanged_fields_give_the_same_preprocessing(how: Preprocessing) -> None:
    assert read_fields(fields_of(how), how) == how
    changed = read_fields({**fields_of(how), "scale": "1/127.5"}, how)
    assert changed == replace(how, scale=1 / 127.5)


def test_arrays_show_their_figures(tmp_path: Path) -> None:
    state = CalibrationState()
    state.load(save(tmp_path / "relu.onnx", RELU))
    state.open_data({"x": np.arange(40, dtype=np.float32).reshape(10, 4)})
    assert state.problem() == "" and state.fields == {} and state.data == ""
    assert state.shown[0].png == b"" and state.shown[0].values[0].high == 3.0
    state.start()
    finish(state)
    assert state.collection is not None and state.collection.histogram("x").maximum == 39.0


def test_samples_from_a_generator_are_kept_for_another_model(tmp_path: Path) -> None:
    state = CalibrationState()
    state.load(save(tmp_path / "one.onnx", RELU))
    state.open_data({"x": np.full((1, 4), index, np.float32)} for index in range(3))
    state.load(save(tmp_path / "two.onnx", RELU.replace("Relu", "Tanh")))
    assert state.samples is not None and len(state.samples) == 3


def test_data_that_cannot_be_read_or_do_not_fit_are_told(state: CalibrationState, tmp_path: Path) -> None:
    state.open_data(tmp_path / "missing")
    assert "missing" in state.data_error and state.problem() == state.data_error
    assert state.samples is None and state.shown == ()
    np.save(tmp_path / "wrong.npy", np.zeros((3, 2), np.float32))
    state.open_data(tmp_path / "wrong.npy")
    assert "cannot be fed" in state.data_error
    state.open_data("")
    assert (state.data_error, state.problem()) == ("", "Name data first.")


def test_another_model_opens_the_data_anew(state: CalibrationState, tmp_path: Path) -> None:
    state.load(save(tmp_path / "relu.onnx", RELU))
    assert state.samples is None and "takes no pictures" in state.data_error
    state.load(FASHION_CNN)
    assert state.problem() == "" and len(state.shown) == 6


@pytest.mark.parametrize("text", ["x", "0", "-1", "1.5"])
def test_a_count_that_is_none_is_told(state: CalibrationState, text: str) -> None:
    state.count = text
    assert "no number of samples" in state.problem()
    state.start()
    assert not state.busy


# ---- collecting


def test_what_is_collected_is_what_collect_gives(state: CalibrationState, fashion: Collection) -> None:
    state.start()
    finish(state)
    assert state.status == DONE and state.collection is not None
    assert state.collection.samples == fashion.samples
    for name in fashion.histograms:
        assert (state.collection.histogram(name).counts == fashion.histogram(name).counts).all()
    assert state.ranges.collection is state.collection and state.ranges.selected == "image"
    assert not state.can_resume


def test_a_stopped_run_goes_on_where_it_was(state: CalibrationState) -> None:
    state.count, state.until_settled = "1000", False
    reached = threading.Event()
    state.observe(lambda change: reached.set() if state.phases and state.phases[0].done else None, "changed")
    state.start()
    assert reached.wait(60)
    state.cancel()
    finish(state)
    assert state.status == CANCELLED and isinstance(state.error, Cancelled) and state.can_resume
    assert state.collection is None
    state.start()
    finish(state)
    assert state.status == DONE and state.collection is not None and len(state.collection.samples) == 1000
    assert any("were collected before" in line.text for line in state.log) and not state.can_resume


def test_the_time_left_follows_from_the_samples_of_this_run(state: CalibrationState) -> None:
    now = [0.0]
    state._clock = lambda: now[0]
    state.status = COLLECTING
    state._listen(Progress(PHASE, 4, 20))  # taken up from an earlier run
    assert state.time_left_s is None
    now[0] = 3.0
    state._listen(Progress(PHASE, 10, 20))
    assert state.time_left_s == 5.0
    state.status = DONE
    assert state.time_left_s is None


def test_a_collection_is_opened_in_place_of_data(state: CalibrationState, fashion: Collection, tmp_path: Path) -> None:
    path = save_collection(fashion, tmp_path / "made.calib")
    state.open_data(path)
    assert state.collection is not None and state.opened == str(path) and state.samples is None
    assert state.ranges.tensors == fashion.tensors
    state.open_data(FASHION)
    assert state.collection is None and state.opened == "" and state.samples is not None


def test_a_collection_of_another_model_is_refused(fashion: Collection, tmp_path: Path) -> None:
    path = save_collection(fashion, tmp_path / "made.calib")
    state = CalibrationState()
    state.load(save(tmp_path / "relu.onnx", RELU))
    state.open_data(path)
    assert state.collection is None and "another model (fashion_cnn" in state.data_error


def test_other_data_or_another_preprocessing_forget_what_was_collected(collected: CalibrationState) -> None:
    collected.ranges.override(STEM, "mse")
    collected.edit_field("mean", "0.5")
    assert collected.collection is None and collected.ranges.tensors == () and collected.ranges.overrides == {}


def test_a_slip_in_the_form_forgets_nothing(state: CalibrationState, tmp_path: Path) -> None:
    state.start()
    finish(state)
    found = state.collection
    assert found is not None
    state.edit_field("mean", "half")
    assert state.samples is None and state.collection is found and state.ranges.tensors
    state.edit_field("mean", "0")
    state.open_data(tmp_path / "none")
    assert state.data_error and state.collection is found
    state.open_data(FASHION)
    assert state.samples is not None and state.collection is found, "the same data again"
    state.edit_field("mean", "0.25")
    assert state.collection is None


def test_a_start_that_fails_leaves_what_was_collected_before(fashion: Collection, tmp_path: Path) -> None:
    path = tmp_path / "fashion_cnn.onnx"
    path.write_bytes(FASHION_CNN.read_bytes())
    studio = CalibrationStudio(path, FASHION)
    studio.state._take_collection(fashion)
    path.unlink()
    find(studio, "Collect").click()
    assert studio.state.status == FAILED and studio.collection is fashion and "there is no such file" in texts(studio)
    assert in_order(studio, "The result from before stands below", "data-samples")


def test_nothing_is_changed_while_something_runs(state: CalibrationState) -> None:
    state.count, state.until_settled = "", False
    state.start()
    with pytest.raises(ConfigError, match="something runs already"):
        state.open_data("")
    with pytest.raises(ConfigError, match="something runs already"):
        state.load(FASHION_CNN)
    state.cancel()
    finish(state)


# ---- ranges


@pytest.mark.parametrize("algorithm", COMPUTED)
def test_the_table_is_what_thresholds_gives(collected: CalibrationState, fashion: Collection, algorithm: str) -> None:
    collected.ranges.choose(algorithm)
    collected.ranges.override(STEM, "percentile")
    expected = thresholds(fashion, algorithm, overrides={STEM: "percentile"})
    assert dict(collected.ranges.table().amax) == dict(expected.amax)


def test_the_algorithm_of_all_takes_back_one_of_its_own(collected: CalibrationState) -> None:
    ranges = collected.ranges
    ranges.override(STEM, "minmax")
    assert ranges.overrides == {STEM: "minmax"} and ranges.algorithm_of(STEM) == "minmax"
    ranges.override(STEM, "entropy")
    assert ranges.overrides == {}
    ranges.override(STEM, "mse")
    ranges.override("image", "mse")
    ranges.reset()
    assert ranges.overrides == {} and ranges.algorithm_of(STEM) == "entropy"


@pytest.mark.parametrize(("tensor", "algorithm"), [("nothing", "mse"), (STEM, "legacy")])
def test_a_tensor_or_algorithm_that_is_not_there_is_refused(
    collected: CalibrationState, tensor: str, algorithm: str
) -> None:
    with pytest.raises(ConfigError, match=tensor if tensor == "nothing" else algorithm):
        collected.ranges.override(tensor, algorithm)
    assert collected.ranges.overrides == {}


def test_tensors_are_sorted_by_clipping_and_by_error(collected: CalibrationState) -> None:
    ranges = collected.ranges
    finish(ranges)
    in_order = [row.tensor for row in ranges.rows()]
    assert in_order == list(ranges.tensors)
    for order in ("clipped", "error"):
        ranges.order = order
        values = [getattr(row.chosen, order) for row in ranges.rows()]
        assert values == sorted(values, reverse=True) and values[0] > values[-1]
    ranges.order = "model"
    assert [row.tensor for row in ranges.rows()] == in_order


def test_the_largest_value_alone_is_never_called_clipped(collected: CalibrationState) -> None:
    limits = {item.algorithm: item for item in collected.ranges.thresholds()}
    assert collected.ranges.selected == "image" and limits["minmax"].amax == 1.0
    assert limits["minmax"].clipped == 0


def test_words_choose_by_tensor_node_and_operator(collected: CalibrationState) -> None:
    ranges = collected.ranges
    ranges.words = "STEM conv"
    assert {row.node for row in ranges.rows()} == {"/stem/conv/Conv"}
    ranges.words = "no such thing"
    assert ranges.rows() == [] and ranges.matching == 0 and ranges.pages == 1


# ---- 2,000 tensors


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Collection, Model]:
    """Tensors of four different histograms each."""
    count = 2000
    body = " ".join(f"[n{i}] t{i + 1} = Relu(t{i})" for i in range(count - 1))
    path = save(
        tmp_path_factory.mktemp("large") / "large.onnx", f"(float[n,4] t0) => (float[n,4] t{count - 1}) {{ {body} }}"
    )
    generator = np.random.default_rng(0)
    kinds = [_histogram(generator.standard_normal(5000) * scale) for scale in (0.1, 1.0, 3.0, 40.0)]
    model = load_model(path)
    return Collection("large", model.sha256, {f"t{i}": kinds[i % 4] for i in range(count)}), model


def _histogram(values: np.ndarray) -> Histogram:
    counter = Counter()
    counter.add(values)
    return counter.histogram()


def test_2000_tensors_come_in_pages_of_50_and_are_all_found_in_the_background(
    large: tuple[Collection, Model],
) -> None:
    ranges = RangeState()
    ranges.take(*large)
    assert len(ranges.rows()) == PAGE and ranges.pages == 40
    ranges.turn(1)
    assert [row.tensor for row in ranges.rows()][:2] == ["t50", "t51"]
    ranges.turn(100)
    assert ranges.page == 39 and ranges.rows()[-1].tensor == "t1999"
    finish(ranges)
    assert ranges.is_complete
    ranges.order = "error"
    assert ranges.page == 0 and ranges.rows()[0].chosen.error == max(
        ranges._row(name).chosen.error for name in ranges.tensors
    )


def test_selecting_finds_the_ranges_of_that_tensor_alone(large: tuple[Collection, Model]) -> None:
    found = TensorRanges(*large)
    found.thresholds("t7")
    known = [
        (name, algorithm) for name in large[0].tensors for algorithm in COMPUTED if found.is_known(name, algorithm)
    ]
    assert known == [("t7", algorithm) for algorithm in COMPUTED]


def test_an_algorithm_that_is_switched_again_stops_the_search_for_the_one_before(
    large: tuple[Collection, Model],
) -> None:
    ranges = RangeState()
    ranges.take(*large)
    ranges.choose("mse")
    first = ranges._job
    ranges.choose("minmax")
    assert first is not None and first.wait(30)
    finish(ranges)
    assert ranges.is_complete and not all(ranges._ranges.is_known(name, "mse") for name in ranges.tensors)  # type: ignore[union-attr]


# ---- histograms


def test_bars_hold_every_value_once(fashion: Collection) -> None:
    for name in fashion.tensors:
        histogram = fashion.histogram(name)
        linear, log = bars_of(histogram), bars_of(histogram, log_values=True)
        assert linear.counts.sum() == histogram.elements and len(linear.counts) <= 128
        assert log.counts.sum() == histogram.elements - histogram.magnitudes[0] and len(log.counts) <= 128
        for bars in (linear, log):
            assert len(bars.edges) == len(bars.counts) + 1 and (np.diff(bars.edges) > 0).all()


@pytest.mark.parametrize(
    "values", [np.zeros(5), np.array([3.0]), np.array([1e-30, 1e30]), np.array([np.nan]), np.ones(0)]
)
@pytest.mark.parametrize("log", [False, True])
def test_odd_histograms_can_be_drawn(values: np.ndarray, log: bool, tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "relu.onnx", RELU))
    histogram = _histogram(values)
    ranges = TensorRanges(Collection("relu", model.sha256, {"x": histogram}), model)
    drawn = histogram_svg(histogram, ranges.thresholds("x"), "entropy", log_counts=log, log_values=log)
    assert "nan" not in drawn and "inf" not in drawn
    assert drawn.count("data-algorithm") == (4 if np.isfinite(values).any() else 0)
    assert all(0 <= height <= 100 for height in small_bars(histogram))
    assert shown_row(ranges.row("x", "mse"), histogram, "entropy")["own"] == "mse"


def test_every_algorithm_has_a_line_and_the_chosen_one_is_marked(collected: CalibrationState) -> None:
    ranges = collected.ranges
    ranges.selected = STEM
    histogram = collected.collection.histogram(STEM)  # type: ignore[union-attr]
    drawn = histogram_svg(histogram, ranges.thresholds(), "percentile")
    assert drawn.count("<g class='wb-limit") == 4
    assert "<g class='wb-limit wb-on' data-algorithm='percentile'>" in drawn
    without = histogram_svg(histogram, ranges.thresholds(), "minmax")
    assert "class='wb-beyond' d='M" in drawn and "class='wb-beyond' d='M" not in without


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0 %"), (1.0, "100 %"), (0.0123, "1.23 %"), (0.00001, "0.001 %"), (0.5, "50.00 %")]
)
def test_shares_are_told_in_percent(value: float, text: str) -> None:
    assert share(value) == text


# ---- writing


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_ranges_that_are_chosen(
    collected: CalibrationState, fashion: Collection, tmp_path: Path, form: str
) -> None:
    collected.ranges.override(STEM, "percentile")
    writer = collected.writer
    writer.form, writer.path = form, str(tmp_path / "new" / "file")
    if form == "qdq":
        writer.path += ".onnx"
    writer.start()
    finish(writer)
    assert writer.status == DONE and writer.written is not None, writer.error
    path = writer.written.path
    if form == "collection":
        assert load_collection(path).samples == fashion.samples
        return
    wanted, read = collected.ranges.table().amax, read_table(path).amax
    assert read.keys() <= wanted.keys() and len(read) > 5
    for name, amax in read.items():
        assert amax == pytest.approx(wanted[name], rel=1e-5)


def test_a_path_is_proposed_for_every_form(collected: CalibrationState) -> None:
    proposed = set()
    for form in FORMS:
        collected.writer.form = form
        assert collected.writer.target == Path.cwd() / collected.writer.proposed
        proposed.add(collected.writer.proposed)
    assert len(proposed) == len(FORMS) and "fashion_cnn.calib" in proposed


def test_the_release_stands_in_the_cache_and_a_wrong_one_is_refused(
    collected: CalibrationState, tmp_path: Path
) -> None:
    writer = collected.writer
    writer.form, writer.path, writer.release = "trt-cache", str(tmp_path / "cache"), "10.3.0"
    writer.start()
    finish(writer)
    assert (tmp_path / "cache").read_text().startswith("TRT-100300-")
    writer.release = "new"
    assert "no release of TensorRT" in writer.problem()
    writer.form = "ranges"
    assert writer.problem() == ""


def test_the_model_is_never_overwritten(collected: CalibrationState) -> None:
    before = FASHION_CNN.read_bytes()
    for form in FORMS:
        collected.writer.form = form
        collected.writer.path = str(FASHION_CNN)
        assert "the model itself" in collected.writer.problem()
        collected.writer.start()
        finish(collected.writer)
    assert FASHION_CNN.read_bytes() == before


def test_a_file_that_cannot_be_written_is_told(collected: CalibrationState, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    collected.writer.form, collected.writer.path = "ranges", str(tmp_path / "file" / "below")
    collected.writer.start()
    finish(collected.writer)
    assert collected.writer.status == FAILED and "cannot be written" in str(collected.writer.error)
    collected.writer.path = str(tmp_path / "made.txt")
    collected.writer.start()
    finish(collected.writer)
    collected.writer.path = str(tmp_path / "file" / "below")
    collected.writer.start()
    finish(collected.writer)
    assert collected.writer.status == FAILED and collected.calibration.path == str(tmp_path / "made.txt")


def test_nothing_is_written_before_it_is_collected(state: CalibrationState) -> None:
    assert "Collect first" in state.writer.problem()
    state.writer.start()
    assert state.writer.written is None
    with pytest.raises(ConfigError, match="nothing was written"):
        _ = state.calibration


def test_the_calibration_is_what_was_written_last(collected: CalibrationState, tmp_path: Path) -> None:
    writer = collected.writer
    writer.path = str(tmp_path / "made.calib")
    writer.start()
    finish(writer)
    collected.ranges.choose("mse")
    assert collected.calibration == Calibration(str(tmp_path / "made.calib"), "mse")
    collected.ranges.override(STEM, "minmax")
    with pytest.raises(ConfigError, match="write a table"):
        _ = collected.calibration
    writer.form = "ranges"
    writer.path = str(tmp_path / "made.txt")
    writer.start()
    finish(writer)
    assert collected.calibration == Calibration(str(tmp_path / "made.txt"))
    collected.ranges.reset()
    assert writer.is_stale
    with pytest.raises(ConfigError, match="other ranges"):
        _ = collected.calibration


# ---- what int8 costs


def test_layers_are_measured_planned_and_judged_on_samples_that_were_not_collected(
    collected: CalibrationState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checks = collected.checks
    checks.layer_count, checks.plan_count, checks.accuracy_count = "8", "16", "24"
    checks.max_drop, checks.metric = "2.5", "relative"
    checks.search()
    finish(checks)
    assert checks.status == DONE and checks.plan is not None and checks.layers is not None, checks.error
    assert checks.layers.finished and checks.plan.keep and checks.plan.after.count == 16
    checks.judge()
    finish(checks)
    accuracy = checks.accuracy
    assert accuracy is not None and accuracy.planned is not None
    assert (accuracy.warning, accuracy.plain.count, accuracy.keep) == ("", 24, checks.plan.keep)
    assert accuracy.planned.drop("relative").value < accuracy.plain.drop("relative").value
    html = render_calibration.accuracy_table(accuracy)
    assert "FP32" in html and "top-1 lost" in html and html.count("<tr>") == 4
    assert "gain from int8" in checks.gain and "data-steps" in render_calibration.harm_bars(checks.layers, ())
    assert not set(accuracy.plain.digests) & {*checks.layers.digests, *checks.plan.before.digests}

    assert f"layer_precisions={dict.fromkeys(checks.plan.keep, 'fp16')!r}" in collected.code()["Python"]
    assert f"--layer-precision={checks.plan.keep[0]}=fp16" in collected.code()["Command line"]
    collected.writer.form, collected.writer.path = "qdq", str(tmp_path / "planned.onnx")
    collected.writer.start()
    finish(collected.writer)
    quantized = load_model(tmp_path / "planned.onnx")
    kept = {name for node in quantized.nodes if node.name in checks.plan.keep for name in node.input}
    assert kept and not any("Dequantize" in name for name in kept)
    assert collected.writer.written is not None and collected.writer.written.keep == checks.plan.keep
    assert "layer_precisions" not in collected.code()["Python"]
    expected = _content(tmp_path / "planned.onnx")
    assert _what_the_python_code_makes(collected, tmp_path) == expected


def test_the_same_pictures_in_both_are_warned_of(collected: CalibrationState, tmp_path: Path) -> None:
    samples, used = collected.samples, collected.collection.samples  # type: ignore[union-attr]
    feeds = [samples.read(index).feeds["image"] for index in range(0, 10_000, 417) if samples.id_of(index) in used]
    assert feeds
    np.savez(tmp_path / "same.npz", image=np.concatenate(feeds * 2))
    collected.checks.data = str(tmp_path / "same.npz")
    collected.checks.judge()
    finish(collected.checks)
    assert collected.checks.accuracy is not None, collected.checks.error
    html = render_calibration.accuracy_table(collected.checks.accuracy)
    assert "FP32" not in html and "lost" not in html and "role='alert'" in html
    assert "served for calibration too" in collected.checks.accuracy.warning


def test_what_was_measured_before_a_stop_is_kept_and_not_measured_again(collected: CalibrationState) -> None:
    checks = collected.checks
    checks.layer_count = "64"
    checks.observe(lambda change: checks.cancel(), "layers")
    checks.measure()
    finish(checks)
    assert checks.status == CANCELLED and checks.layers is not None and not checks.layers.finished
    measured = checks.layers.layers
    assert measured
    checks.unobserve_all("layers")
    checks.measure()
    finish(checks)
    assert checks.status == DONE and checks.layers.finished and len(checks.layers.layers) > len(measured)
    assert any(f"{len(measured)} of" in line.text and "measured before" in line.text for line in checks.log)


def test_other_ranges_make_what_was_measured_stale(collected: CalibrationState) -> None:
    checks = collected.checks
    checks.layer_count = "4"
    checks.measure()
    finish(checks)
    assert checks.layers is not None and not checks.is_stale
    collected.ranges.choose("mse")
    assert checks.is_stale
    checks.measure()
    finish(checks)
    assert not checks.is_stale


@pytest.mark.parametrize(
    ("trait", "text", "said"),
    [
        ("max_drop", "much", "is no loss"),
        ("max_drop", "-1", "is no loss"),
        ("layer_count", "x", "no number of samples"),
    ],
)
def test_a_mistake_among_the_numbers_is_told(collected: CalibrationState, trait: str, text: str, said: str) -> None:
    setattr(collected.checks, trait, text)
    assert said in collected.checks.problem()
    collected.checks.measure()
    assert not collected.checks.busy


def test_samples_that_are_not_there_are_told(collected: CalibrationState, tmp_path: Path) -> None:
    collected.checks.data = str(tmp_path / "missing")
    collected.checks.judge()
    finish(collected.checks)
    assert collected.checks.status == FAILED and "missing" in str(collected.checks.error)


# ---- code


@pytest.mark.parametrize("form", FORMS)
def test_the_python_code_makes_the_same_file(
    collected: CalibrationState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if form != "collection":
        collected.ranges.override(STEM, "minmax")
    collected.writer.form = form
    collected.writer.start()
    finish(collected.writer)
    written = collected.writer.written
    assert written is not None
    expected = _content(written.path)
    assert _what_the_python_code_makes(collected, tmp_path) == expected


def _what_the_python_code_makes(state: CalibrationState, folder: Path) -> dict[str, bytes]:
    """In place of the file that was written last; the build is left out."""
    assert state.writer.written is not None
    path = state.writer.written.path
    _remove(path)
    lines = [line for line in state.code()["Python"].splitlines() if not line.startswith("built =")]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, cwd=folder)
    assert done.stderr == ""
    return _content(path)


def _content(path: Path) -> dict[str, bytes]:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in files}


def _remove(path: Path) -> None:
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        file.unlink()


def test_a_changed_preprocessing_stands_in_the_code(state: CalibrationState) -> None:
    state.edit_field("mean", "0.5")
    assert "Preprocessing(size=(28, 28), channels='GRAY', mean=(0.5,))" in state.code()["Python"]


@pytest.mark.parametrize("form", FORMS)
def test_the_command_lines_make_the_same_file(
    collected: CalibrationState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    collected.ranges.choose("percentile")
    collected.writer.form, collected.writer.release = form, "10.3"
    collected.writer.start()
    finish(collected.writer)
    written = collected.writer.written
    assert written is not None
    before = _content(written.path)
    _remove(written.path)
    *lines, build = map(shlex.split, collected.code()["Command line"].splitlines())
    assert build[:2] == ["workbench", "build"] and "int8" in build
    for program, *arguments in lines:
        assert program == "workbench" and main(arguments) == 0
    assert _content(written.path) == before


def test_a_changed_preprocessing_stands_in_the_command_line(
    state: CalibrationState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state.edit_field("mean", "-0.25")
    state.edit_field("scale", "1/127.5")
    program, *arguments = shlex.split(state.code()["Command line"].splitlines()[0])
    assert program == "workbench" and main(arguments) == 0
    assert load_collection("fashion_cnn.calib").preprocessing == state.stated


def test_the_code_is_there_while_something_runs(collected: CalibrationState) -> None:
    collected.writer.status = "writing"
    assert "Wait" in collected.problem() and "collect(model" in collected.code()["Python"]


def test_what_was_chosen_by_hand_is_told_to_be_in_the_file(
    collected: CalibrationState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    collected.ranges.override(STEM, "mse")
    collected.writer.form = "ranges"
    collected.writer.start()
    finish(collected.writer)
    lines = collected.code()["Command line"].splitlines()
    assert lines[1].startswith("# fashion_cnn.ranges.txt: with what was chosen")
    assert "--calibration fashion_cnn.ranges.txt" in lines[2] and "--calibrator" not in lines[2]


# ---- the view


def test_an_empty_studio_says_what_to_do_and_shows_no_results() -> None:
    studio = CalibrationStudio(FASHION_CNN)
    assert "Nothing was collected yet" in texts(studio)
    assert all(item.layout.display == "none" for item in studio._sections)
    assert find(studio, "Collect").disabled


def test_the_view_follows_the_state(fashion: Collection, tmp_path: Path) -> None:
    studio = CalibrationStudio(FASHION_CNN, FASHION)
    assert texts(studio).count("<img ") == 6 and not find(studio, "Collect").disabled
    studio.state._take_collection(fashion)
    assert all(item.layout.display == "" for item in studio._sections)
    assert studio.collection is fashion and "data-selected='image'" in texts(studio)
    studio.state.ranges.selected = STEM
    assert f"data-selected='{STEM}'" in texts(studio)
    studio.state.writer.form, studio.state.writer.path = "ranges", str(tmp_path / "made.txt")
    find(studio, "Write").click()
    finish(studio.state.writer)
    assert "data-written='ranges'" in texts(studio)
    find(studio, "Build with it").click()
    assert str(tmp_path / "made.txt") in texts(studio) and studio.calibration.path == str(tmp_path / "made.txt")


def test_the_form_is_locked_while_something_runs(collected: CalibrationState) -> None:
    studio = CalibrationStudio(FASHION_CNN, FASHION)
    studio.state.status = "collecting"
    assert all(control.disabled for control in studio._form)
    studio.state.status = DONE
    assert not any(control.disabled for control in studio._form)
    studio.state.checks.status = "measuring"
    assert all(control.disabled for control in studio._form)


def test_names_of_tensors_do_not_get_into_the_page_as_html(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>'"
    model = load_model(save(tmp_path / "relu.onnx", RELU))
    studio = CalibrationStudio(model)
    studio.state._take_collection(Collection("<b>net</b>", model.sha256, {name: _histogram(np.ones(3))}, data="<i>"))
    studio.state.ranges.override(name, "mse")
    assert "&lt;script" in texts(studio) and "<script" not in texts(studio) and "<b>net" not in texts(studio)
