"""Real converters in their real environments, which are made at first (about 3 GB) and kept.

They lie in WORKBENCH_EXPORTERS_HOME, or in .venv-exporters of the repository. Every test has a store of its own.
"""

from __future__ import annotations

import lzma
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from workbench import backends
from workbench.building import build
from workbench.export import environments
from workbench.export.environments import PADDLE_2, PADDLE_3, TENSORFLOW, Made
from workbench.export.example_models import paddle_ocr
from workbench.export.exported import Exported
from workbench.profiles import profile_of
from workbench.store import EngineStore
from workbench.types import BuildConfig, ignore

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FASHION = ROOT / "data" / "fashion_mnist_test"
HOME = Path(os.environ.get("WORKBENCH_EXPORTERS_HOME") or ROOT / ".venv-exporters").absolute()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("exporters")


def _made(environment: environments.Environment) -> Made:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(HOME))
        return environments.ensure(environment, yes=True, listener=ignore, cancel=threading.Event())


def _run(made: Made, script: str, *words: str | Path) -> None:
    command = [str(made.python), "-I", str(HERE / script), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="session")
def paddle_2_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paddle-2")
    _run(_made(PADDLE_2), "make_paddle_2.py", folder, FASHION)
    return folder


@pytest.fixture(scope="session")
def paddle_3() -> Made:
    return _made(PADDLE_3)


@pytest.fixture(scope="session")
def paddle_3_models(paddle_3: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paddle-3")
    _run(paddle_3, "make_paddle_3.py", folder)
    return folder


@pytest.fixture(scope="session")
def tensorflow_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorflow")
    _run(_made(TENSORFLOW), "make_tensorflow.py", folder)
    return folder


@pytest.fixture(scope="session")
def ocr_models() -> Path:
    _made(PADDLE_2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(HOME))
        return paddle_ocr(fetch=True)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workbench's folder of this test; only the environments and what was fetched are shared."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in ("environments", "models"):
        (HOME / name).mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(HOME / name)
    monkeypatch.setenv("WORKBENCH_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    """500 pictures of Fashion-MNIST that no model here was trained on: float32[500, 1, 28, 28] in [0, 1]."""
    data = lzma.decompress((FASHION / "t10k-images-idx3-ubyte.xz").read_bytes())
    return np.frombuffer(data, np.uint8, offset=16).reshape(-1, 1, 28, 28)[8000:8500].astype(np.float32) / 255


Builds = Callable[..., None]


@pytest.fixture
def builds(tmp_path: Path) -> Builds:
    """Asserts that TensorRT-RTX builds an export, for these (min, opt, max) of its open dimensions by name."""

    def assert_built(exported: Exported, **bounds: tuple[int, int, int]) -> None:
        if not backends.load("rtx").support().can_build:
            pytest.skip("there is no TensorRT-RTX here")
        profiles = (profile_of(exported.model.inputs, bounds),) if bounds else ()
        built = build(exported.model, BuildConfig(profiles=profiles), "rtx", store=EngineStore(tmp_path / "engines"))
        assert built.engine.plan_bytes > 0

    return assert_built
