"""Workers: who is there, and who rests for having failed again and again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from workbench.tuning.ground import Ground

FAULTS = 3
REST_S = 30.0
"""After so many failures in a row a worker rests for so long, and twice as long after each further one."""


@dataclass
class Workers:
    """present: by name. faults: failures in a row. rests: until when, by the caller's clock in seconds."""

    present: Mapping[str, Ground] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    rests: dict[str, float] = field(default_factory=dict)

    @property
    def columns(self) -> set[str]:
        return {ground.column for ground in self.present.values()}

    def rested(self, now: float) -> dict[str, Ground]:
        """Those that are present, without those that rest where their column has others."""
        fresh = {name: ground for name, ground in self.present.items() if self.rests.get(name, now) <= now}
        columns = {ground.column for ground in fresh.values()}
        return {name: item for name, item in self.present.items() if name in fresh or item.column not in columns}

    def beside(self, ground: Ground, now: float) -> Collection[str]:
        """The rested workers of the same column."""
        return [name for name, item in self.rested(now).items() if item.column == ground.column]

    def judge(self, worker: str, failure: str, now: float) -> str:
        """failure: '' for a good answer. A sentence where the worker has to rest: one that is broken would take all
        candidates from the others, and fail them."""
        self.faults[worker] = count = self.faults.get(worker, 0) + 1 if failure else 0
        if count < FAULTS:
            return ""
        rest_s = REST_S * 2.0 ** (count - FAULTS)
        self.rests[worker] = now + rest_s
        return f"{worker} failed {count} times in a row and rests for {rest_s:.0f} s: {failure}"
