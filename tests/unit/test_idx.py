"""MNIST's files as samples, compressed or not, with the labels beside them."""

import gzip
import lzma
import random
import struct
from pathlib import Path

import numpy as np
import pytest

from workbench.calibration.samples import batches, choose, open_samples, read_samples
from workbench.errors import FeedError, WorkbenchError
from workbench.model import Model
from workbench.preprocessing import Preprocessing
from workbench.reference import Reference

FASHION = Path(__file__).parents[2] / "data" / "fashion_mnist_test"
IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
ENDINGS = ("", ".gz", ".xz")


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def packed(content: bytes, name: str) -> bytes:
    if name.endswith(".xz"):
        return lzma.compress(content)
    return gzip.compress(content) if name.endswith(".gz") else content


def small_set(folder: Path, *, images: str = IMAGES, labels: str = LABELS) -> np.ndarray:
    pictures = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
    for name, array in ((images, pictures), (labels, np.array([3, 1, 4, 1, 5, 9], np.uint8))):
        (folder / name).write_bytes(packed(idx(array), name))
    return pictures


def test_fashion_mnist_is_recognised_as_it_was_trained(fashion_cnn: Model) -> None:
    samples = open_samples(FASHION, fashion_cnn)
    assert len(samples) == 10_000 and samples.has_labels
    assert samples.preprocessing == Preprocessing((28, 28), channels="GRAY")
    read = read_samples(samples, choose(len(samples), 500), strict=True, skipped=[])
    reference, right = Reference(fashion_cnn), 0
    for batch in batches(read, 100):
        assert batch.labels is not None
        right += int((reference.run(batch.feeds)["logits"].argmax(1) == batch.labels).sum())
    assert right >= 455  # 93.05 % of all


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("of_labels", ENDINGS)
@pytest.mark.parametrize("mark", ["-", "."])
def test_pictures_and_labels_are_read_as_they_are(
    fashion_cnn: Model, tmp_path: Path, ending: str, of_labels: str, mark: str
) -> None:
    images, labels = f"t10k-images{mark}idx3-ubyte{ending}", f"t10k-labels{mark}idx1-ubyte{of_labels}"
    pictures = small_set(tmp_path, images=images, labels=labels)
    for source in (tmp_path, tmp_path / images):
        samples = open_samples(source, fashion_cnn)
        for index in (5, 0):
            sample = samples.read(index)
            assert np.allclose(sample.feeds["image"][0, 0] * 255, pictures[index], atol=1e-4)
        assert samples.read(5).label == 9


def test_pictures_without_labels_are_samples_too(fashion_cnn: Model, tmp_path: Path) -> None:
    small_set(tmp_path)
    (tmp_path / LABELS).unlink()
    samples = open_samples(tmp_path, fashion_cnn)
    assert not samples.has_labels and samples.read(0).label is None and "without labels" in samples.about


def test_several_sets_in_a_folder_are_to_be_named(fashion_cnn: Model, tmp_path: Path) -> None:
    small_set(tmp_path)
    small_set(tmp_path, images="train-images-idx3-ubyte", labels="train-labels-idx1-ubyte")
    with pytest.raises(FeedError, match=r"holds several sets .*name one of them"):
        open_samples(tmp_path, fashion_cnn)
    assert len(open_samples(tmp_path / "train-images-idx3-ubyte", fashion_cnn)) == 6


def test_a_set_that_is_there_twice_is_to_be_named(fashion_cnn: Model, tmp_path: Path) -> None:
    for ending in (".gz", ".xz"):
        small_set(tmp_path, images=IMAGES + ending)
    with pytest.raises(FeedError, match=r"holds several sets .*ubyte\.gz, .*ubyte\.xz\); name one of them"):
        open_samples(tmp_path, fashion_cnn)
    assert open_samples(tmp_path / f"{IMAGES}.xz", fashion_cnn).has_labels


def test_the_content_of_a_file_tells_how_it_is_packed(fashion_cnn: Model, tmp_path: Path) -> None:
    small_set(tmp_path, images=f"{IMAGES}.xz")
    renamed = (tmp_path / f"{IMAGES}.xz").rename(tmp_path / "pictures.bin")
    assert len(open_samples(renamed, fashion_cnn)) == 6


def test_labels_of_another_set_are_refused(fashion_cnn: Model, tmp_path: Path) -> None:
    small_set(tmp_path)
    (tmp_path / LABELS).write_bytes(idx(np.zeros(5, np.uint8)))
    with pytest.raises(FeedError, match="holds 5 labels for 6 pictures"):
        open_samples(tmp_path, fashion_cnn)


def test_labels_are_no_pictures(fashion_cnn: Model) -> None:
    with pytest.raises(FeedError, match="not an IDX file of 3 dimensions"):
        open_samples(FASHION / f"{LABELS}.gz", fashion_cnn)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_is_cut_off_is_refused(fashion_cnn: Model, tmp_path: Path, ending: str) -> None:
    small_set(tmp_path, images=IMAGES + ending)
    path = tmp_path / (IMAGES + ending)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(FeedError, match="copy it again"):
        open_samples(path, fashion_cnn)


@pytest.mark.parametrize("ending", ENDINGS)
def test_damaged_files_are_errors_or_read_whole(fashion_cnn: Model, tmp_path: Path, ending: str) -> None:
    small_set(tmp_path, images=IMAGES + ending)
    path, chance, refused = tmp_path / (IMAGES + ending), random.Random(1), 0
    data = path.read_bytes()
    for _ in range(600):
        content = bytearray(data)
        place = chance.randrange(chance.choice((16, len(data))))
        content[place] ^= 1 << chance.randrange(8)
        path.write_bytes(content[: chance.choice((len(content), chance.randrange(len(content))))])
        try:
            samples = open_samples(path, fashion_cnn)
            assert len(samples) == 6 and samples.read(5).feeds["image"].shape == (1, 1, 28, 28)
        except WorkbenchError:
            refused += 1
    assert refused == 600 if ending == ".xz" else 200 < refused < 600, "xz has check sums of every byte"
