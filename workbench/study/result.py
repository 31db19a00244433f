"""Study: what came out when engines and baselines were measured in turns; plain data, with tables, kept in a file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

from workbench.accuracy import Interval
from workbench.comparison import Comparison, comparison_from_json
from workbench.comparison import Contestant as Compared
from workbench.engine import Engine
from workbench.errors import ConfigError, ViewError
from workbench.machine import this_machine
from workbench.saving import replace_file
from workbench.tables import Table
from workbench.terminal import table
from workbench.timing import Measurement, format_rate, measurement_from_json
from workbench.timing.statistics import rank_text, ranks, ratio_interval
from workbench.timing.throughput import Throughput, throughput_from_json

HEADS = ("", "median ms", "95 % interval", "p90 ms", "p99 ms", "per second", "against {}", "rank")
HOSTS = "host to host ms"
"""The head of one more column, where a GPU was measured."""
_HOSTS_AT = 3
TIED = "no measurable difference"


@dataclass(frozen=True)
class Subject:
    """What a contestant is, for tables, plots and the history. engine: where the store has one."""

    name: str
    backend: str
    precision: str
    engine: Engine | None = None
    build_s: float | None = None
    plan_bytes: int | None = None


@dataclass(frozen=True, repr=False)
class Study:
    """What was measured in turns. Shows itself as tables, in a notebook and as text.

    reference: the contestant that others are compared with. failures: why a contestant is missing, in a sentence, by
    name. throughputs: by contestant, where batches or streams were varied. recorded: 'recorded on NVIDIA H200, ...', ''
    for what was measured here.
    """

    id: str
    at: str
    model: str
    model_sha256: str
    subjects: tuple[Subject, ...]
    measurements: tuple[Measurement, ...]
    reference: str
    comparison: Comparison | None = None
    failures: Mapping[str, str] = field(default_factory=dict)
    throughputs: Mapping[str, tuple[Throughput, ...]] = field(default_factory=dict)
    recorded: str = ""

    def __getitem__(self, name: str) -> Measurement:
        """Raises ConfigError for a name that was not measured."""
        for item in self.measurements:
            if item.name == name:
                return item
        known = ", ".join(item.name for item in self.measurements)
        raise ConfigError(f"{name!r} was not measured; there are {known}.")

    def subject(self, name: str) -> Subject:
        return next(item for item in self.subjects if item.name == name)

    @property
    def latencies(self) -> dict[str, Interval]:
        """The medians that are compared, by name: the GPU's own only where all have one, else host to host."""
        return comparable(self.measurements)[0]

    @property
    def ranks(self) -> dict[str, tuple[int, int]]:
        """The best and the worst place of each, 1 for the fastest; noise leaves open what lies between."""
        return ranks(self.latencies)

    def speedup(self, name: str) -> Interval:
        """How many times as fast as the reference, by medians. Touches 1 where there is no measurable difference."""
        found = self.latencies
        return ratio_interval(found[self.reference], found[self[name].name])

    def verdict(self, name: str) -> str:
        """'2.1 times as fast (2.0 to 2.2)', '1.3 times as slow (...)', TIED, or '' of the reference."""
        if name == self.reference:
            return ""
        found = self.speedup(name)
        if found.low <= 1 <= found.high:
            return TIED
        if found.value >= 1:
            return f"{found.value:.2f} times as fast ({found.low:.2f} to {found.high:.2f})"
        return f"{1 / found.value:.2f} times as slow ({1 / found.high:.2f} to {1 / found.low:.2f})"

    def rows(self) -> list[tuple[str, ...]]:
        """A head, then a row for every contestant; times with the copies, too, where a GPU was measured."""
        place = self.ranks
        heads = [text.format(self.reference) for text in HEADS]
        rows = [
            (item.name, *_numbers(item), self.verdict(item.name), rank_text(place[item.name]))
            for item in self.measurements
        ]
        if any(item.host_median for item in self.measurements):
            heads.insert(_HOSTS_AT, HOSTS)
            hosts = (f"{item.host_median.value:.3f}" if item.host_median else "" for item in self.measurements)
            rows = [(*row[:_HOSTS_AT], host, *row[_HOSTS_AT:]) for row, host in zip(rows, hosts, strict=True)]
        return [tuple(heads), *rows]

    @property
    def notes(self) -> tuple[str, ...]:
        """Who is missing, and what makes numbers less than they seem; each sentence once."""
        missing = [f"{name}: {reason}" for name, reason in self.failures.items()]
        warned: dict[str, list[str]] = {}
        for item in self.measurements:
            for text in item.warnings:
                warned.setdefault(text, []).append(item.name)
        shared, own = len(self.measurements), [item.host_median is not None for item in self.measurements]
        mixed = any(own) and not all(own)
        return (
            *missing,
            *["Compared from host to host, as the GPU's own clock is not that of all."] * mixed,
            *(text if len(names) == shared else f"{', '.join(names)}: {text}" for text, names in warned.items()),
        )

    def summary(self) -> Table:
        """Times, errors and the first outputs of every contestant, one row each."""
        compared = self.comparison
        shown = compared.values if compared else ()
        labels = [label for item in shown for label in item.labels]
        headers = ("", "median ms", f"against {self.reference}", "error, %", *labels)
        errors = {item.name: _error(item) for item in compared.contestants} if compared else {}
        rows = (
            (
                item.name, f"{item.median.value:.3f}", self.verdict(item.name) or "the reference",
                None if item.name == self.reference else errors.get(item.name),
                *(value for output in shown for value in _padded(output.values.get(item.name, ()), len(output.labels))),
            )
            for item in self.measurements
        )  # fmt: skip
        return Table(self.recorded or f"{self.model}, measured here", headers, tuple(rows))

    def __repr__(self) -> str:
        """Short: the raw times would fill pages."""
        return f"<Study {self.id} of {self.model}: {', '.join(item.name for item in self.measurements)}>"

    def __str__(self) -> str:
        parts = [table(self.rows()), *self.notes]
        if self.comparison is not None:
            parts += ["", str(self.comparison)]
        return "\n".join([*([self.recorded] if self.recorded else []), *parts])

    def _repr_html_(self) -> str:
        head, *rows = self.rows()
        notes = "".join(f"<p>{escape(text)}</p>" for text in self.notes)
        below = self.comparison._repr_html_() if self.comparison is not None else ""
        return f"{Table(self.recorded, head, tuple(rows))._repr_html_()}{notes}{below}"

    def to_json(self) -> dict[str, Any]:
        """Raw times, provenance and scores; engines by key."""
        subjects = [{**vars(item), "engine": item.engine.key if item.engine else None} for item in self.subjects]
        return {
            **vars(self),
            "subjects": subjects,
            "measurements": [item.to_json() for item in self.measurements],
            "comparison": self.comparison.to_json() if self.comparison else None,
            "failures": dict(self.failures),
            "throughputs": {name: [item.to_json() for item in found] for name, found in self.throughputs.items()},
        }


def comparable(measurements: Sequence[Measurement]) -> tuple[dict[str, Interval], str]:
    """Medians in ms by one kind of clock, and which: the GPU's own only where all have it."""
    hosts = [item.host_median for item in measurements]
    if all(hosts):
        return {item.name: item.median for item in measurements}, "on the GPU, copies not counted"
    if any(hosts):
        found = {item.name: host or item.median for item, host in zip(measurements, hosts, strict=True)}
        return found, "from host to host"
    return {item.name: item.median for item in measurements}, ""


def study_from_json(data: Mapping[str, Any]) -> Study:
    """The inverse of Study.to_json, without engines."""
    subjects = tuple(Subject(**{**item, "engine": None}) for item in data["subjects"])
    values = {
        **data,
        "subjects": subjects,
        "measurements": tuple(measurement_from_json(item) for item in data["measurements"]),
        "comparison": comparison_from_json(data["comparison"]) if data["comparison"] else None,
        "throughputs": {name: tuple(map(throughput_from_json, found)) for name, found in data["throughputs"].items()},
    }
    return Study(**values)


def save_study(study: Study, path: str | Path) -> Path:
    """Write a study with its raw times, whole or not at all; returns the path. Raises ConfigError."""
    path = Path(path).expanduser()
    try:
        replace_file(path, gzip.compress(json.dumps(study.to_json()).encode(), mtime=0))
    except OSError as error:
        raise ConfigError(f"{path}: the study cannot be written there ({error.strerror}).") from error
    return path


def load_study(path: str | Path) -> Study:
    """What `save_study` wrote; on another machine than this one it says where it was recorded. Raises ViewError."""
    try:
        found = study_from_json(json.loads(gzip.decompress(Path(path).expanduser().read_bytes())))
    except FileNotFoundError as error:
        raise ViewError(f"{path}: there is no such study.") from error
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ViewError(f"{path}: not a study as this release reads them ({error}).") from error
    machines = {item.machine for item in found.measurements}
    return found if machines == {this_machine()} else replace(found, recorded=found.recorded or _label(found))


def _label(study: Study) -> str:
    """'recorded on NVIDIA H200, TensorRT 8.6.0, 2026-12-01'."""
    machine = study.measurements[0].machine
    where = ", ".join(gpu.name for gpu in machine.gpus) or machine.cpu
    releases = {item.releases["tensorrt"] for item in study.measurements if "tensorrt" in item.releases}
    return ", ".join([f"recorded on {where}", *(f"TensorRT {name}" for name in sorted(releases)), study.at[:10]])


def _error(item: Compared) -> float | None:
    """Of all outputs the largest, in percent; None where nothing could be compared."""
    outputs = item.evaluation.outputs if item.evaluation else ()
    return max((output.relative.value for output in outputs), default=None)


def _padded(values: Sequence[float], count: int) -> tuple[float | None, ...]:
    return (*values, *(None,) * (count - len(values)))


def _numbers(item: Measurement) -> tuple[str, ...]:
    middle = item.median
    return (
        f"{middle.value:.3f}", f"{middle.low:.3f} to {middle.high:.3f}", f"{item.p90_ms:.3f}", f"{item.p99_ms:.3f}",
        format_rate(item.throughput_per_s),
    )  # fmt: skip
