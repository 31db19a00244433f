"""`workbench bench` and `compare`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.accuracy import compare_outputs, difference_to_json
from workbench.backends import GpuSession, Session, available
from workbench.commands.common import build_shown, read_config, read_feeds, read_model
from workbench.engine import Engine, open_engine
from workbench.errors import AccuracyError, BackendError, ConfigError, ViewError
from workbench.layer_times import save_layer_times
from workbench.machine import usable_cores
from workbench.profiles import parse_profiles
from workbench.recorded import load_recorded, recorded_folders, recorded_to_json
from workbench.store import EngineStore
from workbench.terminal import table
from workbench.timing import Measurement, format_rate, measure
from workbench.types import BuildConfig


def bench(options: argparse.Namespace) -> tuple[Any, str]:
    config = read_config(options)
    engine = _engine(options, config)
    with open_engine(engine, threads=options.threads) as session:
        _prepare(session, options)
        feeds = read_feeds(options, session, config.profiles or engine.config.profiles)
        measured = measure(session, feeds, iterations=options.iterations, warmup=options.warmup)
        profile = None
        if options.profile and isinstance(session, GpuSession):
            profile = save_layer_times(session.layer_times_ms(options.iterations), options.profile)
    data = {
        "median_ms": measured.median_ms,
        "p99_ms": measured.p99_ms,
        "mean_ms": measured.mean_ms,
        "host_median_ms": measured.host_median_ms,
        "iterations": len(measured.times_ms),
        "warmup": measured.warmup,
        "batch": measured.batch,
        "shapes": {name: list(shape) for name, shape in measured.shapes.items()},
        "throughput_per_s": measured.throughput_per_s,
        "clock": measured.clock,
        "host_clock": measured.host_clock,
        "threads": options.threads or usable_cores(),
        "backend": engine.backend,
        "release": engine.release,
        "precision": engine.precision,
        "key": engine.key,
        "profile": None if profile is None else str(profile),
        "machine": measured.machine.to_json(),
    }
    return data, _bench_text(engine, measured) + ("" if profile is None else f"\ntimes of layers: {profile}")


def _engine(options: argparse.Namespace, config: BuildConfig) -> Engine:
    """The stored engine or folder that was named, or one built for the model. Raises ConfigError."""
    if bool(options.engine) == bool(options.model):
        raise ConfigError("bench measures a model or an engine: give an ONNX file, or --engine KEY.")
    if not options.engine:
        return build_shown(read_model(options), config, options.backend or _runner()).engine
    if options.backend or options.dim or options.precision or replace(config, profiles=()) != BuildConfig():
        what = "--shapes, --feeds and what concerns the runs go with it, everything else with a model"
        raise ConfigError(f"an engine is built already: {what}.")
    store, folder = EngineStore(), Path(options.engine)
    return store.load(folder, trust=options.trust) if folder.is_dir() else store.by_prefix(options.engine)


def _prepare(session: Session, options: argparse.Namespace) -> None:
    """Raises ConfigError for what only a session on an NVIDIA GPU can do."""
    wanted = [f"--{name.replace('_', '-')}" for name in ("no_cuda_graph", "profile") if getattr(options, name)]
    if wanted and not isinstance(session, GpuSession):
        doing = "replays no CUDA graph" if wanted[0] == "--no-cuda-graph" else "cannot time single layers"
        raise ConfigError(f"{wanted[0]}: this engine {doing}, as it does not run on an NVIDIA GPU; leave it away.")
    if options.no_cuda_graph and isinstance(session, GpuSession):
        session.cuda_graph = False


def _bench_text(engine: Engine, measured: Measurement) -> str:
    times = f"median {measured.median_ms:.3f} ms, p99 {measured.p99_ms:.3f} ms"
    if measured.host_median_ms is not None:
        times = f"median {measured.median_ms:.3f} ms on the GPU, {measured.host_median_ms:.3f} ms host to host"
    clocks = "; ".join(filter(None, (measured.clock, measured.host_clock)))
    return (
        f"{engine.model_name} {engine.precision} on {engine.backend} {engine.release}: {times}, "
        f"{format_rate(measured.throughput_per_s)} at {measured.inputs}\n"
        f"{len(measured.times_ms)} runs after {measured.warmup}; {clocks}\n{measured.machine}"
    )


def recorded(options: argparse.Namespace) -> tuple[Any, str]:
    """What was measured on a GPU and kept."""
    folders = [Path(options.folder)] if options.folder else recorded_folders()
    if not folders:
        raise ViewError("nothing recorded was found: name a folder that holds runs.json.")
    found = [load_recorded(folder) for folder in folders]
    return [recorded_to_json(item) for item in found], "\n\n".join(f"{item.folder}\n{item}" for item in found)


def compare(options: argparse.Namespace) -> tuple[Any, str]:
    model = read_model(options)
    profiles, pair = parse_profiles(options.shapes), _pair(options.engines)
    outputs, measured = [], []
    for wanted in pair:
        name, _, precision = wanted.partition(":")
        config = BuildConfig(precision=precision or "fp32", profiles=profiles)
        engine = build_shown(model, config, name).engine
        with open_engine(engine, threads=options.threads) as session:
            feeds = read_feeds(options, session, profiles)
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
        "outputs": [difference_to_json(item) for item in differences],
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


def _runner() -> str:
    """The first back end that can build and run here."""
    for name, support in available().items():
        if support.can_build and support.can_run:
            return name
    raise BackendError("no back end can run engines on this machine.")
