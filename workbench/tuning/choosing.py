"""Choosing: who is measured again in the end, and which of them is the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workbench.accuracy import Interval
from workbench.study import Study, comparable
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
    if on_gpu_clock:
        latencies = {item.name: item.median for item in finals.measurements}
    else:
        latencies = comparable(finals.measurements)[0]
        hosts = {item.name: item.host_median or item.median for item in finals.measurements}
        latencies = {name: hosts[name] for name in latencies}
    found = {}
    for name, latency in latencies.items():
        trial = trials[names[name]]
        if trial.score is not None:
            found[trial.id] = timed_again(trial.score, latency, trial.candidate.batch)
    return found


def pick(scores: Mapping[str, Score], trials: Mapping[str, Trial], goals: Goals) -> tuple[str, tuple[str, ...], str]:
    """The best of the finalists, those that cannot be told apart from it in the first objective, and why it was taken.

    Of those whose intervals reach the best of an objective, the next objective decides, and so on."""
    allowed = [name for name, score in scores.items() if goals.allows(score)] or list(scores)
    left, tied, decided = allowed, tuple[str, ...](), ""
    for number, objective in enumerate(goals.objectives):
        best = min(left, key=lambda name: goals.values(scores[name])[number])
        reach = scores[best].of(objective).high
        left = [name for name in left if name == best or scores[name].of(objective).low <= reach]
        if number == 0:
            tied = tuple(left)
        if len(left) == 1:
            decided = objective
            break
    chosen = min(left, key=lambda name: goals.values(scores[name]))
    return chosen, tied, _reason(chosen, tied, decided, scores, trials, goals)


def _reason(
    chosen: str,
    tied: Sequence[str],
    decided: str,
    scores: Mapping[str, Score],
    trials: Mapping[str, Trial],
    goals: Goals,
) -> str:
    first, score = goals.objectives[0], scores[chosen]
    told = value_text(first, abs(score.of(first).value), score.metric)
    if len(tied) == 1:
        return f"Its {first}, {told}, is surely the best of {count_of(len(scores), 'finalist')}."
    others = "; ".join(str(trials[name].candidate) for name in tied)
    start = f"These {len(tied)} cannot be told apart in {first}: {others}."
    if not decided:
        return f"{start} Nothing else tells them apart either; any of them will do."
    return f"{start} It is surely the best of them in {decided}."
