"""The first samples as the network sees them: pictures made from the very arrays it is fed with, or their figures."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from workbench.calibration.samples import Sample, Samples, choose
from workbench.errors import FeedError
from workbench.preprocessing import Preprocessing

SHOWN = 6
_LARGEST = 320


@dataclass(frozen=True)
class Values:
    """One input of one sample. low, high, mean: of its values, as float."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    low: float
    high: float
    mean: float


@dataclass(frozen=True)
class Preview:
    """png: the picture, made back from the values; empty where they are none. error: why it could not be read."""

    id: str
    label: int | None = None
    values: tuple[Values, ...] = ()
    png: bytes = b""
    error: str = ""


def preview(samples: Samples, count: int = SHOWN) -> tuple[Preview, ...]:
    """`count` samples spread over all."""
    return tuple(_preview(samples, index) for index in choose(len(samples), count))


def _preview(samples: Samples, index: int) -> Preview:
    try:
        sample = samples.read(index)
    except FeedError as error:
        return Preview(samples.id_of(index), error=str(error))
    values = tuple(_values(name, array) for name, array in sample.feeds.items())
    how = samples.preprocessing
    return Preview(sample.id, sample.label, values, _png(how, sample) if how else b"")


def _values(name: str, array: np.ndarray) -> Values:
    numbers = array.astype(np.float64)
    return Values(
        name, array.dtype.name, array.shape, float(numbers.min()), float(numbers.max()), float(numbers.mean())
    )


def _png(how: Preprocessing, sample: Sample) -> bytes:
    from PIL import Image

    (array,) = sample.feeds.values()
    picture = Image.fromarray(pixels(how, array))
    picture.thumbnail((_LARGEST, _LARGEST))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def pixels(how: Preprocessing, array: np.ndarray) -> np.ndarray:
    """uint8[height, width, 3] in RGB from an input of batch size 1: `preprocessing.apply` undone, but for the size."""
    values = array[0].astype(np.float32)
    values = values.transpose(1, 2, 0) if how.layout == "NCHW" else values
    mean, std = (np.resize(np.array(item, np.float32), values.shape[-1]) for item in (how.mean, how.std))
    restored = np.rint(np.clip((values * std + mean) / how.scale, 0, 255)).astype(np.uint8)
    if how.channels == "BGR":
        restored = restored[..., ::-1]
    return np.ascontiguousarray(np.broadcast_to(restored, (*restored.shape[:2], 3)))
