"""Rows of arrays in files: only what is asked for is read, and damaged files are errors."""

import random
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from workbench.calibration.stored import Packed, Stored, open_npy, open_npz
from workbench.errors import FeedError


def numbers(count: int = 5) -> np.ndarray:
    return np.arange(count * 6, dtype=np.float32).reshape(count, 2, 3)


def test_an_uncompressed_member_is_read_by_row(tmp_path: Path) -> None:
    big = np.zeros((4000, 1000), np.float32)
    big[3999] = 7
    np.savez(tmp_path / "a.npz", first=numbers(), big=big)
    tracemalloc.start()
    try:
        rows = open_npz(tmp_path / "a.npz")
        assert rows["big"].row(3999).tolist() == [7] * 1000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20  # of 16 MB
    finally:
        tracemalloc.stop()
    assert isinstance(rows["big"], Stored) and np.array_equal(rows["first"].row(2), numbers()[2])


def test_a_compressed_member_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=numbers())
    rows = open_npz(tmp_path / "a.npz")["x"]
    assert isinstance(rows, Packed) and rows.shape == (5, 2, 3) and rows.dtype == np.float32
    assert np.array_equal(rows.row(4), numbers()[4])
    (tmp_path / "a.npz").unlink()
    assert np.array_equal(rows.row(1), numbers()[1])  # it was read once


def test_a_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", numbers())
    rows = open_npy(tmp_path / "a.npy")
    with (tmp_path / "a.npy").open("r+b") as file:
        file.truncate(200)
    with pytest.raises(FeedError, match="ends before sample 4"):
        rows.row(4)
    (tmp_path / "a.npy").unlink()
    with pytest.raises(FeedError, match="cannot be read any more"):
        rows.row(0)


def test_python_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], object))
    for name, read in (("a.npy", open_npy), ("a.npz", open_npz)):
        with pytest.raises(FeedError, match="Python objects"):
            read(tmp_path / name)


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "text")
    with pytest.raises(FeedError, match=r"a\.npz: not an \.npz archive of arrays"):
        open_npz(tmp_path / "a.npz")


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Some bytes or bits changed, mostly where headers are; or cut off, or continued."""
    content = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        near = chance.choice((40, 140, len(content)))
        place = chance.choice((chance.randrange(near), len(content) - 1 - chance.randrange(near)))
        content[place] = chance.choice((content[place] ^ 1 << chance.randrange(8), chance.randrange(256)))
    if chance.random() < 0.2:
        del content[chance.randrange(len(content)) :]
    elif chance.random() < 0.1:
        content += chance.randbytes(chance.randint(1, 99))
    return bytes(content)


@pytest.mark.parametrize("kind", ["npy", "npz", "npz_compressed"])
def test_damaged_files_are_errors_or_read_in_their_shape(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind[:3]}"
    if kind == "npy":
        np.save(path, numbers())
    else:
        (np.savez if kind == "npz" else np.savez_compressed)(path, x=numbers())
    data, chance = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(1000):
        path.write_bytes(mutated(data, chance))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = {"x": open_npy(path)} if kind == "npy" else open_npz(path)
                for rows in found.values():
                    for index in range(min(rows.shape[0], 20) if rows.shape else 0):
                        row = rows.row(index)
                        assert row.shape == rows.shape[1:] and row.dtype == rows.dtype.newbyteorder("=")
        except FeedError:
            refused += 1
    assert 200 < refused < 1000
