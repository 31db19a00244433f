"""The finalists of a search, measured once more, in turns in one process, so that all met the same conditions."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone

from workbench.backends import NETWORK_NAMES, GpuSession
from workbench.errors import BackendError, Cancelled, WorkbenchError
from workbench.study import Study, Subject
from workbench.timing import Timing, measure_together
from workbench.tuning.candidate import Candidate
from workbench.tuning.ground import Ground
from workbench.tuning.opened import open_task
from workbench.tuning.quiet import alone_on
from workbench.tuning.task import Task
from workbench.tuning.trying import made_ready
from workbench.types import Feeds, Listener, Progress, ignore

TURNS = "Measuring the finalists in turns"
MOST = 8
"""So many candidates are measured against each other at most."""


@dataclass(frozen=True)
class Finals:
    """candidates: by the names they have in the study; the first is what others are compared with. Each is timed twice
    as long as in the search."""

    task: Task
    candidates: Mapping[str, Candidate]

    @property
    def timing(self) -> Timing:
        usual = self.task.timing
        return Timing(2 * usual.iterations, usual.warmup, None if usual.limit_s is None else 2 * usual.limit_s)


def run_finals(
    finals: Finals,
    ground: Ground,
    *,
    data: Mapping[str, bytes] | None = None,
    worker: str = "",
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Study:
    """Their engines from the store, or built again; those that do not run are told in `failures`.

    Raises ParcelMissing, BackendError where none runs, Cancelled."""
    opened, cancel = open_task(finals.task, data or {}), cancel or threading.Event()
    use_gpu = [item.backend in NETWORK_NAMES for item in finals.candidates.values()]
    failures, subjects, feeds = dict[str, str](), dict[str, Subject](), dict[str, Feeds]()
    with alone_on(ground, listener, cancel, gpu=any(use_gpu), host=not all(use_gpu)), ExitStack() as stack:
        sessions = {}
        for name, candidate in finals.candidates.items():
            try:
                made = made_ready(finals.task, candidate, opened, listener, cancel)
                session = stack.enter_context(made.open(candidate.threads))
                if isinstance(session, GpuSession) and candidate.cuda_graph is not None:
                    session.cuda_graph = candidate.cuda_graph
                feeds[name] = opened.feeds(candidate.batch)
                session.run(feeds[name])
            except Cancelled:
                raise
            except WorkbenchError as error:
                failures[name] = str(error)
                feeds.pop(name, None)
                continue
            sessions[name] = session
            engine = made.engines[0] if made.hybrid is None else None
            size = sum(item.plan_bytes for item in made.engines)
            build_s = sum(item.build_s for item in made.engines)
            subjects[name] = Subject(name, candidate.backend, candidate.precision, engine, build_s, size)
        if not sessions:
            raise BackendError("; ".join(f"{name}: {reason}" for name, reason in failures.items()))
        listener(Progress(TURNS, 0, None))
        measured = measure_together(sessions, feeds, finals.timing, listener=listener, cancel=cancel)
    return Study(
        id=secrets.token_hex(6),
        at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=opened.model.name,
        model_sha256=finals.task.model.key,
        subjects=tuple(subjects.values()),
        measurements=measured,
        reference=next(iter(sessions)),
        failures=failures,
    )
