"""The binary data set of Paddle's INT8 tutorials: int64 count, then the pictures in float32, then the labels in int64.

As Paddle's full_ILSVRC2012_val_preprocess.py writes it and its C++ programs read it, little-endian, without gaps:
https://github.com/PaddlePaddle/Paddle/blob/develop/paddle/fluid/inference/tests/api/full_ILSVRC2012_val_preprocess.py
"""

from __future__ import annotations

import math
import os
import struct
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from workbench.calibration.arrays import ArraySamples, check_labels
from workbench.calibration.sample import Sample, Samples, Skipped, read_samples
from workbench.calibration.stored import Stored
from workbench.errors import Cancelled, ConfigError, FeedError
from workbench.model import Model
from workbench.preprocessing import CHANNELS, Preprocessing
from workbench.types import Listener, LogLine, Progress, Shape, TensorSpec, count_of, ignore

WRITING = "Writing the data set"
_COUNT = struct.Struct("<q")
_VALUE, _LABEL = np.dtype("<f4"), np.dtype("<i8")


@dataclass(frozen=True)
class Written:
    """A data set that was written: its file, the pictures in it, and those that were left out."""

    path: Path
    count: int
    skipped: tuple[Skipped, ...]


def write_paddle_dataset(
    samples: Samples,
    path: str | Path,
    *,
    strict: bool = False,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Written:
    """Write samples as Paddle's binary data set, one after the other; the file appears when it is whole.

    Broken samples are told to the listener and left out, or refused when strict. Raises FeedError for samples without
    labels, with several inputs, or whose shapes differ; ConfigError where the file cannot be written; Cancelled.
    """
    path = Path(path).expanduser().absolute()
    if not samples.has_labels:
        raise FeedError("the samples have no labels, which this data set holds: give class subfolders or val_list.txt.")
    if path.is_dir():
        raise ConfigError(f"{path}: a folder; name a file in it.")
    skipped: list[Skipped] = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
            draft = Path(folder) / "data.bin"
            with draft.open("wb") as file:
                read = read_samples(samples, range(len(samples)), strict=strict, skipped=skipped)
                count = _write(file, _watched(read, len(samples), skipped, listener, cancel))
            os.replace(draft, path)
    except OSError as error:
        raise ConfigError(f"{path}: the data set cannot be written ({error.strerror}).") from error
    return Written(path, count, tuple(skipped))


def _watched(
    read: Iterator[Sample], total: int, skipped: list[Skipped], listener: Listener, cancel: threading.Event | None
) -> Iterator[Sample]:
    told = 0
    listener(Progress(WRITING, 0, total))
    for done, sample in enumerate(read, 1):
        if cancel is not None and cancel.is_set():
            raise Cancelled("cancelled; nothing was left behind.")
        for item in skipped[told:]:
            listener(LogLine("warning", f"Left out: {item.reason}"))
        told = len(skipped)
        yield sample
        listener(Progress(WRITING, done + told, total))
    for item in skipped[told:]:
        listener(LogLine("warning", f"Left out: {item.reason}"))
    listener(Progress(WRITING, total, total))


def _write(file: IO[bytes], samples: Iterator[Sample]) -> int:
    """The count is known at the end only: its place is filled then."""
    file.write(_COUNT.pack(0))
    shape: Shape | None = None
    labels = []
    for sample in samples:
        if len(sample.feeds) != 1 or sample.label is None:
            raise FeedError(f"{sample.id}: this data set holds pictures with a label, for a model with one input.")
        (values,) = sample.feeds.values()
        shape = shape or values.shape
        if values.shape != shape or values.shape[:1] != (1,) or values.dtype != np.float32:
            raise FeedError(
                f"{sample.id}: {values.dtype} of the shape {values.shape}; this data set holds float32 of one shape, "
                f"here {shape}: state a preprocessing with a size."
            )
        file.write(values.astype(_VALUE, copy=False).tobytes())
        labels.append(sample.label)
    file.write(np.array(labels, _LABEL).tobytes())
    file.seek(0)
    file.write(_COUNT.pack(len(labels)))
    return len(labels)


def paddle_dataset_of(model: Model, path: Path, preprocessing: Preprocessing | None = None) -> ArraySamples:
    """The samples of such a file; of its pictures only the one asked for is read.

    preprocessing: with which it was written; its size counts where the model takes any. Raises FeedError for a file
    that does not hold what it says, or whose pictures do not fit the model.
    """
    spec, picture = _picture(model, path, preprocessing)
    try:
        with path.open("rb") as file:
            start = file.read(_COUNT.size)
        size = path.stat().st_size
        count = _COUNT.unpack(start)[0] if len(start) == _COUNT.size else 0
        each = math.prod(picture) * _VALUE.itemsize
        needed = _COUNT.size + count * (each + _LABEL.itemsize)
        if count < 1 or needed != size:
            raise FeedError(
                f"{path}: as Paddle's binary data set it says that it holds {count:,} pictures. With labels, and "
                f"{'x'.join(map(str, picture))} float32 each, they take {max(needed, 0):,} bytes; the file has "
                f"{size:,}. It is cut off, was made for another size, or is none."
            )
        labels = np.fromfile(path, _LABEL, count, offset=_COUNT.size + count * each).astype(np.int64)
    except OSError as error:
        raise FeedError(f"{path}: cannot be read ({error.strerror}).") from error
    check_labels(str(path), labels)
    rows = Stored(path, _VALUE, (count, *picture), _COUNT.size)
    about = f"{count_of(count, 'picture')} of {path}, Paddle's binary data set, with labels; fed as they are."
    return ArraySamples(path.name, about, (spec,), {spec.name: rows}, labels, preprocessing)


def _picture(model: Model, path: Path, how: Preprocessing | None) -> tuple[TensorSpec, Shape]:
    """The input, and the shape of one picture."""
    if len(model.inputs) != 1 or model.inputs[0].dtype != "float32" or len(model.inputs[0].shape) != 4:
        raise FeedError(
            f"{path}: no kind of samples that is known here, and Paddle's binary data set feeds one float32 input of "
            f"four dimensions; {model.name} takes {', '.join(map(str, model.inputs)) or 'nothing'}."
        )
    (spec,) = model.inputs
    dims = spec.shape[1:]
    if how and how.size:
        channels = CHANNELS[how.channels]
        stated = (channels, *how.size) if how.layout == "NCHW" else (*how.size, channels)
        if any(isinstance(dim, int) and dim != size for dim, size in zip(dims, stated, strict=True)):
            raise ConfigError(f"the preprocessing makes {stated}, the input {spec} takes another size.")
        dims = stated
    if not all(isinstance(dim, int) for dim in dims):
        raise FeedError(f"{path}: the input {spec} takes any size: state the preprocessing that it was written with.")
    return spec, tuple(int(dim) for dim in dims if isinstance(dim, int))
