"""Samples that are arrays already: checked against the model's inputs, then fed as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from workbench.calibration.sample import LABEL_LIMIT, Sample
from workbench.calibration.stored import Held, Rows, open_npy, open_npz
from workbench.errors import FeedError
from workbench.model import Model
from workbench.preprocessing import Preprocessing
from workbench.types import Feeds, Shape, TensorSpec, count_of, format_size

LABELS = "labels"
"""The name of an array that holds the classes, where no input has it."""
MOST_KEPT = 2 << 30
"""Bytes of an iterable's feeds that are kept in memory."""
_FLOATS = "fV"
"""numpy's kinds of floating-point types; V: bfloat16, which it does not know by itself."""


@dataclass(frozen=True, eq=False)
class ArraySamples:
    """One array for each input, the samples along its first axis.

    Where an array has as many axes as its input, that is the batch axis, and a sample keeps it with the size 1. With
    one axis more, each row is an input as a whole.
    """

    name: str
    about: str
    inputs: tuple[TensorSpec, ...]
    arrays: Mapping[str, Rows]
    labels: np.ndarray | None = None
    preprocessing: Preprocessing | None = None

    @property
    def has_labels(self) -> bool:
        return self.labels is not None

    def __len__(self) -> int:
        return next(iter(self.arrays.values())).shape[0]

    def id_of(self, index: int) -> str:
        return f"{self.name}[{index}]"

    def read(self, index: int) -> Sample:
        feeds = {}
        for spec in self.inputs:
            rows = self.arrays[spec.name]
            row = rows.row(index)
            feeds[spec.name] = row[None] if len(rows.shape) == len(spec.shape) else row
        return checked(self.id_of(index), feeds, None if self.labels is None else int(self.labels[index]))


@dataclass(frozen=True, eq=False)
class FeedSamples:
    """Feeds one after the other, each a sample as it is."""

    about: str
    inputs: tuple[TensorSpec, ...]
    items: Sequence[Feeds]
    preprocessing: None = None
    has_labels: bool = False

    def __len__(self) -> int:
        return len(self.items)

    def id_of(self, index: int) -> str:
        return f"sample {index}"

    def read(self, index: int) -> Sample:
        where = self.id_of(index)
        return checked(where, _fitting(where, self.inputs, self.items[index]), None)


def arrays_of(model: Model, arrays: Mapping[str, Any]) -> ArraySamples:
    """Samples of arrays in memory, by input name. Raises FeedError."""
    held: dict[str, Rows] = {name: Held(_array("arrays in memory", name, array)) for name, array in arrays.items()}
    return _samples("sample", "arrays in memory", model, held)


def npz_of(model: Model, path: Path) -> ArraySamples:
    return _samples(path.name, str(path), model, open_npz(path))


def npy_of(model: Model, path: Path) -> ArraySamples:
    if len(model.inputs) != 1:
        raise FeedError(
            f"{path}: one array, and {model.name} has {count_of(len(model.inputs), 'input')} ({_names(model.inputs)}): "
            "save one for each with numpy.savez."
        )
    return _samples(path.name, str(path), model, {model.inputs[0].name: open_npy(path)})


def feeds_of(model: Model, source: Iterable[Feeds]) -> FeedSamples:
    """Samples of feeds. What has a length and takes an index is read by it, one at a time and again when asked again.

    Everything else (a generator, a list) is gone through once, now, and kept: MOST_KEPT bytes at most. Raises
    FeedError.
    """
    if not isinstance(source, (list, tuple)) and hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        items = cast(Sequence[Feeds], source)
    else:
        items = _kept(model, source)
    if not len(items):
        raise FeedError(f"there are no samples to feed {model.name} with.")
    return FeedSamples(f"{count_of(len(items), 'sample')} given by the program.", model.inputs, items)


def _kept(model: Model, source: Iterable[Feeds]) -> list[Feeds]:
    kept: list[Feeds] = []
    size = 0
    for number, item in enumerate(source):
        feeds = _fitting(f"sample {number}", model.inputs, item)
        kept.append(feeds)
        size += sum(array.nbytes for array in feeds.values())
        if size > MOST_KEPT:
            raise FeedError(
                f"the first {len(kept):,} samples take more than {format_size(MOST_KEPT)} of memory: save them with "
                "numpy.savez, or give an object with __len__ and __getitem__, which is read one at a time."
            )
    return kept


def _fitting(where: str, inputs: tuple[TensorSpec, ...], item: Any) -> dict[str, np.ndarray]:
    """The arrays of one feed. Raises FeedError for a missing or unknown input, another type, or a wrong shape."""
    if not isinstance(item, Mapping):
        raise FeedError(f"{where}: a {type(item).__name__}; give arrays by input name, as in {{'x': array}}.")
    feeds = {name: _array(where, name, value) for name, value in item.items()}
    _check_names(where, inputs, feeds)
    seen: dict[str, tuple[str, int]] = {}
    for spec in inputs:
        array = feeds[spec.name]
        _check_dtype(where, spec, array.dtype.name)
        if array.ndim != len(spec.shape):
            raise FeedError(f"{where}: input {spec} cannot be fed with an array of the shape {array.shape}.")
        _check_sizes(where, spec, array.shape, seen)
    return feeds


def _array(where: str, name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise FeedError(f"{where}: {name} is no array ({error}).") from error


def _samples(name: str, title: str, model: Model, arrays: dict[str, Rows]) -> ArraySamples:
    names = {spec.name for spec in model.inputs}
    classes = arrays.pop(LABELS, None) if LABELS not in names else None
    if not model.inputs:
        raise FeedError(f"{title}: {model.name} has no inputs to feed.")
    _check_names(title, model.inputs, arrays)
    seen: dict[str, tuple[str, int]] = {}
    for spec in model.inputs:
        rows = arrays[spec.name]
        _check_dtype(title, spec, rows.dtype.name)
        if len(rows.shape) not in (max(1, len(spec.shape)), len(spec.shape) + 1):
            raise FeedError(f"{title}: input {spec} cannot be fed from an array of the shape {rows.shape}.")
        by_batch = len(rows.shape) == len(spec.shape)
        own = replace(spec, shape=(None, *spec.shape[1:])) if by_batch else spec
        _check_sizes(title, own, (1, *rows.shape[1:]) if by_batch else rows.shape[1:], seen)
    counts = {item: rows.shape[0] for item, rows in arrays.items()}
    labels = _labels(title, classes, counts)
    if len(set(counts.values())) != 1:
        text = ", ".join(f"{item} {count:,}" for item, count in counts.items())
        raise FeedError(f"{title}: the arrays differ in the number of samples: {text}; give all the same.")
    count = next(iter(counts.values()))
    if not count:
        raise FeedError(f"{title}: the arrays hold no samples.")
    about = f"{count_of(count, 'sample')} of {title}" + (", with labels." if labels is not None else ".")
    return ArraySamples(name, about, model.inputs, arrays, labels)


def _labels(title: str, rows: Rows | None, counts: dict[str, int]) -> np.ndarray | None:
    if rows is None:
        return None
    if len(rows.shape) != 1 or rows.dtype.kind not in "iu":
        raise FeedError(
            f"{title}: {LABELS} is {rows.dtype} of the shape {rows.shape}; it must be one integer a sample."
        )
    counts[LABELS] = rows.shape[0]
    labels = np.array([rows.row(index) for index in range(rows.shape[0])])
    check_labels(title, labels)
    return labels.astype(np.int64)


def check_labels(where: str, labels: np.ndarray) -> None:
    """Raise FeedError for a label that no data set has."""
    wrong = np.flatnonzero((labels < 0) | (labels >= LABEL_LIMIT))
    if wrong.size:
        index = int(wrong[0])
        value = int(labels[index])
        raise FeedError(f"{where}: the label of sample {index} is {value}; labels are 0 to {LABEL_LIMIT - 1:,}.")


def checked(where: str, feeds: dict[str, np.ndarray], label: int | None) -> Sample:
    """The sample. Raises FeedError where it is empty, or holds values with which nothing can be computed."""
    for name, array in feeds.items():
        if not array.size:
            raise FeedError(f"{where}: input {name} is empty: it has the shape {array.shape}.")
        if array.dtype.kind in _FLOATS and not np.isfinite(array).all():
            raise FeedError(f"{where}: input {name} holds values that are infinite or no number (NaN).")
    return Sample(where, feeds, label)


def _check_names(where: str, inputs: tuple[TensorSpec, ...], given: Mapping[str, Any]) -> None:
    for spec in inputs:
        if spec.name not in given:
            have = ", ".join(given) or "nothing"
            raise FeedError(f"{where}: input {spec.name} is missing (there is {have}); give {spec}.")
    unknown = [name for name in given if name not in {spec.name for spec in inputs}]
    if unknown:
        raise FeedError(f"{where}: the model has no input {unknown[0]}; its inputs are {_names(inputs)}.")


def _check_dtype(where: str, spec: TensorSpec, dtype: str) -> None:
    if dtype != spec.dtype:
        raise FeedError(f"{where}: input {spec.name} is {dtype}; it must be {spec.dtype}: use .astype({spec.dtype!r}).")


def _check_sizes(where: str, spec: TensorSpec, shape: Shape, seen: dict[str, tuple[str, int]]) -> None:
    """seen: the sizes of named dimensions, which are the same in every input."""
    for dim, size in zip(spec.shape, shape, strict=True):
        if isinstance(dim, int) and dim != size:
            raise FeedError(f"{where}: input {spec} cannot be fed with a sample of the shape {shape}.")
        if isinstance(dim, str):
            name, first = seen.setdefault(dim, (spec.name, size))
            if first != size:
                raise FeedError(f"{where}: dimension {dim} is {first} in input {name} and {size} in {spec.name}.")


def _names(inputs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(spec.name for spec in inputs) or "none"
