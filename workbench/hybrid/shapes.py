"""Sizes that tensors really take, seen while samples run natively: what Paddle calls collecting shape range info."""

from __future__ import annotations

import contextlib
import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from workbench.backends import check_feeds
from workbench.errors import Cancelled, ShapeError
from workbench.hybrid.probe import Entry, ShapeProbe
from workbench.model import Model
from workbench.profiles import BOUNDS, opt_shapes, opt_values
from workbench.reference import random_feeds
from workbench.subgraphs import Part
from workbench.types import (
    Feeds,
    Listener,
    OptimizationProfile,
    Progress,
    ShapeRange,
    ignore,
    profile_from_json,
    profile_to_json,
)

FORMAT = 1
PHASE = "Collecting shapes"


@dataclass(frozen=True)
class CollectedShapes:
    """What the tensors of one model were, by name; weights and what nobody reads are left out.

    ranges: min and max for every axis, and opt: the shape in the typical sample, which is of the input shapes that came
    most often (of equally frequent ones the largest). A tensor whose rank changes is left out.
    values: the same of what shape tensors hold, a scalar as one element.
    """

    model_name: str
    model_sha256: str
    samples: int
    ranges: Mapping[str, ShapeRange]
    values: Mapping[str, ShapeRange]

    def check(self, model: Model) -> None:
        """Raises ShapeError where they are of another model."""
        if self.model_sha256 != model.sha256:
            of = f"these shapes are of another model ({self.model_name}, SHA-256 {self.model_sha256[:8]})"
            raise ShapeError(f"{of} than {model.name} ({model.sha256[:8]}); collect them for this one.")

    def __str__(self) -> str:
        moving = sum(item.min != item.max for item in self.ranges.values())
        return (
            f"{self.model_name}: {len(self.ranges):,} tensors in {self.samples:,} sample{'s' * (self.samples != 1)}, "
            f"{moving:,} of changing size, {len(self.values):,} that hold sizes"
        )


def collect_shapes(
    model: Model,
    feeds: Iterable[Feeds],
    *,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> CollectedShapes:
    """Run every sample in ONNX Runtime and note the sizes of all tensors that nodes read or that are outputs.

    No activation is kept, and of samples with the same input shapes only one's sizes. Raises ShapeError without a
    sample, FeedError for one that does not fit, RunError where the model fails on one, Cancelled.
    """
    probe = ShapeProbe(model)
    total = len(feeds) if isinstance(feeds, Sized) else None
    tally = _Tally()
    listener(Progress(PHASE, 0, total))
    for sample in feeds:
        if cancel is not None and cancel.is_set():
            raise Cancelled("cancelled; no shapes were collected.")
        check_feeds(model.inputs, sample)
        tally.add(*probe.run(sample))
        listener(Progress(PHASE, tally.samples, total))
    if not tally.samples:
        raise ShapeError(f"{model.name}: no shapes can be collected without samples; give one at least.")
    if total is None:
        listener(Progress(PHASE, tally.samples, tally.samples))
    found = dict(zip(probe.keys, tally.ranges(), strict=True))
    shapes, values = (
        {name: item for (kind, name), item in found.items() if kind == wanted and item is not None}
        for wanted in ("shape", "value")
    )
    return CollectedShapes(model.name, model.sha256, tally.samples, shapes, values)


def usual_samples(model: Model, profile: OptimizationProfile) -> list[Feeds]:
    """Random samples at min, opt and max; opt twice, so that it is the most frequent. One where all three are equal."""
    low, best, high = (_at(profile, bound) for bound in BOUNDS)
    wanted = [best] if low == best == high else [low, best, best, high]
    return [random_feeds(model.inputs, opt_shapes(model.inputs, (item,)), opt_values((item,))) for item in wanted]


def _at(profile: OptimizationProfile, bound: str) -> OptimizationProfile:
    """The profile with one of its bounds in place of all three."""
    ranges, values = (
        {name: ShapeRange(*[getattr(item, bound)] * 3) for name, item in found.items()}
        for found in (profile.ranges, profile.values)
    )
    return OptimizationProfile(ranges, values)


def profile_for(collected: CollectedShapes, part: Part) -> OptimizationProfile:
    """What was seen of the part's inputs with open dimensions and of those that hold sizes.

    A tensor that was empty in some sample counts as one of size 1 there. What was not collected is missing.
    """
    is_open = {
        tensor.name
        for tensor in part.inputs
        if tensor.shape is None or not all(isinstance(dim, int) for dim in tensor.shape)
    }
    ranges = {
        name: ShapeRange(*(tuple(max(size, 1) for size in shape) for shape in (item.min, item.opt, item.max)))
        for name, item in collected.ranges.items()
        if name in is_open
    }
    names = {tensor.name for tensor in part.inputs}
    return OptimizationProfile(ranges, {name: item for name, item in collected.values.items() if name in names})


def save_shapes(collected: CollectedShapes, path: str | Path) -> Path:
    """Write one JSON file in one step. Raises ShapeError when it cannot be written."""
    path = Path(path)
    text = json.dumps(
        {
            "format": FORMAT,
            "model": collected.model_name,
            "model_sha256": collected.model_sha256,
            "samples": collected.samples,
            "shapes": profile_to_json(OptimizationProfile(collected.ranges)),
            "values": profile_to_json(OptimizationProfile(collected.values)),
        }
    )
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_text(text)
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise ShapeError(f"{path}: the shapes cannot be written ({error.strerror}).") from error
    return path


def load_shapes(path: str | Path, model: Model) -> CollectedShapes:
    """Read what was collected for this model. Raises ShapeError for a file of another model or of another kind."""
    try:
        data = json.loads(Path(path).read_text())
        if data["format"] != FORMAT:
            raise ShapeError(f"{path}: written by another release of the workbench; collect the shapes again.")
        collected = CollectedShapes(
            str(data["model"]),
            str(data["model_sha256"]),
            int(data["samples"]),
            profile_from_json(data["shapes"]).ranges,
            profile_from_json(data["values"]).ranges,
        )
    except OSError as error:
        raise ShapeError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShapeError(f"{path}: holds no collected shapes ({error}); collect them again.") from error
    try:
        collected.check(model)
    except ShapeError as error:
        raise ShapeError(f"{path}: {error}") from error
    return collected


_Change = tuple[tuple[int, Entry], ...]


class _Tally:
    """What was seen so far, entry by entry.

    Samples of one kind, by their inputs, differ in what depends on data only; so of each kind the first is kept, and
    how often others differed from it in which entries.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._low: tuple[Entry, ...] = ()
        self._high: tuple[Entry, ...] = ()
        self._first: dict[tuple[Entry, ...], tuple[Entry, ...]] = {}
        self._changes: dict[tuple[Entry, ...], Counter[_Change]] = {}

    def add(self, kind: tuple[Entry, ...], entries: tuple[Entry, ...]) -> None:
        self._low = tuple(map(partial(_outer, min), self._low, entries)) if self.samples else entries
        self._high = tuple(map(partial(_outer, max), self._high, entries)) if self.samples else entries
        first = self._first.setdefault(kind, entries)
        change = tuple((index, entry) for index, entry in enumerate(entries) if entry != first[index])
        self._changes.setdefault(kind, Counter())[change] += 1
        self.samples += 1

    def ranges(self) -> Iterator[ShapeRange | None]:
        for low, opt, high in zip(self._low, self._typical(), self._high, strict=True):
            yield None if low is None or opt is None or high is None else ShapeRange(low, opt, high)

    def _typical(self) -> list[Entry]:
        """The most frequent sample of the most frequent kind; of equally frequent ones the largest."""
        kind = max(self._changes, key=lambda kind: (self._changes[kind].total(), sum(map(_elements, kind))))
        changes, first = self._changes[kind], self._first[kind]

        def growth(change: _Change) -> int:
            return sum(_elements(entry) - _elements(first[index]) for index, entry in change)

        entries = list(first)
        for index, entry in max(changes, key=lambda change: (changes[change], growth(change))):
            entries[index] = entry
        return entries


def _outer(end: Callable[[int, int], int], one: Entry, other: Entry) -> Entry:
    """end: min or max, for each size."""
    if one is None or other is None or len(one) != len(other):
        return None
    return one if one == other else tuple(map(end, one, other))


def _elements(entry: Entry) -> int:
    return 0 if entry is None else math.prod(entry)
