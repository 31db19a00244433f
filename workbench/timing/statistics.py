"""Statistics of times: what they say, how surely, and which of two is faster. Times are in order of their taking.

Runs that follow one another are alike: a clock that wanders, a neighbour that comes and goes. So intervals are those of
a bootstrap over blocks of runs (H. R. Kuensch, 1989, Annals of Statistics 17, 1217-1241; D. N. Politis and J. P.
Romano, 1992: blocks that wrap around), as long as the times themselves call for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from workbench.accuracy import Interval

SESSIONS_DIFFER = 0.005
"""Two sessions of the same engine differ by such a share, however many runs are taken: memory lies elsewhere. Seen:
0.2 % on an H200, in turns, where the intervals of noise alone did not touch."""
_RESAMPLES = 1000
_FEWEST_BLOCKS = 6
_WINDOW = 5.0
_CHANCE = 1.645
_STUDENT = {
    1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 8: 2.31, 10: 2.23, 15: 2.13, 20: 2.09, 40: 2.02, 200: 1.96,
}  # fmt: skip
_NORMAL = 1.96
_AT_ONCE = 1 << 22


def quantile_ms(times_ms: Sequence[float], share: float) -> float:
    """The time that this share of the runs does not exceed; one that was measured, never interpolated."""
    return sorted(times_ms)[max(math.ceil(len(times_ms) * share) - 1, 0)]


def median_interval(times_ms: Sequence[float]) -> Interval:
    """The median in ms and where it lies with 95 % confidence; never narrower than the clock's own step, nor than what
    two sessions of one engine differ by."""
    found = noise_interval(times_ms)
    step, alike = clock_step_ms(times_ms) / 2, SESSIONS_DIFFER * found.value
    return Interval(
        found.value, min(found.low - step, found.value - alike), max(found.high + step, found.value + alike)
    )


def noise_interval(times_ms: Sequence[float]) -> Interval:
    """The median in ms and where noise alone lets it lie, with 95 % confidence."""
    return interval(times_ms, lambda drawn: np.median(drawn, axis=1))


def mean_interval(times_ms: Sequence[float]) -> Interval:
    """The mean in ms and where it lies with 95 % confidence."""
    return interval(times_ms, lambda drawn: drawn.mean(axis=1))


def interval(times_ms: Sequence[float], statistic: Callable[[np.ndarray], np.ndarray]) -> Interval:
    """statistic: float[resamples, runs] -> float[resamples]. The ends are percentiles of 1,000 resamples (seed 0),
    moved outwards as Student's t asks for where few runs are independent. One run tells nothing: its ends are
    infinite."""
    times = np.asarray(times_ms, np.float64)
    value = float(statistic(times[None])[0])
    if times.size < 2:
        return Interval(value, -math.inf, math.inf)
    length = block_length(times)
    drawn = np.concatenate([statistic(part) for part in _resampled(times, length)])
    low, high = np.quantile(drawn, (0.025, 0.975))
    wider = _widening(independent_runs(times))
    return Interval(value, value - wider * max(value - float(low), 0.0), value + wider * max(float(high) - value, 0.0))


def block_length(times_ms: Sequence[float] | np.ndarray) -> int:
    """How many runs a block holds: Carlstein's rule for a first-order process of the same correlation time (E.
    Carlstein, 1986, Annals of Statistics 14, 1171-1179), and a sixth of all runs at most."""
    count = len(times_ms)
    ratio = correlation_time(times_ms)
    alike = (ratio - 1) / (ratio + 1)
    length = (math.sqrt(6) * alike / (1 - alike**2)) ** (2 / 3) * count ** (1 / 3) if 0 < alike < 1 else 1.0
    return max(1, min(math.ceil(length), count // _FEWEST_BLOCKS))


def correlation_time(times_ms: Sequence[float] | np.ndarray) -> float:
    """How many runs in a row tell as much as one that is independent, 1 or more; of ranks, so that outliers do not
    hide it.

    The larger of two estimates: correlations summed as far as they are credible (A. Sokal, 1997, Monte Carlo Methods in
    Statistical Mechanics), and that of a first-order process with the first correlation, freed of its bias in few runs
    (M. G. Kendall, 1954, Biometrika 41, 403-404), where that is no chance.
    """
    ranks = _ranks(np.asarray(times_ms, np.float64))
    centred, count = ranks - ranks.mean(), ranks.size
    if count < 3 or not centred.any():
        return 1.0
    spectrum = np.fft.rfft(centred, 2 * count)
    covariance = np.fft.irfft(spectrum * spectrum.conj())[:count]
    correlations = covariance / covariance[0]
    sums = 2 * np.cumsum(correlations) - 1
    within = np.arange(count) >= _WINDOW * sums
    summed = float(sums[np.argmax(within)] if within.any() else sums[-1])
    first = float(correlations[1])
    unbiased = min(first + (1 + 4 * first) / count, 1 - 1 / count) if first > _CHANCE / math.sqrt(count) else 0.0
    return max(1.0, summed, (1 + unbiased) / (1 - unbiased))


def independent_runs(times_ms: Sequence[float] | np.ndarray) -> float:
    """As many independent runs would tell the same."""
    return len(times_ms) / correlation_time(times_ms)


def drift(times_ms: Sequence[float]) -> float:
    """By which share the median of the last third lies above that of the first one; 0 for fewer than six runs."""
    third = len(times_ms) // 3
    if third < 2:
        return 0.0
    first, last = np.median(times_ms[:third]), np.median(times_ms[-third:])
    return float(last / first - 1) if first else 0.0


def clock_step_ms(times_ms: Sequence[float]) -> float:
    """The clock's step, where it is coarse enough to show: the smallest distance of times of which most are equal."""
    distinct = np.unique(np.asarray(times_ms, np.float64))
    if distinct.size < 2 or distinct.size > len(times_ms) / 2:
        return 0.0
    steps = np.diff(distinct)
    return float(steps[steps > 1e-6 * distinct[-1]].min(initial=distinct[-1]))


def apart(one: Interval, other: Interval) -> bool:
    """Whether two results may be ranked: their intervals do not touch."""
    return one.high < other.low or other.high < one.low


def ranks(results: Mapping[str, Interval]) -> dict[str, tuple[int, int]]:
    """The best and the worst place that each can have, 1 for the fastest: after those whose intervals lie wholly below
    its own, and before those that lie wholly above. Two results that cannot be told apart share a place."""
    found = {}
    for name, mine in results.items():
        faster = sum(other.high < mine.low for other in results.values())
        slower = sum(mine.high < other.low for other in results.values())
        found[name] = (1 + faster, len(results) - slower)
    return found


def rank_text(places: tuple[int, int]) -> str:
    """'2', or '1 to 3' where noise leaves it open."""
    return str(places[0]) if places[0] == places[1] else f"{places[0]} to {places[1]}"


def ratio_interval(one: Interval, other: Interval) -> Interval:
    """one / other, from the ends that lie furthest apart."""
    tiny = 1e-12
    return Interval(one.value / max(other.value, tiny), max(one.low, 0) / other.high, one.high / max(other.low, tiny))


def _resampled(times: np.ndarray, length: int) -> list[np.ndarray]:
    """float64[resamples, runs] in pieces of a few megabytes."""
    generator, count = np.random.default_rng(0), times.size
    blocks, pieces = math.ceil(count / length), []
    for begin in range(0, _RESAMPLES, max(1, _AT_ONCE // count)):
        rows = min(_RESAMPLES - begin, max(1, _AT_ONCE // count))
        starts = generator.integers(0, count, (rows, blocks, 1))
        places = (starts + np.arange(length)).reshape(rows, -1)[:, :count] % count
        pieces.append(times[places])
    return pieces


def _ranks(values: np.ndarray) -> np.ndarray:
    """Equal values share the middle of their places."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts) + (ends - 1))[inverse] / 2.0


def _widening(independent: float) -> float:
    """The 97.5 % point of Student's t over the normal one, and what resamples of so few lack in spread."""
    freedom = max(1.0, independent - 1)
    student = float(np.interp(freedom, list(_STUDENT), list(_STUDENT.values())))
    return student / _NORMAL * math.sqrt((freedom + 1) / freedom)
