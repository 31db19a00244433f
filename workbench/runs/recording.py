"""What is written by itself: a build that was made becomes a row of the history."""

from __future__ import annotations

from pathlib import Path

from workbench.engine import Engine
from workbench.errors import StoreError
from workbench.runs.history import History
from workbench.runs.records import build_to_json, run_of_build
from workbench.types import Listener, LogLine

_PATIENCE_S = 1.0
"""A build does not wait for its row."""


def record_build(engine: Engine, folder: Path, listener: Listener) -> None:
    """Write a row into the history of this store; where that cannot be, the listener gets a warning."""
    try:
        history = History(folder, patience_s=_PATIENCE_S, listener=listener)
        history.add(run_of_build(engine), build_to_json(engine))
    except StoreError as error:
        listener(LogLine("warning", f"The build is not in the history: {error}"))
