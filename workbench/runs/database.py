"""The file of the history: opened anew for each use, made whole or not at all, set aside when damaged.

SQLite with a write-ahead log: one may write while others read, and whatever was committed outlives the process that
wrote it, however that ends. Its files are never opened by anything but SQLite, as closing a file drops the locks that
other threads hold on it, and never renamed while anybody uses them (https://www.sqlite.org/howtocorrupt.html).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from workbench.errors import StoreError
from workbench.runs.gate import gate
from workbench.types import Listener, LogLine

_LOGS = ("-wal", "-shm")
_TRIES = 3
_CACHE = "-65536"
"""Of pages, in KiB as it is negative: a large history is read without reading a page twice."""

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]


class _Damaged(Exception):
    """What SQLite says of it."""


@dataclass(frozen=True)
class Database:
    """path: of the file. lock: of the gate that everybody passes who uses it, and alone who moves it. tables: SQL that
    makes it. version: of these tables; a later one is refused. patience_s: how long to wait for others. listener: gets
    a warning when a damaged file was set aside."""

    path: Path
    lock: Path
    tables: str
    version: int
    patience_s: float
    listener: Listener

    def read(self, work: Work[Result], nothing: Result) -> Result:
        """What `work` finds in one consistent state; `nothing` where there is no database. Raises StoreError."""
        return self._try(lambda: self._in_transaction(work, "BEGIN") if self.path.exists() else nothing)

    def write(self, work: Work[Result]) -> Result:
        """Do `work` wholly or not at all. It is written when this returns. Raises StoreError."""
        if not self._writable:
            raise StoreError(f"{self.path} cannot be written; set WORKBENCH_HOME to a folder you own.")

        def attempt() -> Result:
            if not self.path.exists():
                with gate(self.lock, alone=True, patience_s=self.patience_s):
                    self._make()
            return self._in_transaction(work, "BEGIN IMMEDIATE")

        return self._try(attempt)

    @property
    def _writable(self) -> bool:
        """Others may set the file aside, and begin it anew, between two looks."""
        if not os.access(self.path.parent, os.W_OK):
            return False
        return os.access(self.path, os.W_OK) or not self.path.exists() or os.access(self.path, os.W_OK)

    def _try(self, attempt: Callable[[], Result]) -> Result:
        """Again, where the file was set aside, by this process or another."""
        reason = "it disappears"
        for _ in range(_TRIES):
            identity = self._identity()
            try:
                return attempt()
            except _Damaged as damage:
                reason = str(damage)
                self._set_aside(identity, reason)
            except sqlite3.Error as error:
                if self.path.exists():
                    raise StoreError(f"{self.path}: {self._in_words(error)}") from error
            except OSError as error:
                raise StoreError(f"{self.path}: the history cannot be written ({error.strerror}).") from error
        raise StoreError(f"{self.path} is damaged again and again ({reason}); set WORKBENCH_HOME to another disk.")

    def _in_transaction(self, work: Work[Result], begin: str) -> Result:
        with gate(self.lock, alone=False, patience_s=self.patience_s):
            connection = self._connect()
            try:
                connection.execute(begin)
                result = work(connection)
                connection.execute("COMMIT")
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                _raise_if_damaged(error)
                raise
            finally:
                connection.close()  # what was not committed never was
        return result

    def _connect(self) -> sqlite3.Connection:
        if self._writable:
            return self._checked("rw")
        try:
            return self._checked("ro")
        except sqlite3.OperationalError:
            log = self.path.with_name(self.path.name + "-wal")
            if log.exists() and log.stat().st_size:
                raise
        # Nobody writes and nobody here may, so SQLite cannot make the files by which it shares the database.
        return self._checked("ro&immutable=1")

    def _checked(self, mode: str) -> sqlite3.Connection:
        """Raises _Damaged for what is no history, StoreError for that of a later workbench."""
        uri = f"{self.path.as_uri()}?mode={mode}"
        connection = sqlite3.connect(uri, uri=True, timeout=self.patience_s, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA cache_size={_CACHE}")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()
            self._check(version, tables)
        except BaseException as error:
            connection.close()
            _raise_if_damaged(error)
            raise
        return connection

    def _check(self, version: int, tables: int) -> None:
        if version > self.version:
            raise StoreError(
                f"{self.path} was written by a later workbench (its form is {version}, this one knows {self.version}); "
                "update the workbench, or set WORKBENCH_HOME to another folder."
            )
        if version < 1 or not tables:
            raise _Damaged("it holds no history")

    def _make(self) -> None:
        """Call alone. A database appears whole, so that nobody ever opens half of one."""
        if self.path.exists():
            return
        self._move_logs(self._place_aside())  # of a file that was set aside by a process that died over it
        draft = self.path.with_name(f".{self.path.name}.part")
        for suffix in ("", "-journal", *_LOGS):
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            connection.executescript(f"BEGIN; {self.tables}; PRAGMA user_version={self.version}; COMMIT")
            connection.execute("PRAGMA journal_mode=WAL")
        finally:
            connection.close()
        draft.replace(self.path)

    def _set_aside(self, identity: tuple[int, int] | None, reason: str) -> None:
        """Rename the file, unless another process has done so: it is another file then."""
        if not self._writable:
            raise StoreError(f"{self.path} is damaged ({reason}), and cannot be set aside: this folder is not yours.")
        with gate(self.lock, alone=True, patience_s=self.patience_s):
            if identity is None or self._identity() != identity:
                return
            place = self._place_aside()
            self.path.rename(place)
            self._move_logs(place)
        text = f"{self.path} was damaged ({reason}); it is kept as {place.name}, and a new history begins."
        self.listener(LogLine("warning", text))

    def _move_logs(self, place: Path) -> None:
        for suffix in _LOGS:
            log = self.path.with_name(self.path.name + suffix)
            if log.exists():
                log.rename(place.with_name(place.name + suffix))

    def _place_aside(self) -> Path:
        moment = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%f")
        return self.path.with_name(f"{self.path.stem}-damaged-{moment}{self.path.suffix}")

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _in_words(self, error: sqlite3.Error) -> str:
        text = str(error)
        if "locked" in text or "busy" in text:
            return f"other programs kept the history busy for {self.patience_s:g} s; try again."
        if "full" in text:
            return "the disk is full; free some space, or set WORKBENCH_HOME to another folder."
        return f"the history cannot be used ({text}); set WORKBENCH_HOME to a folder you own."


def _raise_if_damaged(error: BaseException) -> None:
    """SQLite has a class of its own for what is malformed or no database; a file that lacks tables, or holds no text
    where there should be some, is told as an operational error, and in words that are no text themselves."""
    words = ("no such table", "Could not decode")
    operational = isinstance(error, sqlite3.OperationalError) and any(text in str(error) for text in words)
    if type(error) is sqlite3.DatabaseError or operational or isinstance(error, UnicodeDecodeError):
        raise _Damaged(str(error)) from error
