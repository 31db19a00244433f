"""Points parted into groups, each of which costs its weight times what the smallest corner above all its points costs.

The points are sizes of requests, the corner is the largest shape of a profile. A chain and a dozen points are parted as
`exact` does. Others are covered by corners chosen greedily from candidates; corners are exchanged for better ones
until none is found, from two starts. Nothing is random.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from workbench.traffic.exact import Points, best_groups, best_runs, chain_of, corners_of

FEW = 12
"""So many points are parted by trying every set of them: less than a second for each number of groups."""
_MOST_POINTS = 2048
_MOST_AXES = 3
"""On more axes than these half as many points are looked at, as every step takes longer."""
_MOST_CORNERS = 1024
_MOST_OWN = 512
_MOST_STEPS = 256
_BEYOND = 2
"""So many groups more than asked for are tried, to come back from."""
_BETTER = 1 - 1e-12
"""A gain below rounding errors is none."""


def part(points: Points, most: int, few: int = FEW) -> tuple[list[np.ndarray], bool]:
    """Labels int[n] for 1, 2, ... `most` groups, and whether each is the best there is.

    Every entry costs less than the one before it: a number of groups that saves nothing is left out. few: up to so many
    points that are no chain are parted exactly.
    """
    order = chain_of(points)
    is_best = order is not None or len(points.sizes) <= few
    if order is not None:
        partings = best_runs(points, order, most)
    else:
        partings = best_groups(points, most) if is_best else _covered(points, most)
    found: list[np.ndarray] = []
    lowest = np.inf
    for labels in partings:
        total = points.total(labels)
        if total < lowest * _BETTER:
            found = [item for item in found if item.max() < labels.max()] + [labels]
            lowest = total
    return found, is_best


def _covered(points: Points, most: int) -> Iterator[np.ndarray]:
    """Partings into 1, 2, ... groups. Two ways lead to each: one corner more, and two corners become one."""
    fewer = _merged(points)
    pool = _Pool(fewer, _candidates(fewer))
    corners = fewer.sizes.max(0)[None]
    growing = [corners]
    for _ in range(min(most + _BEYOND, len(fewer.sizes)) - 1):
        corners = _exchanged(pool, pool.with_one_more(corners))
        growing.append(corners)
    shrinking = growing[-1:]
    while len(shrinking[-1]) > 2:
        shrinking.append(_exchanged(pool, _with_one_less(fewer, shrinking[-1])))
    found = [_settled(points, corners) for corners in (*growing, *shrinking)]
    for count in range(1, most + 1):
        fitting = [(cost, labels) for labels, corners, cost in found if len(corners) <= count]
        yield min(fitting, key=lambda item: item[0])[1]


def _with_one_less(points: Points, corners: np.ndarray) -> np.ndarray:
    """The two whose union costs least more become one."""
    labels = _settled(points, corners)[0]
    if labels.max() == 0:
        return corners_of(points.sizes, labels)
    trials = [
        np.where(labels == second, first, labels - (labels > second))
        for first, second in combinations(range(int(labels.max()) + 1), 2)
    ]
    return corners_of(points.sizes, min(trials, key=points.total))


def _exchanged(pool: _Pool, corners: np.ndarray) -> np.ndarray:
    """Each corner in turn for a better one, until none is found."""
    points = pool.points
    total, place, since = _settled(points, corners)[2], 0, 0
    while since < len(corners):
        place %= len(corners)
        rest = np.delete(corners, place, 0)
        trial = pool.best_beside(rest, corners[place])
        _, settled, cost = _settled(points, np.concatenate([rest, trial]))
        since += 1
        if cost < total * _BETTER:
            corners, total, since = settled, cost, 0
        place += 1
    return corners


def _settled(points: Points, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Every point goes to its cheapest corner, corners shrink to their points, and again until nothing moves.

    Labels, corners and cost of the best state on the way; corners without points are dropped.
    """
    best: tuple[np.ndarray, np.ndarray, float] | None = None
    while True:
        padded = np.where(_covers(points.sizes, corners), points.costs(corners)[:, None], np.inf)
        labels = np.unique(padded.argmin(0), return_inverse=True)[1].reshape(-1)
        corners, cost = corners_of(points.sizes, labels), points.total(labels)
        if best is not None and cost >= best[2] * _BETTER:
            return best
        best = labels, corners, cost


class _Pool:
    """The points, and corners to choose from with what each costs every point: float32[m, n], inf where not above."""

    def __init__(self, points: Points, corners: np.ndarray) -> None:
        self.points = points
        self._unit = float(points.costs(points.sizes.max(0)[None])[0])  # keeps float32 far from its limits
        self._weights = (points.weights / points.weights.sum()).astype(np.float32)
        self.corners, self._padded = self._shrunk(corners)

    def with_one_more(self, corners: np.ndarray) -> np.ndarray:
        """And the best corner beside them; the same number where none saves anything."""
        before = _settled(self.points, corners)[2]
        added = self.best_beside(corners, corners[-1])
        _, settled, cost = _settled(self.points, np.concatenate([corners, added]))
        return settled if cost < before * _BETTER else corners

    def best_beside(self, rest: np.ndarray, near: np.ndarray) -> np.ndarray:
        """int64[1, d]: the candidate, or variant of `near` along one axis, with which the points cost least."""
        cheapest = self._padding(rest).min(0, initial=np.inf)
        variants, padded = self._shrunk(_variants(self.points.sizes, near))
        corners = np.concatenate([self.corners, variants])
        # einsum, as BLAS spins on every core for so little
        totals = [np.einsum("cp,p->c", np.minimum(item, cheapest), self._weights) for item in (self._padded, padded)]
        return corners[np.concatenate(totals).argmin()][None]

    def _shrunk(self, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each corner to the points below it, duplicates and those above nothing dropped."""
        sizes = self.points.sizes
        covers = _covers(sizes, corners)
        tight = np.stack([np.where(covers, column, 0).max(1) for column in sizes.T], 1)
        tight = np.unique(tight[covers.any(1)], axis=0)
        return tight, self._padding(tight)

    def _padding(self, corners: np.ndarray) -> np.ndarray:
        costs = (self.points.costs(corners) / self._unit).astype(np.float32)
        return np.where(_covers(self.points.sizes, corners), costs[:, None], np.float32(np.inf))


def _covers(sizes: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """bool[m, n]: whether the corner is at least as large as the point in every dimension."""
    found = np.ones((len(corners), len(sizes)), bool)
    for column in np.flatnonzero((sizes != sizes[0]).any(0)):
        found &= corners[:, column, None] >= sizes[None, :, column]
    return found


def _candidates(points: Points) -> np.ndarray:
    """The points that waste most, and a grid of the sizes on every axis: all elementwise maxima where few enough."""
    sizes = points.sizes
    waste = points.weights * (points.costs(sizes.max(0)[None]) - points.costs(sizes))
    own = sizes[np.argsort(-waste, kind="stable")[:_MOST_OWN]]
    axes = _axes(sizes)
    values = [np.unique(sizes[:, axis[0]]) for axis in axes]
    steps = max(map(len, values))
    while steps > 2 and np.prod([min(len(item), steps) for item in values], dtype=np.float64) > _MOST_CORNERS:
        steps -= max(1, steps // 16)
    values = [_thinned(item, steps) for item in values]
    if np.prod([len(item) for item in values], dtype=np.float64) > _MOST_CORNERS:
        return own  # two sizes on each of so many axes are too many already
    grid = np.stack([item.reshape(-1) for item in np.meshgrid(*values, indexing="ij")], 1)
    corners = np.repeat(sizes.max(0)[None], len(grid), 0)
    for axis, column in zip(axes, grid.T, strict=True):
        corners[:, axis] = column[:, None]
    return np.concatenate([own, corners])


def _variants(sizes: np.ndarray, near: np.ndarray) -> np.ndarray:
    """`near` with every other size on one axis."""
    found, axes = [], _axes(sizes)
    for axis in axes:
        values = _thinned(np.unique(sizes[:, axis[0]]), max(2, _MOST_OWN // len(axes)))
        corners = np.repeat(near[None], len(values), 0)
        corners[:, axis] = values[:, None]
        found.append(corners)
    return np.concatenate(found)


def _axes(sizes: np.ndarray) -> list[list[int]]:
    """Columns that vary; those that are always equal belong together, as a dimension that several inputs share."""
    found: dict[bytes, list[int]] = {}
    for column, values in enumerate(sizes.T):
        if (values != values[0]).any():
            found.setdefault(values.tobytes(), []).append(column)
    return list(found.values())


def _thinned(values: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the sorted values, evenly chosen, the first and the last among them."""
    if len(values) <= most:
        return values
    chosen: np.ndarray = values[np.linspace(0, len(values) - 1, most).round().astype(np.int64)]
    return chosen


def _merged(points: Points) -> Points:
    """The points, or few enough in their place: those that lie near one another become their elementwise maximum."""
    sizes, steps, labels = points.sizes, _MOST_STEPS, np.arange(len(points.sizes))
    while labels.max() >= (_MOST_POINTS if len(_axes(sizes)) <= _MOST_AXES else _MOST_POINTS // 2):
        cells = np.stack([np.searchsorted(_thinned(np.unique(c), steps), c) for c in sizes.T], 1)
        labels = np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1)
        steps //= 2
    corners, places = np.unique(corners_of(sizes, labels), axis=0, return_inverse=True)
    return Points(corners, np.bincount(places.reshape(-1), np.bincount(labels, points.weights)), points.costs)
