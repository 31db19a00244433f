"""Recorded measurements as sweeps that the tuner's views show: what was measured one by one, and nothing else.

python benchmarks/recorded_grids.py [--output data/recorded/tensorrt-8.6.0-h200-grids]

From data/recorded/tensorrt-8.6.0-h200/benchmark.json.gz (gpu_latency.py), -int8/runs.json.gz (gpu_int8.py) and
-study/study.json.gz (gpu_study.py). Every file's notes tell how its intervals came about, and what was not recorded.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from workbench.accuracy import Interval  # noqa: E402
from workbench.recorded import Recorded, RecordedRun, load_recorded  # noqa: E402
from workbench.study import Study, load_study  # noqa: E402
from workbench.timing.statistics import SESSIONS_DIFFER  # noqa: E402
from workbench.tuning.candidate import Candidate  # noqa: E402
from workbench.tuning.goals import Goals, Score  # noqa: E402
from workbench.tuning.recorded import SWEEP  # noqa: E402
from workbench.tuning.result import FINISHED, Column, Tuned, save_tuned  # noqa: E402
from workbench.tuning.trial import COMPLETE, Trial  # noqa: E402

RECORDED = ROOT / "data" / "recorded"
NAME = "tensorrt-8.6.0-h200"
COLUMN = "NVIDIA H200"
OWN_ENTROPY = "TensorRT's own entropy"
"""Not that of a collection made here."""
_GRAPHS = {"replay": True, "enqueue": False}
"""What was timed by the GPU's own clock, and whether it was a CUDA graph."""
_NOT_FOUND = "Measured one by one by benchmarks/{}; not found by the tuner, so there are no finals and no best."
_NO_MEMORY = "The memory of the open engines was not recorded; 0 stands for that."
_CLOCK = "Times are the GPU's own, from CUDA events, inputs and outputs on the GPU; throughput is batch over that time."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RECORDED / f"{NAME}-grids")
    folder = parser.parse_args().output
    for tuned in grids():
        path = save_tuned(tuned, folder / f"{tuned.model}{'_study' if 'study' in tuned.notes[0] else ''}{SWEEP}")
        print(f"{path}: {len(tuned.trials)} measurements, {path.stat().st_size:,} bytes")


def grids() -> Iterator[Tuned]:
    benchmark = json.loads(gzip.decompress((RECORDED / NAME / "benchmark.json.gz").read_bytes()))
    label = load_recorded(RECORDED / NAME).label
    for model in benchmark["models"]:
        yield of_benchmark(benchmark, model, label)
    yield of_int8(load_recorded(RECORDED / f"{NAME}-int8"), "fashion_cnn")
    yield of_study(load_study(RECORDED / f"{NAME}-study" / "study.json.gz"))


# ---- gpu_latency.py: medians of rounds, without raw times


def of_benchmark(data: Mapping[str, Any], model: str, label: str) -> Tuned:
    runs = [
        run
        for run in data["runs"]
        if run["model"] == model
        and run["peer"] == "workbench"
        and run["what"] in _GRAPHS
        and run["relative"] is not None
    ]
    trials = []
    for run in runs:
        build = data["cells"][f"{model}_{run['precision']}_b{run['batch']}"]
        candidate = Candidate(
            "tensorrt", run["precision"], OWN_ENTROPY if run["precision"] == "int8" else "", batch=run["batch"],
            cuda_graph=_GRAPHS[run["what"]],
        )  # fmt: skip
        latency = _of_rounds(run["median_ms"], run["rounds_ms"])
        loss = 100 * run["relative"]
        score = _score(latency, Interval(loss, loss, loss), "relative", candidate.batch, build["plan_bytes"])
        trials.append(_trial(candidate, score, data["date"], build["build_s"]))
    about = data["models"][model]
    batches = len({item.candidate.batch for item in trials}) > 1
    return _tuned(
        model, about["sha256"], trials, label,
        objectives=("latency", *(("throughput",) if batches else ()), "accuracy", "size"), metric="relative",
        data=f"{about['about']}; outputs against ONNX Runtime's on the inputs that were timed",
        notes=(
            _NOT_FOUND.format(f"gpu_latency.py on {data['date']}"),
            "Intervals of latency reach from the lowest to the highest median of two or three rounds, and "
            f"{100 * SESSIONS_DIFFER:g} % to both sides at least, by which two sessions of one engine differ: raw "
            "times were not kept, so they are no 95 % intervals. Relative errors are of one input and have none.",
            _CLOCK,
            _NO_MEMORY,
        ),
    )  # fmt: skip


def _of_rounds(median_ms: float, rounds_ms: Sequence[float]) -> Interval:
    alike = SESSIONS_DIFFER * median_ms
    return Interval(median_ms, min(*rounds_ms, median_ms - alike), max(*rounds_ms, median_ms + alike))


# ---- gpu_int8.py: median and mean of 500 runs, top-1 on 7,000 pictures

_PICTURES = 7000


def of_int8(recorded: Recorded, model: str) -> Tuned:
    runs = [run for run in recorded.runs if run.model == model and run.top1 is not None]
    reference = next(run for run in runs if run.precision == "fp32")
    trials = []
    for run in runs:
        candidate = Candidate("tensorrt", run.precision, _algorithm(run), batch=run.batch, cuda_graph=True)
        spread = max(SESSIONS_DIFFER * run.median_ms, abs(run.mean_ms - run.median_ms))
        latency = Interval(run.median_ms, run.median_ms - spread, run.median_ms + spread)
        score = _score(latency, _lost(reference, run), "top1", run.batch, run.plan_bytes or 0)
        trials.append(_trial(candidate, score, recorded.date, run.build_s))
    return _tuned(
        model, recorded.models[model].sha256 or "", trials, recorded.label,
        objectives=("latency", "throughput", "accuracy", "size"), metric="top1",
        data=recorded.models[model].about,
        notes=(
            _NOT_FOUND.format(f"gpu_int8.py on {recorded.date}"),
            "Intervals of latency are the distance of mean and median to both sides, and "
            f"{100 * SESSIONS_DIFFER:g} % at least: raw times were not kept, so they are no 95 % intervals.",
            "Top-1 is lost against FP32 on the same GPU. Which pictures changed was not recorded, so its intervals are "
            "those of two different sets of pictures, wider than the truth.",
            _CLOCK,
            _NO_MEMORY,
        ),
    )  # fmt: skip


def _algorithm(run: RecordedRun) -> str:
    told = run.ranges or ""
    return OWN_ENTROPY if told.startswith("TensorRT") else told.rpartition(", ")[2]


def _lost(reference: RecordedRun, run: RecordedRun) -> Interval:
    """Points of top-1; 95 % for shares of two independent sets (normal approximation)."""
    before, after = (reference.top1 or 0.0) / 100, (run.top1 or 0.0) / 100
    if run.precision == "fp32":
        return Interval(0.0, 0.0, 0.0)
    reach = 1.96 * math.sqrt((before * (1 - before) + after * (1 - after)) / _PICTURES)
    lost = before - after
    return Interval(*(100 * value for value in (lost, lost - reach, lost + reach)))


# ---- gpu_study.py: raw times


def of_study(study: Study) -> Tuned:
    assert study.comparison is not None
    losses = {item.name: item.evaluation for item in study.comparison.contestants}
    trials = []
    for item in study.measurements:
        subject, evaluation = study.subject(item.name), losses.get(item.name)
        if subject.backend != "tensorrt" or evaluation is None or subject.plan_bytes is None:
            continue
        algorithm = {"INT8": "entropy", "INT8, no calibration": "uncalibrated"}.get(item.name, "")
        candidate = Candidate("tensorrt", subject.precision, algorithm, batch=item.batch, cuda_graph=item.cuda_graph)
        loss = evaluation.drop("relative")
        score = _score(item.median, loss, "relative", item.batch, subject.plan_bytes)
        trials.append(_trial(candidate, score, study.at, subject.build_s, tuple(item.warnings)))
    return _tuned(
        study.model, study.model_sha256, trials, study.recorded,
        objectives=("latency", "accuracy", "size"), metric="relative",
        data="outputs against PyTorch's on one picture",
        notes=(
            _NOT_FOUND.format(f"gpu_study.py on {study.at[:10]}, the seed's study, in turns"),
            "Intervals of latency are 95 % ones of 1,000 raw times. Relative errors are of one picture and have none. "
            "Every convolution was told to be INT8 in the int8 engines.",
            "PyTorch is no candidate and is left out, and so are other batches and streams, of which no loss is "
            "known.",
            _CLOCK,
            _NO_MEMORY,
        ),
    )  # fmt: skip


# ---- parts


def _score(latency: Interval, loss: Interval, metric: str, batch: int, plan_bytes: int) -> Score:
    rate = Interval(*(1000 * batch / ms for ms in (latency.value, latency.high, latency.low)))
    return Score(latency, rate, loss, metric, plan_bytes, 0)


def _trial(candidate: Candidate, score: Score, at: str, build_s: float | None, warnings: tuple[str, ...] = ()) -> Trial:
    told = json.dumps([candidate.key, at, score.latency_ms.value])
    seconds = {} if build_s is None else {"build": build_s}
    return Trial(
        hashlib.sha256(told.encode()).hexdigest()[:12], candidate, COMPLETE, COLUMN, score, at=at,
        seconds=seconds, warnings=warnings,
    )  # fmt: skip


def _tuned(model: str, sha256: str, trials: Sequence[Trial], label: str, **more: Any) -> Tuned:
    """more: objectives, metric, data, notes."""
    ids = json.dumps([model, [item.id for item in trials]])
    return Tuned(
        id=hashlib.sha256(ids.encode()).hexdigest()[:12],
        model=model,
        model_sha256=sha256,
        goals=Goals(more["objectives"], (), more["metric"]),
        state=FINISHED,
        trials=tuple(trials),
        columns=(Column(COLUMN, f"{len(trials)} measurements, not a whole space"),),
        at=trials[0].at,
        data=more["data"],
        notes=more["notes"],
        recorded=label,
    )


if __name__ == "__main__":
    main()
