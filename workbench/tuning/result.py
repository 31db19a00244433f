"""Tuned: what a search has found so far or in the end; plain data, with tables, kept in a file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.accuracy import finite
from workbench.errors import ConfigError, ViewError
from workbench.study import Study, study_from_json
from workbench.tables import Table
from workbench.terminal import table
from workbench.tuning.candidate import Candidate
from workbench.tuning.goals import Goals, Limit, Score, front, value_text
from workbench.tuning.html import tuned_html
from workbench.tuning.trial import COMPLETE, FAILED, PRUNED, Trial, trial_from_json
from workbench.types import BuildConfig, config_from_json, config_to_json, count_of

RUNNING, PAUSED, FINISHED, STOPPED = "running", "paused", "finished", "stopped"
FORMAT = 1


@dataclass(frozen=True)
class Running:
    """A candidate that is being tried. phase: what its worker told last."""

    candidate: str
    worker: str
    column: str
    phase: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Best:
    """trial: its id. engines: keys in the store. config: of the build. tied: ids of finalists that cannot be told apart
    from it in the first objective, with itself. reason: why it was taken, in sentences."""

    trial: str
    engines: tuple[str, ...]
    config: BuildConfig
    tied: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Column:
    """What was found on one kind of machine, by its name; nothing is ranked across columns. sizes: '96 combinations,
    41 after rules'. left_out: why, in sentences. finals: the finalists measured in turns, by what they are called
    there; finalists: the ids of their trials, by name. importance: by objective, what share each knob has in it."""

    name: str
    sizes: str = ""
    left_out: tuple[str, ...] = ()
    finalists: Mapping[str, str] = field(default_factory=dict)
    finals: Study | None = None
    best: Best | None = None
    importance: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Tuned:
    """A search. id: 12 hexadecimal digits, the same whenever it goes on. state: one of RUNNING, PAUSED, FINISHED,
    STOPPED. trials: those of this search, in order, also from before it was stopped. columns: by kind of machine, the
    one with most trials first. notes: sentences for the user. again: code that runs the same search, by title.
    recorded: 'recorded on NVIDIA H200, ...', '' if it ran here."""

    id: str
    model: str
    model_sha256: str
    goals: Goals
    state: str = RUNNING
    trials: tuple[Trial, ...] = ()
    columns: tuple[Column, ...] = ()
    running: tuple[Running, ...] = ()
    seconds: float = 0.0
    at: str = ""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    data: str = ""
    notes: tuple[str, ...] = ()
    recorded: str = ""
    again: Mapping[str, str] = field(default_factory=dict)

    def trial(self, trial_id: str) -> Trial:
        """Raises ConfigError for one that is not of this search."""
        for item in self.trials:
            if item.id == trial_id:
                return item
        raise ConfigError(f"{trial_id!r} is no trial of this search.")

    def of(self, column: str) -> dict[str, Trial]:
        """The complete trials of a column, by id."""
        return {item.id: item for item in self.trials if item.column == column and item.is_complete}

    def scores(self, column: str) -> dict[str, Score]:
        return {name: item.score for name, item in self.of(column).items() if item.score is not None}

    def front(self, column: str = "") -> tuple[Trial, ...]:
        """Of a column, the first by default: those that no other dominates, the best of the first objective first."""
        name = column or (self.columns[0].name if self.columns else "")
        return tuple(self.trial(item) for item in front(self.scores(name), self.goals))

    @property
    def best(self) -> Best | None:
        """Of the first column."""
        return self.columns[0].best if self.columns else None

    @property
    def counts(self) -> dict[str, int]:
        """Trials by state, and how many of them had been measured before."""
        found = {state: sum(item.state == state for item in self.trials) for state in (COMPLETE, PRUNED, FAILED)}
        return {**found, "known": sum(item.known for item in self.trials)}

    @property
    def summary(self) -> str:
        """'25 trials: 20 measured, 4 given up early, 1 failed; 3 were known'."""
        found = self.counts
        parts = [f"{found[COMPLETE]:,} measured"]
        parts += [f"{found[PRUNED]:,} given up early"] * bool(found[PRUNED])
        parts += [f"{found[FAILED]:,} failed"] * bool(found[FAILED])
        known = f"; {found['known']:,} of them known from before" if found["known"] else ""
        return f"{count_of(len(self.trials), 'trial')}: {', '.join(parts)}{known}"

    def rows(self, column: str = "") -> Table:
        """The front of a column and its finalists, the best first; as measured in the search, and again in turns."""
        name = column or (self.columns[0].name if self.columns else "")
        found = next((item for item in self.columns if item.name == name), Column(name))
        again = {trial: label for label, trial in found.finalists.items()}
        turns = {item.name: item.median.value for item in found.finals.measurements} if found.finals else {}
        best, front = found.best.trial if found.best else "", [item.id for item in self.front(name)]
        headers = ("candidate", "", "latency ms", "in turns", "per second", "lost", "size MB", "memory MB")
        rows = []
        for key in dict.fromkeys([*([best] if best else []), *front, *again]):
            item, label = self.trial(key), again.get(key, "")
            if item.score is None:
                continue
            mark = "best" if key == best else "front" if key in front else "finalist"
            rows.append((
                str(item.candidate), mark, f"{item.score.latency_ms.value:.3f}",
                f"{turns[label]:.3f}" if label in turns else "", f"{item.score.throughput.value:,.0f}",
                value_text("accuracy", item.score.loss.value, item.score.metric),
                f"{item.score.size_bytes / 1e6:.1f}",
                f"{item.score.memory_bytes / 1e6:.1f}" if item.score.memory_bytes else "",
            ))  # fmt: skip
        return Table(name, headers, tuple(rows))

    def __repr__(self) -> str:
        return f"<Tuned {self.id} of {self.model}: {self.summary}>"

    def _repr_html_(self) -> str:
        return tuned_html(self)

    def __str__(self) -> str:
        parts = [self.recorded] if self.recorded else []
        after = f" after {self.seconds:.0f} s" if self.seconds else ""
        parts += [f"search {self.id} of {self.model}, {self.goals}: {self.state}{after}", self.summary]
        for column in self.columns:
            shown = self.rows(column.name)
            parts += ["", f"{column.name} ({column.sizes})" if column.sizes else column.name]
            if shown.rows:
                parts.append(table([shown.headers, *(tuple(map(str, row)) for row in shown.rows)]))
            if column.best:
                parts.append(f"best: {self.trial(column.best.trial).candidate}. {column.best.reason}")
                parts.append(f"engine: {', '.join(column.best.engines)}")
        return "\n".join([*parts, *(f"note: {text}" for text in self.notes)])

    def to_json(self) -> dict[str, Any]:
        first = self.columns[0].name if self.columns else ""
        return {
            "format": FORMAT,
            "id": self.id,
            "model": self.model,
            "model_sha256": self.model_sha256,
            "goals": goals_to_json(self.goals),
            "state": self.state,
            "seconds": self.seconds,
            "at": self.at,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "data": self.data,
            "notes": list(self.notes),
            "recorded": self.recorded,
            "again": dict(self.again),
            "trials": [item.to_json() for item in self.trials],
            "front": [item.id for item in self.front(first)],
            "best": _best_to_json(self, self.best),
            "columns": [_column_to_json(self, item) for item in self.columns],
        }


def goals_to_json(goals: Goals) -> dict[str, Any]:
    limits = [{"objective": item.objective, "bound": item.bound} for item in goals.limits]
    return {"objectives": list(goals.objectives), "limits": limits, "metric": goals.metric}


def goals_from_json(data: Mapping[str, Any]) -> Goals:
    return Goals(tuple(data["objectives"]), tuple(Limit(**item) for item in data["limits"]), data["metric"])


def _best_to_json(tuned: Tuned, best: Best | None) -> dict[str, Any] | None:
    if best is None:
        return None
    trial = tuned.trial(best.trial)
    return {
        "trial": best.trial,
        "engine": best.engines[0] if best.engines else None,
        "engines": list(best.engines),
        "config": config_to_json(best.config),
        "candidate": vars(trial.candidate),
        "tied": list(best.tied),
        "reason": best.reason,
    }


def _column_to_json(tuned: Tuned, column: Column) -> dict[str, Any]:
    shares = {name: {knob: finite(value) for knob, value in found.items()} for name, found in column.importance.items()}
    return {
        "name": column.name,
        "sizes": column.sizes,
        "left_out": list(column.left_out),
        "front": [item.id for item in tuned.front(column.name)],
        "finalists": dict(column.finalists),
        "finals": column.finals.to_json() if column.finals else None,
        "best": _best_to_json(tuned, column.best),
        "importance": shares,
    }


def tuned_from_json(data: Mapping[str, Any]) -> Tuned:
    """The inverse of Tuned.to_json; nothing of it is running."""
    return Tuned(
        id=data["id"],
        model=data["model"],
        model_sha256=data["model_sha256"],
        goals=goals_from_json(data["goals"]),
        state=data["state"],
        trials=tuple(map(trial_from_json, data["trials"])),
        columns=tuple(map(_column_from_json, data["columns"])),
        seconds=data["seconds"],
        at=data["at"],
        shapes={name: tuple(shape) for name, shape in data["shapes"].items()},
        data=data["data"],
        notes=tuple(data["notes"]),
        recorded=data["recorded"],
        again=data.get("again", {}),
    )


def _column_from_json(data: Mapping[str, Any]) -> Column:
    best = data["best"]
    return Column(
        name=data["name"],
        sizes=data["sizes"],
        left_out=tuple(data["left_out"]),
        finalists=data["finalists"],
        finals=study_from_json(data["finals"]) if data["finals"] else None,
        best=best
        and Best(
            best["trial"],
            tuple(best["engines"]),
            config_from_json(best["config"]),
            tuple(best["tied"]),
            best["reason"],
        ),
        importance=data["importance"],
    )


def save_tuned(tuned: Tuned, path: str | Path) -> Path:
    """Write a search with all its trials, whole or not at all; returns the path. Raises ConfigError."""
    path = Path(path).expanduser()
    draft = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(gzip.compress(json.dumps(tuned.to_json()).encode(), mtime=0))
        draft.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: the search cannot be written there ({error.strerror}).") from error
    return path


def load_tuned(path: str | Path) -> Tuned:
    """What `save_tuned` wrote; labelled as recorded, with where. Raises ViewError."""
    try:
        found = tuned_from_json(json.loads(gzip.decompress(Path(path).expanduser().read_bytes())))
    except FileNotFoundError as error:
        raise ViewError(f"{path}: there is no such search.") from error
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ViewError(f"{path}: not a search as this release reads them ({error}).") from error
    where = ", ".join(column.name for column in found.columns)
    return replace(found, recorded=found.recorded or f"recorded on {where}, {found.at[:10]}")


def names_of(candidates: Mapping[str, Candidate]) -> dict[str, str]:
    """Short names for a study, by trial id; those that are alike told apart by the id."""
    names = {key: str(candidate) for key, candidate in candidates.items()}
    return {
        key: name if list(names.values()).count(name) == 1 else f"{name} ({key[:4]})" for key, name in names.items()
    }
