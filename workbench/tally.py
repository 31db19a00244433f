"""Scores of pictures on which two sessions ran: collected batch by batch, nothing else is kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from workbench.accuracy import Interval, percentage, percentage_lost
from workbench.errors import FeedError
from workbench.types import Feeds

_RESAMPLES = 400


class Fed(Protocol):
    """Some pictures stacked along the first axis, such as calibration.samples.Batch."""

    @property
    def feeds(self) -> Feeds: ...
    @property
    def labels(self) -> np.ndarray | None: ...
    @property
    def ids(self) -> tuple[str, ...]: ...
    @property
    def digests(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class TaskScore:
    """Pictures, in percent, whose label is among the largest values. lost: only `reference` finds it; gained: only
    `other` does. drop: points lost, with Newcombe's interval for paired shares."""

    reference: Interval
    other: Interval
    drop: Interval
    lost: int
    gained: int


@dataclass(frozen=True)
class OutputAgreement:
    """One output over all pictures.

    relative: norm of the difference over the norm of the reference, in percent. snr_db: the same as a signal-to-noise
    ratio, 20 log10(1 / relative). cosine: between all reference and all other values. The intervals of these three
    are percentiles of resampled pictures (B. Efron, 1979, Annals of Statistics 7, 1-26; seed 0). argmax: rows, in
    percent, whose largest value stays at its place, with Wilson's interval for the number of pictures; None for
    outputs without classes: fewer than two values along the last axis, or four axes and more.
    """

    output: str
    relative: Interval
    snr_db: Interval
    cosine: Interval
    argmax: Interval | None
    max_abs: float


@dataclass(frozen=True)
class Worst:
    """The picture, by its id, whose output is furthest apart. relative: there, in percent."""

    id: str
    output: str
    relative: float


class Tally:
    """ids, digests: of the pictures so far. changed: ids of those whose class is another one now."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.digests: list[str] = []
        self._labelled = True
        self._found: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {1: [], 5: []}
        self._sums: dict[str, list[np.ndarray]] = {}
        self._rows: dict[str, list[tuple[int, int]]] = {}
        self._classes, self._lost_classes = "", False
        self.changed: list[str] = []

    @property
    def count(self) -> int:
        return len(self.ids)

    def add(self, reference: Mapping[str, Any], other: Mapping[str, Any], batch: Fed) -> None:
        if reference.keys() != other.keys():
            raise FeedError(
                f"the outputs differ: {sorted(reference)} and {sorted(other)}; compare sessions of one model."
            )
        self._classes = ""
        for name in reference:
            left, right = (_by_picture(name, values[name], len(batch.ids)) for values in (reference, other))
            if left.shape != right.shape:
                raise FeedError(f"output {name} has the shapes {left.shape} and {right.shape}; compare one model's.")
            self._sums.setdefault(name, []).append(_sums(left, right))
            if _has_classes(left):
                same = left.argmax(-1) == right.argmax(-1)
                self._rows.setdefault(name, []).append((int(same.sum()), same.size))
                if not self._classes and not self._lost_classes:
                    self._classes = name
                    kept = same.reshape(len(same), -1).all(1)
                    self.changed += [key for key, stays in zip(batch.ids, kept, strict=True) if not stays]
                    self._score(left, right, batch.labels)
        self._labelled &= batch.labels is not None
        self.ids += batch.ids
        self.digests += batch.digests

    def _score(self, left: np.ndarray, right: np.ndarray, labels: np.ndarray | None) -> None:
        if labels is None or left.ndim != 2:
            return
        if labels.min() < 0 or labels.max() >= left.shape[1]:
            reach = f"from {labels.min()} to {labels.max()}"
            raise FeedError(f"the labels go {reach}, but the network tells {left.shape[1]} classes apart, from 0 on.")
        for best, found in self._found.items():
            if best < left.shape[1]:
                found.append((_among(left, labels, best), _among(right, labels, best)))

    def _take(self, other: Tally) -> None:
        """Add what another one collected. Lists of arrays are as good as one longer array: all sums run over both."""
        self.ids += other.ids
        self.digests += other.digests
        self.changed += other.changed
        self._labelled &= other._labelled
        self._classes, self._lost_classes = other._classes, self._lost_classes or other._lost_classes
        if self._lost_classes:
            self.changed = []
        for best, found in other._found.items():
            self._found[best] += found
        for name, sums in other._sums.items():
            self._sums.setdefault(name, []).extend(sums)
        for name, rows in other._rows.items():
            self._rows.setdefault(name, []).extend(rows)

    def leave_out(self, name: str) -> None:
        """Forget an output that no longer belongs to both; with it the classes, if it told them."""
        self._sums.pop(name, None)
        self._rows.pop(name, None)
        if name == self._classes:
            self._labelled, self._lost_classes, self.changed = False, True, []

    def scores(self) -> dict[int, TaskScore | None]:
        """By how many of the largest values count: 1 and 5. None without labels, and where there are no more."""
        return {best: _task_score(found) if self._labelled else None for best, found in self._found.items()}

    def outputs(self) -> tuple[OutputAgreement, ...]:
        return tuple(self._agreement(name) for name in self._sums)

    def worst(self) -> Worst | None:
        """Over all pictures and outputs; None where they agree."""
        found = []
        for name, sums in self._sums.items():
            with np.errstate(all="ignore"):
                relative = _relative(np.concatenate(sums))
            place = int(relative.argmax())
            found.append(Worst(self.ids[place], name, float(relative[place])))
        worst = max(found, key=lambda item: item.relative, default=None)
        return worst if worst is not None and worst.relative > 0 else None

    def _agreement(self, name: str) -> OutputAgreement:
        sums = np.concatenate(self._sums[name])
        with np.errstate(all="ignore"):
            drawn = _redrawn(sums[:, :4])
            relative, snr_db, cosine = (_interval(of(drawn)) for of in (_relative, _snr_db, _cosine))
        argmax = None
        if name in self._rows:
            same, rows = np.sum(self._rows[name], axis=0)
            argmax = percentage(float(same) / float(rows) * self.count, self.count)
        return OutputAgreement(name, relative, snr_db, cosine, argmax, float(sums[:, 4].max()))


def merge_tallies(tallies: Iterable[Tally]) -> Tally:
    """The tally of the pictures of all, as if they had been added to one, in this order.

    Raises FeedError where the outputs differ.
    """
    merged = Tally()
    for tally in (item for item in tallies if item.count):
        if merged.count and merged._sums.keys() != tally._sums.keys():
            raise FeedError(f"outputs differ: {sorted(merged._sums)} and {sorted(tally._sums)}; compare one model's.")
        merged._take(tally)
    return merged


def _by_picture(name: str, values: Any, count: int) -> np.ndarray:
    """The array with one entry for each picture along the first axis."""
    array = np.asarray(values)
    if array.dtype.kind in "OSU":
        raise FeedError(f"output {name} holds no numbers ({array.dtype.name}), so nothing tells how far it is apart.")
    if array.ndim and array.shape[0] == count:
        return array
    if count == 1:
        return array[None]
    raise FeedError(
        f"output {name} of the shape {array.shape} has no row for each of {count} pictures; feed one at a time."
    )


def _has_classes(values: np.ndarray) -> bool:
    return values.ndim in (2, 3) and values.shape[-1] > 1 and values.size > 0


def _among(values: np.ndarray, labels: np.ndarray, best: int) -> np.ndarray:
    """Whether the label is among the `best` largest values of its row; of equal ones the first counts, as in argmax."""
    return (np.argsort(-values.astype(np.float64), axis=1, kind="stable")[:, :best] == labels[:, None]).any(1)


def _task_score(found: Sequence[tuple[np.ndarray, np.ndarray]]) -> TaskScore | None:
    if not found:
        return None
    left, right = (np.concatenate(side) for side in zip(*found, strict=True))
    lost, gained, both = int((left & ~right).sum()), int((right & ~left).sum()), int((left & right).sum())
    return TaskScore(
        reference=percentage(both + lost, left.size),
        other=percentage(both + gained, left.size),
        drop=percentage_lost(lost, gained, both, left.size),
        lost=lost,
        gained=gained,
    )


def _sums(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """float64[pictures, 5]: energies of reference, difference and other, product of both, largest difference.

    Infinities that both have, such as those of masked scores, count nothing, unless there is nothing else.
    """
    left, right = (values.reshape(len(values), -1).astype(np.float64) for values in (left, right))
    shared = np.isinf(left) & (left == right)
    shared &= ~shared.all(1, keepdims=True)
    left, right = np.where(shared, 0, left), np.where(shared, 0, right)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.nan_to_num(np.abs(left - right), nan=math.inf, posinf=math.inf)
        columns = [(left**2).sum(1), (apart**2).sum(1), (right**2).sum(1), (left * right).sum(1)]
    return np.stack([*columns, apart.max(1, initial=0.0)], axis=1)


def _redrawn(sums: np.ndarray) -> np.ndarray:
    """float64[1 + _RESAMPLES, columns]: sums over the pictures, then over as many pictures drawn anew each time."""
    generator, count = np.random.default_rng(0), len(sums)
    lost = ~np.isfinite(sums)
    finite = np.where(lost, 0, sums)

    def total(times: np.ndarray) -> np.ndarray:
        """Where a picture without a finite sum was drawn, there is none; 0 times infinity would be no number."""
        return np.where(times @ lost > 0, math.inf, times @ finite)

    drawn = (np.bincount(generator.integers(0, count, count), minlength=count) for _ in range(_RESAMPLES))
    return np.stack([total(times) for times in (np.ones(count, int), *drawn)])


def _interval(values: np.ndarray) -> Interval:
    """The first value and the middle 95 % of the others."""
    low, high = np.quantile(values[1:], (0.025, 0.975), method="nearest")
    return Interval(float(values[0]), float(min(low, values[0])), float(max(high, values[0])))


def _relative(sums: np.ndarray) -> np.ndarray:
    return _unless_extreme(sums[:, 1], 0.0, 100 * np.sqrt(sums[:, 1] / sums[:, 0]), math.inf)


def _snr_db(sums: np.ndarray) -> np.ndarray:
    return _unless_extreme(sums[:, 1], math.inf, 10 * np.log10(sums[:, 0] / sums[:, 1]), -math.inf)


def _unless_extreme(apart: np.ndarray, equal: float, values: np.ndarray, lost: float) -> np.ndarray:
    """The values, but for those whose difference is 0, and infinite, also where the reference is no number."""
    return np.where(apart == 0, equal, np.where(np.isinf(apart), lost, values))


def _cosine(sums: np.ndarray) -> np.ndarray:
    return np.where(sums[:, 1] == 0, 1.0, sums[:, 3] / np.sqrt(sums[:, 0] * sums[:, 2]))
