"""`workbench bench` and `compare`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.accuracy import compare_outputs, difference_to_json
from workbench.backends import available
from workbench.commands.common import build_shown, read_config, read_feeds, read_model
from workbench.engine import open_engine
from workbench.errors import AccuracyError, BackendError, ConfigError
from workbench.machine import usable_cores
from workbench.profiles import parse_profiles
from workbench.store import EngineStore
from workbench.terminal import table
from workbench.timing import format_rate, measure
from workbench.types import BuildConfig


def bench(options: argparse.Namespace) -> tuple[Any, str]:
    if bool(options.engine) == bool(options.model):
        raise ConfigError("bench measures a model or an engine: give an ONNX file, or --engine KEY.")
    if options.engine and (options.backend or options.precision or options.targets or options.dim):
        raise ConfigError("an engine is built already: --backend, --precision, --targets and --dim go with a model.")
    config = read_config(options)
    if options.engine:
        store, folder = EngineStore(), Path(options.engine)
        engine = store.load(folder, trust=options.trust) if folder.is_dir() else store.by_prefix(options.engine)
    else:
        engine = build_shown(read_model(options), config, options.backend or _runner()).engine
    with open_engine(engine, threads=options.threads) as session:
        feeds = read_feeds(options, session, config.profiles or engine.config.profiles)
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
