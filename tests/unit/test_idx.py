"""MNIST's files as samples, compressed or not, with the labels beside them."""

import gzip
import random
import shutil
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


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def small_set(folder: Path, *, images: str = IMAGES, labels: str = LABELS) -> np.ndarray:
    pictures = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
    for name, array in ((images, pictures), (labels, np.array([3, 1, 4, 1, 5, 9], np.uint8))):
        content = idx(array)
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
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


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("mark", ["-", "."])
def test_pictures_and_labels_are_read_as_they_are(fashion_cnn: Model, tmp_path: Path, ending: str, mark: str) -> None:
    pictures = small_set(tmp_path, images=f"t10k-images{mark}idx3-ubyte{ending}", labels=f"t10k-labels{mark}idx1-ubyte")
    for source in (tmp_path, tmp_path / f"t10k-images{mark}idx3-ubyte{ending}"):
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


def test_labels_of_another_set_are_refused(fashion_cnn: Model, tmp_path: Path) -> None:
    small_set(tmp_path)
    (tmp_path / LABELS).write_bytes(idx(np.zeros(5, np.uint8)))
    with pytest.raises(FeedError, match="holds 5 labels for 6 pictures"):
        open_samples(tmp_path, fashion_cnn)


def test_labels_are_no_pictures(fashion_cnn: Model) -> None:
    with pytest.raises(FeedError, match="not an IDX file of 3 dimensions"):
        open_samples(FASHION / f"{LABELS}.gz", fashion_cnn)


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_is_cut_off_is_refused(fashion_cnn: Model, tmp_path: Path, packed: bool) -> None:
    if packed:
        shutil.copy(FASHION / f"{IMAGES}.gz", tmp_path)
        path = tmp_path / f"{IMAGES}.gz"
    else:
        small_set(tmp_path)
        path = tmp_path / IMAGES
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(FeedError, match="copy it again"):
        open_samples(path, fashion_cnn)


@pytest.mark.parametrize("ending", ["", ".gz"])
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
    assert 200 < refused < 600
