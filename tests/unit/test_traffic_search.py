"""Points parted into groups: exactly where that is promised, near the best elsewhere."""

from collections.abc import Iterator

import numpy as np
import pytest

from workbench.traffic.exact import Points
from workbench.traffic.search import part


def partings(count: int, most: int) -> Iterator[list[int]]:
    """Every way to part so many points into at most `most` groups, as labels."""

    def longer(labels: list[int]) -> Iterator[list[int]]:
        if len(labels) == count:
            yield labels
            return
        for label in range(min(max(labels, default=-1) + 2, most)):
            yield from longer([*labels, label])

    return longer([])


def volumes(corners: np.ndarray) -> np.ndarray:
    return corners.astype(np.float64).prod(1)


def least(points: Points, most: int) -> float:
    return min(points.total(np.array(labels)) for labels in partings(len(points.sizes), most))


def random_points(seed: int, axes: int, at_most: int = 7) -> Points:
    choose = np.random.default_rng(seed)
    largest = int(choose.choice([4, 40, 400]))
    sizes = np.unique(choose.integers(1, largest, (int(choose.integers(2, at_most + 1)), axes)), axis=0)
    weights = choose.integers(1, int(choose.choice([2, 20, 1000])), len(sizes)).astype(np.float64)
    return Points(sizes, weights, volumes)


@pytest.mark.parametrize("seed", range(12))
def test_a_chain_is_parted_as_well_as_can_be(seed: int) -> None:
    points = random_points(seed, axes=1)
    chain = Points(np.repeat(points.sizes, 2, 1), points.weights, volumes)
    found, is_best = part(chain, 4, few=0)
    assert is_best
    assert len(found) == min(4, len(points.sizes))
    assert [chain.total(labels) for labels in found] == pytest.approx([least(chain, k + 1) for k in range(len(found))])


@pytest.mark.parametrize("seed", range(12))
def test_a_chain_is_parted_exactly_also_where_larger_requests_take_less_time(seed: int) -> None:
    choose = np.random.default_rng(seed)
    times = choose.uniform(1, 9, 8)
    chain = Points(np.arange(1, 8)[:, None], choose.integers(1, 9, 7).astype(float), lambda top: times[top[:, 0]])
    found, _ = part(chain, 4)
    for labels in found:
        assert chain.total(labels) == pytest.approx(least(chain, int(labels.max()) + 1))
    assert chain.total(found[-1]) == pytest.approx(least(chain, 4))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("axes", [2, 3])
def test_few_requests_are_parted_as_well_as_can_be(seed: int, axes: int) -> None:
    points = random_points(seed, axes)
    found, is_best = part(points, 3)
    assert is_best
    assert [points.total(labels) for labels in found] == pytest.approx(
        [least(points, k + 1) for k in range(min(3, len(points.sizes)))]
    )


def test_the_search_is_never_far_from_the_best_and_mostly_there() -> None:
    """few=0: searched although there are few enough to try all."""
    ratios = []
    for seed in range(60):
        points = random_points(seed, axes=2, at_most=10)
        exact, searched = (part(points, 4, few=few)[0] for few in (12, 0))
        assert len(exact) == len(searched)
        ratios += [points.total(b) / points.total(a) for a, b in zip(exact, searched, strict=True)]
    assert min(ratios) >= 1 - 1e-9
    assert max(ratios) <= 1.25
    assert np.mean(np.array(ratios) < 1 + 1e-9) > 0.95


def test_every_further_group_saves_something_and_every_point_has_one() -> None:
    choose = np.random.default_rng(3)
    points = Points(np.unique(choose.integers(1, 300, (300, 2)), axis=0), np.ones(300), volumes)
    found, is_best = part(points, 6)
    totals = [points.total(labels) for labels in found]
    assert not is_best
    assert [len(np.unique(labels)) for labels in found] == [1, 2, 3, 4, 5, 6]
    assert totals == sorted(set(totals), reverse=True)
    assert totals[1] < 0.8 * totals[0]


def test_more_shapes_than_are_searched_one_by_one_are_merged_first() -> None:
    choose = np.random.default_rng(4)
    sizes = np.unique(choose.integers(1, 1000, (6000, 2)), axis=0)
    points = Points(sizes, choose.integers(1, 50, len(sizes)).astype(float), volumes)
    found, _ = part(points, 2)
    assert points.total(found[1]) < 0.8 * points.total(found[0])


@pytest.mark.parametrize("axes", [2, 9])
def test_equal_traffic_gives_equal_groups(axes: int) -> None:
    points = random_points(5, axes, at_most=40)
    first, second = (part(points, 4, few=0)[0] for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_where_every_size_costs_the_same_one_group_is_all() -> None:
    choose = np.random.default_rng(6)
    sizes = np.unique(choose.integers(1, 99, (40, 2)), axis=0)
    found, _ = part(Points(sizes, np.ones(len(sizes)), lambda corners: np.full(len(corners), 2.0)), 4)
    assert len(found) == 1
