"""Where a search runs, by every way to say it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client, LocalCluster
from helpers_building import ROOT

from workbench.errors import BackendError, ConfigError
from workbench.tuning.clusters import connect, local_cluster, worker_environments
from workbench.tuning.crew import Alone
from workbench.tuning.dask_crew import DaskCrew
from workbench.tuning.finals import Finals


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with local_cluster(1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: Any) -> Iterator[Client]:
    with Client(cluster, set_as_default=False) as client:
        yield client


def test_without_a_scheduler_work_is_done_in_this_process() -> None:
    with connect() as crew:
        assert isinstance(crew, Alone)


class Interrupted:
    """A work that the user interrupts, as a long cell of a notebook."""

    @property
    def task(self) -> Any:
        raise KeyboardInterrupt


def test_whatever_a_work_raises_in_this_process_is_its_failure_and_interrupts_go_through() -> None:
    """As on a cluster: a library's own error costs one candidate, and not the search."""
    alone, broken = Alone(), Finals(None, {})  # type: ignore[arg-type]
    alone.give("1", broken, alone.NAME)
    [report] = alone.wait(1.0, lambda *_: None)
    assert report.failure.startswith("AttributeError: ") and not report.cancelled
    alone.give("2", Interrupted(), alone.NAME)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        alone.wait(1.0, lambda *_: None)


@pytest.fixture(scope="module")
def plain() -> Iterator[Any]:
    """One that asks for no certificate, as clusters often do: its address is enough."""
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "protocol": "tcp://"}
    with LocalCluster(processes=False, host="127.0.0.1", **options) as cluster:
        yield cluster


@pytest.mark.parametrize("how", ["client", "cluster", "address", "file"])
def test_a_crew_is_made_of_whatever_names_a_scheduler(
    how: str, cluster: Any, plain: Any, client: Client, tmp_path: Path
) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(f'{{"address": "{plain.scheduler_address}"}}')
    named = {"client": client, "cluster": cluster, "address": plain.scheduler_address, "file": str(file)}
    level = logging.getLogger("distributed").level
    with connect(named[how]) as crew:
        assert isinstance(crew, DaskCrew)
        found = plain if how in ("address", "file") else cluster
        assert list(crew.grounds()) == list(found.scheduler_info["workers"])
    assert client.status == "running" and logging.getLogger("distributed").level == level


def test_a_local_cluster_cannot_be_reached_from_elsewhere(cluster: Any) -> None:
    me, listening = psutil.Process(), set[str]()
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            found = process.net_connections("tcp")
            listening |= {item.laddr.ip for item in found if item.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    with urllib.request.urlopen(cluster.dashboard_link, timeout=60) as page:
        assert page.status == 200
    with pytest.raises((OSError, TypeError)), Client(cluster.scheduler_address, timeout=5):
        """Whoever has no certificate is refused."""
    gc.collect()  # the refused one closes itself now, and not while another one starts, which would hang


def test_ctrl_c_of_a_terminal_does_not_reach_local_workers(client: Client) -> None:
    (blocked,) = client.run(signal.pthread_sigmask, signal.SIG_BLOCK, []).values()
    assert signal.SIGINT in blocked and signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_each_gpu_has_a_worker_of_its_own() -> None:
    assert worker_environments(("GPU-1", "GPU-2"), None) == [
        {"CUDA_VISIBLE_DEVICES": "GPU-1"},
        {"CUDA_VISIBLE_DEVICES": "GPU-2"},
    ]
    assert worker_environments(("GPU-1", "GPU-2"), 1) == [{"CUDA_VISIBLE_DEVICES": "GPU-1"}]
    assert worker_environments((), None) == [{}, {}] and worker_environments((), 3) == [{}, {}, {}]
    with pytest.raises(ConfigError, match="3 workers for 2 GPUs"):
        worker_environments(("GPU-1", "GPU-2"), 3)
    with pytest.raises(ConfigError, match="0 workers"):
        worker_environments((), 0)


def test_a_scheduler_that_does_not_answer_is_told_soon() -> None:
    silent = connect("tcp://127.0.0.1:9", timeout_s=0.5)
    with pytest.raises(BackendError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9 "), silent:
        pass


def test_dask_is_quiet_until_the_last_crew_has_ended(cluster: Any) -> None:
    log = logging.getLogger("distributed")
    level, first, second = log.level, connect(cluster), connect(cluster)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert log.level == logging.CRITICAL != level
    second.__exit__(None, None, None)
    assert log.level == level


@pytest.mark.parametrize("wrong", ["nothing", "missing.json", "host:port", 8786, ["tcp://127.0.0.1:9"]])
def test_what_names_no_scheduler_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError), connect(wrong):
        pass


def test_clients_that_cannot_be_used_are_refused(cluster: Any, plain: Any) -> None:
    async def give_an_asynchronous_one() -> None:
        async with Client(plain.scheduler_address, asynchronous=True, set_as_default=False) as client:
            with pytest.raises(ConfigError, match="asynchronous"), connect(client):
                pass

    asyncio.run(give_an_asynchronous_one())
    with Client(cluster, set_as_default=False) as closed:
        pass
    with pytest.raises(BackendError, match="closed"), connect(closed):
        pass


def test_a_script_gets_a_cluster_in_one_line_and_prints_nothing_else(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from workbench.tuning.clusters import connect\n"
        "if __name__ == '__main__':\n"
        "    with connect('local') as crew:\n"
        "        print(len(crew.grounds()))\n"
    )
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": ROOT}
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("2\n", "", 0)
