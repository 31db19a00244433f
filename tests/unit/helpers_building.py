"""Models that build in a given time, and processes to watch and to kill."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from workbench.model import Model, load_model
from workbench.store import EngineStore

_OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
"""For what happens in a second unless the machine is loaded."""
RTX = pytest.param("rtx", marks=pytest.mark.rtx)
BOTH = [RTX, "onnxruntime"]


# ---- models


def save(path: Path, nodes: Sequence[onnx.NodeProto], x: Sequence[int | str], y: Sequence[int | str],
         weights: Sequence[onnx.TensorProto] = (), names: tuple[str, str] = ("x", "y")) -> Model:  # fmt: skip
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in zip(names, (x, y), strict=True)
    ]
    graph = helper.make_graph(list(nodes), "graph", [values[0]], [values[1]], list(weights))
    proto = helper.make_model(graph, ir_version=8, opset_imports=_OPSETS)
    onnx.save(proto, str(path))
    return load_model(path)


def small(path: Path, *, seed: int = 0, batch: int | str = 1) -> Model:
    """Conv and Relu; another content for every seed. Builds in less than a second."""
    values = np.random.default_rng(seed).random((4, 3, 3, 3), dtype=np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["y"], name="relu"),
    ]
    return save(path, nodes, [batch, 3, 8, 8], [batch, 4, 8, 8], [numpy_helper.from_array(values, "w")])


def long(path: Path, count: int = 1500) -> Model:
    """Element-wise nodes that TensorRT-RTX fuses into one: 5 s for 1,500, more than 15 s for 3,000."""
    kinds = ("Sigmoid", "Tanh", "Softplus")
    tensors = ["x", *(f"t{index}" for index in range(1, count)), "y"]
    nodes = [
        helper.make_node(kinds[index % 3], [tensors[index]], [tensors[index + 1]], name=f"step_{index}")
        for index in range(count)
    ]
    return save(path, nodes, [1, 16], [1, 16])


def refused(path: Path) -> Model:
    """A node of a domain that no back end knows; the ONNX checker lets it pass."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="fine"),
        helper.make_node("Magic", ["r"], ["y"], name="culprit", domain="com.example"),
    ]
    return save(path, nodes, [2, 3], [2, 3])


def slow_to_run(path: Path) -> Model:
    """Builds at once with ONNX Runtime; a hundred runs take many seconds."""
    weight = numpy_helper.from_array(np.ones((64, 64, 7, 7), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv_1", pads=[3] * 4),
        helper.make_node("Conv", ["c", "w"], ["d"], name="conv_2", pads=[3] * 4),
        helper.make_node("Relu", ["d"], ["y"], name="relu"),
    ]
    return save(path, nodes, [1, 64, 224, 224], [1, 64, 224, 224], [weight])


# ---- stores


def copy_store(source: Path, target: Path) -> EngineStore:
    """A store of its own with the same secret and engines, so that tests need not build each time."""
    shutil.copytree(source, target)
    return EngineStore(target)


def leftovers(store: EngineStore) -> list[str]:
    """What lies in work/."""
    return sorted(path.name for path in (store.folder / "work").iterdir())


def folders_left(store: EngineStore) -> list[str]:
    return [name for name in leftovers(store) if not name.endswith(".lock")]


def sweep(store: EngineStore) -> None:
    """What any next use of the staging area does."""
    with store.staging():
        pass


# ---- processes


def wait_until(condition: Callable[[], object], what: str, limit_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"not within {limit_s:g} s: {what}"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether it runs: one that has ended but was not waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def children(pid: int | None = None) -> list[int]:
    """The build processes of `pid` (default: of this one)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if int(stat[1]) == (pid or os.getpid()) and b"workbench._child" in command and stat[0] not in "ZX":
            found.append(int(entry.name))
    return found


def start_python(code: str, *arguments: object, home: Path | None = None) -> subprocess.Popen[str]:
    """A Python process of its own running `code`; its arguments are in sys.argv[1:]."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"}
    if home is not None:
        environment["WORKBENCH_HOME"] = str(home)
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment, start_new_session=True,
    )  # fmt: skip


def kill_all(process: subprocess.Popen[str], *, with_children: bool) -> list[int]:
    """kill -9 the process, and in the same moment its build process or not; returns the latter's id."""
    pids = children(process.pid)
    process.send_signal(signal.SIGSTOP)  # so that it cannot react to its child's death first
    for pid in pids if with_children else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.kill()
    process.communicate()
    return pids
