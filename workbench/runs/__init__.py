"""The history: every build, measurement and comparison is a row that says what it was, where, and what came out.

History().list(Filter(model="resnet18"))     the newest first; `workbench runs` shows the same
history.add(run_of_measurement(found, model=model), found.to_json())
check(run, history.baseline("v1").runs[0], parse_percentage("5%"))     a regression, or noise
"""

from workbench.runs.differences import RunDifference, diff
from workbench.runs.exporting import export_runs
from workbench.runs.filters import Filter, parse_since
from workbench.runs.history import Baseline, History, record_build
from workbench.runs.records import (
    KINDS,
    Run,
    new_id,
    run_of_build,
    run_of_comparison,
    run_of_evaluation,
    run_of_measurement,
    run_to_json,
)
from workbench.runs.regressions import Regression, check, match, parse_percentage

__all__ = [
    "KINDS",
    "Baseline",
    "Filter",
    "History",
    "Regression",
    "Run",
    "RunDifference",
    "check",
    "diff",
    "export_runs",
    "match",
    "new_id",
    "parse_percentage",
    "parse_since",
    "record_build",
    "run_of_build",
    "run_of_comparison",
    "run_of_evaluation",
    "run_of_measurement",
    "run_to_json",
]
