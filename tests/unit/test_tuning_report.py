"""Reports on a search: page and Markdown, with its front, its finals, the best engine and every trial."""

from __future__ import annotations

import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers_tuned import HERE, score, trial, trials, tuned

from workbench.building import build
from workbench.cli import main
from workbench.errors import ConfigError
from workbench.model import Model
from workbench.report import html, markdown
from workbench.runs import History
from workbench.runs.records import Run
from workbench.tuning.again import limit_text
from workbench.tuning.candidate import Candidate
from workbench.tuning.goals import Goals, Limit, parse_limit
from workbench.tuning.recorded import keep_search
from workbench.tuning.report import collect_search, save_tuning_report, trials_table
from workbench.tuning.result import Column, Tuned
from workbench.types import BuildConfig


class Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture
def built(model: Model) -> Tuned:
    """A search whose best engine is in this store."""
    engine = build(model, BuildConfig("fp32"), "onnxruntime").engine
    found = tuned(model=model.name, model_sha256=model.sha256)
    one = trial(3, Candidate("onnxruntime", threads=1), score(1.0, 0.4))
    first, *others = found.columns
    assert first.best is not None
    best = replace(first.best, engines=(engine.key,), config=engine.config)
    kept = tuple(replace(one, engines=(engine.key,)) if item.id == one.id else item for item in found.trials)
    return replace(found, trials=kept, columns=(replace(first, best=best), *others))


def test_a_page_tells_the_search_its_best_and_its_finals() -> None:
    page = Page(html(collect_search(tuned(), recordings=[])))
    for text in (
        "net by latency, then accuracy, with accuracy <= 1.00 points",
        "72 combinations, 28 after rules",
        "rtx cannot run here: no GPU",
        "onnxruntime int8 entropy is the best found",
        "2.00 times as fast",
        "compared with onnxruntime fp16",
        "It loses 0.40 points of top1 (0.30 points to 0.50 points with 95 % confidence)",
        "All 6 trials",
        "given up early",
        "it is hopeless",
        "measured, known from before",
        "failed, try 3",
        "The finalists of net on EPYC, 2 cores, in turns",
        "workbench tune net.onnx --objective latency,accuracy --limit 'accuracy<=1' --data DATA --trials 6",
    ):
        assert text in page.words, text
    assert page.tags.count("svg") >= 5  # front, progress, importance, medians, distribution
    assert "img" not in page.tags


def test_markdown_is_short_and_holds_the_front_and_the_trials() -> None:
    text = markdown(collect_search(tuned(), recordings=[]))
    assert "## Search: net by latency" in text
    assert "| onnxruntime int8 entropy | best | 1.000 | 1.000 |" in text
    assert "<details><summary>All 6 trials</summary>" in text
    assert "<img" not in text
    assert "from the search `abcdef012345`" in text
    assert "No outputs were compared" not in text


def test_the_best_engine_is_built_and_opened_again(built: Tuned, model: Model) -> None:
    report = collect_search(built, recordings=[])
    best = report.searches[0].columns[0].best
    assert best is not None
    assert shlex.split(best.again.code["Shell"])[:2] == ["workbench", "build"]
    assert best.again.code["Python"].endswith("session = wb.open_engine(built.engine, threads=1)")
    assert ("run with", "batch 1, threads=1") in best.facts
    assert [item.names for item in report.engines] == [("onnxruntime fp32, 1 thread", "onnxruntime int8 entropy")]
    assert report.models[0].path == str(model.path)
    again = report.searches[0].again.code["Shell"]
    assert str(model.path) in again
    for code in (best.again.code["Python"], report.searches[0].again.code["Python"]):
        compile(code, "again", "exec")


def test_an_engine_that_is_gone_is_said_to_be_gone() -> None:
    best = collect_search(tuned(), recordings=[]).searches[0].columns[0].best
    assert best is not None
    assert "not in this store" in best.again.note
    assert not best.again.code


def test_parts_of_a_model_are_built_again_as_parts(built: Tuned) -> None:
    in_parts = Candidate("onnxruntime", min_subgraph_size=3)
    known = trial(7, Candidate("onnxruntime", "fp16"), score(9.0))
    engine = built.trials[2].engines
    found = replace(
        built,
        trials=(*(replace(item, candidate=in_parts) if item.id[-1] == "3" else item for item in built.trials),
                replace(known, engines=engine)),
    )  # fmt: skip
    best = collect_search(found, recordings=[]).searches[0].columns[0].best
    assert best is not None
    assert "parts = wb.partition(model, 'onnxruntime', 3)" in best.again.code["Python"]
    assert "wb.build(" not in best.again.code["Python"]


def test_code_that_is_known_to_search_again_is_taken() -> None:
    report = collect_search(tuned(), again={"Shell": "workbench tune net.onnx --space batch=1,8"}, recordings=[])
    assert report.searches[0].again.code == {"Shell": "workbench tune net.onnx --space batch=1,8"}


def test_a_search_without_a_best_says_why() -> None:
    found = tuned(columns=(Column(HERE),), goals=Goals(limits=(Limit("latency", 0.001),)))
    report = collect_search(found, recordings=[])
    assert report.verdict == ("Nothing is within the limits.",)
    assert report.searches[0].columns[0].front is None
    html(report), markdown(report)


def test_trials_of_several_machines_tell_their_machine() -> None:
    found = tuned(columns=(Column(HERE), Column("NVIDIA H200")))
    assert "machine" in trials_table(found).headers
    assert "machine" not in trials_table(tuned()).headers
    assert all(text.startswith("On ") for text in collect_search(found, recordings=[]).verdict)


def test_limits_are_written_as_they_are_read() -> None:
    for limit in (Limit("size", 1e7), Limit("throughput", 500.0), Limit("accuracy", 0.25), Limit("latency", 2.0)):
        assert parse_limit(limit_text(limit)) == (limit, "")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.html or \.md"):
        save_tuning_report(tuned(), tmp_path / "report.pdf")


def test_the_command_finds_a_kept_search_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = keep_search(tuned())
    for name, target in (("abcdef", "a.html"), (str(path), "b.md")):
        assert main(["report", name, "-o", str(tmp_path / target)]) == 0
        assert "The search for the best engine of net" in (tmp_path / target).read_text()
    capsys.readouterr()
    assert main(["report", "123456", "-o", str(tmp_path / "c.md")]) != 0
    assert "no run has an id" in capsys.readouterr().err


# ---- trials in the history


@pytest.fixture
def kept() -> list[Run]:
    """The trials of the search as runs."""
    found = [
        Run(
            item.id, item.at, kind="trial", model="net", subject=str(item.candidate), note=item.reason,
            median_ms=item.score.latency_ms.value if item.score else None,
            low_ms=item.score.latency_ms.low if item.score else None,
            high_ms=item.score.latency_ms.high if item.score else None,
            metric="top1" if item.score else "", loss=item.score.loss.value if item.score else None,
        )
        for item in trials()
    ]  # fmt: skip
    History().add_many((run, {"trial": item.to_json()}) for run, item in zip(found, trials(), strict=True))
    return found


def test_trials_are_listed_with_what_came_out(kept: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--kind", "trial"]) == 0
    told = capsys.readouterr().out
    assert "1 ms (0.99 to 1.01), 0.4 points of top1 lost" in told
    assert "given up: it is hopeless" in told
    assert "failed: " in told


def test_a_trial_is_shown_readably(kept: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show", "000000000004"]) == 0
    told = capsys.readouterr().out
    for text in ("what became of it   measured", "calibration", "1.2 ms (1.188 to 1.212)", "Other programs were busy."):
        assert text in told
    assert "latency_ms" not in told


def test_a_trial_that_cannot_be_read_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    History().add(Run("f" * 12, "2026-12-01T12:00:00.000+00:00", kind="trial", model="net"), {"trial": {"odd": 1}})
    assert main(["runs", "show", "ffff"]) == 0
    assert "trial.odd" in capsys.readouterr().out


def test_a_report_on_trials_tells_where_the_whole_search_is(kept: list[Run], tmp_path: Path) -> None:
    assert main(["report", kept[0].id, "-o", str(tmp_path / "trial.md")]) == 0
    assert "1 of these runs are trials of the tuner" in (tmp_path / "trial.md").read_text()
