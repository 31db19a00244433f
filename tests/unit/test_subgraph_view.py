"""SubgraphState and SubgraphView without a browser: set a trait, assert a trait."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers_hybrid import quantized
from models import FASHION_CNN

from workbench import load_model, parse_shapes
from workbench.cli import main
from workbench.errors import ConfigError, ShapesNotSet
from workbench.export.text_encoder import text_encoder
from workbench.model import Model
from workbench.picture import ENGINE, NATIVE
from workbench.store import EngineStore
from workbench.widgets import render_subgraphs
from workbench.widgets.subgraph_state import SubgraphState
from workbench.widgets.subgraphs import SubgraphView
from workbench.widgets.work_state import CANCELLED, DONE, FAILED

pytestmark = pytest.mark.rtx
WAIT_S = 120


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return quantized(tmp_path_factory.mktemp("models"), FASHION_CNN)


@pytest.fixture
def asked(dynamic: Model) -> SubgraphState:
    state = SubgraphState(dynamic, "rtx", profile=parse_shapes(["image:1x1x28x28,2x1x28x28,4x1x28x28"]))
    state.ask()
    assert state.wait(WAIT_S) and state.status == DONE
    return state


@pytest.fixture
def words(tmp_path: Path) -> SubgraphState:
    model = text_encoder(tmp_path / "words.onnx", vocabulary=50)
    state = SubgraphState(model, "rtx", profile=parse_shapes(["tokens:1x4,2x8,4x16"]))
    state.ask()
    assert state.wait(WAIT_S)
    return state


def engines(state: SubgraphState) -> int:
    assert state.partition is not None
    return len(state.partition.engines)


def test_nothing_is_known_before_the_parser_has_answered(dynamic: Model) -> None:
    state = SubgraphState(dynamic, "rtx")
    assert (state.partition, state.picture, state.steps) == (None, None, ())
    state.build()
    assert not state.busy


def test_the_slider_divides_anew_at_once(asked: SubgraphState) -> None:
    assert engines(asked) == 8
    asked.min_subgraph_size = asked.last_size - 1
    assert engines(asked) == 1
    asked.min_subgraph_size = asked.last_size
    assert engines(asked) == 0


def test_every_size_at_which_something_changes_is_known(asked: SubgraphState) -> None:
    sizes = [partition.min_subgraph_size for partition in asked.steps]
    assert sizes == sorted(set(sizes)) and sizes[0] == 1
    for size, partition in zip(sizes[1:], asked.steps[1:], strict=True):
        asked.min_subgraph_size = size - 1
        assert engines(asked) > len(partition.engines)
        asked.min_subgraph_size = size
        assert engines(asked) == len(partition.engines)


def test_the_picture_follows_the_slider(asked: SubgraphState) -> None:
    assert asked.picture is not None
    assert sum(box.name.startswith("trt_") for box in asked.picture.after.boxes) == 8
    asked.min_subgraph_size = 1000
    sides = {box.side for box in asked.picture.before.boxes}
    assert NATIVE in sides and ENGINE not in sides


def test_borders_are_counted_at_the_profile_s_opt(asked: SubgraphState) -> None:
    assert asked.partition is not None and asked.partition.border_bytes is not None
    facts = render_subgraphs.partition_facts(asked.partition)
    assert "data-engines='8'" in facts and render_subgraphs.bytes_text(asked.partition.border_bytes) in facts


def test_what_is_disabled_stays_native(asked: SubgraphState) -> None:
    asked.disabled = "Relu, BatchNormalization"
    asked.ask()
    assert asked.wait(WAIT_S) and asked.partition is not None
    refused = {item.op_type for item in asked.partition.refusals}
    assert {"Relu", "BatchNormalization"} <= refused


def test_a_name_that_the_model_lacks_is_told(asked: SubgraphState) -> None:
    asked.disabled = "Rellu"
    asked.ask()
    assert asked.wait(WAIT_S) and asked.status == FAILED
    assert isinstance(asked.error, ConfigError) and "Relu" in str(asked.error)
    assert engines(asked) == 8  # what was known is still shown


def test_all_parts_are_built_and_agree_with_the_whole(asked: SubgraphState) -> None:
    asked.build()
    assert asked.wait(WAIT_S) and asked.status == DONE
    assert asked.outcome is not None and max(item.relative for item in asked.outcome.differences) < 1e-5
    card = render_subgraphs.outcome_card(asked.outcome)
    assert card.count("trt_") == 8 and "cannot run here" in card


def test_a_build_that_fails_leaves_what_was_built_before(asked: SubgraphState, tmp_path: Path) -> None:
    asked.build()
    assert asked.wait(WAIT_S) and asked.outcome is not None
    asked.store = EngineStore(tmp_path / "store")
    shutil.rmtree(asked.store.folder)
    asked.store.folder.touch()
    asked.build()
    assert asked.wait(WAIT_S) and asked.status == FAILED and asked.outcome is not None


def test_moving_the_slider_forgets_what_was_built(asked: SubgraphState) -> None:
    asked.build()
    assert asked.wait(WAIT_S) and asked.outcome is not None
    asked.min_subgraph_size = 6
    assert asked.outcome is None


def test_unknown_sizes_are_an_error_with_two_ways_out(words: SubgraphState) -> None:
    words.build()
    assert words.wait(WAIT_S) and isinstance(words.error, ShapesNotSet)
    skip_at = words.error.skip_at
    assert words.engines_left(skip_at) == 0
    words.skip()
    assert words.min_subgraph_size == skip_at and engines(words) == 0 and words.error is None
    words.build()
    assert words.wait(WAIT_S) and words.status == DONE


def test_collected_shapes_make_the_build_possible(words: SubgraphState) -> None:
    words.collect()
    assert words.wait(WAIT_S) and words.collected is not None and words.collected.samples == 4
    words.build()
    assert words.wait(WAIT_S) and words.status == DONE and words.outcome is not None
    assert len(words.outcome.hybrid.built) == 1


def test_sizes_are_collected_from_the_samples_that_are_given(words: SubgraphState) -> None:
    words.samples = [{"tokens": np.arange(12).reshape(3, 4)}]
    words.collect()
    assert words.wait(WAIT_S) and words.collected is not None
    assert words.collected.ranges["/embed/distinct_output"].opt == (12,)


def test_without_a_profile_all_sizes_come_from_the_samples(tmp_path: Path) -> None:
    model = text_encoder(tmp_path / "words.onnx", vocabulary=50)
    state = SubgraphState(model, "rtx", samples=[{"tokens": np.arange(12).reshape(3, 4)}])
    for work in (state.ask, state.collect, state.build):
        work()
        assert state.wait(WAIT_S) and state.status == DONE, state.error
    assert state.outcome is not None and state.outcome.shapes == {"tokens": (3, 4)}


def test_samples_that_do_not_fit_the_profile_are_told(words: SubgraphState) -> None:
    words.samples = [{"tokens": np.arange(12).reshape(3, 4)}]
    for work in (words.collect, words.build):
        work()
        assert words.wait(WAIT_S)
    assert "tokens is 2x8 at the profile's opt and 3x4 in the typical sample" in str(words.error)


def test_asking_can_be_cancelled(dynamic: Model) -> None:
    state = SubgraphState(dynamic, "rtx")
    state.ask()
    state.cancel()
    assert state.wait(WAIT_S) and state.status == CANCELLED


def test_the_command_line_gives_the_same_parts(asked: SubgraphState, capsys: pytest.CaptureFixture[str]) -> None:
    asked.min_subgraph_size = 6
    first, second = asked.code()["Command line"].splitlines()
    assert shlex.split(second)[:2] == ["workbench", "hybrid"]
    assert main([*shlex.split(first)[1:], "--json"]) == 0
    assert capsys.readouterr().out.count('"trt_') == engines(asked)


def test_the_code_runs_with_the_sizes_that_were_collected(words: SubgraphState, tmp_path: Path) -> None:
    words.collect()
    assert words.wait(WAIT_S)
    subprocess.run([sys.executable, "-c", words.code()["Python"]], check=True, capture_output=True, text=True)
    _, shapes, hybrid = words.code()["Command line"].splitlines()
    for line in (shapes, hybrid):
        assert main([word.replace("sizes.json", str(tmp_path / "sizes.json")) for word in shlex.split(line)[1:]]) == 0


def test_engines_are_built_for_the_whole_profile(asked: SubgraphState) -> None:
    """Only what is shown is counted at opt."""
    asked.build()
    assert asked.wait(WAIT_S) and asked.outcome is not None
    for built in asked.outcome.hybrid.built:
        (profile,) = built.engine.config.profiles
        assert any(item.min[0] == 1 and item.max[0] == 4 for item in profile.ranges.values())


def test_sizes_that_only_data_tell_are_counted_when_they_were_collected(words: SubgraphState) -> None:
    assert words.partition is not None and words.partition.border_bytes is None
    words.collect()
    assert words.wait(WAIT_S) and words.partition.border_bytes is not None


def test_paddle_s_call_carries_the_size_and_what_is_disabled(asked: SubgraphState) -> None:
    asked.min_subgraph_size, asked.disabled = 7, "Relu"
    text = asked.code()["Paddle-TRT"]
    assert "min_subgraph_size=7" in text and "exp_disable_tensorrt_ops(['Relu'])" in text


def test_a_whole_model_is_one_engine(tmp_path: Path) -> None:
    view = SubgraphView(load_model(FASHION_CNN), "rtx")
    assert view.state.wait(WAIT_S) and engines(view.state) == 1
    assert view.state.partition is not None
    assert "the whole model becomes one engine" in render_subgraphs.refusal_table(view.state.partition)
    assert repr(view) == "fashion_cnn: its subgraphs for rtx"
