"""FusionState and FusionView without a browser, and what they show as HTML."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_building import BOTH
from helpers_fusion import RECORDED, resnet
from models import FASHION_CNN

from workbench import BuildConfig, build, edit, load_model
from workbench.building import Built
from workbench.cli import main
from workbench.errors import UnknownEngine, ViewError
from workbench.widgets import render_fusion
from workbench.widgets.builder import EngineBuilder
from workbench.widgets.fusion import FusionView
from workbench.widgets.fusion_state import Files, FusionState

FILES = Files(RECORDED / "resnet18_classic.nodes.json.gz", log=RECORDED / "resnet18_fp32.build.log.xz")


@pytest.fixture
def recorded() -> FusionState:
    return FusionState(
        RECORDED / "resnet18_fp32.inspector.json.gz", FILES, RECORDED / "resnet18_int8.inspector.json.gz"
    )


@pytest.fixture
def built(home: Path) -> Built:
    return build(load_model(FASHION_CNN), BuildConfig(), "rtx")


@pytest.mark.rtx
def test_a_built_engine_is_drawn_with_all_its_nodes(built: Built) -> None:
    state = FusionState(built, Files())
    assert len([box for box in state.picture.before.boxes if box.kind != "variable"]) == 26
    assert state.opened.fusion.unmatched == () and state.source == built.engine.key[:8]


@pytest.mark.rtx
def test_an_engine_of_an_edited_model_is_linked_as_well(home: Path) -> None:
    model = edit(load_model(FASHION_CNN), "batch=2")
    built = build(model, BuildConfig(), "rtx")
    assert len(FusionState(built, Files()).opened.fusion.nodes) == 26


def test_times_of_layers_are_coloured_and_the_code_takes_them_first() -> None:
    layers = RECORDED / "resnet18_fp32.inspector.json.gz"
    names = [group.layer.name for group in FusionState(layers, FILES).opened.fusion.groups]
    view = FusionView(layers, model=FILES.model, times_ms=dict.fromkeys(names, 0.25))
    assert view.state.opened.fusion.time_ms == pytest.approx(0.25 * len(names))
    assert "time" in view.state.picture.colors
    first, then = view.state.code()["Command line"].splitlines()
    assert first.startswith("workbench bench --engine ") and first.endswith(" --profile layer_times.json")
    assert "--profile=layer_times.json" in then
    assert "profile='layer_times.json'" in view.state.code()["Python"]


def test_the_story_is_turned_page_by_page_and_ends_at_both_ends(recorded: FusionState) -> None:
    assert recorded.passes[0].title == "the network as parsed" and recorded.place == 0
    recorded.turn(-1)
    assert recorded.place == 0
    recorded.turn(1)
    assert recorded.place == 1
    recorded.turn(1000)
    assert recorded.place == len(recorded.passes) - 1


def test_the_story_shows_the_steps_of_the_pass_that_is_open(recorded: FusionState) -> None:
    titles = [item.title for item in recorded.passes]
    page = render_fusion.story_page(recorded.passes, titles.index("dupe layer removal"))
    assert "ConvReluFusion: Fusing /conv1/Conv with /relu/Relu" in page
    assert page.count("aria-current") == 1
    assert "tells no step" in render_fusion.story_page(recorded.passes, titles.index("dead-layer removal"))


def test_another_engine_is_compared_group_by_group(recorded: FusionState) -> None:
    assert recorded.difference is not None and recorded.other is not None
    card = render_fusion.difference_card(recorded.difference, recorded.opened.title, recorded.other.title)
    assert "fp32 → int8" in card and "conv + bias + relu + max pool" in card
    assert "resnet18_int8.inspector.json.gz" in card


def test_the_card_tells_the_numbers_and_what_is_missing() -> None:
    opened = FusionState(RECORDED / "resnet18_fp16.inspector.json.gz", Files()).opened
    card = render_fusion.fusion_card(opened)
    assert "58" in card and "no ONNX file of this name lies beside" in card
    complete = render_fusion.fusion_card(FusionState(RECORDED / "resnet18_fp16.inspector.json.gz", FILES).opened)
    assert "65 of 65" in complete and "data-coverage='1.0000'" in complete


def test_tables_list_layers_and_the_fate_of_nodes_without_a_kernel() -> None:
    fusion = resnet("fp16")
    table = render_fusion.group_table(fusion)
    assert table.count("conv + bias + add + relu") == 8 and "more bring constants" in table
    fates = render_fusion.fate_table(fusion.fates)
    assert fates.count("<td>folded</td>") == 16 and "/Flatten" in fates and "/conv1/Conv" not in fates


def test_times_stand_in_the_table_where_they_were_measured() -> None:
    name = "/conv1/Conv + /relu/Relu"
    timed = resnet("fp16", times_ms={name: 0.0123})
    assert "0.0123 ms" in render_fusion.group_table(timed)
    assert "<th>time</th>" not in render_fusion.group_table(resnet("fp16"))


def test_the_code_opens_the_same(recorded: FusionState, capsys: pytest.CaptureFixture[str]) -> None:
    code = recorded.code()
    subprocess.run([sys.executable, "-c", code["Python"]], check=True, capture_output=True)
    words = shlex.split(code["Command line"])
    assert words[0] == "workbench" and main(words[1:]) == 0
    assert "65 nodes -> 23 kernels" in capsys.readouterr().out


@pytest.mark.rtx
def test_the_view_reads_as_two_sentences(built: Built) -> None:
    assert repr(FusionView(built)).splitlines()[1].startswith("26 nodes -> ")


def test_what_is_no_engine_is_refused() -> None:
    with pytest.raises(UnknownEngine):
        FusionView("0123abcd")
    with pytest.raises(ViewError, match="there is no such file"):
        FusionView("nowhere.json")


@pytest.mark.parametrize("backend", BOTH)
def test_engine_builder_opens_what_it_has_built(backend: str) -> None:
    builder = EngineBuilder(FASHION_CNN)
    builder.state.backend = backend
    builder.state.start()
    assert builder.state.wait(120) and builder.state.built is not None
    result = builder._result
    result.fusion_button.click()
    (view,) = result.fusion.children
    assert isinstance(view, FusionView) and view.state.opened.fusion.unmatched == ()
    builder.state.start()
    assert builder.state.wait(120) and result.fusion.children == ()  # it is another engine's now


def test_a_view_that_cannot_be_drawn_again_stays_below_the_reason() -> None:
    builder = EngineBuilder(FASHION_CNN)
    builder.state.backend = "onnxruntime"
    builder.state.start()
    assert builder.state.wait(120) and builder.state.built is not None
    builder._result.fusion_button.click()
    shutil.rmtree(builder.state.built.engine.folder)
    builder.state.layer_times_ms = {"a layer": 1.0}
    error, view = builder._result.fusion.children
    assert "The result from before stands below" in error.value and isinstance(view, FusionView)
