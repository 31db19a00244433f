"""Choosing: who is measured again in the end, and which of them is the best."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from workbench.accuracy import Interval
from workbench.study import Study
from workbench.tuning.candidate import Candidate
from workbench.tuning.finals import MOST
from workbench.tuning.goals import Goals, Score, front, value_text
from workbench.tuning.trial import Trial
from workbench.types import count_of

_PLAIN = ("fp16", "fp32")
"""What is picked by hand to compare with, the first choice first."""


def finalists(trials: Mapping[str, Trial], goals: Goals, by_hand: Sequence[Candidate], most: int = MOST) -> list[str]:
    """Ids of complete trials to measure in turns: what one would have picked by hand, to compare with, then the front
    and those whose intervals reach its best in the first objective. Where nothing is within the limits, nobody."""
    scores = {name: trial.score for name, trial in trials.items() if trial.score is not None and trial.is_complete}
    best = list(front(scores, goals))
    if not best:
        return []
    first = goals.objectives[0]
    reach = scores[best[0]].of(first).high
    close = [name for name, score in scores.items() if goals.allows(score) and score.of(first).low <= reach]
    close.sort(key=lambda name: goals.values(scores[name]))
    hand = {candidate.key for candidate in by_hand}
    picked = [name for name in scores if trials[name].candidate.key in hand and _place(trials, name)[0] < len(_PLAIN)]
    picked = sorted(picked, key=lambda name: _place(trials, name))[:2]
    return list(dict.fromkeys([*picked, *best, *close]))[:most]


def _place(trials: Mapping[str, Trial], name: str) -> tuple[int, float]:
    score, precision = trials[name].score, trials[name].candidate.precision
    number = _PLAIN.index(precision) if precision in _PLAIN else len(_PLAIN)
    return number, score.latency_ms.value if score else 0.0


def timed_again(score: Score, latency: Interval, batch: int) -> Score:
    """The score with what was measured in turns."""
    rate = Interval(*(1000 * batch / max(ms, 1e-9) for ms in (latency.value, latency.high, latency.low)))
    return Score(latency, rate, score.loss, score.metric, score.size_bytes, score.memory_bytes)


def rescored(
    trials: Mapping[str, Trial], names: Mapping[str, str], finals: Study, on_gpu_clock: bool
) -> dict[str, Score]:
    """Scores of the finalists, by trial id, with the times of the finals. names: trial ids by name."""
    found = {}
    for item in finals.measurements:
        trial = trials[names[item.name]]
        if trial.score is not None:
            latency = item.median if on_gpu_clock else item.host_median or item.median
            found[trial.id] = timed_again(trial.score, latency, item.batch)
    return found


def pick(scores: Mapping[str, Score], trials: Mapping[str, Trial], goals: Goals) -> tuple[str, tuple[str, ...], str]:
    """The best of the finalists, those that cannot be told apart from it in the first objective, and why it was taken.

    Of those whose intervals reach the best of an objective, the next objective decides, and so on."""
    left, tied, decided = list(scores), tuple[str, ...](), ""
    for number, objective in enumerate(goals.objectives):
        reach = min((scores[name].of(objective) for name in left), key=lambda found: _first(found.value)).high
        near = [name for name in left if scores[name].of(objective).low <= reach]
        decided = objective if near and len(near) < len(left) else decided
        left = near or left
        if number == 0:
            tied = tuple(left)
    chosen = min(left, key=lambda name: (goals.values(scores[name])[1:], goals.values(scores[name])))
    return chosen, tied, " ".join(_reasons(chosen, (tied, tuple(left)), decided, scores, trials, goals))


def _first(value: float) -> float:
    """What is no number comes last."""
    return math.inf if math.isnan(value) else value


def _reasons(
    chosen: str,
    groups: tuple[Sequence[str], Sequence[str]],
    decided: str,
    scores: Mapping[str, Score],
    trials: Mapping[str, Trial],
    goals: Goals,
) -> Iterator[str]:
    """groups: those tied in the first objective, and those that nothing tells apart."""
    first, score, (tied, left) = goals.objectives[0], scores[chosen], groups
    told = value_text(first, abs(score.of(first).value), score.metric)
    if len(scores) == 1:
        yield f"It is the only finalist; its {first} is {told}."
    elif len(tied) == 1:
        yield f"Its {first}, {told}, is surely the best of {count_of(len(scores), 'finalist')}."
    else:
        yield f"These {len(tied)} cannot be told apart in {first}: {_named(tied, trials)}."
        if len(left) == 1:
            yield f"It is surely the best of them in {decided}."
        elif len(left) < len(tied):
            yield f"By {decided}, {len(left)} of them are left, which nothing tells apart: {_named(left, trials)}."
        else:
            yield "Nothing else tells them apart either."
        if len(left) > 1 and "accuracy" in goals.objectives:
            losses = sorted(scores[name].loss.value for name in left)
            if losses[0] < losses[-1]:
                ends = " to ".join(value_text("accuracy", value, score.metric) for value in (losses[0], losses[-1]))
                taken = "; the smallest loss was taken" if score.loss.value == losses[0] else ""
                yield f"They lost {ends}, which these samples are too few to tell apart{taken}."
    for limit in goals.limits:
        found = limit.excess(score)
        if limit.objective == "accuracy" and found.value <= 0 < found.high:
            most = value_text("accuracy", score.loss.high, score.metric)
            yield f"Too few samples to be sure that {limit} holds: up to {most} may be lost."


def _named(names: Sequence[str], trials: Mapping[str, Trial]) -> str:
    return "; ".join(str(trials[name].candidate) for name in names)
