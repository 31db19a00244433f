"""Paddle's binary data set: written from samples, read without loading it, and never read wrongly."""

import itertools
import random
import struct
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from models import save
from PIL import Image

from workbench.calibration.paddle_dataset import WRITING, write_paddle_dataset
from workbench.calibration.samples import Samples, open_samples
from workbench.errors import Cancelled, ConfigError, FeedError, WorkbenchError
from workbench.model import Model, load_model
from workbench.preprocessing import Preprocessing
from workbench.types import LogLine, Progress

HEIGHT, WIDTH = 4, 6
EACH = 3 * HEIGHT * WIDTH * 4


def model_of(path: Path, shape: str = f"n,3,{HEIGHT},{WIDTH}", dtype: str = "float") -> Model:
    return load_model(save(path, f"({dtype}[{shape}] x) => ({dtype}[{shape}] y) {{ [same] y = Identity(x) }}"))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return model_of(tmp_path / "model" / "m.onnx")


def user_set(folder: Path, count: int = 5, broken: tuple[int, ...] = ()) -> Path:
    """As PaddleSlim's tutorial wants it: val/*.jpg, and val_list.txt with lines 'path label'."""
    (folder / "val").mkdir(parents=True)
    lines = []
    for index in range(count):
        path = folder / "val" / f"{index}.png"
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 10 * index, np.uint8)).save(path)
        if index in broken:
            path.write_bytes(b"no picture")
        lines.append(f"val/{index}.png {index * 100}\n")
    (folder / "val_list.txt").write_text("".join(lines))
    return folder


def content(pictures: np.ndarray, labels: list[int]) -> bytes:
    return struct.pack("<q", len(labels)) + pictures.astype("<f4").tobytes() + struct.pack(f"<{len(labels)}q", *labels)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    pictures = np.random.default_rng(0).random((5, 3, HEIGHT, WIDTH), np.float32)
    path = tmp_path / "data.bin"
    path.write_bytes(content(pictures, [0, 1, 2, 999, 4]))
    return path


# ---- writing


def test_a_data_set_is_written_as_paddle_reads_it(model: Model, tmp_path: Path) -> None:
    samples = open_samples(user_set(tmp_path / "user"), model, Preprocessing((HEIGHT, WIDTH), scale=1.0))
    written = write_paddle_dataset(samples, tmp_path / "made" / "data.bin")
    assert (written.count, written.skipped) == (5, ())
    data = written.path.read_bytes()
    assert struct.unpack_from("<q", data)[0] == 5 and len(data) == 8 + 5 * (EACH + 8)
    pictures = np.frombuffer(data, "<f4", 5 * EACH // 4, 8).reshape(5, 3, HEIGHT, WIDTH)
    assert pictures[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40]
    assert struct.unpack_from("<5q", data, 8 + 5 * EACH) == (0, 100, 200, 300, 400)


def test_what_was_written_is_read_back(model: Model, tmp_path: Path) -> None:
    before = open_samples(user_set(tmp_path / "user"), model)
    after = open_samples(write_paddle_dataset(before, tmp_path / "data.bin").path, model)
    assert len(after) == 5 and after.has_labels
    for index in range(5):
        first, second = before.read(index), after.read(index)
        assert (first.digest, first.label) == (second.digest, second.label)
    assert "Paddle's binary data set" in after.about


def test_broken_pictures_are_told_and_not_counted(model: Model, tmp_path: Path) -> None:
    samples = open_samples(user_set(tmp_path / "user", broken=(0, 2, 4)), model)
    events: list[Progress | LogLine] = []
    written = write_paddle_dataset(samples, tmp_path / "data.bin", listener=events.append)
    assert written.count == 2 and [item.id for item in written.skipped] == ["val/0.png", "val/2.png", "val/4.png"]
    assert [sample.label for sample in map(open_samples(written.path, model).read, range(2))] == [100, 300]
    told = [event.text for event in events if isinstance(event, LogLine)]
    assert len(told) == 3 and "0.png" in told[0] and "4.png" in told[2]
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress[0] == Progress(WRITING, 0, 5) and progress[-1] == Progress(WRITING, 5, 5)
    assert [event.done for event in progress] == sorted(event.done for event in progress)


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_broken_picture_is_refused_when_strict_and_nothing_is_left(model: Model, tmp_path: Path) -> None:
    samples = open_samples(user_set(tmp_path / "user", broken=(3,)), model)
    with pytest.raises(FeedError, match=r"3\.png"):
        write_paddle_dataset(samples, tmp_path / "made" / "data.bin", strict=True)
    assert left_over(tmp_path / "made") == []


def test_a_cancelled_data_set_leaves_what_was_there(model: Model, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "data.bin").write_bytes(b"before")
    cancel = threading.Event()

    def listener(event: Progress | LogLine) -> None:
        if isinstance(event, Progress) and event.done == 2:
            cancel.set()

    samples = open_samples(user_set(tmp_path / "user"), model)
    with pytest.raises(Cancelled):
        write_paddle_dataset(samples, tmp_path / "made" / "data.bin", listener=listener, cancel=cancel)
    assert left_over(tmp_path / "made") == ["data.bin"]
    assert (tmp_path / "made" / "data.bin").read_bytes() == b"before"


def test_samples_without_labels_are_refused(model: Model, tmp_path: Path) -> None:
    folder = user_set(tmp_path / "user")
    with pytest.raises(FeedError, match="have no labels"):
        write_paddle_dataset(open_samples(folder / "val", model), tmp_path / "data.bin")


def test_pictures_of_different_sizes_are_refused(tmp_path: Path) -> None:
    model = model_of(tmp_path / "m.onnx", "n,3,h,w")
    folder = user_set(tmp_path / "user")
    Image.new("RGB", (99, 40)).save(folder / "val" / "1.png")
    with pytest.raises(FeedError, match=r"float32 of the shape \(1, 3, 32, 96\).*one shape.*state a preprocessing"):
        write_paddle_dataset(open_samples(folder, model), tmp_path / "data.bin")
    assert not (tmp_path / "data.bin").exists()


@pytest.mark.parametrize("dtype", ["float16", "double"])
def test_other_types_than_float32_are_refused(tmp_path: Path, dtype: str) -> None:
    samples = open_samples(user_set(tmp_path / "user"), model_of(tmp_path / "m.onnx", dtype=dtype))
    with pytest.raises(FeedError, match="this data set holds float32"):
        write_paddle_dataset(samples, tmp_path / "data.bin")


def test_a_place_that_cannot_be_written_is_named(model: Model, tmp_path: Path) -> None:
    samples = open_samples(user_set(tmp_path / "user"), model)
    with pytest.raises(ConfigError, match="a folder; name a file in it"):
        write_paddle_dataset(samples, tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_paddle_dataset(samples, tmp_path / "file" / "data.bin")


# ---- reading


def test_of_a_large_file_only_the_picture_asked_for_is_read(tmp_path: Path) -> None:
    """2.4 GB that are a hole on the disk."""
    model, count, each = model_of(tmp_path / "m.onnx", "n,3,224,224"), 4000, 4 * 3 * 224 * 224
    with (tmp_path / "data.bin").open("wb") as file:
        file.write(struct.pack("<q", count))
        file.seek(8 + 3999 * each)
        file.write(np.full(each // 4, 2.5, "<f4").tobytes())
        file.truncate(8 + count * (each + 8))
    tracemalloc.start()
    try:
        samples = open_samples(tmp_path / "data.bin", model)
        sample = samples.read(3999)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert len(samples) == count and sample.feeds["x"].shape == (1, 3, 224, 224) and np.all(sample.feeds["x"] == 2.5)


def test_a_file_of_another_size_is_refused_with_the_numbers(model: Model, dataset: Path) -> None:
    dataset.write_bytes(dataset.read_bytes()[:-1])
    with pytest.raises(FeedError, match=r"holds 5 pictures.*3x4x6 float32 each, they take 1,488 bytes; .* has\s1,487"):
        open_samples(dataset, model)


def test_a_data_set_for_another_input_is_refused(tmp_path: Path, dataset: Path) -> None:
    with pytest.raises(FeedError, match="made for another size"):
        open_samples(dataset, model_of(tmp_path / "m.onnx", "n,3,8,8"))


def test_where_the_model_takes_any_size_the_preprocessing_tells_it(tmp_path: Path, dataset: Path) -> None:
    model = model_of(tmp_path / "m.onnx", "n,3,h,w")
    with pytest.raises(FeedError, match="takes any size: state the preprocessing"):
        open_samples(dataset, model)
    samples = open_samples(dataset, model, Preprocessing((HEIGHT, WIDTH)))
    assert samples.read(3).feeds["x"].shape == (1, 3, HEIGHT, WIDTH) and samples.read(3).label == 999
    assert samples.preprocessing == Preprocessing((HEIGHT, WIDTH))
    with pytest.raises(ConfigError, match=r"the input .* takes another size"):
        open_samples(dataset, model_of(tmp_path / "fixed.onnx"), Preprocessing((WIDTH, HEIGHT)))


@pytest.mark.parametrize("label", [-1, 1_000_000, 2**62])
def test_labels_out_of_any_range_are_refused(model: Model, tmp_path: Path, label: int) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(content(np.zeros((2, 3, HEIGHT, WIDTH)), [0, label]))
    with pytest.raises(FeedError, match=f"label of sample 1 is {label}"):
        open_samples(path, model)


def test_a_picture_with_impossible_values_is_broken(model: Model, tmp_path: Path) -> None:
    pictures = np.zeros((2, 3, HEIGHT, WIDTH))
    pictures[1, 2, 3, 4] = np.inf
    (tmp_path / "data.bin").write_bytes(content(pictures, [0, 1]))
    samples = open_samples(tmp_path / "data.bin", model)
    assert samples.read(0).label == 0
    with pytest.raises(FeedError, match=r"data\.bin\[1\]: input x holds values"):
        samples.read(1)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A damaged copy: bits of the header or of the labels, another count, a cut, an extension, or anything at all."""
    made = bytearray(data)
    kind = chance.randrange(7)
    if kind == 0:
        made[chance.randrange(8)] ^= 1 << chance.randrange(8)
    elif kind == 1:
        some = (0, 1, 4, 6, -1, -5, 2**31, 2**63 - 1, -(2**63), chance.randrange(-9, 9), chance.getrandbits(62))
        struct.pack_into("<q", made, 0, chance.choice(some))
    elif kind == 2:
        del made[chance.randrange(len(made)) :]
    elif kind == 3:
        made += chance.randbytes(chance.choice((1, 8, EACH, EACH + 8, chance.randrange(1, 2000))))
    elif kind == 4:
        made[-chance.randint(1, 40)] ^= 1 << chance.randrange(8)
    elif kind == 5:
        made[chance.randrange(len(made))] = chance.randrange(256)
    else:
        made = bytearray(chance.randbytes(chance.choice((0, 3, 8, len(data), chance.randrange(3000)))))
    return bytes(made)


def check(samples: Samples, data: bytes) -> int:
    """What is read is what the format says; returns the number of broken samples."""
    count, broken = struct.unpack_from("<q", data)[0], 0
    assert len(samples) == count and len(data) == 8 + count * (EACH + 8)
    for index in range(count):
        try:
            sample = samples.read(index)
        except FeedError:
            broken += 1
            continue
        values = np.frombuffer(data, "<f4", EACH // 4, 8 + index * EACH).reshape(1, 3, HEIGHT, WIDTH)
        assert np.array_equal(sample.feeds["x"], values) and np.isfinite(values).all()
        assert sample.label == struct.unpack_from("<q", data, 8 + count * EACH + 8 * index)[0]
        assert 0 <= sample.label < 1_000_000
    return broken


def test_damaged_data_sets_are_errors_or_read_as_they_say(model: Model, dataset: Path) -> None:
    data, chance = dataset.read_bytes(), random.Random(0)
    refused, read = 0, itertools.count()
    for _ in range(3000):
        damaged = mutated(data, chance)
        dataset.write_bytes(damaged)
        try:
            check(open_samples(dataset, model), damaged)
            next(read)
        except WorkbenchError:
            refused += 1
    assert refused > 1500 and next(read) > 200
