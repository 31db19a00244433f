"""Statistics of times, proved on clocks whose truth is known: intervals cover it, noise is not ranked."""

import itertools
import math
from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
import pytest
from helpers_clock import drifting, measured, noisy

from workbench.accuracy import Interval
from workbench.timing.statistics import (
    apart,
    block_length,
    clock_step_ms,
    correlation_time,
    drift,
    independent_runs,
    mean_interval,
    median_interval,
    noise_interval,
    quantile_ms,
    rank_text,
    ranks,
    ratio_interval,
)

TRIALS = 120
# With 120 trials a true coverage of 95 % gives 90 % or more in all but one of a hundred cases.
ENOUGH = 0.90


def take(times: Iterator[float], count: int) -> list[float]:
    return list(itertools.islice(times, count))


def coverage(truth: float, count: int, trials: int = TRIALS, **process: float) -> float:
    found = [noise_interval(take(noisy(10.0, seed=seed, **process), count)) for seed in range(trials)]
    return sum(item.low <= truth <= item.high for item in found) / trials


@pytest.mark.parametrize("count", [10, 30, 100, 400])
def test_intervals_cover_the_true_median_of_independent_noise(count: int) -> None:
    assert coverage(10.0, count) >= ENOUGH


def test_intervals_cover_the_true_median_beside_outliers() -> None:
    """One run in twenty takes up to twenty times as long, which moves the median by what is known."""
    truth = 10 * (1 + 0.02 * NormalDist().inv_cdf(0.5 / 0.95))
    assert coverage(truth, 200, outliers=0.05) >= ENOUGH


@pytest.mark.parametrize(("alike", "least"), [(0.5, 0.88), (0.9, 0.84)])
def test_intervals_widen_where_runs_are_alike(alike: float, least: float) -> None:
    """An interval that took runs for independent would cover the truth in 73 and 36 % of the cases."""
    assert coverage(10.0, 400, alike=alike) >= least


def test_a_naive_interval_would_not_cover_correlated_noise() -> None:
    """The yardstick of the test above: the same times shuffled look independent, and their interval misses."""
    hits = 0
    for seed in range(TRIALS):
        times = np.array(take(noisy(10.0, alike=0.9, seed=seed), 400))
        found = noise_interval(np.random.default_rng(seed).permutation(times).tolist())
        hits += found.low <= 10.0 <= found.high
    assert hits / TRIALS < 0.6


def test_more_runs_make_a_narrower_interval() -> None:
    few, many = (noise_interval(take(noisy(10.0), count)) for count in (50, 800))
    assert (many.high - many.low) < 0.5 * (few.high - few.low)


def test_one_run_tells_nothing() -> None:
    assert median_interval([3.0]) == Interval(3.0, -math.inf, math.inf)


def test_the_mean_has_an_interval_too() -> None:
    found = mean_interval(take(noisy(10.0), 200))
    assert found.low < 10.0 < found.high


def test_the_same_times_give_the_same_interval() -> None:
    times = take(noisy(10.0), 100)
    assert median_interval(times) == median_interval(times)


def test_an_interval_is_never_narrower_than_the_clocks_step() -> None:
    """A clock of 0.032 ms steps that always shows the same."""
    times = [0.160] * 90 + [0.192] * 10  # 20 % of the time
    assert clock_step_ms(times) == pytest.approx(0.032)
    found = median_interval(times)
    assert found.high - found.low == pytest.approx(0.032) and found.low < 0.160 < found.high


def test_a_fine_clock_has_no_step() -> None:
    assert clock_step_ms(take(noisy(10.0), 100)) == 0.0


def test_equal_times_leave_what_two_sessions_of_one_engine_differ_by() -> None:
    assert median_interval([2.0] * 20) == Interval(2.0, 1.99, 2.01)


def test_a_difference_of_two_sessions_of_one_engine_is_not_ranked() -> None:
    """As seen on an H200: 0.09752 and 0.09774 ms, each known to a thousandth."""
    one, other = (
        median_interval(take(noisy(ms, spread=0.001, seed=seed), 500)) for seed, ms in enumerate((1.0, 1.002))
    )
    assert not apart(one, other)


# ---- runs that are alike


@pytest.mark.parametrize(("alike", "truth"), [(0.0, 1.0), (0.5, 3.0), (0.9, 19.0)])
def test_the_correlation_time_is_that_of_the_process(alike: float, truth: float) -> None:
    """(1 + r) / (1 - r) for a first-order process; of ranks, a little less."""
    found = np.median([correlation_time(take(noisy(10.0, alike=alike, seed=seed), 4000)) for seed in range(9)])
    assert 0.75 * truth <= found <= 1.3 * truth + 0.2


def test_outliers_do_not_hide_that_runs_are_alike() -> None:
    times = take(noisy(10.0, alike=0.9, outliers=0.02), 2000)
    assert correlation_time(times) > 8


def test_independent_runs_count_each_for_itself() -> None:
    assert independent_runs(take(noisy(10.0), 400)) > 300


def test_blocks_grow_with_the_correlation_and_leave_enough_of_them() -> None:
    alone, alike = (block_length(take(noisy(10.0, alike=r), 600)) for r in (0.0, 0.9))
    assert alone <= 3 < alike <= 100


def test_few_runs_that_drift_tell_next_to_nothing_and_the_interval_says_so() -> None:
    times = take(drifting(10.0, 12.0, 20), 20)
    found = median_interval(times)
    assert independent_runs(times) < 5
    assert found.low < 10.2 and found.high > 11.8


def test_drift_is_told_from_the_first_third_to_the_last() -> None:
    assert drift(take(drifting(10.0, 12.0, 90), 90)) == pytest.approx(0.129, abs=0.01)
    assert abs(drift(take(noisy(10.0), 300))) < 0.01
    assert drift([1.0, 2.0, 3.0]) == 0.0


@pytest.mark.parametrize(
    ("count", "share", "expected"), [(1, 0.99, 1), (100, 0.99, 99), (101, 0.99, 100), (10, 0.9, 9)]
)
def test_a_quantile_is_a_time_that_was_measured(count: int, share: float, expected: int) -> None:
    assert quantile_ms([float(number) for number in range(count, 0, -1)], share) == expected


# ---- ranking


def test_a_rank_reaches_as_far_as_noise_leaves_it_open() -> None:
    results = {"a": Interval(1.0, 0.9, 1.1), "b": Interval(1.05, 1.0, 1.2), "c": Interval(1.3, 1.15, 1.5)}
    assert ranks(results) == {"a": (1, 2), "b": (1, 3), "c": (2, 3)}
    assert [rank_text(places) for places in ranks(results).values()] == ["1 to 2", "1 to 3", "2 to 3"]


def test_results_that_overlap_always_share_a_place_and_others_never_change_theirs() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        middles = random.uniform(1, 3, 6)
        results = {
            str(n): Interval(m, m - w, m + w)
            for n, (m, w) in enumerate(zip(middles, random.random(6) / 2, strict=True))
        }
        places = ranks(results)
        for one, other in itertools.combinations(results, 2):
            shared = max(places[one][0], places[other][0]) <= min(places[one][1], places[other][1])
            assert shared or apart(results[one], results[other])
            if results[one].high < results[other].low:
                assert places[one][0] < places[other][0] and places[one][1] < places[other][1]


def test_intervals_that_touch_are_not_apart() -> None:
    assert not apart(Interval(1, 0.9, 1.1), Interval(1.2, 1.1, 1.3))
    assert apart(Interval(1, 0.9, 1.1), Interval(1.2, 1.11, 1.3)) and apart(Interval(2, 2, 2), Interval(1, 1, 1))


def test_the_same_engine_measured_twice_is_hardly_ever_ranked() -> None:
    """Two independent measurements of one process, noisy and correlated: 95 % intervals that do not touch are rare."""
    wrong = 0
    for seed in range(TRIALS):
        one, other = (take(noisy(10.0, alike=0.5, outliers=0.02, seed=1000 * side + seed), 100) for side in (1, 2))
        wrong += apart(noise_interval(one), noise_interval(other))
    assert wrong / TRIALS <= 0.05


def test_a_real_difference_is_ranked() -> None:
    slower = [median_interval(take(noisy(10.5, seed=seed), 200)) for seed in range(20)]
    faster = [median_interval(take(noisy(10.0, seed=100 + seed), 200)) for seed in range(20)]
    assert all(one.high < other.low for one, other in zip(faster, slower, strict=True))


def test_a_ratio_reaches_as_far_as_both_intervals_allow() -> None:
    found = ratio_interval(Interval(2.0, 1.8, 2.2), Interval(1.0, 0.9, 1.1))
    assert (found.value, found.low, found.high) == (2.0, pytest.approx(1.8 / 1.1), pytest.approx(2.2 / 0.9))


# ---- what a measurement says of itself


def test_a_measurement_warns_of_drift_and_of_runs_that_tell_little() -> None:
    warned = " ".join(measured(*take(drifting(10.0, 12.0, 30), 30)).warnings)
    assert "drifted by +13 %" in warned and "30 runs tell as much as" in warned


def test_a_quiet_measurement_warns_of_nothing() -> None:
    assert measured(*take(noisy(10.0), 100)).warnings == ()
