"""Samples for a model: arrays, archives and feeds are checked, read one by one, chosen and stacked."""

import gzip
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from models import save

from workbench.calibration import arrays
from workbench.calibration.samples import Sample, Skipped, batches, choose, open_samples, read_samples
from workbench.errors import ConfigError, FeedError
from workbench.model import Model, load_model
from workbench.preprocessing import Preprocessing
from workbench.types import Feeds

TWO = "(float[n,s] x, int64[n,s] mask) => (float[n,s] y) { [cast] m = Cast<to=1>(mask) [mul] y = Mul(x, m) }"


@pytest.fixture
def one(tmp_path: Path) -> Model:
    return load_model(save(tmp_path / "one.onnx", "(float[n,4] x) => (float[n,4] y) { [relu] y = Relu(x) }"))


@pytest.fixture
def two(tmp_path: Path) -> Model:
    return load_model(save(tmp_path / "two.onnx", TWO))


def numbers(count: int, width: int = 4) -> np.ndarray:
    return np.arange(count * width, dtype=np.float32).reshape(count, width)


# ---- choosing


def test_indices_are_spread_evenly_and_the_same_each_time() -> None:
    assert list(choose(10, 5)) == [0, 2, 4, 6, 8]
    assert choose(1000, 7) == choose(1000, 7)
    chosen = list(choose(997, 100))
    assert len(chosen) == 100 and {after - before for before, after in pairwise(chosen)} == {9, 10}


def test_all_are_taken_where_there_are_too_few_or_no_count_is_given() -> None:
    assert list(choose(3, 512)) == [0, 1, 2] == list(choose(3, None))


def test_those_that_are_skipped_are_not_chosen() -> None:
    assert set(choose(100, 10, skip=60)) <= set(range(60, 100))
    assert not set(choose(60, None)) & set(choose(100, None, skip=60))


@pytest.mark.parametrize(("count", "skip"), [(0, 0), (-1, 0), (5, -1), (5, 10), (None, 11)])
def test_a_choice_of_nothing_is_refused(count: int | None, skip: int) -> None:
    with pytest.raises(ConfigError):
        choose(10, count, skip=skip)


# ---- arrays in memory, .npz and .npy


@pytest.mark.parametrize("how", ["memory", "savez", "savez_compressed", "npy", "by_column", "big_endian"])
def test_arrays_are_read_one_row_at_a_time(one: Model, tmp_path: Path, how: str) -> None:
    array, path = numbers(6), tmp_path / ("x.npy" if how in ("npy", "by_column", "big_endian") else "x.npz")
    if how == "npy":
        np.save(path, array)
    elif how == "by_column":
        np.save(path, np.asfortranarray(array))
    elif how == "big_endian":
        np.save(path, array.astype(">f4"))
    elif how != "memory":
        getattr(np, how)(path, x=array)
    samples = open_samples({"x": array} if how == "memory" else path, one)
    assert len(samples) == 6 and not samples.has_labels and samples.preprocessing is None
    for index in (5, 0, 3):
        values = samples.read(index).feeds["x"]
        assert values.dtype == np.float32 and values.dtype.isnative
        assert np.array_equal(values, array[index : index + 1])
    assert samples.id_of(3) == samples.read(3).id
    assert samples.about.startswith("6 samples of ")


def test_several_inputs_of_several_types(two: Model, tmp_path: Path) -> None:
    x, mask = numbers(3, 5), np.ones((3, 5), np.int64)
    np.savez(tmp_path / "feeds.npz", x=x, mask=mask)
    sample = open_samples(tmp_path / "feeds.npz", two).read(1)
    assert {name: (array.dtype.name, array.shape) for name, array in sample.feeds.items()} == {
        "x": ("float32", (1, 5)),
        "mask": ("int64", (1, 5)),
    }


def test_an_array_with_one_axis_more_holds_whole_inputs(two: Model) -> None:
    samples = open_samples({"x": np.zeros((7, 2, 5), np.float32), "mask": np.zeros((7, 2, 5), np.int64)}, two)
    assert len(samples) == 7 and samples.read(0).feeds["x"].shape == (2, 5)


def test_a_scalar_input_has_one_value_a_sample(tmp_path: Path) -> None:
    graph = "(float[n,4] x, float c) => (float[n,4] y) { [mul] y = Mul(x, c) }"
    samples = open_samples(
        {"x": numbers(2), "c": np.array([1, 2], np.float32)}, load_model(save(tmp_path / "m.onnx", graph))
    )
    feeds = samples.read(1).feeds
    assert feeds["c"].shape == () and feeds["c"] == 2 and feeds["x"].shape == (1, 4)


def test_an_array_named_labels_holds_the_classes(one: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=numbers(3), labels=np.array([4, 0, 9], np.uint8))
    samples = open_samples(tmp_path / "a.npz", one)
    assert samples.has_labels and [samples.read(index).label for index in range(3)] == [4, 0, 9]
    assert "labels" in samples.about


WRONG = {
    "missing": ({"y": numbers(2)}, "input x is missing .there is y."),
    "unknown": ({"x": numbers(2), "z": numbers(2)}, "no input z; its inputs are x"),
    "type": ({"x": numbers(2).astype(np.float64)}, r"input x is float64; it must be float32: use .astype"),
    "integers": ({"x": np.zeros((2, 4), np.int64)}, "input x is int64"),
    "width": ({"x": numbers(2, 5)}, r"input x: float32\[\?, 4\] cannot be fed with a sample of the shape \(1, 5\)"),
    "dimensions": ({"x": np.zeros((2, 4, 1, 1), np.float32)}, r"of the shape \(2, 4, 1, 1\)"),
    "empty": ({"x": numbers(0)}, "hold no samples"),
    "ragged": ({"x": [[1.0], [1.0, 2.0]]}, "x is no array"),
    "few labels": ({"x": numbers(3), "labels": np.zeros(2, int)}, "x 3, labels 2"),
    "float labels": ({"x": numbers(3), "labels": np.zeros(3)}, "labels is float64"),
    "odd labels": ({"x": numbers(3), "labels": np.array([0, -1, 2])}, "label of sample 1 is -1"),
    "large labels": ({"x": numbers(2), "labels": np.array([0, 10**6])}, "label of sample 1 is 1000000"),
}


@pytest.mark.parametrize("case", WRONG)
def test_arrays_that_do_not_fit_are_refused_by_name(one: Model, case: str) -> None:
    given, words = WRONG[case]
    with pytest.raises(FeedError, match=words):
        open_samples(given, one)


def test_arrays_of_different_lengths_are_refused(two: Model) -> None:
    with pytest.raises(FeedError, match="x 3, mask 2; give all the same"):
        open_samples({"x": numbers(3), "mask": np.zeros((2, 4), np.int64)}, two)


def test_dimensions_of_one_name_have_one_size(two: Model) -> None:
    with pytest.raises(FeedError, match="dimension s is 4 in input x and 5 in mask"):
        open_samples({"x": numbers(3), "mask": np.zeros((3, 5), np.int64)}, two)


def test_one_array_does_not_feed_two_inputs(two: Model, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", numbers(3))
    with pytest.raises(FeedError, match=r"two has 2 inputs \(x, mask\): save one for each with numpy.savez"):
        open_samples(tmp_path / "x.npy", two)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sample_with_which_nothing_can_be_computed_is_broken(one: Model, value: float) -> None:
    array = numbers(3)
    array[1, 2] = value
    samples = open_samples({"x": array}, one)
    assert samples.read(0).feeds["x"].shape == (1, 4)
    with pytest.raises(FeedError, match=r"sample\[1\]: input x holds values"):
        samples.read(1)


# ---- feeds


def test_a_generator_is_gone_through_once(one: Model) -> None:
    made: list[int] = []

    def feeds() -> Iterator[Feeds]:
        for index in range(3):
            made.append(index)
            yield {"x": numbers(1) + index}

    samples = open_samples(feeds(), one)
    assert len(samples) == 3 and [samples.read(index).feeds["x"][0, 0] for index in (2, 0, 2)] == [2, 0, 2]
    assert made == [0, 1, 2]


class Lazy:
    """As PyTorch's data sets are."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> Feeds:
        self.asked.append(index)
        return {"x": numbers(1) + index}


def test_what_can_be_asked_by_index_is_not_read_before(one: Model) -> None:
    lazy = Lazy()
    samples = open_samples(lazy, one)  # type: ignore[arg-type]
    assert len(samples) == 1000 and lazy.asked == []
    assert samples.read(7).feeds["x"][0, 0] == 7 and lazy.asked == [7]


def test_more_than_memory_shall_hold_is_refused(one: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MOST_KEPT", 100)
    with pytest.raises(FeedError, match=r"first 7 samples take more than 100 bytes.*numpy\.savez"):
        open_samples(({"x": numbers(1)} for _ in iter(int, 1)), one)  # without end


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ([{"x": numbers(1)}, {"z": numbers(1)}], "sample 1: input x is missing"),
        ([{"x": numbers(1).astype(np.float16)}], "sample 0: input x is float16"),
        ([{"x": np.zeros(4, np.float32)}], r"cannot be fed with an array of the shape \(4,\)"),
        ([numbers(1)], "sample 0: a ndarray; give arrays by input name"),
        ([], "there are no samples"),
        (7, "a int holds no samples"),
    ],
)
def test_feeds_that_do_not_fit_are_refused(one: Model, feeds: list[Feeds], words: str) -> None:
    with pytest.raises(FeedError, match=words):
        open_samples(feeds, one)


def test_an_empty_array_is_a_broken_sample(one: Model) -> None:
    with pytest.raises(FeedError, match=r"input x is empty: it has the shape \(0, 4\)"):
        open_samples([{"x": numbers(0)}], one).read(0)


# ---- files that are none


@pytest.mark.parametrize("name", ["nowhere.npz", "nul\0.npz"])
def test_a_path_that_does_not_exist_is_refused(one: Model, tmp_path: Path, name: str) -> None:
    with pytest.raises(FeedError, match="cannot be read"):
        open_samples(tmp_path / name, one)


def test_a_file_of_no_known_kind_is_refused(one: Model, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"whatever it is")
    with pytest.raises(FeedError, match="no kind of samples that is known here"):
        open_samples(tmp_path / "x.bin", one)


def test_gzip_that_is_no_idx_is_refused(fashion_cnn: Model, tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"text"))
    with pytest.raises(FeedError, match="not an IDX file of 3 dimensions"):
        open_samples(tmp_path / "x.gz", fashion_cnn)


def test_a_preprocessing_for_arrays_is_not_ignored(one: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=numbers(2))
    for source in (tmp_path / "a.npz", {"x": numbers(2)}, [{"x": numbers(1)}]):
        with pytest.raises(ConfigError, match="fed as they are"):
            open_samples(source, one, Preprocessing())


# ---- reading, digests, batches


def broken_second(one: Model) -> tuple[Model, np.ndarray]:
    array = numbers(4)
    array[1] = np.nan
    return one, array


def test_broken_samples_are_named_and_left_out(one: Model) -> None:
    model, array = broken_second(one)
    skipped: list[Skipped] = []
    read = list(read_samples(open_samples({"x": array}, model), range(4), skipped=skipped))
    assert [sample.id for sample in read] == ["sample[0]", "sample[2]", "sample[3]"]
    assert [item.id for item in skipped] == ["sample[1]"] and "NaN" in skipped[0].reason


def test_the_first_broken_sample_ends_it_when_strict(one: Model) -> None:
    model, array = broken_second(one)
    read = read_samples(open_samples({"x": array}, model), range(4), strict=True, skipped=[])
    assert next(read).id == "sample[0]"
    with pytest.raises(FeedError, match=r"sample\[1\]"):
        next(read)


def test_nothing_but_broken_samples_is_an_error(one: Model) -> None:
    samples = open_samples({"x": np.full((2, 4), np.nan, np.float32)}, one)
    with pytest.raises(FeedError, match="not one of 2 samples can be read"):
        list(read_samples(samples, range(2), skipped=[]))


def sample(label: int | None = None, **feeds: np.ndarray) -> Sample:
    return Sample("s", feeds, label)


def test_digests_tell_contents_apart_and_nothing_else() -> None:
    array = numbers(1)
    assert sample(x=array).digest == Sample("other", {"x": array.copy()}, 3).digest
    others = [
        sample(y=array),
        sample(x=array + 1),
        sample(x=array.T),
        sample(x=array.view(np.int32)),
        sample(x=array, y=array),
    ]
    digests = {sample(x=array).digest, *(other.digest for other in others)}
    assert len(digests) == 6 and all(len(digest) == 16 and int(digest, 16) >= 0 for digest in digests)


def test_batches_stack_consecutive_samples() -> None:
    made = list(batches((sample(index, x=numbers(1) + index) for index in range(5)), 2))
    assert [batch.feeds["x"].shape for batch in made] == [(2, 4), (2, 4), (1, 4)]
    assert made[1].labels is not None and made[1].labels.dtype == np.int64 and made[1].labels.tolist() == [2, 3]
    assert made[1].feeds["x"][1, 0] == 3
    assert made[0].digests[1] == sample(x=numbers(1) + 1).digest


def test_other_shapes_begin_another_batch() -> None:
    widths = [4, 4, 6, 4]
    made = list(batches((sample(x=numbers(1, width)) for width in widths), 8))
    assert [batch.feeds["x"].shape for batch in made] == [(2, 4), (1, 6), (1, 4)]
    assert [len(batch.ids) for batch in made] == [2, 1, 1]


def test_labels_are_those_of_every_sample_or_none() -> None:
    (batch,) = batches([sample(1, x=numbers(1)), sample(None, x=numbers(1))], 8)
    assert batch.labels is None


def test_inputs_without_a_batch_axis_are_not_stacked() -> None:
    made = list(batches([sample(x=numbers(1), c=np.float32(2) * np.ones(())) for _ in range(3)], 8))
    assert [batch.feeds["x"].shape for batch in made] == [(1, 4)] * 3


def test_a_batch_is_made_before_more_is_read() -> None:
    read: list[int] = []

    def source() -> Iterator[Sample]:
        for index in range(10):
            read.append(index)
            yield sample(x=numbers(1))

    next(batches(source(), 2))
    assert read == [0, 1]
