"""Who is measured in turns in the end, and who wins, of one column of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from workbench.store import EngineStore
from workbench.tuning.candidate import Candidate
from workbench.tuning.choosing import finalists, pick, rescored
from workbench.tuning.finals import Finals
from workbench.tuning.findings import Best, Column, Findings
from workbench.tuning.lane import Lane
from workbench.tuning.ledger import still_there
from workbench.tuning.plan import Plan
from workbench.tuning.space import firsts
from workbench.tuning.task import config_of
from workbench.tuning.trial import FAILED, Trial


def take_finals(lane: Lane, earlier: Findings | None) -> None:
    """Those of the search as it was kept, where their finalists are the very trials that the lane has."""
    name = lane.ground.column
    column = next((item for item in earlier.columns if item.name == name), None) if earlier else None
    if earlier is None or column is None or column.finals is None or column.finals.failures:
        return
    mine, kept = lane.complete, earlier.of(name)
    if all(key in mine and key in kept and mine[key].at == kept[key].at for key in column.finalists.values()):
        lane.result = replace(lane.result, finalists=column.finalists, finals=column.finals)


def finals_of(lane: Lane, plan: Plan, *, again: bool = False) -> Finals | None:
    """The finalists, whom the lane's result names from now on; None where there are none. Finals that it has stay only
    if they are of the same, and not `again`."""
    trials = lane.complete
    ids = finalists(trials, plan.goals, firsts(plan.space, lane.rules))
    names = names_of({item: trials[item].candidate for item in ids})
    found = {name: item for item, name in names.items()}
    are_same = list(found.items()) == list(lane.result.finalists.items())
    lane.result = replace(lane.result, finalists=found, finals=lane.result.finals if are_same and not again else None)
    return Finals(plan.task, {names[item]: trials[item].candidate for item in ids}) if ids else None


def measured_before(lane: Lane, plan: Plan, store: EngineStore) -> str:
    """A sentence where these very finalists were measured in turns already, '' where they have to be; so also where the
    engines of who wins by that are not here any more: they are built anew then."""
    finals, found = lane.result.finals, winner_of(lane, plan)
    if finals is None or (found is not None and not still_there(found[0], store)):
        return ""
    when = f"{finals.at[:16].replace('T', ' ')} UTC"
    told = f"the finalists are those that were measured in turns on {when}, and these times count"
    return f"{lane.ground.column}: {told}; finals_again (--finals-again) measures them anew."


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
    study, name = column.finals, column.best_name
    if study is None or name in ("", study.reference) or len({item.batch for item in study.measurements}) > 1:
        return "", ""
    return study.reference, study.verdict(name)


def names_of(candidates: Mapping[str, Candidate]) -> dict[str, str]:
    """Short names for a study, by trial id; those that are alike told apart by the id."""
    names = {key: str(candidate) for key, candidate in candidates.items()}
    return {
        key: name if list(names.values()).count(name) == 1 else f"{name} ({key[:4]})" for key, name in names.items()
    }
