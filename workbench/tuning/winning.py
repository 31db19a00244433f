"""Who is measured in turns in the end, and who wins, of one column of a search."""

from __future__ import annotations

from dataclasses import replace

from workbench.tuning.choosing import finalists, pick, rescored
from workbench.tuning.finals import Finals
from workbench.tuning.lane import Lane
from workbench.tuning.plan import Plan
from workbench.tuning.result import Best, Column, names_of
from workbench.tuning.space import firsts
from workbench.tuning.task import config_of
from workbench.tuning.trial import FAILED, Trial


def finals_of(lane: Lane, plan: Plan) -> Finals | None:
    """The finalists, whom the lane's result names from now on; None where there are none."""
    trials = lane.complete
    ids = finalists(trials, plan.goals, firsts(plan.space, lane.rules))
    names = names_of({item: trials[item].candidate for item in ids})
    lane.result = replace(lane.result, finalists={name: item for item, name in names.items()})
    return Finals(plan.task, {names[item]: trials[item].candidate for item in ids}) if ids else None


def winner_of(lane: Lane, plan: Plan) -> tuple[Trial, Best] | None:
    """By what was measured in turns, where that was done. None where nobody is within the limits."""
    trials, result = lane.complete, lane.result
    scores = {name: trial.score for name, trial in trials.items() if trial.score is not None}
    again = rescored(trials, result.finalists, result.finals, plan.task.on_gpu_clock) if result.finals else {}
    allowed = {name: score for name, score in again.items() if plan.goals.allows(score)}
    if not allowed:  # no finals; or all of them miss a limit by a hair that others keep
        allowed = {name: score for name, score in scores.items() if name not in again and plan.goals.allows(score)}
    if not allowed:
        return None
    chosen, tied, reason = pick(allowed, trials, plan.goals)
    trial = trials[chosen]
    config = config_of(plan.task, trial.candidate, plan.inputs, plan.calibration)
    return trial, Best(chosen, trial.engines, config, tied, reason)


def why_nobody(lane: Lane, plan: Plan) -> str:
    """In a sentence."""
    own = list(lane.trials.values())
    if own and all(trial.state == FAILED for trial in own):
        return f"{lane.ground.column}: every candidate failed; the first: {own[0].reason}"
    if not plan.goals.limits:
        return f"{lane.ground.column}: no candidate was measured to the end."
    limits = " and ".join(map(str, plan.goals.limits))
    return f"{lane.ground.column}: no candidate stays within {limits}; ease a limit, or widen the space."


def gain(column: Column) -> tuple[str, str]:
    """What the best was compared with in turns, and how: 'onnxruntime fp16', '2.1 times as fast (2.0 to 2.2)'; what
    one would pick by hand comes first there. Empty where it is that itself, was not compared, or batches differ."""
    study, best = column.finals, column.best
    if study is None or best is None or len({item.batch for item in study.measurements}) > 1:
        return "", ""
    name = next((name for name, trial in column.finalists.items() if trial == best.trial), "")
    if name not in {item.name for item in study.measurements} or name == study.reference:
        return "", ""
    return study.reference, study.verdict(name)
