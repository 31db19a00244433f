"""One collection of real activations: complete, exact, the same however it was come by."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import FASHION_CNN, OCR_CLS, OCR_DET, save

from workbench.calibration.collect import COLLECTING, collect
from workbench.calibration.collection import Collection, is_collection, load_collection, merge, save_collection
from workbench.calibration.exposed import ExposedModel, float_tensors
from workbench.calibration.histograms import BINS
from workbench.calibration.samples import choose, open_samples
from workbench.errors import Cancelled, ConfigError, FeedError, ShapeError
from workbench.model import Model, load_model
from workbench.reference import Reference
from workbench.types import LogLine, Progress

PICTURES = Path(__file__).parents[2] / "data" / "fashion_mnist_test"


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(FASHION_CNN)


@pytest.fixture(scope="module")
def collection(model: Model) -> Collection:
    return collect(model, open_samples(PICTURES, model), count=40)


def assert_same(left: Collection, right: Collection, tmp_path: Path) -> None:
    """Their files have the same bytes."""
    contents = [save_collection(item, tmp_path / "one.calib").read_bytes() for item in (left, right)]
    assert contents[0] == contents[1]


def values_of(model: Model, feeds: dict[str, np.ndarray], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Every tensor as ONNX Runtime gives it when all of them are outputs of the model."""
    proto = type(model.proto)()
    proto.CopyFrom(model.proto)
    shown = {value.name for value in proto.graph.output}
    for name in names:
        if name not in shown and name not in feeds:
            proto.graph.output.add().name = name
    return {**feeds, **Reference(replace(model, proto=proto)).run(feeds)}


def test_every_activation_has_the_histogram_of_its_values(model: Model, collection: Collection) -> None:
    samples = open_samples(PICTURES, model)
    feeds = {"image": np.concatenate([samples.read(index).feeds["image"] for index in choose(10_000, 40)])}
    values = values_of(model, feeds, collection.tensors)
    assert {name for node in model.nodes for name in node.output} | {"image"} == set(collection.tensors)
    for name in collection.tensors:
        found, wanted = collection.histogram(name), values[name]
        assert found.elements == wanted.size
        assert found.minimum == pytest.approx(wanted.min(), rel=1e-5, abs=1e-6)
        assert found.maximum == pytest.approx(wanted.max(), rel=1e-5, abs=1e-6)
        counts = np.bincount(np.trunc(wanted / found.width).astype(int).ravel() + BINS, minlength=2 * BINS)
        moved = np.abs(np.cumsum(counts - found.counts)).max()  # single values beside a border of bins
        assert moved <= wanted.size * 2e-3


def test_outputs_of_relu_and_clip_follow_from_their_inputs(tmp_path: Path) -> None:
    graph = """(float[n,64] x) => (float[n,64] c, float[n,64] d) {
        [relu] r = Relu(x) [low] a = Constant <value_float: float = -0.5> () [clip] c = Clip(x, a, high)
        [both] b = Clip(r, a, high) [turn] t = Transpose <perm: ints = [1, 0]> (b) [add] d = Add(c, b) }"""
    model = load_model(save(tmp_path / "m.onnx", graph, high=np.array(0.75, np.float32)))
    counted, repeated = float_tensors(model)
    assert (set(counted), set(repeated)) == ({"x", "d"}, {"r", "c", "b", "t"})
    array = np.random.default_rng(0).standard_normal((7, 64)).astype(np.float32)
    found = collect(model, open_samples({"x": array}, model), until_settled=False)
    for name, values in {
        "r": np.maximum(array, 0),
        "c": np.clip(array, -0.5, 0.75),
        "t": np.clip(array, 0, 0.75),
    }.items():
        histogram = found.histogram(name)
        assert (histogram.minimum, histogram.maximum) == (values.min(), values.max())
        places = np.trunc(values / histogram.width).astype(int).ravel()
        assert np.array_equal(histogram.counts, np.bincount(places + BINS, minlength=2 * BINS))


@pytest.mark.parametrize(("path", "shape"), [(OCR_CLS, (2, 3, 48, 64)), (OCR_DET, (1, 3, 64, 96))], ids=["cls", "det"])
def test_pieces_within_a_budget_give_what_the_whole_gives(path: Path, shape: tuple[int, ...]) -> None:
    model = load_model(path)
    feeds = {"x": np.random.default_rng(0).random(shape, np.float32)}
    counted, _ = float_tensors(model)
    found = []
    for budget in (1 << 40, 1 << 20):
        pieces = list(ExposedModel(model, counted, {"x": shape}, budget).run(feeds))
        found.append({name: array for values in pieces for name, array in values.items()})
    assert len(pieces) > 6  # the inputs come first
    assert found[0].keys() == found[1].keys() == set(counted)
    assert all(np.allclose(found[0][name], found[1][name], rtol=1e-4, atol=1e-5) for name in counted)


def test_shards_merge_to_the_whole_bit_for_bit(model: Model, tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((24, 1, 28, 28), np.float32)
    samples = open_samples({"image": array}, model)
    whole = collect(model, samples, until_settled=False)
    assert len(whole.samples) == 24
    first = collect(model, samples, count=None, skip=10, until_settled=False)
    second = collect(model, open_samples({"image": array[:10]}, model), until_settled=False)
    merged = merge(first, second)
    assert_same(replace(merged, data=whole.data), whole, tmp_path)
    assert_same(merge(first, second), replace(merge(second, first), data=merged.data), tmp_path)


def test_the_file_keeps_everything(collection: Collection, tmp_path: Path) -> None:
    path = save_collection(collection, tmp_path / "c.calib")
    found = load_collection(path)
    assert is_collection(path)
    for name in ("model_name", "model_sha256", "repeated", "data", "preprocessing", "samples", "skipped", "made_with"):
        assert getattr(found, name) == getattr(collection, name)
    assert_same(found, collection, tmp_path)
    assert len(found.samples) == 40 and found.preprocessing is not None


def test_a_damaged_file_is_an_error_and_never_another_collection(collection: Collection, tmp_path: Path) -> None:
    path = save_collection(collection, tmp_path / "c.calib")
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        if generator.random() < 0.3:
            data = data[: int(generator.integers(len(data)))]
        else:
            data[int(generator.integers(len(data)))] ^= 1 << int(generator.integers(8))
        path.write_bytes(data)
        try:
            found = load_collection(path)
        except ConfigError:
            refused += 1
        else:
            assert_same(found, collection, tmp_path / "again")
    assert refused > 250


def test_collections_of_other_models_or_the_same_samples_do_not_merge(collection: Collection) -> None:
    with pytest.raises(ConfigError, match="different models"):
        merge(collection, replace(collection, model_sha256="0"))
    with pytest.raises(ConfigError, match="40 of the samples are in both"):
        merge(collection, collection)
    with pytest.raises(ConfigError, match="different ways"):
        merge(collection, replace(collection, preprocessing=None, samples={}))


def test_it_stops_when_ranges_have_settled_and_says_so(model: Model) -> None:
    events: list[Progress | LogLine] = []
    found = collect(model, open_samples(PICTURES, model), count=3000, listener=events.append)
    words = [event.text for event in events if isinstance(event, LogLine)]
    assert found.settled and 128 <= len(found.samples) < 3000
    assert any(text.startswith(f"Ranges have settled after {len(found.samples)} samples") for text in words)
    steps = [event for event in events if isinstance(event, Progress)]
    assert {step.phase for step in steps} == {COLLECTING} and steps[-1].finished
    assert steps[0].total == 3000


def test_what_was_cancelled_is_taken_up_again(model: Model, tmp_path: Path) -> None:
    samples, partial, cancel = open_samples(PICTURES, model), tmp_path / "c.partial", threading.Event()

    def stop_at_a_third(event: Progress | LogLine) -> None:
        if isinstance(event, Progress) and event.done >= 12:
            cancel.set()

    with pytest.raises(Cancelled, match="stopped after 12 samples"):
        collect(model, samples, count=36, partial=partial, listener=stop_at_a_third, cancel=cancel)
    words: list[str] = []
    found = collect(
        model, samples, count=36, partial=partial, listener=lambda event: words.append(getattr(event, "text", ""))
    )
    assert "12 samples were collected before; the others follow" in words
    assert_same(found, collect(model, samples, count=36), tmp_path)


def test_what_another_model_left_is_not_taken_up(model: Model, collection: Collection, tmp_path: Path) -> None:
    partial = save_collection(replace(collection, model_sha256="0"), tmp_path / "c.partial")
    found = collect(model, open_samples(PICTURES, model), count=4, partial=partial)
    assert len(found.samples) == 4


def test_what_is_of_other_samples_is_not_taken_up(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "m.onnx", "(float[n,2] x) => (float[n,2] y) { [t] y = Tanh(x) }"))
    first, second = (np.full((9, 2), value, np.float32) for value in (1, 2))
    partial = tmp_path / "c.partial"
    save_collection(collect(model, open_samples({"x": first}, model), count=5), partial)
    words: list[str] = []
    found = collect(
        model, open_samples({"x": second}, model), partial=partial, listener=lambda event: words.append(str(event))
    )
    assert any("was begun with other samples; it starts anew" in text for text in words)
    assert found.histograms["x"].minimum == 2 and found.histograms["x"].elements == 18


def test_samples_that_are_sorted_are_seen_from_everywhere_before_it_settles(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "m.onnx", "(float[n,8] x) => (float[n,8] y) { [t] y = Tanh(x) }"))
    rows = np.random.default_rng(0).uniform(-1, 1, (512, 8)).astype(np.float32)
    rows[256:] *= 30
    found = collect(model, open_samples({"x": rows}, model), count=None)
    assert found.histograms["x"].amax > 29


def test_what_is_not_finite_is_told(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "m.onnx", "(float[n,2] x) => (float[n,2] y) { [log] y = Log(x) }"))
    words: list[str] = []
    samples = open_samples({"x": np.float32([[1, -1], [2, 0]])}, model)
    collect(model, samples, listener=lambda event: words.append(str(event)))
    assert any("y: 2 values are NaN or infinite" in text for text in words)


def test_inputs_without_a_batch_axis_run_as_they_are(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "m.onnx", "(float[4,4] x) => (float[4,4] y) { [t] y = Tanh(x) }"))
    array = np.random.default_rng(0).random((10, 4, 4), np.float32)
    assert len(collect(model, open_samples({"x": array}, model)).samples) == 10


def test_other_files_of_the_same_names_merge(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "m.onnx", "(float[n,2] x) => (float[n,2] y) { [t] y = Tanh(x) }"))
    parts = [collect(model, open_samples({"x": np.full((3, 2), value, np.float32)}, model)) for value in (1, 2)]
    assert len(merge(*parts).samples) == 6


def test_a_sample_that_the_network_cannot_run_is_told(tmp_path: Path) -> None:
    graph = "(float[n,a] x, float[n,b] y) => (float[n,c] z) { [sum] z = Add(x, y) }"
    model = load_model(save(tmp_path / "m.onnx", graph))
    feeds = [{"x": np.ones((1, 3), np.float32), "y": np.ones((1, 5), np.float32)}]
    with pytest.raises(ShapeError, match="Add sum"):
        collect(model, open_samples(feeds, model))


def test_a_fixed_batch_is_filled_or_left_out(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "m.onnx", "(float[4,2] x) => (float[4,2] y) { [relu] y = Tanh(x) }"))
    words: list[str] = []
    array = np.arange(20, dtype=np.float32).reshape(10, 2)
    found = collect(model, open_samples({"x": array}, model), listener=lambda event: words.append(str(event)))
    assert len(found.samples) == 8 and any("The last 2 samples fill no batch" in text for text in words)
    with pytest.raises(FeedError, match="takes 4 samples at once, and 3 samples fill no batch"):
        collect(model, open_samples({"x": array[:3]}, model))
    with pytest.raises(ConfigError, match="shard 5 of 5 is empty"):
        collect(model, open_samples({"x": array[:3]}, model), shard=(5, 5))
