"""Trials in the history of runs: found again by any later search, so that nothing is measured twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from workbench.accuracy import finite
from workbench.errors import StoreError, UnknownRun
from workbench.runs import History, Run
from workbench.store import EngineStore
from workbench.tuning.candidate import Candidate
from workbench.tuning.ground import Ground
from workbench.tuning.task import Task
from workbench.tuning.trial import FAILED, Trial, trial_from_json


def find_trial(history: History, task: Task, candidate: Candidate, ground: Ground) -> Trial | None:
    """What was measured of this candidate, for any goals, at such a place. One that was given up or failed is tried
    again by another search: its rivals may be others, and what was in the way may be gone."""
    found = trial_of(history, task.trial_id(candidate, ground.place(candidate.backend)))
    return replace(found, known=True) if found is not None and found.is_complete else None


def trial_of(history: History, trial_id: str) -> Trial | None:
    """None where there is none, or what is kept of it cannot be read: it is measured again then."""
    try:
        (data,) = history.data_of([Run(trial_id, "")])
        return trial_from_json(data["trial"])
    except (StoreError, KeyError, TypeError, ValueError):
        return None


def trials_of(history: History, trial_ids: Sequence[str]) -> dict[str, Trial]:
    """Of many at once, by id, in this order, without those that are not there or cannot be read."""
    try:
        kept = history.data_of([Run(trial_id, "") for trial_id in trial_ids])
        return {trial_id: trial_from_json(data["trial"]) for trial_id, data in zip(trial_ids, kept, strict=True)}
    except (StoreError, KeyError, TypeError, ValueError):
        found = {trial_id: trial_of(history, trial_id) for trial_id in trial_ids}
        return {trial_id: trial for trial_id, trial in found.items() if trial is not None}


def keep_trial(history: History, trial: Trial, task: Task, ground: Ground, model: str) -> None:
    """In place of one of this candidate that failed or was given up; one that is complete stays as it is. model: its
    name. Raises StoreError where it cannot be kept."""
    score, candidate = trial.score, trial.candidate
    run = Run(
        trial.id,
        trial.at,
        study=task.key[:12],
        median_ms=score.latency_ms.value if score else None,
        low_ms=finite(score.latency_ms.low) if score else None,
        high_ms=finite(score.latency_ms.high) if score else None,
        throughput_per_s=score.throughput.value if score else None,
        kind="trial",
        model=model,
        model_sha256=task.model.key,
        subject=str(candidate),
        backend=candidate.backend,
        precision=candidate.precision,
        engine=trial.engines[0] if len(trial.engines) == 1 else "",
        machine=str(ground.machine),
        machine_id=ground.machine_id,
        threads=candidate.threads,
        batch=candidate.batch,
        size_bytes=score.size_bytes if score else None,
        metric=score.metric if score else "",
        loss=finite(score.loss.value) if score else None,
        note=trial.reason,
    )
    data = {"trial": trial.to_json()}
    try:
        history.add(run, data)
    except StoreError:  # one is there already, or nothing can be written
        kept = trial_of(history, trial.id)
        if kept is None or not (kept.is_complete or kept.to_json() == data["trial"]):
            if not _delete(history, trial.id) and kept is not None:
                return
            history.add(run, data)
    judged = task.trial_id(candidate, ground.place(candidate.backend), judged=True)
    if trial.is_complete and trial_of(history, judged) is not None:
        _delete(history, judged)


def _delete(history: History, trial_id: str) -> bool:
    """Whether it is gone now: it stays where a baseline names it."""
    try:
        history.delete(Run(trial_id, ""))
    except UnknownRun:  # it was gone already
        return True
    except StoreError:
        return False
    return True


def still_there(trial: Trial, store: EngineStore) -> bool:
    """Whether the store holds its engines; a failed trial needs none."""
    return trial.state == FAILED or all(store.find(key).engine is not None for key in trial.engines)
