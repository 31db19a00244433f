"""A model as it stands in ONNX Runtime, and arrays to try it with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_shapes import floats, network
from hypothesis import given
from hypothesis import strategies as st
from models import FASHION_CNN, save_external

from workbench import TensorSpec, load_model
from workbench.errors import FeedError, RunError
from workbench.reference import Reference, random_feeds

DTYPES = ["float32", "float16", "float64", "bfloat16", "float8_e4m3fn", "int8", "int32", "int64", "uint8", "bool"]


def test_outputs_come_by_name_in_the_models_order(tmp_path: Path) -> None:
    graph = "(float[n,2] x) => (float[n,2] b, float[n,2] a) { a = Neg(x) b = Abs(x) }"
    answer = Reference(network(tmp_path, graph)).run({"x": np.array([[1, -2]], np.float32)})
    assert {name: value.tolist() for name, value in answer.items()} == {"b": [[1, 2]], "a": [[-1, 2]]}
    assert list(answer) == ["b", "a"]


def test_it_runs_at_any_size_and_gives_the_same_again() -> None:
    model = load_model(FASHION_CNN)
    reference = Reference(model)
    for batch in (1, 3):
        feeds = random_feeds(model.inputs, {"image": (batch, 1, 28, 28)})
        first, second = reference.run(feeds)["logits"], reference.run(feeds)["logits"]
        assert first.shape == (batch, 10)
        np.testing.assert_array_equal(first, second)


def test_weights_in_another_file_are_read_from_beside_the_model(tmp_path: Path) -> None:
    path = save_external(tmp_path / "folder" / "net.onnx")
    weights = np.arange(16, dtype=np.float32).reshape(4, 4)
    (path.parent / "weights.bin").write_bytes(weights.tobytes())
    x = np.eye(4, dtype=np.float32)
    np.testing.assert_array_equal(Reference(load_model(path)).run({"x": x})["y"], weights)


def test_a_node_that_fails_is_named_and_the_reason_is_a_sentence(tmp_path: Path) -> None:
    graph = "(float[n,4] x, float[m,4] z) => (float[?,4] y) { [before] t = Relu(x) [sum_it] y = Add(t, z) }"
    reference = Reference(network(tmp_path, graph))
    with pytest.raises(RunError) as failed:
        reference.run({"x": floats(2, 4), "z": floats(3, 4)})
    assert failed.value.node == "sum_it"
    assert str(failed.value).startswith("node sum_it: ")
    assert not any(word in str(failed.value) for word in ("\n", "onnxruntime", "ONNXRuntimeError", "Status Message"))
    assert reference.run({"x": floats(2, 4), "z": floats(2, 4)})["y"].shape == (2, 4)


def test_a_node_that_onnx_runtime_does_not_know_is_refused_when_it_loads(tmp_path: Path) -> None:
    model = network(tmp_path, "(float[n,4] x) => (float[n,4] y) { t = Relu(x) y = foreign.Frobnicate(t) }")
    with pytest.raises(RunError, match="Frobnicate"):
        Reference(model)


@pytest.mark.parametrize(
    "feeds",
    [{}, {"x": floats(2, 5)}, {"x": floats(4)}, {"x": floats(2, 4).astype(np.float64)}, {"z": floats(2, 4)}],
    ids=["none", "wrong size", "wrong rank", "wrong type", "wrong name"],
)
def test_feeds_that_do_not_fit_are_an_error_of_the_run(tmp_path: Path, feeds: dict[str, np.ndarray]) -> None:
    with pytest.raises(RunError) as failed:
        Reference(network(tmp_path, "(float[n,4] x) => (float[n,4] y) { y = Relu(x) }")).run(feeds)
    assert "\n" not in str(failed.value) and failed.value.reason


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_arrays_have_the_wanted_type_and_stay_in_range(dtype: str) -> None:
    (array,) = random_feeds([TensorSpec("x", dtype, (None, 3))], {"x": (50, 3)}).values()
    assert (array.dtype.name, array.shape) == (dtype, (50, 3))
    values = array.astype(np.float64)
    assert 0 <= values.min() < values.max() <= 1
    assert dtype.startswith(("float", "bfloat")) == (len(np.unique(values)) > 2)


@given(st.lists(st.integers(0, 3), max_size=4).map(tuple), st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_arrays(shape: tuple[int, ...], seed: int) -> None:
    specs = [TensorSpec("x", "float32", shape), TensorSpec("i", "int64", shape)]
    one, two = (random_feeds(specs, {"x": shape, "i": shape}, seed=seed) for _ in range(2))
    for name in ("x", "i"):
        assert isinstance(one[name], np.ndarray) and one[name].shape == shape
        np.testing.assert_array_equal(one[name], two[name])


def test_another_seed_gives_other_arrays_and_inputs_differ_from_each_other() -> None:
    specs = [TensorSpec("x", "float32", (9,)), TensorSpec("z", "float32", (9,))]
    shapes = {"x": (9,), "z": (9,)}
    zero, one = random_feeds(specs, shapes), random_feeds(specs, shapes, seed=1)
    assert not np.array_equal(zero["x"], one["x"]) and not np.array_equal(zero["x"], zero["z"])


@pytest.mark.parametrize("dtype", ["object", "complex64"])
def test_types_without_random_values_are_refused(dtype: str) -> None:
    with pytest.raises(FeedError, match=rf"input x: {dtype}\[2\] cannot be filled with random values"):
        random_feeds([TensorSpec("x", dtype, (2,))], {"x": (2,)})
