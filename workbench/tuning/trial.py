"""Trial: what became of one candidate, plain data that a history keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from workbench.tuning.candidate import Candidate, candidate_from_json
from workbench.tuning.goals import Score, score_from_json, score_to_json

COMPLETE, PRUNED, FAILED = STATES = ("complete", "pruned", "failed")


@dataclass(frozen=True)
class Trial:
    """id: of its run in the history, 12 hexadecimal digits. state: one of STATES. score: None where nothing was
    measured; of a pruned one what the short look saw. reason: why it was pruned or failed, in a sentence. engines: keys
    in the store, several where the model runs in parts. column, worker: where. at: when it ended, ISO 8601, UTC.
    seconds: what each phase took. known: it was measured by an earlier search, and not again. attempts: on how many
    workers it was tried. warnings: why the times may not be what they seem.
    """

    id: str
    candidate: Candidate
    state: str
    column: str
    score: Score | None = None
    reason: str = ""
    engines: tuple[str, ...] = ()
    worker: str = ""
    at: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    known: bool = False
    attempts: int = 1
    warnings: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        return self.state == COMPLETE

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "score": None if self.score is None else score_to_json(self.score)}


def trial_from_json(data: Mapping[str, Any]) -> Trial:
    """The inverse of Trial.to_json."""
    return Trial(
        **{
            **data,
            "candidate": candidate_from_json(data["candidate"]),
            "score": None if data["score"] is None else score_from_json(data["score"]),
            "engines": tuple(data["engines"]),
            "warnings": tuple(data["warnings"]),
        }
    )
