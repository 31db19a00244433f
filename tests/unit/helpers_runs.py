"""Runs with the fields that matter to a test, and processes of a user without rights."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.runs import History, Run, new_id
from workbench.runs.records import stamp

MODEL = "a" * 64


def timed(median_ms: float | None, low_ms: float | None = None, high_ms: float | None = None, **fields: Any) -> Run:
    """A measurement on a machine 'm1'; its interval is 1 % wide to both sides if not told."""
    middle = median_ms or 0.0
    run = Run(
        new_id(),
        stamp(),
        median_ms=median_ms,
        low_ms=0.99 * middle if low_ms is None else low_ms,
        high_ms=1.01 * middle if high_ms is None else high_ms,
        kind="measurement",
        model="net",
        model_sha256=MODEL,
        subject="onnxruntime fp32",
        machine="EPYC",
        machine_id="m1",
        shapes="x 1x3",
        clock="perf_counter",
        threads=2,
        batch=1,
    )
    return run._replace(**fields)


def filled(folder: Path, count: int = 20) -> tuple[History, list[Run]]:
    """A history with runs, the oldest first."""
    history, runs = History(folder), [timed(1.0 + number) for number in range(count)]
    history.add_many((run, {"times_ms": [run.median_ms] * 50}) for run in runs)
    return history, runs


def as_a_stranger(ask: Callable[[], object]) -> str:
    """What this gives, or its error with its kind, in a process of a user without rights, as root may do all."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            text = str(ask())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(sink, text.encode())
        os._exit(0)
    os.close(sink)
    os.waitpid(child, 0)
    with os.fdopen(source, "rb") as pipe:
        return pipe.read().decode()
