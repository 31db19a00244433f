"""What sessions are fed with: batches of a data set read beforehand, the profile that takes them, whole batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.backends import Session
from workbench.calibration.samples import Sample, Skipped, choose, read_samples
from workbench.contest.rules import Contest
from workbench.errors import ConfigError, FeedError
from workbench.evaluation import Runs
from workbench.model import Model
from workbench.types import Feeds, LogLine, OptimizationProfile, Progress, Shape, ShapeRange, count_of

READING = "Reading the data set"
MOST_BATCHES = 20
"""No more are read for a benchmark: each has a turn then."""
_TOLD = ("copies", "threads", "releases", "cuda_graph", "host_clock", "host_times_ms")
"""What a session may tell more of itself."""

Shapes = Mapping[str, Shape]


def check_batches(model: Model, sizes: Iterable[int]) -> None:
    """Raise ConfigError for a batch that the model does not take, because it fixes the first dimension of an input."""
    for spec in model.inputs:
        fixed = spec.shape[0] if spec.shape else None
        wrong = [size for size in sizes if isinstance(fixed, int) and size != fixed]
        if wrong:
            raise ConfigError(
                f"{model.name} takes batches of {fixed} only, which its input {spec} fixes, and not of {wrong[0]}: "
                f"ask for --batch-size {fixed}, or open the dimension with --dim {spec.name}:0=batch."
            )


def fixed_batch(model: Model) -> int | None:
    """The batch that the model takes alone; None where it is open."""
    sizes = (spec.shape[0] for spec in model.inputs if spec.shape)
    return next((size for size in sizes if isinstance(size, int)), None)


def profile_of_sizes(model: Model, sizes: Sequence[Shapes], batch: int) -> OptimizationProfile | None:
    """The profile for batches up to `batch`, tuned for whole ones, of samples of these sizes; None for fixed inputs."""
    ranges = {}
    for spec in model.inputs:
        if not spec.open_axes:
            continue
        shapes = [item[spec.name] for item in sizes]
        usual = Counter(shapes).most_common(1)[0][0]
        low, high = (tuple(map(edge, zip(*shapes, strict=True))) for edge in (min, max))
        if 0 in spec.open_axes and low[0] == high[0] == 1:
            usual, high = (batch, *usual[1:]), (batch, *high[1:])
        ranges[spec.name] = ShapeRange(low, usual, high)
    return OptimizationProfile(ranges) if ranges else None


def sizes_of(feeds: Feeds) -> dict[str, Shape]:
    return {name: tuple(array.shape) for name, array in feeds.items()}


# ---- a benchmark's


@dataclass(frozen=True)
class Ahead:
    """Samples of one size, read before anything is timed. about: a sentence on what was read and left out."""

    samples: tuple[Sample, ...]
    about: str

    def batches(self, size: int) -> tuple[Feeds, ...]:
        """MOST_BATCHES whole ones of them at most; the last begins anew where samples run out."""
        samples = self.samples[: MOST_BATCHES * size]
        groups = [samples[start : start + size] for start in range(0, len(samples), size)]
        if size == 1:
            return tuple(sample.feeds for (sample,) in groups)
        first = self.samples[0].feeds
        if any(array.shape[:1] != (1,) for array in first.values()):
            raise FeedError(f"{self.samples[0].id}: the samples cannot be stacked; ask for batches of 1.")
        filled = [[*group, *(self.samples * size)[: size - len(group)]] for group in groups]
        return tuple(
            {name: np.concatenate([sample.feeds[name] for sample in group]) for name in first} for group in filled
        )


def read_ahead(contest: Contest) -> Ahead:
    """As many samples as a benchmark has use for: MOST_BATCHES of the largest batch, within the budget of memory.

    Of samples of several sizes those of the commonest one. Raises FeedError, Cancelled.
    """
    rules, total = contest.rules, len(contest.samples)
    chosen = choose(total, min(MOST_BATCHES * max(rules.batches), rules.samples or total))
    read, skipped = list[Sample](), list[Skipped]()
    held, over = 0, False
    for sample in _watched(contest, chosen, skipped):
        read.append(sample)
        held += _bytes_of(sample)
        over = held > rules.budget_bytes and len(read) >= max(rules.batches)
        if over:
            break
    contest.listener(Progress(READING, len(chosen), len(chosen)))
    groups = Counter(str(sizes_of(sample.feeds)) for sample in read)
    usual = groups.most_common(1)[0][0]
    kept = tuple(sample for sample in read if str(sizes_of(sample.feeds)) == usual)
    megabytes, others = sum(map(_bytes_of, kept)) / 1e6, len(read) - len(kept)
    about = f"{count_of(len(kept), 'sample')} of {total:,} were read beforehand, {megabytes:,.1f} MB"
    about += f" (no more, by the budget of {rules.budget_bytes / 1e6:,.1f} MB)" if over else ""
    about += f"; {count_of(others, 'sample')} of other sizes were left out" if others else ""
    about += f"; {count_of(len(skipped), 'sample')} could not be read" if skipped else ""
    return Ahead(kept, f"{about}.")


def _bytes_of(sample: Sample) -> int:
    return sum(array.nbytes for array in sample.feeds.values())


def read_sizes(contest: Contest, chosen: Sequence[int]) -> list[Shapes]:
    """The sizes of all these samples, which are read for it."""
    found: list[Shapes] = [sizes_of(sample.feeds) for sample in _watched(contest, chosen, [])]
    contest.listener(Progress(READING, len(chosen), len(chosen)))
    return found


def _watched(contest: Contest, chosen: Sequence[int], skipped: list[Skipped]) -> Iterator[Sample]:
    """Samples as they are read, with Progress; broken ones are added to `skipped`. Raises Cancelled."""
    contest.listener(Progress(READING, 0, len(chosen)))
    read = read_samples(contest.samples, chosen, strict=contest.rules.strict, skipped=skipped)
    for done, sample in enumerate(read):
        contest.stop_if_cancelled(f"reading {count_of(done, 'sample')}")
        yield sample
        contest.listener(Progress(READING, done + 1 + len(skipped), len(chosen)))
    for item in skipped:
        contest.listener(LogLine("warning", f"Left out: {item.reason}"))


class OverBatches:
    """A session that takes another batch for every turn: its times are of all of them, each with data of its own.

    The batches follow one another; the run that brings the next one in is not timed. rivals: whether others run in
    turns with it: then a turn's first call does not count (`timing.measure_together`), and the next takes the same one.
    """

    def __init__(self, session: Session, batches: Sequence[Feeds], *, rivals: bool) -> None:
        self.inputs, self.outputs, self.clock = session.inputs, session.outputs, session.clock
        for name in _TOLD:
            if hasattr(session, name):
                setattr(self, name, getattr(session, name))
        self.fed = 0
        """So many different batches were timed, or warmed up with."""
        self._session, self._batches = session, batches
        self._calls, self._each = 0, 2 if rivals else 1

    def run(self, feeds: Feeds) -> dict[str, Any]:
        return self._session.run(feeds)

    def times_ms(self, iterations: int) -> list[float]:
        place, rest = divmod(self._calls, self._each)
        self._calls += 1
        if not rest:
            self._session.run(self._batches[place % len(self._batches)])
            self.fed = min(place + 1, len(self._batches))
        return self._session.times_ms(iterations)

    def __enter__(self) -> OverBatches:
        return self

    def __exit__(self, *raised: object) -> None:
        """The session is closed by whoever opened it."""


# ---- accuracy's


def whole_batch(model: Model, feeds: Feeds) -> Feeds:
    """The feeds, filled up with their last row where the model fixes a larger batch."""
    missing = (fixed_batch(model) or 1) - next((array.shape[0] for array in feeds.values() if array.ndim), 1)
    if missing < 1:
        return feeds
    return {name: np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) for name, array in feeds.items()}


class Whole:
    """Runs what is filled up to whole batches, and cuts the surplus rows off the outputs."""

    def __init__(self, runs: Runs, model: Model) -> None:
        self._runs, self._model = runs, model

    def run(self, feeds: Feeds) -> Mapping[str, Any]:
        filled = whole_batch(self._model, feeds)
        outputs = self._runs.run(filled)
        if filled is feeds:
            return outputs
        count, batch = (next(iter(arrays.values())).shape[0] for arrays in (feeds, filled))
        return {name: array[:count] if array.shape[:1] == (batch,) else array for name, array in outputs.items()}
