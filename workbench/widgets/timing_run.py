"""What TimingBoard's Run does: engines are made ready, measured in turns, compared, and swept over batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, cast

import numpy as np

from workbench.backends import Session
from workbench.building import Built
from workbench.calibration.collect import fills, fixed_batch
from workbench.calibration.samples import Batch, Skipped, batches, choose, open_samples, read_samples
from workbench.comparing import PHASE as COMPARING
from workbench.engine import Engine, open_engine
from workbench.errors import Cancelled, WorkbenchError
from workbench.model import Model
from workbench.store import EngineStore
from workbench.study import Contestant, Study, record, study
from workbench.timing import Timing
from workbench.timing.throughput import PHASE as SWEEPING
from workbench.timing.throughput import Throughput, measure_throughput
from workbench.types import Feeds, Listener, LogLine, Progress, count_of
from workbench.widgets.timing_choices import BASELINE, Candidate, Offer, obtain, plain_session

PREPARING = "Making engines ready"
_ONE_STREAM = "a single session does one run after the other, so 1 stream alone was measured."


@dataclass(frozen=True)
class Sweep:
    """Every batch with every number of streams, so many seconds each."""

    batches: tuple[int, ...]
    streams: tuple[int, ...] = (1,)
    seconds: float = 0.5


@dataclass(frozen=True, eq=False)
class Order:
    """What is to be done. reference: a name. data: a path of samples to compare outputs on, '' for the feeds; count:
    how many of them, None for all."""

    offer: Offer
    chosen: tuple[Candidate, ...]
    reference: str
    feeds: Feeds
    timing: Timing
    sweep: Sweep | None = None
    data: str = ""
    count: int | None = None


def carry_out(order: Order, store: EngineStore, listener: Listener, cancel: threading.Event) -> Study:
    """A study with everything that was asked for, recorded in the store's history. What fails is left out, and its
    `failures` say why; raises the first of these errors where nothing is left, and Cancelled."""
    model, skipped = order.offer.model, list[Skipped]()
    samples = _samples(order, skipped) if order.data else None
    ready, failures = _ready(order, store, listener, cancel)
    found = study(
        ready, order.feeds, order.timing, model=(model.name, model.sha256),
        samples=samples, reference=order.reference, keep=False, listener=listener, cancel=cancel,
    )  # fmt: skip
    if found.comparison is not None:
        listener(Progress(COMPARING, found.comparison.count, found.comparison.count))
    rates: dict[str, tuple[Throughput, ...]] = {}
    if order.sweep is not None:
        rates, more = _swept(
            order, order.sweep, {item.name: ready[item.name] for item in found.subjects}, listener, cancel
        )
        failures |= more
    if skipped:
        failures[order.data] = f"{count_of(len(skipped), 'sample')} could not be read; the first: {skipped[0].reason}"
    found = replace(found, throughputs=rates, failures={**failures, **found.failures})
    if cancel.is_set():
        raise Cancelled("cancelled; what was measured is not kept.")
    record(found, listener, store.folder)
    return found


def _ready(
    order: Order, store: EngineStore, listener: Listener, cancel: threading.Event
) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Contestants by name, and why others are missing."""
    ready: dict[str, Contestant] = {}
    errors: dict[str, WorkbenchError] = {}
    for done, candidate in enumerate(order.chosen):
        listener(Progress(PREPARING, done, len(order.chosen)))
        try:
            ready[candidate.name] = obtain(candidate, order.offer, store, _within(listener), cancel)
        except Cancelled:
            raise
        except WorkbenchError as error:
            errors[candidate.name] = error
    listener(Progress(PREPARING, len(order.chosen), len(order.chosen)))
    if not ready:
        raise next(iter(errors.values()))
    return ready, {name: str(error) for name, error in errors.items()}


def _within(listener: Listener) -> Listener:
    """A listener whose phases stand below PREPARING."""

    def listen(event: Progress | LogLine) -> None:
        listener(replace(event, parent=event.parent or PREPARING) if isinstance(event, Progress) else event)

    return listen


# ---- samples


def _samples(order: Order, skipped: list[Skipped]) -> Iterator[Batch]:
    """Batches of the feeds' size. Raises FeedError and ConfigError at once where there are none."""
    model = order.offer.model
    samples = open_samples(order.data, model)
    indices = choose(len(samples), order.count)
    fixed = fixed_batch(model)
    return (
        batch
        for batch in batches(read_samples(samples, indices, skipped=skipped), fixed or batch_of(order.feeds))
        if not fixed or fills(batch, fixed)
    )


def batch_of(feeds: Feeds) -> int:
    """The first dimension of the first input that has one."""
    return next((int(array.shape[0]) for array in feeds.values() if array.ndim), 1)


# ---- throughput


def feeds_of_batch(model: Model, feeds: Feeds, batch: int) -> dict[str, np.ndarray]:
    """Arrays whose rows are repeated, or cut, along every open first axis."""
    opened = {spec.name for spec in model.inputs if spec.open_axes[:1] == (0,)}
    return {
        name: np.resize(array, (batch, *array.shape[1:])) if name in opened and array.ndim else array
        for name, array in feeds.items()
    }


def _swept(
    order: Order, sweep: Sweep, ready: Mapping[str, Contestant], listener: Listener, cancel: threading.Event
) -> tuple[dict[str, tuple[Throughput, ...]], dict[str, str]]:
    """Throughputs by name, and what could not be measured."""
    openers = {name: _opener(order, name, contestant) for name, contestant in ready.items()}
    cells = [(name, batch, count) for name in ready for batch in sweep.batches for count in sweep.streams]
    found: dict[str, list[Throughput]] = {}
    failures: dict[str, str] = {}
    for done, (name, batch, count) in enumerate(cells):
        listener(Progress(SWEEPING, done, len(cells)))
        if count > 1 and isinstance(openers[name], _Lender):
            failures[f"{name}, {count_of(count, 'stream')}"] = _ONE_STREAM
            continue
        feeds = feeds_of_batch(order.offer.model, order.feeds, batch)
        try:
            rate = measure_throughput(openers[name], feeds, streams=count, seconds=sweep.seconds, cancel=cancel)
        except Cancelled:
            raise
        except WorkbenchError as error:
            failures[f"{name}, batch {batch}"] = str(error)
        else:
            found.setdefault(name, []).append(rate)
    listener(Progress(SWEEPING, len(cells), len(cells)))
    return {name: tuple(rates) for name, rates in found.items()}, failures


def _opener(order: Order, name: str, contestant: Contestant) -> Callable[[], Session]:
    """Opens a session of its own for every stream, where that can be."""
    engine = contestant.engine if isinstance(contestant, Built) else contestant
    if isinstance(engine, Engine):
        return partial(open_engine, engine)
    if any(item.name == name and item.kind == BASELINE for item in order.chosen):
        return partial(plain_session, order.offer.model)
    return _Lender(engine)


class _Lender:
    """Gives a session of the user's, which is not closed."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __call__(self) -> Session:
        return cast(Session, _Lent(self._session))


class _Lent:
    """A session that stays open when its context ends."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass
