"""Reports: what is collected from the history and the store, and what the page and the Markdown make of it."""

from __future__ import annotations

import math
import re
import shlex
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers_report import HOSTILE, Made, make

from workbench.accuracy import Interval, compare_outputs, difference_to_json, percentage, percentage_lost
from workbench.baselines import baseline
from workbench.calibration.sample import Batch
from workbench.cli import main
from workbench.comparison import Comparison, Contestant
from workbench.errors import ConfigError, UnknownRun, ViewError
from workbench.evaluation import Evaluation, evaluate
from workbench.machine import this_machine
from workbench.model import load_model
from workbench.plots import RELATIVE
from workbench.report import Report, collect, html, markdown, save_report
from workbench.report.choosing import choose, comparisons_of
from workbench.report.verdict import comparable, pareto_points, verdict
from workbench.runs import History, new_id, run_of_comparison, run_of_evaluation, run_of_measurement
from workbench.store import EngineStore
from workbench.study import Study, Subject, record, save_study
from workbench.tables import Table
from workbench.tally import OutputAgreement, TaskScore
from workbench.timing import Measurement
from workbench.timing.throughput import Throughput

FASHION_CNN = Path(__file__).parents[2] / "data" / "models" / "fashion_cnn.onnx"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("report"))


@pytest.fixture
def kept(made: Made, monkeypatch: pytest.MonkeyPatch) -> Made:
    """With its store as the one of this test."""
    monkeypatch.setenv("WORKBENCH_HOME", str(made.home))
    return made


@pytest.fixture
def report(kept: Made) -> Report:
    return collect([kept.found.id], recordings=[])


class Page(HTMLParser):
    """Tags with their attributes, and the words between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def measured(name: str, middle_ms: float, host_ms: float = 0.0, count: int = 40) -> Measurement:
    wave = 1 + 0.01 * np.sin(np.arange(count) * 2.4)
    host = tuple(map(float, host_ms * wave)) if host_ms else ()
    times = tuple(map(float, middle_ms * wave))
    host_clock = "host" if host else ""
    return Measurement(times, 2, {"x": (4, 2)}, "clock", this_machine(), host, host_clock, name)


def studied(*measurements: Measurement, compared: Comparison | None = None) -> Study:
    subjects = tuple(Subject(item.name, "backend", "fp16") for item in measurements)
    first = measurements[0].name
    return Study("0123456789ab", "2026-12-01T00:00:00+00:00", "net", "", subjects, measurements, first, compared)


def scored(name: str, lost: int, gained: int) -> Contestant:
    drop = percentage_lost(lost, gained, 900 - lost, 1000)
    score = TaskScore(percentage(900, 1000), percentage(900 - lost + gained, 1000), drop, lost, gained)
    return Contestant(name, Evaluation(1000, score, None, (agreement(0.5),)))


def agreement(relative: float) -> OutputAgreement:
    same = Interval(1, 1, 1)
    return OutputAgreement("y", Interval(relative, relative * 0.9, relative * 1.1), same, same, None, relative)


def apart(name: str, relative: float) -> Contestant:
    return Contestant(name, Evaluation(3, None, None, (agreement(relative),)))


def against(reference: str, *others: Contestant) -> Comparison:
    return Comparison(reference, 1000, (scored(reference, 0, 0), *others), (), "")


# ---- what is chosen


def test_a_study_comes_whole_by_its_id_its_beginning_or_one_of_its_runs(kept: Made) -> None:
    history, study = History(), kept.found.id
    row = next(run for run in history.list() if run.subject == "fp16")
    whole = {row.run.id for row in choose(history, [study]).rows}
    assert len(whole) == len(kept.found.measurements) + len(kept.found.comparison.others)  # type: ignore[union-attr]
    assert {item.run.id for item in choose(history, [study[:9]]).rows} == whole
    assert {item.run.id for item in choose(history, [row.id[:9], study]).rows} == whole


def test_a_baseline_stands_for_its_runs(kept: Made) -> None:
    history = History()
    history.name_baseline("release 1", kept.found.id)
    assert choose(history, ["release 1"]) == choose(history, [kept.found.id])


def test_what_is_in_no_history_is_told(kept: Made, tmp_path: Path) -> None:
    with pytest.raises(UnknownRun, match="'zz'"):
        collect(["zz"])
    with pytest.raises(ConfigError, match="name some"):
        collect([])
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ViewError, match="not a study"):
        collect([str(tmp_path / "other.json")])


def test_a_saved_study_is_told_of_without_any_history(kept: Made, tmp_path: Path) -> None:
    found = collect([str(save_study(kept.found, tmp_path / "study.json.gz"))], recordings=[])
    assert found.runs == ()
    assert [item.name for item in found.timings[0].study.measurements] == ["fp32", "fp16", "int8", HOSTILE]
    assert "From a saved study" in Page(html(found)).words


# ---- what is collected


def test_times_and_names_of_a_study_come_back_as_they_were(report: Report, kept: Made) -> None:
    (timing,) = report.timings
    assert timing.in_turns
    assert timing.study.measurements == kept.found.measurements
    assert timing.study.reference == "fp32"
    assert [plot.title for plot in timing.plots] == [
        "Median latency", "How the latencies are spread", "What speed costs in accuracy", "Time by layer",
    ]  # fmt: skip


def test_who_is_missing_and_throughput_come_from_the_history(home: Path) -> None:
    rates = (Throughput(1, 1, ((10, 0.5), (11, 0.5)), 1.0, "clock"), Throughput(8, 1, ((5, 0.5), (5, 0.5)), 2.0, "c"))
    kept = replace(
        studied(measured("fast", 1.0), measured("slow", 2.0)), failures={"int8": "it has no ranges."},
        throughputs={"slow": rates},
    )  # fmt: skip
    record(kept)
    found = collect([kept.id], recordings=[])
    (timing,) = found.timings
    assert (timing.study.failures, timing.study.throughputs) == (kept.failures, kept.throughputs)
    assert "Throughput" in [plot.title.partition(" ")[0] for plot in timing.plots]
    page = Page(html(found))
    assert "int8: it has no ranges." in page.words
    assert "No throughput" not in page.words
    assert "int8: it has no ranges." in markdown(found)


def test_the_model_is_told_from_its_file(report: Report, kept: Made) -> None:
    (model,) = report.models
    assert (model.name, model.sha256) == ("small", kept.model.sha256)
    assert ("input", "x: float32[1, 3, 8, 8]") in model.facts
    assert ("operators", "1 Conv, 1 Relu") in model.facts
    assert ("opset", "17") in model.facts


def test_a_model_that_has_changed_is_told_from_the_nodes_kept_with_the_engine(tmp_path: Path) -> None:
    own = make(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(own.home))
        own.model.path.write_bytes(FASHION_CNN.read_bytes())
        found = collect([own.found.id], recordings=[])
    (model,) = found.models
    assert dict(model.facts) == {"inputs": "x", "outputs": "y", "nodes": "2", "operators": "1 Conv, 1 Relu"}
    assert "another one now" in model.notes[0]
    assert all("not at hand as it was" in item.note for item in found.repeats if item.what.startswith("Build"))
    assert "cannot be checked against it" in found.calibrations[0].notes[0]


def test_engines_are_told_with_the_reason_for_their_build(report: Report, kept: Made) -> None:
    by_name = {item.names: item for item in report.engines}
    assert set(by_name) == {("fp32",), ("fp16",), ("int8",)}
    fp16 = by_name["fp16",]
    assert fp16.key == kept.built["fp16"].engine.key
    assert fp16.plan_bytes == kept.built["fp16"].engine.plan_bytes
    assert "differs in precision (fp32 stored, fp16 wanted)" in fp16.why
    assert by_name["fp32",].why == "No older engine of small is stored for onnxruntime."


def test_an_engine_that_left_the_store_is_told_from_the_history(made: Made, home: Path) -> None:
    shutil.copytree(made.home, home)
    for engine in EngineStore().engines():
        EngineStore().remove(engine)
    found = collect([made.found.id], recordings=[])
    page = Page(html(found))
    assert [item.note for item in found.engines] == [
        "It is no longer in the store; this is what the history knows of it."
    ] * 3
    assert {item.precision for item in found.engines} == {"fp32", "fp16", "int8"}
    assert found.fusions == ()
    assert "there are no layers to show" in page.words
    assert "nothing tells where its file is" in page.words


def test_reference_and_fastest_engine_are_drawn_with_their_times(report: Report) -> None:
    assert report.fusions[0].title.startswith("fp32 (")
    for item in report.fusions:
        assert "2 nodes -> " in item.summary
        assert item.picture is not None
        assert item.times is not None
        assert item.times.layers_ms > 0


def test_ranges_of_int8_are_checked_against_the_model(report: Report) -> None:
    (item,) = report.calibrations
    assert item.engine.startswith("int8 (")
    assert item.ranges == 3
    assert Path(item.file).is_file()
    assert item.notes == ()


def test_lines_of_the_report_build_and_measure_the_same(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        line
        for item in report.repeats
        for name, code in item.code.items()
        if "Shell" in name
        for line in code.split("\n")
    ]
    assert len(lines) == 6
    for line in lines:
        words = shlex.split(line)
        assert words[0] == "workbench"
        assert main(words[1:]) == 0
    told = capsys.readouterr().out
    assert told.count("reused") == 3
    assert told.count("median") >= 3


def test_the_script_of_the_report_repeats_the_study(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    (item,) = [item for item in report.repeats if item.what.startswith("Time")]
    script = item.code["Python, in turns"].replace(
        "...  # yours", "baseline(lambda feeds: {'y': feeds['x'][:, :1]})  #"
    )
    exec(compile(script, "report", "exec"), {"baseline": baseline})
    told = capsys.readouterr().out
    for name in ("fp32", "fp16", "int8", HOSTILE):
        assert re.search(rf"^{re.escape(name)} +\d", told, re.MULTILINE)


def test_what_was_not_measured_in_turns_is_told_apart_by_inputs_and_said_so(home: Path) -> None:
    model, history = load_model(FASHION_CNN), History()
    for number, batch in enumerate((1, 1, 8)):
        item = replace(measured("onnxruntime fp32", 1.0 + number), shapes={"image": (batch, 1, 28, 28)})
        history.add(run_of_measurement(item, model=model), item.to_json())
    first, other = collect([run.id for run in history.list()], recordings=[]).timings
    assert (first.in_turns, other.in_turns) == (False, True)
    names = [item.name for item in first.study.measurements]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"onnxruntime fp32 \([0-9a-f]{6}\)", name) for name in names)
    assert other.heading == "fashion_cnn at image 8x1x28x28"


def test_scores_of_a_data_set_become_a_comparison_with_the_one_that_differs_from_nobody(home: Path) -> None:
    rng, history, study = np.random.default_rng(0), History(), new_id()
    outputs = rng.random((6, 3), np.float32)
    batch = Batch({"x": outputs}, np.arange(6) % 3, tuple("abcdef"), tuple("abcdef"))
    same = baseline(lambda feeds: {"y": feeds["x"]})
    for name, other in (("reference", same), ("worse", baseline(lambda feeds: {"y": feeds["x"] + 0.25}))):
        found = evaluate(same, other, [batch])
        history.add(run_of_evaluation(found, subject=name, study=study), found.to_json())
    rows = choose(history, [study]).rows
    (compared,) = comparisons_of(rows).values()
    assert (compared.reference, compared.count) == ("reference", 6)
    assert [item.name for item in compared.others] == ["worse"]
    page = Page(html(collect([study], recordings=[])))
    assert "top-1, %" in page.words
    assert "None of these runs was timed." in page.words


def test_differences_of_two_outputs_are_a_table(home: Path) -> None:
    one, other = ({"y": np.full((2, 3), value, np.float32)} for value in (1.0, 1.5))
    found, run = compare_outputs(one, other), None
    run = run_of_comparison(found, model=load_model(FASHION_CNN), subject="onnxruntime fp16")
    History().add(run, {"outputs": [difference_to_json(item) for item in found]})
    (table,) = collect([run.id], recordings=[]).losses
    assert table.title == "fashion_cnn, onnxruntime fp16"
    assert table.rows[0][:3] == ("y", 0.5, pytest.approx(0.5))


def test_what_was_recorded_of_the_same_content_or_name_stands_beside_it(home: Path) -> None:
    item, history = measured("onnxruntime fp32", 1.0), History()
    run = run_of_measurement(item, model=load_model(FASHION_CNN))
    named = replace(item, name="another")
    history.add(run, item.to_json())
    other = run_of_measurement(named)._replace(model="resnet18", model_sha256="0" * 64)
    history.add(other, named.to_json())
    (same,) = collect([run.id]).recorded
    assert same.same_content
    assert {found.model for found in same.recorded.runs} == {"fashion_cnn"}
    (alike,) = collect([other.id]).recorded
    assert not alike.same_content
    assert "its weights may be others" in Page(html(collect([other.id]))).words


def test_a_broken_recording_is_told_and_the_rest_goes_on(report: Report, kept: Made, tmp_path: Path) -> None:
    (tmp_path / "runs.json").write_text("{")
    found = collect([kept.found.id], recordings=[tmp_path])
    assert found.notes[0].startswith("A recording could not be read")
    assert found.timings == report.timings


# ---- the verdict


def test_the_one_that_is_surely_fastest_is_named_with_how_much() -> None:
    speed, cost = verdict(studied(measured("slow", 2.0), measured("fast", 1.0)))
    assert re.fullmatch(
        r"fast is surely the fastest: [\d.]+ ms \(0\.99\d* to 1\.00\d* with 95 % confidence\), "
        r"2 times as fast as slow \(1\.9\d* to 2\.0\d*\)\.",
        speed,
    )
    assert "no outputs were compared" in cost


def test_what_cannot_be_told_apart_is_not_called_faster() -> None:
    tied = measured("a", 1.0), measured("b", 1.001)
    assert verdict(studied(*tied))[0].startswith("None is measurably faster: a and b cannot be told apart")
    assert verdict(studied(measured("c", 2.0), *tied))[0].startswith("The fastest are a and b, which cannot be told")


def test_a_reference_that_is_fastest_is_said_so() -> None:
    speed, _ = verdict(studied(measured("first", 1.0), measured("slow", 2.0)))
    assert speed.startswith("first, which the others are compared with, is surely the fastest")


def test_a_gpus_clock_is_never_set_against_a_processors() -> None:
    mixed = [measured("processor", 0.2), measured("gpu", 0.1, host_ms=0.4)]
    latencies, clock = comparable(mixed)
    assert clock == "from host to host"
    assert latencies["gpu"].value == pytest.approx(0.4, rel=0.01)
    assert verdict(studied(*mixed))[0].startswith("processor, which the others are compared with, is surely")
    both = [measured("fp16", 0.2, host_ms=0.5), measured("int8", 0.1, host_ms=0.5)]
    assert comparable(both)[1] == "on the GPU, copies not counted"


def test_what_speed_costs_is_told_with_its_interval_or_as_not_measurable() -> None:
    pair = measured("fp32", 2.0), measured("int8", 1.0)
    _, cost = verdict(studied(*pair, compared=against("fp32", scored("int8", 60, 10))))
    assert re.fullmatch(
        r"int8 loses 5\.00 points of top-1 accuracy against fp32 "
        r"\(3.* to 6.* with 95 % confidence\) on 1,000 samples\.",
        cost,
    )
    _, cost = verdict(studied(*pair, compared=against("fp32", scored("int8", 6, 5))))
    assert cost.startswith("int8 shows no measurable loss against fp32: 0.10 points of top-1 accuracy (-")
    _, cost = verdict(studied(*pair, compared=against("fp32", scored("int8", 10, 60))))
    assert cost.startswith("int8 gains 5.00 points of top-1 accuracy against fp32 (3.")


def test_without_labels_the_distance_of_outputs_is_told() -> None:
    pair = measured("fp32", 2.0), measured("fp16", 1.0)
    compared = Comparison("fp32", 3, (apart("fp32", 0.0), apart("fp16", 0.06)), (), "")
    assert verdict(studied(*pair, compared=compared))[1].startswith(
        "The outputs of fp16 lie 0.06 % apart from fp32's ("
    )
    endless = Comparison("fp32", 3, (apart("fp32", 0.0), apart("fp16", math.inf)), (), "")
    assert "not finite" in verdict(studied(*pair, compared=endless))[1]


def test_a_contestant_that_could_not_be_compared_is_said_so() -> None:
    pair = measured("fp32", 2.0), measured("fp16", 1.0)
    compared = against("fp32", Contestant("fp16", None, failure="it fails."))
    assert verdict(studied(*pair, compared=compared))[1] == "fp16 was not compared: it fails."
    assert pareto_points(studied(*pair)) == ([], RELATIVE)
    points, unit = pareto_points(studied(*pair, compared=compared))
    assert ([item.name for item in points], unit) == (["fp32"], "top-1 points lost")


# ---- the page


def test_the_page_asks_for_nothing_and_forbids_it(report: Report) -> None:
    page = Page(html(report))
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "img", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "data", "action"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    policy = next(item["content"] or "" for item in page.all("meta") if item.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_every_section_is_in_the_table_of_contents(report: Report) -> None:
    page = Page(html(report))
    linked = [(item["href"] or "")[1:] for item in page.all("a")]
    assert linked == [item["id"] for item in page.all("section")]
    assert linked[:3] == ["short", "model", "shapes"]


def test_ids_of_the_page_are_unique(report: Report) -> None:
    ids = [attributes["id"] for _, attributes in Page(html(report)).tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 10


def test_a_hostile_name_becomes_words(report: Report) -> None:
    text = html(report)
    page = Page(text)
    assert HOSTILE in page.words
    assert not page.all("img")
    assert not [attributes for _, attributes in page.tags if "onerror" in attributes]
    assert page.all("iframe")
    for frame in page.all("iframe"):
        assert "allow-same-origin" not in (frame["sandbox"] or "")
        assert "graphView" in (frame["srcdoc"] or "")


def test_what_is_missing_is_said(home: Path) -> None:
    item, history = measured("mine", 1.0), History()
    run = run_of_measurement(item)
    history.add(run, item.to_json())
    words = Page(html(collect([run.id], recordings=[]))).words
    for sentence in (
        "The runs name no model.", "No engine is in these runs, so there are no profiles.",
        "No engine of the store is in these runs.", "there are no layers to show", "nothing was calibrated",
        "No outputs were compared", "No throughput against batch was measured",
        "Nothing that was recorded on a GPU is of these models.",
    ):  # fmt: skip
        assert sentence in words


def test_every_plot_is_also_a_table(report: Report) -> None:
    page = Page(html(report))
    plots = report.timings[0].plots
    assert len(page.all("svg")) == len(page.all("figure")) == len(plots)
    assert page.words.count("As a table") == len(plots)


def test_steps_stand_after_the_verdict_where_somebody_tells_them(report: Report) -> None:
    steps = Table("Notebooks", ("notebook", "file", "seconds"), (("Welcome <b>", "00_welcome.ipynb", 1.5),))
    page = Page(html(replace(report, steps=steps)))
    assert [item["id"] for item in page.all("section")][:3] == ["short", "steps", "model"]
    assert page.all("a")[1]["href"] == "#steps"
    assert "Welcome <b>" in page.words
    text = markdown(replace(report, steps=steps))
    assert "## Steps\n\nNotebooks:\n\n| notebook | file | seconds |" in text
    assert "| Welcome &lt;b> | 00_welcome.ipynb | 1.5 |" in text
    assert "## Steps" not in markdown(report)


# ---- Markdown


def test_markdown_is_short_and_its_tables_are_whole(report: Report) -> None:
    text = markdown(report)
    assert len(text.splitlines()) < 80
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1


def test_markdown_tells_the_same_facts(report: Report) -> None:
    text = markdown(report)
    assert report.title in text
    for heading in ("## Timing", "## Accuracy", "## Engines", "## What to know", "## How to repeat"):
        assert heading in text
    for item in report.engines:
        assert item.key[:12] in text
    assert "workbench bench --engine" in text
    assert "3 ranges by" in text


def test_a_hostile_name_is_no_markup_in_markdown(report: Report) -> None:
    prose = re.sub(r"^(`{3,})sh$.*?^\1$", "", markdown(report), flags=re.MULTILINE | re.DOTALL)
    assert "<img" not in prose
    assert "$@a" not in prose  # would call somebody
    assert r"&lt;img src=x onerror=window.hacked=1>\|\`$@" in prose


# ---- files


def test_a_report_is_written_whole_as_its_name_ends(report: Report, tmp_path: Path) -> None:
    page = save_report(report, tmp_path / "new" / "report.html")
    short = save_report(report, tmp_path / "new" / "report.md")
    assert page.read_text() == html(report)
    assert short.read_text() == markdown(report)
    assert sorted(item.name for item in (tmp_path / "new").iterdir()) == ["report.html", "report.md"]
    with pytest.raises(ConfigError, match=r"\.html or \.md"):
        save_report(report, tmp_path / "report.pdf")
    with pytest.raises(ConfigError, match="name a file in another folder"):
        save_report(report, short / "report.md")
