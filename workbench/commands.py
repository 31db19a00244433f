"""The commands of the shell: each returns what --json prints and the text that people read."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from workbench import building
from workbench.accuracy import compare_outputs
from workbench.backends import Session, available
from workbench.engine import Engine, export_plan, open_engine, read_layers
from workbench.errors import AccuracyError, BackendError, ConfigError, FeedError
from workbench.layers import layers_to_json
from workbench.machine import this_machine, usable_cores
from workbench.model import Model, load_model
from workbench.openings import edit
from workbench.profiles import format_shapes, opt_shapes, parse_profiles
from workbench.reference import random_feeds
from workbench.store import EngineStore
from workbench.terminal import Printer, table
from workbench.timing import format_rate, measure
from workbench.types import BuildConfig, OptimizationProfile, TensorSpec


def backends(options: argparse.Namespace) -> tuple[Any, str]:
    found = available()
    rows: list[tuple[str, ...]] = [("back end", "release", "builds", "runs", "precisions")]
    notes = []
    for name, item in found.items():
        yes_no = ["yes" if answer else "no" for answer in (item.can_build, item.can_run)]
        rows.append((name, item.release or "-", *yes_no, " ".join(item.precisions)))
        notes += [f"{name}: {reason}" for reason in dict.fromkeys((item.build_reason, item.run_reason)) if reason]
    data = {"machine": this_machine().to_json(), "backends": {name: asdict(item) for name, item in found.items()}}
    return data, "\n".join([str(this_machine()), "", table(rows), "", *notes]).rstrip()


def inspect(options: argparse.Namespace) -> tuple[Any, str]:
    model = _load(options)
    answers: dict[str, dict[str, Any]] = {}
    for name, here in available().items():
        if not here.can_build:
            answers[name] = {"supported": None, "reasons": [here.build_reason]}
            continue
        support = building.check_support(model, name)
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


def build(options: argparse.Namespace) -> tuple[Any, str]:
    model, config = _load(options), _config(options)
    built = _built(model, config, options.backend, reuse=not options.no_reuse, verbose=options.verbose)
    engine = built.engine
    plan = export_plan(engine, Path(options.output)) if options.output else engine.plan_path
    text = f"{built}\n{plan}"
    if built.why_missed:
        text += f"\nnot reused: {built.why_missed}"
    shapes = [format_shapes(profile) for profile in engine.config.profiles]
    if shapes and not options.shapes:
        text += f"\nopen dimensions: no --shapes was given, so the engine takes {' '.join(shapes[0])}"
    return {
        "engine": str(plan),
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


def bench(options: argparse.Namespace) -> tuple[Any, str]:
    if bool(options.engine) == bool(options.model):
        raise ConfigError("bench measures a model or an engine: give an ONNX file, or --engine KEY.")
    if options.engine and (options.backend or options.precision or options.targets or options.dim):
        raise ConfigError("an engine is built already: --backend, --precision, --targets and --dim go with a model.")
    config = _config(options)
    if options.engine:
        store, folder = EngineStore(), Path(options.engine)
        engine = store.load(folder, trust=options.trust) if folder.is_dir() else store.by_prefix(options.engine)
    else:
        engine = _built(_load(options), config, options.backend or _runner()).engine
    with open_engine(engine, threads=options.threads) as session:
        feeds = _feeds(options, session, config.profiles or engine.config.profiles)
        measured = measure(session, feeds, iterations=options.iterations, warmup=options.warmup)
    data = {
        "median_ms": measured.median_ms,
        "p99_ms": measured.p99_ms,
        "mean_ms": measured.mean_ms,
        "iterations": len(measured.times_ms),
        "warmup": measured.warmup,
        "batch": measured.batch,
        "shapes": {name: list(shape) for name, shape in measured.shapes.items()},
        "throughput_per_s": measured.throughput_per_s,
        "clock": measured.clock,
        "threads": options.threads or usable_cores(),
        "backend": engine.backend,
        "release": engine.release,
        "precision": engine.precision,
        "key": engine.key,
        "machine": measured.machine.to_json(),
    }
    text = (
        f"{engine.model_name} {engine.precision} on {engine.backend} {engine.release}: "
        f"median {measured.median_ms:.3f} ms, p99 {measured.p99_ms:.3f} ms, "
        f"{format_rate(measured.throughput_per_s)} at {measured.inputs}\n"
        f"{len(measured.times_ms)} runs after {measured.warmup}; {measured.clock}\n{measured.machine}"
    )
    return data, text


def compare(options: argparse.Namespace) -> tuple[Any, str]:
    model = _load(options)
    profiles, pair = parse_profiles(options.shapes), _pair(options.engines)
    outputs, measured = [], []
    for wanted in pair:
        name, _, precision = wanted.partition(":")
        config = BuildConfig(precision=precision or "fp32", profiles=profiles)
        engine = _built(model, config, name).engine
        with open_engine(engine, threads=options.threads) as session:
            feeds = _feeds(options, session, profiles)
            outputs.append(session.run(feeds))
            measured.append(measure(session, feeds, iterations=options.iterations))
    differences = compare_outputs(*outputs)
    rows = [("output", "largest difference", "relative", "cosine", "same argmax")]
    for item in differences:
        agreement = "-" if item.argmax_agreement is None else f"{item.argmax_agreement:.2%}"
        rows.append((item.output, f"{item.max_abs:.3g}", f"{item.relative:.3g}", f"{item.cosine:.6f}", agreement))
    medians = [item.median_ms for item in measured]
    notes = _precision_notes(pair)
    data = {
        "reference": pair[0],
        "other": pair[1],
        "outputs": [_finite(asdict(item)) for item in differences],
        "reference_median_ms": medians[0],
        "other_median_ms": medians[1],
        "notes": notes,
        "shapes": {name: list(shape) for name, shape in measured[0].shapes.items()},
        "clock": measured[0].clock,
        "machine": measured[0].machine.to_json(),
    }
    text = (
        f"{pair[0]} {medians[0]:.3f} ms, {pair[1]} {medians[1]:.3f} ms (medians)\n{table(rows)}\n{measured[0].inputs}"
    )
    text += "".join(f"\nnote: {note}" for note in notes)
    worst = max(differences, key=lambda item: item.relative)
    if options.max_relative is not None and not worst.relative <= options.max_relative:
        allowed = f"{worst.relative:.3g} where {options.max_relative:g} is allowed"
        raise AccuracyError(f"output {worst.output} of {pair[1]} differs by {allowed} (norm of the difference).")
    return data, text


def engines(options: argparse.Namespace) -> tuple[Any, str]:
    store = EngineStore()
    if options.layers:
        return _layers(store.by_prefix(options.layers))
    removed: tuple[Engine, ...] = ()
    if options.remove:
        removed = (store.by_prefix(options.remove),)
        store.remove(removed[0])
    if options.prune is not None:
        removed += store.prune(options.prune)
    found = store.engines()
    rows = [("key", "model", "back end", "precision", "MB", "built (UTC)", "shapes", "runs on")]
    for item in found:
        built_at = item.built_at[:16].replace("T", " ")
        made = (item.key[:8], item.model_name, item.backend, item.precision, f"{item.size_bytes / 1e6:.1f}", built_at)
        shapes = " | ".join(" ".join(format_shapes(profile)) for profile in item.config.profiles)
        rows.append((*made, shapes, ",".join(item.targets)))
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
    lines = [table(rows)] if found else ["no engines yet"]
    lines += [f"removed {item.key[:8]} ({item.model_name} {item.precision})" for item in removed]
    return data, "\n".join([*lines, f"{store.folder}: {store.size_bytes() / 1e6:,.1f} MB"])


def _layers(engine: Engine) -> tuple[Any, str]:
    layers = read_layers(engine)
    rows = [("layer", "kind", "output", "ONNX nodes")]
    for layer in layers:
        output = " ".join(f"{item.dtype}[{','.join(map(str, item.shape))}]" for item in layer.outputs)
        rows.append((layer.name, layer.kind, output, " + ".join(layer.nodes)))
    return {"key": engine.key, "layers": layers_to_json(layers)}, table(rows)


def _pair(wanted: Sequence[str]) -> tuple[str, str]:
    """The two engines to compare; one alone is compared with its back end's fp32."""
    if len(wanted) > 2:
        raise ConfigError(f"compare takes two engines, not {len(wanted)}: onnxruntime:fp32 onnxruntime:fp16.")
    if len(wanted) == 1:
        return f"{wanted[0].partition(':')[0]}:fp32", wanted[0]
    return (wanted[0], wanted[1]) if wanted else ("onnxruntime:fp32", "onnxruntime:fp16")


def _precision_notes(pair: Sequence[str]) -> list[str]:
    """What to know about these precisions on these back ends."""
    supports = available()
    notes = []
    for name, _, precision in (wanted.partition(":") for wanted in pair):
        note = (supports[name].precision_notes or {}).get(precision)
        notes += [f"{name} {precision}: {note}"] if note else []
    return notes


# ---- shared steps


def _load(options: argparse.Namespace) -> Model:
    model = load_model(options.model)
    for change in options.dim:
        model = edit(model, change)
    return model


def _config(options: argparse.Namespace) -> BuildConfig:
    return BuildConfig(
        precision=options.precision or "fp32",
        profiles=parse_profiles(options.shapes),
        workspace_bytes=options.workspace,
        targets=tuple(name for name in options.targets.lower().split(",") if name),
        keep_io_types=not options.convert_io,
    )


def _runner() -> str:
    """The first back end that can build and run here."""
    for name, support in available().items():
        if support.can_build and support.can_run:
            return name
    raise BackendError("no back end can run engines on this machine.")


def _built(
    model: Model, config: BuildConfig, backend: str | None, *, reuse: bool = True, verbose: bool = False
) -> building.Built:
    return building.build(model, config, backend, reuse=reuse, listener=Printer(verbose))


def _feeds(
    options: argparse.Namespace, session: Session, profiles: tuple[OptimizationProfile, ...]
) -> Mapping[str, np.ndarray]:
    """What --feeds names, or random arrays in the profile's opt shapes."""
    if options.feeds is None:
        return random_feeds(session.inputs, opt_shapes(session.inputs, profiles))
    try:
        with np.load(options.feeds) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, TypeError, AttributeError, BadZipFile) as error:
        what = f"cannot be read as .npz with one array per input: {error}"
        raise FeedError(f"{options.feeds}: {what}.") from error


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no infinity and no NaN: null in their place."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "dtype": spec.dtype,
        "shape": [dim if isinstance(dim, int) else None for dim in spec.shape],
        "dims": [None if dim is None else str(dim) for dim in spec.shape],
    }
