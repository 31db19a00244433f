"""The workbench itself, as its users call it."""

from __future__ import annotations

import platform
import tempfile
import time
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from onnx import helper

from gpu_peers.cells import MODELS, Cell, feeds_of, reference_of, relative_difference
from gpu_peers.serving import Series, count_for, series, serve, wall_times_ms
from workbench import EngineStore, build, load_model, open_engine, this_machine
from workbench.backends.nvidia_session import NvidiaSession
from workbench.build_process import dismiss_waiting
from workbench.engine import Engine
from workbench.layer_times import layer_times_to_json
from workbench.model import Model
from workbench.timing import Timing, measure
from workbench.types import BuildConfig, Calibration, OptimizationProfile, ShapeRange

BACKEND = "tensorrt"
LAYER_RUNS = 50

load_once = lru_cache(load_model)


def config_of(folder: Path, cell: Cell) -> BuildConfig:
    """One profile for exactly this batch, as the peers compile for exactly this batch too."""
    ranges = {name: ShapeRange(shape, shape, shape) for name, shape in cell.shapes.items()}
    calibration = Calibration(str(folder / f"{cell.model}.npz")) if cell.precision == "int8" else None
    return BuildConfig(cell.precision, (OptimizationProfile(ranges),), calibration=calibration)


def model_of(folder: Path, cell: Cell) -> Model:
    return load_once(folder / f"{cell.model}.onnx")


class WorkbenchPeer:
    def __init__(self) -> None:
        self.session: NvidiaSession | None = None
        self.feeds: dict[str, Any] = {}

    def about(self) -> dict[str, Any]:
        releases = {name: version(name) for name in ("tensorrt", "pycuda", "onnx", "onnxruntime", "numpy")}
        return {**releases, "python": platform.python_version(), "machine": this_machine().to_json()}

    def warm_up(self) -> None:
        """Build a Relu and forget it: the next build finds NVIDIA's libraries in memory, as a rebuild does."""
        values = [helper.make_tensor_value_info(name, 1, [1, 4]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="relu")], "relu", values[:1], values[1:])
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        with tempfile.TemporaryDirectory() as folder:
            onnx.save(proto, str(Path(folder) / "relu.onnx"))
            model = load_model(Path(folder) / "relu.onnx")
            with open_engine(build(model, None, BACKEND, store=EngineStore(folder)).engine) as session:
                session.run({"x": np.zeros((1, 4), np.float32)})

    def build(self, folder: str, cell: dict[str, Any], store: str, reuse: bool, anew: bool) -> dict[str, Any]:
        """anew: in a build process that is started for it, which loads TensorRT's kernels first."""
        row = Cell(**cell)
        if anew:
            dismiss_waiting()
        caches = Path(store) / "caches"
        cached = sum(path.stat().st_size for path in caches.rglob("*") if path.is_file()) if caches.exists() else 0
        config = config_of(Path(folder), row)
        built = build(model_of(Path(folder), row), config, BACKEND, store=EngineStore(store), reuse=reuse)
        engine = built.engine
        return {
            "key": engine.key,
            "folder": str(engine.folder),
            "plan": str(engine.plan_path),
            "plan_bytes": engine.plan_bytes,
            "build_s": engine.build_s,
            "reused": built.reused,
            "cache_bytes_before": cached,
            "layers": engine.layers,
            "nodes": engine.nodes,
        }

    def prepare(self, folder: str, cell: dict[str, Any], store: str, key: str) -> dict[str, float]:
        row = Cell(**cell)
        self.feeds = feeds_of(Path(folder), row)
        self.session = cast(NvidiaSession, open_engine(_find(EngineStore(store), key)))
        found = self.session.run(self.feeds)[MODELS[row.model].output]
        return {"relative": relative_difference(found, reference_of(Path(folder), row))}

    def measure(self, iterations: int, limit_s: float) -> list[Series]:
        session, feeds = self.session, self.feeds
        assert session

        def gpu(what: str, graph: bool) -> Series:
            session.cuda_graph = graph
            count = count_for(lambda: session.run(feeds), iterations, limit_s)
            return series(what, session.clock, session.times_ms(count))

        on_gpu = [gpu("enqueue", False), gpu("replay", True)]  # replay last: the session goes on with the graph
        singly = measure(session, feeds, Timing(min(iterations, 200), limit_s=limit_s))
        host = wall_times_ms(lambda: session.run(feeds), iterations, limit_s)
        own = session.host_times_ms(len(host))
        pinned = session.input_buffers({name: array.shape for name, array in feeds.items()})
        for name, array in feeds.items():
            pinned[name][...] = array
        in_place = wall_times_ms(lambda: session.run(pinned), iterations, limit_s)
        session.run(feeds)
        return [
            *on_gpu,
            series("measure", f"workbench.measure: {singly.clock}, one run at a time", list(singly.times_ms)),
            series("host", "perf_counter around session.run with the user's arrays, new arrays out", host),
            series("host_own", session.host_clock, own),
            series(
                "host_in_place", "perf_counter around session.run, inputs filled in place (input_buffers)", in_place
            ),
        ]

    def layers(self) -> list[dict[str, Any]]:
        """Times of the layers in the form of trtexec's --exportProfile."""
        assert self.session
        return layer_times_to_json(self.session.layer_times_ms(LAYER_RUNS))

    def open_once(self, folder: str, cell: dict[str, Any], store: str, key: str) -> dict[str, float]:
        """Milliseconds: look-up with checksum; open, which checks once more; the first run. Then all of it once more
        through `build`, which finds the engine by model and configuration."""
        row, engines = Cell(**cell), EngineStore(store)
        feeds, model, config = feeds_of(Path(folder), row), model_of(Path(folder), row), config_of(Path(folder), row)
        marks = [time.perf_counter()]
        engine = _find(engines, key)
        marks.append(time.perf_counter())
        with open_engine(engine) as session:
            marks.append(time.perf_counter())
            session.run(feeds)
            marks.append(time.perf_counter())
        start = time.perf_counter()
        with open_engine(build(model, config, BACKEND, store=engines).engine) as session:
            session.run(feeds)
            with_build = 1e3 * (time.perf_counter() - start)
        names = ("look_up", "open", "first_run")
        parts = {name: 1e3 * (late - early) for name, early, late in zip(names, marks, marks[1:], strict=False)}
        return {"total": sum(parts.values()), **parts, "with_build": with_build}

    def release(self) -> None:
        if self.session:
            self.session.close()
        self.session = None


def _find(store: EngineStore, key: str) -> Engine:
    """As `build` looks it up: under the lock, every file checked."""
    with store.lock(key):
        lookup = store.find(key)
    if lookup.engine is None:
        raise RuntimeError(f"the engine {key} is not in the store: {lookup.damage}")
    return lookup.engine


if __name__ == "__main__":
    serve(WorkbenchPeer())
