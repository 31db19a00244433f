"""Hand-overs on the GPU they are for: the Python runner and the C++ runner, with TensorRT itself.

The C++ runner is compiled against the headers in the folder that TENSORRT_INCLUDE_DIR names, and linked with the
library beside the Python package.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_gpu import FASHION, Builder, on_cpu, relative, saved

from workbench.building import Built
from workbench.deploy import Wishes, deploy
from workbench.deploy.cpp_folder import file_names
from workbench.deploy.example import make_example
from workbench.deploy.runner.arrays import read_arrays, write_arrays
from workbench.engine import open_engine
from workbench.model import Model, load_model

pytestmark = pytest.mark.gpu
Done = subprocess.CompletedProcess[str]


def ran(*command: object, folder: Path | None = None) -> Done:
    return subprocess.run([str(item) for item in command], cwd=folder, capture_output=True, text=True, check=False)


def python(folder: Path, *arguments: object) -> Done:
    return ran(sys.executable, "runner.py", *arguments, folder=folder)


@pytest.fixture(scope="module")
def handed(fashion: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classifier of clothes with an open batch, for Python."""
    done = deploy(fashion.engine, "python", tmp_path_factory.mktemp("python") / "out")
    assert "the engine itself" in done.made_by
    return done.folder


@pytest.fixture(scope="module")
def program(fashion: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ runner, built beside the same model's hand-over."""
    import tensorrt

    headers = os.environ.get("TENSORRT_INCLUDE_DIR", "")
    assert (Path(headers) / "NvInferRuntime.h").is_file(), "set TENSORRT_INCLUDE_DIR to a folder with NvInferRuntime.h"
    (library,) = Path(str(tensorrt.__file__)).parent.glob("libnvinfer.so.*")
    folder = deploy(fashion.engine, "cpp", tmp_path_factory.mktemp("cpp") / "out").folder
    places = (f"-DTENSORRT_INCLUDE_DIR={headers}", f"-DTENSORRT_LIBRARY={library}")
    for command in (["cmake", "-S", folder, "-B", folder / "build", *places], ["cmake", "--build", folder / "build"]):
        done = ran(*command)
        print(done.stdout)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build" / "runner"


# ---- Python


def test_the_python_runner_verifies_and_times(handed: Path) -> None:
    done = python(handed, "--verify", "--time", 200)
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert "alike  logits" in done.stdout and "CUDA events" in done.stdout


def test_another_expected_output_is_apart(handed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    ran("cp", "-r", handed, folder)
    vector = folder / "test_vector" / "outputs.npz"
    write_arrays(vector, {"logits": 1.01 * read_arrays(vector)["logits"]})
    assert python(folder, "--verify").returncode == 1


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_python_runner_takes_every_batch(
    handed: Path, fashion_cnn: Model, pictures, tmp_path: Path, batch: int
) -> None:
    feeds = {"image": pictures[:batch]}
    write_arrays(tmp_path / "in.npz", feeds)
    done = python(handed, tmp_path / "in.npz", "-o", tmp_path / "out.npz")
    assert done.returncode == 0, done.stderr
    found = read_arrays(tmp_path / "out.npz")["logits"]
    assert relative(found, on_cpu(fashion_cnn, feeds)["logits"]) < 1e-5


def test_a_batch_beyond_the_profile_is_told(handed: Path, tmp_path: Path) -> None:
    write_arrays(tmp_path / "in.npz", {"image": np.zeros((65, 1, 28, 28), np.float32)})
    done = python(handed, tmp_path / "in.npz", "-o", tmp_path / "out.npz")
    assert done.returncode == 2 and "65 is outside of 1 to 64" in done.stderr


def test_one_model_goes_from_profile_to_profile(built: Builder, fashion_cnn: Model, pictures, tmp_path: Path) -> None:
    engine = built(fashion_cnn, ["image:1x1x28x28", "image:2x1x28x28,32x1x28x28,64x1x28x28"]).engine
    folder = deploy(engine, "python", tmp_path / "out").folder
    np.savez(tmp_path / "pictures.npz", pictures[:64])
    code = (
        "import sys, numpy as np\nsys.path.insert(0, sys.argv[1])\nfrom runner import open_model\n"
        "pictures = np.load(sys.argv[2])['arr_0']\n"
        "with open_model() as model:\n"
        "    answers = {str(n): model.run({'image': pictures[:n]})['logits'] for n in (1, 2, 64, 33)}\n"
        "np.savez(sys.argv[3], **answers)\n"
    )
    done = ran(sys.executable, "-c", code, folder, tmp_path / "pictures.npz", tmp_path / "found.npz")
    assert done.returncode == 0, done.stderr
    wanted = on_cpu(fashion_cnn, {"image": pictures[:64]})["logits"]
    for count, found in read_arrays(tmp_path / "found.npz").items():
        assert relative(found, wanted[: int(count)]) < 1e-5


def test_a_plan_of_another_release_is_told_before_it_is_opened(handed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    ran("cp", "-r", handed, folder)
    facts = json.loads((folder / "deployment.json").read_text())
    (folder / "deployment.json").write_text(json.dumps({**facts, "release": "8.5.3"}))
    done = python(folder, "--verify")
    assert done.returncode == 2 and "built with TensorRT 8.5.3" in done.stderr


# ---- C++


def test_the_cpp_runner_verifies_and_times(program: Path) -> None:
    done = ran(program, "--verify", "--time", 1000)
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert "alike  logits" in done.stdout and "ms of 1000 runs; CUDA events" in done.stdout


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_cpp_runner_takes_every_batch(
    program: Path, fashion_cnn: Model, pictures, tmp_path: Path, batch: int
) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "image.npy", pictures[:batch])
    done = ran(program, tmp_path / "in", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    wanted = on_cpu(fashion_cnn, {"image": pictures[:batch]})["logits"]
    assert relative(np.load(tmp_path / "out" / "logits.npy"), wanted) < 1e-5


def test_the_cpp_runner_tells_what_does_not_fit(program: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.zeros((65, 1, 28, 28), np.float32))
    done = ran(program, tmp_path, tmp_path / "out")
    assert done.returncode == 2 and "65 is outside of 1 to 64" in done.stderr


def test_the_cpp_runner_tells_tensorrts_reason(program: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    ran("cp", "-r", program.parents[1], folder)
    (folder / "engine.plan").write_bytes(b"no plan" * 100)
    done = ran(program, "--verify", "--folder", folder)
    print(done.stderr)
    assert done.returncode == 2 and "TensorRT does not take" in done.stderr


# ---- engines of every kind, on both


def both(program: Path, built_engine: Built, tmp_path: Path, wishes: Wishes | None = None) -> None:
    """Each runner verifies a hand-over of the engine."""
    for to in ("python", "cpp"):
        folder = deploy(built_engine.engine, to, tmp_path / to, wishes).folder
        verify = (program, "--verify", "--folder", folder, "--time", 5)
        done = python(folder, "--verify", "--time", 5) if to == "python" else ran(*verify)
        print(done.stdout)
        assert done.returncode == 0, f"{to}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize(("precision", "keep_io_types"), [("tf32", True), ("fp16", True), ("fp16", False)])
def test_precisions_and_types(
    program: Path, built: Builder, fashion_cnn: Model, tmp_path: Path, precision: str, keep_io_types: bool
) -> None:
    both(program, built(fashion_cnn, FASHION, precision=precision, keep_io_types=keep_io_types), tmp_path)


def test_fixed_shapes(program: Path, built: Builder, tmp_path: Path) -> None:
    both(program, built(saved(tmp_path, "(float[2,4] x) => (float[2,4] y) { y = Relu(x) }")), tmp_path)


def test_several_profiles(program: Path, built: Builder, fashion_cnn: Model, pictures, tmp_path: Path) -> None:
    engine = built(fashion_cnn, ["image:1x1x28x28", "image:2x1x28x28,32x1x28x28,64x1x28x28"])
    both(program, engine, tmp_path, Wishes(feeds={"image": pictures[:40]}))


def test_int64(program: Path, built: Builder, tmp_path: Path) -> None:
    table = np.arange(20, dtype=np.float32).reshape(5, 4)
    graph = "(int64[n] ids) => (float[n,4] y, int64[n] next) { y = Gather(table, ids) next = Add(ids, one) }"
    both(program, built(saved(tmp_path, graph, table=table, one=np.array(1)), ["ids:1,4,8"]), tmp_path)


def test_outputs_sized_by_data(program: Path, built: Builder, tmp_path: Path) -> None:
    model = saved(tmp_path, "(float[n,4] x) => (int64[2,k] where) { t = Relu(x) where = NonZero(t) }")
    x = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    both(program, built(model, ["x:1x4,4x4,64x4"]), tmp_path, Wishes(feeds={"x": x}))


def test_inputs_that_hold_sizes(program: Path, built: Builder, tmp_path: Path) -> None:
    model = saved(tmp_path, "(float[1,n] x, int64[2] size) => (float[a,b] y) { t = Relu(x) y = Expand(t, size) }")
    both(program, built(model, ["x:1x1,1x4,1x8", "size:[1x1],[3x4],[6x8]"]), tmp_path)


def test_names_that_are_no_file_names(program: Path, built: Builder, tmp_path: Path) -> None:
    model = saved(tmp_path, "(float[n,4] x) => (float[n,4] y) { y = Relu(x) }")
    proto = onnx.load(str(model.path))
    proto.graph.node[0].input[0] = proto.graph.input[0].name = "serving/x:0"
    proto.graph.node[0].output[0] = proto.graph.output[0].name = "/out"
    onnx.save(proto, str(tmp_path / "named.onnx"))
    both(program, built(load_model(tmp_path / "named.onnx"), ["serving/x:0:1x4,2x4,8x4"]), tmp_path)
    assert file_names(["serving/x:0"]) == {"serving/x:0": "serving_x_0.npy"}


def test_a_trial_on_the_gpu_tells_what_can_be_batched(built: Builder, tmp_path: Path) -> None:
    for number, (graph, largest) in enumerate(
        (
            ("(float[n,4] x) => (float[m,4] y) { y = Softmax(x) }", 8),
            ("(float[n,4] x) => (float[m,4] y) { y = Softmax<axis = 0>(x) }", 0),
        )
    ):
        (tmp_path / str(number)).mkdir()
        engine = built(saved(tmp_path / str(number), graph), ["x:1x4,2x4,8x4"]).engine
        batches = make_example(engine, Wishes(), with_batches=True).batches
        assert batches is not None and batches.largest == largest, batches


def test_the_expected_outputs_are_the_engines(fashion: Built, handed: Path) -> None:
    inputs = read_arrays(handed / "test_vector" / "inputs.npz")
    with open_engine(fashion.engine) as session:
        wanted = session.run(inputs)["logits"]
    assert relative(read_arrays(handed / "test_vector" / "outputs.npz")["logits"], wanted) < 1e-6
