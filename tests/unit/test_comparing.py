"""Any number of sessions on the same feeds, by numbers one can check by hand and by real engines."""

import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_sources import NEEDS_TORCH
from models import FASHION_CNN, save

from workbench.building import build
from workbench.calibration.samples import Batch, batches, open_samples, read_samples
from workbench.comparing import Comparison, compare, comparison_from_json, match_outputs
from workbench.engine import open_engine
from workbench.errors import Cancelled, ConfigError, FeedError, RunError
from workbench.evaluation import evaluate
from workbench.model import load_model
from workbench.reference import Reference
from workbench.store import EngineStore
from workbench.types import BuildConfig, LogLine, Progress


class Answers:
    """A session that looks its outputs up: row x of a table for the input x."""

    def __init__(self, **tables: Any) -> None:
        self.tables = {name: np.array(rows) for name, rows in tables.items()}
        self.runs = 0

    def run(self, feeds: Mapping[str, np.ndarray]) -> Any:
        self.runs += 1
        return {name: rows[feeds["x"]] for name, rows in self.tables.items()}


class Calls:
    """A session around a function of the input x."""

    def __init__(self, function: Callable[[np.ndarray], Any]) -> None:
        self._function = function

    def run(self, feeds: Mapping[str, np.ndarray]) -> Any:
        return self._function(feeds["x"])


def fed(count: int, labels: list[int] | None = None, size: int = 2) -> Iterator[Batch]:
    for start in range(0, count, size):
        rows = range(start, min(start + size, count))
        known = None if labels is None else np.array([labels[row] for row in rows], np.int64)
        names = tuple(f"picture {row}" for row in rows)
        yield Batch({"x": np.array(rows)}, known, names, tuple(f"{row:016x}" for row in rows))


def one(comparison: Comparison, name: str = "other") -> Any:
    (found,) = (item for item in comparison.contestants if item.name == name)
    return found


def again(comparison: Comparison) -> Comparison:
    return comparison_from_json(json.loads(json.dumps(comparison.to_json(), allow_nan=False)))


RIGHT = [[2.0, 1, 0], [0, 2, 1], [1, 0, 2], [2, 1, 0], [0, 2, 1]]
CHANGED = [[2.0, 1, 0], [0, 1, 2], [1, 0, 2], [1, 2, 0], [0, 2, 1]]
HALVED = [[2.0, 1, 0], [0, 2, 1], [1, 0, 2], [2, 1, 0], [0, 1, 0.5]]


def test_each_is_told_as_if_it_were_compared_alone() -> None:
    labels = [0, 1, 2, 1, 0]
    sessions = {"first": Answers(y=RIGHT), "changed": Answers(y=CHANGED), "halved": Answers(y=HALVED)}
    found = compare(sessions, fed(5, labels))
    for name in ("changed", "halved"):
        alone = evaluate(Answers(y=RIGHT), sessions[name], fed(5, labels))
        assert one(found, name).evaluation.outputs == alone.outputs
        assert (one(found, name).evaluation.top1, one(found, name).evaluation.changed) == (alone.top1, alone.changed)
        assert found.digests == alone.digests
    assert one(found, "first").evaluation.outputs[0].relative.value == 0
    assert (found.reference, found.count) == ("first", 5)


def test_the_reference_runs_once_for_a_batch_and_any_may_be_it() -> None:
    sessions = {name: Answers(y=RIGHT) for name in "abc"}
    found = compare(sessions, fed(5), reference="b")
    assert [session.runs for session in sessions.values()] == [3, 3, 3]
    assert found.reference == "b" and [item.name for item in found.others] == ["a", "c"]


def test_the_worst_sample_is_named_with_its_error() -> None:
    worst = one(compare({"first": Answers(y=RIGHT), "other": Answers(y=HALVED)}, fed(5))).worst
    assert (worst.id, worst.output, worst.relative) == ("picture 4", "y", pytest.approx(50))
    assert one(compare({"first": Answers(y=RIGHT), "other": Answers(y=RIGHT)}, fed(5))).worst is None


def test_the_worst_sample_is_sought_over_all_outputs() -> None:
    values = np.ones(5)
    first, other = Answers(y=RIGHT, z=values), Answers(y=HALVED, z=values * [1, 1, 4, 1, 1])
    assert one(compare({"first": first, "other": other}, fed(5))).worst.output == "z"


def test_outputs_stand_side_by_side_as_in_the_seed() -> None:
    pytorch, fp16 = [[4.7960, -1.9805, 7.9566, 2.4818, -13.3275]], [[4.53114, -1.66334, 7.31781, 2.51478, -12.76871]]
    table = compare({"PyTorch": Answers(output=pytorch), "FP16": Answers(output=fp16)}, fed(1)).value_rows()
    assert table.headers == ("output", "PyTorch", "FP16")
    assert table.rows == tuple((f"output[{place}]", pytorch[0][place], fp16[0][place]) for place in range(5))
    assert "output[4]  -13.3275  -12.76871" in str(table)


def test_of_large_outputs_the_first_values_of_the_first_sample_are_shown() -> None:
    maps = np.arange(5 * 3 * 4, dtype=np.float32).reshape(5, 3, 4)
    (shown,) = compare({"first": Answers(y=maps), "other": Answers(y=maps)}, fed(5)).values
    assert (shown.shape, shown.values["other"]) == ((3, 4), tuple(map(float, range(10))))
    assert shown.labels[:5] == ("y[0, 0]", "y[0, 1]", "y[0, 2]", "y[0, 3]", "y[1, 0]")


def test_a_contestant_that_fails_tells_why_and_the_others_go_on() -> None:
    def fail(x: np.ndarray) -> Any:
        raise ValueError("two words\nand a trace")

    sessions = {"first": Answers(y=RIGHT), "broken": Calls(fail), "other": Answers(y=HALVED)}
    found = compare(sessions, fed(5))
    assert one(found, "broken").failure == "it fails with ValueError: two words."
    assert one(found, "broken").evaluation is None and one(found).evaluation.count == 5
    assert "it fails with ValueError: two words." in str(found.score_rows())
    assert found.value_rows().rows[0] == ("y[0]", 2.0, None, 2.0)


def test_one_that_fails_later_names_the_sample_and_keeps_its_first_values() -> None:
    failing = Calls(lambda x: {"y": np.array(RIGHT)[x] / (0 if x[0] > 1 else 1)})
    with np.errstate(divide="raise", invalid="raise"):
        found = compare({"first": Answers(y=RIGHT), "other": failing}, fed(5))
    assert one(found).failure.startswith("on picture 2: it fails with FloatingPointError")
    assert found.values[0].values["other"] == (2.0, 1.0, 0.0)


def test_a_reference_that_fails_ends_it() -> None:
    with pytest.raises(RunError, match="the reference first cannot be run: it fails with KeyError"):
        compare({"first": Calls(lambda x: {}[1]), "other": Answers(y=RIGHT)}, fed(5))


def test_outputs_that_one_lacks_are_left_out_for_it_alone() -> None:
    first = Answers(y=RIGHT, z=RIGHT, w=RIGHT)
    found = compare({"first": first, "other": Answers(z=HALVED, extra=RIGHT), "third": first}, fed(5))
    assert [output.output for output in one(found).evaluation.outputs] == ["z"]
    assert one(found).notes == ("it lacks y, w and gives z, extra", "output y is missing", "output w is missing")
    assert len(one(found, "third").evaluation.outputs) == 3
    nothing = one(compare({"first": first, "other": Answers(a=RIGHT)}, fed(5)))
    assert nothing.failure.startswith("no output of it can be compared: it lacks y, z, w and gives a")


def test_names_that_differ_are_matched_by_their_place_with_a_note() -> None:
    found = one(compare({"first": Answers(y=RIGHT, z=CHANGED), "other": Answers(p=RIGHT, q=CHANGED)}, fed(5)))
    assert found.notes == ("its outputs are matched by their place: p as y, q as z",)
    assert [output.relative.value for output in found.evaluation.outputs] == [0, 0]


def test_names_in_common_are_matched_before_places() -> None:
    pairs, note = match_outputs(("a", "b", "c"), ("x", "c", "a"))
    assert pairs == [("a", "a"), ("b", "x"), ("c", "c")] and "x as b" in note
    assert match_outputs(("a", "b"), ("b", "a")) == ([("a", "a"), ("b", "b")], "")


def test_tuples_and_single_arrays_are_taken_by_their_place() -> None:
    right = np.array(RIGHT)
    first = Answers(y=RIGHT, z=CHANGED)
    pair = one(compare({"first": first, "other": Calls(lambda x: (right[x], np.array(CHANGED)[x]))}, fed(5)))
    assert [output.relative.value for output in pair.evaluation.outputs] == [0, 0]
    alone = one(compare({"first": Answers(y=RIGHT), "other": Calls(lambda x: right[x])}, fed(5)))
    assert alone.evaluation.outputs[0].output == "y"


@NEEDS_TORCH
def test_pytorch_gives_tensors_that_hang_in_a_graph_and_may_write_into_its_input() -> None:
    import torch

    layer = torch.nn.Linear(3, 2)
    expected = {"y": np.ones((4, 3), np.float32) @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()}
    sessions = {
        "eager": Calls(lambda x: layer(torch.from_numpy(x).add_(1))),
        "by hand": Calls(lambda x: expected if not x.any() else {}),
    }
    found = compare(sessions, {"x": np.zeros((4, 3), np.float32)}, reference="by hand")
    assert one(found, "eager").evaluation.outputs[0].relative.value < 1e-4
    assert one(found, "by hand").evaluation is not None  # it still found zeros


def test_a_session_that_uses_its_buffers_again_is_compared_with_what_it_gave() -> None:
    buffer = np.zeros((5, 3))

    def answer(x: np.ndarray) -> dict[str, np.ndarray]:
        buffer[:] += 1
        return {"y": buffer}

    session = Calls(answer)
    (output,) = one(compare({"first": session, "other": session}, {"x": np.zeros((5, 1))})).evaluation.outputs
    assert (output.relative.value, output.max_abs) == (pytest.approx(100), 1.0)


def test_text_is_left_out_with_a_note() -> None:
    words = np.array(["a", "b", "c", "d", "e"], object)
    found = compare({"first": Answers(y=RIGHT, w=words), "other": Answers(y=HALVED, w=words)}, fed(5))
    assert found.notes == ("output w is text, and is left out.",)
    assert [output.output for output in one(found).evaluation.outputs] == ["y"]
    with pytest.raises(FeedError, match="no output can be compared: output w is text"):
        compare({"first": Answers(w=words), "other": Answers(w=words)}, fed(5))


def test_values_that_are_not_finite_are_infinitely_far_as_in_accuracy() -> None:
    broken = [[2.0, math.nan, 0], [0, 2, math.inf], *RIGHT[2:]]
    found = compare({"first": Answers(y=RIGHT), "other": Answers(y=broken), "same": Answers(y=RIGHT)}, fed(5))
    (output,) = one(found).evaluation.outputs
    assert (output.relative.value, output.snr_db.value, output.max_abs) == (math.inf, -math.inf, math.inf)
    assert math.isnan(output.cosine.value)
    assert (one(found).worst.relative, one(found, "same").evaluation.outputs[0].relative.value) == (math.inf, 0)
    assert "∞" in str(found) and "NaN" in str(found.value_rows())


def test_a_reference_that_is_not_finite_is_infinitely_far_from_all() -> None:
    broken = [[2.0, math.nan, 0], *RIGHT[1:]]
    found = compare({"first": Answers(y=broken), "other": Answers(y=RIGHT)}, fed(5))
    assert one(found).evaluation.outputs[0].relative.value == one(found).worst.relative == math.inf


def test_scalars_and_empty_outputs_are_compared() -> None:
    first, other = (
        Calls(lambda x, add=add: {"sum": np.float32(x.sum() + add), "none": np.zeros((0, 4))}) for add in (0, 1)
    )
    found = compare({"first": first, "other": other}, {"x": np.array([1.0, 2.0])})
    assert found.count == 1
    total, none = one(found).evaluation.outputs
    assert (total.max_abs, none.max_abs, none.relative.value) == (1.0, 0.0, 0.0)
    assert found.value_rows().rows == (("sum", 3.0, 4.0),)


def test_outputs_without_a_row_for_each_sample_are_left_out_with_a_note() -> None:
    def answer(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"y": np.array(RIGHT)[x], "boxes": np.ones((7, 4))}

    found = compare({"first": Calls(answer), "other": Calls(answer)}, fed(5))
    assert len(found.notes) == 1 and "has no row for each of 2 samples (feed one at a time)" in found.notes[0]
    assert [output.output for output in one(found).evaluation.outputs] == ["y"]
    assert len(one(compare({"first": Calls(answer), "other": Calls(answer)}, fed(5, size=1))).evaluation.outputs) == 2


def test_an_output_that_changes_its_shape_on_the_way_is_forgotten_and_the_others_count() -> None:
    def answer(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"boxes": np.ones((1, 3 + (x[0] == 3), 4)), "y": np.array(HALVED)[x]}

    first = Calls(lambda x: {"boxes": np.ones((1, 3, 4)), "y": np.array(RIGHT)[x]})
    found = one(compare({"first": first, "other": Calls(answer)}, fed(5, [0] * 5, size=1)))
    assert [output.output for output in found.evaluation.outputs] == ["y"]
    assert found.notes == ("output boxes has the shape (1, 4, 4), the reference's (1, 3, 4)",)
    assert found.evaluation.count == 5
    assert (found.evaluation.top1, found.evaluation.changed) == (None, ())  # the boxes told the classes


def test_rows_of_arrays_without_ids_are_samples() -> None:
    answers = Answers(y=RIGHT)
    found = compare({"first": answers, "other": Answers(y=HALVED)}, {"x": np.arange(5)})
    assert (found.count, found.first_id, one(found).worst.id) == (5, "sample 1", "sample 5")
    several = compare({"first": answers, "other": Answers(y=HALVED)}, [{"x": np.arange(3)}, {"x": np.arange(3, 5)}])
    assert one(several).worst.id == "sample 5"


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare({}, fed(5))
    with pytest.raises(ConfigError, match="the reference 'z' is none of those compared: a"):
        compare({"a": Answers(y=RIGHT)}, fed(5), reference="z")
    with pytest.raises(FeedError, match="there are no samples"):
        compare({"a": Answers(y=RIGHT)}, [])
    with pytest.raises(FeedError, match="labels go from 0 to 3"):
        compare({"a": Answers(y=RIGHT)}, fed(5, [0, 3, 0, 0, 0]))


def test_progress_is_told_and_stopping_is_heeded() -> None:
    told: list[Progress | LogLine] = []
    cancel = threading.Event()

    def listen(event: Progress | LogLine) -> None:
        told.append(event)
        if len(told) == 2:
            cancel.set()

    with pytest.raises(Cancelled, match="stopped after 4 samples"):
        compare({"a": Answers(y=RIGHT)}, fed(5), listener=listen, cancel=cancel)
    assert told == [Progress("Comparing outputs", 2, None), Progress("Comparing outputs", 4, None)]


def test_a_comparison_is_the_same_after_json() -> None:
    infinite = [[math.inf, 1.0, 0], *RIGHT[1:]]
    sessions = {"first": Answers(y=RIGHT), "other": Answers(y=HALVED), "third": Answers(z=RIGHT), "fourth": Answers()}
    found = compare(sessions, fed(5, [0, 1, 2, 1, 0]))
    assert again(found) == found and one(found, "fourth").failure
    lost = compare({"first": Answers(y=RIGHT), "other": Answers(y=infinite)}, fed(5))
    assert (one(again(lost)).worst, again(lost).values) == (one(lost).worst, lost.values)
    ends = [one(item).evaluation.outputs[0].snr_db for item in (lost, again(lost))]
    assert ends[0] == ends[1] and ends[0].value == -math.inf


class Text(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_notebook_shows_tables_and_nothing_of_a_name_becomes_markup() -> None:
    name = "<script>alert(1)</script>"
    page = Text(compare({"first": Answers(y=RIGHT), name: Answers(y=HALVED)}, fed(5))._repr_html_())
    assert name in page.texts and "script" not in page.tags and page.tags.count("table") == 3


def test_tables_hold_numbers_for_whoever_draws_them() -> None:
    found = compare({"first": Answers(y=RIGHT), "other": Answers(y=CHANGED)}, fed(5, [0, 1, 2, 1, 0]))
    scores, outputs, values = found.rows()
    assert all(len(row) == len(table.headers) for table in found.rows() for row in table.rows)
    row = dict(zip(outputs.headers, outputs.rows[0], strict=True))
    assert (row["contestant"], row["same class, %"], row["largest"]) == ("other", pytest.approx(60), 1.0)
    assert [score[scores.headers.index("top-1, %")] for score in scores.rows] == [60.0, 60.0]
    assert "top-5, %" not in scores.headers and len(values.rows) == 3


def test_real_engines_and_the_model_itself_are_compared_on_pictures(tmp_path: Path) -> None:
    model, store = load_model(FASHION_CNN), EngineStore(tmp_path / "store")
    data = open_samples(Path(__file__).parents[2] / "data" / "fashion_mnist_test", model)
    engines = {name: build(model, BuildConfig(name), "onnxruntime", store=store).engine for name in ("fp32", "fp16")}
    with open_engine(engines["fp32"]) as fp32, open_engine(engines["fp16"]) as fp16:
        sessions = {"the model": Reference(model), "fp32": fp32, "fp16": fp16}
        found = compare(sessions, batches(read_samples(data, range(100), skipped=[]), 32))
    assert found.count == 100 and found.first_id == data.id_of(0)
    errors = [one(found, name).evaluation.outputs[0].relative.value for name in sessions]
    assert errors[0] == 0 <= errors[1] < 1e-3 < errors[2] < 1
    assert one(found, "fp16").evaluation.top1.other.value > 85


def test_an_engine_that_takes_other_inputs_has_a_sentence_in_its_column(tmp_path: Path) -> None:
    relu = Reference(load_model(save(tmp_path / "a.onnx", "(float[n,4] x) => (float[n,4] y) { y = Relu(x) }")))
    other = Reference(load_model(save(tmp_path / "b.onnx", "(float[n,3] x) => (float[n,3] y) { y = Relu(x) }")))
    found = compare({"first": relu, "other": other}, {"x": np.ones((2, 4), np.float32)})
    assert "invalid dimensions for input: x" in one(found).failure
