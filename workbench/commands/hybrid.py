"""`workbench shapes` and `hybrid`: what tensors' sizes are, and a model run in parts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from workbench.accuracy import difference_to_json
from workbench.backends import default_backend
from workbench.commands.common import read_arrays, read_config, read_disabled, read_model
from workbench.errors import ShapeError
from workbench.hybrid import (
    CollectedShapes,
    HybridRun,
    collect_shapes,
    fragmentation,
    load_shapes,
    save_shapes,
    usual_samples,
)
from workbench.machine import this_machine
from workbench.model import Model
from workbench.profiles import BOUNDS, check_profile, opt_shapes, opt_values, parse_profiles
from workbench.reference import random_feeds
from workbench.subgraphs import divide, find_support
from workbench.terminal import Printer, table
from workbench.types import BuildConfig, OptimizationProfile, Shape, ShapeRange, TensorSpec, count_of, profile_to_json


def shapes(options: argparse.Namespace) -> tuple[Any, str]:
    """Collect the sizes that a model's tensors take in samples."""
    model = read_model(options)
    collected = collect_shapes(model, list(_samples(model, options)), listener=Printer(False))
    path = None if options.output is None else str(save_shapes(collected, options.output))
    data = {
        "model": str(model.path),
        "sha256": collected.model_sha256,
        "samples": collected.samples,
        "file": path,
        "shapes": profile_to_json(OptimizationProfile(collected.ranges)),
        "values": profile_to_json(OptimizationProfile(collected.values)),
    }
    shown = [spec.name for spec in (*model.inputs, *model.outputs) if spec.name in collected.ranges]
    rows: list[tuple[str, ...]] = [("tensor", *BOUNDS)]
    rows += [(name, *(_sizes(shape) for shape in _bounds(collected.ranges[name]))) for name in shown]
    held = collected.values.items()
    rows += [(f"values of {name}", *(str(list(sizes)) for sizes in _bounds(item))) for name, item in held]
    return data, "\n".join([str(collected), table(rows), *([path] if path else [])])


def _samples(model: Model, options: argparse.Namespace) -> Iterator[Mapping[str, np.ndarray]]:
    """What --feeds names, and random arrays at the shapes that --shapes names."""
    for path in options.feeds:
        yield read_arrays(path)
    profiles = parse_profiles(options.shapes)
    if not options.feeds and not profiles:
        if any(spec.open_axes for spec in model.inputs):
            advice = "give samples, as --feeds FILE.npz or --shapes INPUT:1x3x64x64"
            raise ShapeError(f"{model.name} has open dimensions: {advice}.")
        profiles = (OptimizationProfile({}),)
    for profile in profiles:
        check_profile((_nameless(spec) for spec in model.inputs), profile)
        yield from usual_samples(model, profile)


def _nameless(spec: TensorSpec) -> TensorSpec:
    """ONNX Runtime takes different sizes for dimensions of one name, which exporters give to what is not equal."""
    return replace(spec, shape=tuple(dim if isinstance(dim, int) else None for dim in spec.shape))


def hybrid(options: argparse.Namespace) -> tuple[Any, str]:
    """Cut a model, build and run its parts, and compare them with ONNX Runtime alone."""
    model, config = read_model(options), read_config(options)
    collected = load_shapes(options.collected, model) if options.collected else None
    feeds = read_arrays(options.feeds) if options.feeds else _usual_feeds(model, config, collected)
    backend, printer = options.backend or default_backend(), Printer(options.verbose)
    support = find_support(
        model, backend, disable_ops=read_disabled(options), release=options.release, listener=printer
    )
    partitions = [divide(support, size) for size in options.min_subgraph_size]
    runs = fragmentation(partitions, feeds, config, shapes=collected, iterations=options.iterations, listener=printer)
    note = next((run.note for run in runs if run.note), "")
    data = {
        "model": str(model.path),
        "backend": backend,
        "precision": config.precision,
        "shapes": {name: list(shape) for name, shape in runs[0].shapes.items()},
        "splits": [_split_to_json(run) for run in runs],
        "note": note,
        "machine": this_machine().to_json(),
    }
    text = "\n\n".join([*(_parts_text(run) for run in runs[:1] if len(runs) == 1), _splits_text(runs)])
    return data, text + (f"\nnote: {note}" if note else "")


def _usual_feeds(model: Model, config: BuildConfig, collected: CollectedShapes | None) -> Mapping[str, np.ndarray]:
    """Random arrays at the profile's opt, else at that of what was collected, else at the proposal's."""
    profiles = config.profiles
    if not profiles and collected is not None:
        profiles = (OptimizationProfile(collected.ranges, collected.values),)
    return random_feeds(model.inputs, opt_shapes(model.inputs, profiles), opt_values(profiles))


def _split_to_json(run: HybridRun) -> dict[str, Any]:
    built = run.hybrid.by_part
    return {
        "min_subgraph_size": run.hybrid.partition.min_subgraph_size,
        "parts": [
            {
                "id": part.id, "backend": part.backend, "nodes": list(part.nodes),
                "median_ms": float(np.median(run.part_times_ms[part.id])), "stand_in": part.id in run.stand_ins,
                "key": built[part.id].engine.key if part.id in built else None,
                "reused": built[part.id].reused if part.id in built else None,
                "build_s": built[part.id].engine.build_s if part.id in built else None,
                "layers": built[part.id].engine.layers if part.id in built else None,
            }
            for part in run.hybrid.partition.parts
        ],
        "engines": len(run.hybrid.built),
        "border_tensors": run.hybrid.partition.border_tensors,
        "border_bytes": run.border_bytes,
        "median_ms": run.median_ms,
        "alone_median_ms": run.alone_median_ms,
        "iterations": len(run.alone_times_ms),
        "outputs": [difference_to_json(item) for item in run.differences],
        "clock": run.clock,
    }  # fmt: skip


def _parts_text(run: HybridRun) -> str:
    rows = [("part", "nodes", "runs as", "engine", "median ms")]
    built = run.hybrid.by_part
    for part in run.hybrid.partition.parts:
        runs_as = part.backend if part.is_engine else "ONNX Runtime"
        if part.id in run.stand_ins:
            runs_as = f"ONNX Runtime, not {part.backend}"
        engine = "-"
        if part.id in built:
            item = built[part.id]
            how = "reused" if item.reused else f"built in {item.engine.build_s:.1f} s"
            engine = f"{item.engine.key[:8]} {item.engine.precision} {how}, {count_of(item.engine.layers, 'layer')}"
        median = f"{np.median(run.part_times_ms[part.id]):.3f}"
        rows.append((part.id, str(len(part.nodes)), runs_as, engine, median))
    return table(rows)


def _splits_text(runs: tuple[HybridRun, ...]) -> str:
    costs = ("engines", "native parts", "border tensors", "KB", "median ms", "alone ms")
    rows: list[tuple[str, ...]] = [("min_subgraph_size", *costs, "largest difference", "relative")]
    for run in runs:
        partition = run.hybrid.partition
        engines, parts = len(partition.engines), len(partition.parts)
        counts = (str(partition.min_subgraph_size), str(engines), str(parts - engines), str(partition.border_tensors))
        times = (f"{run.border_bytes / 1024:,.1f}", f"{run.median_ms:.3f}", f"{run.alone_median_ms:.3f}")
        apart = (
            max((getattr(item, kind) for item in run.differences), default=0.0) for kind in ("max_abs", "relative")
        )
        rows.append((*counts, *times, *(f"{value:.3g}" for value in apart)))
    inputs = ", ".join(f"{name} {_sizes(shape)}" for name, shape in runs[0].shapes.items())
    timed = count_of(len(runs[0].alone_times_ms), "run") + (f" at {inputs}" if inputs else "")
    return f"{table(rows)}\n{timed}, in turns with ONNX Runtime alone"


def _sizes(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _bounds(item: ShapeRange) -> tuple[Shape, Shape, Shape]:
    return item.min, item.opt, item.max
