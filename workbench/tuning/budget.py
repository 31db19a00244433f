"""What a search may spend, how it is steered from outside, and the clock that it goes by."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from workbench.errors import ConfigError


@dataclass(frozen=True)
class Budget:
    """Whichever is spent first ends the search. trials: in all, with those from before it was stopped. minutes: of
    trials in this call, once int8's ranges and the order of layers are found; what is under way is finished.
    patience_s: a worker that tells nothing for so long hangs. finals_again: the finalists are measured in turns also
    where the same ones were by an earlier call."""

    trials: int | None = 25
    minutes: float | None = None
    patience_s: float = 900.0
    finals_again: bool = False

    def __post_init__(self) -> None:
        if self.trials is not None and self.trials < 1:
            raise ConfigError(f"{self.trials} trials find nothing; allow one at least.")
        if self.minutes is not None and not self.minutes > 0:
            raise ConfigError(f"{self.minutes:g} minutes are no time to search in; allow more than 0.")


@dataclass
class Controls:
    """Set from another thread. stop: end soon and measure the finalists of what was found. pause: give out nothing
    while it is set. cancel: end soon, and leave it at that; the search can go on later."""

    stop: threading.Event = field(default_factory=threading.Event)
    pause: threading.Event = field(default_factory=threading.Event)
    cancel: threading.Event = field(default_factory=threading.Event)

    @property
    def is_paused(self) -> bool:
        return self.pause.is_set() and not self.stop.is_set()


@dataclass(frozen=True)
class Clock:
    """The system's; a simulation brings its own. In seconds."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
