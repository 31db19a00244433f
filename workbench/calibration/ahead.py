"""Work one step ahead: a generator in a thread of its own, so that making and using overlap."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
_END = object()


@contextmanager
def ahead(items: Iterable[Item]) -> Iterator[Iterator[Item]]:
    """The same items in the same order, the next one made while the last is used; leaving stops the thread.

    What the generator raises is raised where its item was due.
    """
    made: queue.Queue[object] = queue.Queue(maxsize=1)
    stop, failure = threading.Event(), []

    def put(item: object) -> None:
        while not stop.is_set():
            try:
                return made.put(item, timeout=0.1)
            except queue.Full:
                continue

    def make() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
        except BaseException as error:  # it is raised in the other thread
            failure.append(error)
        put(_END)

    def take() -> Iterator[Item]:
        while (item := made.get()) is not _END:
            yield item  # type: ignore[misc]
        if failure:
            raise failure[0]

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stop.set()
        thread.join()
