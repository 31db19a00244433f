"""The command line: options and exit status. Answers go to stdout, with --json one value; all else to stderr."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

from workbench.commands import data_options, options, tuning_options
from workbench.errors import WorkbenchError

Run = Callable[[argparse.Namespace], tuple[Any, str] | tuple[Any, str, int]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for the user's mistakes, 1 for failures. A command returns what
    --json prints, what people read, and a status of its own where what it found is a failure."""
    given = _parser().parse_args(arguments)
    given.line = shlex.join(["workbench", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        data, text, *status = _verb(given.run)(given)
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("workbench: stopped.", file=sys.stderr)
        return 130
    try:
        print(json.dumps(data, indent=1) if given.json else text, flush=True)
    except BrokenPipeError:  # `workbench engines | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status[0] if status else 0


def _verb(place: str) -> Run:
    """'history:runs' -> the function `runs` of workbench.commands.history, imported only now: a command need not wait
    for what the others need."""
    module, _, name = place.partition(":")
    run: Run = getattr(import_module(f"workbench.commands.{module}"), name)
    return run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="workbench",
        description="From a trained network to a fast, trusted NVIDIA engine.",
        epilog="Engines are kept in your cache folder, or where WORKBENCH_HOME says. "
        "Exit status: 0 well, 1 a failure, 2 a mistake of yours, 130 stopped.",
    )
    parser.add_argument("--version", action="version", version=f"workbench {version('tensorrt-workbench')}")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: str, text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.add_argument("--json", action="store_true", help="print one JSON value")
        added.set_defaults(run=run)
        return added

    _model_verbs(command)
    _engine_verbs(command)
    _calibration_verbs(command)
    _hybrid_verbs(command)
    _contest_verbs(command)
    _deploy_verb(command)
    return parser


Command = Callable[[str, str, str], argparse.ArgumentParser]
"""From a name, the place of the function that does it, and what it is for."""


def _model_verbs(command: Command) -> None:
    """What brings a model here and tells what it is."""
    command("backends", "engines:backends", "what each back end can do on this machine")

    inspect = command("inspect", "models:inspect", "inputs, outputs, operators of a model, and which back end takes it")
    options.model_options(inspect)
    inspect.add_argument("--tensors", action="store_true", help="list every tensor with its shape")
    inspect.add_argument(
        "--shapes", action="append", default=[], metavar="INPUT:SHAPE",
        help="list every tensor at these sizes, and the memory that activations take",
    )  # fmt: skip
    inspect.add_argument("--output", metavar="FILE", help="write the model, with the changes of --dim, there")

    export = command(
        "export", "exporting:export", "a model of PyTorch, Paddle or TensorFlow becomes ONNX, checked against it"
    )
    options.export_options(export)

    environments = command("environments", "exporting:environments", "the converters' environments: list, make, remove")
    environments.add_argument("--make", metavar="NAME", help="make this one now")
    environments.add_argument("--remove", metavar="NAME", help="delete this one")
    environments.add_argument("--verbose", action="store_true", help="print pip's lines on stderr")


def _engine_verbs(command: Command) -> None:
    """What is done with engines."""
    building = command("build", "engines:build", "build an engine, or reuse the stored one")
    options.model_options(building)
    options.build_options(building)
    options.output_options(building)

    network = command("network", "engines:network", "build an engine from a network that a Python function describes")
    network.add_argument("describe", metavar="FILE.py:NAME", help="function describe(trt, network[, weights])")
    network.add_argument("--name", help="of the engine (default: the function's)")
    network.add_argument("--weights", metavar="FILE.npz", help="arrays by name, handed to the function")
    options.backend_option(network, "tensorrt or rtx")
    network.add_argument("--precision", type=str.lower, help="fp32 or tf32 (default fp32)")
    options.shape_option(network)
    options.target_options(network)
    options.builder_options(network)
    options.output_options(network)

    bench = command("bench", "measuring:bench", "build or reuse an engine and measure its latency")
    options.model_options(bench, nargs="?")
    options.build_options(bench)
    bench.add_argument("--engine", metavar="KEY|FOLDER", help="instead of MODEL: a stored engine or its folder")
    bench.add_argument("--trust", action="store_true", help="open the folder although this store did not build it")
    options.run_options(bench, iterations=100)
    options.bench_options(bench)

    tuning_options.tune_options(
        command("tune", "tuning:tune", "the best engine found: by latency, throughput, accuracy, size and memory")
    )
    text = "optimization profiles for the shapes that a model is really asked for, from a log of them"
    tuning_options.traffic_options(command("traffic", "traffic:traffic", text))

    text = "outputs and latency of one model on several back ends or precisions, in turns on the same arrays"
    comparison = command("compare", "comparing:compare", text)
    options.model_options(comparison)
    options.shape_option(comparison)
    options.run_options(comparison, iterations=100)
    options.compare_options(comparison)

    listing = command("engines", "engines:engines", "list, look into, remove or prune stored engines")
    listing.add_argument("--layers", metavar="KEY", help="list the layers of this engine with their ONNX nodes")
    listing.add_argument("--remove", metavar="KEY", help="forget this engine")
    listing.add_argument(
        "--prune", metavar="SIZE", type=options.size, help="remove the longest unused until SIZE is left: 2G"
    )

    recorded = command("recorded", "measuring:recorded", "runs recorded on a GPU: latencies and where they were taken")
    recorded.add_argument("folder", nargs="?", help="one recording, by its folder (default: all in data/recorded)")

    options.runs_options(command("runs", "history:runs", "the history: list, show, diff, export; name baselines"))
    options.report_options(
        command("report", "reporting:report", "runs of the history as one page, or as Markdown for a pull request")
    )

    options.fusion_options(
        command("fusion", "fusing:fusion", "what became of a network in an engine: which kernels fuse what")
    )


def _calibration_verbs(command: Command) -> None:
    """What int8 needs."""
    calibrate = command("calibrate", "calibrating:calibrate", "collect the ranges of activations, for int8")
    options.model_options(calibrate)
    data_options.calibrate_options(calibrate)

    calibration = command(
        "calibration", "calibrating:calibration", "show, convert or merge calibration files of every kind"
    )
    calibration.add_argument("do", choices=("show", "convert", "merge"))
    calibration.add_argument("files", nargs="+", metavar="FILE")
    calibration.add_argument("--output", "-o", metavar="FILE")
    calibration.add_argument("--model", metavar="FILE.onnx", help="check the ranges against this model")
    calibration.add_argument("--dim", action="append", default=[], help=argparse.SUPPRESS)
    data_options.algorithm_options(calibration)

    sensitivity = command(
        "sensitivity", "calibrating:sensitivity", "which layers int8 costs accuracy, and which to leave in float"
    )
    options.model_options(sensitivity)
    data_options.sensitivity_options(sensitivity)


def _hybrid_verbs(command: Command) -> None:
    """A model in parts, each of which something else runs."""
    parts = command(
        "subgraphs", "subgraphs:subgraphs", "which nodes a back end takes, cut into engines and native parts"
    )
    options.model_options(parts)
    options.backend_option(parts, "tensorrt, rtx or onnxruntime")
    parts.add_argument(
        "--min-subgraph-size", type=options.positive, default=3, metavar="N",
        help="leave subgraphs of fewer operators native (default 3)",
    )  # fmt: skip
    options.native_options(parts)
    options.page_option(parts)
    parts.add_argument(
        "--shapes", action="append", default=[], metavar="INPUT:SHAPE",
        help="count bytes at these sizes, such as x:1x3x224x224; once for every input with open dimensions",
    )  # fmt: skip

    shapes = command(
        "shapes", "hybrid:shapes", "run samples and note the sizes of all tensors, for subgraphs' profiles"
    )
    options.model_options(shapes)
    shapes.add_argument("--feeds", action="append", default=[], metavar="FILE.npz", help="a sample: inputs by name")
    shapes.add_argument(
        "--shapes", action="append", default=[], metavar="INPUT:SHAPE",
        help="a random sample of this shape, or of MIN, OPT (twice) and MAX; an input given again starts another",
    )  # fmt: skip
    shapes.add_argument("--output", "-o", metavar="FILE.json", help="for --collected of hybrid")

    running = command(
        "hybrid", "hybrid:hybrid", "cut a model into engines and native parts, run and time them together"
    )
    options.model_options(running)
    options.build_options(running)
    running.add_argument(
        "--min-subgraph-size", type=options.positives, default=[3], metavar="N[,N...]",
        help="leave subgraphs of fewer operators native (default 3); compare several sizes",
    )  # fmt: skip
    options.native_options(running)
    running.add_argument("--collected", metavar="FILE.json", help="sizes at the borders, from `workbench shapes`")
    running.add_argument("--feeds", metavar="FILE.npz", help="inputs by name (default: random ones, always the same)")
    running.add_argument("--iterations", type=options.positive, default=20, help="timed runs (default 20)")
    running.add_argument("--verbose", action="store_true", help="print the whole build log on stderr")


def _contest_verbs(command: Command) -> None:
    """The steps of PaddleSlim's TensorRT tutorial."""
    dataset = command("dataset", "evaluating:dataset", "write pictures as the binary data set of Paddle's tutorials")
    data_options.source_options(dataset)
    data_options.data_options(dataset)
    dataset.add_argument("--output", "-o", required=True, metavar="FILE.bin")

    text = "how fast a model runs on a data set, by back end and precision; as the tutorial's run_benchmark.sh"
    data_options.benchmark_options(command("benchmark", "evaluating:run_benchmark", text))
    text = "how accurate a model is on a data set, by back end and precision; as the tutorial's test_acc.sh"
    data_options.accuracy_options(command("accuracy", "evaluating:run_accuracy", text))


def _deploy_verb(command: Command) -> None:
    """What takes an engine out of the house."""
    text = "hand a stored engine over: a Triton model repository, or a program in Python or C++ with a test vector"
    options.deploy_options(command("deploy", "deploying:deploy", text))


if __name__ == "__main__":
    sys.exit(main())
