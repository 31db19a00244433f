"""A study: engines and baselines measured in turns on the same arrays, their outputs side by side, one verdict.

study({"PyTorch": torch_baseline(net), "FP16": built.engine}, {"input": picture})
save_study(found, "study.json.gz")    load_study(...) tells where it was recorded
"""

from workbench.study.history import measurement_of_row, record, rest_of_row, study_runs
from workbench.study.result import (
    HEADS,
    HOSTS,
    TIED,
    Study,
    Subject,
    comparable,
    load_study,
    save_study,
    study_from_json,
)
from workbench.study.running import OPENING, Contestant, study

__all__ = [
    "HEADS",
    "HOSTS",
    "OPENING",
    "TIED",
    "Contestant",
    "Study",
    "Subject",
    "comparable",
    "load_study",
    "measurement_of_row",
    "record",
    "rest_of_row",
    "save_study",
    "study",
    "study_from_json",
    "study_runs",
]
