"""ONNX Runtime's CUDA provider, where onnxruntime-gpu is installed."""

from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench import backends
from workbench.accuracy import compare_outputs

pytestmark = [pytest.mark.gpu, pytest.mark.onnxruntime_cuda]
DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def on_cpu(pictures: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict:
    store = wb.EngineStore(tmp_path_factory.mktemp("store"))
    model = wb.load_model(DATA / "models" / "fashion_cnn.onnx")
    built = wb.build(model, wb.BuildConfig(targets=("cpu",)), "onnxruntime", store=store)
    with wb.open_engine(built.engine) as session:
        return session.run({"image": pictures[:256]})


def test_the_cuda_target_is_offered_with_tf32():
    support = wb.available()["onnxruntime"]
    assert support.targets == ("cpu", "cuda")
    assert support.precisions == ("fp32", "tf32", "fp16")


@pytest.mark.parametrize(("precision", "relative"), [("fp32", 1e-5), ("tf32", 5e-3), ("fp16", 5e-3)])
def test_an_engine_for_cuda_runs_there_and_agrees_with_the_cpu(precision, relative, pictures, on_cpu, tmp_path):
    model = wb.load_model(DATA / "models" / "fashion_cnn.onnx")
    config = wb.BuildConfig(precision, targets=("cuda",))
    built = wb.build(model, config, "onnxruntime", store=wb.EngineStore(tmp_path))
    with wb.open_engine(built.engine) as session:
        assert session.provider == "cuda"
        outputs = session.run({"image": pictures[:256]})
        times = session.times_ms(50)
    difference = compare_outputs(on_cpu, outputs)[0]
    print(f"{precision}: relative {difference.relative:.2e}, median {np.median(times):.3f} ms at batch 256")
    assert difference.relative < relative
    assert difference.argmax_agreement > 0.98


def test_an_engine_for_the_cpu_stays_there_although_cuda_is_installed(tmp_path):
    model = wb.load_model(DATA / "models" / "fashion_cnn.onnx")
    built = wb.build(model, wb.BuildConfig(targets=("cpu",)), "onnxruntime", store=wb.EngineStore(tmp_path))
    with wb.open_engine(built.engine) as session:
        assert session.provider == "cpu"


def test_tf32_without_a_target_means_cuda():
    model = wb.load_model(DATA / "models" / "fashion_cnn.onnx")
    assert backends.load("onnxruntime").resolve(model, wb.BuildConfig("tf32")).targets == ("cuda",)
