"""What quantization costs, by numbers one can check by hand."""

import json
import math
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from models import FASHION_CNN, save

from workbench.calibration.samples import Batch, batches, open_samples, read_samples
from workbench.errors import Cancelled, ConfigError, FeedError
from workbench.evaluation import Evaluation, evaluate, evaluation_from_json, overlap
from workbench.model import load_model
from workbench.reference import Reference
from workbench.types import LogLine, Progress


class Answers:
    """A session that looks its outputs up: row x of a table for the input x."""

    def __init__(self, **tables: object) -> None:
        self._tables = {name: np.array(rows, np.float32) for name, rows in tables.items()}

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: rows[feeds["x"]] for name, rows in self._tables.items()}


def fed(count: int, labels: list[int] | None = None, size: int = 2) -> Iterator[Batch]:
    for start in range(0, count, size):
        rows = range(start, min(start + size, count))
        known = None if labels is None else np.array([labels[row] for row in rows], np.int64)
        names = tuple(f"picture {row}" for row in rows)
        yield Batch({"x": np.array(rows)}, known, names, tuple(f"{row:016x}" for row in rows))


RIGHT = [[2, 1, 0], [0, 2, 1], [1, 0, 2], [2, 1, 0], [0, 2, 1]]
CHANGED = [[2, 1, 0], [0, 1, 2], [1, 0, 2], [1, 2, 0], [0, 2, 1]]


def test_accuracy_counts_pictures_that_only_one_of_both_gets_right() -> None:
    result = evaluate(Answers(y=RIGHT), Answers(y=CHANGED), fed(5, [0, 1, 2, 1, 0]))
    assert result.top1 is not None
    assert (result.top1.reference.value, result.top1.other.value) == (60.0, 60.0)
    assert (result.top1.lost, result.top1.gained, result.top1.drop.value) == (1, 1, 0.0)
    assert result.top1.drop.low < 0 < result.top1.drop.high
    assert result.drop("argmax").value == pytest.approx(40.0)
    assert result.changed == ("picture 1", "picture 3")
    assert result.digests[4] == f"{4:016x}"


def test_without_labels_the_classes_of_both_are_compared() -> None:
    result = evaluate(Answers(y=RIGHT), Answers(y=CHANGED), fed(5))
    assert (result.top1, result.top5, result.metrics) == (None, None, ("argmax", "relative"))
    with pytest.raises(ConfigError, match="the pictures have no labels; choose one of argmax, relative"):
        result.drop("top1")


def test_top_5_takes_the_label_among_the_five_largest() -> None:
    values = [[6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1]]
    result = evaluate(Answers(y=values), Answers(y=[values[0], values[1][::-1]]), fed(2, [0, 0]))
    assert result.top1 is not None
    assert result.top5 is not None
    assert (result.top1.other.value, result.top5.other.value, result.top5.drop.value) == (50.0, 50.0, 50.0)
    assert evaluate(Answers(y=RIGHT), Answers(y=RIGHT), fed(5, [0] * 5)).top5 is None


def test_top_5_of_few_classes_is_told_as_what_it_is() -> None:
    result = evaluate(Answers(y=RIGHT), Answers(y=RIGHT), fed(5, [0] * 5))
    with pytest.raises(ConfigError, match="no more than five classes apart; choose one of top1, argmax, relative"):
        result.drop("top5")


def test_infinities_that_both_have_do_not_differ() -> None:
    masked = [[-math.inf, 3, 4], [math.inf, 3, 4]]
    same = evaluate(Answers(y=masked), Answers(y=masked), fed(2))
    assert (same.drop("relative").value, same.outputs[0].max_abs) == (0.0, 0.0)
    apart = evaluate(Answers(y=masked), Answers(y=[[-math.inf, 3, 9], [math.inf, 3, 4]]), fed(2)).outputs[0]
    assert apart.relative.value == pytest.approx(100 * 5 / math.sqrt(50)) and apart.max_abs == 5
    other = evaluate(Answers(y=masked), Answers(y=[[math.inf, 3, 4], [math.inf, 3, 4]]), fed(2))
    assert other.outputs[0].max_abs == math.inf


def test_an_output_of_texts_is_named(tmp_path: Path) -> None:
    graph = "(float[n] x) => (string[n] label) { label = Cast<to = 8>(x) }"
    session = Reference(load_model(save(tmp_path / "texts.onnx", graph)))
    batch = Batch({"x": np.ones(2, np.float32)}, None, ("a", "b"), ("a", "b"))
    with pytest.raises(FeedError, match="output label holds no numbers"):
        evaluate(session, session, [batch])


def test_of_equal_values_the_first_counts_as_in_argmax() -> None:
    result = evaluate(Answers(y=[[1, 1, 0]]), Answers(y=[[1, 1, 0]]), fed(1, [1]))
    assert result.top1 is not None
    assert result.top1.other.value == 0.0


def test_errors_are_taken_over_all_pictures() -> None:
    (output,) = evaluate(Answers(y=[[3, 0], [0, 4]]), Answers(y=[[3, 1], [0, 4]]), fed(2)).outputs
    assert output.relative.value == pytest.approx(100 * 1 / 5)
    assert output.snr_db.value == pytest.approx(20 * math.log10(5))
    assert output.cosine.value == pytest.approx(25 / (5 * math.sqrt(26)))
    assert output.max_abs == 1.0


def test_the_interval_of_an_error_covers_the_true_one_about_95_times_in_100() -> None:
    generator, covered = np.random.default_rng(7), 0
    for _ in range(100):
        reference = generator.normal(size=(60, 3))
        other = reference + 0.1 * generator.normal(size=(60, 3))
        relative = evaluate(Answers(y=reference), Answers(y=other), fed(60, size=60)).drop("relative")
        covered += relative.low <= 10.0 <= relative.high
    assert 86 <= covered <= 99


def test_the_size_of_the_batches_plays_no_part() -> None:
    labels = [0, 1, 2, 1, 0]
    small, large = (evaluate(Answers(y=RIGHT), Answers(y=CHANGED), fed(5, labels, size)) for size in (1, 5))
    assert small == large


def test_classes_are_sought_in_the_first_output_that_has_some() -> None:
    maps, values = np.ones((5, 2, 2, 2)), np.arange(5.0)
    result = evaluate(
        Answers(maps=maps, value=values, y=RIGHT), Answers(maps=maps, value=values, y=CHANGED), fed(5, [0] * 5)
    )
    assert [output.argmax is None for output in result.outputs] == [True, True, False]
    assert result.metrics == ("top1", "argmax", "relative")
    assert result.drop("relative").value == max(output.relative.value for output in result.outputs) > 0


def test_infinite_outputs_are_told_and_are_null_in_json() -> None:
    result = evaluate(Answers(y=[[1, 2]]), Answers(y=[[math.nan, 2]]), fed(1))
    assert result.drop("relative").value == math.inf
    data = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert data["outputs"][0]["relative"] == {"value": None, "low": None, "high": None}
    assert evaluation_from_json(data).drop("relative").value == math.inf


def test_an_evaluation_is_the_same_after_json() -> None:
    result = evaluate(Answers(y=RIGHT), Answers(y=CHANGED), fed(5, [0, 1, 2, 1, 0]))
    assert evaluation_from_json(json.loads(json.dumps(result.to_json()))) == result


def test_equal_outputs_have_no_error_and_endless_signal() -> None:
    (output,) = evaluate(Answers(y=RIGHT), Answers(y=RIGHT), fed(5)).outputs
    assert (output.relative.value, output.snr_db.value, output.cosine.value) == (0.0, math.inf, 1.0)


@pytest.mark.parametrize(
    ("other", "labels", "message"),
    [
        (Answers(z=RIGHT), None, r"the outputs differ: \['y'\] and \['z'\]"),
        (Answers(y=[[1, 2]] * 5), None, r"output y has the shapes \(2, 3\) and \(2, 2\)"),
        (Answers(y=RIGHT), [0, 3, 0, 0, 0], "labels go from 0 to 3, but the network tells 3 classes apart"),
    ],
)
def test_sessions_and_labels_must_belong_together(other: Answers, labels: list[int] | None, message: str) -> None:
    with pytest.raises(FeedError, match=message):
        evaluate(Answers(y=RIGHT), other, fed(5, labels))


def test_outputs_without_a_row_for_each_picture_need_batches_of_one() -> None:
    class Summed(Answers):
        def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {"y": super().run(feeds)["y"].sum(0)}

    with pytest.raises(FeedError, match="has no row for each of 2 pictures; feed one at a time"):
        evaluate(Summed(y=RIGHT), Summed(y=RIGHT), fed(5))
    assert evaluate(Summed(y=RIGHT), Summed(y=RIGHT), fed(5, size=1)).count == 5


def test_nothing_to_compare_on_is_an_error() -> None:
    with pytest.raises(FeedError, match="no pictures"):
        evaluate(Answers(y=RIGHT), Answers(y=RIGHT), [])


def test_progress_is_told_and_stopping_is_heeded() -> None:
    told: list[Progress | LogLine] = []
    cancel = threading.Event()

    def listen(event: Progress | LogLine) -> None:
        told.append(event)
        if isinstance(event, Progress) and event.done == 4:
            cancel.set()

    with pytest.raises(Cancelled, match="stopped after 4 pictures"):
        evaluate(Answers(y=RIGHT), Answers(y=RIGHT), fed(5), total=5, listener=listen, cancel=cancel)
    assert told == [Progress("Comparing outputs", 2, 5), Progress("Comparing outputs", 4, 5)]


def test_pictures_that_served_twice_are_warned_of() -> None:
    assert overlap(["a", "b", "c"], ["d"]) == ""
    assert overlap(["a", "b", "c"], ["c", "b", "x"]).startswith("2 pictures of 3 served for calibration too")


def test_real_sessions_agree_with_a_count_by_hand(tmp_path: Path) -> None:
    model = load_model(FASHION_CNN)
    pictures = np.random.default_rng(0).random((12, 1, 28, 28), np.float32)
    (output,) = model.outputs
    labels = Reference(model).run({model.inputs[0].name: pictures})[output.name].argmax(1)
    labels[:3] = (labels[:3] + 1) % 10
    np.savez(tmp_path / "pictures.npz", **{model.inputs[0].name: pictures, "labels": labels})
    samples = open_samples(tmp_path / "pictures.npz", model)
    result: Evaluation = evaluate(
        Reference(model), Reference(model), batches(read_samples(samples, range(12), skipped=[]), 5)
    )
    assert result.top1 is not None
    assert (result.count, result.top1.reference.value, result.top1.lost) == (12, 75.0, 0)
    assert result.digests == tuple(samples.read(index).digest for index in range(12))
