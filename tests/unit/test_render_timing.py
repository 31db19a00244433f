"""What TimingBoard shows of a study and of recorded runs, as tables, plots and HTML, by numbers set beforehand."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_clock import noisy
from models import FASHION_CNN, OCR_DET
from test_render import EVIL, read

from workbench.calibration.samples import Batch
from workbench.comparing import compare
from workbench.conditions import Conditions
from workbench.machine import this_machine
from workbench.model import Model, load_model
from workbench.plots.output import svg
from workbench.plots.pareto import RELATIVE
from workbench.study import Study, Subject
from workbench.timing import Measurement
from workbench.timing.throughput import Throughput
from workbench.widgets import render_timing
from workbench.widgets.timing_choices import BUILD, Candidate
from workbench.widgets.timing_export import csv_text
from workbench.widgets.timing_layers import group_times_of, layer_sources, usual_sides
from workbench.widgets.timing_pareto import TOP1, pareto_beside
from workbench.widgets.timing_plots import medians_beside, throughput_beside
from workbench.widgets.timing_recorded import (
    Recording,
    layered_runs,
    recorded_by_batch,
    recorded_rows,
    recordings,
    usual_recording,
)
from workbench.widgets.timing_results import (
    LATENCY,
    LAYERS,
    OUTPUTS,
    PARETO,
    SECTIONS,
    THROUGHPUT,
    UNTOLD,
    Picture,
    Sheet,
    Shown,
    latency_sheet,
    pictures,
)

H200 = "recorded on NVIDIA H200, TensorRT 8.6.0, 2026-11-20"
FEEDS = {"x": np.arange(8, dtype=np.float32).reshape(4, 2)}


class Answers:
    """A session that adds to its input."""

    def __init__(self, off: float) -> None:
        self.off = off

    def run(self, feeds: Mapping[str, np.ndarray]) -> Any:
        return {"y": feeds["x"] + self.off * np.array([1, -1], np.float32)}


def measurement(name: str, median_ms: float, **more: Any) -> Measurement:
    times = tuple(islice(noisy(median_ms, seed=len(name)), 60))
    given = {"name": name, "releases": {"onnxruntime": "1.31"}, **more}
    return Measurement(times, 3, {"x": (4, 2)}, "clock of a test", this_machine(), **given)


def a_study(medians: Mapping[str, float], off: Mapping[str, float] | None = None, **more: Any) -> Study:
    """off: how far outputs lie apart, by name; no comparison without it."""
    names = tuple(medians)
    runs = {name: Answers((off or {}).get(name, 0.0)) for name in names}
    return Study(
        id="0123", at="2026-12-01T10:20:30+00:00", model="net", model_sha256="abcd",
        subjects=tuple(Subject(name, "onnxruntime", "fp16" if "16" in name else "fp32") for name in names),
        measurements=tuple(measurement(name, median) for name, median in medians.items()), reference=names[0],
        comparison=compare(runs, FEEDS) if off is not None else None, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fashion() -> Model:
    return load_model(FASHION_CNN)


@pytest.fixture(scope="module")
def recording(fashion: Model) -> Recording:
    return next(item for item in recordings(fashion) if item.model == "fashion_cnn")


@pytest.fixture(scope="module")
def resnet(fashion: Model) -> Recording:
    return next(item for item in recordings(fashion) if item.model == "resnet18")


# ---- recorded runs


def test_a_recording_is_found_by_content_then_by_name_and_says_so(fashion: Model, tmp_path: Path) -> None:
    found = recordings(fashion)
    assert (found[0].model, found[0].note, found[0].label) == ("fashion_cnn", "", H200)
    assert usual_recording(found, fashion) == found[0].key and found[0].title == "fashion_cnn · NVIDIA H200"
    changed = tmp_path / "fashion_cnn.onnx"
    proto = load_model(FASHION_CNN).proto
    proto.producer_name = "somebody else"
    changed.write_bytes(proto.SerializeToString())
    other = load_model(changed)
    (renamed, *_) = recordings(other)
    assert (
        "of this name with other content" in renamed.note and usual_recording(recordings(other), other) == renamed.key
    )
    detector = load_model(OCR_DET)
    assert usual_recording(recordings(detector), detector) == ""
    assert all("another model" in item.note for item in recordings(detector))


def test_a_recording_that_cannot_be_read_is_left_out(fashion: Model, tmp_path: Path) -> None:
    (tmp_path / "data" / "recorded" / "broken").mkdir(parents=True)
    (tmp_path / "data" / "recorded" / "broken" / "runs.json").write_text("{")
    assert recordings(fashion, tmp_path) == () and usual_recording((), fashion) == ""


def test_recorded_rows_are_those_of_the_gpus_own_clock_at_this_batch(recording: Recording, resnet: Recording) -> None:
    rows = recorded_rows(recording, 32)
    assert {row.run.batch for row in rows} == {32} and rows[0].name == "TensorRT fp32"
    assert all("CUDA events" in row.run.clock for row in (*rows, *recorded_rows(resnet, 1)))
    assert len({row.name for row in rows}) == len(rows), "ranges tell the runs in int8 apart"
    elsewhere = recorded_rows(recording, 7)
    assert elsewhere[0].name == "TensorRT fp32, batch 1", "the smallest batch, and it says so"
    peers = {row.run.peer for row in recorded_rows(resnet, 1)}
    assert peers == {"workbench", "torch eager", "torch compile"}


def test_int8_on_a_gpu_is_told_against_its_own_fp32(recording: Recording, resnet: Recording) -> None:
    rows = {row.name: row for row in recorded_rows(recording, 1)}
    plain, int8 = rows["TensorRT fp32"], rows["TensorRT int8 (entropy)"]
    assert plain.times_as_fast is None and plain.verdict == ""
    assert int8.times_as_fast == pytest.approx(plain.run.median_ms / int8.run.median_ms)
    assert int8.verdict == "2.15 times as fast as its fp32"
    assert int8.per_s == pytest.approx(1000 / int8.run.mean_ms)
    slower = next(row for row in recorded_rows(resnet, 1) if row.name == "PyTorch eager fp16")
    assert slower.verdict == "1.41 times as slow as its fp32"


# ---- latency


def test_the_latency_table_ranks_what_was_measured_here_and_nothing_else(recording: Recording) -> None:
    study = a_study({"plain": 2.0, "fp32": 1.0, "fp16": 1.001})
    sheet = latency_sheet(Shown(study, recording, 1))
    rows = {row[0]: row for row in sheet.rows}
    assert sheet.heads[-2:] == ("against plain", "rank") and sheet.label == H200
    assert rows["plain"][-1] == "3" and rows["fp32"][-1] == rows["fp16"][-1] == "1 to 2"
    assert " times as fast (1.9" in rows["fp32"][-2] and rows["plain"][-2] == ""
    recorded = {row[0]: row for row in sheet.recorded}
    assert all(row[-1] == UNTOLD and row[2:4] == (UNTOLD, UNTOLD) for row in sheet.recorded)
    assert recorded["TensorRT fp32"][1] == "0.071" and recorded["TensorRT fp32"][4] == "0.403"


def test_another_recorded_model_is_named_in_every_table(resnet: Recording) -> None:
    assert latency_sheet(Shown(None, resnet, 1)).label == f"resnet18, {H200}"


def test_host_to_host_gets_a_column_where_a_gpu_was_measured(recording: Recording) -> None:
    study = a_study({"gpu": 1.0, "cpu": 2.0})
    gpu = replace(study["gpu"], host_times_ms=(1.5, 1.5, 1.5), host_clock="with copies")
    study = replace(study, measurements=(gpu, study["cpu"]))
    sheet = latency_sheet(Shown(study, recording, 1))
    assert sheet.heads[3] == "host to host ms" and [row[3] for row in sheet.rows] == ["1.500", ""]
    assert {len(row) for row in (*sheet.rows, *sheet.recorded)} == {len(sheet.heads)}
    (medians, *_) = pictures(LATENCY, Shown(study, recording, 1))
    assert len(medians.sheet.rows) == 3 and len(medians.sheet.recorded) == len(sheet.recorded), (
        "both clocks, then those"
    )


def test_recorded_medians_stand_below_on_one_axis_or_on_their_own(recording: Recording) -> None:
    rows = recorded_rows(recording, 1)
    near = medians_beside([measurement("a", 0.3), measurement("b", 0.31)], rows, H200)
    far = medians_beside([measurement("a", 300.0)], rows, H200)
    assert near.facts.is_shared and not far.facts.is_shared
    own, recorded = near.facts.groups
    assert recorded.is_recorded and recorded.heading == H200 and all(not bar.rank for bar in recorded.bars)
    assert [bar.rank[:4] for bar in own.bars] == ["rank", "rank"] and own.limit_ms == recorded.limit_ms
    assert all(not bar.rank for bar in far.facts.groups[0].bars), "alone there is no rank"
    assert "an axis of its own" in " ".join(far.notes) and len(near.rows) == 3 + len(rows)
    text = svg(near)
    assert H200 in text and "TensorRT int8 (mse)" in text and text.count("stroke-dasharray") >= len(rows)


def test_medians_without_recorded_ones_are_the_usual_plot_and_the_other_way_round(recording: Recording) -> None:
    alone = medians_beside([measurement("a", 1.0)], (), "")
    assert len(alone.rows) == 2 and "recorded" not in svg(alone)
    recorded = medians_beside([], recorded_rows(recording, 1), H200)
    assert len(recorded.facts.groups) == 1 and "TensorRT fp16" in svg(recorded)


def test_no_distribution_is_made_up_of_recorded_runs(recording: Recording) -> None:
    _, spread = pictures(LATENCY, Shown(a_study({"a": 1.0}), recording, 1))
    assert len(spread.sheet.rows) == 1 and not spread.sheet.recorded
    assert "nothing tells how they were spread" in spread.notes[0]
    assert [item.stem for item in pictures(LATENCY, Shown(None, recording, 1))] == ["medians"]


# ---- throughput


def test_recorded_throughput_is_dashed_on_an_axis_of_its_own(recording: Recording) -> None:
    found = recorded_by_batch(recording)
    points = {"mine": (Throughput(1, 1, ((10, 0.1), (10, 0.1)), 1.0, "clock"),)}
    own, recorded = throughput_beside(points, found, H200)
    assert [item.style for item in own.facts.lines] == [0] and {item.style for item in recorded.facts.lines} == {1}
    (line,) = (item for item in recorded.facts.lines if item.name == "TensorRT fp32")
    run = found["TensorRT fp32"][1].run
    assert [item.batch for item in line.points] == [1, 32]
    assert line.points[1].per_s.value == pytest.approx(32 / run.mean_ms * 1000)
    assert recorded.title == f"R{H200[1:]}" and throughput_beside({}, {}, "") == ()
    study = a_study({"mine": 1.0}, throughputs=points)
    (picture,) = pictures(THROUGHPUT, Shown(study, recording, 1))
    assert len(picture.sheet.rows) == 1 and len(picture.sheet.recorded) == sum(map(len, found.values()))


# ---- accuracy against latency


def test_the_front_is_that_of_what_was_measured_here(recording: Recording) -> None:
    labelled = labelled_study({"fp32": 1.0, "fp16": 0.5})
    found = pareto_beside(labelled, recorded_rows(recording, 1), H200, same_model=True)
    (plot,) = found.plots
    points, recorded = plot.facts.facts.points, plot.facts.recorded
    assert plot.facts.facts.loss_unit == TOP1 and found.own == 2
    assert [points[place].name for place in plot.facts.facts.front] == ["fp16"]
    assert all(place not in plot.facts.facts.front for place in recorded) and len(recorded) == 7
    assert all(row[-1] == "" for row in plot.rows[3:]) and "never on the front" in plot.notes[-1]
    lost = {points[place].name: points[place].loss.value for place in recorded}
    assert lost["TensorRT fp32"] == 0 and lost["TensorRT int8 (entropy)"] == pytest.approx(0.1, abs=0.001)
    assert "TensorRT int8 (entropy)" in svg(plot)


def labelled_study(medians: Mapping[str, float]) -> Study:
    study = a_study(medians)
    batch = Batch(FEEDS, np.array([1, 1, 0, 1]), tuple("abcd"), tuple("abcd"))
    return replace(study, comparison=compare({name: Answers(0) for name in medians}, [batch]))


def test_what_is_counted_in_other_units_or_of_another_model_gets_a_plot_of_its_own(
    recording: Recording, resnet: Recording
) -> None:
    study = a_study({"fp32": 1.0, "fp16": 0.5}, {"fp16": 0.1})
    own, top1 = pareto_beside(study, recorded_rows(recording, 1), H200, same_model=True).plots
    assert own.facts.loss_unit == RELATIVE and top1.facts.facts.loss_unit == TOP1
    own, relative = pareto_beside(study, recorded_rows(resnet, 1), H200, same_model=False).plots
    assert relative.facts.facts.loss_unit == RELATIVE and relative.title.startswith("Recorded on")
    losses = {item.name: item.loss.value for item in relative.facts.facts.points}
    assert losses["TensorRT fp16"] == pytest.approx(100 * 0.0026, abs=0.5) and losses["TensorRT fp32"] < 1e-3
    assert all(svg(plot) for plot in (own, top1, relative))


def test_outputs_that_are_not_finite_and_those_that_were_not_compared_are_told() -> None:
    lost = pareto_beside(a_study({"fp32": 1.0, "fp16": 0.5}, {"fp16": math.nan}), (), "", same_model=False)
    (plot,) = lost.plots
    assert any("fp16 is not drawn" in note for note in plot.notes)
    alone = pareto_beside(a_study({"fp32": 1.0}), (), "", same_model=False)
    assert alone.plots == () and "Only one was measured" in alone.notes[0]


# ---- layers


def test_layers_of_a_recording_are_opened_with_the_models_nodes(fashion: Model, recording: Recording) -> None:
    names = usual_sides(None, recording)
    assert names == ("recorded fp32, batch 32", "recorded int8 (mse), batch 32")
    sides = tuple(group_times_of(name, None, recording, fashion) for name in names)
    (picture,) = pictures(LAYERS, Shown(None, recording, 1, sides))
    assert any("conv + batch norm + relu" in row[0] for row in picture.sheet.rows)
    assert any("the whole run" in note for note in picture.plots[0].notes)
    assert set(layered_runs(recording)) == {name.removeprefix("recorded ") for name in layer_sources(None, recording)}


def test_layers_of_two_models_are_not_compared(fashion: Model, recording: Recording, resnet: Recording) -> None:
    sides = [group_times_of(usual_sides(None, item)[0], None, item, fashion) for item in (recording, resnet)]
    (picture,) = pictures(LAYERS, Shown(None, recording, 1, tuple(sides)))
    assert "different models" in picture.empty and not picture.plots


# ---- HTML


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("as_table", [True, False])
def test_every_section_can_be_read_as_plot_and_as_table(section: str, as_table: bool, recording: Recording) -> None:
    study = a_study({"fp32": 1.0, "fp16": 0.5}, {"fp16": 0.1})
    for shown in (Shown(study, recording, 1), Shown(study), Shown(None, recording, 1), Shown()):
        for picture in pictures(section, shown):
            html = render_timing.picture_html(picture, as_table=as_table)
            assert read(html.replace("clippath", "clipPath")).text.strip()
            kind = "empty" if picture.empty else "table" if as_table or not picture.plots else "plot"
            assert f"data-{kind}='{picture.stem}'" in html


def test_names_are_text_and_never_markup() -> None:
    study = a_study({EVIL: 1.0, "b": 2.0}, {"b": 0.1}, failures={EVIL: EVIL})
    study = replace(study, model=EVIL)
    sheet = Sheet((EVIL, "n"), ((EVIL, "1"),), ((EVIL, "2"),), EVIL)
    candidate = Candidate(EVIL, EVIL, EVIL, BUILD, reason=EVIL)
    parts = [
        render_timing.study_card(study),
        render_timing.sheet_table(sheet),
        render_timing.candidate_notes([candidate, replace(candidate, name="x", reason="", note=EVIL)], ["x"]),
        render_timing.export_note([EVIL], ""),
        render_timing.export_note([], EVIL),
        render_timing.inputs_note(EVIL, True),
        render_timing.picture_html(Picture("a", "a", (), sheet, EVIL), as_table=True),
        *(render_timing.picture_html(item, as_table=True) for item in pictures(LATENCY, Shown(study))),
    ]
    for html in parts:
        assert EVIL in read(html).text
    for item in pictures(LATENCY, Shown(study)):
        read(render_timing.picture_html(item, as_table=False))


def test_warnings_and_provenance_are_always_in_the_card() -> None:
    seen = Conditions(1.0, 5, throttling=("Heat slowed a processor core 3 times.",), other_load=1.5)
    study = a_study({"fp32": 1.0, "fp16": 0.5}, failures={"int8": "it has no ranges"})
    slow = tuple(replace(item, conditions=seen, threads=2, rivals=("x",)) for item in study.measurements)
    html = render_timing.study_card(replace(study, measurements=slow), form_has_changed=True)
    text = read(html).text
    for told in (
        "int8: it has no ranges", "Heat slowed a processor core 3 times.", "Other programs kept 1.5 processors busy",
        "fp32, fp16: clock of a test, 2 threads. onnxruntime 1.31.", str(this_machine()), "The form has changed since",
        "x 4x2", "2 measured in turns", "2026-12-01 10:20 UTC",
    ):  # fmt: skip
        assert told in text
    assert "data-warnings='3'" in html and text.count("clock of a test") == 1 and text.count(str(this_machine())) == 1
    quiet = read(render_timing.warnings(())).text
    assert "No throttling, no other load, no drift was seen." in quiet


def test_the_fastest_is_named_alone_only_where_nobody_may_be_as_fast() -> None:
    assert render_timing.fastest(a_study({"a": 1.0, "b": 2.0})) == "a"
    assert render_timing.fastest(a_study({"a": 1.0, "b": 1.001, "c": 2.0})) == "a, b: no measurable difference"
    alone = render_timing.study_card(a_study({"a": 1.0}))
    assert "measured alone" in alone and "compared with" not in alone


def test_numbers_stand_on_the_right_and_words_on_the_left() -> None:
    heads = ("name", "ms", "interval", "rate", "verdict", "nothing", "odd")
    rows = (
        ("1", "0.3", "0.2 to 0.4", "3,262/s", "2.1 times as fast", "–", "-5.6 to ∞"),
        ("b", "-1e-05", "–", "∞", "", "", "NaN"),
    )
    html = render_timing.sheet_table(Sheet(heads, rows))
    head = html[html.index("<thead>") : html.index("</thead>")]
    assert [f"<th class='wb-right'>{name}" in head for name in heads] == [False, True, True, True, False, True, True]


def test_an_interval_stands_beside_its_value() -> None:
    html = render_timing.sheet_table(
        Sheet(("name", "top-1, %", "with 95 %"), (("a", "93", "86.2 to 96.5"), ("b", "-", "-")))
    )
    assert "<td class='wb-right'>93 (86.2 to 96.5)</td>" in html and "with 95 %" not in html
    assert "<td class='wb-right'>-</td>" in html


def test_recorded_rows_stand_apart_under_their_label() -> None:
    html = render_timing.sheet_table(Sheet(("name", "ms"), (("a", "1"),), (("b", "2"), ("c", "3")), H200))
    own, recorded = html.split("<tbody class='wb-recorded'")
    assert "<td>a</td>" in own and H200 not in own
    assert H200 in recorded and "never ranked" in recorded and "data-recorded='2'" in recorded
    assert "wb-recorded" not in render_timing.sheet_table(Sheet(("name",), (("a",),)))


def test_reasons_that_are_the_same_are_told_once_and_notes_of_the_chosen_alone() -> None:
    made = [Candidate(name, name, "row", BUILD, reason="no GPU") for name in ("x", "y")]
    made += [Candidate(name, name, "row", BUILD, note=f"about {name}") for name in ("p", "q")]
    text = read(render_timing.candidate_notes(made, ["q"])).text
    assert text.count("no GPU") == 1 and "x, y" in text and "about q" in text and "about p" not in text


def test_a_recording_says_how_it_is_related(recording: Recording, resnet: Recording) -> None:
    same = read(render_timing.recording_note(recording)).text
    assert H200[1:] in same and "The very model" in same and "Never ranked" in same
    assert "another model, resnet18" in read(render_timing.recording_note(resnet)).text
    assert "choose a model" in read(render_timing.recording_note(None)).text


def test_csv_tells_where_each_row_was_measured() -> None:
    text = csv_text(Sheet(("name", "ms"), (("a, b", "1"),), (("c", "2"),), H200))
    assert list(csv.reader(io.StringIO(text))) == [["name", "ms", "measured"], ["a, b", "1", "here"], ["c", "2", H200]]


def test_outputs_come_as_three_tables() -> None:
    study = a_study({"fp32": 1.0, "fp16": 0.5}, {"fp16": 0.25})
    scores, differences, values = pictures(OUTPUTS, Shown(study))
    assert [row[0] for row in scores.sheet.rows] == ["fp32", "fp16"]
    assert differences.sheet.rows[0][:2] == ("fp16", "y")
    assert values.sheet.heads == ("output", "fp32", "fp16") and values.sheet.rows[0] == ("y[0]", "0", "0.25")
    assert values.notes[0] == "Outputs of sample 1."


def test_the_styles_name_the_plots_colours_for_both_themes() -> None:
    assert render_timing.STYLE.count("--wb-series-1:") == 2 and "data-jp-theme-light" in render_timing.STYLE
    assert "--wb-text:" not in render_timing._SERIES, "the widget's own words keep their colours"


def test_pareto_without_anything_says_what_to_do() -> None:
    (picture,) = pictures(PARETO, Shown(a_study({"fp32": 1.0})))
    assert "choose another one" in picture.empty
