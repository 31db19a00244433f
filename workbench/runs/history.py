"""History: the runs of all notebooks and shells of this store, in one SQLite file."""

from __future__ import annotations

import re
import sqlite3
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.engine import Engine
from workbench.errors import ConfigError, StoreError, UnknownRun
from workbench.runs.database import Database
from workbench.runs.filters import Filter
from workbench.runs.records import Run, build_to_json, run_of_build, stamp
from workbench.runs.rows import (
    TABLES,
    VERSION,
    by_prefix,
    delete_run,
    fetch,
    insert_run,
    storable,
    unknown,
    unzip,
    zipped_of,
)
from workbench.store import EngineStore
from workbench.types import Listener, LogLine, Progress

FILE = "runs.sqlite"
PATIENCE_S = 30.0
_BUILDS_PATIENCE_S = 1.0
"""A build does not wait for its row."""
_NAME = r"\w[\w.+ -]{0,99}"
"""What may be called a baseline."""


@dataclass(frozen=True)
class Baseline:
    """A name for a run, or for the runs of a study. at: when it was given."""

    name: str
    at: str
    study: str
    runs: tuple[Run, ...]


def warn(event: Progress | LogLine) -> None:
    """The listener of a History that is given none: Python's own warnings, which notebooks and shells show."""
    if isinstance(event, LogLine):
        warnings.warn(event.text, stacklevel=2)


class History:
    """folder: of the engine store (default: WORKBENCH_HOME, else the user's cache folder). patience_s: how long to wait
    for others that write. listener: gets a warning when a damaged file was set aside.

    Safe for many processes and threads, any of which may be killed. What a method wrote is there when it returns. All
    raise StoreError when the file cannot be read or written.
    """

    def __init__(
        self, folder: str | Path | None = None, *, patience_s: float = PATIENCE_S, listener: Listener = warn
    ) -> None:
        place = EngineStore(folder).folder
        self.path = place / FILE
        self._database = Database(self.path, place / "locks" / f"{FILE}.lock", TABLES, VERSION, patience_s, listener)

    # ---- writing

    def add(self, run: Run, data: Mapping[str, Any] | None = None) -> None:
        """data: everything else, as JSON: raw times, provenance."""
        self.add_many([(run, data or {})])

    def add_many(self, runs: Iterable[tuple[Run, Mapping[str, Any]]]) -> None:
        """All of them or none. Raises StoreError when one is there already."""
        rows = [storable(run, data) for run, data in runs]

        def write(connection: sqlite3.Connection) -> None:
            for run, zipped in rows:
                insert_run(connection, run, zipped)

        self._database.write(write)

    def delete(self, run: Run) -> None:
        """Raises StoreError for what a baseline names, and UnknownRun."""

        def write(connection: sqlite3.Connection) -> None:
            named = "SELECT name FROM baselines WHERE run = ? OR (study <> '' AND study = ?)"
            for (name,) in connection.execute(named, (run.id, run.study)):
                raise StoreError(
                    f"{run.id} is kept: the baseline {name!r} names it. Give the name to another run first, or take it "
                    f"away with `workbench runs forget {name!r}`."
                )
            delete_run(connection, run)

        self._database.write(write)

    # ---- reading

    def list(self, wanted: Filter | None = None) -> tuple[Run, ...]:
        """The newest first, in the order of their writing; the newest 50 by default."""
        tail, values = (wanted or Filter()).conditions()
        return self._database.read(lambda connection: fetch(connection, tail, values), ())

    def get(self, prefix: str) -> Run:
        """The run whose id starts with `prefix`. Raises UnknownRun if none or several do."""
        return self.find(prefix) or unknown(prefix)

    def find(self, prefix: str) -> Run | None:
        """As `get`, but None if there is none. Raises UnknownRun if there are several."""
        return self._database.read(lambda connection: by_prefix(connection, prefix), None)

    def data(self, run: Run) -> Any:
        """What `add` was given with it. Raises UnknownRun."""
        (found,) = self.data_of([run])
        return found

    def data_of(self, runs: Sequence[Run]) -> tuple[Any, ...]:
        """As `data`, of many at once, in their order."""
        ids, nothing = [run.id for run in runs], dict[str, bytes | None]()
        zipped = self._database.read(lambda connection: zipped_of(connection, ids), nothing)
        return tuple(unzip(run.id, zipped) for run in runs)

    # ---- names

    def name_baseline(self, name: str, which: str) -> Baseline:
        """Give a name to a study, or to the run whose id starts with `which`; one that is in use moves there.

        Raises ConfigError for what is no name, and UnknownRun."""
        if not re.fullmatch(_NAME, name):
            raise ConfigError(f"{name!r} is no name for a baseline; take letters, digits, spaces and . + - _.")

        def write(connection: sqlite3.Connection) -> Baseline:
            study = fetch(connection, "WHERE study = ? ORDER BY number DESC", [which]) if which else ()
            runs = study or (by_prefix(connection, which) or unknown(which),)
            found = Baseline(name, stamp(), which if study else "", runs)
            run = "" if study else runs[0].id
            connection.execute("REPLACE INTO baselines VALUES (?, ?, ?, ?)", (name, found.at, run, found.study))
            return found

        return self._database.write(write)

    def forget_baseline(self, name: str) -> None:
        """Take a name away; its runs stay. Raises UnknownRun."""

        def write(connection: sqlite3.Connection) -> None:
            if not connection.execute("DELETE FROM baselines WHERE name = ?", (name,)).rowcount:
                raise UnknownRun(f"there is no baseline {name!r}; `workbench runs names` lists them.")

        self._database.write(write)

    def baselines(self) -> tuple[Baseline, ...]:
        """The last named first."""

        def read(connection: sqlite3.Connection) -> tuple[Baseline, ...]:
            rows = connection.execute("SELECT name, at, run, study FROM baselines ORDER BY at DESC, name").fetchall()
            tail = "WHERE id = ? OR (study <> '' AND study = ?) ORDER BY number DESC"
            return tuple(
                Baseline(name, at, study, fetch(connection, tail, [run, study])) for name, at, run, study in rows
            )

        return self._database.read(read, ())

    def baseline(self, name: str) -> Baseline:
        """Raises UnknownRun."""
        known = {item.name: item for item in self.baselines()}
        if name not in known:
            hint = f"there are {', '.join(known)}" if known else "`workbench runs name NAME ID` makes one"
            raise UnknownRun(f"there is no baseline {name!r}; {hint}.")
        return known[name]


def record_build(engine: Engine, folder: Path, listener: Listener) -> None:
    """Write a row into the history of this store; where that cannot be, the listener gets a warning."""
    try:
        history = History(folder, patience_s=_BUILDS_PATIENCE_S, listener=listener)
        history.add(run_of_build(engine), build_to_json(engine))
    except StoreError as error:
        listener(LogLine("warning", f"The build is not in the history: {error}"))
