"""Pictures in IDX files, as MNIST and its successors are kept in, compressed by gzip or xz or not."""

from __future__ import annotations

import gzip
import lzma
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from workbench.calibration.picture_input import decide, picture_input
from workbench.calibration.pictures import PictureSamples
from workbench.calibration.stored import Held, Rows, Stored
from workbench.errors import FeedError
from workbench.model import Model
from workbench.preprocessing import Preprocessing
from workbench.types import Shape, count_of

_PICTURES = re.compile(r"(.*)images([-.])idx3-ubyte(\.gz|\.xz)?")
_GZIP, _XZ = b"\x1f\x8b", b"\xfd7zXZ\0"
_BYTES = 8
"""The code for uint8 in the third byte; http://yann.lecun.com/exdb/mnist tells the format."""


def is_idx(start: bytes) -> bool:
    """Whether a file that starts so is one of these."""
    return start.startswith((_GZIP, _XZ)) or start[:4] == bytes((0, 0, _BYTES, 3))


def idx_in(folder: Path) -> Path | None:
    """The file of pictures in a folder, None where there is none. Raises FeedError for several."""
    found = sorted(path for path in folder.iterdir() if _PICTURES.fullmatch(path.name))
    if len(found) > 1:
        raise FeedError(f"{folder}: holds several sets ({', '.join(path.name for path in found)}); name one of them.")
    return found[0] if found else None


def idx_of(model: Model, path: Path, stated: Preprocessing | None) -> PictureSamples:
    """The gray pictures of an IDX file, with the labels that lie beside it. Raises FeedError, ConfigError."""
    spec = picture_input(model)
    pictures = _read(path, 3)
    labels = _labels(path, pictures.shape[0])
    how, origin = decide(model, spec, stated, (model.path.parent, path.parent))
    words = "without labels" if labels is None else "with labels"
    about = f"{count_of(pictures.shape[0], 'picture')} of {path}, {words}. {origin}"
    ids = [f"{path.name}[{index}]" for index in range(pictures.shape[0])]
    return PictureSamples(about, how, spec, ids, labels, lambda index: _colored(pictures.row(index)))


def _colored(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray[..., None], 3, axis=2)


def _labels(path: Path, count: int) -> list[int] | None:
    match = _PICTURES.fullmatch(path.name)
    if not match:
        return None
    names = [f"{match[1]}labels{mark}idx1-ubyte{end}" for mark in "-." for end in ("", ".gz", ".xz")]
    found = next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
    if found is None:
        return None
    rows = _read(found, 1)
    if rows.shape[0] != count:
        raise FeedError(f"{found}: holds {count_of(rows.shape[0], 'label')} for {count_of(count, 'picture')}.")
    return [int(rows.row(index)) for index in range(count)]


def _read(path: Path, dimensions: int) -> Rows:
    """uint8 numbers of so many dimensions; a compressed file is read whole."""
    start = 4 + 4 * dimensions
    try:
        with path.open("rb") as file:
            magic = file.read(len(_XZ))
        if magic.startswith((_GZIP, _XZ)):
            unpack = lzma.decompress if magic == _XZ else gzip.decompress
            content = unpack(path.read_bytes())
            shape = _shape(path, content[:start], dimensions, len(content))
            return Held(np.frombuffer(content, np.uint8, offset=start).reshape(shape))
        with path.open("rb") as file:
            shape = _shape(path, file.read(start), dimensions, path.stat().st_size)
        return Stored(path, np.dtype(np.uint8), shape, start)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise FeedError(f"{path}: cannot be read ({error}); copy it again.") from error


def _shape(path: Path, header: bytes, dimensions: int, size: int) -> Shape:
    if header[:4] != bytes((0, 0, _BYTES, dimensions)) or len(header) < 4 + 4 * dimensions:
        raise FeedError(f"{path}: not an IDX file of {dimensions} dimensions of bytes, as MNIST's are.")
    shape = struct.unpack_from(f">{dimensions}I", header, 4)
    if not all(shape) or len(header) + math.prod(shape) != size:
        raise FeedError(f"{path}: {size:,} bytes cannot be numbers of the shape {shape}; copy it again.")
    return shape
