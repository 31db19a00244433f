"""Model repositories for Triton: config.pbtxt read with Triton's own protobuf, and the client against a server."""

import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from google.protobuf import text_format
from helpers_deploy import DOUBLE_PLAN, DOUBLE_SHAPES, double, pretended, ran
from models import FASHION_CNN, OCR_CLS, OCR_DET, save

from workbench.building import build
from workbench.deploy import Wishes, deploy
from workbench.deploy.runner.arrays import read_arrays, write_arrays
from workbench.deploy.runner.triton_model import TRITON_TYPES, from_bytes, to_bytes
from workbench.deploy.triton_config import _messages
from workbench.errors import ConfigError
from workbench.model import Model, load_model
from workbench.store import EngineStore
from workbench.types import OptimizationProfile, ShapeRange

MESSAGES = _messages()
KINDS = MESSAGES.ModelInstanceGroup


def config_in(folder: Path) -> Any:
    """What Triton reads from a hand-over's only model."""
    (path,) = (folder / "models").glob("*/config.pbtxt")
    return text_format.Parse(path.read_text(), MESSAGES.ModelConfig())


class Served:
    """A hand-over of a model: TensorRT's engine is pretended, ONNX Runtime's is built."""

    def __init__(self, store: EngineStore, tmp_path: Path) -> None:
        self.store, self.tmp_path = store, tmp_path

    def tensorrt(self, model: Model, shapes: list[str], wishes: Wishes | None = None, **fields: Any) -> Any:
        engine = pretended(self.store, model, DOUBLE_PLAN, shapes, **fields)
        return config_in(deploy(engine, "triton", self.tmp_path / "out", wishes).folder)

    def onnxruntime(self, model: Model, wishes: Wishes | None = None) -> Any:
        engine = build(model, None, "onnxruntime", store=self.store).engine
        return config_in(deploy(engine, "triton", self.tmp_path / "out", wishes).folder)

    def graph(self, text: str, **weights: np.ndarray) -> Model:
        return load_model(save(self.tmp_path / "net.onnx", text, **weights))

    @property
    def readme(self) -> str:
        return (self.tmp_path / "out" / "README.md").read_text()

    @property
    def folder(self) -> Path:
        return self.tmp_path / "out"


@pytest.fixture
def served(store: EngineStore, tmp_path: Path) -> Served:
    return Served(store, tmp_path)


def dims(items: Any) -> dict[str, list[int]]:
    return {item.name: list(item.dims) for item in items}


def types(items: Any) -> dict[str, str]:
    return {item.name: MESSAGES.DataType.Name(item.data_type) for item in items}


# ---- config.pbtxt


def test_an_open_batch_is_batched_dynamically(served: Served) -> None:
    config = served.tensorrt(load_model(FASHION_CNN), ["image:1x1x28x28,8x1x28x28,64x1x28x28"])
    assert (config.name, config.platform, config.backend) == ("fashion_cnn", "tensorrt_plan", "tensorrt")
    assert config.max_batch_size == 64
    assert dims(config.input) == {"image": [1, 28, 28]} and dims(config.output) == {"logits": [10]}
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert config.dynamic_batching.max_queue_delay_microseconds > 0
    (group,) = config.instance_group
    assert (group.kind, group.count, list(group.profile)) == (KINDS.KIND_GPU, 1, [])
    assert "joined to batches of up to 64" in served.readme and "TensorRT 8.6.0" in served.readme


def test_the_plan_lies_where_triton_looks_for_it(served: Served) -> None:
    served.tensorrt(double(served.tmp_path), DOUBLE_SHAPES)
    assert (served.folder / "models" / "double" / "1" / "model.plan").read_text() == DOUBLE_PLAN
    assert [path.name for path in (served.folder / "models").iterdir()] == ["double"]  # each folder there is a model


def test_fixed_shapes_are_served_as_they_are(served: Served) -> None:
    config = served.tensorrt(served.graph("(float[2,4] x) => (float[2,4] y) { y = Relu(x) }"), [])
    assert config.max_batch_size == 0 and not config.HasField("dynamic_batching")
    assert dims(config.input) == {"x": [2, 4]} and dims(config.output) == {"y": [2, 4]}
    assert "the first dimension of x is fixed to 2" in served.readme


def test_open_height_and_width_are_open_and_a_trial_tells_the_batch(served: Served) -> None:
    """PP-OCRv4's detector names the first dimensions of input and output differently."""
    config = served.tensorrt(load_model(OCR_DET), ["x:1x3x64x64,1x3x64x96,4x3x320x320"])
    assert config.max_batch_size == 4
    assert dims(config.input) == {"x": [3, -1, -1]} and dims(config.output) == {"sigmoid_0.tmp_0": [1, -1, -1]}


def test_dimensions_without_names_are_tried_too(served: Served) -> None:
    config = served.tensorrt(load_model(OCR_CLS), ["x:1x3x48x48,2x3x48x48,6x3x48x48"])
    assert config.max_batch_size == 6 and list(config.dynamic_batching.preferred_batch_size) == [2]
    assert dims(config.output) == {"save_infer_model/scale_0.tmp_1": [2]}


@pytest.mark.parametrize("opt", [1, 2])
@pytest.mark.parametrize(
    "graph",
    [
        "(float[n,4] x) => (float[m,4] y) { y = Softmax<axis = 0>(x) }",
        "(float[n,4] x) => (float[m,4] y) { y = Concat<axis = 0>(x, x) }",
        "(float[n,4] x) => (float[m,4] y) { y = ReduceSum<keepdims = 1>(x, axis) }",
        "(float[n,4] x) => (float[m,4] y) { mean = ReduceMean<axes = [0], keepdims = 1>(x) y = Sub(x, mean) }",
    ],
)
def test_models_that_mix_the_rows_of_a_batch_are_not_batched(served: Served, graph: str, opt: int) -> None:
    model = served.graph(graph, axis=np.array([0]))
    config = served.tensorrt(model, [f"x:1x4,{opt}x4,8x4"])
    assert config.max_batch_size == 0 and dims(config.input) == {"x": [-1, 4]}
    assert "Requests are not joined to batches" in served.readme


def test_what_nobody_can_try_is_not_batched(served: Served) -> None:
    model = served.graph("(float[n,4] x) => (float[m,4] y) { y = Relu(x) }")
    x = np.ones((2, 4), np.float32)
    config = served.tensorrt(model, ["x:1x4,2x4,8x4"], Wishes(feeds={"x": x}, expected={"y": x}))
    assert config.max_batch_size == 0 and "nothing tells" in served.readme


def test_inputs_of_different_batches_are_not_batched(served: Served) -> None:
    model = served.graph("(float[n,4] x, float[m,4] w) => (float[n,m] y) { t = Transpose(w) y = MatMul(x, t) }")
    config = served.tensorrt(model, ["x:1x4,2x4,8x4", "w:1x4,3x4,8x4"])
    assert config.max_batch_size == 0 and "first dimensions of the inputs differ" in served.readme


def test_an_engine_that_needs_more_than_one_is_not_batched(served: Served) -> None:
    config = served.tensorrt(double(served.tmp_path), ["x:2x4,4x4,8x4"])
    assert config.max_batch_size == 0 and "takes batches from 2 on" in served.readme


def test_several_profiles_are_all_offered(served: Served) -> None:
    shapes = ["x:1x4,1x4,1x4", "x:1x4,4x4,8x4", "x:1x4,16x4,32x4"]
    config = served.tensorrt(double(served.tmp_path), shapes)
    assert config.max_batch_size == 32 and list(config.dynamic_batching.preferred_batch_size) == [4, 16]
    (group,) = config.instance_group
    assert list(group.profile) == ["0", "1", "2"]


@pytest.mark.parametrize(("release", "kind"), [("8.6.0", "TYPE_INT32"), ("10.3.0", "TYPE_INT64")])
def test_int64_is_what_the_release_computes_in(served: Served, release: str, kind: str) -> None:
    model = served.graph("(int64[n,4] ids) => (int64[n,4] out) { out = Add(ids, ids) }")
    config = served.tensorrt(model, ["ids:1x4,2x4,8x4"], release=release)
    assert types(config.input) == {"ids": kind} and types(config.output) == {"out": kind}
    assert ("int64 in the model" in served.readme) == (release == "8.6.0")
    content = (served.folder / "models" / "net" / "warmup" / "input_0").read_bytes()
    assert len(content) == 4 * (4 if release == "8.6.0" else 8)


def test_half_precision_in_and_out(served: Served) -> None:
    model = served.graph("(float16[n,4] x) => (float16[n,4] y) { y = Relu(x) }")
    config = served.tensorrt(model, DOUBLE_SHAPES)
    assert types(config.input) == {"x": "TYPE_FP16"} and types(config.output) == {"y": "TYPE_FP16"}


def test_inputs_that_hold_sizes_are_shape_tensors(served: Served) -> None:
    model = served.graph("(float[n,4] x, int64[2] size) => (float[a,b] y) { y = Reshape(x, size) }")
    profile = OptimizationProfile(
        {"x": ShapeRange((1, 4), (2, 4), (8, 4))}, {"size": ShapeRange((1, 4), (4, 2), (8, 4))}
    )
    engine = pretended(served.store, model, DOUBLE_PLAN, profiles=(profile,))
    config = config_in(deploy(engine, "triton", served.folder).folder)
    assert {item.name: item.is_shape_tensor for item in config.input} == {"x": False, "size": True}
    assert config.max_batch_size == 0 and "depend on the content of size" in served.readme


def test_a_batch_and_nothing_else_is_reshaped(served: Served) -> None:
    config = served.tensorrt(served.graph("(float[n] x) => (float[n] y) { y = Relu(x) }"), ["x:1,2,8"])
    for item in (*config.input, *config.output):
        assert list(item.dims) == [1] and item.HasField("reshape") and not item.reshape.shape


def test_a_scalar_cannot_be_served_from_a_plan(served: Served) -> None:
    model = served.graph("(float[n,4] x) => (float y) { y = ReduceSum<keepdims = 0>(x) }")
    with pytest.raises(ConfigError, match="y is a scalar"):
        served.tensorrt(model, DOUBLE_SHAPES)
    assert not served.folder.exists() and not list(served.tmp_path.glob(".out*"))


def test_onnx_runtime_serves_scalars_as_one_value(served: Served) -> None:
    config = served.onnxruntime(served.graph("(float[2,4] x) => (float y) { y = ReduceSum<keepdims = 0>(x) }"))
    assert dims(config.output) == {"y": [1]} and config.max_batch_size == 0


def test_onnx_runtime_takes_any_batch_and_runs_on_the_processor(served: Served) -> None:
    config = served.onnxruntime(load_model(FASHION_CNN), Wishes(max_batch=200, name="mode-1"))
    assert (config.name, config.backend, config.max_batch_size) == ("mode-1", "onnxruntime", 200)
    assert config.instance_group[0].kind == KINDS.KIND_CPU
    assert (served.folder / "models" / "mode-1" / "1" / "model.onnx").is_file()


def test_texts_are_strings(served: Served) -> None:
    model = served.graph("(string[n,2] words) => (string[n,2] same) { same = Identity(words) }")
    feeds = {"words": np.array([["one", "zwölf"], ["", "x"]], object)}
    config = served.onnxruntime(model, Wishes(feeds=feeds))
    assert types(config.input) == {"words": "TYPE_STRING"}
    content = (served.folder / "models" / "net" / "warmup" / "input_0").read_bytes()
    assert content == b"\x03\0\0\0one\x06\0\0\0zw\xc3\xb6lf"  # the first row


@pytest.mark.parametrize(("wanted", "words"), [(9, "built for 8 at most"), (3, "")])
def test_a_batch_that_the_engine_does_not_take_is_refused(served: Served, wanted: int, words: str) -> None:
    if words:
        with pytest.raises(ConfigError, match=words):
            served.tensorrt(double(served.tmp_path), DOUBLE_SHAPES, Wishes(max_batch=wanted))
    else:
        config = served.tensorrt(double(served.tmp_path), DOUBLE_SHAPES, Wishes(max_batch=wanted))
        assert config.max_batch_size == 3 and list(config.dynamic_batching.preferred_batch_size) == [2]


def test_batches_can_be_declined(served: Served) -> None:
    config = served.tensorrt(double(served.tmp_path), DOUBLE_SHAPES, Wishes(max_batch=0))
    assert config.max_batch_size == 0 and dims(config.input) == {"x": [-1, 4]}


def test_the_server_warms_up_with_the_test_vector(served: Served) -> None:
    config = served.tensorrt(double(served.tmp_path), DOUBLE_SHAPES)
    (warmup,) = config.model_warmup
    item = warmup.inputs["x"]
    assert (warmup.batch_size, list(item.dims), item.input_data_file) == (1, [4], "input_0")
    wanted = read_arrays(served.folder / "test_vector" / "inputs.npz")["x"][:1]
    assert (served.folder / "models" / "double" / "warmup" / "input_0").read_bytes() == wanted.tobytes()


def test_a_version_compatible_plan_needs_an_option_of_the_server(served: Served) -> None:
    from workbench.types import BuilderOptions

    served.tensorrt(double(served.tmp_path), DOUBLE_SHAPES, builder=BuilderOptions(version_compatible=True))
    assert "--backend-config=tensorrt,version-compatible=true" in served.readme


@pytest.mark.rtx
def test_tensorrt_rtx_is_refused_with_a_way_out(store: EngineStore, model: Model, tmp_path: Path) -> None:
    engine = build(model, None, "rtx", store=store).engine
    with pytest.raises(ConfigError, match=r"no back end for plans of TensorRT-RTX.*with onnxruntime"):
        deploy(engine, "triton", tmp_path / "out")


def test_every_type_of_tritons_has_a_name() -> None:
    known = {f"TYPE_{'STRING' if name == 'BYTES' else name}" for name in TRITON_TYPES.values()}
    assert known == set(MESSAGES.DataType.keys()) - {"TYPE_INVALID"}


# ---- the client


class Server(ThreadingHTTPServer):
    """Answers as Triton does for a model that doubles its input; `lie` is added to every value."""

    lie = 0.0
    last: Mapping[str, Any] = {}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"]))
        at = int(self.headers["Inference-Header-Content-Length"])
        header = json.loads(text[:at])
        self.server.last = header
        (item,) = header["inputs"]
        if self.path != "/v2/models/double/infer" or item["datatype"] != "FP32":
            self.answer(400, b'{"error": "unknown model"}', {})
            return
        size = item["parameters"]["binary_data_size"]
        x = np.frombuffer(text[at : at + size], np.float32).reshape(item["shape"])
        content = (2 * x + self.server.lie).astype(np.float32).tobytes()
        output = {"name": "y", "datatype": "FP32", "shape": item["shape"]}
        told = json.dumps({"outputs": [{**output, "parameters": {"binary_data_size": len(content)}}]}).encode()
        self.answer(200, told + content, {"Inference-Header-Content-Length": str(len(told))})

    def answer(self, status: int, content: bytes, fields: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**fields, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture
def doubling(store: EngineStore, tmp_path: Path) -> Path:
    engine = pretended(store, double(tmp_path), DOUBLE_PLAN, DOUBLE_SHAPES)
    return deploy(engine, "triton", tmp_path / "out").folder


def test_the_client_verifies_what_is_served(doubling: Path, server: Server, tmp_path: Path) -> None:
    done = ran(doubling, "--verify", "--time", 5, "--url", address(server))
    assert done.returncode == 0, done.stderr
    assert "alike  y" in done.stdout and "ms of 5 runs; perf_counter around each HTTP request" in done.stdout
    assert server.last["inputs"][0]["shape"] == [2, 4]
    server.lie = 0.1
    assert ran(doubling, "--verify", "--url", address(server)).returncode == 1


def test_what_the_server_refuses_is_told(doubling: Path, server: Server) -> None:
    path = doubling / "deployment.json"
    path.write_text(path.read_text().replace('"name": "double"', '"name": "other"'))
    done = ran(doubling, "--verify", "--url", address(server))
    assert done.returncode == 2 and "Triton refuses the request" in done.stderr and "unknown model" in done.stderr


def test_a_server_that_is_not_there_is_told(doubling: Path, server: Server) -> None:
    server.server_close()
    done = ran(doubling, "--verify", "--url", address(server))
    assert done.returncode == 2 and "start the server, or name it: --url" in done.stderr


def test_a_plan_that_was_changed_is_told(doubling: Path, server: Server) -> None:
    (doubling / "models" / "double" / "1" / "model.plan").write_text("another")
    done = ran(doubling, "--verify", "--url", address(server))
    assert done.returncode == 2 and "not the file that was handed over" in done.stderr


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "bool", "object"])
def test_what_is_sent_comes_back_the_same(dtype: str) -> None:
    from workbench.deploy.runner.arrays import fitted

    if dtype == "object":
        array: Any = np.array(["a", "", "öß"], object)
    else:
        array = np.array([0, 1, 1]).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    given = array.astype(np.float32) if dtype == "bfloat16" else array
    found = from_bytes(to_bytes(fitted("x", given, dtype), dtype), dtype)
    assert np.array_equal(found, given)


def test_the_whole_folder_can_be_moved(doubling: Path, server: Server, tmp_path: Path) -> None:
    moved = shutil.move(doubling, tmp_path / "elsewhere")
    vector = Path(moved) / "test_vector" / "outputs.npz"
    write_arrays(vector, {"y": read_arrays(vector)["y"] + np.float32(1)})
    assert ran(Path(moved), "--verify", "--url", address(server)).returncode == 1
