"""Engine: the sealed record of what was built, and opening it."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers_building import BOTH, copy_store, small
from hypothesis import given
from hypothesis import strategies as st

from workbench import backends
from workbench.building import Built, build
from workbench.engine import (
    Engine,
    open_engine,
    read_layers,
    read_log,
    read_record,
    verify,
    write_layers,
    write_log,
    write_record,
)
from workbench.errors import BackendError, StoreError, UntrustedEngine
from workbench.recipe import recipe_key
from workbench.store import EngineStore
from workbench.types import BuildConfig, Calibration, LogLine


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Built]:
    folder = tmp_path_factory.mktemp("origin")
    store, model = EngineStore(folder / "store"), small(folder / "small.onnx")
    built = [build(model, None, name, store=store) for name, here in backends.available().items() if here.can_build]
    return store.folder, built[0]


@pytest.fixture
def store(origin: tuple[Path, Built], tmp_path: Path) -> EngineStore:
    return copy_store(origin[0], tmp_path / "store")


def stored(store: EngineStore, backend: str) -> Engine:
    return next(engine for engine in store.engines() if engine.backend == backend)


def test_an_opened_engine_computes_what_the_model_says(store: EngineStore) -> None:
    with open_engine(stored(store, "onnxruntime"), threads=1) as session:
        answer = session.run({"x": np.ones((1, 3, 8, 8), np.float32)})["y"]
    weights = np.random.default_rng(0).random((4, 3, 3, 3), dtype=np.float32)
    np.testing.assert_allclose(answer[0, :, 4, 4], weights.sum(axis=(1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("backend", BOTH)
def test_a_plan_that_changed_after_the_look_up_is_not_opened(store: EngineStore, backend: str) -> None:
    engine = store.find(stored(store, backend).key).engine
    assert engine is not None
    content = bytearray(engine.plan_path.read_bytes())
    content[len(content) // 2] ^= 1
    engine.plan_path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        open_engine(engine)


def test_an_engine_removed_after_the_look_up_is_one_sentence(store: EngineStore) -> None:
    engine = stored(store, "onnxruntime")
    shutil.rmtree(engine.folder)
    with pytest.raises(StoreError, match="missing; build the engine again"):
        open_engine(engine)


@pytest.mark.rtx
def test_an_rtx_engine_without_a_gpu_says_why_it_cannot_run_here(store: EngineStore) -> None:
    with pytest.raises(BackendError, match=r"cannot run here: .+\.$"):
        open_engine(stored(store, "rtx"))


@pytest.mark.rtx
def test_layers_and_log_are_read_back_as_they_were_written(tmp_path: Path, store: EngineStore) -> None:
    engine = dataclasses.replace(stored(store, "rtx"), folder=tmp_path)
    layers = read_layers(stored(store, "rtx"))
    lines = (LogLine("info", "ünï ✓ \n two lines"), LogLine("error", '"quoted" \\ \0'), LogLine("verbose", ""))
    write_layers(tmp_path, layers)
    write_log(tmp_path, lines)
    assert read_layers(engine) == layers
    assert read_log(engine) == lines


def test_the_record_reads_back_equal_and_only_with_its_secret(tmp_path: Path, store: EngineStore) -> None:
    source = stored(store, "onnxruntime")
    folder = tmp_path / "engine"
    shutil.copytree(source.folder, folder)
    written = write_record(dataclasses.replace(source, folder=folder, layers=7), b"secret")
    assert written.files == source.files
    assert read_record(folder, b"secret") == written
    verify(written)
    with pytest.raises(UntrustedEngine):
        read_record(folder, b"other")
    assert read_record(folder, b"other", trust=True) == written


def test_an_engine_is_calibrated_by_the_table_in_its_own_folder(origin: tuple[Path, Built]) -> None:
    engine = origin[1].engine
    assert engine.config.calibration is None
    calibrated = dataclasses.replace(engine, recipe={**engine.recipe, "calibration": {"algorithm": "minmax"}})
    assert calibrated.config.calibration == Calibration(str(engine.folder / "calibration.cache"), "minmax")


@pytest.mark.rtx
def test_the_engine_tells_its_shapes(tmp_path: Path) -> None:
    model, store = small(tmp_path / "open.onnx", batch="n"), EngineStore(tmp_path / "store")
    config = build(model, None, "rtx", store=store).engine.config
    assert (config.profiles[0].ranges["x"].min, config.profiles[0].ranges["x"].max) == ((1, 3, 8, 8), (8, 3, 8, 8))
    assert build(model, BuildConfig(), "onnxruntime", store=store).engine.config.profiles == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON))
def test_a_recipes_key_does_not_depend_on_the_order_of_its_entries(recipe: dict[str, object]) -> None:
    key = recipe_key(recipe)
    assert key == recipe_key(dict(reversed(list(recipe.items()))))
    assert len(key) == 32 and set(key) <= set("0123456789abcdef")


@given(st.dictionaries(st.text(), JSON), st.dictionaries(st.text(), JSON))
def test_different_recipes_have_different_keys(one: dict[str, object], other: dict[str, object]) -> None:
    assert (recipe_key(one) == recipe_key(other)) == (_plain(one) == _plain(other))


def _plain(recipe: dict[str, object]) -> str:
    """Equality as JSON has it: True is not 1."""
    return repr(_sorted(recipe))


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        return sorted((key, repr(_sorted(item))) for key, item in value.items())
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


def test_everything_in_the_configuration_makes_another_key(origin: tuple[Path, Built]) -> None:
    recipe = dict(origin[1].engine.recipe)
    keys = {recipe_key(recipe)}
    changes = {
        "format": 0, "model": "x", "backend": "x", "precision": "x", "profiles": [{}], "workspace_bytes": 1,
        "targets": ["sm75"], "keep_io_types": False, "calibration": {"algorithm": "x"},
        "builder": {"optimization_level": 1}, "ingredients": {**recipe["ingredients"], "release": "0"},
    }  # fmt: skip
    assert set(changes) == set(recipe)
    for name, value in changes.items():
        keys.add(recipe_key({**recipe, name: value}))
    assert len(keys) == len(changes) + 1
