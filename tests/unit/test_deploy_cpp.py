"""The C++ runner, compiled with its own CMakeLists.txt against stand-ins of TensorRT and CUDA, and run."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from helpers_building import small
from helpers_deploy import DOUBLE_PLAN, DOUBLE_SHAPES, FAKES, compiled, double, made_once, pretended

from workbench.building import build
from workbench.deploy import Wishes, deploy
from workbench.deploy.cpp_folder import SOURCES, file_names
from workbench.store import EngineStore
from workbench.types import BuilderOptions

Run = Callable[..., subprocess.CompletedProcess[str]]
Handed = Callable[[str, Mapping[str, Any], Mapping[str, Any]], Path]
LIBRARIES = {"8": "libnvinfer.so.8", "10": "libnvinfer.so.10"}
"""As the wheels name them, without the link that development packages bring."""
RELEASES = {"8": "8.6.0", "10": "10.16.1"}


@pytest.fixture(scope="module", params=["8", "10"])
def major(request: pytest.FixtureRequest) -> str:
    """Which release's interface is pretended: up to 9, or from 10 on."""
    return str(request.param)


@dataclass(frozen=True)
class Compiled:
    """The hand-over of y = 2 x, TensorRT's stand-in, and the program built from both."""

    root: Path
    major: str

    @property
    def folder(self) -> Path:
        return self.root / "out"

    @property
    def libraries(self) -> Path:
        return self.root / "lib"

    @property
    def program(self) -> Path:
        return self.root / "build" / "runner"

    @property
    def cuda(self) -> tuple[str, str]:
        return f"-DCUDART_INCLUDE_DIR={FAKES}", f"-DCUDART_LIBRARY={self.libraries / LIBRARIES[self.major]}"


def configured(source: Path, target: Path, *options: str, flags: str = "") -> subprocess.CompletedProcess[str]:
    command = ["cmake", "-S", str(source), "-B", str(target), "-DCMAKE_BUILD_TYPE=Debug", *options]
    environment = {**os.environ, "CXXFLAGS": f"{flags} -Werror"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def built(folder: Path) -> None:
    made = subprocess.run(["cmake", "--build", str(folder)], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr


@pytest.fixture(scope="module")
def doubling(major: str, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Built as whoever gets the folder does, warnings being errors."""

    def make(root: Path) -> None:
        plan = DOUBLE_PLAN.replace("fake 8", f"fake {major}")
        engine = pretended(EngineStore(root / "store"), double(root), plan, DOUBLE_SHAPES, release=RELEASES[major])
        here = Compiled(root, major)
        deploy(engine, "cpp", here.folder)
        compiled(FAKES / "fake.cpp", here.libraries / LIBRARIES[major], f"-DFAKE_MAJOR={major}")
        places = (f"-DTENSORRT_INCLUDE_DIR={FAKES}", f"-DTENSORRT_LIB_DIR={here.libraries}", *here.cuda)
        found = configured(here.folder, root / "build", *places, flags=f"-DFAKE_MAJOR={major}")
        assert found.returncode == 0, found.stderr
        built(root / "build")

    return Compiled(made_once(tmp_path_factory, f"deploy-cpp-{major}", make), major)


@pytest.fixture
def run(doubling: Compiled) -> Run:
    def go(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [doubling.program, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return go


@pytest.fixture
def handed(major: str, doubling: Compiled, tmp_path: Path) -> Handed:
    """handed(plan, inputs, outputs): the folder with another plan and test vector."""

    def make(plan: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Path:
        folder = tmp_path / "handed"
        shutil.copytree(doubling.folder, folder)
        (folder / "engine.plan").write_text(f"fake {major}\n{plan}")
        shutil.rmtree(folder / "test_vector")
        save(folder / "test_vector" / "inputs", inputs)
        save(folder / "test_vector" / "outputs", outputs)
        return folder

    return make


def save(folder: Path, arrays: Mapping[str, Any]) -> Path:
    folder.mkdir(parents=True)
    for name, file in file_names(arrays).items():
        np.save(folder / file, arrays[name])
    return folder


X = np.arange(12, dtype=np.float32).reshape(3, 4)


# ---- the test vector


def test_the_vector_of_a_fresh_hand_over_is_alike(run: Run) -> None:
    done = run("--verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert "alike  y: relative difference 0 (allowed 0.001), largest difference 0" in done.stdout
    assert "what ONNX Runtime gives for the model" in done.stdout


def test_another_expected_output_is_apart(run: Run, handed: Handed) -> None:
    folder = handed("input x f4 -1x4 1x4 8x4\nscale y f4 -1x4 x 2", {"x": X}, {"y": 2.01 * X})
    done = run("--verify", "--folder", folder)
    assert done.returncode == 1 and "APART  y: relative difference 0.00497" in done.stdout


def test_noise_around_zero_is_alike(run: Run, handed: Handed) -> None:
    x = np.full((2, 4), 1e-8, np.float32)
    folder = handed("input x f4 -1x4 1x4 8x4\nscale y f4 -1x4 x 2", {"x": x}, {"y": x})
    done = run("--verify", "--folder", folder)
    assert done.returncode == 0 and "relative difference 1 (allowed 0.001), largest difference 1e-08" in done.stdout


@pytest.mark.parametrize("expected", [np.zeros((3, 5), np.float32), np.zeros((3, 4), np.int32)])
def test_another_shape_or_kind_is_apart(run: Run, handed: Handed, expected: np.ndarray) -> None:
    folder = handed("input x f4 -1x4 1x4 8x4\nscale y f4 -1x4 x 2", {"x": X}, {"y": expected})
    done = run("--verify", "--folder", folder)
    assert done.returncode == 1 and "is expected, found f4 3x4" in done.stdout


@pytest.mark.parametrize(
    ("wanted", "status"),
    [([np.nan, np.inf, -np.inf, 2], 0), ([np.nan, np.inf, np.inf, 2], 1), ([0, np.inf, -np.inf, 2], 1)],
)
def test_values_that_are_not_finite_must_be_the_same(run: Run, handed: Handed, wanted: list, status: int) -> None:
    x = np.array([[np.nan, np.inf, -np.inf, 1]], np.float32)
    folder = handed("input x f4 -1x4 1x4 8x4\nscale y f4 -1x4 x 2", {"x": x}, {"y": np.array([wanted], np.float32)})
    assert run("--verify", "--folder", folder).returncode == status


# ---- arrays of the user's own


def test_arrays_in_files_go_in_and_out(run: Run, tmp_path: Path) -> None:
    done = run(save(tmp_path / "in", {"x": X}), tmp_path / "new" / "out")
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "new" / "out" / "y.npy"), 2 * X)


def test_float64_is_rounded(run: Run, tmp_path: Path) -> None:
    assert run(save(tmp_path / "in", {"x": X.astype(np.float64)}), tmp_path / "out").returncode == 0
    found = np.load(tmp_path / "out" / "y.npy")
    assert found.dtype == np.float32 and np.array_equal(found, 2 * X)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (X.astype(np.int32), "is of the type i4; the engine takes f4"),
        (np.zeros((9, 4), np.float32), "dimension 0: 9 is outside of 1 to 8"),
        (np.zeros(4, np.float32), "has 2 dimensions; the array is 4"),
        (np.asfortranarray(X), "not stored row by row"),
        (X.astype(">f4"), "arrays of the type >f4 cannot be read"),
        (X.astype(np.complex64), "cannot be read"),
    ],
)
def test_arrays_that_do_not_fit_are_told(run: Run, tmp_path: Path, array: np.ndarray, words: str) -> None:
    done = run(save(tmp_path / "in", {"x": array}), tmp_path / "out")
    assert done.returncode == 2 and words in done.stderr and done.stderr.startswith("runner: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"PK\3\4 a zip file", None])
def test_files_that_are_no_arrays_are_told(run: Run, tmp_path: Path, content: bytes | None) -> None:
    folder = save(tmp_path / "in", {"x": X})
    path = folder / "x.npy"
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    done = run(folder, tmp_path / "out")
    assert done.returncode == 2 and "x.npy: " in done.stderr


def test_a_file_that_is_missing_is_told(run: Run, tmp_path: Path) -> None:
    done = run(tmp_path, tmp_path / "out")
    assert done.returncode == 2 and "x.npy: cannot be read" in done.stderr


# ---- engines of other kinds


def test_the_profile_that_takes_the_shapes_is_chosen(run: Run, handed: Handed, tmp_path: Path) -> None:
    folder = handed("input x f4 -1x4 1x4 2x4 5x4 9x4\nscale y f4 -1x4 x 2", {"x": X[:2]}, {"y": 2 * X[:2]})
    assert run("--verify", "--folder", folder).returncode == 0
    for size, status in ((5, 0), (9, 0), (3, 2), (10, 2)):
        array = np.ones((size, 4), np.float32)
        done = run("--folder", folder, save(tmp_path / f"in{size}", {"x": array}), tmp_path / f"out{size}")
        assert done.returncode == status, done.stderr
        if status == 0:
            assert np.array_equal(np.load(tmp_path / f"out{size}" / "y.npy"), 2 * array)


def test_int64_becomes_int32_where_the_engine_computes_in_it(run: Run, handed: Handed, tmp_path: Path) -> None:
    ids = np.array([[1, -7, 2**31 - 1]])
    folder = handed("input ids i4 -1x3 1x3 4x3\nscale out i4 -1x3 ids 1", {"ids": ids}, {"out": ids})
    assert run("--verify", "--folder", folder).returncode == 0
    done = run("--folder", folder, save(tmp_path / "in", {"ids": ids + 1}), tmp_path / "out")
    assert done.returncode == 2 and "ids holds values beyond i4" in done.stderr


def test_integers_are_compared_by_their_share(run: Run, handed: Handed) -> None:
    ids = np.arange(200).reshape(1, 200)
    other = ids.copy()
    other[0, :2] += 1
    folder = handed("input ids i4 -1x200 1x200 4x200\nscale out i4 -1x200 ids 1", {"ids": ids}, {"out": other})
    assert run("--verify", "--folder", folder).returncode == 0  # a hundredth may differ
    other[0, 2] += 1
    np.save(folder / "test_vector" / "outputs" / "out.npy", other)
    done = run("--verify", "--folder", folder)
    assert done.returncode == 1 and "share of different values 0.015 (allowed 0.01)" in done.stdout


def test_an_output_whose_size_only_a_run_tells(run: Run, handed: Handed, tmp_path: Path) -> None:
    x = np.array([[1, -2, 3, -4], [-5, 6, -7, -8]], np.float32)
    folder = handed("input x f4 -1x4 1x4 8x4\npositive p f4 x", {"x": x}, {"p": x[x > 0]})
    assert run("--verify", "--folder", folder).returncode == 0
    assert run("--folder", folder, save(tmp_path / "in", {"x": -abs(x)}), tmp_path / "out").returncode == 0
    assert np.load(tmp_path / "out" / "p.npy").shape == (0,)


def test_tensors_that_the_engine_keeps_on_the_host(run: Run, handed: Handed) -> None:
    plan = "input x f4 -1x4 1x4 8x4\ninput times i4 1\nrepeat y f4 x times\nshape s i4 x"
    inputs = {"x": X, "times": np.array([2], np.int32)}
    folder = handed(plan, inputs, {"y": np.concatenate([X, X]), "s": np.array([3, 4], np.int32)})
    done = run("--verify", "--folder", folder)
    assert done.returncode == 0, done.stderr + done.stdout


def test_names_that_are_no_file_names(run: Run, handed: Handed) -> None:
    plan = "input a/b f4 -1x4 1x4 8x4\ninput a:b f4 -1x4 1x4 8x4\nscale /out f4 -1x4 a/b 2\nscale ö f4 -1x4 a:b 3"
    folder = handed(plan, {"a/b": X, "a:b": X + 1}, {"/out": 2 * X, "ö": 3 * (X + 1)})
    assert sorted(path.name for path in (folder / "test_vector" / "inputs").iterdir()) == ["a_b.2.npy", "a_b.npy"]
    done = run("--verify", "--folder", folder)
    assert done.returncode == 0, done.stderr


def test_bfloat16_is_float32_in_files(major: str, run: Run, handed: Handed, tmp_path: Path) -> None:
    folder = handed("input x bf16 -1x4 1x4 8x4\nscale y bf16 -1x4 x 1", {"x": X}, {"y": X})
    if major == "8":  # which has no such type
        assert run("--verify", "--folder", folder).returncode != 0
        return
    assert run("--verify", "--folder", folder).returncode == 0
    values = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    values[0] = [np.nan, np.inf, -0.0, 1 + 2**-8]  # the last lies halfway
    run("--folder", folder, save(tmp_path / "in", {"x": values}), tmp_path / "out")
    wanted = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(np.load(tmp_path / "out" / "y.npy"), wanted, equal_nan=True)


def test_a_type_that_the_runner_does_not_know_is_told(run: Run, handed: Handed) -> None:
    folder = handed("input x fp8 -1x4 1x4 8x4\nscale y f4 -1x4 x 1", {"x": X}, {"y": X})
    done = run("--verify", "--folder", folder)
    assert done.returncode == 2 and "x has a type that this program does not know" in done.stderr


def test_a_version_compatible_plan_may_run_its_code(major: str, run: Run, store: EngineStore, tmp_path: Path) -> None:
    plan = DOUBLE_PLAN.replace("fake 8\n", f"fake {major}\nhost_code\n")
    builder = BuilderOptions(version_compatible=True)
    engine = pretended(store, double(tmp_path), plan, DOUBLE_SHAPES, release=RELEASES[major], builder=builder)
    folder = deploy(engine, "cpp", tmp_path / "out").folder
    assert run("--verify", "--folder", folder).returncode == 0
    settings = (folder / "deployment.txt").read_text()
    (folder / "deployment.txt").write_text(settings.replace("host_code=1", "host_code=0"))
    done = run("--verify", "--folder", folder)
    assert done.returncode == 2 and "host code is not allowed" in done.stderr


# ---- the program


def test_times_are_those_of_the_gpu(run: Run) -> None:
    done = run("--time", "25")
    assert done.returncode == 0 and "ms of 25 runs; CUDA events" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "usage"),
        (["in"], "usage"),
        (["a", "b", "c"], "usage"),
        (["--time"], "needs a value"),
        (["--time", "many"], "whole number"),
        (["--verbose"], "no such option"),
        (["--verify", "--folder", "/nowhere"], "does not tell plan"),
        (["--verify", "--device", "3"], "invalid device ordinal"),
    ],
)
def test_what_cannot_be_done_is_told(run: Run, arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2 and words in done.stderr


def test_a_plan_that_tensorrt_does_not_take_is_told_with_its_reason(run: Run, handed: Handed) -> None:
    folder = handed("", {"x": X}, {"y": X})
    (folder / "engine.plan").write_text("fake 7\n")
    done = run("--verify", "--folder", folder)
    assert done.returncode == 2 and "engine.plan: the plan was built with another release" in done.stderr


# ---- building


def test_the_library_may_be_named_by_its_file(major: str, doubling: Compiled, tmp_path: Path) -> None:
    places = (f"-DTENSORRT_INCLUDE_DIR={FAKES}", f"-DTENSORRT_LIBRARY={doubling.libraries / LIBRARIES[major]}")
    assert configured(doubling.folder, tmp_path, *places, *doubling.cuda).returncode == 0


def test_headers_and_library_are_found_below_the_root(doubling: Compiled, tmp_path: Path) -> None:
    shutil.copytree(FAKES, tmp_path / "root" / "include")
    shutil.copytree(doubling.libraries, tmp_path / "root" / "lib")
    root = f"-DTENSORRT_ROOT={tmp_path / 'root'}"
    assert configured(doubling.folder, tmp_path / "build", root, *doubling.cuda).returncode == 0


@pytest.mark.parametrize(("place", "words"), [("", "NvInferRuntime.h was not found"), (FAKES, "nvinfer was not found")])
def test_what_is_not_found_is_told(doubling: Compiled, tmp_path: Path, place: object, words: str) -> None:
    options = [f"-DTENSORRT_INCLUDE_DIR={place}"] if place else []
    found = configured(doubling.folder, tmp_path, *options)
    assert found.returncode != 0 and words in " ".join(found.stderr.split())


def test_the_folder_holds_all_sources(doubling: Compiled) -> None:
    files = {path.name for path in doubling.folder.iterdir()}
    assert files == {*SOURCES, "README.md", "engine.plan", "deployment.txt", "deployment.json", "test_vector"}


@pytest.mark.rtx
def test_tensorrt_rtx_has_a_library_of_its_own(store: EngineStore, tmp_path: Path) -> None:
    engine = build(small(tmp_path / "small.onnx"), None, "rtx", store=store).engine
    folder = deploy(engine, "cpp", tmp_path / "out").folder
    library = tmp_path / "lib" / "libtensorrt_rtx.so.1"
    library.parent.mkdir()
    for name in ("libnvinfer.so", library.name):
        (library.parent / name).touch()
    places = (f"-DTENSORRT_INCLUDE_DIR={FAKES}", f"-DTENSORRT_LIB_DIR={library.parent}")
    cuda = (f"-DCUDART_INCLUDE_DIR={FAKES}", f"-DCUDART_LIBRARY={library}")
    assert configured(folder, tmp_path / "build", *places, *cuda).returncode == 0
    assert f"TENSORRT_LIBRARY:FILEPATH={library}" in (tmp_path / "build" / "CMakeCache.txt").read_text()


def test_the_readme_names_the_files_of_all_tensors(doubling: Compiled) -> None:
    readme = (doubling.folder / "README.md").read_text()
    assert (
        "| `x` | `x.npy` |" in readme and "TENSORRT_ROOT" in readme and "NVIDIA H200 (compute capability 9.0)" in readme
    )


def test_feeds_of_the_users_own_are_the_vector(store: EngineStore, tmp_path: Path) -> None:
    engine = pretended(store, double(tmp_path), DOUBLE_PLAN, DOUBLE_SHAPES)
    folder = deploy(engine, "cpp", tmp_path / "out", Wishes(feeds={"x": X})).folder
    assert np.array_equal(np.load(folder / "test_vector" / "inputs" / "x.npy"), X)
