"""Which rows of the history a report tells of, and the studies that they make up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.comparison import Comparison, Contestant, comparison_from_json
from workbench.engine import Engine
from workbench.errors import ConfigError, StoreError, UnknownRun
from workbench.evaluation import Evaluation, evaluation_from_json
from workbench.report.facts import SearchFacts
from workbench.runs import Filter, History, Run
from workbench.study import Study, Subject, load_study, measurement_of_row, rest_of_row
from workbench.timing import Measurement
from workbench.timing.throughput import Throughput


@dataclass(frozen=True)
class Row:
    """A run with all that is kept of it."""

    run: Run
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Search:
    """A search of the tuner, made ready to be told of. verdict: a few sentences for each kind of machine. finals: what
    was measured in turns, by a heading. engines: the best ones' keys in the store, with what they are called."""

    facts: SearchFacts
    model: str
    model_sha256: str
    verdict: tuple[str, ...]
    finals: Mapping[str, Study] = field(default_factory=dict)
    engines: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Chosen:
    """rows: in the order of their writing. studies: saved as files."""

    rows: tuple[Row, ...]
    studies: tuple[Study, ...] = ()
    searches: tuple[Search, ...] = ()

    @property
    def engines(self) -> list[str]:
        """Keys of those that are named, once each."""
        finals = [study for search in self.searches for study in search.finals.values()]
        named = [item.engine.key for study in finals for item in study.subjects if item.engine is not None]
        best = [key for search in self.searches for key in search.engines]
        return list(dict.fromkeys([*(row.run.engine for row in self.rows if row.run.engine), *best, *named]))


def choose(history: History, names: Sequence[str]) -> Chosen:
    """names: the start of a run's or a study's id, a baseline's name, or a file that `save_study` wrote. A run of a
    study brings the whole study, as its numbers belong together.

    Raises UnknownRun, ViewError for a file that is no study, ConfigError where nothing is named.
    """
    if not names:
        raise ConfigError("a report tells of runs: name some, as `workbench runs` lists them.")
    files = [name for name in names if Path(name).expanduser().is_file()]
    found = [run for name in names if name not in files for run in _named(history, name)]
    studies = dict.fromkeys(run.study for run in found if run.study)
    whole = [run for study in studies for run in _study(history, study)]
    runs = dict.fromkeys([*whole, *found])
    ordered = sorted(runs, key=lambda run: run.at)
    rows = tuple(map(Row, ordered, history.data_of(ordered)))
    return Chosen(rows, tuple(load_study(name) for name in dict.fromkeys(files)))


def _named(history: History, name: str) -> Sequence[Run]:
    """The runs of a study, one run, or those of a baseline."""
    whole = _study(history, name.lower())
    if whole:
        return whole
    for baseline in history.baselines():
        if baseline.name == name:
            return baseline.runs
    try:
        return [history.get(name)]
    except UnknownRun as error:
        studies = {run.study for run in history.list(Filter(limit=None)) if run.study.startswith(name.lower())}
        if name and len(studies) == 1:
            return _study(history, studies.pop())
        if len(studies) > 1:
            raise UnknownRun(
                f"{len(studies)} studies have an id that starts with {name!r}; write more of it."
            ) from error
        raise


def _study(history: History, name: str) -> list[Run]:
    """In the order of their writing."""
    return list(reversed(history.list(Filter(study=name, limit=None)))) if name else []


# ---- studies


@dataclass(frozen=True)
class Group:
    """What was measured on the same inputs. in_turns: in one study. heading: of a search's finals, '' else."""

    study: Study
    in_turns: bool
    heading: str = ""


def groups_of(chosen: Chosen, engines: Mapping[str, Engine]) -> list[Group]:
    """Studies as they were, and what was measured by itself, together by model and inputs. engines: by key."""
    parts: dict[tuple[str, str, str], list[Row]] = {}
    for row in chosen.rows:
        if row.run.kind == "measurement":
            run = row.run
            place = (run.study, "" if run.study else run.model_sha256, run.shapes)
            parts.setdefault(place, []).append(row)
    compared = comparisons_of(chosen.rows)
    found = [
        Group(_rebuilt(rows, compared.get(study) if study else None, engines), bool(study) or len(rows) == 1)
        for (study, _, _), rows in parts.items()
    ]
    finals = [Group(study, True, name) for search in chosen.searches for name, study in search.finals.items()]
    return [*finals, *found, *(Group(study, True) for study in chosen.studies)]


def _rebuilt(rows: Sequence[Row], compared: Comparison | None, engines: Mapping[str, Engine]) -> Study:
    names = _distinct(rows)
    read = [_read(row) for row in rows]
    measurements = [replace(item, name=name) for (item, _, _), name in zip(read, names, strict=True)]
    subjects = [
        Subject(
            name, row.run.backend or "baseline", row.run.precision, engines.get(row.run.engine), row.run.build_s,
            row.run.size_bytes,
        )
        for row, name in zip(rows, names, strict=True)
    ]  # fmt: skip
    reference = compared.reference if compared is not None and compared.reference in names else names[0]
    run = rows[0].run
    return Study(
        id=run.study, at=run.at, model=run.model, model_sha256=run.model_sha256, subjects=tuple(subjects),
        measurements=tuple(measurements), reference=reference, comparison=compared,
        failures={name: reason for _, failures, _ in read for name, reason in failures.items()},
        throughputs={name: rates for (_, _, rates), name in zip(read, names, strict=True) if rates},
    )  # fmt: skip


def _read(row: Row) -> tuple[Measurement, dict[str, str], tuple[Throughput, ...]]:
    """What was measured, and what else its study knows. Raises StoreError for a row without raw times."""
    try:
        return measurement_of_row(row.data), *rest_of_row(row.data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"the run {row.run.id} holds no raw times as this release reads them ({error!r}).") from error


def _distinct(rows: Sequence[Row]) -> list[str]:
    """What each is called; with the run's id where several would be called alike."""
    names = [row.run.subject or row.run.id for row in rows]
    return [
        name if names.count(name) == 1 else f"{name} ({row.run.id[:6]})" for name, row in zip(names, rows, strict=True)
    ]


def comparisons_of(rows: Iterable[Row]) -> dict[str, Comparison]:
    """The comparison of all contestants, by study; of rows with scores alone, what they tell."""
    whole: dict[str, Comparison] = {}
    scored: dict[str, dict[str, Evaluation]] = {}
    for row in rows:
        study = row.run.study or row.run.id
        if "contestants" in row.data:
            whole[study] = comparison_from_json(row.data)
        elif row.run.kind == "accuracy":
            scored.setdefault(study, {})[row.run.subject or row.run.id] = evaluation_from_json(row.data)
    return {**{study: _scores(found) for study, found in scored.items()}, **whole}


def _scores(found: Mapping[str, Evaluation]) -> Comparison:
    """The reference is the one that was compared with itself; a single row does not tell it."""
    same = (name for name, item in found.items() if all(output.max_abs == 0 for output in item.outputs))
    reference = next(same, "the reference") if len(found) > 1 else "the reference"
    contestants = tuple(Contestant(name, item) for name, item in found.items())
    return Comparison(reference, max(item.count for item in found.values()), contestants, (), "")
