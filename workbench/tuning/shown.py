"""A search, as far as showing it needs to know it; result.Tuned is one, and imports what shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from workbench.errors import ConfigError
from workbench.study import Study
from workbench.tables import Table
from workbench.tuning.goals import Goals
from workbench.tuning.trial import Trial
from workbench.types import BuildConfig, Shape


class Winner(Protocol):
    """result.Best."""

    @property
    def trial(self) -> str: ...
    @property
    def engines(self) -> tuple[str, ...]: ...
    @property
    def config(self) -> BuildConfig: ...
    @property
    def tied(self) -> tuple[str, ...]: ...
    @property
    def reason(self) -> str: ...


class Lane(Protocol):
    """result.Column."""

    @property
    def name(self) -> str: ...
    @property
    def sizes(self) -> str: ...
    @property
    def left_out(self) -> tuple[str, ...]: ...
    @property
    def finalists(self) -> Mapping[str, str]: ...
    @property
    def finals(self) -> Study | None: ...
    @property
    def best(self) -> Winner | None: ...
    @property
    def importance(self) -> Mapping[str, Mapping[str, float]]: ...


class Shown(Protocol):
    """result.Tuned."""

    @property
    def id(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def model_sha256(self) -> str: ...
    @property
    def goals(self) -> Goals: ...
    @property
    def state(self) -> str: ...
    @property
    def trials(self) -> tuple[Trial, ...]: ...
    @property
    def columns(self) -> tuple[Lane, ...]: ...
    @property
    def seconds(self) -> float: ...
    @property
    def at(self) -> str: ...
    @property
    def shapes(self) -> Mapping[str, Shape]: ...
    @property
    def data(self) -> str: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def recorded(self) -> str: ...
    @property
    def summary(self) -> str: ...
    def rows(self, column: str = "") -> Table: ...
    def front(self, column: str = "") -> tuple[Trial, ...]: ...


def lane_of(tuned: Shown, column: str = "") -> Lane:
    """The column of this name, the first by default. Raises ConfigError where there is none."""
    for item in tuned.columns:
        if column in ("", item.name):
            return item
    known = ", ".join(item.name for item in tuned.columns)
    raise ConfigError(f"the search has no column {column!r}; there is {known or 'none yet: nothing was tried'}.")


def trials_of(tuned: Shown, column: str) -> tuple[Trial, ...]:
    """All of a column, whatever became of them, in order."""
    return tuple(item for item in tuned.trials if item.column == column)
