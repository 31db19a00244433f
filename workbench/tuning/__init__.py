"""Tuning: the best engine found for a model, on this machine or on a cluster.

tuned = tune(model, goals=Goals(limits=(Limit("accuracy", 0.2),)), data=Data("pictures/"), budget=Budget(minutes=3))
tuned.front(), tuned.best        stopped at any moment, the same call goes on
tune(..., scheduler="local")     on a Dask cluster of this machine; or an address, a Client, any cluster object
"""

from workbench.tuning.budget import Budget, Controls
from workbench.tuning.candidate import Candidate
from workbench.tuning.goals import Goals, Limit, Score, parse_limit
from workbench.tuning.plan import Data, Plan, make_plan, usual_space
from workbench.tuning.recorded import recorded_sweeps
from workbench.tuning.result import Best, Column, Tuned, load_tuned, save_tuned
from workbench.tuning.running import run_search
from workbench.tuning.space import Space
from workbench.tuning.trial import Trial
from workbench.tuning.tune import tune

__all__ = [
    "Best",
    "Budget",
    "Candidate",
    "Column",
    "Controls",
    "Data",
    "Goals",
    "Limit",
    "Plan",
    "Score",
    "Space",
    "Trial",
    "Tuned",
    "load_tuned",
    "make_plan",
    "parse_limit",
    "recorded_sweeps",
    "run_search",
    "save_tuned",
    "tune",
    "usual_space",
]
