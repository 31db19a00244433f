"""The layout of GraphView, in the browser that it runs in: what reads well is measured."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from workbench.picture.page import program

pytestmark = pytest.mark.browser


@pytest.fixture
def layout(browser: Browser) -> Iterator[Any]:
    """Lays out boxes of 90 x 36: layout(count, edges, parents, frames)."""
    page = browser.new_page()

    def run(count: int, edges: list[Any], parents: Any = None, frames: Any = ()) -> dict[str, Any]:
        request = {
            "width": [90] * count, "height": [36] * count, "parent": parents or [-1] * count,
            "frames": [{"parent": parent, "width": 60} for parent in frames], "edges": edges,
        }  # fmt: skip
        return page.evaluate(
            f"request => {{ const {{ lines, ...found }} = ({program()})().layoutGraph(request);"
            " return { ...found, x: [...found.x], y: [...found.y], ms: 0 }; }",
            request,
        )

    yield run
    page.close()


def random_edges(count: int, seed: int) -> list[list[int]]:
    chance = random.Random(seed)
    pairs = {
        (max(0, target - 1 - int(30 * chance.random() ** 3)), target) for target in range(1, count) for _ in range(2)
    }
    return [list(pair) for pair in sorted(pairs)]


def overlapping(found: dict[str, Any]) -> list[tuple[int, int]]:
    places = sorted(range(len(found["x"])), key=lambda place: found["y"][place])
    return [
        (a, b)
        for index, a in enumerate(places)
        for b in places[index + 1 : index + 60]
        if found["y"][b] < found["y"][a] + 36 and abs(found["x"][a] - found["x"][b]) < 90
    ]


def test_boxes_do_not_overlap_and_arrows_point_down(layout: Any) -> None:
    for seed in range(4):
        edges = random_edges(300, seed)
        found = layout(300, edges)
        assert overlapping(found) == []
        assert all(found["y"][target] > found["y"][source] + 36 for source, target in edges)


def test_the_same_graph_is_laid_out_the_same(layout: Any) -> None:
    edges = random_edges(200, 7)
    assert layout(200, edges) == layout(200, edges)


def test_a_long_network_does_not_drift_sideways(layout: Any) -> None:
    """Residual blocks of a Conv, a Relu, an Add and a Sigmoid: a straight spine with the skips beside it."""
    edges = [[place, place + 1] for place in range(3999)] + [[place - 2, place] for place in range(2, 4000, 4)]
    found = layout(4000, edges)
    assert len(set(found["x"])) == 1
    assert found["width"] < 150


def test_a_wide_block_stands_around_its_middle(layout: Any) -> None:
    """Five branches between a fork and a join, ten times over, as in Inception."""
    edges, top = [], 0
    for _ in range(10):
        edges += [[top, top + branch] for branch in range(1, 6)] + [[top + branch, top + 6] for branch in range(1, 6)]
        top += 6
    found = layout(top + 1, edges)
    spine = [found["x"][place] for place in range(0, top + 1, 6)]
    assert max(spine) - min(spine) < 1
    assert overlapping(found) == []


def test_arrows_do_not_cross_where_they_need_not(layout: Any) -> None:
    """Two chains side by side whose nodes come in turns."""
    edges = [[place, place + 2] for place in range(98)] + [[98, 99]]
    found = layout(100, edges)
    assert len({found["x"][place] for place in range(0, 98, 2)}) == 1
    assert len({found["x"][place] for place in range(1, 98, 2)}) == 1


def test_open_folders_hold_their_boxes_and_nothing_else(layout: Any) -> None:
    edges = [[0, 1], [1, 2], [2, 3], [0, 3], [3, 4], [4, 5], [5, 6], [3, 6], [0, 7], [7, 6]]
    found = layout(8, edges, [-1, 0, 0, 0, 1, 1, -1, -1], [-1, -1])
    for frame, inside in zip(found["frames"], ({1, 2, 3}, {4, 5}), strict=True):
        for place in range(8):
            x, y = found["x"][place], found["y"][place]
            is_in = frame["x"] < x < frame["x"] + frame["width"] and frame["y"] < y < frame["y"] + frame["height"]
            assert is_in == (place in inside), place
    assert all(found["y"][target] > found["y"][source] for source, target in edges)


def test_cycles_of_folded_folders_are_drawn(layout: Any) -> None:
    found = layout(4, [[0, 1], [1, 2], [2, 1], [2, 3]])
    assert overlapping(found) == []
    assert [end[2] for end in found["ends"]].count(-1) == 1  # the head of one arrow points up


def test_a_folder_that_is_left_and_entered_again_gets_no_frame(layout: Any) -> None:
    found = layout(4, [[0, 1], [1, 2], [2, 3]], [0, -1, 0, -1], [-1])
    assert found["frames"] == [None]
    assert found["y"] == sorted(found["y"])


def test_boxes_without_arrows_stand_in_rows(layout: Any) -> None:
    found = layout(60, [])
    assert overlapping(found) == []
    assert 0.4 < found["width"] / found["height"] < 4
    assert [(y, x) for x, y in zip(found["x"], found["y"], strict=True)] == sorted(
        (y, x) for x, y in zip(found["x"], found["y"], strict=True)
    )
