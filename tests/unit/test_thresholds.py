"""Every algorithm reads its ranges from the same histograms."""

import numpy as np
import pytest

from workbench.calibration.collection import Collection, Repeated
from workbench.calibration.histograms import Counter, Histogram, merge_histograms
from workbench.calibration.lint import SMALLEST, broken_ranges
from workbench.calibration.table import CalibrationTable
from workbench.calibration.thresholds import (
    COMPUTED,
    clipped_share,
    quantization_error,
    threshold,
    thresholds,
)
from workbench.errors import ConfigError


def histogram_of(values: np.ndarray) -> Histogram:
    counter = Counter()
    counter.add(values)
    return counter.histogram()


def normal(count: int = 200_000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32)


def quantized(values: np.ndarray, amax: float) -> np.ndarray:
    scale = amax / 127
    return np.clip(np.rint(values / scale), -127, 127) * scale


@pytest.fixture
def collection() -> Collection:
    histograms = {
        "a": histogram_of(normal()),
        "b": histogram_of(10 * normal(seed=1)),
        "zero": histogram_of(np.zeros(9)),
    }
    return Collection("net", "0" * 64, histograms, {"a_relu": Repeated("a", low=0.0), "b_again": Repeated("b")})


def test_minmax_is_the_largest_magnitude() -> None:
    values = normal()
    assert threshold(histogram_of(values), "minmax") == pytest.approx(np.abs(values).max())


@pytest.mark.parametrize("percentile", [50.0, 99.0, 99.9, 99.99, 100.0])
def test_percentile_keeps_its_share(percentile: float) -> None:
    values, histogram = normal(), histogram_of(normal())
    found = threshold(histogram, "percentile", percentile=percentile)
    assert found == pytest.approx(np.percentile(np.abs(values), percentile), abs=2 * histogram.width)


def test_mse_errs_least() -> None:
    values = np.concatenate([normal(), np.float32([40.0, -55.0])])
    found = threshold(histogram_of(values), "mse")
    error = {amax: np.mean((quantized(values, amax) - values) ** 2) for amax in (found, *np.linspace(1, 55, 109))}
    assert error[found] <= 1.02 * min(error.values())
    assert found < 50


def test_entropy_is_that_of_the_published_procedure() -> None:
    """Step by step, as NVIDIA's pytorch-quantization computes it."""
    values = np.random.default_rng(0).laplace(size=50_000).astype(np.float32)
    histogram = histogram_of(values)
    counts = histogram.magnitudes.astype(np.float64)
    used = int(np.flatnonzero(counts)[-1]) + 1
    counts = counts[:used]
    counts[0] = counts[1]
    divergences = {end: _divergence(counts, end) for end in range(used, 127, -max((used - 128) // 127, 1))}
    wanted = min(divergences, key=lambda end: divergences[end])
    assert threshold(histogram, "entropy") == pytest.approx(wanted * histogram.width)


def _divergence(counts: np.ndarray, end: int) -> float:
    reference = counts[:end].copy()
    reference[-1] += counts[end:].sum()
    levels = np.array_split(np.arange(end), [level * end // 128 for level in range(1, 128)])
    candidate = np.zeros(end)
    for level in levels:
        filled = level[reference[level] > 0]
        if filled.size:
            candidate[filled] = counts[:end][level].sum() / filled.size
    with np.errstate(divide="ignore", invalid="ignore"):
        p, q = reference / reference.sum(), candidate / candidate.sum()
        terms = np.where(p > 0, p * np.log(p / q), 0.0)
    return float(terms.sum())


def test_entropy_cuts_a_far_outlier_off_and_keeps_an_even_spread() -> None:
    outlier = np.concatenate([normal(), np.float32([30.0])])
    assert 3 < threshold(histogram_of(outlier), "entropy") < 6
    even = np.random.default_rng(0).uniform(-1, 1, 200_000).astype(np.float32)
    assert threshold(histogram_of(even), "entropy") > 0.95


@pytest.mark.parametrize("algorithm", COMPUTED)
def test_a_range_grows_with_the_values_and_reaches_no_further(algorithm: str) -> None:
    values = normal()
    ranges = [threshold(histogram_of(values * 2**power), algorithm) for power in (-20, 0, 7)]
    assert ranges[1] == pytest.approx(ranges[0] * 2**20) and ranges[2] == pytest.approx(ranges[1] * 2**7)
    assert 1 < ranges[1] <= np.abs(values).max()
    assert threshold(histogram_of(np.zeros(10)), algorithm) == 0.0
    assert threshold(histogram_of(np.float32([3.0])), algorithm) == pytest.approx(3.0, rel=1e-3)


def test_what_is_clipped_and_what_is_lost_are_those_of_the_values() -> None:
    values = normal()
    histogram = histogram_of(values)
    for amax in (0.5, 2.0, 5.0):
        assert clipped_share(histogram, amax) == pytest.approx((np.abs(values) > amax).mean(), abs=2e-3)
        lost = np.linalg.norm(quantized(values, amax) - values) / np.linalg.norm(values)
        assert quantization_error(histogram, amax) == pytest.approx(lost, rel=0.02)
    assert quantization_error(histogram, 0.0) == 1.0


def test_a_table_holds_every_tensor_and_what_follows_from_another(collection: Collection) -> None:
    table = thresholds(collection, "minmax")
    assert tuple(table.amax) == ("a", "a_relu", "b", "b_again", "zero")
    assert table.algorithm == "minmax"
    assert table.amax["b"] == table.amax["b_again"] == collection.histograms["b"].amax
    assert table.amax["a_relu"] == collection.histograms["a"].maximum
    assert table.amax["zero"] == 0.0


def test_single_tensors_may_have_another_algorithm(collection: Collection) -> None:
    usual, mixed = thresholds(collection), thresholds(collection, overrides={"b": "percentile"})
    changed = {name for name in usual.amax if usual.amax[name] != mixed.amax[name]}
    assert changed == {"b"} and mixed.amax["b"] == thresholds(collection, "percentile").amax["b"]


def test_what_does_not_exist_is_refused(collection: Collection) -> None:
    with pytest.raises(ConfigError, match=r"only TensorRT's own calibrator does that; choose one of entropy"):
        thresholds(collection, "legacy")
    with pytest.raises(ConfigError, match="there is no such algorithm"):
        thresholds(collection, overrides={"a": "best"})
    with pytest.raises(ConfigError, match="c: no tensor of this name was collected from net"):
        thresholds(collection, overrides={"c": "mse"})
    with pytest.raises(ConfigError, match="percentile of 0"):
        thresholds(collection, "percentile", percentile=0)


def test_merging_changes_no_range() -> None:
    values = normal()
    merged = merge_histograms(histogram_of(values[:90_000]), histogram_of(values[90_000:]))
    for algorithm in COMPUTED:
        assert threshold(merged, algorithm) == threshold(histogram_of(values), algorithm)


def test_entropy_keeps_the_values_of_a_histogram_full_of_spikes() -> None:
    """A plain background gives a few values very often; the published procedure cuts at one of them."""
    generator = np.random.default_rng(0)
    spikes = np.repeat(np.float32([0.05, 0.11, 0.15, 0.18, 0.22, 0.26, 0.3, 0.318]), 40_000)
    values = np.concatenate([np.zeros(300_000, np.float32), spikes, np.abs(normal(60_000) * 1.5)])
    histogram = histogram_of(generator.permutation(values))
    assert clipped_share(histogram, threshold(histogram, "entropy")) <= 0.003


@pytest.mark.parametrize("algorithm", COMPUTED)
def test_a_tensor_too_small_for_int8_has_no_range_and_leaves_the_table_usable(algorithm: str) -> None:
    """Of the second, most of what was seen is too small although the largest value is not."""
    small, mixed = np.full(1000, SMALLEST / 4, np.float32), np.full(1_000_000, SMALLEST / 4, np.float32)
    mixed[0] = SMALLEST * 1.01
    histograms = {"a": histogram_of(normal()), "small": histogram_of(small), "mixed": histogram_of(mixed)}
    amax = thresholds(Collection("net", "0" * 64, histograms), algorithm).amax
    assert amax["small"] == 0 and amax["a"] > 1
    assert amax["mixed"] == 0 or amax["mixed"] >= SMALLEST
    assert not list(broken_ranges(CalibrationTable(amax)))
