"""Asked: what searches have asked for and what they were told, in one SQLite file, for whoever goes on with them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.runs.database import Database
from workbench.runs.history import PATIENCE_S, warn
from workbench.store import EngineStore
from workbench.tuning.candidate import Candidate, candidate_from_json

FILE = "tuning.sqlite"
_VERSION = 2
_TABLES = """
CREATE TABLE candidates (
    number INTEGER PRIMARY KEY, search TEXT NOT NULL, key TEXT NOT NULL, candidate TEXT NOT NULL, trial TEXT NOT NULL,
    state TEXT NOT NULL, results TEXT NOT NULL, excess TEXT NOT NULL, begun INTEGER NOT NULL, UNIQUE (search, key)
)
"""
"""One row for each candidate of a search; what is told last has the largest number. In version 1 the table was `asked`,
so that a file of that time counts as damaged and is set aside."""
_ROW = "VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True)
class Told:
    """What became of a candidate. trial: its id, '' while it is under way. state: one of trial.STATES. values: by
    objective, smaller is better, finite; none where it is not complete. excess: by how much limits are broken, by name,
    0 or less where they hold. begun: how often it was begun, while no process has told what
    became of it."""

    candidate: Candidate
    trial: str = ""
    state: str = ""
    values: tuple[float, ...] = ()
    excess: Mapping[str, float] = field(default_factory=dict)
    begun: int = 0

    @property
    def beyond(self) -> float:
        """By how much limits are broken together, 0 where all hold."""
        return sum(max(0.0, value) for value in self.excess.values())


class Asked:
    """folder: of the store. search: its name. All methods raise StoreError, and what they wrote outlives a kill. A file
    that was damaged is set aside: trials are in the history, and found there when they are asked for again."""

    def __init__(self, folder: Path, search: str) -> None:
        place = EngineStore(folder).folder
        self._database = Database(place / FILE, place / "locks" / f"{FILE}.lock", _TABLES, _VERSION, PATIENCE_S, warn)
        self._search = search

    def all(self) -> list[Told]:
        """In order, those under way among them."""

        def read(connection: sqlite3.Connection) -> list[Any]:
            columns = "candidate, trial, state, results, excess, begun"
            query = f"SELECT {columns} FROM candidates WHERE search = ? ORDER BY number"
            return connection.execute(query, (self._search,)).fetchall()

        nothing: list[Any] = []
        return [
            Told(
                candidate_from_json(json.loads(text)),
                trial,
                state,
                tuple(json.loads(values)),
                json.loads(excess),
                begun,
            )
            for text, trial, state, values, excess, begun in self._database.read(read, nothing)
        ]

    def note(self, told: Told) -> None:
        """In place of what is known of this candidate."""
        self._write(f"REPLACE INTO candidates {_ROW}", self._row(told))

    def begin(self, candidate: Candidate) -> None:
        """It is under way, once more if nobody told what became of it the last time."""
        again = "ON CONFLICT (search, key) DO UPDATE SET begun = begun + 1"
        self._write(f"INSERT INTO candidates {_ROW} {again}", self._row(Told(candidate, begun=1)))

    def give_back(self, candidate: Candidate) -> None:
        """It was not begun this time."""
        where = "WHERE search = ? AND key = ? AND begun > 0"
        self._write(f"UPDATE candidates SET begun = begun - 1 {where}", (self._search, candidate.key))

    def _row(self, told: Told) -> tuple[Any, ...]:
        texts = (json.dumps(vars(told.candidate)), told.trial, told.state)
        results = (json.dumps(told.values), json.dumps(dict(told.excess)))
        return (self._search, told.candidate.key, *texts, *results, told.begun)

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        self._database.write(lambda connection: connection.execute(statement, values))
