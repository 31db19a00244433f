"""Imports point one way, and `import workbench` is light."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEVELS = [
    {"errors"},
    {"types", "protobuf"},
    {"process", "locking"},
    {
        "machine",
        "conditions",
        "tables",
        "model",
        "profiles",
        "layers",
        "terminal",
        "recipe",
        "preprocessing",
        "paddle_config",
        "shape_arithmetic",
        "layer_times",
        "inspector",
    },
    {
        "dimensions",
        "precision",
        "saving",
        "snippets",
        "reference",
        "activation_memory",
        "tensor_shapes",
        "tensor_types",
        "cutting",
        "quantized",
        "blame",
        "accuracy",
        "tally",
        "evaluation",
    },
    {"calibration", "qdq", "qdq_nodes", "qdq_plan"},
    {"backends", "trtexec"},
    {"engine"},
    {"store"},
    {"build_process", "timing", "recorded", "baselines"},
    {"runs"},
    {"building"},
    {"traffic", "openings", "export", "view", "fusion", "subgraphs", "comparing", "comparison", "deploy"},
    {"hybrid", "study", "divergence", "plots", "contest"},
    {"picture"},
    {"sharding"},
    {"report", "tuning"},
    {"_child", "commands", "cli", "widgets"},
    {"__init__"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
HEAVY = {
    *("torch", "tensorrt", "tensorrt_rtx", "pycuda", "onnxruntime", "ipywidgets", "anywidget", "IPython"),
    *("matplotlib", "PIL", "optuna", "sqlalchemy", "distributed", "dask", "psutil", "scipy", "pandas"),
}
OF_THE_FEW = {"calibration", "cli", "conditions", "deploy", "export", "plots", "report", "runs", "timing", "widgets"}
"""Parts of the workbench that are imported when they are asked for."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in (ROOT / "workbench").rglob("*.py")}


def imported(path: Path) -> Iterator[str]:
    """The modules of the workbench that a file imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: write imports in full"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in MODULES or node.module in MODULES:
                    yield whole if whole in MODULES else node.module


def top(module: str) -> str:
    """'workbench.backends.rtx' -> 'backends', 'workbench' -> '__init__'."""
    return [*module.split("."), "__init__"][1]


def level(module: str) -> int:
    return LEVEL[top(module)]


def test_every_module_has_a_level() -> None:
    assert {top(name) for name in MODULES} == set(LEVEL)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_its_own_level_or_lower_ones(module: str) -> None:
    climbing = {name for name in imported(MODULES[module]) if level(name) > level(module)}
    assert not climbing, f"{module} (level {level(module)}) may not import {climbing}"


def test_there_is_no_import_cycle() -> None:
    graph = {name: set(imported(path)) - {name} for name, path in MODULES.items()}
    assert set(TopologicalSorter(graph).static_order()) == set(MODULES)  # CycleError tells the cycle


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """Every module that a new process has after `import workbench`."""
    code = "import sys, workbench; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "workbench.model" in names
    return set(names)


def test_nothing_heavy_is_imported_with_the_workbench(loaded: set[str]) -> None:
    assert not HEAVY & {name.partition(".")[0] for name in loaded}


def test_what_few_need_is_not_imported_with_the_workbench(loaded: set[str]) -> None:
    assert set(LEVEL) >= OF_THE_FEW
    assert not OF_THE_FEW & {top(name) for name in loaded if name.startswith("workbench")}


def test_nothing_is_left_in_the_home_folder_by_telemetry(tmp_path: Path) -> None:
    """ONNX Runtime starts its telemetry while it is imported, and queues events in the user's cache."""
    code = """
import workbench
from workbench import backends, precision
backends.available(), precision.converter_release()
model = workbench.load_model(r"{model}")
workbench.check_support(model, "onnxruntime")
""".format(model=ROOT / "data" / "models" / "fashion_cnn.onnx")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    env = {**clean, "HOME": str(tmp_path / "home"), "WORKBENCH_HOME": str(tmp_path / "store")}
    (tmp_path / "home").mkdir()
    subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, check=True)
    assert [str(path) for path in (tmp_path / "home").rglob("*")] == []
