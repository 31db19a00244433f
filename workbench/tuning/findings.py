"""Findings: what a search has found so far or in the end; plain data, with tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from workbench.errors import ConfigError
from workbench.study import Study
from workbench.tables import Table
from workbench.terminal import table
from workbench.tuning.goals import Goals, Score, front, value_text
from workbench.tuning.trial import COMPLETE, FAILED, PRUNED, Trial
from workbench.types import BuildConfig, count_of

RUNNING, PAUSED, FINISHED, STOPPED = "running", "paused", "finished", "stopped"


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

    @property
    def best_name(self) -> str:
        """What the best is called in the finals, '' where it was not measured there."""
        measured = {item.name for item in self.finals.measurements} if self.finals else set()
        named = (name for name, trial in self.finalists.items() if self.best and trial == self.best.trial)
        return next((name for name in named if name in measured), "")


@dataclass(frozen=True, repr=False)
class Findings:
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


def lane_of(tuned: Findings, column: str = "") -> Column:
    """The column of this name, the first by default. Raises ConfigError where there is none."""
    for item in tuned.columns:
        if column in ("", item.name):
            return item
    known = ", ".join(item.name for item in tuned.columns)
    raise ConfigError(f"the search has no column {column!r}; there is {known or 'none yet: nothing was tried'}.")


def trials_of(tuned: Findings, column: str) -> tuple[Trial, ...]:
    """All of a column, whatever became of them, in order."""
    return tuple(item for item in tuned.trials if item.column == column)
