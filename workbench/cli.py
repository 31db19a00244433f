"""The command line: the same verbs for the shell and CI. Answers on stdout (--json: one object), all else on stderr."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from workbench import backends
from workbench.accuracy import compare_outputs
from workbench.building import Built, build, check_support
from workbench.engine import Engine, open_engine
from workbench.errors import BackendError, ConfigError, FeedError, WorkbenchError
from workbench.machine import this_machine
from workbench.model import Model, edit, load_model
from workbench.profiles import format_shapes, opt_shapes, parse_shapes
from workbench.store import EngineStore
from workbench.timing import Measurement, measure, random_feeds
from workbench.types import PRECISIONS, BuildConfig, LogLine, Progress, TensorSpec, parse_size


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
    print(json.dumps(data, indent=1) if options.json else text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="workbench", description="From an ONNX model to a fast, trusted NVIDIA engine."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], tuple[Any, str]], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--json", action="store_true", help="print one JSON value")
        added.set_defaults(run=run)
        return added

    command("backends", _backends, "what each back end can do on this machine")

    inspect = command("inspect", _inspect, "inputs, outputs, operators of a model, and which back end takes it")
    _model_options(inspect)

    building = command("build", _build, "build an engine, or reuse the stored one")
    _model_options(building)
    _build_options(building)
    building.add_argument("--no-reuse", action="store_true", help="build even if a stored engine fits, and replace it")
    building.add_argument("--verbose", action="store_true", help="print the whole build log on stderr")

    bench = command("bench", _bench, "build or reuse an engine and measure its latency")
    bench.add_argument("model", nargs="?", help="ONNX file; leave it out with --engine")
    bench.add_argument("--dim", action="append", default=[], metavar="NAME=SIZE", help=argparse.SUPPRESS)
    _build_options(bench)
    bench.add_argument("--engine", metavar="KEY|FOLDER", help="a stored engine by its key, or an engine's folder")
    bench.add_argument("--trust", action="store_true", help="open the folder although this store did not build it")
    bench.add_argument("--iterations", type=_positive, default=100, help="timed runs (default 100)")
    bench.add_argument("--warmup", type=_positive, default=10, help="runs before the clock starts (default 10)")
    bench.add_argument("--threads", type=_positive, help="processors one run may use (default: all)")

    compare = command("compare", _compare, "outputs and latency of one model on two back ends or precisions")
    _model_options(compare)
    compare.add_argument("reference", nargs="?", default="onnxruntime:fp32", metavar="BACKEND:PRECISION")
    compare.add_argument("other", nargs="?", default="onnxruntime:fp16", metavar="BACKEND:PRECISION")
    _shape_option(compare)
    compare.add_argument("--feeds", metavar="FILE.npz", help="inputs by name (default: random ones, always the same)")
    compare.add_argument("--iterations", type=_positive, default=20, help="timed runs of each (default 20)")
    compare.add_argument("--threads", type=_positive, help="processors one run may use (default: all)")

    engines = command("engines", _engines, "list, remove or prune stored engines")
    engines.add_argument("--remove", metavar="KEY", help="forget the engine with this key")
    engines.add_argument("--prune", metavar="SIZE", type=_size, help="remove the longest unused until SIZE is left: 2G")
    return parser


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="ONNX file")
    parser.add_argument(
        "--dim", action="append", default=[], metavar="NAME=SIZE",
        help="fix or rename a dimension first: batch=4, batch=n, or INPUT:AXIS=SIZE; may be repeated",
    )  # fmt: skip


def _shape_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shapes", action="append", nargs="+", default=[], metavar="INPUT:MIN,OPT,MAX",
        help="one optimization profile, such as image:1x3x64x64,4x3x224x224,8x3x640x640; repeat for further profiles",
    )  # fmt: skip


def _build_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", help="rtx or onnxruntime (default: the first that fits)")
    parser.add_argument("--precision", default="fp32", help=f"one of {', '.join(PRECISIONS)} (default fp32)")
    _shape_option(parser)
    parser.add_argument("--workspace", type=_size, metavar="SIZE", help="most memory a layer may use, such as 1G")
    parser.add_argument("--targets", default="", help="GPUs to build for, such as sm86,sm89 (default: a portable set)")
    parser.add_argument("--convert-io", action="store_true", help="inputs and outputs take the lower precision too")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


# ---- commands: each returns what --json prints and what people read


def _backends(options: argparse.Namespace) -> tuple[Any, str]:
    found = backends.available()
    rows: list[tuple[str, ...]] = [("back end", "release", "builds", "runs", "precisions")]
    notes = []
    for name, item in found.items():
        yes_no = ["yes" if answer else "no" for answer in (item.can_build, item.can_run)]
        rows.append((name, item.release or "-", *yes_no, " ".join(item.precisions)))
        notes += [f"{name}: {reason}" for reason in dict.fromkeys((item.build_reason, item.run_reason)) if reason]
    data = {"machine": this_machine().to_json(), "backends": {name: asdict(item) for name, item in found.items()}}
    return data, "\n".join([str(this_machine()), "", _table(rows), "", *notes]).rstrip()


def _inspect(options: argparse.Namespace) -> tuple[Any, str]:
    model = _load(options)
    answers: dict[str, dict[str, Any]] = {}
    for name, here in backends.available().items():
        if not here.can_build:
            answers[name] = {"supported": None, "reasons": [here.build_reason]}
            continue
        support = check_support(model, name)
        reasons = [f"{item.node} ({item.op_type}): {item.reason}" for item in support.refusals[:5]]
        answers[name] = {"supported": support.supported, "refused": len(support.refusals), "reasons": reasons}
    data = {
        "model": str(model.path),
        "sha256": model.sha256,
        "producer": model.producer,
        "opset": model.opset,
        "parameters": model.parameters,
        "inputs": [_spec(spec) for spec in model.inputs],
        "outputs": [_spec(spec) for spec in model.outputs],
        "nodes": len(model.nodes),
        "ops": model.operators,
        "backends": answers,
    }
    return data, _inspect_text(model, answers)


def _inspect_text(model: Model, answers: dict[str, dict[str, Any]]) -> str:
    lines = [f"{model.path.name}: {len(model.nodes)} nodes, opset {model.opset}, {model.parameters:,} parameters"]
    lines += [f"  input   {spec}" for spec in model.inputs] + [f"  output  {spec}" for spec in model.outputs]
    lines.append("  " + ", ".join(f"{count} {name}" for name, count in model.operators.items()))
    for name, answer in answers.items():
        word = {True: "takes every node", False: "refuses nodes:", None: "cannot be used:"}[answer["supported"]]
        lines.append(" ".join([name, word, "; ".join(answer["reasons"])]).rstrip())
    return "\n".join(lines)


def _build(options: argparse.Namespace) -> tuple[Any, str]:
    built = _built(_load(options), _config(options), options.backend, not options.no_reuse, options.verbose)
    engine = built.engine
    text = f"{built}\n{engine.plan_path}"
    if built.why_missed:
        text += f"\nnot reused: {built.why_missed}"
    shapes = [format_shapes(profile) for profile in engine.profiles]
    if shapes and not options.shapes:
        text += f"\nopen dimensions: no --shapes was given, so the engine takes {' '.join(shapes[0])}"
    return {
        "engine": str(engine.plan_path),
        "key": engine.key,
        "reused": built.reused,
        "why_missed": built.why_missed,
        "build_s": engine.build_s,
        "elapsed_s": round(built.elapsed_s, 4),
        "backend": engine.backend,
        "release": engine.release,
        "precision": engine.precision,
        "targets": list(engine.targets),
        "shapes": shapes,
        "plan_bytes": engine.plan_bytes,
        "layers": engine.layers,
        "nodes": engine.nodes,
        "nodes_covered": engine.nodes_covered,
    }, text


def _bench(options: argparse.Namespace) -> tuple[Any, str]:
    if bool(options.engine) == bool(options.model):
        raise ConfigError("bench measures a model or an engine: give an ONNX file, or --engine KEY.")
    store = EngineStore()
    if options.engine:
        folder = Path(options.engine)
        engine = store.load(folder, trust=options.trust) if folder.is_dir() else store.by_prefix(options.engine)
        config = _config(options)
    else:
        model, config = _load(options), _config(options)
        engine = _built(model, config, options.backend or _runner(), True, False).engine
    measured = _measure(engine, config, options)
    data = {
        "median_ms": measured.median_ms,
        "p99_ms": measured.p99_ms,
        "mean_ms": measured.mean_ms,
        "iterations": len(measured.times_ms),
        "warmup": measured.warmup,
        "batch": measured.batch,
        "throughput_per_s": measured.throughput_per_s,
        "clock": measured.clock,
        "backend": engine.backend,
        "release": engine.release,
        "precision": engine.precision,
        "key": engine.key,
        "machine": measured.machine.to_json(),
    }
    text = (
        f"{engine.model_name} {engine.precision} on {engine.backend} {engine.release}: median {measured.median_ms:.3f} ms, "
        f"p99 {measured.p99_ms:.3f} ms, {measured.throughput_per_s:,.0f}/s at batch {measured.batch}\n"
        f"{len(measured.times_ms)} runs after {measured.warmup}; {measured.clock}\n{measured.machine}"
    )
    return data, text


def _compare(options: argparse.Namespace) -> tuple[Any, str]:
    model = _load(options)
    profiles = tuple(parse_shapes(texts) for texts in options.shapes)
    outputs, measured = [], []
    for wanted in (options.reference, options.other):
        name, _, precision = wanted.partition(":")
        config = BuildConfig(precision=precision or "fp32", profiles=profiles)
        engine = _built(model, config, name, True, False).engine
        with open_engine(engine, threads=options.threads) as session:
            feeds = _feeds(options.feeds) or random_feeds(session, opt_shapes(session.inputs, profiles))
            outputs.append(session.run(feeds))
            measured.append(measure(session, feeds, iterations=options.iterations))
    differences = compare_outputs(*outputs)
    rows = [("output", "largest difference", "relative", "cosine", "same argmax")]
    for item in differences:
        agreement = "-" if item.argmax_agreement is None else f"{item.argmax_agreement:.2%}"
        rows.append((item.output, f"{item.max_abs:.3g}", f"{item.relative:.3g}", f"{item.cosine:.6f}", agreement))
    medians = [item.median_ms for item in measured]
    data = {
        "reference": options.reference,
        "other": options.other,
        "outputs": [asdict(item) for item in differences],
        "reference_median_ms": medians[0],
        "other_median_ms": medians[1],
        "clock": measured[0].clock,
        "machine": measured[0].machine.to_json(),
    }
    text = f"{options.reference} {medians[0]:.3f} ms, {options.other} {medians[1]:.3f} ms (medians)\n{_table(rows)}"
    return data, text


def _engines(options: argparse.Namespace) -> tuple[Any, str]:
    store = EngineStore()
    removed: tuple[Engine, ...] = ()
    if options.remove:
        removed = (store.by_prefix(options.remove),)
        store.remove(removed[0])
    if options.prune is not None:
        removed += store.prune(options.prune)
    found = store.engines()
    rows = [("key", "model", "back end", "precision", "MB", "built (UTC)")]
    for item in found:
        built_at = item.built_at[:16].replace("T", " ")
        rows.append(
            (item.key[:8], item.model_name, item.backend, item.precision, f"{item.size_bytes / 1e6:.1f}", built_at)
        )
    data = {
        "folder": str(store.folder),
        "size_bytes": store.size_bytes(),
        "removed": [item.key for item in removed],
        "engines": [
            {
                "key": item.key, "model": item.model_name, "backend": item.backend, "release": item.release,
                "precision": item.precision, "targets": list(item.targets), "plan_bytes": item.plan_bytes,
                "size_bytes": item.size_bytes, "built_at": item.built_at, "engine": str(item.plan_path),
            }
            for item in found
        ],
    }  # fmt: skip
    lines = [_table(rows)] if found else ["no engines yet"]
    lines += [f"removed {item.key[:8]} ({item.model_name} {item.precision})" for item in removed]
    return data, "\n".join([*lines, f"{store.folder}: {store.size_bytes() / 1e6:,.1f} MB"])


# ---- shared steps


def _load(options: argparse.Namespace) -> Model:
    model = load_model(options.model)
    for change in options.dim:
        model = edit(model, change)
    return model


def _config(options: argparse.Namespace) -> BuildConfig:
    return BuildConfig(
        precision=options.precision,
        profiles=tuple(parse_shapes(texts) for texts in options.shapes),
        workspace_bytes=options.workspace,
        targets=tuple(name for name in options.targets.lower().split(",") if name),
        keep_io_types=not options.convert_io,
    )


def _runner() -> str:
    """The first back end that can build and run here."""
    for name, support in backends.available().items():
        if support.can_build and support.can_run:
            return name
    raise BackendError("no back end can run engines on this machine.")


def _built(model: Model, config: BuildConfig, backend: str | None, reuse: bool, verbose: bool) -> Built:
    return build(model, config, backend, reuse=reuse, listener=_Printer(verbose))


def _measure(engine: Engine, config: BuildConfig, options: argparse.Namespace) -> Measurement:
    with open_engine(engine, threads=options.threads) as session:
        feeds = random_feeds(session, opt_shapes(session.inputs, config.profiles))
        return measure(session, feeds, iterations=options.iterations, warmup=options.warmup)


def _feeds(path: str | None) -> dict[str, np.ndarray] | None:
    if path is None:
        return None
    try:
        with np.load(path) as file:
            return dict(file)
    except (OSError, ValueError) as error:
        raise FeedError(f"{path}: cannot be read as .npz with one array per input: {error}") from error


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "dtype": spec.dtype,
        "shape": [dim if isinstance(dim, int) else None for dim in spec.shape],
        "dims": [None if dim is None else str(dim) for dim in spec.shape],
    }


class _Printer:
    """Shows a build on stderr: its phase in place on a terminal, its log with --verbose."""

    def __init__(self, verbose: bool) -> None:
        self.verbose = verbose
        self.in_place = sys.stderr.isatty() and not verbose

    def __call__(self, event: Progress | LogLine) -> None:
        if isinstance(event, LogLine):
            if self.verbose:
                print(f"{event.severity:8}{event.text}", file=sys.stderr)
        elif self.in_place:
            share = f" {event.done}/{event.total}" if event.total else ""
            end = "\r" if event.parent or not event.finished else "\r\x1b[K"
            print(f"\r\x1b[K{event.phase}{share}", end=end, file=sys.stderr, flush=True)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
