"""Points parted into groups at the least cost: exactly, for points that form a chain and for few points.

The points are sizes of requests. A group costs its weight times what its corner costs: the smallest point that is at
least as large as all of its points in every dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Costs = Callable[[np.ndarray], np.ndarray]
"""int64[m, d] of corners -> float64[m], what one request padded to each costs."""


@dataclass(frozen=True)
class Points:
    """sizes: int64[n, d], distinct rows. weights: float64[n] above 0. costs: above 0 and never infinite."""

    sizes: np.ndarray
    weights: np.ndarray
    costs: Costs

    def total(self, labels: np.ndarray) -> float:
        """What this parting costs; labels: int[n], 0 to the number of groups - 1."""
        return float(np.bincount(labels, self.weights) @ self.costs(corners_of(self.sizes, labels)))


def corners_of(sizes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int64[groups, d]: the corner of every group."""
    corners = np.zeros((int(labels.max()) + 1, sizes.shape[1]), np.int64)
    np.maximum.at(corners, labels, sizes)
    return corners


def chain_of(points: Points) -> np.ndarray | None:
    """The order in which no dimension ever falls from one point to the next; None if there is none."""
    order = np.lexsort((*points.sizes.T, points.sizes.sum(1)))
    return order if (np.diff(points.sizes[order], axis=0) >= 0).all() else None


def best_runs(points: Points, order: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """The best partings of a chain into 1, 2, ... groups, as labels; in O(most n²).

    Each group is a run of neighbours: of corners in use, those above another cost more than it (else both groups would
    share the upper one), so every point goes to the lowest corner above it.
    """
    costs, before = points.costs(points.sizes[order]), np.concatenate([[0.0], points.weights[order].cumsum()])
    count = len(order)
    best = np.full(count + 1, np.inf)
    best[0] = 0.0
    begins: list[
        np.ndarray
    ] = []  # begins[k][end]: where the last of k + 1 runs begins that hold the first `end` points
    for _ in range(min(most, count)):
        following, begin = np.full(count + 1, np.inf), np.zeros(count + 1, np.int64)
        for end in range(1, count + 1):
            totals = best[:end] + (before[end] - before[:end]) * costs[end - 1]
            begin[end] = totals.argmin()
            following[end] = totals[begin[end]]
        best = following
        begins.append(begin)
        yield _labels_of_runs(begins, order)


def _labels_of_runs(begins: list[np.ndarray], order: np.ndarray) -> np.ndarray:
    labels, end = np.zeros(len(order), np.int64), len(order)
    for label in range(len(begins) - 1, -1, -1):
        begin = int(begins[label][end])
        labels[order[begin:end]] = label
        end = begin
    return labels


def best_groups(points: Points, most: int) -> Iterator[np.ndarray]:
    """The best partings of a dozen points or fewer into at most 1, 2, ... groups, as labels; in O(most 3ⁿ).

    A set of points is a number, one bit for each. The group that holds the highest point of a set is split off.
    """
    count = len(points.sizes)
    members = (np.arange(1 << count)[:, None] >> np.arange(count)) & 1
    tops = np.stack([np.where(members, column, 0).max(1) for column in points.sizes.T], 1)
    costs = np.concatenate([[0.0], points.costs(tops[1:])]) * (members @ points.weights)
    best, groups = costs, [np.arange(1 << count)]
    yield np.zeros(count, np.int64)
    for _ in range(1, min(most, count)):
        following, group = best.copy(), groups[-1].copy()
        for points_in in range(1, 1 << count):
            parts = _parts(points_in)
            totals = costs[parts] + best[points_in ^ parts]
            place = int(totals.argmin())
            following[points_in], group[points_in] = totals[place], parts[place]
        best = following
        groups.append(group)
        yield _labels_of_groups(groups, count)


def _parts(whole: int) -> np.ndarray:
    """The sets within a set that hold its highest point."""
    high = 1 << (whole.bit_length() - 1)
    found = np.array([high])
    for bit in range(high.bit_length() - 1):
        if whole >> bit & 1:
            found = np.concatenate([found, found | 1 << bit])
    return found


def _labels_of_groups(groups: list[np.ndarray], count: int) -> np.ndarray:
    """groups[k][set]: what is split off a set that becomes at most k + 1 groups."""
    labels, left, label = np.zeros(count, np.int64), (1 << count) - 1, 0
    for group in reversed(groups):
        taken = int(group[left])
        labels[((taken >> np.arange(count)) & 1).astype(bool)] = label
        left, label = left ^ taken, label + 1
        if not left:
            break
    return labels
