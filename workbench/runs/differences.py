"""Two runs side by side: what differs, and whether one may be called the faster."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from workbench.accuracy import Interval, finite
from workbench.runs.records import Run
from workbench.timing.statistics import apart, ratio_interval

SAME, FASTER, SLOWER, INCOMPARABLE = "no measurable difference", "faster", "slower", "not comparable"
TIMED_ALIKE = ("machine_id", "clock", "copies", "batch", "shapes")
"""Fields of Run in which two that were timed must agree, or their times say nothing about each other."""
_OBSTACLES = {
    "model_sha256": "their models differ in content",
    "machine_id": "they were measured on different machines",
    "clock": "their times are by different clocks",
    "copies": "only one of them counts the copies between host and GPU",
    "batch": "their batches differ",
    "shapes": "their inputs differ in shape",
    "threads": "they may use different numbers of processors",
}
_SHOWN = {"machine_id": "machine"}
_BULK = ("times_ms", "host_times_ms", "layer_times_ms", "windows", "digests", "changed")
_LONG = 8
_EACH_THEIR_OWN = ("id", "at")
Rows = tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class RunDifference:
    """Fields of Run, and entries of the runs' data, that differ: (name, of the one, of the other), in words. ratio: of
    the median times, one over other. verdict: FASTER if `one` is, ..."""

    fields: Rows
    provenance: Rows
    ratio: Interval | None
    verdict: str
    sentence: str

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": ratio_to_json(self.ratio)}


def diff(one: Run, other: Run, one_data: Any, other_data: Any) -> RunDifference:
    """one_data, other_data: what History.data tells of them."""
    fields = tuple(row for row in _differing(texts(one), texts(other)) if row[0] not in _EACH_THEIR_OWN)
    provenance = _differing(dict(flat(one_data)), dict(flat(other_data)))
    ratio, verdict = compare_times(one, other, TIMED_ALIKE)
    if ratio is None:
        return RunDifference(fields, provenance, None, verdict, f"{verdict}: {'; '.join(obstacles(one, other))}.")
    return RunDifference(fields, provenance, ratio, verdict, _sentence(one, other, ratio, verdict))


def compare_times(one: Run, other: Run, alike: Sequence[str]) -> tuple[Interval | None, str]:
    """The ratio of the medians with its 95 % interval, and what may be said: `one` is FASTER or SLOWER only where their
    intervals do not touch. None and INCOMPARABLE where one of `alike` differs."""
    mine, theirs = one.median, other.median
    if mine is None or theirs is None or obstacles(one, other, alike):
        return None, INCOMPARABLE
    verdict = SAME if not apart(mine, theirs) else FASTER if mine.value < theirs.value else SLOWER
    ratio = ratio_interval(mine, theirs)
    return (replace(ratio, high=math.inf) if theirs.low <= 0 else ratio), verdict


def obstacles(one: Run, other: Run, alike: Sequence[str] = TIMED_ALIKE) -> list[str]:
    """Why their times say nothing about each other, in half sentences; empty where they do."""
    untimed = [run for run in (one, other) if not run.median_ms]
    if untimed:
        return [f"{run.id} ({run.kind}) holds no times" for run in untimed]
    found = []
    for name in alike:
        values = [getattr(run, name) for run in (one, other)]
        if values[0] != values[1]:
            shown = [getattr(run, _SHOWN.get(name, name)) for run in (one, other)]
            found.append(f"{_OBSTACLES[name]} ({word(shown[0])[:80]}; {word(shown[1])[:80]})")
    return found


def flat(data: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """All entries of JSON side by side, in words, without raw times: ('conditions.setting.driver', '580')."""
    if isinstance(data, Mapping) and data:
        for name, value in data.items():
            if name not in _BULK:
                yield from flat(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(data, list) and any(isinstance(item, Mapping) for item in data):
        for number, item in enumerate(data[:_LONG]):
            yield from flat(item, f"{prefix}.{number}")
    elif prefix:
        yield prefix, word(data)


def word(value: Any) -> str:
    """A value of JSON, for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(word, value[:_LONG])) + (f", ... ({len(value)})" if len(value) > _LONG else "") or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value in (None, "", {}) else str(value)


def ratio_to_json(ratio: Interval | None) -> dict[str, float | None] | None:
    return None if ratio is None else {name: finite(value) for name, value in asdict(ratio).items()}


def texts(run: Run) -> dict[str, str]:
    """What a run tells, in words, the entries of its configuration side by side."""
    told = {name: word(value) for name, value in run._asdict().items() if name != "config"}
    return {**told, **dict(flat(json.loads(run.config), "config"))} if run.config else told


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> Rows:
    names = [*one, *(name for name in other if name not in one)]
    pairs = [(name, one.get(name, "none"), other.get(name, "none")) for name in names]
    return tuple(row for row in pairs if row[1] != row[2])


def _sentence(one: Run, other: Run, ratio: Interval, verdict: str) -> str:
    apart = "" if one.study and one.study == other.study else (
        " They were not measured in turns, so what changed on the machine in between counts, too."
    )  # fmt: skip
    mine, theirs = (f"{run.id} takes {median_words(run)}" for run in (one, other))
    if verdict == SAME:
        return f"{verdict}: {mine}, {theirs}; the intervals overlap.{apart}"
    return f"{one.id} is {verdict}: {mine}, {theirs}; {ratio_words(ratio)} times as long.{apart}"


def median_words(run: Run) -> str:
    """'1.2 ms (1.1 to 1.3)'."""
    ends = f" ({run.low_ms:.4g} to {run.high_ms:.4g})" if run.low_ms is not None and run.high_ms is not None else ""
    return f"{run.median_ms:.4g} ms{ends}"


def ratio_words(ratio: Interval) -> str:
    return f"{ratio.value:.4g} ({ratio.low:.4g} to {ratio.high:.4g} with 95 % confidence)"
