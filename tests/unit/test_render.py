"""render: what people read, as HTML; nothing from a model, a path or a log gets through unescaped."""

from __future__ import annotations

import dataclasses
import re
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers_building import RTX, save, small
from onnx import helper

from workbench import backends
from workbench.building import Built, build
from workbench.errors import BuildError, Cancelled, ShapeError, WorkbenchError
from workbench.layers import LayerInfo, LayerTensor
from workbench.machine import Gpu, this_machine
from workbench.model import Model, load_model
from workbench.store import EngineStore
from workbench.timing import Measurement
from workbench.types import LogLine, Support
from workbench.widgets import render
from workbench.widgets.phases import Phase

EVIL = "<script>alert('x')</script>&amp;\"><img src=x onerror=alert(1)>"


class Reader(HTMLParser):
    """Tags that are open, attributes, and the text a person reads."""

    VOID = frozenset({"br", "img", "wbr"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    """Parsed; every tag is closed, and nothing in it can run."""
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open, f"left open: {reader.open}"
    assert not reader.tags & {"script", "img", "iframe"}, reader.tags
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    return reader


def evil_model(path: Path) -> Model:
    nodes = [
        helper.make_node("Relu", [EVIL], ["r"], name=EVIL),
        helper.make_node("Sigmoid", ["r"], [f"out {EVIL}"], name=f"second {EVIL}"),
    ]
    return save(path, nodes, [f"n{EVIL}", 4], [f"n{EVIL}", 4], names=(EVIL, f"out {EVIL}"))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, Built]:
    """Built, and reused."""
    folder = tmp_path_factory.mktemp("results")
    model, store = small(folder / "small.onnx"), EngineStore(folder / "store")
    first, second = (build(model, None, "onnxruntime", store=store) for _ in range(2))
    return first, second


# ---- escaping


def test_a_models_names_are_text_and_never_markup(tmp_path: Path) -> None:
    model = evil_model(tmp_path / "<b>evil<b>.onnx")
    model.proto.producer_name = EVIL
    seen = read(render.model_facts(model))
    assert seen.text.count(EVIL) >= 5
    assert "b" not in seen.tags


@pytest.mark.parametrize("backend", [RTX, "onnxruntime"])
def test_an_engine_of_such_a_model_is_shown_as_text(tmp_path: Path, backend: str) -> None:
    model = evil_model(tmp_path / f"{EVIL.replace('/', '')}.onnx")
    built = build(model, None, backend, store=EngineStore(tmp_path / "<i>store</i>"))
    seen = read(render.result_card(built))
    assert model.name in seen.text and "<i>store</i>" in seen.text
    assert built.engine.nodes_covered == 2, "the names do not confuse the layers either"
    again = dataclasses.replace(built, why_missed=EVIL)
    assert EVIL in read(render.result_card(again)).text


@pytest.mark.parametrize(
    "error",
    [
        BuildError(EVIL, node=EVIL, remedy=EVIL, log_tail=(EVIL, EVIL), repeat=f"workbench build '{EVIL}'"),
        Cancelled(EVIL),
        ShapeError(EVIL),
    ],
)
def test_errors_are_text(error: WorkbenchError) -> None:
    assert EVIL in read(render.error_card(error)).text


def test_everything_else_that_comes_from_outside_is_text(results: tuple[Built, Built]) -> None:
    machine = dataclasses.replace(this_machine(), cpu=EVIL, gpus=(Gpu(EVIL, "8.9", 1),), cuda_version=EVIL, python=EVIL)
    support = Support(EVIL, EVIL, EVIL, True, EVIL, False, EVIL, (EVIL,))
    for html in (
        render.mistake(EVIL),
        render.backend_note(support),
        render.backend_note(dataclasses.replace(support, can_build=False)),
        render.reasons([(EVIL, EVIL)]),
        render.phase_tree([Phase(EVIL, 0, 1, 2, 0.0, None)], 1.0),
        render.log_lines([LogLine("error", EVIL)], 1),
        render.code_block(EVIL),
        render.measurement_card(Measurement((1.0,), 1, {EVIL: (1,)}, EVIL, machine, (1.0,), EVIL), EVIL),
        render.machine_table(machine, [support]),
    ):
        assert EVIL in read(html).text


# ---- cards


def test_the_card_of_a_gpu_shows_both_clocks_and_any_other_one() -> None:
    one = Measurement((1.0, 2.0, 3.0), 1, {"x": (1,)}, "perf_counter", this_machine())
    both = dataclasses.replace(one, clock="CUDA events", host_times_ms=(4.0, 5.0, 6.0), host_clock="with copies")
    text = read(render.measurement_card(both, "tensorrt fp16")).text
    for words in ("median on the GPU2.000 ms", "host to host5.000 ms", "CUDA events", "with copies"):
        assert words in text
    text = read(render.measurement_card(one, "onnxruntime fp16")).text
    assert "median2.000 ms" in text and "GPU" not in text.split("perf_counter")[0] and "host to host" not in text


def test_an_engine_for_this_gpu_runs_on_the_gpu_it_was_built_on(results: tuple[Built, Built]) -> None:
    engine = results[0].engine
    machine = {**engine.machine, "gpus": [{"name": "NVIDIA H200"}]}
    engine = dataclasses.replace(engine, recipe={**engine.recipe, "targets": ["gpu"]}, machine=machine)
    assert "runs onNVIDIA H200" in read(render.result_card(dataclasses.replace(results[0], engine=engine))).text


def test_the_card_of_a_new_engine_says_built_and_why_it_was_not_reused(results: tuple[Built, Built]) -> None:
    html, engine = render.result_card(results[0]), results[0].engine
    text = read(html).text
    assert "data-reused='false'" in html
    assert "built" in text and "not reused: the store holds no engine yet" in text
    assert "found and checked in" not in text
    for fact in ("small", "fp32", "onnxruntime", engine.release, f"{engine.build_s:,.1f} s", str(engine.plan_path)):
        assert fact in text
    assert f"nodes before{engine.nodes}" in text and f"layers after{engine.layers}" in text


def test_the_card_of_a_reused_engine_says_reused_and_how_long_the_look_up_took(results: tuple[Built, Built]) -> None:
    html, built = render.result_card(results[1]), results[1]
    text = read(html).text
    assert "data-reused='true'" in html
    assert "<em>reused</em>" in html and "not reused" not in text
    assert f"found and checked in{built.elapsed_s * 1000:,.0f} ms" in text
    assert f"building it took {built.engine.build_s:,.1f} s on {built.engine.built_at[:10]}" in text
    assert "None" not in text


def test_the_error_card_shows_reason_node_remedy_log_and_the_line_that_repeats_it() -> None:
    error = BuildError(
        "the parser refuses it", node="/conv/1", remedy="Export it again.", log_tail=("first line", "last line"),
        repeat="workbench build 'a b.onnx' --backend rtx",
    )  # fmt: skip
    html = render.error_card(error)
    text = read(html).text
    for part in ("The build failed", "the parser refuses it.", "/conv/1", "Export it again.",
                 "first line\nlast line", "workbench build 'a b.onnx' --backend rtx"):  # fmt: skip
        assert part in text, part
    assert "role='alert'" in html
    assert text.index("refuses") < text.index("/conv/1") < text.index("Export") < text.index("last line")


def test_the_error_card_leaves_out_what_is_not_known() -> None:
    text = read(render.error_card(BuildError("it broke"))).text
    assert "it broke." in text
    assert not re.search(r"None|node|What to do|log|shell", text)


def test_a_real_crash_and_a_real_refusal_are_readable(tmp_path: Path) -> None:
    from helpers_building import refused

    with pytest.raises(BuildError) as caught:
        build(refused(tmp_path / "bad.onnx"), None, "onnxruntime", store=EngineStore(tmp_path / "store"))
    text = read(render.error_card(caught.value)).text
    assert "culprit" in text and "workbench build" in text and "What to do:" in text


def test_cancelling_is_a_note_and_no_alarm() -> None:
    html = render.error_card(Cancelled("the build was cancelled"))
    assert "Cancelled" in html and "role='status'" in html and "wb-error" not in html
    assert read(html).text.endswith("The build was cancelled.")


def test_a_users_mistake_is_told_as_one_sentence() -> None:
    text = read(render.error_card(ShapeError("n: min 3 is larger than opt 2."))).text
    assert text.endswith("n: min 3 is larger than opt 2.")


# ---- progress and log


def test_the_phase_tree_counts_indents_and_times_its_phases() -> None:
    phases = [
        Phase("Building", 0, 1, 4, 0.0, None),
        Phase("Inner", 1, 1500, 1500, 1.0, 2.5),
        Phase("Innermost", 2, 0, None, 2.5, None),
        Phase("One step", 0, 1, 1, 0.0, 0.04),
    ]
    html = render.phase_tree(phases, 10.0)
    text = read(html).text
    assert "data-phases='4'" in html and html.count("class='wb-bar") == 4
    assert re.findall(r"padding-left:(\d+)px", html) == ["0", "16", "32", "0"]
    assert text == "Building1 of 410.0 sInner1,500 of 1,5001.5 sInnermost7.5 sOne step0.0 s"
    assert re.findall(r"width:(\d+)%", html) == ["25", "100", "100"], "an open one has no width"
    assert html.count("wb-over") == 2 and html.count("wb-open") == 1


def test_without_phases_there_is_no_tree() -> None:
    assert render.phase_tree([], 0.0) == ""


def test_the_log_counts_its_lines_and_marks_the_severe_ones() -> None:
    lines = [LogLine("error", "bad"), LogLine("info", "good\nand more"), LogLine("verbose", "detail")]
    html = render.log_lines(lines, 3)
    assert "3 lines" in html and "wb-bad'><b>E</b> bad" in html and "wb-quiet'><b>V</b> detail" in html
    assert "good\nand more" in read(html).text
    assert "the last 3 of 1,234 lines" in read(render.log_lines(lines, 1234)).text
    assert "No line of the log fits." in read(render.log_lines([], 0)).text


# ---- small things


def test_no_mistake_is_nothing() -> None:
    assert render.mistake("") == ""
    assert "role='alert'" in render.mistake("wrong")


def test_code_is_shown_verbatim_and_its_absence_explained() -> None:
    code = "a < b && c > 'd'\n  indented"
    assert render.code_block(code) == f"<pre>{escape(code)}</pre>"
    assert unescape(render.code_block(code))[5:-6] == code
    assert "Complete the form first" in render.code_block("")


def test_the_machine_table_has_a_row_for_each_back_end_and_no_cell_without_a_reason() -> None:
    supports = list(backends.available().values())
    html = render.machine_table(this_machine(), supports)
    text = read(html).text
    assert html.count("<tr>") == len(supports) + 1
    for support in supports:
        assert support.title in text and support.build_reason in text and support.run_reason in text
    assert html.count("✕ no") == sum((not item.can_build) + (not item.can_run) for item in supports)


def test_one_node_is_not_one_nodes(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="relu")]
    assert "1 node " in render.model_facts(load_model(save(tmp_path / "one.onnx", nodes, [1], [1]).path)) + " "


def test_the_style_is_one_closed_element() -> None:
    assert render.STYLE.startswith("<style>") and render.STYLE.count("</style>") == 1


def test_a_dimension_of_a_foreign_model_cannot_write_into_the_page() -> None:
    assert "<img" not in render.dimension(EVIL, EVIL)


def test_the_layer_table_names_what_each_layer_does() -> None:
    made = LayerTensor("t", (1, 8), "Half")
    html = render.layer_table(
        [LayerInfo("l0", "kgen", (), (made,), "", ("a", EVIL)), LayerInfo("l1", "wait", (), (), "", ())]
    )
    assert "<img" not in html and "Half 1x8" in html and "a + " in html and html.count("<tr>") == 2 and "1 more" in html
