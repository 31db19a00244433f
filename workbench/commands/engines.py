"""`workbench backends`, `build`, `engines`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.backends import available
from workbench.building import Built
from workbench.commands.common import build_shown, read_arrays, read_config, read_model, read_network_config
from workbench.commands.options import BUILDER_FLAGS
from workbench.engine import Engine, export_plan, read_layers
from workbench.export.network import build_network
from workbench.layers import layers_to_json
from workbench.machine import this_machine
from workbench.profiles import format_shapes
from workbench.store import EngineStore
from workbench.terminal import Printer, table


def backends(options: argparse.Namespace) -> tuple[Any, str]:
    found = available()
    rows: list[tuple[str, ...]] = [("back end", "release", "builds", "runs", "precisions")]
    notes = []
    for name, item in found.items():
        yes_no = ["yes" if answer else "no" for answer in (item.can_build, item.can_run)]
        rows.append((name, item.release or "-", *yes_no, " ".join(item.precisions)))
        notes += [f"{name}: {reason}" for reason in dict.fromkeys((item.build_reason, item.run_reason)) if reason]
        flags = [BUILDER_FLAGS[option] for option in item.builder_options]
        notes += [f"{name}: NVIDIA's builder takes {' '.join(flags)}"] if item.can_build and flags else []
    data = {"machine": this_machine().to_json(), "backends": {name: asdict(item) for name, item in found.items()}}
    return data, "\n".join([str(this_machine()), "", table(rows), "", *notes]).rstrip()


def build(options: argparse.Namespace) -> tuple[Any, str]:
    model, config = read_model(options), read_config(options)
    built = build_shown(model, config, options.backend, reuse=not options.no_reuse, verbose=options.verbose)
    return _built(built, options)


def network(options: argparse.Namespace) -> tuple[Any, str]:
    """Build what a function describes with NVIDIA's API."""
    built = build_network(
        options.name or options.describe.rpartition(":")[2],
        options.describe,
        read_arrays(options.weights) if options.weights else None,
        config=read_network_config(options),
        backend=options.backend,
        reuse=not options.no_reuse,
        listener=Printer(options.verbose),
    )
    return _built(built, options)


def _built(built: Built, options: argparse.Namespace) -> tuple[Any, str]:
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
