"""What Tuner's Start does: ranges collected, layers put in order, candidates tried, finalists measured in turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from workbench.model import Model
from workbench.tuning import Budget, Controls, Data, Goals, Plan, Space, Tuned, tune
from workbench.tuning.running import PHASE
from workbench.types import Listener, LogLine, OptimizationProfile, Progress

HERE, LOCAL, ADDRESS = "here", "local", "address"
WHERE = {HERE: "this process", LOCAL: "workers on this machine", ADDRESS: "a cluster"}
FINALS = "Measuring the finalists in turns"
"""What run_search calls it."""


@dataclass(frozen=True, eq=False)
class Order:
    """What is to be searched. space: None for what is usual where the workers are. scheduler: as tuning.connect takes
    it. again: code that does the same, by title, for reports."""

    model: Model
    space: Space | None
    goals: Goals
    data: Data
    budget: Budget
    scheduler: str | None = None
    profile: OptimizationProfile | None = None
    again: Mapping[str, str] = field(default_factory=dict)


def carry_out(
    order: Order,
    controls: Controls,
    *,
    planned: Callable[[Plan], None],
    each: Callable[[Tuned], None],
    listener: Listener,
) -> Tuned:
    """Of what goes on within a trial only the log is told."""
    telling = _Telling(listener)

    def begin(plan: Plan) -> None:
        telling.searches = True
        planned(plan)

    return tune(
        order.model,
        order.space,
        order.goals,
        order.data,
        budget=order.budget,
        scheduler=order.scheduler,
        profile=order.profile,
        again=order.again,
        controls=controls,
        planned=begin,
        each=each,
        listener=telling,
    )


class _Telling:
    """Once the search has begun, phases of single trials stand in the table of what is running; the builders' chatter
    is left out."""

    def __init__(self, listener: Listener) -> None:
        self.listener, self.searches = listener, False

    def __call__(self, event: Progress | LogLine) -> None:
        told = event.severity != "verbose" if isinstance(event, LogLine) else event.phase in (PHASE, FINALS)
        if told or not self.searches:
            self.listener(event)
