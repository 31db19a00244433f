"""From histograms to ranges: how much of a tensor int8 shall reach. Every algorithm reads the same collection."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from workbench.calibration.collection import Collection
from workbench.calibration.histograms import Histogram
from workbench.calibration.lint import SMALLEST
from workbench.calibration.table import ALGORITHMS, CalibrationTable
from workbench.errors import ConfigError
from workbench.types import COMPUTED as COMPUTED

PERCENTILE = 99.99
"""The share of values, in percent, that the percentile algorithm keeps within range if nobody names another."""
_LEVELS = 128
_CANDIDATES = 128
_MOST_CLIPPED = 0.003


def thresholds(
    collection: Collection,
    algorithm: str = "entropy",
    *,
    percentile: float = PERCENTILE,
    overrides: Mapping[str, str] | None = None,
) -> CalibrationTable:
    """The table that an algorithm makes of a collection. overrides: other algorithms, by tensor.

    A tensor that held nothing but zeros, or values too small for int8, has the range 0: none. Raises ConfigError for an
    algorithm that does not exist and a tensor that was not collected.
    """
    wishes = dict(overrides or {})
    _check(algorithm, percentile, wishes, collection)
    amax: dict[str, float] = {}
    for name in collection.tensors:
        amax[name] = threshold(collection.histogram(name), wishes.get(name, algorithm), percentile=percentile)
    return CalibrationTable(amax, algorithm)


def _check(algorithm: str, percentile: float, overrides: Mapping[str, str], collection: Collection) -> None:
    for name in (algorithm, *overrides.values()):
        if name not in COMPUTED:
            why = "only TensorRT's own calibrator does that" if name in ALGORITHMS else "there is no such algorithm"
            raise ConfigError(f"{name!r}: {why}; choose one of {', '.join(COMPUTED)}.")
    if not 0 < percentile <= 100:
        raise ConfigError(f"a percentile of {percentile} does not exist; choose one up to 100, such as {PERCENTILE}.")
    for name in overrides:
        if name not in collection.tensors:
            raise ConfigError(f"{name}: no tensor of this name was collected from {collection.model_name}.")


def threshold(histogram: Histogram, algorithm: str, *, percentile: float = PERCENTILE) -> float:
    """The largest magnitude that int8 shall reach; never above the largest seen. 0 where no scale can express it."""
    if histogram.amax < SMALLEST:
        return 0.0
    if algorithm == "minmax":
        return histogram.amax
    if algorithm == "percentile":
        found = _percentile(histogram, percentile)
    else:
        found = _entropy(histogram) if algorithm == "entropy" else _least_error(histogram)
    found = min(found, histogram.amax)
    return found if found >= SMALLEST else 0.0


def clipped_share(histogram: Histogram, amax: float) -> float:
    """The share of values whose magnitude is beyond amax, bins being taken whole."""
    magnitudes = histogram.magnitudes
    if amax >= histogram.amax:
        return 0.0
    return float(magnitudes[max(int(np.ceil(amax / histogram.width)), 1) :].sum() / max(magnitudes.sum(), 1))


def quantization_error(histogram: Histogram, amax: float) -> float:
    """Norm of what int8 of this range changes over the norm of the values, each taken for its bin's middle."""
    values, counts = _values(histogram)
    energy = float(counts @ values**2)
    if not energy:
        return 0.0
    return float(np.sqrt(_square_errors(values, counts, np.array([amax]))[0] / energy)) if amax else 1.0


def _percentile(histogram: Histogram, percentile: float) -> float:
    reached = np.cumsum(histogram.magnitudes)
    place = int(np.searchsorted(reached, np.ceil(reached[-1] * (percentile / 100))))
    return (place + 1) * histogram.width


def _entropy(histogram: Histogram) -> float:
    """Where the quantized distribution tells least apart from the clipped one (Kullback-Leibler).

    As NVIDIA's pytorch-quantization does it after 'S. Migacz, 8-bit Inference with TensorRT, GTC 2017': the first bin
    counts as much as the second, what is beyond the range goes to its last bin, and of equals the widest is taken.
    Unlike there no range is taken that clips more than 0.3 % of the values: where single values are very frequent, as
    in pictures with a plain background, the divergence has sharp minima that mean nothing.
    """
    magnitudes = histogram.magnitudes
    used = int(np.flatnonzero(magnitudes)[-1]) + 1
    if used <= _LEVELS:
        return used * histogram.width
    counts = magnitudes[:used].astype(np.float64)
    counts[0] = counts[1]
    step = max((used - _LEVELS) // (_CANDIDATES - 1), 1)
    ends = np.arange(used, _LEVELS - 1, -step)  # the widest first: argmin takes the first of equals
    ends = ends[np.cumsum(magnitudes)[ends - 1] >= (1 - _MOST_CLIPPED) * histogram.elements]
    return float(ends[np.argmin(_divergences(counts, ends))] * histogram.width)


def _divergences(counts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """KL divergence for every range of `ends` bins, each parted into 128 levels; by cumulative sums, all at once."""
    total = counts.sum()
    sums, filled, entropies = (_cumulative(values) for values in (counts, counts > 0, _x_log_x(counts)))
    last = counts[ends - 1]
    beyond = total - sums[ends]
    inner = entropies[ends] - _x_log_x(last) + _x_log_x(last + beyond)
    borders = (np.arange(_LEVELS + 1)[None, :] * ends[:, None]) // _LEVELS
    level_sums, level_filled = np.diff(sums[borders], axis=1), np.diff(filled[borders], axis=1)
    level_filled[:, -1] += (last == 0) & (beyond > 0)
    weights = level_sums.copy()
    weights[:, -1] += beyond
    with np.errstate(divide="ignore", invalid="ignore"):
        crossed = np.where(weights > 0, weights * np.log(level_sums / level_filled), 0.0).sum(axis=1)
        found = (inner - crossed) / total - np.log(total) + np.log(sums[ends])
    return np.where(np.isfinite(found), found, np.inf)


def _cumulative(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _x_log_x(values: np.ndarray) -> np.ndarray:
    return values * np.log(np.where(values > 0, values, 1.0))


def _least_error(histogram: Histogram) -> float:
    """Where the mean square of what quantization changes is least."""
    values, counts = _values(histogram)
    steps = np.linspace(1.0, 1 / _CANDIDATES, _CANDIDATES)
    coarse = steps[::8]
    best = coarse[np.argmin(_square_errors(values, counts, histogram.amax * coarse))]
    near = steps[np.abs(steps - best) < 8 / _CANDIDATES]
    return float(histogram.amax * near[np.argmin(_square_errors(values, counts, histogram.amax * near))])


def _values(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes, each bin taken for its middle, and how many there are. The first bin, most of it zeros, for 0."""
    magnitudes = histogram.magnitudes
    used = np.flatnonzero(magnitudes)
    middles = np.where(used == 0, 0.0, (used + 0.5) * histogram.width)
    return middles, magnitudes[used]


def _square_errors(values: np.ndarray, counts: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Sum of squares of what int8 of every range changes."""
    scales = ranges[:, None] / (_LEVELS - 1)
    rounded = np.minimum(np.rint(values[None, :] / scales), _LEVELS - 1) * scales
    return np.asarray((rounded - values) ** 2 @ counts)
