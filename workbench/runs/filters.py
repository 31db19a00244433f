"""Which runs of the history are wanted, and since when."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from workbench.errors import ConfigError
from workbench.runs.records import KINDS, stamp

NEWEST = 50
_SEARCHED = ("model", "subject", "config", "machine")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_HASH = r"[0-9a-f]{8,64}"


@dataclass(frozen=True)
class Filter:
    """All that is given must hold. model: its name, or eight digits or more of its content's hash. machine: its id, or
    words of its name. search: words that must all stand in model, subject, config or machine. since: UTC if it has no
    zone. limit: the newest so many; None for all. Upper and lower case of a to z are alike."""

    kind: str = ""
    model: str = ""
    precision: str = ""
    backend: str = ""
    machine: str = ""
    study: str = ""
    search: str = ""
    since: datetime | None = None
    limit: int | None = NEWEST

    def __post_init__(self) -> None:
        if self.kind not in ("", *KINDS):
            raise ConfigError(f"there are no runs of the kind {self.kind!r}; choose one of {', '.join(KINDS)}.")
        if self.limit is not None and self.limit < 0:
            raise ConfigError(f"{self.limit} runs cannot be listed; write 0 or more.")

    def conditions(self) -> tuple[str, list[Any]]:
        """The end of an SQL query for rows of `runs`, and its values."""
        setups, values = self._of_setups()
        tests = [f"+setup IN (SELECT number FROM setups WHERE {' AND '.join(setups)})"] if setups else []
        for test, value in (("study = ?", self.study), ("at >= ?", self.since and stamp(self.since))):
            if value:
                tests.append(test)
                values.append(value)
        where = f"WHERE {' AND '.join(tests)} " if tests else ""
        return f"{where}ORDER BY number DESC LIMIT ?", [*values, -1 if self.limit is None else self.limit]

    def _of_setups(self) -> tuple[list[str], list[Any]]:
        tests, values = [], list[Any]()
        for name in ("kind", "precision", "backend"):
            if wanted := getattr(self, name):
                tests.append(f"{name} = ?")
                values.append(wanted.lower())
        if self.model:
            is_hash = re.fullmatch(_HASH, self.model.lower())
            tests.append("(model = ? COLLATE NOCASE OR model_sha256 LIKE ?)")
            values += [self.model, f"{self.model}%" if is_hash else ""]
        for word in self.machine.split():
            tests.append(f"({_contains('machine')} OR machine_id = ?)")
            values += [_pattern(word), word.lower()]
        for word in self.search.split():
            tests.append(f"({' OR '.join(map(_contains, _SEARCHED))})")
            values += [_pattern(word)] * len(_SEARCHED)
        return tests, values


def _contains(column: str) -> str:
    return f"{column} LIKE ? ESCAPE '\\'"


def _pattern(word: str) -> str:
    return "%" + re.sub(r"([%_\\])", r"\\\1", word) + "%"


def parse_since(text: str, now: datetime | None = None) -> datetime:
    """'2026-11-20', '2026-11-20T14:30' (UTC unless it tells a zone), or an age: '30m', '12h', '7d', '2w'.

    Raises ConfigError."""
    now = now or datetime.now(timezone.utc)
    try:
        if age := re.fullmatch(r"(\d+)([mhdw])", text.strip().lower()):
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        moment = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text.strip()))
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"since {text!r}: write a date, as 2026-11-20 or 2026-11-20T14:30, or an age, as 7d."
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
