"""A study as rows of the history, and what of it is found there again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.accuracy import finite
from workbench.errors import StoreError
from workbench.runs import History, Run, run_of_evaluation, run_of_measurement
from workbench.study.result import Study
from workbench.timing import Measurement, measurement_from_json
from workbench.timing.throughput import Throughput, throughput_from_json
from workbench.types import Listener, LogLine, ignore

_REST = "study"
"""Where the data of a measurement's row hold what else the study knows."""


def record(study: Study, listener: Listener = ignore, folder: str | Path | None = None) -> None:
    """Write it into the history of this store (the usual one by default), once; where that cannot be, the listener gets
    a warning."""
    try:
        History(folder).add_many(study_runs(study))
    except StoreError as error:
        listener(LogLine("warning", f"The study is not in the history: {error}"))


def study_runs(study: Study) -> list[tuple[Run, dict[str, Any]]]:
    """The rows of the history: one for each measurement, with what `rest_of_row` reads, and one for each comparison
    with the reference, which holds the comparison of all."""
    rows = []
    for measured in study.measurements:
        run = run_of_measurement(measured, engine=study.subject(measured.name).engine, study=study.id)
        rows.append((_named(run, study, measured.name), {**measured.to_json(), **_rest(study, measured.name)}))
    compared = study.comparison
    for item in compared.others if compared else ():
        if item.evaluation is not None and compared is not None:
            engine = study.subject(item.name).engine
            run = run_of_evaluation(item.evaluation, engine=engine, subject=item.name, study=study.id)
            loss = finite(item.evaluation.drop("relative").value)
            run = run._replace(kind="comparison", metric="relative", loss=loss, note=f"against {study.reference}")
            rows.append((_named(run, study, item.name), compared.to_json()))
    return rows


def _rest(study: Study, name: str) -> dict[str, Any]:
    """Every row tells who is missing, as any of them may be deleted."""
    rates = [item.to_json() for item in study.throughputs.get(name, ())]
    told = {"failures": dict(study.failures), "throughputs": rates}
    return {_REST: {key: value for key, value in told.items() if value}} if any(told.values()) else {}


def measurement_of_row(data: Mapping[str, Any]) -> Measurement:
    """From the data of a measurement's row, whether `study_runs` made it or not."""
    return measurement_from_json({name: value for name, value in data.items() if name != _REST})


def rest_of_row(data: Mapping[str, Any]) -> tuple[dict[str, str], tuple[Throughput, ...]]:
    """Why others are missing in its study, by name, and its own throughputs; nothing for a row without a study."""
    rest = data.get(_REST, {})
    return dict(rest.get("failures", {})), tuple(map(throughput_from_json, rest.get("throughputs", ())))


def _named(run: Run, study: Study, name: str) -> Run:
    """With what the study knows of a contestant that is no engine."""
    subject = study.subject(name)
    return run._replace(
        subject=name, model=study.model, model_sha256=study.model_sha256, backend=subject.backend,
        precision=subject.precision,
    )  # fmt: skip
