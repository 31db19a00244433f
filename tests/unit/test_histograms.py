"""Histograms depend on the values alone: widening, parting and merging change nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from workbench.calibration.histograms import BINS, Counter, Histogram, merge_histograms

FLOATS = arrays.arrays(
    np.float32,
    st.integers(0, 60),
    elements=st.one_of(
        st.floats(width=32, allow_nan=False, allow_infinity=False), st.floats(-3, 3, width=32), st.just(0.0)
    ),
)


def counted(*parts: np.ndarray) -> Histogram:
    counter = Counter()
    for part in parts:
        counter.add(part)
    return counter.histogram()


def assert_same(left: Histogram, right: Histogram) -> None:
    assert np.array_equal(left.counts, right.counts)
    assert (left.exponent, left.minimum, left.maximum, left.not_finite) == (
        right.exponent,
        right.minimum,
        right.maximum,
        right.not_finite,
    )


@given(FLOATS, FLOATS, FLOATS)
def test_order_and_shards_make_no_difference(first: np.ndarray, second: np.ndarray, third: np.ndarray) -> None:
    whole = counted(np.concatenate([first, second, third]))
    assert_same(whole, counted(third, first, second))
    assert_same(whole, merge_histograms(counted(first, third), counted(second)))
    assert_same(whole, merge_histograms(merge_histograms(counted(second), counted(third)), counted(first)))


@given(FLOATS)
def test_every_value_is_counted_in_its_bin(values: np.ndarray) -> None:
    found = counted(values)
    assert found.elements == values.size
    if values.size:
        places = np.trunc(values.astype(np.float64) / found.width).astype(int)
        assert np.array_equal(found.counts, np.bincount(places + BINS, minlength=2 * BINS))
        assert (found.minimum, found.maximum) == (values.min(), values.max())


@given(FLOATS)
def test_bins_are_as_narrow_as_the_largest_value_allows(values: np.ndarray) -> None:
    found = counted(values)
    if found.amax > 1e-30:
        assert BINS * found.width / 2 <= found.amax < BINS * found.width


@given(FLOATS, st.floats(-2, 2), st.floats(0, 4))
def test_limits_make_the_histogram_of_the_limited_values(values: np.ndarray, low: float, more: float) -> None:
    low, high = float(np.float32(low)), float(np.float32(low + more))
    source, limited = counted(values), np.clip(values, np.float32(low), np.float32(high))
    found = source.within(low, high)
    if not values.size:
        return
    assert (found.minimum, found.maximum) == (limited.min(), limited.max())
    places = np.clip(np.trunc(limited.astype(np.float64) / source.width), 1 - BINS, BINS - 1).astype(int)
    assert np.array_equal(found.counts, np.bincount(places + BINS, minlength=2 * BINS))


def test_what_is_not_finite_is_counted_apart() -> None:
    found = counted(np.array([1.0, np.nan, np.inf, -np.inf, -2.0], np.float32))
    assert (found.elements, found.not_finite, found.minimum, found.maximum) == (2, 3, -2.0, 1.0)


def test_a_histogram_goes_on_from_another() -> None:
    values = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    counter = Counter(counted(values[:2000] / 100))
    counter.add(values)
    assert_same(counter.histogram(), counted(values[:2000] / 100, values))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_types_are_counted_as_float32(dtype: str) -> None:
    values = np.random.default_rng(1).standard_normal(300).astype(dtype)
    assert_same(counted(values), counted(values.astype(np.float32)))


def test_nothing_but_zeros_has_no_range() -> None:
    found = counted(np.zeros(70_000, np.float32))
    assert (found.amax, found.elements, found.counts[BINS]) == (0.0, 70_000, 70_000)
