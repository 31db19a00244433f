"""DaskCrew on real workers, each with a store of its own: two that work, and one that has no workbench."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from dask.utils import key_split
from distributed import Client, Nanny, Scheduler, SpecCluster
from helpers_building import PATIENCE_S, ROOT
from models import FASHION_CNN

from workbench.engine import open_engine
from workbench.errors import BackendError, Cancelled, StoreError
from workbench.model import load_model
from workbench.sharding.parcels import ParcelMissing, pack, unpack, unpack_all
from workbench.store import EngineStore
from workbench.timing import Timing
from workbench.tuning import dask_worker
from workbench.tuning.answers import nonsense
from workbench.tuning.candidate import Candidate
from workbench.tuning.clusters import connect
from workbench.tuning.crew import Alone, Crew, Report
from workbench.tuning.dask_crew import DIED, LEFT, STOPPED, DaskCrew
from workbench.tuning.dask_watch import Patience
from workbench.tuning.dask_worker import _Teller, contract, events_of, introduce, label_of
from workbench.tuning.finals import Finals
from workbench.tuning.goals import Goals
from workbench.tuning.task import Task
from workbench.tuning.trying import Job
from workbench.types import LogLine, Progress

NO_WORKBENCH = """
import sys
class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name == "workbench":
            raise ModuleNotFoundError("No module named 'workbench'", name=name)
sys.meta_path.insert(0, Lacking())
"""


# ---- what workers do in place of `perform`


def does(work: Callable[..., Any], ground: Any, **rest: Any) -> Any:
    return work(**rest)


def tells_all(listener: Any, **rest: Any) -> int:
    for number in range(1000):
        listener(Progress("Counting", number + 1, 1000))
        listener(LogLine("info", f"line {number}")) if number == 999 else None
    return os.getpid()


def hangs(listener: Any, **rest: Any) -> None:
    """Whoever waits hears of the process that will not end."""
    listener(LogLine("info", str(os.getpid())))
    threading.Event().wait()


def is_patient(listener: Any, cancel: threading.Event, **rest: Any) -> None:
    listener(LogLine("info", "waits"))
    cancel.wait()
    raise Cancelled("told to stop.")


def fails(**rest: Any) -> None:
    raise BackendError("it does not run here.")


def breaks(**rest: Any) -> None:
    raise ZeroDivisionError("division by zero")


def answers_strangely(**rest: Any) -> Any:
    return lambda: None


def unpacks(work: Job, ground: Any, *, data: Mapping[str, bytes], **rest: Any) -> list[str]:
    """The keys of what was sent along."""
    unpack_all(work.task.parcels, data)
    return sorted(data)


def unpacks_one_by_one(work: Job, ground: Any, *, data: Mapping[str, bytes], **rest: Any) -> list[str]:
    """And tells of one only that it lacks it."""
    for parcel in work.task.parcels:
        unpack(parcel, data.get(parcel.key))
    return sorted(data)


def lacks_what_it_has(work: Job, ground: Any, **rest: Any) -> None:
    raise ParcelMissing(work.task.model.key)


def never_stops(listener: Any, **rest: Any) -> None:
    """It tells all the time how it goes."""
    for number in itertools.count():
        listener(Progress("Counting", number, None))
        time.sleep(0.05)


def events_left() -> list[str]:
    return list(dask_worker._cancels)


# ---- clusters


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    def nanny(name: str, **more: Any) -> dict[str, Any]:
        environment = {"WORKBENCH_HOME": str(folder / name), "WORKBENCH_LOCKS": str(folder / "locks")}
        options = {"host": "127.0.0.1", "nthreads": 1, "memory_limit": 0, "silence_logs": 50, "env": environment}
        return {"cls": Nanny, "options": {**options, **more}}

    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard": False}}
    workers = {"a": nanny("a"), "b": nanny("b"), "bare": nanny("bare", preload=[NO_WORKBENCH])}
    with SpecCluster(workers, scheduler, silence_logs=50) as cluster, Client(cluster, set_as_default=False) as client:
        yield client


@contextlib.contextmanager
def crew_of(client: Client, function: Any = does) -> Iterator[DaskCrew]:
    with contextlib.closing(DaskCrew(client, function, Patience(grace_s=0.3))) as crew:
        members(crew, 2)
        yield crew


@pytest.fixture
def crew(client: Client) -> Iterator[DaskCrew]:
    with crew_of(client) as crew:
        yield crew


def members(crew: Crew, count: int) -> list[str]:
    """Once so many are there."""
    end = time.monotonic() + PATIENCE_S
    while len(grounds := crew.grounds()) != count:
        assert time.monotonic() < end, f"there are {len(grounds)} workers"
        crew.wait(0.1, ignore)
    return list(grounds)


def ignore(work_id: str, event: Any) -> None: ...


def report_of(crew: Crew, hear: Any = ignore) -> Report:
    """The next one, and no second one with it."""
    end = time.monotonic() + PATIENCE_S
    while not (reports := crew.wait(0.5, hear)):
        assert time.monotonic() < end, "nothing is reported"
    assert len(reports) == 1
    return reports[0]


def line_of(crew: Crew, text: Callable[[str], bool] = lambda text: True) -> str:
    """The next line that a work tells."""
    lines: list[str] = []
    end = time.monotonic() + PATIENCE_S
    while not any(map(text, lines)):
        assert time.monotonic() < end, "nothing is told"
        assert not crew.wait(0.1, lambda _, event: lines.append(event.text) if isinstance(event, LogLine) else None)
    return next(filter(text, lines))


@pytest.fixture(scope="module")
def job() -> Job:
    model = load_model(FASHION_CNN)
    shapes = {spec.name: (1, *spec.shape[1:]) for spec in model.inputs}
    task = Task(pack(model), shapes, Goals(), timing=Timing(20, limit_s=0.2))
    return Job(task, Candidate("onnxruntime"))


# ---- real work


def test_a_trial_on_a_worker_is_the_one_that_is_made_here_and_its_engine_is_brought_once(
    client: Client, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_LOCKS", str(tmp_path))
    phases = set()
    with connect(client) as crew:
        worker = members(crew, 2)[0]
        crew.give("1", job, worker)
        report = report_of(crew, lambda name, event: phases.add((name, getattr(event, "phase", ""))))
        trial = report.result
        assert not report.failure and not nonsense(job, crew.grounds()[worker], trial)
        assert (report.work_id, report.worker, trial.worker, trial.state) == ("1", worker, worker, "complete")
        assert ("1", "Timing") in phases

        store, key = EngineStore(), trial.engines[0]
        assert store.find(key).engine is None
        crew.bring(key, worker)
        engine = store.find(key).engine
        assert engine is not None
        with open_engine(engine) as session:
            assert session.outputs
        before = engine.folder.stat().st_ino
        crew.bring(key, worker)
        assert engine.folder.stat().st_ino == before
        with pytest.raises(StoreError, match="no worker"):
            crew.bring("0" * 32, worker)

    alone = Alone()
    alone.give("1", job, alone.NAME)
    assert alone.wait(1.0, ignore)[0].result.id == trial.id


def with_files(job: Job, folder: Path, content: str) -> Job:
    """With three parcels, under paths that say nothing to workers: the test has to go to the folder."""
    found = []
    for name in ("model", "ranges", "samples"):
        (folder / name).write_text(f"{content} {name}")
        found.append(replace(pack(folder / name), path=Path(name)))
    task = replace(job.task, model=found[0], calibration=found[1], samples=found[2])
    assert len(task.parcels) == 3
    return replace(job, task=task)


def test_parcels_go_to_a_worker_once(client: Client, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And all together, with the second try."""
    monkeypatch.chdir(tmp_path)
    sent = with_files(job, tmp_path, "once")
    keys = sorted(parcel.key for parcel in sent.task.parcels)
    with crew_of(client, unpacks) as crew:
        for worker in crew.grounds():
            crew.give("first", sent, worker)
            first = report_of(crew)
            crew.give("again", sent, worker)
            again = report_of(crew)
            assert (first.result, again.result) == (keys, [])
        assert [key for _, key in crew._orders._shipments[sent.task.key].sent] == keys * 2
    assert not [key for key in client.futures if "try" not in str(key)]


def test_a_worker_that_tells_only_later_what_else_it_lacks_gets_that_too(
    client: Client, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sent = with_files(job, tmp_path, "one by one")
    with crew_of(client, unpacks_one_by_one) as crew:
        crew.give("1", sent, next(iter(crew.grounds())))
        assert report_of(crew).result == sorted(parcel.key for parcel in sent.task.parcels)


def test_a_worker_that_lacks_what_it_was_sent_is_not_sent_it_for_ever(client: Client, job: Job) -> None:
    with crew_of(client, lacks_what_it_has) as crew:
        crew.give("1", job, next(iter(crew.grounds())))
        assert report_of(crew).failure == "it lacks files that were sent to it"


def test_a_worker_that_shares_this_store_is_asked_for_an_engine_without_waiting(
    client: Client, crew: DaskCrew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the lock of this engine while it looks for it."""
    worker = next(iter(crew.grounds()))
    monkeypatch.setenv("WORKBENCH_HOME", client.run(os.getenv, "WORKBENCH_HOME", workers=[worker])[worker])
    with pytest.raises(StoreError, match=r"lies in the store of no worker that is there; build it here\.$"):
        crew.bring("0" * 32, worker)


# ---- what is told


def test_progress_is_thinned_out_and_the_last_of_it_always_comes(crew: DaskCrew) -> None:
    heard: list[Any] = []
    crew.members.untold.clear()
    crew.give("1", tells_all, next(iter(crew.grounds())))
    report_of(crew, lambda name, event: heard.append(event))
    assert [event.text for event in heard if isinstance(event, LogLine)] == ["line 999"]
    steps = [event for event in heard if isinstance(event, Progress)]
    assert steps[-1].done == 1000 and len(steps) < 50


def test_a_teller_keeps_the_latest_of_each_step() -> None:
    loop = SimpleNamespace(add_callback=lambda function: None)
    sent: list[Any] = []
    worker = SimpleNamespace(loop=loop, log_event=lambda topic, message: sent.append((topic, message)))
    teller = _Teller(worker, SimpleNamespace(ticket="1", topic="news"))  # type: ignore[arg-type]
    line = LogLine("info", "once")
    for event in (Progress("A", 1, 3), Progress("A", 2, 3), line, line, Progress("A", 3, 3), Progress("B", 0, None)):
        teller(event)
    teller.flush()
    teller.flush()
    [(topic, message)] = sent
    assert (topic, message["ticket"]) == ("news", "1")
    assert events_of(message) == [Progress("A", 2, 3), line, line, Progress("A", 3, 3), Progress("B", 0, None)]


@pytest.mark.parametrize(
    ("work", "failure"),
    [
        (fails, "it does not run here."),
        (breaks, "ZeroDivisionError: division by zero"),
        (answers_strangely, "pickle"),
        (threading.Lock(), "it could not be given out"),
    ],
)
def test_whatever_goes_wrong_is_told_in_words(crew: DaskCrew, work: Any, failure: str) -> None:
    crew.give("1", work, next(iter(crew.grounds())))
    report = report_of(crew)
    assert failure in report.failure and not report.cancelled


def test_a_work_for_a_worker_that_has_left_is_a_failure(crew: DaskCrew) -> None:
    crew.give("1", tells_all, "tcp://127.0.0.1:1")
    assert report_of(crew) == Report("1", "tcp://127.0.0.1:1", failure=LEFT)


def test_a_worker_without_workbench_is_refused_in_words_and_the_others_go_on(crew: DaskCrew) -> None:
    [(worker, why)] = crew.members.refused.items()
    assert why.startswith("has no workbench: install it there") and worker not in crew.grounds()
    crew.give("1", is_patient, next(iter(crew.grounds())))
    assert worker in line_of(crew, lambda text: "workbench" in text)


def test_a_worker_of_another_release_is_refused() -> None:
    assert "has another workbench" in str(asyncio.run(introduce("another", None)))
    worker = SimpleNamespace(id="W")
    assert asyncio.run(introduce(contract(), worker)).instance == "W"  # type: ignore[union-attr]


def test_dashboards_call_a_work_by_what_is_tried() -> None:
    job = SimpleNamespace(task=None, candidate=Candidate("onnxruntime", "int8", batch=8))
    name = label_of(Job(**vars(job)))
    assert key_split(f"{name}-12x0a") == name == "try onnxruntime int8, batch 8"
    assert label_of(Finals(None, {})) == "measure finals"  # type: ignore[arg-type]


# ---- stopping


def test_works_that_are_asked_to_stop_are_reported_as_cancelled(crew: DaskCrew) -> None:
    for worker in crew.grounds():
        crew.give(worker, is_patient, worker)
    line_of(crew)
    crew.stop()
    reports: list[Report] = []
    while len(reports) < 2:
        reports += crew.wait(PATIENCE_S, ignore)
    assert {report.failure for report in reports} == {"told to stop."} and all(item.cancelled for item in reports)


def test_of_works_that_have_ended_nothing_is_kept_by_those_who_are_asked_to_stop_them(
    client: Client, crew: DaskCrew
) -> None:
    worker = members(crew, 2)[0]
    crew.give("1", tells_all, worker)
    [ticket] = crew._orders.given
    report_of(crew)
    client.run(dask_worker.ask_to_stop, ticket, workers=[worker])
    client.run(dask_worker.ask_to_stop, "to come", workers=[worker])
    assert client.run(events_left, workers=[worker]) == {worker: ["to come"]}


def test_a_dropped_work_that_listens_ends_and_its_worker_stays(crew: DaskCrew) -> None:
    workers = members(crew, 2)
    crew.give("1", is_patient, workers[0])
    line_of(crew)
    crew.drop("1")
    assert list(crew.grounds()) == workers[1:]
    assert members(crew, 2) == workers
    crew.give("2", tells_all, workers[0])
    assert report_of(crew).work_id == "2"


# ---- death


def test_a_dropped_work_that_hangs_is_ended_with_its_worker_which_is_started_again(crew: DaskCrew) -> None:
    worker = members(crew, 2)[0]
    crew.give("1", hangs, worker)
    process = psutil.Process(int(line_of(crew, str.isdigit)))
    crew.drop("1")
    members(crew, 2)
    assert not process.is_running()
    for name in crew.grounds():
        crew.give("2", tells_all, name)
        assert report_of(crew).result not in (None, process.pid)


def test_a_killed_worker_costs_one_failure_and_is_started_again(crew: DaskCrew) -> None:
    workers = members(crew, 2)
    crew.give("1", hangs, workers[0])
    os.kill(int(line_of(crew, str.isdigit)), signal.SIGKILL)
    assert report_of(crew) == Report("1", workers[0], failure=DIED)
    assert list(crew.grounds()) == workers[1:]
    again = members(crew, 2)
    assert workers[1] in again and again != workers
    assert not crew.wait(0.0, ignore)


def test_a_work_that_does_not_stop_is_ended_however_often_it_is_asked_to(client: Client) -> None:
    """A search asks with everything that it hears, which gives nobody more time."""
    with contextlib.closing(DaskCrew(client, does, Patience(grace_s=0.1, stop_s=1.5))) as crew:
        worker = members(crew, 2)[0]
        crew.give("1", never_stops, worker)
        assert report_of(crew, lambda *_: crew.stop()) == Report("1", worker, failure=STOPPED, cancelled=True)


@contextlib.contextmanager
def started(*words: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:]]
    path = os.pathsep.join((str(Path(__file__).parent), str(ROOT)))
    child = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path, **environment}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def test_a_scheduler_needs_no_workbench_and_its_death_costs_nothing_that_was_finished(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file, home = tmp_path / "scheduler.json", tmp_path / "its home"
    quietly, bare = ("--host", "127.0.0.1", "--no-dashboard"), ("--preload", NO_WORKBENCH)
    with started("scheduler", "--port", "0", "--scheduler-file", str(file), *quietly, *bare) as scheduler, started(
        *("worker", "--scheduler-file", str(file), "--no-nanny", "--nthreads", "1", *quietly),
        WORKBENCH_HOME=str(home), WORKBENCH_LOCKS=str(tmp_path),
    ):  # fmt: skip
        end = time.monotonic() + PATIENCE_S
        while not file.exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        with connect(file) as crew:
            [worker] = crew.grounds()
            crew.give("1", job, worker)
            trial = report_of(crew).result
            crew.give("2", replace(job, task=replace(job.task, timing=Timing(10**6, limit_s=100))), worker)
            scheduler.kill()
            with pytest.raises(BackendError, match=r"scheduler at tcp://.* is gone; what was finished is kept"):
                while True:
                    assert not crew.wait(1.0, ignore)
            with pytest.raises(BackendError):
                crew.grounds()
    assert capfd.readouterr().err == ""
    monkeypatch.setenv("WORKBENCH_HOME", str(home))
    alone = Alone()
    alone.give("1", job, alone.NAME)
    [report] = alone.wait(1.0, ignore)
    assert report.result == replace(trial, known=True)
