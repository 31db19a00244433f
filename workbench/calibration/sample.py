"""One sample after another: what it is, which ones are taken, and how they become batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from workbench.errors import ConfigError, FeedError
from workbench.preprocessing import Preprocessing
from workbench.types import Feeds

LABEL_LIMIT = 1_000_000
"""Labels are 0 to one less; no data set has that many classes, so a larger number is a damaged file."""


@dataclass(frozen=True, eq=False)
class Sample:
    """What a model is fed with once.

    feeds: the inputs' arrays by name, each with a first axis of 1 where the input has a batch axis. label: the number
    of its class, if known.
    """

    id: str
    feeds: Feeds
    label: int | None = None

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits: equal for equal feeds, whatever file they came from."""
        digest = hashlib.blake2b(digest_size=8)
        for name in sorted(self.feeds):
            array = self.feeds[name]
            digest.update(f"{name}\0{array.dtype.name}\0{array.shape}\0".encode() + array.tobytes())
        return digest.hexdigest()


class Samples(Protocol):
    """Samples that are read when they are asked for.

    about: what they are, in a sentence or two for the user. preprocessing: how pictures became inputs, None for arrays.
    """

    @property
    def about(self) -> str: ...

    @property
    def preprocessing(self) -> Preprocessing | None: ...

    @property
    def has_labels(self) -> bool: ...

    def __len__(self) -> int: ...

    def id_of(self, index: int) -> str:
        """The sample's id without reading it."""

    def read(self, index: int) -> Sample:
        """Raises FeedError for a sample that is broken or does not fit the model."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the samples, by their indices; samples themselves."""

    samples: Samples
    indices: Sequence[int]

    @property
    def about(self) -> str:
        return self.samples.about

    @property
    def preprocessing(self) -> Preprocessing | None:
        return self.samples.preprocessing

    @property
    def has_labels(self) -> bool:
        return self.samples.has_labels

    def __len__(self) -> int:
        return len(self.indices)

    def id_of(self, index: int) -> str:
        return self.samples.id_of(self.indices[index])

    def read(self, index: int) -> Sample:
        return self.samples.read(self.indices[index])


@dataclass(frozen=True)
class Skipped:
    """A sample that was left out, and why."""

    id: str
    reason: str


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples stacked along the first axis. labels: int64, None unless every sample has one."""

    feeds: Feeds
    labels: np.ndarray | None
    ids: tuple[str, ...]
    digests: tuple[str, ...]


def choose(total: int, count: int | None, *, skip: int = 0) -> range | list[int]:
    """`count` indices spread evenly over those from `skip` to `total`, in rising order; all of them for None.

    The same for the same arguments. Raises ConfigError where nothing is left to choose from.
    """
    if skip < 0 or (count is not None and count < 1):
        raise ConfigError(f"{count} samples after the first {skip} cannot be chosen; ask for at least one.")
    if skip >= total:
        raise ConfigError(f"there are {total} samples, none after the first {skip}: skip fewer.")
    rest = total - skip
    if count is None or count >= rest:
        return range(skip, total)
    return [skip + number * rest // count for number in range(count)]


def read_samples(
    samples: Samples, indices: Iterable[int], *, strict: bool = False, skipped: list[Skipped]
) -> Iterator[Sample]:
    """Read these samples one by one; broken ones are added to `skipped`.

    Raises FeedError for the first broken one when strict, and at the end where not one could be read.
    """
    read, broken = 0, 0
    for index in indices:
        try:
            sample = samples.read(index)
        except FeedError as error:
            if strict:
                raise
            skipped.append(Skipped(samples.id_of(index), str(error)))
            broken += 1
            continue
        read += 1
        yield sample
    if broken and not read:
        raise FeedError(f"not one of {broken} samples can be read; the last: {skipped[-1].reason}")


def batches(samples: Iterable[Sample], size: int) -> Iterator[Batch]:
    """Consecutive samples of the same shapes, `size` at most; alone where an array has no first axis of 1."""
    group: list[Sample] = []
    for sample in samples:
        if group and (_shapes(sample) != _shapes(group[0]) or not _stackable(sample)):
            yield _batch(group)
            group = []
        group.append(sample)
        if len(group) >= size:
            yield _batch(group)
            group = []
    if group:
        yield _batch(group)


def _shapes(sample: Sample) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in sample.feeds.items()}


def _stackable(sample: Sample) -> bool:
    return all(array.shape[:1] == (1,) for array in sample.feeds.values())


def _batch(group: list[Sample]) -> Batch:
    first = group[0].feeds
    if len(group) == 1:
        feeds = dict(first)
    else:
        feeds = {name: np.concatenate([sample.feeds[name] for sample in group]) for name in first}
    labels = [sample.label for sample in group if sample.label is not None]
    return Batch(
        feeds,
        np.array(labels, np.int64) if len(labels) == len(group) else None,
        tuple(sample.id for sample in group),
        tuple(sample.digest for sample in group),
    )
