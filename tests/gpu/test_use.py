"""The workbench as it is used, with TensorRT behind it: EngineBuilder, command line, notebook, models in parts."""

import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path

import nbformat
import numpy as np
import pytest
from helpers_gpu import DATA, FASHION, relative
from helpers_hybrid import MODELS
from models import FASHION_CNN
from nbclient import NotebookClient

import workbench as wb
from workbench.accuracy import compare_outputs
from workbench.backends import GpuSession
from workbench.cli import main
from workbench.engine import open_engine
from workbench.hybrid import usual_samples
from workbench.hybrid.session import open_native
from workbench.model import load_model
from workbench.subgraphs import divide, find_support
from workbench.widgets.state import BuilderState

pytestmark = pytest.mark.gpu


def answer(*arguments: str) -> dict:
    """What the command line prints as JSON."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert main([*arguments, "--json"]) == 0
    return json.loads(printed.getvalue())


def test_engine_builder_takes_tensorrt_by_itself_and_times_the_engine_on_the_gpu() -> None:
    state = BuilderState()
    state.load(FASHION_CNN)
    assert state.backend == "tensorrt"
    state.start()
    assert state.wait(300) and state.error is None
    assert state.built.engine.backend == "tensorrt"
    state.time_it()
    assert state.wait(60) and state.error is None
    assert state.measured_on.startswith("tensorrt")
    assert "CUDA events" in state.measurement.clock and state.measurement.host_times_ms


def test_bench_and_fusion_on_the_command_line(tmp_path: Path) -> None:
    profile = tmp_path / "layers.json"
    told = answer("bench", str(FASHION_CNN), "--shapes", FASHION[0], "--precision", "fp16", "--profile", str(profile))
    assert told["backend"] == "tensorrt" and 0 < told["median_ms"] < told["host_median_ms"]
    fusion = answer("fusion", told["key"], "--profile", str(profile))
    assert json.dumps(fusion).count("ms") and json.loads(profile.read_text())[0]["count"] > 0


def test_compare_with_onnx_runtime_on_the_command_line() -> None:
    told = answer("compare", str(FASHION_CNN), "onnxruntime:fp32", "tensorrt:fp32", "--shapes", FASHION[0])
    assert told["outputs"][0]["relative"] < 1e-5


def test_the_notebook_of_engines_runs_with_tensorrt() -> None:
    """With a small network in place of the text detector, which TensorRT 8.6 builds for many minutes."""
    path = DATA.parent / "notebooks" / "03_build_and_reuse.ipynb"
    book = nbformat.read(path, 4)
    for cell in book.cells:
        cell.source = cell.source.replace("ppocrv4_det.onnx", "fashion_cnn.onnx")
        cell.source = re.sub(r"x:1x3x(64x64|640x640),1x3x(64x64|640x640),4x3x1280x1280", _smaller, cell.source)
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    printed = "".join(output.get("text", "") for cell in book.cells for output in cell.get("outputs", ()))
    assert "on tensorrt 8.6.0" in printed


def _smaller(match: re.Match[str]) -> str:
    return "image:" + ",".join(f"{batch}x1x28x28" for batch in ((1, 2, 4) if match[1] == "64x64" else (2, 1, 4)))


QUICK = wb.BuilderOptions(optimization_level=0)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_in_parts_gives_what_the_whole_gives(name: str, tmp_path: Path) -> None:
    make, feed = MODELS[name]
    model = make(tmp_path)
    samples, whole = feed(model), open_native(model)
    shapes, support = wb.collect_shapes(model, samples), find_support(model, "tensorrt")
    engines = 0
    for size in (1, 3, 10, 50):
        hybrid = wb.build_parts(divide(support, size), wb.BuildConfig(builder=QUICK), shapes=shapes)
        engines += len(hybrid.built)
        with wb.HybridSession(hybrid) as session:
            assert not session.stand_ins
            for sample in samples:
                found, wanted = session.run(sample), whole.run(sample)
                assert all(found[key].dtype == wanted[key].dtype for key in wanted)
                assert max(item.relative for item in compare_outputs(wanted, found)) < 1e-3
    assert engines


def test_engines_side_by_side_pass_arrays_on_the_gpu(tmp_path: Path) -> None:
    model = load_model(FASHION_CNN)
    within = "/residual1/first/relu/Relu"  # what goes around it goes from one engine to the next
    samples = usual_samples(model, wb.parse_shapes(FASHION))
    parts = wb.partition(model, "tensorrt", min_subgraph_size=1, disable_ops=[within])
    hybrid = wb.build_parts(parts, wb.BuildConfig(profiles=(wb.parse_shapes(FASHION),), builder=QUICK))
    with wb.HybridSession(hybrid) as session:
        assert "on the GPU from engine to engine" in session.clock
        for sample in samples:
            wanted = open_native(model).run(sample)["logits"]
            assert relative(session.run(sample)["logits"], wanted) < 1e-4


def test_the_session_is_what_the_rest_of_the_workbench_expects(fashion, pictures: np.ndarray) -> None:
    from workbench.timing import Timing, measure

    with open_engine(fashion.engine) as session:
        assert isinstance(session, GpuSession)
        measured = measure(session, {"image": pictures[:8]}, Timing(30))
    assert len(measured.times_ms) == len(measured.host_times_ms) == 30
    assert measured.median_ms < measured.host_median_ms
