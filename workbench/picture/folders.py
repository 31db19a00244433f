"""Folders for the nodes of a network: from their names, and where names have none, from blocks that repeat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

_LONGEST_BLOCK = 400
_SHORTEST_BLOCK = 3


def folders_of(names: Sequence[str], labels: Sequence[str]) -> list[tuple[str, ...]]:
    """For every node the folders it lies in, outermost first; none for most nodes of a network that has neither.

    names: '/layer1/layer1.0/conv1/Conv' lies in layer1, layer1.0 and conv1. labels: operators, in the order of the
    graph; used where fewer than half of the names have folders.
    """
    paths = [tuple(part for part in name.split("/")[:-1] if part) for name in names]
    if sum(map(bool, paths)) * 2 < len(paths):
        paths = _repeated(labels)
    return _without_lonely_ones(paths)


def _without_lonely_ones(paths: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """A folder that holds one node says nothing more than the node does."""
    sizes = Counter(path[:depth] for path in paths for depth in range(1, len(path) + 1))
    return [tuple(part for depth, part in enumerate(path, 1) if sizes[path[:depth]] > 1) for path in paths]


def _repeated(labels: Sequence[str]) -> list[tuple[str, ...]]:
    paths: list[tuple[str, ...]] = [()] * len(labels)
    for number, (start, period, count) in enumerate(find_repeats(labels), 1):
        for index in range(start, start + period * count):
            paths[index] = (f"blocks {number}", f"block {number}.{(index - start) // period + 1}")
    return paths


def find_repeats(labels: Sequence[str]) -> list[tuple[int, int, int]]:
    """Runs of a block that follows itself, as (start, block's length, times), by start; they do not overlap.

    The run that covers most is taken first, of equal ones that with the shortest block. A block has 3 to 400 labels.
    """
    codes = np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)[1] if labels else np.empty(0)
    found = [
        (start, period, (length + period) // period)
        for period in range(_SHORTEST_BLOCK, min(_LONGEST_BLOCK, len(codes) // 2) + 1)
        for start, length in _runs(codes[:-period] == codes[period:])
        if length >= period
    ]
    taken = np.zeros(len(codes), dtype=bool)
    kept = []
    for start, period, count in sorted(found, key=lambda run: (-run[1] * run[2], run[1], run[0])):
        span = slice(start, start + period * count)
        if not taken[span].any() and len(set(codes[start : start + period])) > 1:
            taken[span] = True
            kept.append((start, period, count))
    return sorted(kept)


def _runs(same: np.ndarray) -> list[tuple[int, int]]:
    """Start and length of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], same, [False])).astype(np.int8)))
    return [(int(start), int(end - start)) for start, end in edges.reshape(-1, 2)]
