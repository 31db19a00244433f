"""Where labels go so that none lies on another. Plain geometry; nothing is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

_RADII = (9.0, 18.0, 30.0, 45.0, 65.0, 90.0, 120.0, 160.0, 210.0)
_DIRECTIONS = 16
_APART = 2.0


class Box(NamedTuple):
    """y grows upwards."""

    left: float
    bottom: float
    right: float
    top: float


def part(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places along a line, `gap` apart at least, each as near to the wanted one as the others allow.

    They stay between low and high where there is room; otherwise they reach beyond high.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    groups: list[tuple[float, int]] = []  # the middle of places that touch, and how many they are
    for index in order:
        middle, count = min(max(wanted[index], low), high), 1
        while groups and groups[-1][0] + groups[-1][1] * gap / 2 > middle - count * gap / 2:
            before, many = groups.pop()
            middle, count = (before * many + middle * count) / (many + count), many + count
            half = (count - 1) * gap / 2
            middle = max(min(middle, high - half), low + half)
        groups.append((middle, count))
    places = [middle + (number - (count - 1) / 2) * gap for middle, count in groups for number in range(count)]
    found = [0.0] * len(wanted)
    for index, place in zip(order, places, strict=True):
        found[index] = place
    return found


def place_labels(
    anchors: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], inside: Box, taken: Sequence[Box] = ()
) -> list[Box]:
    """A box of its size for every label, near its anchor: on no other label, on no anchor's mark, inside.

    taken: what it is better not to lie on. Where there is no such place, the one that covers least.
    """
    marks = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in anchors]
    placed: dict[int, Box] = {}
    for index in sorted(range(len(anchors)), key=lambda index: _crowd(index, anchors)):
        options = _options(anchors[index], sizes[index])
        others = [*marks, *placed.values()]
        placed[index] = min(options, key=lambda box: _cost(box, others, inside, taken, anchors[index]))
    return [placed[index] for index in range(len(anchors))]


def _crowd(index: int, anchors: Sequence[tuple[float, float]]) -> float:
    """Those whose neighbours are near go first: they have the fewest places."""
    return min((math.dist(anchors[index], other) for far, other in enumerate(anchors) if far != index), default=0.0)


def _options(anchor: tuple[float, float], size: tuple[float, float]) -> list[Box]:
    """Boxes around the anchor, the nearest first, right of it before left."""
    found = []
    for radius in _RADII:
        for step in range(_DIRECTIONS):
            angle = math.pi * ((step + 1) // 2) * (-1) ** step * 2 / _DIRECTIONS
            x, y = anchor[0] + radius * math.cos(angle), anchor[1] + radius * math.sin(angle)
            left = x - size[0] * (1 - math.cos(angle)) / 2
            bottom = y - size[1] * (1 - math.sin(angle)) / 2
            found.append(Box(left, bottom, left + size[0], bottom + size[1]))
    return found


def _cost(
    box: Box, others: Sequence[Box], inside: Box, taken: Sequence[Box], anchor: tuple[float, float]
) -> tuple[float, float]:
    outside = (box.right - box.left) * (box.top - box.bottom) - overlap(box, inside)
    hard = outside + sum(overlap(_grown(box), other) for other in others)
    distance = math.dist(((box.left + box.right) / 2, (box.bottom + box.top) / 2), anchor)
    near = math.dist((min(max(anchor[0], box.left), box.right), min(max(anchor[1], box.bottom), box.top)), anchor)
    return round(hard, 3), sum(overlap(box, other) for other in taken) + 2 * near + 0.1 * distance


def _grown(box: Box) -> Box:
    return Box(box.left - _APART, box.bottom - _APART, box.right + _APART, box.top + _APART)


def overlap(one: Box, other: Box) -> float:
    """The area that both cover."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.top, other.top) - max(one.bottom, other.bottom)
    return max(width, 0.0) * max(height, 0.0)
