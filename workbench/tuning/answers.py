"""Whether what a worker answered can be what came out: workers run on machines that nobody here has seen."""

from __future__ import annotations

import json
import math
from typing import Any

from workbench.study import Study
from workbench.tuning.crew import Work
from workbench.tuning.finals import Finals
from workbench.tuning.ground import Ground
from workbench.tuning.trial import STATES, Trial
from workbench.tuning.trying import Job


def nonsense(work: Work, ground: Ground, result: Any) -> str:
    """Why this cannot be what came out, '' where it can."""
    try:
        return _of_finals(work, result) if isinstance(work, Finals) else _of_trial(work, ground, result)
    except Exception as error:  # whatever looking at nonsense raises
        return f"its answer cannot be read ({type(error).__name__}: {error})"


def _of_finals(work: Finals, result: Any) -> str:
    if not isinstance(result, Study):
        return f"it answered with a {type(result).__name__}, not with a study"
    names = {item.name for item in result.measurements}
    return "" if names and names <= work.candidates.keys() else "it answered for others than the finalists"


def _of_trial(work: Job, ground: Ground, result: Any) -> str:
    if not isinstance(result, Trial):
        return f"it answered with a {type(result).__name__}, not with a trial"
    if result.candidate != work.candidate or result.column != ground.column:
        return "it answered for something that it was not asked"
    place = ground.place(work.candidate.backend)
    ids = {work.task.trial_id(work.candidate, place, judged=judged) for judged in (False, True)}
    if result.id not in ids or result.state not in STATES:
        return "its trial has the id or the state of another one"
    score = result.score
    if result.is_complete and (score is None or not score.latency_ms.value > 0 or not result.engines):
        return "it calls a trial complete in which nothing was measured"
    if score is not None and not (math.isfinite(score.latency_ms.value) and score.latency_ms.value > 0):
        return f"it measured a latency of {score.latency_ms.value} ms"
    json.dumps(result.to_json())
    return ""
