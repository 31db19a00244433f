"""Options of `workbench tune` and `workbench traffic`."""

from __future__ import annotations

import argparse

from workbench.commands import data_options, options
from workbench.evaluation import METRICS


def tune_options(parser: argparse.ArgumentParser) -> None:
    options.model_options(parser)
    goals = parser.add_argument_group("what matters")
    goals.add_argument(
        "--objective", default="latency,accuracy", metavar="NAME[,NAME...]",
        help="what shall be good, the one that matters most first: latency, throughput, accuracy, size, memory "
        "(default latency,accuracy)",
    )  # fmt: skip
    goals.add_argument(
        "--limit", action="append", default=[], metavar="LIMIT",
        help="what must hold, such as accuracy<=0.2 (points lost), top1<=0.2, latency<=2 (ms), throughput>=500, "
        "size<=10M, memory<=1G; may be repeated",
    )  # fmt: skip
    goals.add_argument(
        "--metric", choices=METRICS, default="", help="of accuracy (default: top1 with labels, else argmax, relative)"
    )
    _space_options(parser.add_argument_group("what is allowed"))
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data", metavar="DIR|FILE",
        help="pictures or arrays, for accuracy and for int8's ranges, which are taken from others than the accuracy",
    )  # fmt: skip
    data.add_argument("--calibration", metavar="FILE", help="ranges for int8 that are there: a collection or a table")
    data.add_argument("--calibrated", type=options.positive, default=256, metavar="N", help="for ranges (default 256)")
    data.add_argument(
        "--compared", type=options.count, default=1000, metavar="N", help="for accuracy (default 1000; 0: all others)"
    )
    data_options.picture_options(parser)
    work = parser.add_argument_group("how long, and where")
    work.add_argument("--trials", type=options.positive, metavar="N", help="in all (default 25, without --minutes)")
    work.add_argument(
        "--minutes", type=minutes, metavar="M",
        help="of trials in this call, once int8's ranges are found; what was begun is finished",
    )  # fmt: skip
    work.add_argument("--limit-s", type=options.seconds, metavar="S", help="about how long each is timed (default 1.5)")
    work.add_argument(
        "--sampler", choices=("auto", "grid", "tpe", "nsga2", "random"), default="auto",
        help="auto: all of few candidates, else what Optuna's estimator proposes",
    )  # fmt: skip
    work.add_argument("--finals-again", action="store_true", help="measure the same finalists in turns once more")
    data_options.scheduler_option(work, "try candidates on")
    parser.add_argument(
        "--output", "-o", metavar="FILE", help="the report, .html or .md (default: in the workbench's own folder)"
    )
    parser.add_argument("--save", metavar="FILE.json.gz", help="keep the whole search there")
    parser.add_argument("--verbose", action="store_true", help="print every step on stderr")


def minutes(text: str) -> float:
    try:
        return options.seconds(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above 0") from None


def _space_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--backend", default="", metavar="NAME[,NAME...]", help="(default: all that can run there)")
    group.add_argument("--precision", default="", metavar="NAME[,NAME...]", help="(default: fp32,fp16, int8 with data)")
    group.add_argument(
        "--space", action="append", default=[], metavar="KNOB=VALUE[,VALUE...]",
        help="values of a knob, the usual one first: algorithm, in-float (layers), min-subgraph-size, workspace, "
        "level, tactic-sources, batch, cuda-graph, threads; such as batch=1,8 or threads=default,1; may be repeated",
    )  # fmt: skip
    group.add_argument(
        "--traffic", metavar="LOG",
        help="a log of input shapes: sets of optimization profiles for it are searched, too; see `workbench traffic`",
    )  # fmt: skip
    group.add_argument(
        "--shapes", action="append", default=[], metavar="INPUT:SHAPE",
        help="what is timed, where data do not tell: its opt shapes",
    )  # fmt: skip


def traffic_options(parser: argparse.ArgumentParser) -> None:
    """Of `workbench traffic`."""
    options.model_options(parser)
    parser.add_argument(
        "log", metavar="LOG",
        help='one request a line: x:1x3x640x640 (and *12: so often), or {"x": [1, 3, 640, 640], "count": 12}, or CSV',
    )  # fmt: skip
    parser.add_argument("--profiles", type=options.positive, default=4, metavar="K", help="propose 1 to K (default 4)")
    parser.add_argument("--goal", choices=("padding", "latency"), default="padding", help="(default: padding)")
    parser.add_argument(
        "--cost", metavar="FILE.json", help="what sizes take: [[elements, ms], ...], or what `bench --json` printed"
    )
