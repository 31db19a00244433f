"""Work that can be left: what runs in native code cannot be stopped, but nobody has to wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from workbench.errors import Cancelled

PATIENCE_S = 0.4
_EVERY_S = 0.05
_Found = TypeVar("_Found")


class Aside:
    """Runs one work after another, each in a thread of its own.

    Work that looks at `cancel` itself ends by itself. One that does not, as it is in the midst of a long run, is left
    behind after PATIENCE_S; the next work waits until it has ended, as the two would disturb each other's times.
    """

    def __init__(self) -> None:
        self._left: threading.Thread | None = None

    @property
    def is_occupied(self) -> bool:
        """Whether work that was left behind still runs."""
        return self._left is not None and self._left.is_alive()

    def run(self, work: Callable[[], _Found], cancel: threading.Event) -> _Found:
        """What the work returns or raises. Raises Cancelled within a second after `cancel` was set."""
        before, found, raised = self._left, list[_Found](), list[Exception]()

        def do() -> None:
            if before is not None:
                before.join()
            if cancel.is_set():
                return
            try:
                found.append(work())
            except Exception as error:  # raised again below, in the thread that waits
                raised.append(error)

        thread = threading.Thread(target=do, daemon=True)
        thread.start()
        while thread.is_alive() and not cancel.is_set():
            thread.join(_EVERY_S)
        thread.join(PATIENCE_S if cancel.is_set() else None)
        if thread.is_alive():
            self._left = thread
            raise Cancelled("cancelled; the run under way ends by itself, and nothing was measured.")
        if raised:
            raise raised[0]
        if not found:
            raise Cancelled("cancelled; nothing was measured.")
        return found[0]
