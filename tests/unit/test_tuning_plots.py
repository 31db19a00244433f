"""Plots of a search: the facts behind them, what is told in words, and how it shows itself in a notebook."""

from __future__ import annotations

import csv
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from helpers_tuned import HERE, HOSTILE, MB, score, trial, trials, tuned

from workbench.accuracy import Interval
from workbench.errors import ConfigError
from workbench.plots import png, save, svg
from workbench.tuning.candidate import Candidate
from workbench.tuning.front_facts import short_names
from workbench.tuning.goals import Goals, Limit
from workbench.tuning.html import tuned_html
from workbench.tuning.plots import front_plot, importance_plot, plots_of, progress_plot
from workbench.tuning.result import Column, Tuned
from workbench.tuning.scale import span


def empty() -> Tuned:
    return tuned(trials=(), columns=(Column(HERE),))


def test_the_front_marks_complete_trials_and_counts_the_others() -> None:
    plot = front_plot(tuned())
    marks = {item.name: item for item in plot.facts.marks}
    assert len(marks) == 4
    assert [item.name for item in marks.values() if item.on_front] == [
        "onnxruntime fp32", "onnxruntime fp16", "onnxruntime int8 entropy",
    ]  # fmt: skip
    assert [name for name, item in marks.items() if item.is_best] == ["onnxruntime int8 entropy"]
    assert [name for name, item in marks.items() if not item.is_allowed] == ["onnxruntime int8 minmax"]
    assert "Not drawn: 1 given up early and 1 failed." in plot.notes
    assert any("accuracy <= 1.00 points" in note and "Hollow" in note for note in plot.notes)
    assert any("measured again, in turns" in note for note in plot.notes)


def test_the_front_is_joined_by_steps_from_the_fastest_to_the_most_exact() -> None:
    facts = front_plot(tuned()).facts
    corners = [(1.0, 0.4), (2.0, 0.4), (2.0, 0.1), (4.0, 0.1), (4.0, 0.0)]
    assert list(facts.steps) == [(1.0, facts.up.high), *corners, (facts.across.high, 0.0)]


def test_axes_count_from_zero_and_reach_every_interval_of_the_front() -> None:
    facts = front_plot(tuned()).facts
    assert facts.across.low == 0
    assert facts.up.low <= -0.1
    assert facts.across.high >= 4.04
    assert facts.up.high >= 3.0


def test_a_limit_is_a_line_where_it_has_an_axis() -> None:
    goals = Goals(limits=(Limit("accuracy", 1.0), Limit("latency", 3.0), Limit("size", 5 * MB)))
    found = {(item.along_x, item.at) for item in front_plot(tuned(goals=goals)).facts.bounds}
    assert found == {(False, 1.0), (True, 3.0)}
    assert {item.at for item in front_plot(tuned(goals=goals), x="size").facts.bounds} == {1.0, 5.0}


def test_throughput_grows_to_the_right() -> None:
    facts = front_plot(tuned(), x="throughput").facts
    best = next(item for item in facts.marks if item.is_best)
    assert best.x == Interval(1000.0, 990.0, 1010.0)
    assert facts.steps[0][0] == 1000.0
    assert facts.steps[-1][0] == 0.0


def test_a_candidate_far_off_stands_at_the_edge_and_is_told() -> None:
    far = trial(7, Candidate("onnxruntime", "int8", "percentile"), score(400.0, 90.0))
    plot = front_plot(tuned(trials=(*trials(), far)))
    assert plot.facts.across.high < 10
    assert any("1 candidate beyond the axes stands at the edge" in note for note in plot.notes)
    assert [row[2] for row in plot.rows if "percentile" in row[0]] == ["400"]


def test_the_table_of_the_front_tells_intervals_limits_and_the_best(tmp_path: Path) -> None:
    path = save(front_plot(tuned()), tmp_path / "front.csv")
    head, *rows = csv.reader(path.read_text().splitlines())
    assert head[2:5] == ["median latency in ms", "interval from", "to"]
    assert head[5] == "points of top-1 accuracy lost"
    assert rows[2] == [
        "onnxruntime int8 entropy",
        "int8",
        "1",
        "0.99",
        "1.01",
        "0.4",
        "0.3",
        "0.5",
        "yes",
        "yes",
        "yes",
    ]


def test_a_loss_that_is_not_finite_is_told_and_not_drawn() -> None:
    lost = replace(score(0.5), loss=Interval(math.inf, -math.inf, math.inf))
    plot = front_plot(tuned(trials=(*trials(), trial(8, Candidate("onnxruntime", "bf16"), lost))))
    assert "not finite" in [row[5] for row in plot.rows]
    ElementTree.fromstring(svg(plot))


def test_nothing_measured_is_an_error_that_says_so() -> None:
    for make in (front_plot, progress_plot, importance_plot):
        with pytest.raises(ConfigError, match=r"nothing|eight"):
            make(empty())
    with pytest.raises(ConfigError, match="no column"):
        front_plot(tuned(), "NVIDIA H200")
    with pytest.raises(ConfigError, match="nothing was tried"):
        front_plot(tuned(columns=()))
    assert plots_of(empty()) == ()


def test_importance_stands_side_by_side_the_largest_first() -> None:
    plot = importance_plot(tuned())
    assert plot.rows == (
        ("knob", "share in latency, %", "share in accuracy, %"),
        ("precision", "90", "40"), ("calibration", "0", "60"), ("threads", "10", "0"),
    )  # fmt: skip
    assert importance_plot(tuned(), "accuracy").rows[0] == ("knob", "share in accuracy, %")


def test_progress_follows_the_best_within_the_limits() -> None:
    plot = progress_plot(tuned())
    assert [item.best for item in plot.facts.steps] == [4.0, 2.0, 1.0, 1.0, 1.0, 1.0]
    assert [row[2] for row in plot.rows[1:]] == ["measured"] * 4 + ["given up early", "failed"]
    assert any("1 of 6 were known" in note for note in plot.notes)
    only = progress_plot(tuned(trials=trials()[3:]))
    assert [item.best for item in only.facts.steps] == [None, None, None]


@pytest.mark.parametrize("number", range(3))
def test_every_plot_is_drawn_as_svg_and_png(number: int) -> None:
    plot = plots_of(tuned())[number]
    assert ElementTree.fromstring(svg(plot)).tag.endswith("svg")
    assert png(plot).startswith(b"\x89PNG")


def test_names_leave_out_what_all_share() -> None:
    one, other = (
        Candidate("tensorrt", "int8", "entropy", batch=8),
        Candidate("tensorrt", "fp16", batch=8, cuda_graph=True),
    )
    assert short_names([one, other]) == ["int8 entropy", "fp16, CUDA graph"]
    assert short_names([one, Candidate("rtx", "int8", "entropy")]) == ["tensorrt int8, batch 8", "rtx int8"]


def test_an_axis_always_holds_what_it_needs() -> None:
    assert span([1, 1, 1, 100], [1]) == (0.0, 1.6, 1)
    assert span([1, 1, 1, 100], [1, 100]).beyond == 0
    assert span([], []) == (0.0, 1.0, 0)
    assert span([-2.0, 0.0], []).low < -2
    assert span([0.0, 0.0], []).high > 0
    assert span([math.inf, 3.0], []).high < 4


def test_a_notebook_shows_the_best_the_front_and_folded_plots() -> None:
    page = tuned_html(tuned(notes=(HOSTILE,), recorded="recorded on NVIDIA H200, TensorRT 8.6.0, 2026-11-20"))
    assert "Recorded on NVIDIA H200" in page
    assert "Best: onnxruntime int8 entropy" in page
    assert page.count("<svg") == 3
    assert "What each knob matters" in page
    assert "<img" not in page
    assert "Nothing is on the front yet" in tuned_html(empty())
