"""Profiles for traffic: such that the model takes them, with what each number of them saves."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import ConfigError, ShapeError
from workbench.profiles import check_profile, parse_profiles
from workbench.traffic.cost import interpolated, volume
from workbench.traffic.proposing import Proposal, advice, advised, proposals_table, propose
from workbench.traffic.requests import Traffic
from workbench.types import Shape, ShapeRange, TensorSpec

TOKENS = TensorSpec("ids", "int64", (1, "length"))
IMAGE = TensorSpec("x", "float32", ("batch", 3, None, None))
MASK = TensorSpec("mask", "int64", ("batch", "length"))
PAIR = (TensorSpec("ids", "int64", ("batch", "length")), MASK)


def tokens(lengths: Mapping[int, int]) -> Traffic:
    """From count by length."""
    return Traffic.from_shapes([{"ids": (1, length)} for length in lengths], [TOKENS], lengths.values())


def images(sizes: Mapping[tuple[int, int, int], int]) -> Traffic:
    """From count by batch, height and width."""
    return Traffic.from_shapes([{"x": (n, 3, h, w)} for n, h, w in sizes], [IMAGE], sizes.values())


# ---- proposals


def test_profiles_span_their_requests_and_are_tuned_for_the_most_frequent() -> None:
    one, two = propose(tokens({10: 5, 20: 90, 30: 5, 500: 40, 512: 40}), [TOKENS], 2)
    assert [item.ranges["ids"] for item in one.profiles] == [ShapeRange((1, 10), (1, 20), (1, 512))]
    assert [item.ranges["ids"] for item in two.profiles] == [
        ShapeRange((1, 10), (1, 20), (1, 30)),
        ShapeRange((1, 500), (1, 512), (1, 512)),  # of two that are equally frequent the larger
    ]


def test_the_gain_is_what_is_not_computed_any_more() -> None:
    one, two = propose(tokens({100: 3, 400: 1}), [TOKENS], 4)
    assert (one.computed_elements, two.computed_elements) == (1600, 700)
    assert one.padding == pytest.approx(1 - 700 / 1600)
    assert (two.padding, one.gain) == (0, 0)
    assert two.gain == pytest.approx(1 - 700 / 1600)
    assert two.shares == (0.75, 0.25)
    assert str(two) == "2 profiles: 0% padding, 56% fewer elements than with one"


def test_there_are_no_more_profiles_than_shapes_and_no_more_than_asked_for() -> None:
    traffic = tokens(dict.fromkeys(range(1, 6), 1))
    assert [len(item.served) for item in propose(traffic, [TOKENS], 9)] == [1, 2, 3, 4, 5]
    assert [len(item.served) for item in propose(traffic, [TOKENS], 2)] == [1, 2]


def test_tall_and_wide_pictures_part() -> None:
    """Their common maximum is larger than either."""
    proposals = propose(
        images({(1, 1280, 320): 5, (1, 1248, 320): 5, (1, 320, 1280): 5, (1, 320, 1216): 1}), [IMAGE], 2
    )
    assert [item.ranges["x"].max for item in proposals[1].profiles] == [(1, 3, 320, 1280), (1, 3, 1280, 320)]
    assert proposals[1].gain == pytest.approx(0.75)


def test_shared_dimensions_stay_shared_and_fixed_inputs_stay_away() -> None:
    shapes = [{"ids": (n, size), "mask": (n, size)} for n, size in ((1, 9), (8, 7), (4, 100), (2, 128))]
    inputs = (*PAIR, TensorSpec("scale", "float32", (4,)))
    for proposal in propose(Traffic.from_shapes(shapes, inputs), inputs, 3):
        for profile in proposal.profiles:
            check_profile(inputs, profile)
            assert profile.ranges["ids"] == profile.ranges["mask"]
        assert parse_profiles(text.removeprefix("--shapes=") for text in proposal.options.split()) == proposal.profiles


side = st.integers(1, 2000)


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(st.tuples(st.integers(1, 8), side, side), st.integers(1, 999), min_size=1, max_size=9))
def test_whatever_is_asked_for_is_covered_by_profiles_that_the_model_takes(
    sizes: dict[tuple[int, int, int], int],
) -> None:
    proposals = propose(images(sizes), [IMAGE], 3)
    asked = sum(count * n * 3 * h * w for (n, h, w), count in sizes.items())
    for number, proposal in enumerate(proposals, 1):
        assert (len(proposal.served), proposal.requests) == (number, sum(sizes.values()))
        assert sum(item.asked_elements for item in proposal.served) == asked
        assert sum(proposal.shares) == pytest.approx(1)
        for profile in proposal.profiles:
            check_profile([IMAGE], profile)
        for n, h, w in sizes:
            assert any(_takes(profile.ranges["x"], (n, 3, h, w)) for profile in proposal.profiles)
    gains = [item.gain for item in proposals]
    assert gains == sorted(set(gains))


def _takes(item: ShapeRange, shape: Shape) -> bool:
    return all(low <= size <= high for low, size, high in zip(item.min, shape, item.max, strict=True))


def test_latency_is_what_the_cost_says() -> None:
    asked: list[Mapping[str, Shape]] = []

    def cost(shapes: Mapping[str, Shape]) -> float:
        asked.append(shapes)
        return 1 + volume(shapes) / 100

    one, two = propose(tokens({100: 3, 400: 1}), [TOKENS], 2, "latency", cost)
    assert (one.latency_ms, two.latency_ms) == pytest.approx((5.0, 2.75))
    assert two.gain == pytest.approx(0.45)
    assert set(map(str, asked)) == {"{'ids': (1, 100)}", "{'ids': (1, 400)}"}
    assert str(two) == "2 profiles: 0% padding, 2.75 ms a request, 45% less time than with one"


def test_the_goals_differ_where_small_requests_take_no_less_time() -> None:
    """Below 1,000 elements everything takes 2 ms."""
    traffic = images({(1, 1, 10): 50, (1, 10, 1): 50, (1, 20, 15): 50, (1, 30, 40): 20, (1, 40, 50): 20})
    cost = interpolated([(1000, 2.0), (6000, 8.0)])
    by_padding = propose(traffic, [IMAGE], 3, "padding", cost)[-1]
    by_latency = propose(traffic, [IMAGE], 3, "latency", cost)[-1]
    assert by_latency.latency_ms is not None
    assert by_padding.latency_ms is not None
    assert by_latency.latency_ms < by_padding.latency_ms
    assert by_latency.computed_elements > by_padding.computed_elements


def test_an_interpolated_cost_and_a_function_of_the_same_values_agree() -> None:
    choose = np.random.default_rng(8)
    traffic = images({tuple(item): 1 for item in choose.integers(1, 60, (30, 3)).tolist()})
    cost = interpolated([(1000, 2.0), (100_000, 8.0)])
    assert propose(traffic, [IMAGE], 3, "latency", cost) == propose(traffic, [IMAGE], 3, "latency", lambda s: cost(s))


def test_sizes_whose_product_no_integer_type_holds_are_counted_all_the_same() -> None:
    cube = TensorSpec("v", "float32", (None,) * 6)
    top = 2**31 - 1
    traffic = Traffic.from_shapes([{"v": (top,) * 6}, {"v": (1,) * 6}, {"v": (top,) + (1,) * 5}], [cube])
    proposals = propose(traffic, [cube], 3)
    assert proposals[0].computed_elements == 3 * top**6
    assert proposals[-1].padding == 0


MISTAKES = {
    "none": ({"most": 0}, "ask for 1 or more"),
    "goal": ({"goal": "speed"}, "choose one of padding, latency"),
    "no cost": ({"goal": "latency"}, "needs a cost"),
    "no time": ({"goal": "latency", "cost": lambda shapes: float("nan")}, "a time is finite and above 0"),
}


@pytest.mark.parametrize(("options", "words"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_told(options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        propose(tokens({1: 1, 2: 1}), [TOKENS], **options)


def test_traffic_of_another_model_is_refused() -> None:
    with pytest.raises(ShapeError, match="no input ids"):
        propose(tokens({1: 1}), [IMAGE])


# ---- words


def told(lengths: Mapping[int, int], most: int) -> tuple[str, tuple[Proposal, ...]]:
    proposals = propose(tokens(lengths), [TOKENS], most)
    return advice(proposals), proposals


def test_it_is_said_after_how_many_profiles_more_stop_paying() -> None:
    text, proposals = told({100: 500, 101: 50, 1000: 100, 1001: 1}, 4)
    assert text == "2 profiles compute 76% fewer elements than one; a third saves 0.1% more."
    assert advised(proposals) is proposals[1]


def test_it_is_said_where_all_pay_and_where_none_does() -> None:
    assert told({100: 1, 200: 1, 400: 1}, 2)[0].endswith("the second alone 33%; still more may pay.")
    assert told({100: 1, 200: 1}, 4)[0].endswith("no request is padded any more.")
    assert told({1000: 1, 1001: 1}, 2)[0] == "One profile will do: a second saves under 0.1%."
    assert told({100: 3}, 3)[0] == "All requests have one shape."
    assert told({100: 3, 200: 1}, 1)[0] == "No more than one profile was asked for, or more save nothing."


def test_the_table_has_a_row_for_every_profile() -> None:
    proposals = propose(tokens({100: 3, 400: 1}), [TOKENS], 2, "padding", interpolated([(100, 1.0)]))
    assert proposals_table(proposals).rows == (
        ("1", "-", "56%", "4", "100%", "56%", "ids:1x100,1x100,1x400"),
        ("2", "56%", "0%", "1.75", "75%", "0%", "ids:1x100"),
        ("", "", "", "", "25%", "0%", "ids:1x400"),
    )
