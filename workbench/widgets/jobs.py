"""Work in the background of a notebook: one thread for the work, one that ticks while it lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Job:
    """Runs `work` at once in a thread of its own and calls `tick` every `interval_s` until it ends, then once more.

    `work` is handed the event that `cancel` sets. It handles its own errors: it is the edge where they become
    something to show.
    """

    def __init__(
        self, work: Callable[[threading.Event], None], tick: Callable[[], None], interval_s: float = 0.2
    ) -> None:
        self.cancel = threading.Event()
        self._ended = threading.Event()
        self._work, self._tick, self._interval_s = work, tick, interval_s
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._run, self._pulse)]
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until the work has ended and was shown; False if it did not within timeout_s."""
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        try:
            self._work(self.cancel)
        finally:
            self._ended.set()

    def _pulse(self) -> None:
        while not self._ended.wait(self._interval_s):
            self._tick()
        self._tick()
