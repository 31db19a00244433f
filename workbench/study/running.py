"""Engines and baselines opened, measured in turns on the same arrays, and compared."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import datetime, timezone

from workbench.backends import Session
from workbench.baselines import Baseline
from workbench.building import Built
from workbench.comparing import compare
from workbench.engine import Engine, open_engine
from workbench.errors import BackendError, ConfigError, WorkbenchError
from workbench.evaluation import Runs
from workbench.study.history import record
from workbench.study.result import Study, Subject
from workbench.tally import Fed
from workbench.timing import Timing, measure_together
from workbench.types import Feeds, Listener, Progress, ignore

OPENING = "Opening engines"
Contestant = Engine | Built | Session | Baseline


def study(
    contestants: Mapping[str, Contestant],
    feeds: Feeds,
    timing: Timing | None = None,
    *,
    model: tuple[str, str] | None = None,
    samples: Feeds | Iterable[Fed | Feeds] | None = None,
    reference: str | None = None,
    threads: int | None = None,
    keep: bool = True,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Study:
    """Measure all of them in turns on `feeds`, then compare their outputs.

    contestants: engines, open sessions and baselines, by the name they get in tables. model: its name and content hash;
    default is the first engine's. samples: what outputs are compared on, if not on `feeds`, as `compare` takes them; an
    iterator is read meanwhile. reference: a name; the first by default. threads: processors that a run of ONNX Runtime
    may use. keep: `record` it. A contestant that cannot be opened or fails is left out, and `failures` says why;
    BackendError where none is left. Raises Cancelled.
    """
    if not contestants:
        raise ConfigError("a study needs something to measure: name engines or baselines.")
    subjects = {name: _subject(name, item) for name, item in contestants.items()}
    failures: dict[str, str] = {}
    with ExitStack() as stack:
        sessions = _opened(contestants, feeds, stack, threads, failures, listener)
        if not sessions:
            raise BackendError("; ".join(f"{name}: {reason}" for name, reason in failures.items()))
        first = reference if reference in sessions else next(iter(sessions))
        measured = measure_together(sessions, feeds, timing, listener=listener, cancel=cancel)
        runs: dict[str, Runs] = dict(sessions)
        compared = None
        if len(runs) > 1:
            compared = compare(
                runs, feeds if samples is None else samples, reference=first, listener=listener, cancel=cancel
            )
    found = Study(
        id=secrets.token_hex(6),
        at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=model[0] if model else _model_of(subjects)[0],
        model_sha256=model[1] if model else _model_of(subjects)[1],
        subjects=tuple(subjects[name] for name in sessions),
        measurements=measured,
        reference=first,
        comparison=compared,
        failures=failures,
    )
    if keep:
        record(found, listener)
    return found


def _opened(
    contestants: Mapping[str, Contestant],
    feeds: Feeds,
    stack: ExitStack,
    threads: int | None,
    failures: dict[str, str],
    listener: Listener,
) -> dict[str, Session]:
    """Every session that opens and runs once; those that do not are told in `failures`."""
    sessions: dict[str, Session] = {}
    for done, (name, item) in enumerate(contestants.items()):
        listener(Progress(OPENING, done, len(contestants)))
        try:
            found = item.engine if isinstance(item, Built) else item
            session: Session = (
                stack.enter_context(open_engine(found, threads=threads, in_turns=True))
                if isinstance(found, Engine)
                else found
            )
            session.run(feeds)
            sessions[name] = session
        except WorkbenchError as error:
            failures[name] = str(error)
    listener(Progress(OPENING, len(contestants), len(contestants)))
    return sessions


def _subject(name: str, item: Contestant) -> Subject:
    engine = item.engine if isinstance(item, Built) else item
    if isinstance(engine, Engine):
        return Subject(name, engine.backend, engine.precision, engine, engine.build_s, engine.plan_bytes)
    backend = next(iter(getattr(item, "releases", {})), "baseline")
    return Subject(name, backend, getattr(item, "precision", ""))


def _model_of(subjects: Mapping[str, Subject]) -> tuple[str, str]:
    engines = (item.engine for item in subjects.values() if item.engine)
    return next(((engine.model_name, str(engine.recipe["model"])) for engine in engines), ("", ""))
