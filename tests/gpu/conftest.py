"""On a machine with an NVIDIA GPU, TensorRT and PyCUDA: python -m pytest tests/gpu

Engines are built once for all tests, in a store of their own. Tests that need PyTorch, ONNX Runtime's CUDA provider or
TensorRT's lean runtime are left out where these are not installed; pytest counts them as deselected.
"""

import gzip
import importlib.util
import lzma
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/models.py
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))  # its helpers

from helpers_gpu import DATA, FASHION, Builder
from models import FASHION_CNN

import workbench as wb
from workbench.backends.nvidia_session import NvidiaSession
from workbench.building import Built
from workbench.engine import open_engine
from workbench.model import Model, load_model
from workbench.profiles import parse_profiles

HAS = {
    "torch": importlib.util.find_spec("torch") is not None,
    "tensorrt_lean": importlib.util.find_spec("tensorrt_lean") is not None,
    "onnxruntime_cuda": "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
}


def pytest_configure(config: pytest.Config) -> None:
    for name in HAS:
        config.addinivalue_line("markers", f"{name}: left out where it is not installed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [
        item for item in items if any(item.get_closest_marker(name) and not there for name, there in HAS.items())
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> wb.EngineStore:
    return wb.EngineStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(autouse=True)
def home(store: wb.EngineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same store for what opens one by itself, such as the command line."""
    monkeypatch.setenv("WORKBENCH_HOME", str(store.folder))


@pytest.fixture(scope="session")
def built(store: wb.EngineStore) -> Builder:
    """built(model, shapes=['x:1x4,2x4,8x4'], **fields of BuildConfig)"""

    def make(model: Model, shapes: list[str] | tuple[str, ...] = (), **fields: object) -> Built:
        config = wb.BuildConfig(profiles=parse_profiles(shapes), **fields)
        return wb.build(model, config, "tensorrt", store=store)

    return make


@pytest.fixture(scope="session")
def fashion_cnn() -> Model:
    return load_model(FASHION_CNN)


@pytest.fixture(scope="session")
def fashion(built: Builder, fashion_cnn: Model) -> Built:
    return built(fashion_cnn, FASHION)


@pytest.fixture
def session(fashion: Built) -> Iterator[NvidiaSession]:
    with open_engine(fashion.engine) as opened:
        yield opened


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    """10,000 pictures of Fashion-MNIST as fashion_cnn takes them: float32 [10000, 1, 28, 28]."""
    content = lzma.decompress((DATA / "fashion_mnist_test" / "t10k-images-idx3-ubyte.xz").read_bytes())
    return np.frombuffer(content, np.uint8, offset=16).reshape(-1, 1, 28, 28).astype(np.float32) / 255


@pytest.fixture(scope="session")
def labels() -> np.ndarray:
    content = gzip.decompress((DATA / "fashion_mnist_test" / "t10k-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(content, np.uint8, offset=8)


@pytest.fixture(scope="session")
def samples(pictures: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("samples") / "fashion.npz"
    np.savez(path, image=pictures[-512:])
    return path


@pytest.fixture(scope="session")
def calibrated(built: Builder, fashion_cnn: Model, samples: Path) -> Built:
    return built(fashion_cnn, FASHION, precision="int8", calibration=wb.Calibration(str(samples)))
