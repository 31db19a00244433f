"""Between Run and SQL: the tables, and what is written to and read from them within one transaction."""

from __future__ import annotations

import gc
import hashlib
import json
import re
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from workbench.accuracy import all_finite, finite
from workbench.errors import StoreError, UnknownRun
from workbench.runs.records import RESULTS, SETUP, Run
from workbench.types import count_of

VERSION = 1
_NUMBERS = {"copies", "threads", "batch", "size_bytes"}
_REALS = {"median_ms", "low_ms", "high_ms", "p99_ms", "throughput_per_s", "loss", "build_s"}
_FEW = 500


def _columns(names: Iterable[str]) -> str:
    kinds = {**dict.fromkeys(_NUMBERS, "INTEGER"), **dict.fromkeys(_REALS, "REAL")}
    return ", ".join(f"{name} {kinds.get(name, 'TEXT NOT NULL')}" for name in names)


TABLES = f"""
CREATE TABLE setups (number INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, {_columns(SETUP)});
CREATE TABLE runs (number INTEGER PRIMARY KEY, setup INTEGER NOT NULL, {_columns(RESULTS)}, UNIQUE (id));
CREATE TABLE data (number INTEGER PRIMARY KEY, zipped BLOB NOT NULL);
CREATE TABLE baselines (name TEXT PRIMARY KEY, at TEXT NOT NULL, run TEXT NOT NULL, study TEXT NOT NULL)
"""
"""setups: what stays as it is when the same is measured again, once. runs: newer ones have larger numbers. data: by the
number of the run, apart, so that lists never read it. baselines: the id of a run, or a study."""


def _insert(connection: sqlite3.Connection, table: str, values: Sequence[Any]) -> int:
    """The number of the new row."""
    marks = ", ".join("?" * len(values))
    return int(connection.execute(f"INSERT INTO {table} VALUES ({marks})", tuple(values)).lastrowid or 0)


def insert_run(connection: sqlite3.Connection, run: Run, zipped: bytes) -> None:
    """Raises StoreError when it is there already."""
    setup, result = run[len(RESULTS) :], run[: len(RESULTS)]
    try:
        number = _insert(connection, "runs", (None, _setup_number(connection, setup), *result))
    except sqlite3.IntegrityError as error:
        raise StoreError(f"the run {run.id} is in the history already.") from error
    _insert(connection, "data", (number, zipped))


def delete_run(connection: sqlite3.Connection, run: Run) -> None:
    """Raises UnknownRun."""
    row = connection.execute("SELECT number, setup FROM runs WHERE id = ?", (run.id,)).fetchone()
    if row is None:
        raise UnknownRun(f"there is no run {run.id}; `workbench runs` lists them.")
    number, setup = row
    connection.execute("DELETE FROM runs WHERE number = ?", (number,))
    connection.execute("DELETE FROM data WHERE number = ?", (number,))
    unused = "DELETE FROM setups WHERE number = ? AND NOT EXISTS (SELECT 1 FROM runs WHERE setup = ?)"
    connection.execute(unused, (setup, setup))


def _setup_number(connection: sqlite3.Connection, setup: tuple[Any, ...]) -> int:
    digest = hashlib.sha256(json.dumps(setup).encode()).hexdigest()[:32]
    row = connection.execute(f"SELECT number, {', '.join(SETUP)} FROM setups WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        return _insert(connection, "setups", (None, digest, *setup))
    if row[0] is None or row[1:] != setup:  # SQLite does not see bits that flip within a row
        raise sqlite3.DatabaseError(f"the setup {row[0]} is not what its digest tells")
    return int(row[0])


def fetch(connection: sqlite3.Connection, tail: str, values: Sequence[Any]) -> tuple[Run, ...]:
    """The runs that an SQL query with this end finds."""
    with _no_collector():
        rows = connection.execute(f"SELECT {', '.join(RESULTS)}, setup FROM runs {tail}", values).fetchall()
        setups = _setups(connection, {row[-1] for row in rows} if len(rows) <= _FEW else None)
        new = tuple.__new__  # what Run._make does, without counting the fields again
        try:
            return tuple([new(Run, row[:-1] + setups[row[-1]]) for row in rows])
        except KeyError as error:
            raise sqlite3.DatabaseError(f"the setup {error} of a run is missing") from error


def _setups(connection: sqlite3.Connection, numbers: set[int] | None) -> dict[int, tuple[Any, ...]]:
    """The columns of these rows of `setups`; None for all."""
    which = "" if numbers is None else f"WHERE number IN ({', '.join(map(str, numbers))})"
    rows = connection.execute(f"SELECT number, {', '.join(SETUP)} FROM setups {which}")
    place = SETUP.index("copies")
    return {
        number: (*setup[:place], None if setup[place] is None else bool(setup[place]), *setup[place + 1 :])
        for number, *setup in rows
    }


@contextmanager
def _no_collector() -> Iterator[None]:
    """A hundred thousand new tuples make Python search all of them for cycles, again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def by_prefix(connection: sqlite3.Connection, prefix: str) -> Run | None:
    """None if there is no such run. Raises UnknownRun if there are several."""
    start = prefix.lower()
    if not re.fullmatch("[0-9a-f]{1,12}", start):
        return None
    found = fetch(connection, "WHERE id >= ? AND id < ? LIMIT 9", [start, f"{start}g"])  # g: after every digit
    if len(found) > 1:
        many = "8 runs or more" if len(found) > 8 else count_of(len(found), "run")
        raise UnknownRun(f"{many} have an id that starts with {prefix!r}; write more of it, as {found[0].id[:8]}.")
    return found[0] if found else None


def unknown(prefix: str) -> Run:
    raise UnknownRun(f"no run has an id that starts with {prefix!r}; `workbench runs` lists them.")


def zipped_of(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, bytes | None]:
    """None for what is damaged: a run always has data."""
    found: dict[str, bytes | None] = {}
    for begin in range(0, len(ids), _FEW):
        part = ids[begin : begin + _FEW]
        marks = ", ".join("?" * len(part))
        query = f"SELECT id, zipped FROM runs LEFT JOIN data USING (number) WHERE id IN ({marks})"
        found.update(connection.execute(query, part))
    return found


def unzip(run_id: str, zipped: Mapping[str, bytes | None]) -> Any:
    if run_id not in zipped:
        raise UnknownRun(f"there is no run {run_id}; `workbench runs` lists them.")
    content = zipped[run_id]
    if content is None:  # SQLite does not see that a row has lost its place
        raise StoreError(f"the data of the run {run_id} are missing; what the list tells remains.")
    try:
        return json.loads(zlib.decompress(content))
    except (zlib.error, ValueError, TypeError) as error:
        raise StoreError(f"the data of the run {run_id} are damaged ({error}); what the list tells remains.") from error


def storable(run: Run, data: Mapping[str, Any]) -> tuple[Run, bytes]:
    """As they can be written: what is not finite as None, JSON compressed."""
    return Run._make(map(_storable, run)), zlib.compress(_json(data).encode())


def _storable(value: Any) -> Any:
    """Text that is no Unicode, as file names may be, with a mark in place of what cannot be written."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else finite(value)


def _json(data: Any) -> str:
    """JSON has no infinity and no NaN: null in their place."""
    try:
        return json.dumps(data, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(all_finite(data), allow_nan=False, separators=(",", ":"))
