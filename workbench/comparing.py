"""Any number of sessions on the same feeds: outputs side by side, how far they lie apart, and what the task loses."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.comparison import Comparison, Contestant, Shown, comparison_from_json
from workbench.errors import Cancelled, ConfigError, FeedError, RunError, WorkbenchError
from workbench.evaluation import Runs, evaluation_of
from workbench.tally import Fed, Tally
from workbench.types import Feeds, Listener, Progress, count_of, ignore

__all__ = ["PHASE", "SHOWN", "Comparison", "Contestant", "Shown", "compare", "comparison_from_json", "match_outputs"]

PHASE = "Comparing outputs"
SHOWN = 10
"""So many values of an output are shown side by side."""
_TEXT = "OSU"


def compare(
    contestants: Mapping[str, Runs],
    samples: Feeds | Iterable[Fed | Feeds],
    *,
    reference: str | None = None,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Comparison:
    """Run all on the same arrays, each once for a batch; nothing is kept but scores, and the values that are shown.

    contestants: sessions, or whatever else runs feeds, by the name to show. samples: arrays by input name, or batches
    of them, such as calibration.samples.batches gives with ids and labels. Of arrays without ids each row is a sample,
    if all inputs and outputs have as many rows. reference: the name of the one that the others are compared with, the
    first if not given.

    Outputs are matched by name; where the names differ, but not their number, by their place. One that is text, or has
    no row for each sample, is left out, and a note says so. A contestant that cannot be compared gets a sentence in
    place of scores. Raises ConfigError for a reference that is none, FeedError without samples, for labels that do not
    fit, and where no output can be compared, Cancelled, and what the reference raises.
    """
    name = _reference(contestants, reference)
    race = _Race(name, {key: _Entrant(key, runs) for key, runs in contestants.items()}, cancel)
    for batch in _batches(samples):
        race.run(batch)
        listener(Progress(PHASE, race.count, None))
    return race.result()


def _reference(contestants: Mapping[str, Runs], wanted: str | None) -> str:
    if not contestants:
        raise ConfigError("there is nothing to compare: name two sessions or more.")
    if wanted is not None and wanted not in contestants:
        raise ConfigError(f"the reference {wanted!r} is none of those compared: {', '.join(contestants)}.")
    return wanted or next(iter(contestants))


@dataclass(frozen=True)
class _Loose:
    """Arrays whose samples have no ids yet."""

    feeds: Feeds
    labels: None = None
    ids: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()

    def named(self, outputs: Feeds, start: int) -> _Loose:
        """Every row a sample, if all arrays have as many, else all one; numbered from `start` on."""
        rows = {np.shape(array)[:1] for array in (*self.feeds.values(), *outputs.values())}
        (count,) = next(iter(rows)) if len(rows) == 1 and () not in rows else (1,)
        return replace(self, ids=tuple(f"sample {start + number}" for number in range(1, max(count, 1) + 1)))


def _batches(samples: Feeds | Iterable[Fed | Feeds]) -> Iterator[Fed]:
    for item in [samples] if isinstance(samples, Mapping) else samples:
        yield _Loose(item) if isinstance(item, Mapping) else item


class _Entrant:
    """One of those compared, while it runs. shown: by the reference's outputs, the first values of the first sample."""

    def __init__(self, name: str, runs: Runs) -> None:
        self.name, self.tally = name, Tally()
        self.shown: dict[str, tuple[float, ...]] = {}
        self.failure = ""
        self._runs = runs
        self._notes: dict[str, str] = {}
        self._left_out: set[str] = set()

    def outputs(self, feeds: Feeds) -> dict[str, np.ndarray]:
        """The arrays are copies: frameworks may write into what they are fed with."""
        return _arrays(self._runs.run({name: np.array(array) for name, array in feeds.items()}))

    def run(self, expected: Feeds, batch: Fed) -> None:
        """Once on a batch, unless it failed before. expected: the reference's outputs."""
        if self.failure:
            return
        try:
            outputs = self.outputs(batch.feeds)
            self.take({name: outputs[own] for name, own in self._matched(tuple(expected), outputs)}, expected, batch)
        except Cancelled:
            raise
        except Exception as error:  # it may be anybody's code, and the others go on
            where = f"on {batch.ids[0]}: " if self.tally.count else ""
            self.failure = where + _sentence(error)

    def _matched(self, wanted: tuple[str, ...], given: Feeds) -> list[tuple[str, str]]:
        pairs, note = match_outputs(wanted, tuple(given))
        if note:
            self._notes.setdefault("names", note)
        return pairs

    def take(self, outputs: Feeds, expected: Feeds, batch: Fed) -> None:
        """Score outputs that bear the reference's names. Raises FeedError where none can be compared."""
        if not self.tally.count:
            self.shown = {name: _first_values(array, len(batch.ids))[1] for name, array in outputs.items()}
        for name in expected:
            reason = _mismatch(outputs.get(name), expected[name])
            if reason:
                self.leave_out(name, f"output {name} {reason}")
        left = [name for name in expected if name not in self._left_out]
        if not left:
            raise FeedError(f"no output of it can be compared: {'; '.join(self.notes)}.")
        self.tally.add({name: expected[name] for name in left}, {name: outputs[name] for name in left}, batch)

    def leave_out(self, name: str, note: str = "") -> None:
        if name not in self._left_out:
            self._left_out.add(name)
            self.tally.leave_out(name)
            if note:
                self._notes[name] = note

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._notes.values())

    def result(self) -> Contestant:
        if self.failure:
            return Contestant(self.name, None, notes=self.notes, failure=self.failure)
        return Contestant(self.name, replace(evaluation_of(self.tally), digests=()), self.tally.worst(), self.notes)


class _Race:
    def __init__(self, reference: str, entrants: Mapping[str, _Entrant], cancel: threading.Event | None) -> None:
        self._reference, self._entrants, self._cancel = entrants[reference], entrants, cancel
        self._notes: dict[str, str] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    @property
    def count(self) -> int:
        return self._reference.tally.count

    def run(self, batch: Fed) -> None:
        self._check()
        outputs = self._expected(batch)
        if isinstance(batch, _Loose):
            batch = batch.named({name: array for name, array in outputs.items() if not _unusable(array, 1)}, self.count)
        for name, array in outputs.items():
            reason = _unusable(array, len(batch.ids))
            if reason and name not in self._notes:
                self._notes[name] = f"output {name} {reason}, and is left out."
                for entrant in self._entrants.values():
                    entrant.tally.leave_out(name)
        usable = {name: array for name, array in outputs.items() if name not in self._notes}
        if not usable:
            raise FeedError(f"no output can be compared: {' '.join(self._notes.values())}")
        if not self.count:
            self._shapes = {name: _first_values(array, len(batch.ids))[0] for name, array in usable.items()}
        self._reference.take(usable, usable, batch)
        for entrant in self._entrants.values():
            if entrant is not self._reference:
                self._check()
                entrant.run(usable, batch)

    def _expected(self, batch: Fed) -> dict[str, np.ndarray]:
        """Copies, as another contestant may be the same session, which uses its buffers again."""
        try:
            outputs = self._reference.outputs(batch.feeds)
        except WorkbenchError:
            raise
        except Exception as error:  # it may be anybody's code
            raise RunError(f"the reference {self._reference.name} cannot be run: {_sentence(error)}") from error
        return {name: np.array(array) for name, array in outputs.items()}

    def _check(self) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled(f"stopped after {count_of(self.count, 'sample')}.")

    def result(self) -> Comparison:
        if not self.count:
            raise FeedError("there are no samples to compare on.")
        contestants = tuple(entrant.result() for entrant in self._entrants.values())
        shown = {entrant.name: entrant.shown for entrant in self._entrants.values()}
        return Comparison(
            reference=self._reference.name,
            count=self.count,
            contestants=contestants,
            values=tuple(
                Shown(output, shape, {name: values[output] for name, values in shown.items() if output in values})
                for output, shape in self._shapes.items()
            ),
            first_id=self._reference.tally.ids[0],
            digests=tuple(self._reference.tally.digests),
            notes=tuple(self._notes.values()),
        )


def match_outputs(wanted: Sequence[str], given: Sequence[str]) -> tuple[list[tuple[str, str]], str]:
    """Pairs of names, the wanted one first, and a note where they do not tell by themselves what belongs together.

    By name; if the names differ but not their number, those without a counterpart by their place.
    """
    rest = [name for name in wanted if name not in given]
    over = [name for name in given if name not in wanted]
    pairs = dict(zip(rest, over, strict=True)) if len(rest) == len(over) else {}
    pairs |= {name: name for name in wanted if name in given}
    note = ""
    if rest and len(rest) == len(over):
        note = f"its outputs are matched by their place: {', '.join(f'{pairs[name]} as {name}' for name in rest)}"
    elif rest:
        note = f"it lacks {', '.join(rest)} and gives {', '.join(given) or 'nothing'}"
    return [(name, pairs[name]) for name in wanted if name in pairs], note


def _arrays(outputs: Any) -> dict[str, np.ndarray]:
    """Outputs by name; frameworks give tuples, too, or a single tensor."""
    if isinstance(outputs, Mapping):
        return {str(name): _array(value) for name, value in outputs.items()}
    several = outputs if isinstance(outputs, list | tuple) else (outputs,)
    return {f"output {number}": _array(value) for number, value in enumerate(several)}


def _array(value: Any) -> np.ndarray:
    """Tensors of frameworks know the way to the host themselves."""
    for step in ("detach", "cpu", "numpy"):
        value = getattr(value, step)() if hasattr(value, step) else value
    return np.asarray(value)


def _unusable(array: np.ndarray, count: int) -> str:
    """Why nothing tells how far such an output is apart, or ''."""
    if array.dtype.kind in _TEXT:
        return "is text"
    if array.dtype.kind == "c":
        return "holds complex numbers"
    if count > 1 and array.shape[:1] != (count,):
        return f"of the shape {array.shape} has no row for each of {count} samples (feed one at a time)"
    return ""


def _mismatch(array: np.ndarray | None, expected: np.ndarray) -> str:
    if array is None:
        return "is missing"
    if array.dtype.kind in _TEXT:
        return "is text"
    if array.shape != expected.shape:
        return f"has the shape {array.shape}, the reference's {expected.shape}"
    return ""


def _first_values(array: np.ndarray, count: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The shape of the first sample, and its first values."""
    if array.dtype.kind in _TEXT:
        return array.shape, ()
    first = array[0] if array.shape[:1] == (count,) else array
    return first.shape, tuple(float(value) for value in first.ravel()[:SHOWN])


def _sentence(error: Exception) -> str:
    if isinstance(error, WorkbenchError):
        return str(error)
    told = str(error).strip().split("\n")[0]
    return f"it fails with {type(error).__name__}{': ' if told else ''}{told.rstrip('.')}."
