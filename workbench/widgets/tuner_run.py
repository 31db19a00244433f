"""What Tuner's Start does: ranges collected, layers put in order, candidates tried, finalists measured in turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from workbench.errors import BackendError
from workbench.model import Model
from workbench.tuning import Budget, Controls, Data, Goals, Plan, Space, Tuned, make_plan, run_search, usual_space
from workbench.tuning.clusters import connect
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

    @property
    def has_ranges(self) -> bool:
        """Whether there is something to find ranges for int8 in."""
        return self.data.source is not None or self.data.calibration is not None


def carry_out(
    order: Order,
    controls: Controls,
    *,
    planned: Callable[[Plan], None],
    each: Callable[[Tuned], None],
    listener: Listener,
) -> Tuned:
    """As tuning.tune does, but what is planned is told, and of what goes on within a trial only the log."""
    with connect(order.scheduler) as crew:
        grounds = crew.grounds()
        if not grounds:
            raise BackendError("nobody is there to work: start workers, and see that they reach the scheduler.")
        space = order.space or usual_space(next(iter(grounds.values())), order.model, has_data=order.has_ranges)
        plan = make_plan(
            order.model, space, order.goals, order.data, profile=order.profile, gather=crew.gather,
            listener=listener, cancel=controls.cancel,
        )  # fmt: skip
        plan = replace(plan, again=order.again)
        planned(plan)
        return run_search(plan, crew, order.budget, controls=controls, each=each, listener=_coarse(listener))


def _coarse(listener: Listener) -> Listener:
    """Phases of single trials stand in the table of what is running; the builders' chatter is left out."""
    from workbench.tuning.running import PHASE

    def listen(event: Progress | LogLine) -> None:
        if isinstance(event, LogLine):
            if event.severity != "verbose":
                listener(event)
        elif event.phase in (PHASE, FINALS):
            listener(event)

    return listen
