"""A search on a cluster of processes: whoever is killed, it goes on, and nothing is done twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_port
from test_cli_tune import QUICK, after_trials, started, trial_times, tuned

MODEL = Path(__file__).parents[2] / "data" / "models" / "fashion_cnn.onnx"
SEARCH = [str(MODEL), *QUICK, "--precision", "fp32,fp16", "--space", "threads=default,1", "--space", "batch=1,2,3"]
CANDIDATES = 12


class Cluster:
    """A scheduler and workers as processes of their own, each of which can be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes: list[subprocess.Popen[bytes]] = []

    def scheduler(self) -> subprocess.Popen[bytes]:
        arguments = ["--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        found = self._started("dask_scheduler", *arguments)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return found
            time.sleep(0.1)
        raise AssertionError("the scheduler does not answer")

    def worker(self, name: str) -> subprocess.Popen[bytes]:
        """With a store of its own."""
        home = {"WORKBENCH_HOME": str(self.folder / name)}
        arguments = [self.address, "--name", name, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        return self._started("dask_worker", *arguments, "--local-directory", str(self.folder), **home)

    def _started(self, module: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
                env={**os.environ, **environment}, stdout=log, stderr=log,
            )  # fmt: skip
        self.processes.append(process)
        return process


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    found = Cluster(folder)
    yield found
    for process in found.processes:
        process.kill()
    for process in found.processes:
        process.wait()


def finished(process: subprocess.Popen[str]) -> dict:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(output)


def test_a_worker_that_is_killed_costs_nothing_that_was_finished(cluster: Cluster) -> None:
    cluster.scheduler()
    first = cluster.worker("first")
    process = started(*SEARCH, "--scheduler", cluster.address)
    after_trials(process, 2)
    cluster.worker("second")
    first.send_signal(signal.SIGKILL)
    found = finished(process)
    assert len({trial["id"] for trial in found["trials"]}) == len(found["trials"]) == CANDIDATES
    assert "failed" not in {trial["state"] for trial in found["trials"]}
    workers = {trial["worker"] for trial in found["trials"]}
    assert len(workers) == 2
    assert found["best"]["engine"]


def test_killed_scheduler_and_client_lose_nothing_that_was_finished(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    scheduler = cluster.scheduler()
    worker = cluster.worker("only")
    process = started(*SEARCH, "--scheduler", cluster.address)
    after_trials(process, 2)
    scheduler.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and "scheduler" in errors
    worker.kill()
    scheduler.wait()
    times = trial_times()
    assert len(times) >= 2
    cluster.scheduler()
    cluster.worker("only")
    again = started(*SEARCH, "--scheduler", cluster.address)
    after_trials(again, 1)
    again.kill()
    again.communicate()
    found = tuned(capsys, *SEARCH, "--scheduler", cluster.address)
    assert len({trial["id"] for trial in found["trials"]}) == len(found["trials"]) == CANDIDATES
    assert {name: at for name, at in trial_times().items() if name in times} == times
