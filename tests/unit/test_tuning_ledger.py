"""Trials in the history: found again, kept once, and never silently lost."""

from __future__ import annotations

import random
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from helpers_tuning import H200, L4, Landscape, ground, plan, trial_of_job

from workbench.accuracy import Interval
from workbench.building import build
from workbench.errors import StoreError
from workbench.model import Model
from workbench.runs import Filter, History
from workbench.store import EngineStore
from workbench.tuning.candidate import Candidate
from workbench.tuning.goals import Goals, Limit
from workbench.tuning.ledger import find_trial, keep_trial, still_there, trial_of, trials_of
from workbench.tuning.trial import FAILED, PRUNED, Trial
from workbench.tuning.trying import Job

TASK, ON = plan().task, ground("one", "GPU-0", H200)
STRICT = replace(TASK, goals=Goals(limits=(Limit("latency", 1.0),), metric="top1"))
CANDIDATE = Candidate("tensorrt", "int8", "entropy", 2, None, 1 << 26, 5, ("CUBLAS",), 4, "", False)


def a_trial(candidate: Candidate = CANDIDATE) -> Trial:
    return trial_of_job(Job(TASK, candidate), ON, Landscape().score(candidate, H200, random.Random(0)))


def judged(state: str) -> Trial:
    """One that was given up for the sake of the goals."""
    return replace(
        a_trial(), id=TASK.trial_id(CANDIDATE, ON.place(CANDIDATE.backend), judged=True), state=state, reason="too slow"
    )


def keep(trial: Trial) -> None:
    keep_trial(History(), trial, TASK, ON, "net")


def test_a_trial_comes_back_as_it_was() -> None:
    keep(a_trial())
    assert trial_of(History(), a_trial().id) == a_trial()
    assert find_trial(History(), TASK, CANDIDATE, ON) == replace(a_trial(), known=True)


def test_numbers_that_are_not_finite_come_back() -> None:
    score = a_trial().score
    assert score is not None
    trial = replace(a_trial(), score=replace(score, loss=Interval(float("inf"), float("-inf"), float("inf"))))
    keep(trial)
    assert trial_of(History(), trial.id) == trial


def test_one_that_is_there_stays_as_it_is() -> None:
    keep(a_trial())
    keep(replace(a_trial(), worker="another"))
    assert trial_of(History(), a_trial().id) == a_trial()
    assert len(History().list(Filter(kind="trial"))) == 1


def test_what_was_measured_serves_other_goals_and_what_was_given_up_does_not() -> None:
    keep(judged(PRUNED))
    assert find_trial(History(), TASK, CANDIDATE, ON) is None
    keep(a_trial())
    assert find_trial(History(), STRICT, CANDIDATE, ON) == replace(a_trial(), known=True)


@pytest.mark.parametrize("earlier", [FAILED, PRUNED])
@pytest.mark.parametrize("later", [FAILED, PRUNED])
def test_what_became_of_a_later_try_takes_the_place_of_a_failure(earlier: str, later: str) -> None:
    keep(judged(earlier))
    again = replace(judged(later), reason="another one", attempts=2)
    keep(again)
    assert trial_of(History(), again.id) == again
    assert [run.note for run in History().list(Filter(kind="trial"))] == ["another one"]


def test_a_failure_that_a_baseline_names_stays() -> None:
    keep(judged(FAILED))
    History().name_baseline("bad", judged(FAILED).id)
    keep(replace(judged(FAILED), reason="another one"))
    assert trial_of(History(), judged(FAILED).id) == judged(FAILED)
    keep(a_trial())
    assert trial_of(History(), a_trial().id) == a_trial()


@pytest.mark.parametrize("earlier", [FAILED, PRUNED])
def test_a_measurement_takes_the_place_of_a_failure(earlier: str) -> None:
    keep(judged(earlier))
    keep(a_trial())
    assert [run.id for run in History().list(Filter(kind="trial"))] == [a_trial().id]
    keep(a_trial())
    assert trial_of(History(), a_trial().id) == a_trial()


def test_another_machine_candidate_or_timing_is_another_trial() -> None:
    keep(a_trial())
    other = ground("two", "GPU-0", L4)
    assert find_trial(History(), TASK, CANDIDATE, other) is None
    assert find_trial(History(), TASK, replace(CANDIDATE, batch=8), ON) is None
    longer = replace(TASK, timing=replace(TASK.timing, iterations=999))
    assert find_trial(History(), longer, CANDIDATE, ON) is None


def test_the_same_machine_under_another_name_is_the_same() -> None:
    keep(a_trial())
    assert find_trial(History(), TASK, CANDIDATE, ground("renamed", "GPU-7", H200)) is not None


def test_many_are_read_at_once_in_their_order() -> None:
    found = [a_trial(replace(CANDIDATE, batch=batch)) for batch in (1, 4, 8)]
    for trial in found:
        keep(trial)
    ids = [trial.id for trial in reversed(found)]
    assert list(trials_of(History(), ids).values()) == found[::-1]
    assert list(trials_of(History(), [ids[0], "0" * 12, ids[2]])) == [ids[0], ids[2]]
    assert trials_of(History(), []) == {}


def test_without_a_history_nothing_is_found() -> None:
    assert find_trial(History(), TASK, CANDIDATE, ON) is None
    assert trials_of(History(), [a_trial().id]) == {}


def test_one_that_cannot_be_read_is_measured_again_and_kept_anew() -> None:
    keep(a_trial())
    with sqlite3.connect(History().path) as connection:
        connection.execute("UPDATE data SET zipped = ?", (b"nonsense",))
    connection.close()
    assert find_trial(History(), TASK, CANDIDATE, ON) is None
    keep(replace(a_trial(), worker="second"))
    assert trial_of(History(), a_trial().id) == replace(a_trial(), worker="second")


def test_what_cannot_be_kept_is_told(home: Path) -> None:
    """A folder where the history should be."""
    (home / "runs.sqlite").mkdir(parents=True)
    with pytest.raises(StoreError):
        keep(a_trial())


def test_a_trial_counts_as_long_as_the_store_holds_its_engines(model: Model) -> None:
    store = EngineStore()
    engine = build(model, backend="onnxruntime", store=store).engine
    trial = replace(a_trial(), engines=(engine.key,))
    assert still_there(trial, store)
    assert not still_there(replace(trial, engines=(engine.key, "f" * 32)), store)
    shutil.rmtree(engine.folder)
    assert not still_there(trial, store)
    assert still_there(replace(trial, state=FAILED), store)
