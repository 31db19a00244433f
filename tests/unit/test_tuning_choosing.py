"""Who is measured again in the end, and who is the best of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers_clock import measured

from workbench.accuracy import Interval
from workbench.study import Study, Subject
from workbench.tuning.candidate import Candidate
from workbench.tuning.choosing import finalists, pick, rescored, timed_again
from workbench.tuning.finals import MOST
from workbench.tuning.goals import Goals, Limit, Score
from workbench.tuning.trial import COMPLETE, PRUNED, Trial

GOALS = Goals(("latency", "accuracy"), metric="top1")


def score(ms: float, loss: float = 0.0, *, spread: float = 0.01, size: int = 1) -> Score:
    rate = Interval(1000 / ms, 1000 / ms / (1 + spread), 1000 / ms / (1 - spread))
    return Score(Interval(ms, ms * (1 - spread), ms * (1 + spread)), rate, Interval(loss, loss, loss), "top1", size, 1)


def trials(scores: dict[str, Score], precision: str = "int8") -> dict[str, Trial]:
    """One candidate each, told apart by the batch."""
    return {
        name: Trial(name, Candidate("onnxruntime", precision, batch=number), COMPLETE, "here", item)
        for number, (name, item) in enumerate(scores.items(), 1)
    }


# ---- finalists


def test_the_front_and_those_close_to_its_best_are_measured_again() -> None:
    found = trials(
        {"best": score(1.0, 1.0), "close": score(1.015, 1.0), "exact": score(2.0, 0.0), "far": score(3.0, 3.0)}
    )
    assert finalists(found, GOALS, ()) == ["best", "exact", "close"]


def test_what_one_would_pick_by_hand_comes_first_even_if_it_is_slow() -> None:
    found = trials({"best": score(1.0, 1.0), "exact": score(2.0, 0.0), "half": score(5.0, 5.0)})
    half = replace(found["half"], candidate=replace(found["half"].candidate, precision="fp16"))
    assert finalists({**found, "half": half}, GOALS, [half.candidate]) == ["half", "best", "exact"]


def test_of_what_one_would_pick_by_hand_the_quickest_fp16_and_then_fp32_are_taken() -> None:
    halves = {name: score(ms, 9.0) for name, ms in (("slow half", 4.0), ("half", 3.0), ("third half", 5.0))}
    found = {**trials(halves, "fp16"), **trials({"whole": score(2.0, 9.0)}, "fp32"), **trials({"best": score(1.0)})}
    hand = [item.candidate for name, item in found.items() if name != "best"]
    assert finalists(found, GOALS, hand) == ["half", "slow half", "best"]
    del found["slow half"], found["third half"]
    assert finalists(found, GOALS, hand) == ["half", "whole", "best"]


def test_where_nothing_is_within_the_limits_nobody_is_measured_again() -> None:
    assert finalists(trials({"a": score(2.0)}), Goals(limits=(Limit("latency", 1.0),)), ()) == []


def test_finalists_are_few() -> None:
    found = trials({str(number): score(1 + number, 20 - number) for number in range(20)})
    assert len(finalists(found, GOALS, ())) == MOST


def test_those_given_up_early_are_no_finalists() -> None:
    found = trials({"best": score(1.0), "pruned": score(0.5)})
    found["pruned"] = replace(found["pruned"], state=PRUNED)
    assert finalists(found, GOALS, ()) == ["best"]


# ---- who won


def test_one_that_is_surely_the_best_is_taken_and_its_number_told() -> None:
    scores = {"a": score(1.0), "b": score(2.0), "c": score(3.0)}
    assert pick(scores, trials(scores), GOALS) == (
        "a", ("a",), "Its latency, 1.000 ms, is surely the best of 3 finalists.",
    )  # fmt: skip


def test_three_that_cannot_be_told_apart_are_named_and_the_next_objective_decides() -> None:
    scores = {"a": score(1.0, 0.5), "b": score(1.01, 0.1), "c": score(1.005, 0.3), "d": score(2.0, 0.0)}
    chosen, tied, reason = pick(scores, trials(scores), GOALS)
    assert chosen == "b"
    assert set(tied) == {"a", "b", "c"}
    assert "These 3 cannot be told apart in latency" in reason
    assert all(str(trials(scores)[name].candidate) in reason for name in tied)
    assert str(trials(scores)["d"].candidate) not in reason
    assert reason.endswith("surely the best of them in accuracy.")


def test_where_nothing_tells_them_apart_that_is_the_answer() -> None:
    scores = {"a": score(1.01, 0.1), "b": score(1.0, 0.1)}
    chosen, tied, reason = pick(scores, trials(scores), GOALS)
    assert (chosen, set(tied)) == ("b", {"a", "b"})
    assert "cannot be told apart in latency" in reason
    assert "surely" not in reason


def test_a_tie_with_one_objective_says_so() -> None:
    scores = {"a": score(1.0), "b": score(1.001)}
    chosen, tied, reason = pick(scores, trials(scores), Goals(("latency",)))
    assert (chosen, set(tied)) == ("a", {"a", "b"})
    assert "These 2 cannot be told apart" in reason


def test_those_that_nothing_tells_apart_are_named_and_those_that_the_next_objective_beats_are_not() -> None:
    near, worse = score(1.0, 0.1), score(1.0, 5.0)
    scores = {"a": near, "b": near, "worse": worse}
    chosen, tied, reason = pick(scores, trials(scores), Goals(("latency", "accuracy")))
    assert chosen in ("a", "b") and set(tied) == {"a", "b", "worse"}
    assert "By accuracy, 2 of them are left, which nothing tells apart" in reason


def test_a_limit_that_few_samples_cannot_prove_is_told() -> None:
    unsure = replace(score(1.0), loss=Interval(0.0, 0.0, 79.0))
    _, _, reason = pick({"a": unsure}, trials({"a": unsure}), Goals(limits=(Limit("accuracy", 0.2),)))
    assert "the only finalist" in reason and "Too few samples to be sure" in reason and "79.00" in reason


def test_what_is_no_number_neither_wins_nor_stops_anybody() -> None:
    nothing = replace(score(1.0), loss=Interval(float("nan"), float("nan"), float("nan")))
    goals = Goals(("accuracy", "latency"))
    scores = {"nothing": nothing, "good": score(2.0, 0.1)}
    assert pick(scores, trials(scores), goals)[0] == "good"
    assert pick({"nothing": nothing}, trials(scores), goals)[0] == "nothing"


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_throughput_is_better_when_it_is_larger(order: tuple[str, str]) -> None:
    scores = {name: score({"a": 1.0, "b": 2.0}[name]) for name in order}
    chosen, _, reason = pick(scores, trials(scores), Goals(("throughput",)))
    assert chosen == "a"
    assert "1,000/s" in reason


# ---- measured in turns


def test_times_of_the_finals_replace_those_of_the_search() -> None:
    scores = {"a": score(1.0, 0.5), "b": score(2.0, 0.1), "missing": score(3.0)}
    found = trials(scores)
    finals = Study(
        "s", "now", "net", "m", (Subject("A", "onnxruntime", "int8"), Subject("B", "onnxruntime", "int8")),
        (measured(*[4.0] * 30, name="A"), measured(*[5.0] * 30, name="B")), "A",
    )  # fmt: skip
    again = rescored(found, {"A": "a", "B": "b", "C": "missing"}, finals, on_gpu_clock=False)
    assert {name: item.latency_ms.value for name, item in again.items()} == {"a": 4.0, "b": 5.0}
    assert again["b"].throughput.value == pytest.approx(1000 * finals["B"].batch / 5)
    assert again["a"].loss == scores["a"].loss


def test_a_rate_has_its_ends_the_right_way_round() -> None:
    found = timed_again(score(1.0), Interval(2.0, 1.0, 4.0), batch=8)
    assert found.throughput == Interval(4000.0, 2000.0, 8000.0)
