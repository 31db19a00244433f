"""The same sweep on one and on all GPUs of this host: how much faster, and whether latencies agree with a quiet GPU.

python benchmarks/tuning_scale.py [--model NET.onnx] [--workers 1,4] [--trials 16] [--json]

Without --model it is ResNet-18 (benchmarks/gpu_models.py, which needs PyTorch) where there is a GPU, else fashion_cnn.
Every sweep is a process of its own with an empty store. Each of its workers first builds an engine that does not count,
as TensorRT takes seconds to load its kernels once; the clock ends with the last trial, before the finals.

Without a GPU there is nothing to scale: trials on one processor exclude each other. Then it tells what Dask costs for
each trial, against the same sweep in this process (0 workers), and how much faster two workers calibrate than one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import workbench as wb
from workbench.backends import available
from workbench.calibration.collect import collect, fixed_batch
from workbench.calibration.samples import open_samples
from workbench.machine import this_machine
from workbench.sharding import Sharding, collect_on
from workbench.timing import Timing
from workbench.tuning import Budget, Goals, Space, Tuned, make_plan, run_search
from workbench.tuning.clusters import connect, local_cluster, open_client, visible_gpus
from workbench.tuning.crew import Crew

ROOT = Path(__file__).parents[1]
OBJECTIVES = ("latency", "throughput", "size", "memory", "accuracy")
"""So many that hardly anything is given up early: all sweeps shall do the same work."""
TIMING = Timing(200, limit_s=1.0)
COME_S = 60.0
LIMIT_S = 280.0
"""For a sweep."""


def space(model: wb.Model, numbers: Sequence[int], on_gpu: bool) -> Space:
    """One candidate for each number on a GPU, an engine of its own; elsewhere each with all threads and with one."""
    usual = Space(("tensorrt" if on_gpu else "onnxruntime",), ("fp32",), ("entropy",))
    if fixed_batch(model) is None:
        return replace(usual, batch=tuple(numbers), threads=(None,) if on_gpu else (None, 1))
    if on_gpu:
        return replace(usual, workspace_bytes=tuple((256 + number) << 20 for number in numbers))
    raise SystemExit(f"{model.name} takes one batch only; name a model whose batch is open.")


class Ended(Exception):
    """All candidates were tried; the finals are of no interest."""


@dataclass
class Watch:
    """Notes when each trial came, and ends the search with the last one."""

    trials: int
    found: Tuned | None = None
    end: float = 0.0

    def __call__(self, tuned: Tuned) -> None:
        if len(tuned.trials) >= self.trials:
            self.end, self.found = time.perf_counter(), tuned
            raise Ended


def swept(crew: Crew, model: wb.Model, wanted: Space) -> tuple[float, Tuned]:
    """Seconds until the last trial of a space was there."""
    plan = make_plan(model, wanted, Goals(OBJECTIVES, metric="relative"), timing=TIMING, sampler="grid")
    watch = Watch(wanted.size)
    start = time.perf_counter()
    with contextlib.suppress(Ended):
        run_search(plan, crew, Budget(watch.trials), each=watch)
    if watch.found is None:
        raise SystemExit("the sweep ended before all candidates were tried.")
    return watch.end - start, watch.found


def sweep(path: Path, workers: int, trials: int) -> dict[str, Any]:
    """In this process, with a store of its own. 0 workers: without Dask."""
    model, on_gpu = wb.load_model(path), bool(visible_gpus())
    count = trials if on_gpu else max(1, trials // 2)
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(local_cluster(workers, dashboard=False)) if workers else None
        crew = stack.enter_context(connect(cluster))
        end = time.monotonic() + COME_S
        while len(crew.grounds()) < workers:
            if time.monotonic() > end:
                raise SystemExit(f"of {workers} workers {len(crew.grounds())} came within {COME_S:.0f} s.")
            time.sleep(0.1)
        swept(crew, model, space(model, range(count + 1, count + 1 + max(workers, 1)), on_gpu))
        wall_s, found = swept(crew, model, space(model, range(1, count + 1), on_gpu))
    own_s = sum(sum(item.seconds.values()) for item in found.trials)
    lanes = max(workers, 1) if on_gpu else 1
    return {
        "workers": workers,
        "trials": len(found.trials),
        **found.counts,
        "wall_s": round(wall_s, 2),
        "own_s": round(own_s, 2),
        "overhead_s_per_trial": round((lanes * wall_s - own_s) / len(found.trials), 3),
        "by_worker": {name: sum(item.worker == name for item in found.trials) for name in _workers(found)},
        "ms": {
            str(item.candidate): item.score.latency_ms.value for item in found.trials if item.score and item.is_complete
        },
    }


def _workers(found: Tuned) -> list[str]:
    return sorted({item.worker for item in found.trials})


def in_a_process(path: Path, workers: int, trials: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, __file__, "--model", str(path), "--trials", str(trials), "--sweep", str(workers)]
        done = subprocess.run(
            command, env={**os.environ, "WORKBENCH_HOME": home}, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S
        )
    if done.returncode:
        raise SystemExit(f"the sweep on {workers} workers failed; see above.")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def agreement(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Of the latencies of the same candidates, relative to those of the quiet one."""
    apart = [abs(other["ms"][name] / ms - 1) for name, ms in one["ms"].items() if name in other["ms"]]
    return {"median": round(median(apart), 4), "max": round(max(apart), 4)}


def calibration(count: int) -> dict[str, Any]:
    """Seconds of the same collection with one thread here, and on one and two workers of one thread."""
    model = wb.load_model(ROOT / "data" / "models" / "fashion_cnn.onnx")
    samples = open_samples(str(ROOT / "data" / "fashion_mnist_test"), model)
    result: dict[str, Any] = {"samples": count}
    start = time.perf_counter()
    whole = collect(model, samples, count=count, until_settled=False, threads=1)
    result["here_s"] = round(time.perf_counter() - start, 2)
    for workers in (1, 2):
        with local_cluster(workers, dashboard=False) as cluster, open_client(cluster) as client:
            client.wait_for_workers(workers)
            sharding = Sharding(threads=1)
            collect_on(client, model, samples, count=64, sharding=sharding)  # workers import what they need
            start = time.perf_counter()
            found = collect_on(client, model, samples, count=count, sharding=sharding)
            result[f"workers_{workers}_s"] = round(time.perf_counter() - start, 2)
            assert found.histograms.keys() == whole.histograms.keys()
    result["speed_up_of_two"] = round(result["workers_1_s"] / result["workers_2_s"], 2)
    return result


def made_model(folder: Path, on_gpu: bool) -> Path:
    if not on_gpu:
        return ROOT / "data" / "models" / "fashion_cnn.onnx"
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_models.py"), str(folder), "resnet18"]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise SystemExit("ResNet-18 could not be made (it needs PyTorch); name a model with --model.")
    return folder / "resnet18.onnx"


def measured(options: argparse.Namespace) -> dict[str, Any]:
    gpus = visible_gpus()
    counts = options.workers or ([1, len(gpus)] if gpus else [0, 1, 2])
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        path = options.model or made_model(Path(folder), bool(gpus))
        rows = [in_a_process(path, count, options.trials) for count in dict.fromkeys(counts)]
    result: dict[str, Any] = {
        "machine": str(this_machine()),
        "gpus": len(gpus),
        "releases": {name: item.release for name, item in available().items() if item.can_run},
        "model": path.stem,
        "clock": "perf_counter, until the last trial",
        "sweeps": rows,
    }
    for row in rows[1:]:
        row["speed_up"] = round(rows[0]["wall_s"] / row["wall_s"], 2)
        row["latencies_apart"] = agreement(rows[0], row)
    if not gpus:
        result["calibration"] = calibration(options.samples)
    return {**result, "load": [round(load, 2), round(os.getloadavg()[0], 2)]}


def told(result: dict[str, Any]) -> str:
    lines = [f"{result['model']} on {result['machine']}; load {result['load']}"]
    if not result["gpus"]:
        lines.append("No GPU: trials exclude each other, so nothing scales; this is what Dask costs.")
    for row in result["sweeps"]:
        lines.append(
            f"{row['workers']} workers: {row['trials']} trials in {row['wall_s']} s, {row['own_s']} s of work, "
            f"{row['overhead_s_per_trial']} s more for each"
        )
        if "speed_up" in row:
            apart = row["latencies_apart"]
            lines.append(
                f"    {row['speed_up']} times as fast as {result['sweeps'][0]['workers']}; latencies apart by "
                f"{apart['median']:.2%} (median), {apart['max']:.2%} (most)"
            )
    if "calibration" in result:
        lines.append(f"calibration: {result['calibration']}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--workers", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--samples", type=int, default=4000, help="of the calibration, without a GPU")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sweep", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sweep is not None:
        print(json.dumps(sweep(options.model, options.sweep, options.trials)))
        return
    result = measured(options)
    print(json.dumps(result, indent=1) if options.json else told(result))


if __name__ == "__main__":
    main()
