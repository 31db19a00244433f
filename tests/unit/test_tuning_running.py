"""The search's driver: whatever workers do, no result is lost, none is measured twice, and columns stay apart."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections import Counter
from dataclasses import replace
from types import FrameType

import pytest
from helpers_tuning import (
    H200,
    L4,
    ROUGH,
    Chances,
    Landscape,
    SimulatedCrew,
    ground,
    hundred,
    large_space,
    plan,
    support,
    trial_of_job,
)

from workbench.building import build
from workbench.errors import BackendError, Cancelled, StoreError
from workbench.model import Model
from workbench.runs import Filter, History
from workbench.store import EngineStore
from workbench.study import Study
from workbench.tuning import Budget, Controls, Goals, Limit, Space, Tuned, run_search
from workbench.tuning.budget import Clock
from workbench.tuning.finals import Finals
from workbench.tuning.goals import front
from workbench.tuning.lane import ATTEMPTS, RIVALS, open_lane
from workbench.tuning.ledger import keep_trial, trials_of
from workbench.tuning.plan import Plan
from workbench.tuning.recorded import stored_searches
from workbench.tuning.result import FINISHED, PAUSED, load_tuned
from workbench.tuning.trial import COMPLETE, FAILED
from workbench.tuning.trying import Job
from workbench.types import LogLine

SMALL = Space(("tensorrt", "onnxruntime"), in_float=(0, 1), threads=(None, 1, 2), cuda_graph=(True, False))
"""Few enough to try all of them."""
TOP1 = Goals(metric="top1")


def crew_of(count: int = 3, chances: Chances | None = None, seed: int = 0) -> SimulatedCrew:
    workers = {f"w{number}": ground("host", f"GPU-{number}") for number in range(count)}
    return SimulatedCrew(workers, chances or Chances(), seed)


def search(wanted: Plan, crew: SimulatedCrew, budget: Budget | None = None, **options: object) -> Tuned:
    clock = Clock(crew.clock.monotonic, crew.clock.sleep)
    return run_search(wanted, crew, budget or Budget(12, patience_s=300), clock=clock, **options)  # type: ignore[arg-type]


def kept() -> dict[str, str]:
    """Trials in the history: column and candidate by id."""
    runs = History().list(Filter(kind="trial", limit=None))
    return {
        trial.id: f"{trial.column} {trial.candidate.key}"
        for trial in trials_of(History(), [run.id for run in runs]).values()
    }


def assert_nothing_lost(found: Tuned, *crews: SimulatedCrew) -> None:
    """Each candidate that was tried to its end is a trial, once."""
    executed: Counter[tuple[str, str]] = sum((crew.executions for crew in crews), Counter())
    assert max(executed.values()) == 1
    trials = Counter((item.column, item.candidate.key) for item in found.trials)
    assert max(trials.values()) == 1
    assert executed.keys() <= trials.keys()
    failed = {(item.column, item.candidate.key) for item in found.trials if item.state == FAILED}
    assert trials.keys() == executed.keys() | failed
    assert len(kept()) == len(found.trials)


# ---- a hundred workers


def test_a_hundred_rough_workers_lose_no_result_and_measure_none_twice() -> None:
    crew = SimulatedCrew(hundred(), ROUGH, seed=1)
    found = search(plan(large_space(), sampler="random"), crew, Budget(120, patience_s=300))
    assert found.state == FINISHED
    assert len(found.trials) == 120
    assert sum(crew.lost.values()) > 10
    assert_nothing_lost(found, crew)
    assert max(crew.lost.values()) <= ATTEMPTS
    assert crew.finals == Counter({H200: 1, L4: 1, "AMD EPYC, 8 cores": 1})
    for column in found.columns:
        of = found.of(column.name)
        assert column.finals is not None and column.best is not None
        assert {*column.finalists.values(), column.best.trial, *column.best.tied} <= of.keys()
        names = {item.machine.gpus[0].name if item.machine.gpus else "" for item in column.finals.measurements}
        assert names == {column.name if column.name in (H200, L4) else ""}


def test_a_candidate_is_tried_again_elsewhere() -> None:
    crew = crew_of(6, Chances(dies=0.15, nonsense=0.15, comes_back=1.0), seed=3)
    found = search(plan(SMALL), crew, Budget(20, patience_s=300))
    again = [workers for workers in crew.tried_on.values() if len(workers) > 1]
    assert again
    assert all(len(set(workers)) == len(workers) for workers in again)
    assert max(item.attempts for item in found.trials if item.state == COMPLETE) > 1


def test_a_broken_worker_rests_and_does_not_fail_everything() -> None:
    crew = crew_of(5)
    crew.broken = frozenset({"w0", "w1", "w2"})
    found = search(plan(SMALL), crew, Budget(20, patience_s=300))
    assert found.counts[FAILED] <= 1  # the three can fail no more before they rest
    assert_nothing_lost(found, crew)
    assert sum(worker in crew.broken for worker, _ in crew.jobs) < len(crew.jobs) / 2


def test_where_all_workers_are_broken_candidates_fail_after_some_attempts_with_the_reason() -> None:
    crew = crew_of(2)
    crew.broken = frozenset({"w0", "w1"})
    found = search(plan(SMALL), crew, Budget(4, patience_s=300))
    assert [item.state for item in found.trials] == [FAILED] * 4
    assert all(item.attempts == ATTEMPTS and "w0: " in item.reason for item in found.trials)
    assert found.best is None
    assert any("every candidate failed" in text for text in found.notes)


def test_failures_in_one_column_do_not_count_in_another() -> None:
    workers = {"h": ground("one", "GPU-0", H200), "l": ground("two", "GPU-1", L4)}
    crew = SimulatedCrew(workers, broken=frozenset({"h"}))
    found = search(plan(Space(("tensorrt",), ("fp32",), cuda_graph=(True,))), crew, Budget(2, patience_s=300))
    assert {item.column: item.state for item in found.trials} == {H200: FAILED, L4: COMPLETE}


def test_two_workers_on_one_processor_take_turns() -> None:
    """The crew asserts that two works never have one seat."""
    crew = SimulatedCrew({"a": ground("host"), "b": ground("host"), "c": ground("other")})
    assert_nothing_lost(search(plan(SMALL), crew), crew)


# ---- budgets and controls


def test_minutes_end_a_search_and_what_is_under_way_is_finished() -> None:
    crew = crew_of(3)
    found = search(plan(large_space(), sampler="random"), crew, Budget(None, minutes=2, patience_s=300))
    assert 3 < len(found.trials) < 30
    assert_nothing_lost(found, crew)
    assert crew.finals[H200] == 1


def test_a_small_space_is_tried_completely_and_no_more() -> None:
    crew = crew_of(3)
    wanted = plan(SMALL)
    found = search(wanted, crew, Budget(500, patience_s=300))
    assert {item.candidate for item in found.trials} == set(wanted.rules(ground(gpu="0")).candidates(SMALL))


def test_stop_measures_the_finalists_of_what_was_found() -> None:
    controls, crew = Controls(), crew_of(3)
    crew.on_wait = lambda crew: controls.stop.set() if sum(crew.executions.values()) >= 5 else None
    found = search(plan(SMALL), crew, controls=controls)
    assert found.state == FINISHED
    assert 5 <= len(found.trials) <= 8
    assert crew.finals[H200] == 1


def test_stop_also_ends_a_pause() -> None:
    controls, crew = Controls(), crew_of(3)

    def pause_and_stop(crew: SimulatedCrew) -> None:
        if sum(crew.executions.values()) >= 5:
            controls.pause.set()
        if crew.clock.now > 500:
            controls.stop.set()

    crew.on_wait = pause_and_stop
    assert search(plan(SMALL), crew, controls=controls).columns[0].finals is not None


def test_nothing_is_given_out_during_a_pause() -> None:
    controls, crew, states = Controls(), crew_of(3), set[str]()

    def pause(crew: SimulatedCrew) -> None:
        (controls.pause.set if 60 < crew.clock.now < 1000 else controls.pause.clear)()
        if 200 < crew.clock.now < 1000:
            assert not crew._given

    crew.on_wait = pause
    found = search(plan(SMALL), crew, controls=controls, each=lambda tuned: states.add(tuned.state))
    assert len(found.trials) == 12
    assert PAUSED in states


def test_cancel_ends_soon_and_the_next_call_goes_on() -> None:
    controls, first, second = Controls(), crew_of(3), crew_of(3)
    first.on_wait = lambda crew: controls.cancel.set() if sum(crew.executions.values()) >= 4 else None
    with pytest.raises(Cancelled, match="goes on from there"):
        search(plan(SMALL), first, controls=controls)
    assert not first.finals
    assert_nothing_lost(search(plan(SMALL), second), first, second)
    assert sum(first.executions.values()) + sum(second.executions.values()) == 12


# ---- ends and beginnings


class Killed(BaseException):
    """What no code catches."""


@pytest.mark.parametrize("where", ["crew", "each"])
def test_a_killed_search_goes_on_and_measures_nothing_twice(where: str) -> None:
    """Killed again and again; a fresh crew comes each time, as processes do."""
    crews = [crew_of(4, replace(ROUGH, hangs=0.0), seed=seed) for seed in range(4)]

    def kill(crew: SimulatedCrew) -> None:
        if sum(crew.executions.values()) >= 6:
            raise Killed

    for crew in crews[:-1]:
        options = {"each": lambda tuned, crew=crew: kill(crew)} if where == "each" else {}
        crew.on_wait = crew.on_wait if where == "each" else kill
        with pytest.raises(Killed):
            search(plan(large_space()), crew, Budget(30, patience_s=300), **options)
    found = search(plan(large_space()), crews[-1], Budget(30, patience_s=300))
    done = sum((crew.executions for crew in crews), Counter())
    assert len(found.trials) == len(kept()) == 30
    # What was reported together with the trial at which the driver died is done again, where workers keep nothing.
    assert sum(count - 1 for count in done.values()) <= (0 if where == "crew" else 3 * 3)


def test_a_trial_that_was_kept_and_not_told_to_the_search_is_taken_from_the_history() -> None:
    """As when the process dies between the two."""
    wanted, crew = plan(SMALL), crew_of(1)
    on = crew.grounds_by_name["w0"]
    lane = open_lane(wanted, on, History(), EngineStore())
    asked = lane.search.ask()
    assert asked is not None
    del lane
    score = Landscape().score(asked, H200)
    keep_trial(History(), trial_of_job(Job(wanted.task, asked), on, score, engines=()), wanted.task, on, "net")
    found = search(wanted, crew)
    (trial,) = (trial for trial in found.trials if trial.candidate == asked)
    assert trial.known
    assert (H200, asked.key) not in crew.executions


def test_a_trial_that_the_history_has_lost_is_measured_again() -> None:
    first, second = crew_of(2), crew_of(2)
    search(plan(SMALL), first)
    history = History()
    gone = history.list(Filter(kind="trial"))[0]
    history.delete(gone)
    found = search(plan(SMALL), second)
    assert len(found.trials) == 12
    assert sum(second.executions.values()) == 1


def test_when_the_scheduler_goes_what_was_finished_is_kept() -> None:
    first, second = crew_of(3), crew_of(3)
    first.on_wait = lambda crew: setattr(crew, "gone", sum(crew.executions.values()) >= 5)
    with pytest.raises(BackendError, match="scheduler is gone"):
        search(plan(SMALL), first)
    assert len(kept()) >= 4
    assert_nothing_lost(search(plan(SMALL), second), first, second)


def test_when_the_scheduler_goes_during_the_finals_the_result_is_told() -> None:
    crew = crew_of(3)
    crew.on_wait = lambda crew: setattr(crew, "gone", any(isinstance(item[0], Finals) for item in crew._given.values()))
    found = search(plan(SMALL), crew)
    assert crew.gone
    assert found.best is not None
    assert any("could not be measured in turns" in text for text in found.notes)


def test_finals_go_to_another_worker_when_one_dies_over_them() -> None:
    crew, over = crew_of(3), list[str]()

    def die(crew: SimulatedCrew) -> None:
        for work_id, (work, worker, on) in list(crew._given.items()):
            if isinstance(work, Finals) and len(over) < 2:
                over.append(worker)
                crew._die(work_id, worker, on)

    crew.on_wait = die
    found = search(plan(SMALL), crew)
    assert len(set(over)) == 2
    assert found.columns[0].finals is not None


def test_workers_that_come_back_later_go_on() -> None:
    crew = crew_of(2)
    away = dict(crew.grounds_by_name)

    def leave(crew: SimulatedCrew) -> None:
        if 40 < crew.clock.now < 200:
            for name in [name for name in crew.grounds_by_name if name.startswith("w")]:
                for work_id, item in list(crew._given.items()):
                    if item[1] == name:
                        crew._die(work_id, name, item[2])
                crew.grounds_by_name.pop(name, None)
        elif crew.clock.now >= 200 and not crew.grounds_by_name:
            crew.grounds_by_name.update({f"{name} again": on for name, on in away.items()})

    crew.chances, crew.on_wait = Chances(comes_back=0.0), leave
    found = search(plan(SMALL), crew)
    assert len(found.trials) == 12
    assert_nothing_lost(found, crew)


def test_where_all_have_left_for_good_it_is_told() -> None:
    crew = crew_of(2)
    crew.on_wait = lambda crew: crew.grounds_by_name.clear() if sum(crew.executions.values()) >= 4 else None
    with pytest.raises(BackendError, match="all workers have left"):
        search(plan(SMALL), crew)
    assert len(kept()) >= 4


def test_a_column_whose_workers_have_left_does_not_hold_up_the_others() -> None:
    crew = crew_of(2)
    crew.grounds_by_name["l"] = ground("other", "GPU-9", L4)
    crew.broken = frozenset({"l"})
    crew.on_wait = lambda crew: crew.grounds_by_name.pop("l", None) if crew.lost else None
    found = search(plan(SMALL), crew)
    assert len(found.trials) == 12
    assert {item.column for item in found.trials} == {H200}


def test_a_second_process_at_the_same_search_is_refused() -> None:
    wanted = plan(SMALL)
    with EngineStore().lock(f"tuning-{wanted.id}"), pytest.raises(StoreError, match="another process"):
        search(wanted, crew_of(1))


def test_where_nothing_can_be_tried_the_reason_is_told() -> None:
    nobody = ground("host", tensorrt=support("tensorrt", can_build=False, build_reason="it is not installed."))
    crew = SimulatedCrew({"a": nobody})
    with pytest.raises(BackendError, match="it is not installed"):
        search(plan(Space(("tensorrt",))), crew)


# ---- what is known already


def test_another_search_with_other_limits_takes_what_was_measured(model: Model) -> None:
    engine = build(model, backend="onnxruntime").engine.key
    first, second = crew_of(3), crew_of(3)
    first.engine = second.engine = engine
    search(plan(SMALL, TOP1), first, Budget(40, patience_s=300))
    found = search(
        plan(SMALL, Goals(limits=(Limit("accuracy", 0.3),), metric="top1")), second, Budget(40, patience_s=300)
    )
    assert not second.executions
    assert found.counts["known"] == len(found.trials) == len(first.executions)
    assert second.finals[H200] == 1


def test_what_is_known_is_measured_again_where_its_engine_is_gone() -> None:
    first, second = crew_of(3), crew_of(3)
    search(plan(SMALL, TOP1), first)
    search(plan(SMALL, Goals(limits=(Limit("accuracy", 0.3),), metric="top1")), second)
    assert sum(second.executions.values()) == 12


def test_what_failed_is_tried_again_by_the_next_call() -> None:
    wanted, crew, repaired = plan(SMALL, TOP1), crew_of(1), crew_of(1)
    crew.broken = frozenset({"w0"})
    (failed,) = search(wanted, crew, Budget(1, patience_s=300)).trials
    (trial,) = search(wanted, repaired, Budget(1, patience_s=300)).trials
    assert failed.state == FAILED and trial.state == COMPLETE and trial.candidate == failed.candidate
    assert kept().keys() == {trial.id}


def test_what_fails_again_tells_its_last_reason() -> None:
    wanted = plan(SMALL, TOP1)
    for name in ("first", "second"):
        crew = SimulatedCrew({name: ground("host", "GPU-0")}, broken=frozenset({name}))
        (failed,) = search(wanted, crew, Budget(1, patience_s=300)).trials
        (run,) = History().list(Filter(kind="trial"))
        assert f"{name}: " in failed.reason and run.note == failed.reason


# ---- finals


@pytest.fixture
def engine(model: Model) -> str:
    """The key of one that this store has."""
    return build(model, backend="onnxruntime").engine.key


def crew_with(engine: str, count: int = 2) -> SimulatedCrew:
    crew = crew_of(count)
    crew.engine = engine
    return crew


def test_the_same_finalists_are_not_measured_again(engine: str) -> None:
    first, second, third = (crew_with(engine) for _ in range(3))
    found = search(plan(SMALL), first)
    again = search(plan(SMALL), second)
    assert first.finals[H200] == 1 and not second.finals and not second.executions
    assert again.columns == found.columns
    (told,) = (text for text in again.notes if "measured in turns on 2026-12-01 00:00 UTC" in text)
    assert told.startswith(H200) and not any("in turns" in text for text in found.notes)
    search(plan(SMALL), third, Budget(12, patience_s=300, finals_again=True))
    assert third.finals[H200] == 1


def test_finals_of_an_earlier_call_do_not_choose_among_later_trials(engine: str) -> None:
    """The only worker of a column leaves after new trials, and so before the finals."""

    def leave(crew: SimulatedCrew) -> None:
        if sum(count for (column, _), count in crew.executions.items() if column == L4) >= 8:
            crew.grounds_by_name.pop("l4", None)

    workers = {"h200": ground("one", "GPU-0", H200), "l4": ground("two", "GPU-0", L4)}
    first, second = (SimulatedCrew(dict(workers), engine=engine) for _ in range(2))
    before = search(plan(SMALL), first, Budget(8, patience_s=300))
    second.on_wait = leave
    after = search(plan(SMALL), second, Budget(40, patience_s=300))
    one, other = (next(item for item in found.columns if item.name == L4) for found in (before, after))
    assert one.finals is not None and len(after.of(L4)) > len(before.of(L4)) and second.finals[L4] == 0
    assert other.finals is None and other.finalists != one.finalists
    assert f"{L4}: nobody was there to measure the finalists in turns." in after.notes


def test_other_finalists_are_measured_in_turns(engine: str) -> None:
    first, second = crew_with(engine), crew_with(engine)
    before = search(plan(SMALL), first, Budget(3, patience_s=300))
    after = search(plan(SMALL), second, Budget(30, patience_s=300))
    assert before.columns[0].finalists != after.columns[0].finalists
    assert second.finals[H200] == 1
    assert after.columns[0].finals is not None
    assert {item.name for item in after.columns[0].finals.measurements} == set(after.columns[0].finalists)


def test_finalists_that_were_tried_anew_are_measured_in_turns(engine: str) -> None:
    first, second = crew_with(engine), crew_with(engine)
    found = search(plan(SMALL), first)
    history = History()
    (gone,) = (run for run in history.list(Filter(kind="trial")) if found.best and run.id == found.best.trial)
    history.delete(gone)
    crew, second.landscape = second, Landscape()
    result = crew._result
    crew._result = lambda *given: replace(result(*given), **({} if isinstance(given[0], Finals) else {"at": "later"}))  # type: ignore[method-assign]
    search(plan(SMALL), crew)
    assert sum(crew.executions.values()) == 1 and crew.finals[H200] == 1


def test_finals_are_measured_again_where_the_engine_of_the_best_is_gone(engine: str) -> None:
    first, second = crew_with(engine), crew_with(engine)
    search(plan(SMALL), first)
    shutil.rmtree(EngineStore().find(engine).engine.folder)  # type: ignore[union-attr]
    search(plan(SMALL), second)
    assert not second.executions and second.finals[H200] == 1


def test_finals_with_a_failure_are_measured_again(engine: str) -> None:
    first, second = crew_with(engine), crew_with(engine)
    result = first._result
    first._result = lambda work, *given: (  # type: ignore[method-assign]
        replace(found, failures={"one": "out of memory"}) if isinstance(found := result(work, *given), Study) else found
    )
    search(plan(SMALL), first)
    search(plan(SMALL), second)
    assert second.finals[H200] == 1


@pytest.mark.parametrize("end", ["killed", "cancelled"])
def test_finals_outlive_the_end_of_their_process(engine: str, end: str) -> None:
    """Killed as soon as they are there; or the next call is cancelled before it comes to them."""
    first, second, third = (crew_with(engine) for _ in range(3))
    controls = Controls()

    def kill(tuned: Tuned) -> None:
        if end == "killed" and tuned.columns and tuned.columns[0].finals is not None:
            raise Killed

    with contextlib.suppress(Killed):
        search(plan(SMALL), first, each=kill)
    assert first.finals[H200] == 1
    if end == "cancelled":
        controls.cancel.set()
        with pytest.raises(Cancelled):
            search(plan(SMALL), second, controls=controls)
    found = search(plan(SMALL), third)
    assert not third.finals and found.best is not None and found.columns[0].finals is not None


def test_a_column_that_nobody_works_in_this_time_stays_as_it_was_kept(engine: str) -> None:
    first, second, third = (crew_with(engine) for _ in range(3))
    first.grounds_by_name["l"] = third.grounds_by_name["l"] = ground("other", "GPU-9", L4)
    budget = Budget(40, patience_s=300)
    search(plan(SMALL), first, budget)
    assert {column.name for column in search(plan(SMALL), second, budget).columns} == {H200}
    (path,) = stored_searches()
    assert {column.name for column in load_tuned(path).columns} == {H200, L4}
    search(plan(SMALL), third, budget)
    assert L4 in first.finals and L4 not in third.finals


def test_a_kept_search_that_cannot_be_read_costs_its_finals_only(engine: str) -> None:
    first, second = crew_with(engine), crew_with(engine)
    search(plan(SMALL), first)
    (path,) = stored_searches()
    path.write_bytes(b"nonsense")
    assert search(plan(SMALL), second).best is not None
    assert not second.executions and second.finals[H200] == 1


# ---- what workers and listeners get


def test_a_job_takes_along_the_front_and_no_more() -> None:
    crew = crew_of(1)
    wanted = plan(large_space(), sampler="random")
    search(wanted, crew, Budget(40, patience_s=300))
    _, last = crew.jobs[-1]
    scores = {str(job.candidate): Landscape().score(job.candidate, H200) for _, job in crew.jobs[:-1]}
    assert 0 < len(last.rivals) <= RIVALS
    assert len(set(last.rivals) - set(front(scores, TOP1))) <= 2  # their scores had noise


def test_listeners_are_told_of_every_trial() -> None:
    lines: list[str] = []
    crew = crew_of(2)
    search(plan(SMALL), crew, listener=lambda event: lines.append(event.text) if isinstance(event, LogLine) else None)
    assert sum(line.startswith("trial ") for line in lines) == 12
    assert lines[0].startswith("trial 1 of 12: ")


def test_the_engine_of_the_best_is_brought() -> None:
    crew = crew_of(2)
    found = search(plan(SMALL), crew)
    assert found.best is not None
    assert crew.brought == [("e" * 32, found.trial(found.best.trial).worker)]


def test_a_trial_is_no_more_work_for_the_driver_in_a_long_search() -> None:
    """Counted in calls of Python functions, between one trial and the next."""
    calls, counts = 0, list[int]()

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    def watch(tuned: Tuned) -> None:
        nonlocal calls
        counts.append(calls)
        calls = 0
        sys.setprofile(note if len(tuned.trials) in {*range(20, 30), *range(110, 120)} else None)

    try:
        search(plan(large_space(), sampler="random"), crew_of(1), Budget(122, patience_s=300), each=watch)
    finally:
        sys.setprofile(None)
    found = [count for count in counts if count]
    assert len(found) >= 20
    early, late = sorted(found[:10]), sorted(found[-10:])
    assert late[5] <= 1.2 * early[5]
