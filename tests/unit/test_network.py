"""build_network: a description in NVIDIA's API becomes an engine, by content, in a process of its own."""

from __future__ import annotations

import ast
import gzip
import inspect
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_building import children, folders_left

from workbench.backends.plan_record import read_plan_header
from workbench.engine import read_layers, read_log, verify
from workbench.errors import BuildError, Cancelled, ConfigError, ShapeError
from workbench.export import described, example_models
from workbench.export.described import DESCRIBING
from workbench.export.example_models import small_cnn, small_cnn_weights
from workbench.export.functions import run_source, source_of
from workbench.export.network import build_network
from workbench.profiles import parse_shapes
from workbench.store import EngineStore
from workbench.types import BuildConfig, LogLine, Progress

API = {
    path.name.removesuffix(".json.gz"): json.loads(gzip.decompress(path.read_bytes()))
    for path in (Path(__file__).parents[1] / "data" / "api").glob("*.json.gz")
}
BATCHES = BuildConfig(profiles=(parse_shapes(["image:1x1x28x28,8x1x28x28,64x1x28x28"]),))
rtx = pytest.mark.rtx


def relu(trt: Any, network: Any) -> None:
    x = network.add_input("x", trt.float32, (1, 4))
    layer = network.add_activation(x, trt.ActivationType.RELU)
    layer.name = "the_relu"
    layer.get_output(0).name = "y"
    network.mark_output(layer.get_output(0))


# ---- what is built


@rtx
def test_the_engines_layers_name_the_layers_described(store: EngineStore) -> None:
    built = build_network("small", small_cnn, small_cnn_weights(), config=BATCHES, backend="rtx", store=store)
    named = {node for layer in read_layers(built.engine) for node in layer.nodes}
    assert named == {"conv1", "relu1", "pool1", "flatten", "fc"}
    assert (built.engine.nodes, built.engine.nodes_covered) == (6, 5)  # the constant is no layer of the engine
    assert built.engine.model_name == "small"
    assert built.engine.config.profiles == BATCHES.profiles
    verify(built.engine)


@rtx
def test_the_weights_handed_in_are_in_the_plan(store: EngineStore) -> None:
    weights = small_cnn_weights()
    weights["fc.weight"][3, 2] = 1234.5
    built = build_network("small", small_cnn, weights, config=BATCHES, backend="rtx", store=store)
    assert weights["fc.weight"][3].tobytes() in built.engine.plan_path.read_bytes()


@rtx
def test_the_source_lies_beside_the_plan(store: EngineStore) -> None:
    built = build_network("relu", relu, backend="rtx", store=store)
    assert (built.engine.folder / "network.py").read_text() == inspect.getsource(relu)
    assert "network.py" in built.engine.files


@rtx
def test_the_plan_is_for_the_targets_asked_for_and_says_so(store: EngineStore) -> None:
    heard: list[Progress | LogLine] = []
    config = BuildConfig(targets=("sm89", "sm86"))
    built = build_network("relu", relu, config=config, backend="rtx", store=store, listener=heard.append)
    header = read_plan_header(built.engine.plan_path)
    assert header is not None and header.targets == built.engine.config.targets == ("sm86", "sm89")
    said = [event.text for event in heard if isinstance(event, LogLine)]
    assert f"Plan of TensorRT-RTX {header.release} for sm86, sm89" in said


@rtx
def test_what_it_prints_and_its_phases_are_told(store: EngineStore) -> None:
    def talking(trt: Any, network: Any) -> None:
        x = network.add_input("x", trt.float32, (1, 4))
        layer = network.add_activation(x, trt.ActivationType.RELU)
        print("the shape is", tuple(layer.get_output(0).shape))
        network.mark_output(layer.get_output(0))

    heard: list[Progress | LogLine] = []
    built = build_network("talking", talking, backend="rtx", store=store, listener=heard.append)
    last = {event.phase: event for event in heard if isinstance(event, Progress)}
    assert last[DESCRIBING].finished and "Building engine" in last
    assert any("the shape is (1, 4)" in line.text for line in read_log(built.engine))


# ---- by content


@rtx
def test_the_same_source_and_weights_reuse_the_engine_wherever_the_function_stands(
    store: EngineStore, tmp_path: Path
) -> None:
    first = build_network("relu", relu, backend="rtx", store=store)
    (tmp_path / "nets.py").write_text("# elsewhere\nfrom typing import Any\n\n" + inspect.getsource(relu))
    again = build_network("relu", f"{tmp_path / 'nets.py'}:relu", backend="rtx", store=store)
    assert not first.reused and again.reused
    assert again.engine.key == first.engine.key


@rtx
def test_other_weights_another_source_and_another_profile_are_other_engines(store: EngineStore) -> None:
    def other(trt: Any, network: Any) -> None:
        x = network.add_input("x", trt.float32, (1, 4))
        layer = network.add_activation(x, trt.ActivationType.TANH)
        network.mark_output(layer.get_output(0))

    def key(*arguments: Any, **options: Any) -> str:
        return build_network(*arguments, backend="rtx", store=store, **options).engine.key

    wider = BuildConfig(profiles=(parse_shapes(["image:1x1x28x28,8x1x28x28,65x1x28x28"]),))
    keys = [
        key("small", small_cnn, small_cnn_weights(), config=BATCHES),
        key("small", small_cnn, small_cnn_weights(seed=1), config=BATCHES),
        key("small", small_cnn, small_cnn_weights(), config=wider),
        key("relu", relu),
        key("relu", other),
    ]
    assert len(set(keys)) == 5


@rtx
def test_a_miss_names_what_differs(store: EngineStore) -> None:
    build_network("small", small_cnn, small_cnn_weights(), config=BATCHES, backend="rtx", store=store)
    built = build_network("small", small_cnn, small_cnn_weights(seed=1), config=BATCHES, backend="rtx", store=store)
    assert "differs in the model's content" in (built.why_missed or "")


# ---- failures, with line or layer


def no_output(trt: Any, network: Any) -> None:
    network.add_activation(network.add_input("x", trt.float32, (1, 4)), trt.ActivationType.RELU)


def no_input(trt: Any, network: Any) -> None:
    pass


def raises(trt: Any, network: Any) -> None:
    network.add_input("x", trt.float32, (1, 4))
    raise KeyError("no such weight")


def unknown_method(trt: Any, network: Any) -> None:
    network.add_fully_connected(network.add_input("x", trt.float32, (1, 4)), 3)


def wrong_argument(trt: Any, network: Any) -> None:
    network.add_activation(network.add_input("x", trt.float32, (1, 4)), "relu")


def unequal_sizes(trt: Any, network: Any) -> None:
    a, b = network.add_input("a", trt.float32, (1, 3)), network.add_input("b", trt.float32, (1, 4))
    network.add_activation(a, trt.ActivationType.RELU).name = "fine"
    layer = network.add_elementwise(a, b, trt.ElementWiseOperation.SUM)
    layer.name = "the_sum"
    network.mark_output(layer.get_output(0))


def mixed_types(trt: Any, network: Any) -> None:
    a, b = network.add_input("a", trt.float32, (1, 3)), network.add_input("b", trt.float16, (1, 3))
    layer = network.add_elementwise(a, b, trt.ElementWiseOperation.SUM)
    layer.name = "the_sum"
    network.mark_output(layer.get_output(0))


def one_name_twice(trt: Any, network: Any) -> None:
    network.add_input("x", trt.float32, (1, 3))
    second = network.add_input("x", trt.float32, (1, 3))
    network.mark_output(second)


@rtx
@pytest.mark.parametrize(
    ("describe", "words"),
    [
        (no_output, "marks no output. End with network.mark_output"),
        (no_input, "adds no input. Begin with network.add_input"),
        (raises, r"raises, line 3 `raise KeyError\(.no such weight.\)`: KeyError"),
        (unknown_method, r"line 2 `network.add_fully_connected\(.*AttributeError"),
        (wrong_argument, r"line 2 .*incompatible function arguments. Compare"),
        (unequal_sizes, "layer the_sum: broadcast dimensions must be conformable"),
        (mixed_types, "the_sum: ElementWiseOperation SUM must have same input types"),
        (one_name_twice, r'line 3 `second = network.add_input\("x"'),
    ],
)
def test_a_faulty_description_is_told_with_its_line_or_layer(
    describe: Callable[..., None], words: str, store: EngineStore
) -> None:
    with pytest.raises(BuildError, match=words) as caught:
        build_network("faulty", describe, backend="rtx", store=store)
    assert caught.value.repeat is None
    assert store.engines() == () and folders_left(store) == []


@rtx
def test_a_kernel_of_the_wrong_size_is_told_with_its_layer(store: EngineStore) -> None:
    weights = small_cnn_weights()
    weights["conv1.weight"] = np.zeros((8, 3, 3, 3), np.float32)
    with pytest.raises(BuildError, match="conv1: count of 216 weights in kernel") as caught:
        build_network("small", small_cnn, weights, config=BATCHES, backend="rtx", store=store)
    assert caught.value.node == "conv1"


@rtx
def test_open_dimensions_need_a_profile_that_fits(store: EngineStore) -> None:
    weights = small_cnn_weights()
    with pytest.raises(BuildError, match=r"image: float32\[\?, 1, 28, 28\] has open dimensions. Give a profile"):
        build_network("small", small_cnn, weights, backend="rtx", store=store)
    wrong = BuildConfig(profiles=(parse_shapes(["image:1x3x28x28"]),))
    with pytest.raises(ShapeError, match="input image, dimension 1: the model fixes it to 1; 3 does not fit"):
        build_network("small", small_cnn, weights, config=wrong, backend="rtx", store=store)


@rtx
def test_a_crash_of_native_code_leaves_this_process_alive(store: EngineStore) -> None:
    def crashing(trt: Any, network: Any) -> None:
        import os

        os.abort()

    with pytest.raises(BuildError, match=r"crashed .SIGABRT. inside native code"):
        build_network("crashing", crashing, backend="rtx", store=store)
    assert children() == []


@rtx
def test_a_description_that_never_ends_is_cancelled(store: EngineStore) -> None:
    def endless(trt: Any, network: Any) -> None:
        while True:
            pass

    cancel = threading.Event()

    def stop_when_describing(event: Progress | LogLine) -> None:
        if isinstance(event, Progress) and event.phase == DESCRIBING:
            cancel.set()

    began = time.monotonic()
    with pytest.raises(Cancelled):
        build_network("endless", endless, backend="rtx", store=store, listener=stop_when_describing, cancel=cancel)
    assert time.monotonic() - began < 30
    assert children() == [] and folders_left(store) == []


# ---- refusals before anything is built


@rtx
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"config": BuildConfig("fp16")}, "a described network states its types itself"),
        ({"backend": "onnxruntime"}, "onnxruntime builds from ONNX only"),
        ({"backend": "nvcc"}, "there is no back end 'nvcc'"),
        ({"weights": {"w": np.ones(3)}}, r"is called with \(trt, network, weights\)"),
        ({"describe": "nowhere.py:describe"}, "there is no such file"),
        ({"describe": "nowhere"}, "give FILE.py:NAME"),
    ],
)
def test_what_cannot_be_built_is_refused_at_once(arguments: dict[str, Any], words: str, store: EngineStore) -> None:
    with pytest.raises(ConfigError, match=words):
        build_network(**{"name": "relu", "describe": relu, "backend": "rtx", "store": store, **arguments})


@rtx
def test_weights_that_are_no_arrays_of_numbers_are_refused(store: EngineStore) -> None:
    weights = {**small_cnn_weights(), "conv1.bias": np.array(["a"])}
    with pytest.raises(ConfigError, match=r"weight conv1\.bias is <U1"):
        build_network("small", small_cnn, weights, config=BATCHES, backend="rtx", store=store)


CONSTANT = 3


def test_a_function_must_stand_by_itself() -> None:
    local = 4

    def uses_outside(trt: Any, network: Any) -> int:
        return CONSTANT + local + len(os.sep)

    with pytest.raises(ConfigError, match="uses_outside uses CONSTANT, local, os from outside of itself"):
        source_of(uses_outside)
    with pytest.raises(ConfigError, match="<lambda>: give a function made with def"):
        source_of(lambda trt, network: None)
    with pytest.raises(ConfigError, match="print: give a function made with def"):
        source_of(print)


def test_a_decorated_function_is_refused() -> None:
    def same(function: Callable[..., None]) -> Callable[..., None]:
        return function

    @same
    def decorated(trt: Any, network: Any) -> None:
        pass

    with pytest.raises(ConfigError, match="take the decorator off"):
        source_of(decorated)


def test_annotations_imports_and_functions_inside_are_its_own() -> None:
    def whole(trt: Any, network: Mapping[str, Any]) -> int:
        import math

        def twice(value: int) -> int:
            return 2 * value

        return twice(math.floor(max(1.5, 3.5)))

    assert run_source(source_of(whole), "whole", "<test>")(None, None) == 6


def test_a_file_that_changed_since_its_import_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "moving.py"
    path.write_text("def describe(trt, network):\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import moving  # type: ignore[import-not-found]

    path.write_text("def describe(trt, network):\n    return 2\n")
    os.utime(path, (1, 1))
    with pytest.raises(ConfigError, match="has changed since it was imported"):
        source_of(moving.describe)


# ---- names of NVIDIA's API


def names_on(owner: str, module: Any) -> set[str]:
    """What is read from the variable `owner` in a module's source."""
    tree = ast.parse(inspect.getsource(module))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == owner
    }


@pytest.mark.parametrize("release", sorted(API))
def test_names_used_exist_in_every_release(release: str) -> None:
    api = API[release]
    network = names_on("network", described) | names_on("network", example_models)
    assert {"add_convolution_nd", "num_layers", "mark_output"} <= network <= set(api["INetworkDefinition"])
    assert names_on("layer", described) - {"name", "num_outputs", "get_output"} == {"metadata"}
    assert {"name", "num_outputs", "get_output", "metadata"} <= set(api["ILayer"])
    assert names_on("tensor", described) <= set(api["ITensor"]) | {"shape", "dtype", "name"}
    assert names_on("builder", described) <= set(api["Builder"])
    assert names_on("api", described) <= set(api)
    assert names_on("api", example_models) - {"float32"} <= set(api)
