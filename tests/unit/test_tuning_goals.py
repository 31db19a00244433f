"""Objectives, limits, and which result is surely better than which."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.accuracy import Interval
from workbench.errors import ConfigError
from workbench.tuning.goals import (
    CAUTION,
    OBJECTIVES,
    Goals,
    Limit,
    Score,
    front,
    goals_from_json,
    goals_to_json,
    parse_limit,
    score_from_json,
    score_to_json,
    value_text,
)
from workbench.tuning.trying import UNKNOWN

KNOWN = ("latency", "throughput", "size", "memory")


def score(
    ms: float = 1.0, loss: float = 0.0, *, spread: float = 0.0, size: int = 1 << 20, memory: int = 1 << 20
) -> Score:
    return Score(
        Interval(ms, ms * (1 - spread), ms * (1 + spread)),
        Interval(1000 / ms, 1000 / (ms * (1 + spread)), 1000 / (ms * (1 - spread))),
        Interval(loss, loss - spread, loss + spread),
        "top1",
        size,
        memory,
    )


# ---- limits


@pytest.mark.parametrize(
    ("text", "limit", "metric"),
    [
        ("accuracy<=0.2", Limit("accuracy", 0.2), ""),
        ("top1<=0.2", Limit("accuracy", 0.2), "top1"),
        (" Relative <= 1% ", Limit("accuracy", 1.0), "relative"),
        ("latency<=2ms", Limit("latency", 2.0), ""),
        ("throughput>=500/s", Limit("throughput", 500.0), ""),
        ("size<=10M", Limit("size", float(10 << 20)), ""),
        ("memory<=1G", Limit("memory", float(1 << 30)), ""),
        ("accuracy<=-0.5points", Limit("accuracy", -0.5), ""),
    ],
)
def test_limits_are_read_as_people_write_them(text: str, limit: Limit, metric: str) -> None:
    assert parse_limit(text) == (limit, metric)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fast", "is no limit"),
        ("latency<2", "is no limit"),
        ("speed<=2", "there is no 'speed' to limit"),
        ("latency>=2", "at most: <="),
        ("throughput<=2", "at least: >="),
        ("latency<=soon", "is no number"),
        ("latency<=nan", "is no number"),
        ("latency<=inf", "is no number"),
        ("size<=many", "many"),
        ("size<=10ms", "size has no unit ms"),
        ("", "is no limit"),
    ],
)
def test_what_is_no_limit_is_refused_with_an_example_or_the_reason(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_limit(text)


def test_a_limit_holds_up_to_its_bound() -> None:
    assert Limit("latency", 1.0).holds(score(1.0))
    assert not Limit("latency", 1.0).holds(score(1.001))
    assert Limit("throughput", 1000.0).holds(score(1.0))
    assert not Limit("throughput", 1000.0).holds(score(1.1))
    assert not Limit("accuracy", 1.0).holds(replace(score(), loss=UNKNOWN))


def test_a_limit_is_surely_broken_where_the_whole_interval_is_beyond_it() -> None:
    assert Limit("latency", 1.0).is_surely_broken(score(1.2, spread=0.1))
    assert not Limit("latency", 1.0).is_surely_broken(score(1.05, spread=0.1))
    assert Limit("throughput", 1000.0).is_surely_broken(score(1.2, spread=0.1))
    assert not Limit("accuracy", 1.0).is_surely_broken(replace(score(), loss=UNKNOWN))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"objectives": ()}, "one objective at least"),
        ({"objectives": ("latency", "latency")}, "none twice"),
        ({"objectives": ("beauty",)}, "no objective 'beauty'"),
        ({"limits": (Limit("beauty", 1.0),)}, "no objective 'beauty'"),
        ({"metric": "taste"}, "no metric 'taste'"),
    ],
)
def test_goals_that_make_no_sense_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Goals(**options)  # type: ignore[arg-type]


def test_goals_tell_themselves_and_survive_json() -> None:
    goals = Goals(("throughput", "accuracy"), (Limit("accuracy", 0.2), Limit("throughput", 500.0)), "top1")
    assert str(goals) == "throughput, then accuracy, with accuracy <= 0.20 points and throughput >= 500/s"
    assert goals_from_json(goals_to_json(goals)) == goals


# ---- dominance

numbers = st.floats(0.1, 100) | st.sampled_from([1.0, 2.0, 3.0])
scores = st.builds(
    score,
    numbers,
    st.floats(-1, 20) | st.sampled_from([0.0, 1.0]),
    spread=st.sampled_from([0.0, 0.02, 0.3]),
    size=st.integers(1, 5),
    memory=st.integers(1, 5),
)
all_goals = st.builds(
    Goals,
    st.lists(st.sampled_from(OBJECTIVES), min_size=1, unique=True).map(tuple),
    st.sampled_from([(), (Limit("latency", 3.0),), (Limit("accuracy", 1.0), Limit("size", 3.0))]),
)


@given(st.lists(scores, max_size=25), all_goals)
@settings(max_examples=80, deadline=None)
def test_the_front_is_what_nothing_dominates_and_everything_else_is_dominated_or_not_allowed(
    found: list[Score], goals: Goals
) -> None:
    named = {str(number): item for number, item in enumerate(found)}
    kept = front(named, goals)
    for name, item in named.items():
        rivals = [other for other in named.values() if goals.allows(other)]
        assert (name in kept) == (goals.allows(item) and not any(goals.dominates(other, item) for other in rivals))
        if goals.allows(item) and name not in kept:
            assert any(goals.dominates(named[other], item) for other in kept)
    assert list(kept) == sorted(kept, key=lambda name: goals.values(named[name]))


@given(scores, scores, all_goals)
@settings(max_examples=80, deadline=None)
def test_who_surely_dominates_dominates_and_is_not_dominated(one: Score, other: Score, goals: Goals) -> None:
    if goals.surely_dominates(one, other):
        assert goals.dominates(one, other)
        assert not goals.dominates(other, one)


@given(scores, st.lists(scores, max_size=6), all_goals)
@settings(max_examples=60, deadline=None)
def test_nothing_that_might_be_on_the_front_is_hopeless(item: Score, others: list[Score], goals: Goals) -> None:
    """Whatever its true values are, within the intervals: the best ends of them are taken here."""
    named = {str(number): other for number, other in enumerate(others)}
    if goals.why_hopeless(item, named, OBJECTIVES):
        best, rivals = at_ends(item), [at_ends(item, other) for other in others if goals.allows(other)]
        broken = any(not limit.holds(best) for limit in goals.limits)
        assert broken or any(goals.dominates(other, best) for other in rivals)


def at_ends(item: Score, rival: Score | None = None) -> Score:
    """The item with the best ends of its intervals for values, or a rival with the worst ends of its own, but for what
    is equal in both to the last digit."""
    of = rival or item
    found = {}
    for name in ("latency_ms", "throughput", "loss"):
        own, other = getattr(item, name), getattr(of, name)
        is_best = rival is None or own == other
        value = other.low if is_best != (name == "throughput") else other.high
        found[name] = Interval(value, value, value)
    return replace(of, **found)


def test_what_was_not_measured_yet_makes_nobody_hopeless() -> None:
    goals = Goals(("latency", "accuracy"), (Limit("accuracy", 0.1),))
    slow = replace(score(100.0), loss=UNKNOWN)
    assert not goals.why_hopeless(slow, {"quick": score(1.0)}, KNOWN)
    assert "quick" in Goals(("latency",)).why_hopeless(slow, {"quick": score(1.0)}, KNOWN)


def test_a_short_look_is_taken_with_caution() -> None:
    goals = Goals(("latency",), (Limit("latency", 1.0),))
    assert not goals.why_hopeless(score(CAUTION * 0.99), {}, KNOWN)
    assert "must hold" in goals.why_hopeless(score(CAUTION * 1.01), {}, KNOWN)


def test_a_rival_beyond_the_limits_makes_nobody_hopeless() -> None:
    goals = Goals(("latency",), (Limit("accuracy", 0.1),))
    assert not goals.why_hopeless(score(100.0), {"lossy": score(1.0, loss=5.0)}, OBJECTIVES)


def test_equal_to_the_last_digit_counts_as_good_enough() -> None:
    goals = Goals(("latency", "size"))
    assert goals.surely_dominates(score(1.0), score(2.0))
    assert not goals.surely_dominates(score(1.0), score(1.0))
    assert not goals.surely_dominates(score(1.0, size=5), score(2.0, size=4))


def test_values_that_are_no_numbers_are_the_worst() -> None:
    broken = replace(score(), loss=Interval(math.nan, math.nan, math.nan))
    endless = replace(score(), loss=Interval(math.inf, math.inf, math.inf))
    assert Goals().values(broken) == Goals().values(endless) == (1.0, 1e300)
    assert front({"broken": broken, "whole": score()}, Goals()) == ("whole",)


# ---- text and JSON


def test_scores_survive_json_also_where_they_are_not_finite() -> None:
    item = replace(score(spread=0.1), loss=Interval(math.inf, 0.0, math.inf))
    assert score_from_json(score_to_json(item)) == item


@pytest.mark.parametrize(
    ("objective", "value", "text"),
    [
        ("latency", 0.8123, "0.812 ms"),
        ("latency", 812.34, "812.3 ms"),
        ("throughput", 1204.4, "1,204/s"),
        ("throughput", 0.123456, "0.123/s"),
        ("size", 4.5e6, "4.5 MB"),
        ("accuracy", 0.2, "0.20 points"),
    ],
)
def test_values_have_their_units(objective: str, value: float, text: str) -> None:
    assert value_text(objective, value) == text
