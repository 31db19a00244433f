"""What a model is fed with, told by what it is: pictures, arrays, data sets. Nothing is read before it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from workbench.calibration.arrays import arrays_of, feeds_of, npy_of, npz_of
from workbench.calibration.idx import idx_in, idx_of, is_idx
from workbench.calibration.paddle_dataset import paddle_dataset_of
from workbench.calibration.pictures import pictures_of
from workbench.calibration.sample import Batch, Part, Sample, Samples, Skipped, batches, choose, read_samples
from workbench.errors import ConfigError, FeedError
from workbench.model import Model
from workbench.preprocessing import Preprocessing
from workbench.types import Feeds

__all__ = ["Batch", "Part", "Sample", "Samples", "Skipped", "batches", "choose", "open_samples", "read_samples"]


def open_samples(
    source: str | Path | Iterable[Feeds] | Mapping[str, np.ndarray],
    model: Model,
    preprocessing: Preprocessing | None = None,
) -> Samples:
    """The samples of a source, for a model.

    source: a folder of pictures, with labels where they lie in class subfolders or `val_list.txt` tells them (or the
    list itself); .npz with one array for each input, .npy for a single input, or such arrays by name, with an array
    'labels' if there are any; IDX files as MNIST's, or their folder; Paddle's binary data set; an iterable of feeds.
    preprocessing: how pictures become inputs; else read from Paddle's configuration beside the model or in the
    folder, else derived from the model's input, which `about` says.

    Raises FeedError for what cannot be read or does not fit the model, ConfigError for a preprocessing that does not.
    """
    if isinstance(source, (str, Path)):
        return _opened(Path(source).expanduser(), model, preprocessing)
    _refuse(preprocessing, "arrays")
    if isinstance(source, Mapping):
        return arrays_of(model, source)
    if not hasattr(source, "__iter__") and not hasattr(source, "__getitem__"):
        raise FeedError(f"a {type(source).__name__} holds no samples: give a path, arrays by input name, or feeds.")
    return feeds_of(model, source)


def _opened(path: Path, model: Model, preprocessing: Preprocessing | None) -> Samples:
    try:
        if path.is_dir():
            idx = idx_in(path)
            return idx_of(model, idx, preprocessing) if idx else pictures_of(model, path, preprocessing)
        with path.open("rb") as file:
            start = file.read(8)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise FeedError(f"{str(path)[:200]}: the samples cannot be read ({reason}).") from error
    if path.suffix.lower() == ".txt":
        return pictures_of(model, path, preprocessing)
    if is_idx(start):
        return idx_of(model, path, preprocessing)
    if start.startswith((b"PK", b"\x93NUMPY")):
        _refuse(preprocessing, f"{path}: arrays")
        return npz_of(model, path) if start.startswith(b"PK") else npy_of(model, path)
    return paddle_dataset_of(model, path, preprocessing)


def _refuse(preprocessing: Preprocessing | None, what: str) -> None:
    if preprocessing is not None:
        raise ConfigError(f"{what} are fed as they are; a preprocessing is for pictures: leave it out.")
