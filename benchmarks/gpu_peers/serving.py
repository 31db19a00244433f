"""What the peers share: one process each that answers requests, and loops that take times."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, TypedDict

WARM_UP_S = 0.05
FEWEST = 20


class Series(TypedDict):
    """Times of one loop. what: the peer's short name for it; clock: what was timed, copies included or not."""

    what: str
    clock: str
    times_ms: list[float]
    iterations: int


def series(what: str, clock: str, times_ms: list[float], iterations: int | None = None) -> Series:
    return {"what": what, "clock": clock, "times_ms": times_ms, "iterations": iterations or len(times_ms)}


def count_for(run: Callable[[], Any], iterations: int, limit_s: float) -> int:
    """Warm up, then say how many runs fit into `limit_s`: `iterations` at most, FEWEST at least."""
    run()
    start, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < WARM_UP_S or done < 3:
        run()
        done += 1
    return max(FEWEST, min(iterations, int(limit_s * done / spent)))


def wall_times_ms(run: Callable[[], Any], iterations: int, limit_s: float) -> list[float]:
    """perf_counter around every run."""
    times = []
    for _ in range(count_for(run, iterations, limit_s)):
        start = time.perf_counter_ns()
        run()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times


def serve(peer: Any) -> None:
    """Answer requests {"do": method, ...} from standard input, one JSON line each, until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print goes to the log
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"answer": getattr(peer, request.pop("do"))(**request)}
        except Exception as error:  # the edge of the process: the benchmark goes on without this number
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
    os._exit(0)  # some libraries abort while they are taken down
