"""tune: all steps of a search in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from workbench.errors import BackendError, ConfigError
from workbench.model import Model
from workbench.timing import Timing
from workbench.tuning.budget import Budget, Controls
from workbench.tuning.clusters import connect
from workbench.tuning.goals import Goals
from workbench.tuning.plan import Data, Plan, make_plan, usual_space
from workbench.tuning.result import Tuned
from workbench.tuning.running import run_search
from workbench.tuning.space import Space
from workbench.tuning.task import TIMING
from workbench.types import Listener, OptimizationProfile, ignore


def tune(
    model: Model,
    space: Space | Callable[[Space], Space] | None = None,
    goals: Goals | None = None,
    data: Data | None = None,
    *,
    budget: Budget | None = None,
    scheduler: Any = None,
    profile: OptimizationProfile | None = None,
    timing: Timing = TIMING,
    sampler: str = "auto",
    again: Mapping[str, str] | None = None,
    controls: Controls | None = None,
    planned: Callable[[Plan], None] = lambda plan: None,
    each: Callable[[Tuned], None] = lambda tuned: None,
    listener: Listener = ignore,
) -> Tuned:
    """Search `space` for what `goals` ask for, as run_search does.

    space: default is what is worth trying where it runs; a function changes that. data: samples, for int8 and for
    accuracy; without them outputs are compared on random arrays. scheduler: None for this process; 'local', an
    address, a dask.distributed Client or any cluster object. profile: whose opt shapes are timed, where samples do not
    tell. again: code that does the same, by title, for reports. planned: gets what will be searched, before it is. The
    same call goes on where an earlier one ended.

    Raises ConfigError, ShapeError, FeedError before anything is tried; BackendError, StoreError, Cancelled.
    """
    controls, data = controls or Controls(), data or Data()
    with connect(scheduler) as crew:
        ground = next(iter(crew.grounds().values()), None)
        if ground is None:
            raise BackendError(
                f"{scheduler}: nobody is there to work; start workers, as with `dask worker ADDRESS --nthreads 1`."
            )
        if not isinstance(space, Space):
            usual = usual_space(ground, model, has_data=data.has_ranges)
            space = usual if space is None else space(usual)
        plan = make_plan(
            model, space, goals, data, profile=profile, timing=timing, sampler=sampler, gather=crew.gather,
            listener=listener, cancel=controls.cancel,
        )  # fmt: skip
        rules = plan.rules(ground)
        if next(rules.candidates(plan.space), None) is None:
            raise ConfigError(" ".join(["No candidate is left to try.", *rules.left_out(plan.space)]))
        plan = replace(plan, again=again or {})
        planned(plan)
        return run_search(plan, crew, budget, controls=controls, each=each, listener=listener)
