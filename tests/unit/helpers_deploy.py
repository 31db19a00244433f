"""Engines for hand-overs: TensorRT's are pretended, with plans that the stand-ins in tests/data/fake_tensorrt take."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from models import save

from workbench.backends.plan_record import PlanRecord, write_plan_record
from workbench.engine import Engine, write_layers, write_log
from workbench.model import Model, load_model
from workbench.profiles import parse_profiles
from workbench.recipe import FORMAT, recipe_entries, recipe_key
from workbench.store import EngineStore
from workbench.types import BuildConfig

FAKES = Path(__file__).parents[1] / "data" / "fake_tensorrt"
DOUBLE = "(float[n,4] x) => (float[n,4] y) { [double] y = Add(x, x) }"
DOUBLE_PLAN = "fake 8\ninput x f4 -1x4 1x4 8x4\nscale y f4 -1x4 x 2\n"
DOUBLE_SHAPES = ["x:1x4,2x4,8x4"]


def double(folder: Path, graph: str = DOUBLE) -> Model:
    """y = 2 x."""
    return load_model(save(folder / "double.onnx", graph))


def pretended(
    store: EngineStore, model: Model, plan: str = "", shapes: list[str] | None = None, *, release: str = "8.6.0",
    **fields: object,
) -> Engine:  # fmt: skip
    """An engine of TensorRT's as a build on an H200 leaves it; fields: of BuildConfig."""
    config = BuildConfig(profiles=parse_profiles(shapes or ()), targets=("gpu",))
    config = replace(config, **fields)  # type: ignore[arg-type]
    parts = {"release": release, "gpu": "NVIDIA H200", "compute_capability": "9.0"}
    recipe = {
        "format": FORMAT, "backend": "tensorrt", "model": model.sha256, **recipe_entries(config), "ingredients": parts,
        "plan": hashlib.sha256(plan.encode()).hexdigest(),
    }  # fmt: skip
    key, builder = recipe_key(recipe), config.builder
    with store.staging() as work, store.lock(key):
        folder = work / "out"
        folder.mkdir()
        (folder / "engine.plan").write_text(plan)
        record = PlanRecord(
            release, "NVIDIA H200", "9.0", config.targets[0], builder.version_compatible, builder.refittable,
            builder.strip_weights, model.inputs, model.outputs,
        )  # fmt: skip
        write_plan_record(folder / "engine.plan", record)
        write_layers(folder, ())
        write_log(folder, ())
        return store.add(
            Engine(
                folder=folder, key=key, recipe=recipe, model_name=model.name, model_path=str(model.path),
                plan="engine.plan", plan_bytes=len(plan), layers=1, nodes=len(model.nodes), nodes_covered=1,
                build_s=1.0, built_at="2026-11-20T20:24:10+00:00", machine={}, files={},
            )
        )  # fmt: skip


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` fills, once for all processes in which pytest-xdist runs tests."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a process left that failed
            folder.mkdir()
            make(folder)
            (folder / "made").touch()
    return folder


def arrays_in(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def compiled(source: Path, library: Path, *flags: str) -> Path:
    """A stand-in as a shared library."""
    library.parent.mkdir(parents=True, exist_ok=True)
    compiler = [os.environ.get("CXX", "g++"), "-std=c++17", "-shared", "-fPIC", f"-Wl,-soname,{library.name}"]
    subprocess.run([*compiler, *flags, str(source), "-o", str(library)], check=True)
    return library


def ran(folder: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python runner.py ARGUMENTS` in a hand-over's folder, where the workbench is not to be found."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "runner.py", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env={**clean, **environment}, capture_output=True, text=True, check=False
    )
