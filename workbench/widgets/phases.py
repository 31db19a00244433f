"""A build under way as people see it: its phases as a tree, its log searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from workbench.types import SEVERITIES, LogLine, Progress


@dataclass(frozen=True)
class Phase:
    """A phase of the build under way. started_s, ended_s: seconds since the build began; ended_s None while it runs."""

    name: str
    depth: int
    done: int
    total: int | None
    started_s: float
    ended_s: float | None


def update_phases(phases: list[Phase], event: Progress, now_s: float) -> None:
    """Enter a step into the list of phases, which is in the order of their first appearance."""
    for index in range(len(phases) - 1, -1, -1):
        known = phases[index]
        if known.name == event.phase:
            again = known.ended_s is not None and not event.finished  # a phase may run several times
            ended = now_s if event.finished else None
            started = now_s if again and event.done == 0 else known.started_s
            phases[index] = replace(known, done=event.done, total=event.total, started_s=started, ended_s=ended)
            return
    depth = next((phase.depth + 1 for phase in phases if phase.name == event.parent), 0)
    phases.append(Phase(event.phase, depth, event.done, event.total, now_s, now_s if event.finished else None))


def search_log(log: Sequence[LogLine], severity: str, words: str, limit: int = 500) -> tuple[Sequence[LogLine], int]:
    """The last `limit` lines at least as severe as `severity` that hold `words`, and how many there are in all."""
    loud = SEVERITIES[: SEVERITIES.index(severity) + 1]
    needle = words.lower()
    found = [line for line in log if line.severity in loud and needle in line.text.lower()]
    return found[-limit:], len(found)
