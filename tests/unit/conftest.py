"""Every test has an engine store of its own; tests of TensorRT-RTX are left out where NVIDIA has no wheel of it."""

import platform
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/models.py

from helpers_building import small
from models import FASHION_CNN

from workbench.model import Model, load_model
from workbench.store import EngineStore

HAS_RTX_WHEELS = (sys.platform, platform.machine()) in {("linux", "x86_64"), ("win32", "AMD64")}

# The same examples every time, so that a build fails for what was changed in it, and however slow the machine is.
# Others are sought with `pytest -m hypothesis --hypothesis-profile=seeking`.
_PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("workbench", derandomize=True, **_PATIENT)
settings.register_profile("seeking", max_examples=500, **_PATIENT)
settings.load_profile("workbench")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "rtx: TensorRT-RTX, published for x86-64 Linux and Windows only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not HAS_RTX_WHEELS:
        left_out = [item for item in items if item.get_closest_marker("rtx")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this test's engine store."""
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WORKBENCH_LOCKS", str(tmp_path / "locks"))  # tests side by side shall not wait for each other
    return tmp_path / "home"


@pytest.fixture(scope="session")
def fashion_cnn() -> Model:
    return load_model(FASHION_CNN)


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "store")


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """Small enough to build in less than a second."""
    return small(tmp_path / "small.onnx")
