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
_VERSION = 1
_TABLES = """
CREATE TABLE asked (
    number INTEGER PRIMARY KEY, search TEXT NOT NULL, key TEXT NOT NULL, candidate TEXT NOT NULL, trial TEXT NOT NULL,
    state TEXT NOT NULL, results TEXT NOT NULL, excess TEXT NOT NULL, UNIQUE (search, key)
)
"""
"""One row for each candidate of a search; what is told last has the largest number."""


@dataclass(frozen=True)
class Told:
    """What became of a candidate. trial: its id, '' while it is under way. state: one of trial.STATES. values: by
    objective, smaller is better, finite; none where it is not complete. excess: by how much limits are broken, by name,
    0 or less where they hold."""

    candidate: Candidate
    trial: str = ""
    state: str = ""
    values: tuple[float, ...] = ()
    excess: Mapping[str, float] = field(default_factory=dict)

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
            columns = "candidate, trial, state, results, excess"
            query = f"SELECT {columns} FROM asked WHERE search = ? ORDER BY number"
            return connection.execute(query, (self._search,)).fetchall()

        nothing: list[Any] = []
        return [
            Told(candidate_from_json(json.loads(text)), trial, state, tuple(json.loads(values)), json.loads(excess))
            for text, trial, state, values, excess in self._database.read(read, nothing)
        ]

    def note(self, told: Told) -> None:
        """In place of what is known of this candidate."""
        texts = (json.dumps(vars(told.candidate)), told.trial, told.state)
        row = (self._search, told.candidate.key, *texts, json.dumps(told.values), json.dumps(dict(told.excess)))
        self._write(f"REPLACE INTO asked VALUES (NULL{', ?' * len(row)})", row)

    def drop(self, candidate: Candidate) -> None:
        """As if nobody had asked for it."""
        self._write("DELETE FROM asked WHERE search = ? AND key = ?", (self._search, candidate.key))

    def _write(self, statement: str, values: tuple[str, ...]) -> None:
        self._database.write(lambda connection: connection.execute(statement, values))
