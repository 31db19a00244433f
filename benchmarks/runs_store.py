"""How quickly a large history is listed, and whether it loses anything when its writers are killed.

python benchmarks/runs_store.py [--runs 100000] [--seconds 60] [--processes 16]     JSON on standard output

--runs 0 leaves the lists out, --seconds 0 the killing. Killing: processes write runs, alone and in studies of three,
and note every id whose writing was acknowledged, each in a file of its own; about ten times a second one of them is
killed with SIGKILL and another takes its place. Afterwards every id that was noted must be there, no study may be half
there, all data must be read back as they were written, and SQLite's integrity_check must find nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median
from typing import Any

from workbench.machine import this_machine
from workbench.runs import Filter, History, Run, new_id
from workbench.runs.records import machine_id, stamp

SETUPS = 2000
"""Different models, configurations and inputs in the large history."""
REPEATS = 7
STUDY = 3


# ---- a large history


def example(draw: random.Random, setups: int = SETUPS) -> tuple[Run, dict[str, Any]]:
    """A run like those of a measurement, with a hundred raw times."""
    number, machine = draw.randrange(setups), this_machine()
    precision = ("fp32", "fp16", "int8")[number % 3]
    config = {
        "precision": precision,
        "profiles": [{"image": {"opt": [number % 7 + 1, 3, 640, 640]}}],
        "targets": ["cpu"],
    }
    middle = draw.lognormvariate(0, 1)
    times = [middle * draw.lognormvariate(0, 0.02) for _ in range(100)]
    run = Run(
        new_id(),
        stamp(),
        study=new_id(),
        median_ms=middle,
        low_ms=0.99 * middle,
        high_ms=1.01 * middle,
        p99_ms=max(times),
        throughput_per_s=1000 / middle,
        kind="measurement",
        model=f"model_{number % 40}",
        model_sha256=f"{number % 40:064x}",
        subject=f"onnxruntime {precision}",
        backend="onnxruntime",
        precision=precision,
        config=json.dumps(config, sort_keys=True),
        engine=f"{number:032x}",
        machine=str(machine),
        machine_id=machine_id(machine),
        shapes=f"image {number % 7 + 1}x3x640x640",
        clock="perf_counter around InferenceSession.run, arrays on the host in and out",
        threads=2,
        batch=number % 7 + 1,
        size_bytes=1000 * number,
        build_s=number / 100,
    )
    return run, {"times_ms": times, "machine": machine.to_json(), "warmup": 10}


def fill(history: History, count: int) -> None:
    draw = random.Random(0)
    for begin in range(0, count, 1000):
        history.add_many(example(draw) for _ in range(min(1000, count - begin)))


def seconds(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """The median of some calls."""
    found = []
    for _ in range(REPEATS):
        start = clock()
        result = work()
        found.append(clock() - start)
        del result  # outside of the time
    return round(median(found), 4)


def measure_lists(count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home:
        history = History(home)
        start = time.perf_counter()
        fill(history, count)
        filled_s = time.perf_counter() - start
        environment = {**os.environ, "WORKBENCH_HOME": home}

        def process(*words: str) -> str:
            command = [sys.executable, *words]
            return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

        return {
            "runs": count,
            "setups": SETUPS,
            "file_mb": round(history.path.stat().st_size / 1e6, 1),
            "written_per_s": round(count / filled_s),
            **json.loads(process(__file__, "--time-lists")),
            "process_workbench_runs_s": seconds(lambda: process("-m", "workbench.cli", "runs")),
            "process_workbench_version_s": seconds(lambda: process("-m", "workbench.cli", "--version")),
        }


def time_lists() -> dict[str, float]:
    """Of the history in WORKBENCH_HOME, in this process, which has not filled it."""
    history, whole = History(), Filter(limit=None)
    return {
        "list_all_s": seconds(lambda: history.list(whole)),
        "list_all_processor_s": seconds(lambda: history.list(whole), time.process_time),
        "list_newest_50_s": seconds(history.list),
        "list_one_model_s": seconds(lambda: history.list(Filter(model="model_7", limit=None))),
        "search_that_finds_none_s": seconds(lambda: history.list(Filter(search="resnet152 tensorrt"))),
        "add_one_s": seconds(lambda: history.add(*example(random.Random()))),
    }


# ---- killing those who write


def work(home: str, notes: str, seed: int) -> None:
    """Write runs until killed; an id is noted once its writing was acknowledged."""
    draw, history = random.Random(seed), History(home)
    note = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        runs = [example(draw, setups=50) for _ in range(draw.choice((1, 1, STUDY)))]
        study = new_id() if len(runs) == STUDY else ""
        runs = [(run._replace(study=study), {**data, "id": run.id}) for run, data in runs]
        history.add_many(runs)
        os.write(note, "".join(f"{run.id}\n" for run, _ in runs).encode())
        if draw.random() < 0.1:
            history.list()


def kill_writers(home: Path, limit_s: float, processes: int) -> int:
    """How many were killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["workbench.runs"])
    draw, killed, started = random.Random(0), 0, 0
    (home / "notes").mkdir(parents=True)

    def start() -> BaseProcess:
        nonlocal started
        started += 1
        arguments = (str(home / "store"), str(home / "notes" / str(started)), started)
        process = context.Process(target=work, args=arguments, daemon=True)
        process.start()
        return process

    running = [start() for _ in range(processes)]
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        time.sleep(draw.uniform(0.02, 0.18))
        place = draw.randrange(processes)
        killed += _kill(running[place])
        running[place] = start()
    return killed + sum(_kill(process) for process in running)


def _kill(process: BaseProcess) -> int:
    """Raises AssertionError for a writer that ended by itself: nothing may go wrong."""
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"a writer ended with {process.exitcode}"
    return 1


def check_store(home: Path) -> dict[str, Any]:
    noted = {line for path in (home / "notes").iterdir() for line in path.read_text().split("\n")[:-1]}
    history = History(home / "store")
    found = history.list(Filter(limit=None))
    read_back = history.data_of(found)
    studies = Counter(run.study for run in found if run.study)
    with sqlite3.connect(history.path) as connection:
        (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    return {
        "acknowledged": len(noted),
        "found": len(found),
        "lost": len(noted - {run.id for run in found}),
        "half_written_studies": sum(count != STUDY for count in studies.values()),
        "damaged_data": sum(
            data.get("id") != run.id or len(data["times_ms"]) != 100 for run, data in zip(found, read_back, strict=True)
        ),
        "integrity_check": integrity,
        "set_aside": len(list((home / "store").glob("runs-damaged-*"))),
    }


def measure_kills(limit_s: float, processes: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        killed = kill_writers(Path(folder), limit_s, processes)
        return {"seconds": limit_s, "processes": processes, "killed": killed, **check_store(Path(folder))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--time-lists", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.time_lists:
        print(json.dumps(time_lists()))
        return
    result: dict[str, Any] = {
        "machine": str(this_machine()),
        "sqlite": sqlite3.sqlite_version,
        "clock": f"perf_counter, medians of {REPEATS}; process_time where it says processor",
        "load": os.getloadavg()[0],
    }
    if options.runs:
        result["lists"] = measure_lists(options.runs)
    if options.seconds:
        result["kills"] = measure_kills(options.seconds, options.processes)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
