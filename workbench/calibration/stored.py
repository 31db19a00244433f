"""Arrays in files, of which one row at a time is read: .npy, .npz, and raw numbers at a known place."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from workbench.errors import FeedError
from workbench.types import Shape

_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    SyntaxError,
    RuntimeError,  # encrypted; NotImplementedError: a compression that zipfile does not know
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
)
"""What numpy and zipfile raise for damaged files."""
_LOCAL_HEADER = 30


class Rows(Protocol):
    """An array of which single rows are read."""

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def shape(self) -> Shape: ...

    def row(self, index: int) -> np.ndarray:
        """The array [index], in memory."""


@dataclass(frozen=True, eq=False)
class Held:
    """An array in memory."""

    array: np.ndarray

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    @property
    def shape(self) -> Shape:
        return self.array.shape

    def row(self, index: int) -> np.ndarray:
        return np.asarray(self.array[index])


@dataclass(frozen=True)
class Stored:
    """Numbers in C order at an offset in a file, in bytes. Read, not mapped: a file that shrinks is an error then,
    and the memory of this process does not seem to grow by what was read."""

    path: Path
    dtype: np.dtype[Any]
    shape: Shape
    offset: int

    def row(self, index: int) -> np.ndarray:
        shape = self.shape[1:]
        count = math.prod(shape)
        place = self.offset + index * count * self.dtype.itemsize
        try:
            values = np.fromfile(self.path, self.dtype, count, offset=place)
        except OSError as error:
            raise FeedError(f"{self.path}: cannot be read any more ({error.strerror}).") from error
        if values.size != count:
            raise FeedError(f"{self.path}: ends before sample {index}: it was changed after it was opened.")
        return values.astype(self.dtype.newbyteorder("="), copy=False).reshape(shape)


@dataclass(frozen=True, eq=False)
class Packed:
    """A compressed or column-ordered array: read whole, once, when its first row is asked for."""

    path: Path
    member: str
    dtype: np.dtype[Any]
    shape: Shape

    def row(self, index: int) -> np.ndarray:
        return np.asarray(self._array[index])

    @cached_property
    def _array(self) -> np.ndarray:
        try:
            if not self.member:
                return np.asarray(np.load(self.path, allow_pickle=False))
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        except _DAMAGE as error:
            raise FeedError(f"{self.path}: {self.member or 'the array'} cannot be read ({_reason(error)}).") from error


def open_npy(path: Path) -> Rows:
    """The array of a .npy file. Raises FeedError."""
    try:
        with path.open("rb") as file:
            shape, by_column, dtype = _header(file)
            offset = file.tell()
        _check_size(path.stat().st_size - offset, shape, dtype)
    except _DAMAGE as error:
        raise FeedError(f"{path}: not a .npy array ({_reason(error)}); save it with numpy.save.") from error
    return Packed(path, "", dtype, shape) if by_column else Stored(path, dtype, shape, offset)


def open_npz(path: Path) -> dict[str, Rows]:
    """The arrays of a .npz archive by name. Raises FeedError."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [_member(path, archive, info) for info in archive.infolist()]
    except _DAMAGE as error:
        reason = _reason(error)
        raise FeedError(f"{path}: not an .npz archive of arrays ({reason}); save it with numpy.savez.") from error
    return dict(zip((info.removesuffix(".npy") for info in archive.namelist()), found, strict=True))


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Rows:
    with archive.open(info) as file:
        shape, by_column, dtype = _header(file)
        header = file.tell()
    _check_size(info.file_size - header, shape, dtype)
    if by_column or info.compress_type != zipfile.ZIP_STORED:
        return Packed(path, info.filename, dtype, shape)
    with path.open("rb") as raw:
        raw.seek(info.header_offset)
        names = struct.unpack_from("<HH", raw.read(_LOCAL_HEADER), _LOCAL_HEADER - 4)
    offset = info.header_offset + _LOCAL_HEADER + sum(names) + header
    if offset + math.prod(shape) * dtype.itemsize > path.stat().st_size:
        raise ValueError("cut off")
    return Stored(path, dtype, shape, offset)


def _header(file: IO[bytes]) -> tuple[Shape, bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_column, dtype = read(file)
    return shape, by_column and len(shape) > 1, dtype


def _check_size(size: int, shape: Shape, dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which can do harm when they are read")
    if any(side < 0 for side in shape) or size != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{size:,} bytes cannot be {dtype} of the shape {shape}")


def _reason(error: BaseException) -> str:
    return str(error).split("\n")[0][:200] or type(error).__name__
