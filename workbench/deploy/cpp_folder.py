"""The hand-over to C++: a program with its CMakeLists.txt beside the plan, and the test vector as .npy files."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from workbench.deploy import readme
from workbench.deploy.example import Example
from workbench.deploy.facts import Facts, placed, write_json
from workbench.deploy.runner.arrays import plain
from workbench.engine import Engine, export_plan

SOURCES = ("CMakeLists.txt", "main.cpp", "engine.hpp", "engine.cpp", "npy.hpp")
_HERE = Path(__file__).parent / "cpp"


def refusal(engine: Engine) -> str:
    if engine.backend == "onnxruntime":
        return (
            "the C++ runner opens plans of TensorRT and TensorRT-RTX. Build one of those, or hand over to python or "
            "triton."
        )
    return ""


def write(engine: Engine, facts: Facts, example: Example, folder: Path) -> tuple[str, ...]:
    """Returns what whoever gets the folder ought to know."""
    export_plan(engine, folder / engine.plan)
    facts = placed(facts, folder, engine.plan)
    write_json(facts, folder)
    (folder / "deployment.txt").write_text(_settings(facts), encoding="utf-8")
    for name in SOURCES:
        shutil.copyfile(_HERE / name, folder / name)
    files = {}
    for side, arrays in (("inputs", example.inputs), ("outputs", example.outputs)):
        files[side] = _write_arrays(folder / "test_vector" / side, arrays)
    notes = readme.notes(facts, example)
    (folder / "README.md").write_text(readme.cpp_text(facts, example, files, notes), encoding="utf-8")
    return notes


def _settings(facts: Facts) -> str:
    """What the program reads: it has no parser for JSON."""
    settings = {
        "runtime": facts.runtime,
        "plan": facts.plan,
        "host_code": int(facts.version_compatible),
        **asdict(facts.tolerance),
        "made_by": facts.made_by.replace("\n", " "),
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _write_arrays(folder: Path, arrays: Mapping[str, Any]) -> dict[str, str]:
    """Each tensor's file by its name."""
    folder.mkdir(parents=True)
    files = file_names(arrays)
    for name, array in arrays.items():
        np.save(folder / files[name], np.ascontiguousarray(plain(array)).reshape(np.shape(array)), allow_pickle=False)
    return files


def file_names(tensors: Iterable[str]) -> dict[str, str]:
    """As npy.hpp names them: letters, digits, '.', '-' and '_' stay, and names that become equal are numbered."""
    found: dict[str, str] = {}
    taken: dict[str, int] = {}
    for tensor in tensors:
        name = re.sub(rb"[^A-Za-z0-9._-]", b"_", tensor.encode()).decode()
        taken[name] = taken.get(name, 0) + 1
        found[tensor] = f"{name}.{taken[name]}.npy" if taken[name] > 1 else f"{name}.npy"
    return found
