"""What Tuner shows of a search: plain rows, HTML in which nothing is more than text, and where marks lie."""

from __future__ import annotations

import re
from dataclasses import replace

import helpers_tuned
import pytest
from helpers_tuned import HERE, HOSTILE, score, trial, tuned

from workbench.accuracy import Interval
from workbench.errors import ConfigError
from workbench.tuning import Candidate, Goals, Limit, Tuned
from workbench.tuning.result import FINISHED, RUNNING, Running
from workbench.tuning.trial import PRUNED
from workbench.tuning.winning import gain
from workbench.widgets import render_tuner
from workbench.widgets.tuner_knobs import KnobRow
from workbench.widgets.tuner_plot import live_plot, picture_of
from workbench.widgets.tuner_points import shown_heads, shown_row, shown_spot
from workbench.widgets.tuner_results import (
    FINALISTS,
    FRONT,
    KNOBS,
    column_of,
    importance_note,
    knob_facts,
    picture_for,
    score_facts,
    trial_heads,
    trial_rows,
)

AXES = ("latency", "accuracy")


def column(found: Tuned) -> object:
    return column_of(found, "")


# ---- the front


def test_every_measured_trial_has_a_spot_within_the_picture() -> None:
    svg, spots = picture_of(live_plot(tuned(), HERE, *AXES))
    assert svg.startswith("<svg") and {spot.id[-1] for spot in spots} == {"1", "2", "3", "4", "5"}
    assert all(0 < spot.left < 1 and 0 < spot.top < 1 for spot in spots)
    places = {spot.id[-1]: spot for spot in spots}
    assert places["3"].left < places["2"].left < places["1"].left, "the fastest is on the left"
    assert places["4"].top < places["3"].top < places["1"].top, "what loses most is on top"
    assert [spot.left for spot in spots] == sorted(spot.left for spot in spots)


def test_what_was_given_up_early_is_faint_and_told() -> None:
    plot = live_plot(tuned(), HERE, *AXES)
    assert [dot.id[-1] for dot in plot.facts.faint] == ["5"] and len(plot.facts.dots) == 4
    told = " ".join(plot.notes)
    assert "Faint: 1 candidate given up after a short look" in told and "Not drawn: 1 failed." in told


def test_what_was_given_up_before_both_were_known_is_told_not_drawn() -> None:
    unknown = replace(score(5.0), loss=Interval(float("nan"), -float("inf"), float("inf")))
    found = tuned()
    lost = trial(7, Candidate("onnxruntime", "fp16", threads=1), unknown, PRUNED)
    plot = live_plot(replace(found, trials=(*found.trials, lost)), HERE, *AXES)
    assert "1 given up early before both were known" in plot.notes[-1]
    assert len(picture_of(plot)[1]) == 5


def test_other_objectives_can_be_chosen_and_machines_are_not_mixed() -> None:
    elsewhere = replace(helpers_tuned.trials()[0], id="f" * 12, column="NVIDIA H200")
    found = tuned(trials=(*helpers_tuned.trials(), elsewhere))
    plot = live_plot(found, HERE, "size", "throughput")
    assert plot.facts.front.x.objective == "size" and "f" * 12 not in {spot.id for spot in picture_of(plot)[1]}
    with pytest.raises(ConfigError):
        live_plot(tuned(trials=()), HERE, *AXES)


def test_a_picture_says_what_is_missing() -> None:
    empty = picture_for(FRONT, tuned(trials=()), column(tuned()), AXES)  # type: ignore[arg-type]
    assert empty.empty.startswith("No trial is complete yet") and not empty.plots
    failed = tuned(trials=helpers_tuned.trials()[5:])
    only_failed = picture_for(FRONT, failed, column(failed), AXES)  # type: ignore[arg-type]
    assert only_failed.empty and len(only_failed.sheet.rows) == 1, "the table tells of it"
    bare = replace(column_of(tuned(), ""), finals=None)
    assert "Finish now" in picture_for(FINALISTS, tuned(state=RUNNING), bare, AXES).empty
    assert "No finalists" in picture_for(FINALISTS, tuned(), bare, AXES).empty


@pytest.mark.parametrize(
    ("state", "count", "told"),
    [
        (RUNNING, 4, "from 8 measured trials on; 4 trials are measured so far"),
        (RUNNING, 1, "1 trial is measured so far"),
        (RUNNING, 8, "told when the search has ended"),
        (FINISHED, 8, "Only one value of every knob"),
    ],
)
def test_nothing_is_said_of_knobs_before_there_is_enough(state: str, count: int, told: str) -> None:
    first = helpers_tuned.trials()[0]
    found = tuned(state=state, trials=tuple(replace(first, id=f"{number:012x}") for number in range(count)))
    bare = replace(column_of(found, ""), importance={})
    assert told in importance_note(found, bare)
    assert told in picture_for(KNOBS, found, bare, AXES).empty


# ---- rows


def test_rows_tell_what_became_of_every_trial() -> None:
    rows = trial_rows(tuned(), HERE)
    assert [row.cells[-1] for row in rows] == ["front", "front", "best", "measured", "given up early", "failed"]
    assert rows[2].cells[:5] == ("3", "onnxruntime int8 entropy", "1.000", "1,000", "0.40")
    assert rows[5].cells[2:7] == ("", "", "", "", "") and rows[5].sort[2] is None
    heads = trial_heads(tuned())
    assert len({len(heads), *(len(row.cells) for row in rows), *(len(row.sort) for row in rows)}) == 1
    assert [item["right"] for item in shown_heads(heads)] == [True, False, *[True] * 6, False]
    assert [shown_row(row)["mark"] for row in rows] == ["front", "front", "best", "", "quiet", "quiet"]


def test_a_mark_is_read_out_with_its_numbers() -> None:
    found = tuned()
    _, spots = picture_of(live_plot(found, HERE, *AXES))
    labels = {spot.id[-1]: str(shown_spot(spot, found.trial(spot.id))["label"]) for spot in spots}
    assert labels["3"].startswith("onnxruntime int8 entropy; median latency in ms 1.000 (0.990 to 1.010)")
    assert "given up early" in labels["5"]


def test_numbers_have_their_intervals_and_what_is_unknown_is_left_out() -> None:
    facts = dict(score_facts(score(2.0, 0.1)))
    assert facts["median latency in ms"] == "2.000 (1.980 to 2.020)"
    assert facts["points of top-1 accuracy lost"] == "0.10 (0.00 to 0.20)"
    unknown = replace(score(2.0), loss=Interval(float("nan"), -float("inf"), float("inf")))
    assert "points of top-1 accuracy lost" not in dict(score_facts(unknown))


def test_knobs_are_told_where_they_were_turned() -> None:
    candidate = Candidate("tensorrt", "int8", "minmax", 2, workspace_bytes=1 << 20, cuda_graph=False, threads=None)
    assert knob_facts(trial(1, candidate, None)) == [
        ("back end", "tensorrt"), ("precision", "int8"), ("calibration", "minmax"), ("layers in float", "2"),
        ("workspace", "1 MiB"), ("batch", "1"), ("CUDA graph", "off"),
    ]  # fmt: skip


def test_the_gain_is_against_what_one_would_pick_by_hand() -> None:
    other, verdict = gain(column_of(tuned(), ""))
    assert other == "onnxruntime fp16" and re.fullmatch(r"(2.0|1.9)\d times as fast \(.*\)", verdict)
    found = column_of(tuned(), "")
    assert found.best is not None
    assert gain(replace(found, best=replace(found.best, trial="000000000002"))) == ("", "")
    assert gain(replace(found, finals=None)) == ("", "")


# ---- HTML


def test_the_card_names_the_best_and_why() -> None:
    card = render_tuner.search_card(tuned(), column_of(tuned(), ""), form_has_changed=True)
    assert (
        "onnxruntime int8 entropy" in card and "Its latency is the best." in card and "against onnxruntime fp16" in card
    )
    assert "72 combinations, 28 after rules." in card and "The form has changed since." in card
    assert "data-tied='1'" in card


def test_what_cannot_be_told_apart_is_an_answer() -> None:
    found = column_of(tuned(), "")
    assert found.best is not None
    tied = replace(found.best, tied=("000000000003", "000000000004"), reason="These 2 cannot be told apart: a; b.")
    card = render_tuner.search_card(tuned(), replace(found, best=tied))
    assert "data-tied='2'" in card and "These 2 cannot be told apart: a; b." in card


def test_before_there_is_a_best_the_card_says_how_far_it_is() -> None:
    bare = replace(column_of(tuned(), ""), best=None)
    going = render_tuner.search_card(tuned(state=RUNNING), bare)
    assert "So far the best latency on the front is that of onnxruntime int8 entropy" in going and "wb-note" in going
    assert "No trial has ended yet." in render_tuner.search_card(tuned(state=RUNNING, trials=()), bare)
    strict = tuned(state=RUNNING, goals=Goals(limits=(Limit("latency", 0.1),)))
    assert "Nothing measured so far stays within the limits." in render_tuner.search_card(strict, bare)
    kept = render_tuner.search_card(tuned(recorded="recorded on NVIDIA H200"), bare)
    assert "nobody is named the best" in kept and "Recorded on NVIDIA H200. Not measured here." in kept


def test_nothing_in_it_is_more_than_text() -> None:
    hostile = tuned(model=HOSTILE, notes=(HOSTILE,), recorded=HOSTILE)
    parts = [render_tuner.search_card(hostile, replace(column_of(hostile, ""), name=HOSTILE))]
    parts += [render_tuner.trial_card(item, (HOSTILE,)) for item in hostile.trials]
    running = Running(HOSTILE, HOSTILE, HOSTILE, HOSTILE, 1.0)
    parts.append(render_tuner.running_table(replace(hostile, running=(running, replace(running, column="other")))))
    parts += [render_tuner.size_lines(HOSTILE, (HOSTILE,)), render_tuner.knob_note(KnobRow("batch", "", HOSTILE))]
    parts.append(render_tuner.knob_note(KnobRow("batch", "", "", HOSTILE)))
    for part in parts:
        assert HOSTILE not in part and "<img" not in part


def test_a_trial_tells_its_numbers_engines_and_why_it_ended() -> None:
    cards = [render_tuner.trial_card(item) for item in helpers_tuned.trials()]
    assert "build 1.0 s, timing 0.5 s" in cards[0] and f"<code>{3:032x}"[:17] in cards[2]
    assert "Known from an earlier search" in cards[1] and "Other programs were busy." in cards[3]
    assert "<b>Given up early:</b> it is hopeless." in cards[4] and "those of a short look" in cards[4]
    assert "<b>Failed:</b>" in cards[5] and "at the 3. attempt" in cards[5] and "wb-error" in cards[5]


def test_what_runs_where_is_a_table() -> None:
    assert render_tuner.running_table(None) == render_tuner.running_table(tuned()) == ""
    found = tuned(running=(Running("onnxruntime fp32", "here", HERE, "Build", 1.23),))
    table = render_tuner.running_table(found)
    assert "data-running='1'" in table and "1.2" in table and "kind of machine" not in table


@pytest.mark.parametrize(
    ("trials", "minutes", "elapsed_s", "told"),
    [
        (25, None, 3.21, "6 of 25 trials · 3.2 s"),
        (None, 2.5, 65.0, "6 trials · 1 min 5 s of 2.5 min"),
        (1, None, 0.0, "6 of 1 trial · 0.0 s"),
    ],
)
def test_the_status_tells_trials_time_and_budget(
    trials: int | None, minutes: float | None, elapsed_s: float, told: str
) -> None:
    assert render_tuner.status_line(tuned(), trials, minutes, elapsed_s) == told


def test_knobs_without_effect_say_so_and_others_what_may_be_written() -> None:
    assert "no effect here: only int8 has it" in render_tuner.knob_note(
        KnobRow("algorithm", "", "", "only int8 has it")
    )
    assert "rows of a run" in render_tuner.knob_note(KnobRow("batch", "1"))
    assert "<li>why</li>" in render_tuner.size_lines("2 combinations, 1 after rules", ("why",))
    assert "when every knob has values" in render_tuner.size_lines("", ())
