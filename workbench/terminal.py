"""What people see in a terminal: a build while it goes on, and tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from workbench.types import LogLine, Progress


class Printer:
    """Shows a build on stderr: its phase in place on a terminal, its log with --verbose."""

    def __init__(self, verbose: bool) -> None:
        self.verbose = verbose
        self.in_place = sys.stderr.isatty() and not verbose
        self._begun: dict[str, tuple[float, int]] = {}

    def __call__(self, event: Progress | LogLine) -> None:
        if isinstance(event, LogLine):
            if self.verbose:
                print(f"{event.severity:8}{event.text}", file=sys.stderr)
        elif self.in_place:
            share = f" {event.done}/{event.total}" if event.total else ""
            end = "\r" if event.parent or not event.finished else "\r\x1b[K"
            print(f"\r\x1b[K{event.phase}{share}{self._time_left(event)}", end=end, file=sys.stderr, flush=True)

    def _time_left(self, event: Progress) -> str:
        begun, done = self._begun.setdefault(event.phase, (time.monotonic(), event.done))
        seconds = time_left_s(time.monotonic() - begun, event.done - done, event.total and event.total - done)
        return "" if seconds is None else f", {seconds:,.0f} s left"


def time_left_s(elapsed_s: float, done: int, total: int | None) -> float | None:
    """By the steps that were taken; None where nothing can be told yet."""
    return (total - done) * elapsed_s / done if total and done > 0 and elapsed_s > 1 else None


def table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
