"""Where a search runs: in this process, on a Dask cluster of this machine in one line, or on any other."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import BackendError, ConfigError
from workbench.machine import this_machine
from workbench.tuning.crew import Alone, Crew
from workbench.tuning.ground import gpu_identity

if TYPE_CHECKING:
    from distributed import Client, SpecCluster

LOCAL = "local"
TIMEOUT_S = 8.0
_CLOSE_S = 5.0
_HOST = "127.0.0.1"
_NOISY = ("distributed", "distributed.client", "tornado.application")
_lock, _wanting, _levels = threading.Lock(), list[None](), dict[str, int]()


@contextlib.contextmanager
def connect(scheduler: Any = None, *, timeout_s: float = TIMEOUT_S) -> Iterator[Crew]:
    """The crew of a scheduler, as long as the context lasts.

    scheduler: None for this process alone; 'local' for `local_cluster()`, 'local:4' for one of four workers; an address
    such as 'tcp://host:8786'; the path of a scheduler file; a dask.distributed Client, or any cluster object
    (LocalCluster, LocalCUDACluster, SLURMCluster, KubeCluster, ...), which both stay open. Meanwhile Dask's log is
    quiet: what goes wrong is told as failures and errors.

    Raises ConfigError for what is none of these, BackendError where no scheduler answers within `timeout_s`.
    """
    if scheduler is None:
        yield Alone()
        return
    from workbench.tuning.dask_crew import DaskCrew

    with _quiet(), open_client(scheduler, timeout_s) as client:
        crew = DaskCrew(client)
        try:
            yield crew
        finally:
            crew.close()


def local_cluster(workers: int | None = None, *, dashboard: bool = True) -> SpecCluster:
    """A Dask cluster of this machine, to be closed by `close()` or as a context manager. It listens on 127.0.0.1 and
    asks for a certificate that only this process and its workers have; the dashboard, which shows and does nothing
    else, does not.

    A worker for each GPU that this process may use, which sees no other one; without GPUs two, so that the search goes
    on while one that died is started again. More are of no use: trials on one processor never run side by side.

    dashboard: under `cluster.dashboard_link`. In a script, call it below `if __name__ == "__main__":`, as workers
    start by importing the script. Raises ConfigError, BackendError.
    """
    environments = worker_environments(visible_gpus(), workers)
    from distributed import Nanny, Scheduler, Security, SpecCluster

    quiet = {"silence_logs": logging.CRITICAL}
    security = Security.temporary()
    common = {"host": _HOST, "security": security, "protocol": "tls"}
    worker = {**common, "nthreads": 1, "memory_limit": 0, **quiet}
    options = {**common, "port": 0, "dashboard": dashboard, "dashboard_address": f"{_HOST}:0"}
    workers_of = {
        number: {"cls": Nanny, "options": {**worker, "env": environment}}
        for number, environment in enumerate(environments)
    }
    try:
        with _ctrl_c_for_us_alone():
            return SpecCluster(
                scheduler={"cls": Scheduler, "options": options}, workers=workers_of, name="workbench",
                security=security, **quiet,
            )  # fmt: skip
    except Exception as error:  # Dask raises what starting processes raises
        raise BackendError(
            f"no cluster could be started on this machine ({error}). In a script, start it below "
            '`if __name__ == "__main__":`, as its workers import the script.'
        ) from error


@contextlib.contextmanager
def _ctrl_c_for_us_alone() -> Iterator[None]:
    """A terminal sends SIGINT to every process of the command. Those that are started within, and by threads that are,
    never get it: workers end when the work is cancelled."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # while multiprocessing starts it, it lets SIGINT through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def worker_environments(gpus: Sequence[str], workers: int | None) -> list[dict[str, str]]:
    """What is set for each worker of a local cluster. Raises ConfigError for too few or too many."""
    count = workers if workers is not None else len(gpus) or 2
    if count < 1:
        raise ConfigError(f"{count} workers do nothing; start one at least.")
    if gpus and count > len(gpus):
        raise ConfigError(f"{count} workers for {len(gpus)} GPUs: a GPU is one worker's; start {len(gpus)} at most.")
    return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:count]] or [{} for _ in range(count)]


def visible_gpus() -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES calls each GPU that this process may use: by identity, as CUDA and the driver number
    them in different orders."""
    return tuple(gpu_identity(index) for index in range(len(this_machine().gpus)))


@contextlib.contextmanager
def open_client(scheduler: Any, timeout_s: float = TIMEOUT_S) -> Iterator[Client]:
    """A client of a scheduler, named as `connect` takes it but for None; one that was given stays open."""
    from distributed import Client

    if isinstance(scheduler, Client):
        if scheduler.asynchronous:
            raise ConfigError("this Client is asynchronous; give the address of its scheduler instead.")
        if scheduler.status != "running":
            raise BackendError(f"this Client is {scheduler.status}; connect one to a running scheduler.")
        yield scheduler
        return
    with contextlib.ExitStack() as stack:
        name, _, number = scheduler.partition(":") if isinstance(scheduler, str) else ("", "", "")
        if name == LOCAL:
            if number and not number.isdecimal():
                raise ConfigError(f"{scheduler!r}: write how many workers shall be started, such as local:2.")
            scheduler = stack.enter_context(local_cluster(int(number) if number else None))
        yield stack.enter_context(_opened(scheduler, timeout_s))


@contextlib.contextmanager
def _opened(scheduler: Any, timeout_s: float) -> Iterator[Client]:
    """A client of our own."""
    from distributed import Client

    where, how = _place(scheduler)
    gc.collect()  # one that failed elsewhere closes itself now: while the next one starts, that would hang
    failure = ""
    try:
        client = Client(**how, timeout=timeout_s, set_as_default=False)
    except Exception as error:  # Dask raises what its connections raise, and what reading the answer of others raises
        failure = str(error) or type(error).__name__
    if failure:
        gc.collect()  # a client that is half made closes itself now; when Python ends it would hang
        raise BackendError(
            f"no Dask scheduler answers at {where} ({failure}); see that it runs (`dask scheduler`), and that this "
            "machine may reach it."
        )
    try:
        yield client
    finally:
        with contextlib.suppress(Exception):  # a scheduler that is gone does not say goodbye
            client.close(timeout=_CLOSE_S)


def _place(scheduler: Any) -> tuple[str, dict[str, Any]]:
    """In words, and as arguments of a Client."""
    if hasattr(scheduler, "scheduler_address"):
        if getattr(scheduler, "asynchronous", False):
            raise ConfigError("this cluster is asynchronous; give the address of its scheduler instead.")
        return str(scheduler.scheduler_address), {"address": scheduler}
    if isinstance(scheduler, (str, Path)):
        text = os.path.expanduser(scheduler)
        if os.path.isfile(text):
            return f"the address in {text}", {"scheduler_file": text}
        host, _, port = text.rpartition("://")[2].rpartition(":")
        if host and port.isdigit():
            return text, {"address": text}
        raise ConfigError(
            f"{text!r} is neither an address such as 'tcp://host:8786', nor a scheduler file, nor 'local'."
        )
    raise ConfigError(f"a {type(scheduler).__name__} is no scheduler; give a Client, a cluster or an address.")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Until the last that wants it has ended, in any order."""
    with _lock:
        if not _levels:
            _levels.update((name, logging.getLogger(name).level) for name in _NOISY)
        _wanting.append(None)
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        with _lock:
            _wanting.pop()
            while _levels and not _wanting:
                name, level = _levels.popitem()
                logging.getLogger(name).setLevel(level)
