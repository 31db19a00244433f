"""Options that several commands share, and those of the commands that have many."""

from __future__ import annotations

import argparse

from workbench.errors import ConfigError
from workbench.runs import KINDS
from workbench.subgraphs.releases import RELEASES
from workbench.types import CALIBRATORS, PRECISIONS, Calibration, parse_size

BUILDER_FLAGS = {
    "optimization_level": "--opt-level",
    "tactic_sources": "--tactic-sources",
    "memory_pools": "--pool",
    "timing_cache": "--no-timing-cache",
    "version_compatible": "--version-compatible",
    "refittable": "--refittable",
    "strip_weights": "--strip-weights",
    "dla_core": "--dla",
    "layer_precisions": "--layer-precision",
}
"""How the fields of BuilderOptions are called here."""


def page_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--html", metavar="FILE.html", help="draw it there, before and after, as a page by itself")


def native_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--disable-ops", action="append", default=[], metavar="NAME[,NAME...]",
        help="leave these operators, or nodes of these names, native",
    )  # fmt: skip
    parser.add_argument("--release", help=f"leave native also what TensorRT {' or '.join(RELEASES)} lacks")


def fusion_options(parser: argparse.ArgumentParser) -> None:
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
    page_option(parser)


def export_options(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument("--opset", type=positive, default=17, help="default 17, the newest that TensorRT 8.6 reads")
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


def model_options(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    parser.add_argument("model", nargs=nargs, help="ONNX file")
    parser.add_argument(
        "--dim", action="append", default=[], metavar="NAME=SIZE",
        help="change a dimension first: batch=4 fixes, batch=n renames, INPUT:AXIS=NAME opens; may be repeated",
    )  # fmt: skip


def shape_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shapes", action="append", default=[], metavar="INPUT:MIN,OPT,MAX",
        help="such as image:1x3x64x64,4x3x224x224,8x3x640x640; once for every input with open dimensions; "
        "an input given again starts another optimization profile; of an input that holds sizes also the content, "
        "in brackets: size:[64x64],[320x320],[640x640]",
    )  # fmt: skip


def run_options(parser: argparse.ArgumentParser, iterations: int) -> None:
    parser.add_argument("--feeds", metavar="FILE.npz", help="inputs by name (default: random ones, always the same)")
    parser.add_argument("--iterations", type=positive, default=iterations, help=f"timed runs (default {iterations})")
    parser.add_argument("--threads", type=positive, help="processors one run may use (default: all)")


def bench_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--warmup", type=positive, metavar="N", help="runs before the clock starts (default: until the times settle)"
    )
    parser.add_argument("--limit-s", type=seconds, metavar="S", help="about how long it may take; five runs at least")
    parser.add_argument("--no-cuda-graph", action="store_true", help="on a GPU: launch every kernel, replay no graph")
    parser.add_argument("--profile", metavar="FILE.json", help="time each layer too, for `workbench fusion KEY`")
    parser.add_argument("--batches", type=positives, metavar="N[,N...]", help="throughput at these batches")
    parser.add_argument(
        "--streams", type=positives, metavar="N[,N...]",
        help="throughput with so many sessions beside each other; on a processor with one thread each",
    )  # fmt: skip
    group = parser.add_argument_group("baselines", "`workbench runs names` lists them")
    group.add_argument("--name", metavar="NAME", help="make this run the baseline of this name")
    group.add_argument("--against", metavar="BASELINE", help="compare with it; exit 1 where it is surely slower")
    group.add_argument("--max-slowdown", metavar="5%", help="by how much it may be slower (default 5%%)")


def compare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "engines", nargs="*", metavar="BACKEND:PRECISION",
        help="the reference first; one alone is compared with fp32; plain is ONNX Runtime as it comes "
        "(default: onnxruntime:fp32 onnxruntime:fp16)",
    )  # fmt: skip
    parser.add_argument("--calibration", metavar="FILE", help="for int8, unless the model brings its ranges along")
    parser.add_argument("--limit-s", type=seconds, metavar="S", help="about how long each may take")
    parser.add_argument("--max-relative", type=float, metavar="X", help="exit 1 if an output differs by more, as 0.01")
    parser.add_argument("--output", "-o", metavar="FILE.json.gz", help="keep the study with its raw times there")
    parser.add_argument("--where", action="store_true", help="of two engines: the first tensor in which they part")
    parser.add_argument(
        "--every-tensor", action="store_true", help="with --where: expose all tensors, although that changes the fusion"
    )


def backend_option(parser: argparse.ArgumentParser, names: str) -> None:
    parser.add_argument("--backend", type=str.lower, help=f"{names} (default: the first that can do it here)")


def build_options(parser: argparse.ArgumentParser) -> None:
    backend_option(parser, "tensorrt, rtx or onnxruntime")
    parser.add_argument("--precision", type=str.lower, help=f"one of {', '.join(PRECISIONS)} (default fp32)")
    shape_option(parser)
    target_options(parser)
    parser.add_argument("--convert-io", action="store_true", help="inputs and outputs take the lower precision too")
    parser.add_argument(
        "--calibration", metavar="FILE",
        help="for int8: a collection, a calibration table of any form, or .npz with samples, one array per input",
    )  # fmt: skip
    parser.add_argument(
        "--calibrator", type=str.lower,
        help=f"how ranges are found, unless by a table: {', '.join(CALIBRATORS)} (default {Calibration.algorithm})",
    )  # fmt: skip
    group = builder_options(parser)
    group.add_argument(
        "--strip-weights",
        action="store_true",
        help="a plan without weights, for programs that put them in; it cannot be run here",
    )
    group.add_argument(
        "--layer-precision", action="append", default=[], metavar="NODE=PRECISION",
        help="keep this ONNX node in another precision, such as /head/Softmax=fp32; may be repeated",
    )  # fmt: skip


def runs_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="*", metavar="VERB",
        help="list (default); show ID; diff ID ID; export FILE.csv|FILE.json; name NAME ID|STUDY (a baseline); names; "
        "forget ID|NAME. The beginning of an ID will do",
    )  # fmt: skip
    group = parser.add_argument_group("which runs, for list and export")
    group.add_argument("--kind", default="", choices=KINDS)
    group.add_argument("--model", default="", metavar="NAME|HASH", help="by name, or the first 8 digits of its hash")
    group.add_argument("--precision", default="", type=str.lower)
    group.add_argument("--backend", default="", type=str.lower)
    group.add_argument("--machine", default="", metavar="ID|WORDS", help="by its id, or words of its name, as H200")
    group.add_argument("--study", default="", metavar="ID", help="what was measured in turns")
    group.add_argument("--search", default="", metavar="WORDS", help="in model, subject, configuration and machine")
    group.add_argument("--since", default="", metavar="WHEN", help="2026-11-20, 2026-11-20T14:30 (UTC), 12h, 7d")
    group.add_argument("--limit", type=count, metavar="N", help="the newest N; 0: all (default: list 50, export all)")


def report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", metavar="RUN",
        help="id of a run, a study or a search, or its beginning; a baseline's name; a saved study's or search's file. "
        "A run of a study brings the whole study",
    )  # fmt: skip
    parser.add_argument(
        "--output", "-o", required=True, metavar="FILE", help=".html: a page that needs nothing else; .md: short"
    )
    parser.add_argument("--title", default="", help="(default: names the model)")


def target_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workspace", type=size, metavar="SIZE", help="most memory a layer may use, such as 1G")
    parser.add_argument(
        "--targets", default="",
        help="what to build for. tensorrt: gpu (the model that is here, default), ampere+ or same-cc. "
        "rtx: such as sm86,sm89 (default: a portable set)",
    )  # fmt: skip


def builder_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("for NVIDIA's builder", "`workbench backends` tells what each back end takes")
    group.add_argument(
        "--opt-level", metavar="N", help="0 builds quickest, 5 searches longest (default: TensorRT's, 3)"
    )
    group.add_argument(
        "--tactic-sources", default="", metavar="NAME[,NAME...]",
        help="take kernels from these only, such as cublas,jit_convolutions",
    )  # fmt: skip
    group.add_argument(
        "--pool", action="append", default=[], metavar="NAME=SIZE",
        help="most memory of another pool than the workspace, such as tactic_dram=2G; may be repeated",
    )  # fmt: skip
    group.add_argument("--no-timing-cache", action="store_true", help="measure every kernel anew")
    group.add_argument("--version-compatible", action="store_true", help="later releases can open the plan too")
    group.add_argument("--refittable", action="store_true", help="the weights can be exchanged later")
    group.add_argument("--dla", metavar="CORE", help="run on this DLA core what it can, the rest on the GPU")
    return group


def output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-reuse", action="store_true", help="build even if a stored engine fits, and replace it")
    parser.add_argument("--output", metavar="FILE", help="put a copy of the plan there")
    parser.add_argument("--verbose", action="store_true", help="print the whole build log on stderr")


def deploy_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engine", metavar="KEY|FOLDER", help="a stored engine, or the folder of one")
    parser.add_argument("--to", required=True, choices=("triton", "python", "cpp"), help="what shall run it")
    parser.add_argument("--output", "-o", required=True, metavar="FOLDER", help="a new folder, or an empty one")
    parser.add_argument("--trust", action="store_true", help="open the folder although this store did not build it")
    parser.add_argument(
        "--feeds", metavar="IN.npz",
        help="inputs of the test vector by name (default: random ones in the shapes that the engine is tuned for)",
    )  # fmt: skip
    parser.add_argument(
        "--expected", metavar="OUT.npz",
        help="outputs for --feeds (default: what the engine gives here, else the model in ONNX Runtime)",
    )  # fmt: skip
    parser.add_argument(
        "--tolerance", type=float, metavar="X",
        help="largest norm of the difference over the norm that passes, such as 0.01 (default: by the precision)",
    )  # fmt: skip
    parser.add_argument("--name", default="", help="what the model is called where it is served (default: its file's)")
    parser.add_argument("--max-batch", type=count, metavar="N", help="triton: the largest batch; 0 joins no requests")


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)


def seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return found


def positives(text: str) -> list[int]:
    return [positive(part) for part in text.split(",")]


def size(text: str) -> int:
    try:
        return parse_size(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
