"""A result as a recording in data/recorded: runs.json as workbench.recorded reads it, with the files it names."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from gpu_peers.cells import MODELS
from gpu_peers.process import TITLES
from gpu_peers.report import Result, cell_of
from workbench.backends import CALIBRATION
from workbench.backends.nvidia_build import INSPECTION
from workbench.engine import NODES
from workbench.recorded import RUNS

FROM_ENGINE = {"inspector": INSPECTION, "table": CALIBRATION}
"""What is kept of an engine's folder."""


def keep_text(folder: Path, name: str, data: bytes) -> str:
    """Write it compressed; returns the name it got."""
    (folder / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
    return f"{name}.gz"


def keep_engine(folder: Path, stem: str, engine: Path) -> dict[str, str | None]:
    """Copy an engine's inspector output and calibration table, as far as it has them; names by kind."""
    kept: dict[str, str | None] = {}
    for kind, name in FROM_ENGINE.items():
        path = engine / name
        kept[kind] = keep_text(folder, f"{stem}.{name}", path.read_bytes()) if path.is_file() else None
    return kept


def keep_profile(folder: Path, stem: str, layers: list[dict[str, Any]]) -> str:
    return keep_text(folder, f"{stem}.profile.json", (json.dumps(layers, indent=1) + "\n").encode())


KEPT = {
    "workbench": ("replay", "host", "host_in_place"),
    "bare": ("replay", "host", "host_in_place"),
    "polygraphy": ("host",),
    "eager": ("gpu", "host"),
    "compile": ("gpu", "host"),
}
"""The clocks that runs.json tells of, by peer; benchmark.json.gz has all."""


def write_recording(folder: Path, result: Result) -> Path:
    """runs.json from a result whose files lie in `folder` already."""
    heads = {name: result[name] for name in ("machine", "releases", "date", "how", "models")}
    path = folder / RUNS
    runs = [_run(result, run) for run in result["runs"] if run["what"] in KEPT[run["peer"]]]
    path.write_text(json.dumps({**heads, "runs": runs}, indent=1) + "\n")
    return path


def _run(result: Result, run: dict[str, Any]) -> dict[str, Any]:
    cell = cell_of(run)
    by_plan = run["peer"] in ("workbench", "bare", "polygraphy")
    engine = result["cells"].get(cell.stem, {}) if by_plan else {}
    own = ("model", "precision", "batch", "clock", "median_ms", "p99_ms", "mean_ms", "iterations", "relative")
    files = ("build_s", "plan_bytes", "inspector", "profile", "table")
    built = [
        item["build_s"] for item in result["builds"] if cell_of(item) == cell and item["kind"] in ("cold", "other")
    ]
    if engine and built:
        engine = {**engine, "build_s": built[0]}  # not that of a repetition
    return {
        **{name: run[name] for name in own},
        **{name: engine.get(name) for name in files},
        "shapes": {name: list(shape) for name, shape in cell.shapes.items()},
        "peer": TITLES.get(run["peer"], run["peer"]),
        "ranges": None,
        "top1": None,
    }


def about_models(folder: Path, sums: dict[str, str]) -> dict[str, Any]:
    """What runs.json says of the models of these SHA-256; their nodes lie in `folder` once an engine was built."""
    models = {}
    for name in sums:
        nodes = f"{name}.{NODES}"
        kept = nodes if (folder / nodes).is_file() else None
        models[name] = {"about": MODELS[name].about, "sha256": sums[name], "nodes": kept}
    return models
