"""Baselines: what engines are measured against behaves as a session does, and its errors are sentences."""

import os

import numpy as np
import pytest
from models import FASHION_CNN

from workbench.backends import HostClock, Session
from workbench.baselines import baseline, named_outputs, onnxruntime_baseline, paddle_baseline, torch_baseline
from workbench.errors import BackendError, ConfigError, FeedError
from workbench.model import load_model
from workbench.reference import Reference
from workbench.timing import Timing, measure
from workbench.types import Feeds

X = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}


def test_any_function_is_a_session() -> None:
    with baseline(lambda feeds: feeds["x"] + 1, releases={"numpy": np.__version__}) as session:
        found: Session = session
        assert np.array_equal(found.run(X)["output"], X["x"] + 1)
        result = measure(found, X, Timing(20, 2))
    assert len(result.times_ms) == 20 and min(result.times_ms) > 0
    assert result.releases == {"numpy": np.__version__} and not isinstance(found, HostClock)


def test_outputs_get_their_names_from_the_call_or_from_the_user() -> None:
    one = np.ones(2)
    assert list(named_outputs(one, ())) == ["output"]
    assert list(named_outputs((one, one), ())) == ["output", "output_1"]
    assert list(named_outputs([one, one], ("a", "b"))) == ["a", "b"]
    assert list(named_outputs({"logits": one}, ("ignored",))) == ["logits"]


def test_another_number_of_names_than_outputs_is_a_mistake() -> None:
    with pytest.raises(FeedError, match="gives 2 outputs; output_names names 1: a"):
        named_outputs((np.ones(2), np.ones(2)), ("a",))


def test_what_a_function_raises_becomes_a_sentence() -> None:
    def broken(feeds: Feeds) -> np.ndarray:
        raise KeyError("weights")

    with pytest.raises(BackendError, match="the baseline fails on this input: KeyError: 'weights'"):
        baseline(broken).run(X)


def test_nothing_is_timed_before_a_first_run() -> None:
    with pytest.raises(BackendError, match="run the baseline once"):
        baseline(lambda feeds: feeds["x"]).times_ms(1)


def test_plain_onnxruntime_answers_as_the_model_does() -> None:
    model = load_model(FASHION_CNN)
    feeds = {"image": np.random.default_rng(0).random((2, 1, 28, 28), np.float32)}
    session = onnxruntime_baseline(model, threads=1)
    found, wanted = session.run(feeds), Reference(model).run(feeds)
    assert found.keys() == wanted.keys()
    assert all(np.allclose(found[name], wanted[name], atol=1e-5) for name in wanted)
    assert session.threads == 1 and "onnxruntime" in session.releases and session.times_ms(2)


class Predictor:
    """The part of paddle.inference's predictor that tutorials use; doubles its input."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def get_input_names(self) -> list[str]:
        return ["x"]

    def get_output_names(self) -> list[str]:
        return ["y"]

    def get_input_handle(self, name: str) -> "Handle":
        return Handle(self.arrays, name)

    get_output_handle = get_input_handle

    def run(self) -> None:
        self.arrays["y"] = 2 * self.arrays["x"]


class Handle:
    def __init__(self, arrays: dict[str, np.ndarray], name: str) -> None:
        self.arrays, self.name = arrays, name

    def reshape(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def copy_from_cpu(self, array: np.ndarray) -> None:
        assert array.shape == self.shape
        self.arrays[self.name] = array

    def copy_to_cpu(self) -> np.ndarray:
        return self.arrays[self.name]


def test_a_paddle_predictor_is_run_as_its_tutorials_do() -> None:
    session = paddle_baseline(Predictor(), precision="fp32")
    assert np.array_equal(session.run(X)["y"], 2 * X["x"]) and len(session.times_ms(3)) == 3


if os.environ.get("WORKBENCH_TEST_TORCH") != "0":

    def test_a_pytorch_module_is_called_with_the_arrays_in_their_order() -> None:
        import torch

        class Two(torch.nn.Module):
            def forward(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
                return {"difference": a - b}

        session = torch_baseline(Two())
        feeds = {"first": np.full(3, 5, np.float32), "second": np.full(3, 2, np.float32)}
        assert session.run(feeds)["difference"].tolist() == [3, 3, 3]
        assert session.releases == {"torch": torch.__version__} and session.threads == torch.get_num_threads()
        assert len(measure(session, feeds, Timing(10, 1)).times_ms) == 10

    def test_bfloat16_comes_back_as_float32_and_keeps_its_rounding() -> None:
        import torch

        session = torch_baseline(torch.nn.Identity(), precision="bf16")
        found = session.run({"x": np.array([1.001], np.float32)})["output"]
        assert found.dtype == np.float32 and found.tolist() == [1.0]

    def test_what_pytorch_cannot_do_here_is_said_in_words() -> None:
        import torch

        with pytest.raises(ConfigError, match="not in int8"):
            torch_baseline(torch.nn.Identity(), precision="int8")
        if not torch.cuda.is_available():
            with pytest.raises(ConfigError, match="no CUDA device"):
                torch_baseline(torch.nn.Identity(), device="cuda")
