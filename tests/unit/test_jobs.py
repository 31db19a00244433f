"""Job: work in the background, ticking while it lasts."""

from __future__ import annotations

import threading

import pytest
from helpers_building import PATIENCE_S, wait_until

from workbench.widgets.jobs import Job


def test_work_runs_in_a_thread_of_its_own_and_wait_tells_when_it_has_ended() -> None:
    ran_in: list[threading.Thread] = []
    job = Job(lambda cancel: ran_in.append(threading.current_thread()), lambda: None)
    assert job.wait(PATIENCE_S)
    assert not job.running
    assert ran_in and ran_in[0] is not threading.current_thread()


def test_it_ticks_while_the_work_lasts_and_once_more_at_its_end() -> None:
    ticks: list[bool] = []
    job: Job | None = None
    ready = threading.Event()

    def tick() -> None:
        ready.wait(PATIENCE_S)
        assert job is not None
        ticks.append(job.running)

    job = Job(lambda cancel: wait_until(lambda: len(ticks) >= 3, "three ticks"), tick, interval_s=0.01)
    ready.set()
    assert job.wait(PATIENCE_S)
    assert ticks[:3] == [True] * 3
    assert ticks[-1] is False, "the last tick comes after the end"


def test_work_that_ends_at_once_is_ticked_once() -> None:
    ticks: list[None] = []
    assert Job(lambda cancel: None, lambda: ticks.append(None), interval_s=30).wait(PATIENCE_S)
    assert len(ticks) == 1


def test_wait_gives_up_after_its_time_and_the_work_goes_on() -> None:
    end = threading.Event()
    job = Job(lambda cancel: end.wait(PATIENCE_S) or None, lambda: None)
    assert not job.wait(0.05)
    assert job.running
    end.set()
    assert job.wait(PATIENCE_S)


def test_cancel_reaches_the_work() -> None:
    seen: list[bool] = []
    job = Job(lambda cancel: seen.append(cancel.wait(PATIENCE_S)), lambda: None)
    job.cancel.set()
    assert job.wait(PATIENCE_S)
    assert seen == [True]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_work_that_raises_has_ended_all_the_same() -> None:
    def work(cancel: threading.Event) -> None:
        raise RuntimeError("not handled by the work, as it should have been")

    job = Job(work, lambda: None)
    assert job.wait(PATIENCE_S)
    assert not job.running
