"""What is asked for next, and that no process forgets what another one was told."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from helpers_tuning import H200, L4, Landscape, ground, huge_space, large_space, plan, rules, trial_of_job
from optuna.trial import TrialState

from workbench.errors import ConfigError
from workbench.tuning import proposing
from workbench.tuning.asked import FILE, Told
from workbench.tuning.candidate import Candidate
from workbench.tuning.goals import Goals, Limit
from workbench.tuning.proposing import BEST, LAST, POPULATION, WINDOW, Proposer, changed
from workbench.tuning.search import BEGUN, LONG, SAMPLERS, SMALL, Search
from workbench.tuning.space import Space, firsts
from workbench.tuning.trial import COMPLETE, FAILED, PRUNED, Trial
from workbench.tuning.trying import Job

ON = ground(gpu="0")
GOALS = Goals(("throughput", "accuracy"), (Limit("accuracy", 0.3),), "top1")
FEW = Space(("tensorrt", "onnxruntime"), in_float=(0, 1), threads=(None, 1, 2), cuda_graph=(True, False))
TASK = plan().task


def search(folder: Path, space: Space = FEW, sampler: str = "auto", **options: Any) -> Search:
    folder.mkdir(parents=True, exist_ok=True)
    return Search("search", space, rules(), options.pop("goals", GOALS), folder, sampler=sampler, **options)


def result(candidate: Candidate, **changes: Any) -> Trial:
    return replace(trial_of_job(Job(TASK, candidate), ON, Landscape().score(candidate, H200)), **changes)


def run(found: Search, count: int) -> list[Candidate]:
    """Ask and tell."""
    asked = []
    for _ in range(count):
        candidate = found.ask()
        if candidate is None:
            break
        asked.append(candidate)
        found.tell(result(candidate))
    return asked


# ---- what is asked for


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_is_asked_for_twice_and_a_small_space_is_exhausted(sampler: str, tmp_path: Path) -> None:
    asked = run(search(tmp_path, sampler=sampler), 1000)
    assert len(asked) == len(set(asked))
    assert set(asked) == set(rules().candidates(FEW))


def test_what_is_under_way_is_not_asked_for_again(tmp_path: Path) -> None:
    """As by a hundred workers at once, none of whom has told anything yet."""
    found = search(tmp_path, large_space(), "tpe")
    asked = [found.ask() for _ in range(40)]
    assert None not in asked
    assert len(set(asked)) == 40


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_only_what_rules_admit_is_proposed(sampler: str, tmp_path: Path) -> None:
    for candidate in run(search(tmp_path, large_space(), sampler), 30):
        assert rules().admits(large_space(), candidate)


def test_those_that_one_would_pick_by_hand_come_first(tmp_path: Path) -> None:
    assert run(search(tmp_path, large_space()), 6) == list(firsts(large_space(), rules()))


def test_few_candidates_are_all_tried_in_an_order_of_chance(tmp_path: Path) -> None:
    orders = [run(search(tmp_path / str(seed), seed=seed), SMALL) for seed in range(2)]
    assert set(orders[0]) == set(orders[1])
    assert orders[0] != orders[1]


def test_remaining_counts_down_to_none_left(tmp_path: Path) -> None:
    found = search(tmp_path)
    total = found.remaining
    assert total is not None
    run(found, 5)
    assert found.remaining == total - 5
    run(found, total)
    assert found.remaining == 0
    assert found.ask() is None


def test_a_sampler_that_does_not_exist_and_a_space_without_candidates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no sampler 'guess'"):
        search(tmp_path, sampler="guess")
    with pytest.raises(ConfigError, match="No candidate is left to try"):
        Search("none", Space(("tensorrt",)), rules(ground()), GOALS, tmp_path)


# ---- what is told


def test_told_twice_changes_nothing(tmp_path: Path) -> None:
    found = search(tmp_path)
    candidate = found.ask()
    assert candidate is not None
    for _ in range(2):
        found.tell(result(candidate))
    assert found.trials == (result(candidate).id,)
    assert len(search(tmp_path).trials) == 1


def test_what_nobody_asked_for_counts_and_is_not_asked_for_any_more(tmp_path: Path) -> None:
    found = search(tmp_path)
    known = next(rules().candidates(FEW))
    found.tell(result(known))
    assert known not in run(found, 1000)


def test_one_that_the_space_does_not_hold_can_be_told(tmp_path: Path) -> None:
    found = search(tmp_path, large_space(), "tpe")
    found.tell(result(Candidate("tensorrt", batch=3, cuda_graph=True)))
    assert len(run(found, 12)) == 12


def test_one_given_back_is_asked_for_next(tmp_path: Path) -> None:
    found = search(tmp_path, large_space())
    asked = [found.ask() for _ in range(10)]
    left = found.remaining
    assert asked[8] is not None and left is not None
    found.give_back(asked[8])
    assert found.remaining == left + 1
    assert found.ask() == asked[8]


def test_giving_back_what_was_told_changes_nothing(tmp_path: Path) -> None:
    found = search(tmp_path)
    (candidate,) = run(found, 1)
    found.give_back(candidate)
    assert candidate not in run(found, 1000)


@pytest.mark.parametrize("state", [PRUNED, FAILED])
def test_those_given_up_and_failed_are_told_too(state: str, tmp_path: Path) -> None:
    found = search(tmp_path, large_space(), "tpe")
    for _ in range(15):
        candidate = found.ask()
        assert candidate is not None
        found.tell(result(candidate, state=state, score=None))
    assert len(search(tmp_path, large_space(), "tpe").trials) == 15
    assert found.importance() == {}


def test_results_that_are_no_numbers_stop_nobody(tmp_path: Path) -> None:
    found = search(tmp_path, large_space(), "tpe")
    for value in (float("nan"), float("inf"), float("-inf")) * 4:
        candidate = found.ask()
        assert candidate is not None
        trial = result(candidate)
        assert trial.score is not None
        loss = replace(trial.score.loss, value=value)
        found.tell(replace(trial, score=replace(trial.score, loss=loss)))
    assert len(found.trials) == 12


# ---- another process


def test_another_process_goes_on_where_one_was_killed(tmp_path: Path) -> None:
    """Nothing is closed or finished by the first."""
    first = search(tmp_path, large_space())
    told = run(first, 10)
    under_way = [first.ask() for _ in range(3)]
    second = search(tmp_path, large_space())
    assert second.trials == tuple(result(candidate).id for candidate in told)
    assert not set(run(second, 20)) & {*told, *under_way}


@pytest.mark.parametrize("sampler", ["auto", "tpe"])
def test_what_a_process_was_at_when_it_ended_comes_last(sampler: str, tmp_path: Path) -> None:
    """It may be what ended it. Also one that would be picked by hand, and without a list of all candidates."""
    total = search(tmp_path, sampler=sampler).remaining
    first = search(tmp_path, sampler=sampler)
    told, under_way = run(first, 2), {first.ask(), first.ask()}
    second = search(tmp_path, sampler=sampler)
    assert total is not None and second.remaining == total - 2
    assert set(second.interrupted) == under_way
    asked = run(second, total)
    assert set(asked[-2:]) == under_way and len(asked) == total - len(told)
    assert second.ask() is None and second.fatal == second.interrupted == ()


def test_what_ended_three_processes_is_not_asked_for_any_more(tmp_path: Path) -> None:
    total = search(tmp_path).remaining
    assert total is not None
    asked = run(search(tmp_path), total - 1)
    for number in range(BEGUN):
        found = search(tmp_path)
        assert found.fatal == () and found.remaining == 1, number
        fatal = found.ask()
        assert fatal is not None and fatal not in asked
    found = search(tmp_path)
    assert (found.fatal, found.remaining, found.ask()) == ((fatal,), 0, None)
    found.tell(result(fatal, state=FAILED, score=None))
    assert found.fatal == ()
    again = search(tmp_path)
    assert (len(again.trials), again.fatal) == (total, ())
    again.forget({result(fatal).id})
    assert again.fatal == search(tmp_path).fatal == (fatal,), "what it did is not forgotten"
    assert again.ask() is None


def test_one_that_was_stopped_in_order_is_not_to_blame_and_comes_first(tmp_path: Path) -> None:
    for _ in range(BEGUN + 1):
        first = search(tmp_path, large_space())
        asked = [first.ask() for _ in range(9)]
        assert asked[8] is not None and asked[3] is not None
        for candidate in (asked[3], asked[8]):
            first.give_back(candidate)
        second = search(tmp_path, large_space())
        assert {second.ask(), second.ask()} == {asked[3], asked[8]}
        for candidate in asked:
            if candidate is not None:
                second.give_back(candidate)
                first.give_back(candidate)
    assert search(tmp_path, large_space()).fatal == ()


def test_a_file_of_an_earlier_workbench_is_set_aside(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.executescript("CREATE TABLE asked (number INTEGER PRIMARY KEY); PRAGMA user_version=1")
    with pytest.warns(UserWarning, match="was damaged"):
        found = search(tmp_path)
    assert len(run(found, 3)) == 3
    assert len(search(tmp_path).trials) == 3


def test_kills_between_any_two_steps_lose_nothing(tmp_path: Path) -> None:
    """A new process for every step."""
    told: list[Candidate] = []
    for _ in range(8):
        search(tmp_path).ask()
        found = search(tmp_path)
        candidate = found.ask()
        assert candidate is not None and candidate not in told
        found.tell(result(candidate))
        told.append(candidate)
    assert search(tmp_path).trials == tuple(result(candidate).id for candidate in told)


def test_what_was_under_way_and_is_admitted_no_more_is_not_asked_for(tmp_path: Path) -> None:
    first = search(tmp_path, large_space())
    for _ in range(6):
        first.ask()
    poorer = Search("search", large_space(), rules(has_ranges=False), GOALS, tmp_path)
    assert {poorer.ask().precision for _ in range(6)} <= {"fp32", "fp16"}  # type: ignore[union-attr]


def test_what_is_forgotten_is_asked_for_again(tmp_path: Path) -> None:
    asked = run(search(tmp_path), 10)
    found = search(tmp_path)
    found.forget({result(asked[3]).id, result(asked[7]).id, "unknown"})
    assert {found.ask(), found.ask()} == {asked[3], asked[7]}
    assert len(found.trials) == 8


def test_what_is_forgotten_counts_no_more(tmp_path: Path) -> None:
    found = search(tmp_path, large_space(), "tpe")
    asked = run(found, 8)
    under_way = found.ask()
    assert found.importance() and under_way is not None
    found.forget({result(asked[0]).id})
    assert found.importance() == {}, "seven are left"
    states = [trial.state for trial in found._proposer._study.get_trials(deepcopy=False)]
    assert sorted(states) == sorted([TrialState.COMPLETE] * 7 + [TrialState.RUNNING])
    assert found.ask() == asked[0]
    found.tell(result(asked[0]))
    assert found.importance()


def test_what_is_forgotten_and_admitted_no_more_is_not_asked_for(tmp_path: Path) -> None:
    asked = run(search(tmp_path, large_space()), 6)
    assert any(candidate.precision == "int8" for candidate in asked)
    poorer = Search("search", large_space(), rules(has_ranges=False), GOALS, tmp_path)
    poorer.forget(poorer.trials)
    assert {poorer.ask().precision for _ in range(6)} <= {"fp32", "fp16"}  # type: ignore[union-attr]


def test_searches_in_one_file_know_nothing_of_each_other(tmp_path: Path) -> None:
    run(search(tmp_path), 5)
    other = Search(f"search {L4}", FEW, rules(), GOALS, tmp_path)
    assert other.trials == ()


def test_the_file_is_written_ahead_so_that_readers_do_not_wait(tmp_path: Path) -> None:
    run(search(tmp_path), 2)
    with sqlite3.connect(tmp_path / FILE) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_damaged_file_is_set_aside_and_candidates_are_asked_for_again(tmp_path: Path) -> None:
    run(search(tmp_path), 5)
    (tmp_path / FILE).write_bytes(b"nonsense" * 1000)
    with pytest.warns(UserWarning, match="was damaged"):
        found = search(tmp_path)
    assert found.trials == ()
    assert len(run(found, 5)) == 5


# ---- how well


def as_told(candidate: Candidate) -> Told:
    score = Landscape().score(candidate, H200)
    excess = {"0": GOALS.limits[0].excess(score).value}
    return Told(candidate, "0" * 12, COMPLETE, GOALS.values(score), excess)


def quality(kind: str, budget: int, seed: int) -> float:
    """The best found within the limits, as a share of the best that there is."""
    space, found, seen = large_space(), 0.0, set[str]()
    proposer, first = Proposer(space, rules(), 2, seed), list(firsts(space, rules()))
    for _ in range(budget):
        candidate = first.pop() if first else proposer.propose(kind, lambda item: item.key in seen)
        assert candidate is not None
        seen.add(candidate.key)
        score = Landscape().score(candidate, H200)
        proposer.tell(as_told(candidate))
        if GOALS.allows(score):
            found = max(found, score.throughput.value)
    return found / _best()


def _best() -> float:
    scores = (Landscape().score(item, H200) for item in rules().candidates(large_space(precision=("fp16", "int8"))))
    return max(score.throughput.value for score in scores if GOALS.allows(score))


def test_the_estimator_finds_better_ones_than_chance() -> None:
    """Of 4,256 within 60 trials; seeds are fixed, so that this is no matter of luck."""
    tpe, chance = ([quality(kind, 60, seed) for seed in range(4)] for kind in ("tpe", "random"))
    assert statistics.mean(tpe) > statistics.mean(chance) + 0.02, (tpe, chance)


def test_what_matters_is_told(tmp_path: Path) -> None:
    """The batch decides on latency more than anything else, and what is in int8 on what is lost."""
    found = search(tmp_path, large_space(backend=("tensorrt",)), "random", goals=Goals(metric="top1"))
    run(found, 80)
    shares = found.importance()
    assert max(shares["latency"], key=shares["latency"].__getitem__) == "batch"
    assert max(shares["accuracy"], key=shares["accuracy"].__getitem__) == "precision"
    assert "backend" not in shares["latency"]
    assert sum(shares["latency"].values()) == pytest.approx(1)


# ---- what it costs


@pytest.fixture
def counted() -> Iterator[Callable[[Callable[[], object]], int]]:
    """How many Python functions are called by something."""

    def count(work: Callable[[], object]) -> int:
        calls = 0

        def note(frame: FrameType, event: str, argument: object) -> None:
            nonlocal calls
            calls += event == "call"

        sys.setprofile(note)
        try:
            work()
        finally:
            sys.setprofile(None)
        return calls

    yield count
    sys.setprofile(None)


def told(proposer: Proposer, count: int, draw: random.Random, seen: set[str]) -> None:
    """So many random candidates, told as they would be."""
    candidate = firsts(huge_space(), rules())[0]
    for _ in range(count):
        while candidate.key in seen:
            candidate = changed(huge_space(), rules(), candidate, draw)
        seen.add(candidate.key)
        proposer.tell(as_told(candidate))


@pytest.mark.parametrize("kind", ["nsga2", "random", "tpe"])
def test_a_proposal_takes_no_more_work_in_a_long_search(
    kind: str, counted: Callable[[Callable[[], object]], int]
) -> None:
    proposer, draw, seen = Proposer(huge_space(), rules(), 2, 0), random.Random(0), set[str]()

    def step() -> None:
        candidate = proposer.propose(kind, lambda item: item.key in seen)
        assert candidate is not None
        seen.add(candidate.key)
        proposer.tell(as_told(candidate))

    told(proposer, WINDOW - 10, draw, seen)
    early = max(counted(step) for _ in range(5))
    told(proposer, 1500, draw, seen)
    late = [counted(step) for _ in range(5)]
    assert min(late) <= 1.2 * early


def test_a_window_begins_with_the_last_and_the_best_and_what_is_under_way() -> None:
    proposer, draw, seen = Proposer(huge_space(), rules(), 2, 0), random.Random(0), set[str]()
    under_way = Candidate("tensorrt", batch=1, cuda_graph=False)
    seen.add(under_way.key)
    proposer.hold(under_way)
    told(proposer, 3 * WINDOW, draw, seen)
    trials = proposer._study.get_trials(deepcopy=False)
    assert LAST + BEST < len(trials) <= WINDOW + 1
    assert sum(trial.state == TrialState.RUNNING for trial in trials) == 1
    proposer.tell(as_told(under_way))


def test_nsga_begins_with_what_was_found_before() -> None:
    """Its first generation is not one of chance."""
    proposer, draw, seen = Proposer(huge_space(), rules(), 2, 0), random.Random(0), set[str]()
    told(proposer, LONG, draw, seen)
    proposer.propose("tpe", lambda item: item.key in seen)
    children = [proposer.propose("nsga2", lambda item: item.key in seen) for _ in range(POPULATION // 2)]
    assert None not in children
    trials = proposer._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    assert [trial.system_attrs[proposing._GENERATION] for trial in trials[1:]] == [1] * len(children)


def test_asking_and_telling_is_no_more_work_in_a_long_search(
    tmp_path: Path, counted: Callable[[Callable[[], object]], int]
) -> None:
    found = search(tmp_path, huge_space(), "random")
    run(found, 20)
    early = max(counted(lambda: run(found, 1)) for _ in range(5))
    run(found, 150)
    assert min(counted(lambda: run(found, 1)) for _ in range(5)) <= 1.2 * early


def test_a_window_is_longer_than_the_estimator_is_used() -> None:
    assert WINDOW > LONG
