"""What a contest is: who takes part, on which data, in which batches, for how long."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from workbench.calibration.samples import Samples
from workbench.contest.source import Source
from workbench.errors import Cancelled, ConfigError
from workbench.timing import Timing
from workbench.types import Calibration, Listener, ignore

BUDGET_BYTES = 256 << 20
PADDLE = "paddle"


@dataclass(frozen=True)
class Entrant:
    """backend: one of backends.NAMES, or 'paddle', which computes as the model was saved and has no precision."""

    backend: str
    precision: str = ""

    def __str__(self) -> str:
        return f"{self.backend}:{self.precision}" if self.precision else self.backend


@dataclass(frozen=True)
class Rules:
    """batches: sizes; accuracy takes the first. samples: how many, spread over all; None for all, or for as many as
    a benchmark has use for. calibration: for int8, where the model brings no ranges along. threads: processors that a
    run may use, None for all. budget_bytes: of memory for what is read before a benchmark. strict: a sample that cannot
    be read is an error. make_environment: the user's yes to making Paddle's.
    """

    batches: tuple[int, ...] = (1,)
    samples: int | None = None
    calibration: Calibration | None = None
    threads: int | None = None
    timing: Timing = field(default_factory=lambda: Timing(iterations=1000, limit_s=10.0))
    budget_bytes: int = BUDGET_BYTES
    strict: bool = False
    make_environment: bool = False

    def __post_init__(self) -> None:
        if not self.batches or min(self.batches) < 1:
            raise ConfigError("a batch holds one picture at least.")
        if self.samples is not None and self.samples < 1:
            raise ConfigError(f"{self.samples} samples measure nothing; take one at least.")


@dataclass(frozen=True)
class Contest:
    """entrants: the others are compared with the first. listener: gets Progress and the log. cancel: set it from
    another thread to stop; Cancelled is raised then, and nothing half done is left."""

    source: Source
    samples: Samples
    entrants: tuple[Entrant, ...]
    rules: Rules = field(default_factory=Rules)
    listener: Listener = ignore
    cancel: threading.Event = field(default_factory=threading.Event)

    def stop_if_cancelled(self, done: str) -> None:
        """done: what goes on after 'stopped after'."""
        if self.cancel.is_set():
            raise Cancelled(f"stopped after {done}.")
