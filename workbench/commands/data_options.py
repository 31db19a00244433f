"""Options of the commands that read samples: calibration, and the steps of Paddle's tutorial."""

from __future__ import annotations

import argparse

from workbench.commands.options import count, positive, positives, seconds, size
from workbench.evaluation import METRICS
from workbench.preprocessing import CHANNELS, RESIZES
from workbench.types import COMPUTED, TABLE_FORMATS


def data_options(parser: argparse.ArgumentParser) -> None:
    """What a model is fed with, and how pictures become inputs."""
    parser.add_argument(
        "--data", required=True, metavar="DIR|FILE",
        help="folder of pictures (labels by class subfolders or val_list.txt), .npz or .npy, IDX files as MNIST's, "
        "or Paddle's binary data set",
    )  # fmt: skip
    picture_options(parser)


def picture_options(parser: argparse.ArgumentParser) -> None:
    """How pictures become inputs."""
    parser.add_argument("--strict", action="store_true", help="a picture that cannot be read is an error")
    group = parser.add_argument_group(
        "pictures", "default: as Paddle's configuration beside the model says, else by the model's input"
    )
    group.add_argument("--size", metavar="HxW", help="such as 224x224")
    group.add_argument("--resize", choices=RESIZES, help="how a picture gets that size")
    group.add_argument("--resize-to", type=positive, metavar="N", help="the side that --resize shorter and longer make")
    group.add_argument("--channels", choices=CHANNELS)
    group.add_argument("--scale", type=float, help="pixels are multiplied by it first (default 1/255)")
    group.add_argument("--mean", metavar="A,B,C", help="what is then taken away from each channel")
    group.add_argument("--std", metavar="A,B,C", help="what each channel is then divided by")


def scheduler_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup, what: str) -> None:
    """what: is done with the workers."""
    parser.add_argument(
        "--scheduler", metavar="ADDRESS",
        help=f"{what} a Dask cluster's workers, such as those of tcp://host:8786; local or local:N starts some here "
        "(default: this process)",
    )  # fmt: skip


def calibrate_options(parser: argparse.ArgumentParser) -> None:
    data_options(parser)
    parser.add_argument("--samples", type=count, default=512, help="how many, spread over all (default 512; 0: all)")
    parser.add_argument("--skip", type=count, default=0, metavar="N", help="leave out the first N, to test on them")
    scheduler_option(parser, "spread them, to the end, over")
    parser.add_argument("--shard", metavar="I/N", default="1/1", help="only the I-th of N parts; merge them afterwards")
    parser.add_argument(
        "--output", "-o", required=True, metavar="FILE",
        help="FILE.calib keeps everything; .cache (TensorRT), .txt (ranges), .json (ONNX Runtime) or .onnx (Q/DQ) is "
        "written beside one",
    )  # fmt: skip
    algorithm_options(parser)
    parser.add_argument("--budget", type=size, default="128M", help="memory for activations (default 128M)")
    parser.add_argument("--to-the-end", action="store_true", help="collect all samples, also when ranges have settled")
    parser.add_argument("--verbose", action="store_true", help="print every step on stderr")


def sensitivity_options(parser: argparse.ArgumentParser) -> None:
    data_options(parser)
    parser.add_argument(
        "--calibration", required=True, metavar="FILE", help="a collection (.calib) or a table of any kind"
    )
    parser.add_argument("--algorithm", choices=COMPUTED, help="from a collection (default entropy)")
    parser.add_argument("--samples", type=count, default=64, help="for each layer (default 64; 0: all)")
    parser.add_argument("--max-drop", type=float, default=0.2, metavar="X", help="most points to lose (default 0.2)")
    parser.add_argument(
        "--metric", choices=METRICS, default="", help="(default: top1 with labels, else argmax, else relative)"
    )
    parser.add_argument("--verbose", action="store_true", help="print every step on stderr")


def benchmark_options(parser: argparse.ArgumentParser) -> None:
    contest_options(parser, batches="sizes to measure at")
    parser.add_argument(
        "--iterations",
        type=positive,
        default=1000,
        help="timed runs of each (default 1000, as the tutorial takes)",
    )
    parser.add_argument(
        "--seconds",
        type=seconds,
        default=10.0,
        metavar="S",
        help="about how long each may take at most (default 10)",
    )
    picture_options(parser)


def accuracy_options(parser: argparse.ArgumentParser) -> None:
    contest_options(parser, batches="how many pictures run at once")
    parser.add_argument(
        "--max-drop", type=float, metavar="X", help="exit 1 if one loses more points against the first, as measured"
    )
    parser.add_argument(
        "--metric", choices=METRICS, default="",
        help="what --max-drop is told in (default: top1 with labels, else argmax, else relative)",
    )  # fmt: skip
    scheduler_option(parser, "spread the pictures over")
    picture_options(parser)


def source_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL_DIR",
        help="ONNX file or folder with one, or a Paddle model, which is exported first: its folder, .pdmodel or .json",
    )  # fmt: skip
    parser.add_argument(
        "--dim", action="append", default=[], metavar="NAME=SIZE", help="change a dimension first; as for `inspect`"
    )
    parser.add_argument("--yes", action="store_true", help="make Paddle's environment if it is not there yet")


def contest_options(parser: argparse.ArgumentParser, batches: str) -> None:
    """batches: what --batch-size is for."""
    source_options(parser)
    parser.add_argument(
        "data", metavar="DATA",
        help="Paddle's binary data set (`workbench dataset` writes one), a folder of pictures with class subfolders or "
        "val_list.txt, .npz or .npy, IDX files as MNIST's",
    )  # fmt: skip
    parser.add_argument(
        "--backend", action="append", default=[], metavar="NAME[,NAME...]",
        help="tensorrt, rtx, onnxruntime, or paddle: the Paddle model in Paddle itself. Others are compared with the "
        "first one (default: what can run here)",
    )  # fmt: skip
    parser.add_argument(
        "--precision", action="append", default=[], metavar="NAME[,NAME...]",
        help="(default: fp32, and int8 with --calibration or for a model that brings its ranges along)",
    )  # fmt: skip
    parser.add_argument("--calibration", metavar="FILE", help="for int8: a collection, or a table of any form")
    parser.add_argument(
        "--batch-size",
        type=positives,
        metavar="N[,N...]",
        help=f"{batches} (default 1, or what the model fixes)",
    )
    parser.add_argument("--samples", type=count, default=0, metavar="N", help="so many, spread over all (default: all)")
    parser.add_argument("--threads", type=positive, help="processors one run may use (default: all)")
    parser.add_argument("--verbose", action="store_true", help="print every step on stderr")


def algorithm_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--algorithm", choices=COMPUTED, help="from a collection (default entropy)")
    parser.add_argument("--to", choices=TABLE_FORMATS, help="form of the file to write (default: by its name)")
    parser.add_argument("--release", default="", help="of the TensorRT that a cache is for, such as 10.3 (default 8.6)")
