"""The Python runner, run in a process of its own: with ONNX Runtime, and with stand-ins of TensorRT and the driver."""

import ast
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from helpers_building import ROOT, small
from helpers_deploy import (
    DOUBLE_PLAN,
    DOUBLE_SHAPES,
    FAKES,
    arrays_in,
    compiled,
    double,
    made_once,
    pretended,
    ran,
)
from models import FASHION_CNN, save

from workbench.building import build
from workbench.deploy import Wishes, deploy
from workbench.deploy.joining import PARTS, runner_text
from workbench.deploy.runner.arrays import Failure, fitted, from_bfloat16, read_arrays, to_bfloat16, write_arrays
from workbench.deploy.runner.command import differences
from workbench.engine import Engine
from workbench.model import load_model
from workbench.store import EngineStore
from workbench.types import BuilderOptions

API = {
    path.name.removesuffix(".json.gz"): json.loads(gzip.decompress(path.read_bytes()))
    for path in (Path(__file__).parents[1] / "data" / "api").glob("*.json.gz")
}
X = np.arange(12, dtype=np.float32).reshape(3, 4)


# ---- one file


@pytest.mark.parametrize("runtime", PARTS)
def test_the_joined_file_is_clean_and_stands_alone(runtime: str, tmp_path: Path) -> None:
    text = runner_text(runtime)
    (tmp_path / "runner.py").write_text(text)
    ruff = [sys.executable, "-m", "ruff"]
    for check in (["check"], ["format", "--check"]):
        command = [*ruff, *check, "--config", str(ROOT / "pyproject.toml"), "runner.py"]
        found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout
    tree = ast.parse(text)
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= set(sys.stdlib_module_names) | {"numpy"}
    assert (ast.get_docstring(tree) or "").startswith("Runs the model in this folder")
    assert ("class Gpu" in text) == runtime.startswith("tensorrt")


# ---- ONNX Runtime, for real


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fashion")
    engine = build(load_model(FASHION_CNN), None, "onnxruntime", store=EngineStore(folder / "store")).engine
    return deploy(engine, "python", folder / "out", Wishes(max_batch=None)).folder


@pytest.fixture
def handed(fashion: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    target = tmp_path / "handed"
    target.mkdir()
    for path in fashion.rglob("*"):
        if path.is_file():
            (target / path.relative_to(fashion)).parent.mkdir(exist_ok=True)
            (target / path.relative_to(fashion)).write_bytes(path.read_bytes())
    return target


def test_the_vector_is_alike(fashion: Path) -> None:
    done = ran(fashion, "--verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert "alike  logits: relative difference" in done.stdout and "the engine itself" in done.stdout


def test_another_expected_output_is_apart(handed: Path) -> None:
    vector = handed / "test_vector" / "outputs.npz"
    write_arrays(vector, {"logits": 1.01 * arrays_in(vector)["logits"]})
    done = ran(handed, "--verify")
    assert done.returncode == 1 and "APART  logits: relative difference 0.0099" in done.stdout


@pytest.mark.parametrize("expected", [{"logits": np.zeros((2, 2), np.float32)}, {"other": np.zeros(2, np.float32)}])
def test_another_shape_or_name_is_apart(handed: Path, expected: dict[str, Any]) -> None:
    write_arrays(handed / "test_vector" / "outputs.npz", expected)
    done = ran(handed, "--verify")
    assert done.returncode == 1 and "is expected, found" in done.stdout


def test_a_plan_that_was_changed_is_told(handed: Path) -> None:
    with (handed / "model.onnx").open("ab") as file:
        file.write(b"\0")
    done = ran(handed, "--verify")
    assert done.returncode == 2 and "not the file that was handed over" in done.stderr


def test_arrays_of_the_users_own_in_any_shape(fashion: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((5, 1, 28, 28))
    np.savez(tmp_path / "in.npz", image=images)
    done = ran(fashion, tmp_path / "in.npz", "-o", tmp_path / "out.npz", "--time", 3, "--threads", 1)
    assert done.returncode == 0 and "ms of 3 runs; perf_counter" in done.stdout
    assert arrays_in(tmp_path / "out.npz")["logits"].shape == (5, 10)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"image": np.zeros((1, 1, 28, 28), np.int32)}, "image is int32; it must be float32"),
        ({"image": np.zeros((1, 1, 27, 28), np.float32)}, "fails on these arrays"),
        ({"picture": np.zeros(1)}, "input image is missing; the model takes image"),
        ({"image": np.zeros((1, 1, 28, 28), np.float32), "more": np.zeros(1)}, "input more does not exist"),
        (None, "cannot be read as .npz"),
    ],
)
def test_what_does_not_fit_is_told(fashion: Path, tmp_path: Path, arrays: dict[str, Any] | None, words: str) -> None:
    path = tmp_path / "in.npz"
    path.write_bytes(b"no archive")
    if arrays:
        np.savez(path, **arrays)
    done = ran(fashion, path, "-o", tmp_path / "out.npz")
    assert done.returncode == 2 and words in done.stderr and done.stderr.startswith("runner: ")
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("arguments", [[], ["in.npz"], ["-o", "out.npz"], ["--time", "0"]])
def test_orders_that_say_nothing_are_refused(fashion: Path, arguments: list[str]) -> None:
    done = ran(fashion, *arguments)
    assert done.returncode == 2 and "give --verify" in done.stderr


def test_a_folder_without_its_facts_is_told(handed: Path) -> None:
    (handed / "deployment.json").unlink()
    done = ran(handed, "--verify")
    assert done.returncode == 2 and "copy the whole folder again" in done.stderr


def test_a_program_of_the_users_own_loads_once_and_runs_often(fashion: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np\n"
        "from runner import open_model\n"
        "with open_model() as model:\n"
        "    print(*(len(model.run({'image': np.zeros((n, 1, 28, 28), np.float32)})['logits']) for n in (1, 7, 2)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(fashion)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "7", "2"]


def test_weights_in_a_file_of_their_own_go_along(store: EngineStore, tmp_path: Path) -> None:
    graph = "(float[n,64] x) => (float[n,64] y) { y = MatMul(x, w) }"
    path = save(tmp_path / "net.onnx", graph, w=np.random.default_rng(0).random((64, 64), np.float32))
    proto = onnx.load(str(path))
    onnx.save(proto, str(path), save_as_external_data=True, location="net.bin", size_threshold=0)
    engine = build(load_model(path), None, "onnxruntime", store=store).engine
    folder = deploy(engine, "python", tmp_path / "out").folder
    assert (folder / "model.onnx.data").stat().st_size >= 64 * 64 * 4
    shutil.rmtree(store.folder)
    assert ran(folder, "--verify").returncode == 0


def test_texts_and_integers(store: EngineStore, tmp_path: Path) -> None:
    body = "{ same = Identity(words) more = Add(ids, ids) }"
    graph = f"(string[n] words, int64[n] ids) => (string[n] same, int64[n] more) {body}"
    model = load_model(save(tmp_path / "words.onnx", graph))
    engine = build(model, None, "onnxruntime", store=store).engine
    feeds = {"words": np.array(["one", "zwölf"], object), "ids": np.array([1, -2])}
    folder = deploy(engine, "python", tmp_path / "out", Wishes(feeds=feeds)).folder
    done = ran(folder, "--verify")
    assert done.returncode == 0 and "same: share of different values 0" in done.stdout, done.stderr
    assert ran(folder, "test_vector/inputs.npz", "-o", tmp_path / "found.npz").returncode == 0
    found = read_arrays(tmp_path / "found.npz")
    assert found["same"].tolist() == ["one", "zwölf"] and found["more"].tolist() == [2, -4]


# ---- TensorRT-RTX, without a GPU


def drivers(folder: Path) -> Path:
    compiled(FAKES / "libcuda.cpp", folder / "driver" / "libcuda.so.1")
    return folder / "driver"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "deploy-driver", drivers) / "driver"


@pytest.mark.rtx
def test_without_a_gpu_it_says_so(driver: Path, store: EngineStore, tmp_path: Path) -> None:
    """Where there is no driver, and where the driver finds no GPU."""
    engine = build(small(tmp_path / "small.onnx"), None, "rtx", store=store).engine
    folder = deploy(engine, "python", tmp_path / "out").folder
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "libcuda.so.1").touch()  # no library, whatever the machine has elsewhere
    for place, words in ((tmp_path / "none", "no NVIDIA GPU with a driver"), (driver, "no CUDA-capable device")):
        done = ran(folder, "--verify", LD_LIBRARY_PATH=str(place))
        assert done.returncode == 2 and words in done.stderr


def test_without_tensorrt_it_says_how_to_get_it(store: EngineStore, tmp_path: Path) -> None:
    engine = pretended(store, double(tmp_path), DOUBLE_PLAN, DOUBLE_SHAPES)
    folder = deploy(engine, "python", tmp_path / "out").folder
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.8 is missing')")
    done = ran(folder, "--verify", PYTHONPATH=str(tmp_path / "broken"))
    assert done.returncode == 2
    assert "libnvinfer.so.8 is missing" in done.stderr and "pip install tensorrt==8.6.0" in done.stderr


# ---- TensorRT, pretended


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(driver: Path) -> Run:
    """run(folder, *arguments, **environment) on a GPU of compute capability 9.0 with TensorRT 8.6.0, both pretended."""
    usual = {"FAKE_CAPABILITY": "9.0", "LD_LIBRARY_PATH": str(driver), "PYTHONPATH": str(FAKES / "python")}

    def go(folder: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return ran(folder, *arguments, **{**usual, **environment})

    return go


@pytest.fixture
def doubling(store: EngineStore, tmp_path: Path) -> Engine:
    return pretended(store, double(tmp_path), DOUBLE_PLAN, DOUBLE_SHAPES)


@pytest.fixture
def other(doubling: Engine, tmp_path: Path) -> Callable[..., Path]:
    """other(plan, inputs, outputs): a hand-over with another plan and test vector."""

    def make(plan: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any], release: str = "8") -> Path:
        folder = deploy(doubling, "python", tmp_path / "out").folder
        (folder / "engine.plan").write_text(f"fake {release}\n{plan}")
        write_arrays(folder / "test_vector" / "inputs.npz", inputs)
        write_arrays(folder / "test_vector" / "outputs.npz", outputs)
        change(folder, plan_sha256=sha256(folder / "engine.plan"), inputs=told(inputs), outputs=told(outputs))
        return folder

    return make


def change(folder: Path, **facts: Any) -> None:
    path = folder / "deployment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def told(arrays: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "dtype": array.dtype.name, "shape": []} for name, array in arrays.items()]


def test_a_plan_is_verified_and_timed(run: Run, doubling: Engine, tmp_path: Path) -> None:
    folder = deploy(doubling, "python", tmp_path / "out").folder
    done = run(folder, "--verify", "--time", 20)
    assert (done.returncode, done.stderr) == (0, "")
    assert "alike  y: relative difference 0 (allowed 0.001)" in done.stdout
    assert "ms of 20 runs; CUDA events" in done.stdout


def test_a_plan_that_answers_otherwise_is_apart(run: Run, other: Callable[..., Path]) -> None:
    folder = other("input x f4 -1x4 1x4 8x4\nscale y f4 -1x4 x 2", {"x": X}, {"y": 2.01 * X})
    done = run(folder, "--verify")
    assert done.returncode == 1 and "APART  y: relative difference 0.00498" in done.stdout


def test_the_profile_that_takes_the_shapes_is_chosen(run: Run, other: Callable[..., Path], tmp_path: Path) -> None:
    folder = other("input x f4 -1x4 1x4 2x4 5x4 9x4\nscale y f4 -1x4 x 2", {"x": X[:2]}, {"y": 2 * X[:2]})
    for size, status in ((2, 0), (5, 0), (9, 0), (3, 2), (10, 2)):
        array = np.ones((size, 4), np.float32)
        np.savez(tmp_path / "in.npz", x=array)
        done = run(folder, tmp_path / "in.npz", "-o", tmp_path / "found.npz")
        assert done.returncode == status, done.stderr
        if status == 0:
            assert np.array_equal(arrays_in(tmp_path / "found.npz")["y"], 2 * array)
    assert f"{size} is outside of 1 to 2; none of the 2 optimization profiles takes it" in done.stderr


def test_one_session_goes_from_shape_to_shape(driver: Path, other: Callable[..., Path]) -> None:
    folder = other("input x f4 -1x4 1x4 2x4 5x4 9x4\nscale y f4 -1x4 x 2", {"x": X[:2]}, {"y": 2 * X[:2]})
    code = (
        "import numpy as np\nfrom runner import Failure, open_model\n"
        "with open_model() as model:\n"
        "    for size in (1, 9, 2, 5, 3, 1):\n"
        "        x = np.full((size, 4), size, np.float32)\n"
        "        try:\n"
        "            print(size, np.array_equal(model.run({'x': x})['y'], 2 * x))\n"
        "        except Failure as error:\n"
        "            print(size, error)\n"
    )
    places = os.pathsep.join([str(folder), str(FAKES / "python")])
    environment = {**os.environ, "FAKE_CAPABILITY": "9.0", "LD_LIBRARY_PATH": str(driver), "PYTHONPATH": places}
    command = [sys.executable, "-c", code]
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["True", "True", "True", "True", "input", "True"]


def test_int64_becomes_int32_and_back(run: Run, other: Callable[..., Path], tmp_path: Path) -> None:
    ids = np.array([[1, -7, 2**31 - 1]])
    folder = other("input ids i4 -1x3 1x3 4x3\nscale out i4 -1x3 ids 1", {"ids": ids}, {"out": ids})
    assert run(folder, "--verify").returncode == 0
    assert run(folder, "test_vector/inputs.npz", "-o", tmp_path / "found.npz").returncode == 0
    assert arrays_in(tmp_path / "found.npz")["out"].dtype == np.int64
    np.savez(tmp_path / "in.npz", ids=ids + 1)
    done = run(folder, tmp_path / "in.npz", "-o", tmp_path / "found.npz")
    assert done.returncode == 2 and "ids holds values beyond int32" in done.stderr


def test_an_output_whose_size_only_a_run_tells(run: Run, other: Callable[..., Path]) -> None:
    x = np.array([[1, -2, 3, -4], [-5, 6, -7, -8]], np.float32)
    folder = other("input x f4 -1x4 1x4 8x4\npositive p f4 x", {"x": x}, {"p": x[x > 0]})
    done = run(folder, "--verify", "--time", 3)
    assert done.returncode == 0, done.stderr


def test_tensors_that_the_engine_keeps_on_the_host(run: Run, other: Callable[..., Path]) -> None:
    plan = "input x f4 -1x4 1x4 8x4\ninput times i4 1\nrepeat y f4 x times\nshape s i4 x"
    inputs = {"x": X, "times": np.array([2], np.int32)}
    folder = other(plan, inputs, {"y": np.concatenate([X, X]), "s": np.array([3, 4], np.int32)})
    done = run(folder, "--verify", "--time", 3)
    assert done.returncode == 0, done.stderr + done.stdout


def test_bfloat16_is_float32_in_arrays(run: Run, other: Callable[..., Path]) -> None:
    folder = other("input x bf16 -1x4 1x4 8x4\nscale y bf16 -1x4 x 1", {"x": X}, {"y": X}, release="10")
    change(folder, release="10.3.0")
    assert run(folder, "--verify", FAKE_RELEASE="10.3.0").returncode == 0


def test_a_type_that_the_runner_does_not_know_is_told(run: Run, other: Callable[..., Path]) -> None:
    done = run(other("input x fp8 -1x4 1x4 8x4\nscale y f4 -1x4 x 1", {"x": X}, {"y": X}), "--verify")
    assert done.returncode == 2 and "x has the type FP8" in done.stderr


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"FAKE_RELEASE": "8.6.1"}, "built with TensorRT 8.6.0, here is 8.6.1"),
        ({"FAKE_CAPABILITY": "8.9"}, "NVIDIA H200 (compute capability 9.0), and no other model; this is the Fake GPU"),
        ({"FAKE_RELEASE": "8.6.0.12"}, ""),
    ],
)
def test_another_release_or_gpu_is_told_before_the_plan_is_opened(
    run: Run, doubling: Engine, tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    done = run(deploy(doubling, "python", tmp_path / "out").folder, "--verify", **environment)
    assert done.returncode == (2 if words else 0) and words in done.stderr


@pytest.mark.parametrize(("capability", "status"), [("7.5", 2), ("8.0", 0), ("9.0", 0), ("12.0", 0)])
def test_a_plan_for_ampere_and_later(
    run: Run, store: EngineStore, tmp_path: Path, capability: str, status: int
) -> None:
    engine = pretended(store, double(tmp_path), DOUBLE_PLAN, DOUBLE_SHAPES, targets=("ampere+",))
    done = run(deploy(engine, "python", tmp_path / "out").folder, "--verify", FAKE_CAPABILITY=capability)
    assert done.returncode == status, done.stderr


@pytest.mark.parametrize(("release", "status"), [("8.6.0", 0), ("8.7.1", 0), ("8.5.3", 2), ("9.0.0", 2)])
def test_a_version_compatible_plan_opens_with_later_releases(
    run: Run, store: EngineStore, tmp_path: Path, release: str, status: int
) -> None:
    plan = DOUBLE_PLAN.replace("fake 8\n", "fake 8\nhost_code\n")
    builder = BuilderOptions(version_compatible=True)
    engine = pretended(store, double(tmp_path), plan, DOUBLE_SHAPES, builder=builder)
    done = run(deploy(engine, "python", tmp_path / "out").folder, "--verify", FAKE_RELEASE=release)
    assert done.returncode == status, done.stderr


@pytest.mark.parametrize("arguments", [["--device", "3"], ["--folder", "/nowhere"]])
def test_a_gpu_or_a_folder_that_is_not_there_is_told(
    run: Run, doubling: Engine, tmp_path: Path, arguments: list[str]
) -> None:
    done = run(deploy(doubling, "python", tmp_path / "out").folder, "--verify", *arguments)
    assert done.returncode == 2 and done.stderr.startswith("runner: ")


# ---- what is said to NVIDIA's libraries

OWNERS = {
    "self._engine": "ICudaEngine", "engine": "ICudaEngine", "self._context": "IExecutionContext",
    "context": "IExecutionContext", "runtime": "Runtime", "api.TensorIOMode": "TensorIOMode",
    "api.TensorLocation": "TensorLocation", "self._api.Logger": "Logger",
}  # fmt: skip
MODULE = {"api", "self._api"}
NVIDIA_MODEL = ROOT / "workbench" / "deploy" / "runner" / "nvidia_model.py"


def used_names() -> set[tuple[str, str | None]]:
    """(class, member or None) for what the runner takes from the library."""
    found: set[tuple[str, str | None]] = set()
    for node in ast.walk(ast.parse(NVIDIA_MODEL.read_text())):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in OWNERS:
            found.add((OWNERS[ast.unparse(node.value)], node.attr))
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in MODULE:
            found.add((node.attr, None))
    return {item for item in found if not (item[0].startswith("__"))}


def test_the_names_that_are_used_are_found() -> None:
    names = used_names()
    assert len(names) > 20
    assert {("IExecutionContext", "execute_async_v3"), ("ICudaEngine", "get_tensor_profile_shape")} <= names
    assert {("IOutputAllocator", None), ("Runtime", None), ("Runtime", "engine_host_code_allowed")} <= names


@pytest.mark.parametrize("release", sorted(API))
def test_every_name_exists_in_every_release(release: str) -> None:
    api = API[release]
    functions = {name for name in api if name[0].islower()}
    missing = {
        (owner, member)
        for owner, member in used_names()
        if (owner not in api and owner not in functions) or (member is not None and member not in api[owner])
    }
    assert not missing


@pytest.mark.parametrize("release", sorted(API))
def test_the_types_that_are_known_are_those_of_the_releases(release: str) -> None:
    from workbench.deploy.runner.nvidia_model import NUMPY_TYPES

    assert {name for name in API[release]["DataType"] if name not in ("FP8", "FP4", "INT4", "E8M0")} <= set(NUMPY_TYPES)


def test_noise_around_zero_is_alike(run: Run, other: Callable[..., Path]) -> None:
    x = np.full((2, 4), 1e-8, np.float32)
    folder = other("input x f4 -1x4 1x4 8x4\nscale y f4 -1x4 x 2", {"x": x}, {"y": x})
    done = run(folder, "--verify")
    assert done.returncode == 0 and "relative difference 1 (allowed 0.001), largest difference 1e-08" in done.stdout


# ---- arrays


def test_bfloat16_is_rounded_as_others_round_it() -> None:
    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    values[:6] = [np.nan, np.inf, -np.inf, -0.0, 1 + 2**-8, np.float32(3.4e38)]
    wanted = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(from_bfloat16(to_bfloat16(values)), wanted, equal_nan=True)


@pytest.mark.parametrize("name", ["file", "a/b", "x:0", "ö"])
def test_arrays_of_any_name_are_kept(tmp_path: Path, name: str) -> None:
    write_arrays(tmp_path / "a.npz", {name: X})
    assert np.array_equal(read_arrays(tmp_path / "a.npz")[name], X)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([object()], object))
    with pytest.raises(Failure):
        read_arrays(tmp_path / "a.npz")


def test_only_what_loses_nothing_is_converted() -> None:
    assert fitted("x", np.array([1, 2]), "int32").dtype == np.int32
    assert fitted("x", np.float64(1), "float32").shape == ()
    assert fitted("x", X.T, "float32").flags.c_contiguous
    for array, dtype in ((np.array([2**31]), "int32"), (np.array([-1]), "uint8"), (X, "int32"), (X, "float16")):
        with pytest.raises(Failure, match="input x"):
            fitted("x", array, dtype)


@pytest.mark.parametrize(
    ("expected", "found", "values"),
    [
        ([1.0, 2.0], [1.0, 2.0], (0.0, 0.0)),
        ([3.0, 4.0], [3.0, 4.5], (0.1, 0.5)),
        ([0.0, 0.0], [0.0, 0.0], (0.0, 0.0)),
        ([0.0, 0.0], [0.0, 1.0], (np.inf, 1.0)),
        ([np.nan, np.inf, 5.0], [np.nan, np.inf, 5.0], (0.0, 0.0)),
        ([np.inf, 5.0], [-np.inf, 5.0], (np.inf, np.inf)),
        ([1.0, 5.0], [np.nan, 5.0], (np.inf, np.inf)),
        ([], [], (0.0, 0.0)),
    ],
)
def test_the_difference_is_the_norm_over_the_norm(expected: list, found: list, values: tuple) -> None:
    relative, absolute = values
    assert differences(np.array(expected), np.array(found)) == pytest.approx(
        {"relative": relative, "absolute": absolute}
    )


def test_of_integers_and_texts_it_is_the_share_that_differs() -> None:
    assert differences(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5], np.int32)) == {"different": 0.25}
    assert differences(np.array(["a", "b"]), np.array(["a", "c"], object)) == {"different": 0.5}
