"""The command line: options and exit status. Answers go to stdout, with --json one value; all else to stderr."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from workbench.commands import engines, exporting, fusing, hybrid, measuring, models, subgraphs
from workbench.errors import ConfigError, WorkbenchError
from workbench.subgraphs.releases import RELEASES
from workbench.types import PRECISIONS, parse_size


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for the user's mistakes, 1 for failures."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], tuple[Any, str]] = options.run
    try:
        data, text = run(options)
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("workbench: stopped.", file=sys.stderr)
        return 130
    try:
        print(json.dumps(data, indent=1) if options.json else text, flush=True)
    except BrokenPipeError:  # `workbench engines | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="workbench",
        description="From a trained network to a fast, trusted NVIDIA engine.",
        epilog="Engines are kept in your cache folder, or where WORKBENCH_HOME says. "
        "Exit status: 0 well, 1 a failure, 2 a mistake of yours, 130 stopped.",
    )
    parser.add_argument("--version", action="version", version=f"workbench {version('tensorrt-workbench')}")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], tuple[Any, str]], text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.add_argument("--json", action="store_true", help="print one JSON value")
        added.set_defaults(run=run)
        return added

    _model_verbs(command)
    _engine_verbs(command)
    _hybrid_verbs(command)
    return parser


Command = Callable[[str, Callable[[argparse.Namespace], tuple[Any, str]], str], argparse.ArgumentParser]


def _model_verbs(command: Command) -> None:
    """What brings a model here and tells what it is."""
    command("backends", engines.backends, "what each back end can do on this machine")

    inspect = command("inspect", models.inspect, "inputs, outputs, operators of a model, and which back end takes it")
    _model_options(inspect)
    inspect.add_argument("--tensors", action="store_true", help="list every tensor with its shape")
    inspect.add_argument(
        "--shapes", action="append", default=[], metavar="INPUT:SHAPE",
        help="list every tensor at these sizes, and the memory that activations take",
    )  # fmt: skip
    inspect.add_argument("--output", metavar="FILE", help="write the model, with the changes of --dim, there")

    export = command(
        "export", exporting.export, "a model of PyTorch, Paddle or TensorFlow becomes ONNX, checked against it"
    )
    _export_options(export)

    environments = command("environments", exporting.environments, "the converters' environments: list, make, remove")
    environments.add_argument("--make", metavar="NAME", help="make this one now")
    environments.add_argument("--remove", metavar="NAME", help="delete this one")
    environments.add_argument("--verbose", action="store_true", help="print pip's lines on stderr")


def _engine_verbs(command: Command) -> None:
    """What is done with engines."""
    building = command("build", engines.build, "build an engine, or reuse the stored one")
    _model_options(building)
    _build_options(building)
    _output_options(building)

    network = command("network", engines.network, "build an engine from a network that a Python function describes")
    network.add_argument("describe", metavar="FILE.py:NAME", help="function describe(trt, network[, weights])")
    network.add_argument("--name", help="of the engine (default: the function's)")
    network.add_argument("--weights", metavar="FILE.npz", help="arrays by name, handed to the function")
    network.add_argument("--backend", type=str.lower, help="rtx (default: the first that can do it here)")
    network.add_argument("--precision", type=str.lower, help="fp32 or tf32 (default fp32)")
    _shape_option(network)
    _output_options(network)

    bench = command("bench", measuring.bench, "build or reuse an engine and measure its latency")
    _model_options(bench, nargs="?")
    _build_options(bench)
    bench.add_argument("--engine", metavar="KEY|FOLDER", help="instead of MODEL: a stored engine or its folder")
    bench.add_argument("--trust", action="store_true", help="open the folder although this store did not build it")
    _run_options(bench, iterations=100)
    bench.add_argument("--warmup", type=_positive, default=10, help="runs before the clock starts (default 10)")

    compare = command("compare", measuring.compare, "outputs and latency of one model on two back ends or precisions")
    _model_options(compare)
    compare.add_argument(
        "engines", nargs="*", metavar="BACKEND:PRECISION",
        help="reference and other; one alone is compared with fp32 (default: onnxruntime:fp32 onnxruntime:fp16)",
    )  # fmt: skip
    _shape_option(compare)
    _run_options(compare, iterations=20)
    compare.add_argument("--max-relative", type=float, metavar="X", help="exit 1 if an output differs by more, as 0.01")

    listing = command("engines", engines.engines, "list, look into, remove or prune stored engines")
    listing.add_argument("--layers", metavar="KEY", help="list the layers of this engine with their ONNX nodes")
    listing.add_argument("--remove", metavar="KEY", help="forget this engine")
    listing.add_argument("--prune", metavar="SIZE", type=_size, help="remove the longest unused until SIZE is left: 2G")

    _fusion_options(command("fusion", fusing.fusion, "what became of a network in an engine: which kernels fuse what"))


def _hybrid_verbs(command: Command) -> None:
    """A model in parts, each of which something else runs."""
    parts = command("subgraphs", subgraphs.subgraphs, "which nodes a back end takes, cut into engines and native parts")
    _model_options(parts)
    parts.add_argument("--backend", type=str.lower, help="rtx or onnxruntime (default: the first that can do it here)")
    parts.add_argument(
        "--min-subgraph-size", type=_positive, default=3, metavar="N",
        help="leave subgraphs of fewer operators native (default 3)",
    )  # fmt: skip
    _native_options(parts)
    _page_option(parts)
    parts.add_argument(
        "--shapes", action="append", default=[], metavar="INPUT:SHAPE",
        help="count bytes at these sizes, such as x:1x3x224x224; once for every input with open dimensions",
    )  # fmt: skip

    shapes = command("shapes", hybrid.shapes, "run samples and note the sizes of all tensors, for subgraphs' profiles")
    _model_options(shapes)
    shapes.add_argument("--feeds", action="append", default=[], metavar="FILE.npz", help="a sample: inputs by name")
    shapes.add_argument(
        "--shapes", action="append", default=[], metavar="INPUT:SHAPE",
        help="a random sample of this shape, or of MIN, OPT (twice) and MAX; an input given again starts another",
    )  # fmt: skip
    shapes.add_argument("--output", "-o", metavar="FILE.json", help="for --collected of hybrid")

    running = command("hybrid", hybrid.hybrid, "cut a model into engines and native parts, run and time them together")
    _model_options(running)
    _build_options(running)
    running.add_argument(
        "--min-subgraph-size", type=_positives, default=[3], metavar="N[,N...]",
        help="leave subgraphs of fewer operators native (default 3); compare several sizes",
    )  # fmt: skip
    _native_options(running)
    running.add_argument("--collected", metavar="FILE.json", help="sizes at the borders, from `workbench shapes`")
    running.add_argument("--feeds", metavar="FILE.npz", help="inputs by name (default: random ones, always the same)")
    running.add_argument("--iterations", type=_positive, default=20, help="timed runs (default 20)")
    running.add_argument("--verbose", action="store_true", help="print the whole build log on stderr")


def _page_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--html", metavar="FILE.html", help="draw it there, before and after, as a page by itself")


def _native_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--disable-ops", action="append", default=[], metavar="NAME[,NAME...]",
        help="leave these operators, or nodes of these names, native",
    )  # fmt: skip
    parser.add_argument("--release", help=f"leave native also what TensorRT {' or '.join(RELEASES)} lacks")


def _fusion_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="ENGINE|FILE",
        help="key or folder of an engine, what trtexec --exportLayerInfo wrote, or a build log that lists layers",
    )  # fmt: skip
    parser.add_argument("--model", metavar="FILE.onnx", help="default: what the engine was built from, or beside FILE")
    parser.add_argument(
        "--profile", action="append", metavar="FILE.json",
        help="times of the layers, from trtexec --exportProfile; once more for the engine of --against",
    )  # fmt: skip
    parser.add_argument("--log", metavar="FILE", help="VERBOSE build log (default: the stored engine's)")
    parser.add_argument("--against", metavar="ENGINE|FILE", help="another engine of the same model: what changed")
    parser.add_argument("--story", action="store_true", help="every step of the build, as its log tells it")
    _page_option(parser)


def _export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        help="PyTorch: FILE.py:NAME (a function that returns (module, example)), .pt2, TorchScript. "
        "Paddle: .pdmodel, .json or their folder. TensorFlow: SavedModel's folder, .keras, .h5, frozen .pb",
    )
    parser.add_argument(
        "--from",
        dest="framework",
        metavar="FRAMEWORK",
        help="torch, paddle or tensorflow (default: by the source)",
    )
    parser.add_argument("--output", "-o", metavar="FILE.onnx", help="default: in the workbench's own folder")
    parser.add_argument("--opset", type=_positive, default=17, help="default 17, the newest that TensorRT 8.6 reads")
    parser.add_argument("--exporter", default="dynamo", help="PyTorch's: dynamo (default) or classic")
    parser.add_argument(
        "--open", action="append", default=[], metavar="INPUT:AXIS=NAME", help="PyTorch: leave this dimension open"
    )
    parser.add_argument("--inputs", default="", help="frozen .pb: names, with commas")
    parser.add_argument("--outputs", default="", help="TensorFlow: names, with commas")
    parser.add_argument(
        "--shapes", action="append", default=[], metavar="INPUT:SHAPE",
        help="compare at these shapes, such as x:1x3x224x224; an input given again starts another set",
    )  # fmt: skip
    parser.add_argument("--trust", action="store_true", help="read a .pt2 although code of whoever wrote it runs")
    parser.add_argument("--yes", action="store_true", help="make the converter's environment if it is not there yet")
    parser.add_argument("--verbose", action="store_true", help="print the converter's log on stderr")


def _model_options(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    parser.add_argument("model", nargs=nargs, help="ONNX file")
    parser.add_argument(
        "--dim", action="append", default=[], metavar="NAME=SIZE",
        help="change a dimension first: batch=4 fixes, batch=n renames, INPUT:AXIS=NAME opens; may be repeated",
    )  # fmt: skip


def _shape_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shapes", action="append", default=[], metavar="INPUT:MIN,OPT,MAX",
        help="such as image:1x3x64x64,4x3x224x224,8x3x640x640; once for every input with open dimensions; "
        "an input given again starts another optimization profile",
    )  # fmt: skip


def _run_options(parser: argparse.ArgumentParser, iterations: int) -> None:
    parser.add_argument("--feeds", metavar="FILE.npz", help="inputs by name (default: random ones, always the same)")
    parser.add_argument("--iterations", type=_positive, default=iterations, help=f"timed runs (default {iterations})")
    parser.add_argument("--threads", type=_positive, help="processors one run may use (default: all)")


def _build_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", type=str.lower, help="rtx or onnxruntime (default: the first that can do it here)")
    parser.add_argument("--precision", type=str.lower, help=f"one of {', '.join(PRECISIONS)} (default fp32)")
    _shape_option(parser)
    parser.add_argument("--workspace", type=_size, metavar="SIZE", help="most memory a layer may use, such as 1G")
    parser.add_argument("--targets", default="", help="GPUs to build for, such as sm86,sm89 (default: a portable set)")
    parser.add_argument("--convert-io", action="store_true", help="inputs and outputs take the lower precision too")


def _output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-reuse", action="store_true", help="build even if a stored engine fits, and replace it")
    parser.add_argument("--output", metavar="FILE", help="put a copy of the plan there")
    parser.add_argument("--verbose", action="store_true", help="print the whole build log on stderr")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def _positives(text: str) -> list[int]:
    return [_positive(part) for part in text.split(",")]


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
