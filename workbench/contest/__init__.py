"""Back ends and precisions, and Paddle itself, against each other on a data set: how fast, and how accurate.

What the scripts run_benchmark.sh and test_acc.sh of PaddleSlim's TensorRT tutorial do, on any back end:

    source = open_source("inference/")
    samples = open_samples("val.bin", source.model)
    contest = Contest(source, samples, entrants(["paddle", "onnxruntime"], ["fp32", "fp16"]))
    benchmark(contest), accuracy(contest)
"""

from workbench.contest.accuracy import Accuracy, accuracy
from workbench.contest.benchmark import Benchmark, Round, benchmark
from workbench.contest.entrants import entrants
from workbench.contest.rules import Contest, Entrant, Rules
from workbench.contest.source import Source, find_source, open_source

__all__ = [
    "Accuracy",
    "Benchmark",
    "Contest",
    "Entrant",
    "Round",
    "Rules",
    "Source",
    "accuracy",
    "benchmark",
    "entrants",
    "find_source",
    "open_source",
]
