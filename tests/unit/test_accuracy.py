"""How far outputs lie apart, by numbers one can check by hand."""

import numpy as np
import pytest

from workbench.accuracy import Difference, Interval, compare_outputs, percentage, percentage_lost
from workbench.errors import FeedError


def difference(reference: object, other: object) -> Difference:
    (result,) = compare_outputs({"y": np.array(reference, np.float32)}, {"y": np.array(other, np.float32)})
    return result


def test_equal_outputs_do_not_differ() -> None:
    assert difference([[1, 2], [4, 3]], [[1, 2], [4, 3]]) == Difference("y", 0.0, 0.0, pytest.approx(1.0), 1.0)


def test_differences_are_absolute_relative_and_of_direction() -> None:
    result = difference([3, 4], [3, 9])
    assert (result.max_abs, result.relative) == (5.0, 1.0)
    assert result.cosine == pytest.approx(45 / (5 * np.sqrt(90)))


def test_agreement_is_the_share_of_rows_with_the_same_largest_value() -> None:
    assert difference([[1, 2], [4, 3], [0, 1], [1, 0]], [[1, 2], [3, 4], [0, 9], [9, 0]]).argmax_agreement == 0.75


@pytest.mark.parametrize("shape", [(), (3,), (3, 1)])
def test_outputs_without_classes_have_no_agreement(shape: tuple[int, ...]) -> None:
    assert difference(np.ones(shape), np.ones(shape)).argmax_agreement is None


def test_zeros_are_compared_without_dividing_by_them() -> None:
    assert difference([0, 0], [0, 0]) == Difference("y", 0.0, 0.0, 1.0, None)
    assert difference([0, 0], [0, 2]) == Difference("y", 2.0, float("inf"), 0.0, None)


def test_equal_infinities_beside_other_values_do_not_differ() -> None:
    inf = float("inf")
    assert difference([-inf, 1], [-inf, 1]) == difference([1], [1])
    assert difference([-inf, 1], [inf, 1]).max_abs == difference([inf], [inf]).max_abs == inf


def test_empty_outputs_are_equal_and_have_no_agreement(recwarn: pytest.WarningsRecorder) -> None:
    assert difference([], []).max_abs == 0.0
    assert difference(np.ones((0, 3)), np.ones((0, 3))) == Difference("y", 0.0, 0.0, 1.0, None)
    assert not recwarn.list


def test_differences_are_taken_in_double_precision() -> None:
    half = np.array([60000, 60000], np.float16)
    (result,) = compare_outputs({"y": half}, {"y": -half})
    assert (result.max_abs, result.relative) == (120000.0, 2.0)


def test_integers_do_not_wrap_around() -> None:
    (result,) = compare_outputs({"y": np.array([0], np.uint8)}, {"y": np.array([1], np.uint8)})
    assert result.max_abs == 1.0


def test_outputs_are_matched_by_name_and_shape() -> None:
    one = np.ones(2, np.float32)
    with pytest.raises(FeedError, match=r"\['a'\] and \['b'\]"):
        compare_outputs({"a": one}, {"b": one})
    with pytest.raises(FeedError, match=r"output a has the shapes \(2,\) and \(1, 2\)"):
        compare_outputs({"a": one}, {"a": one[None]})


def rounded(interval: Interval) -> tuple[float, float, float]:
    return round(interval.value, 2), round(interval.low, 2), round(interval.high, 2)


def test_the_interval_of_a_share_is_wilsons() -> None:
    """Among them two at the ends, where the usual interval, share +- 1.96 deviations, has no width at all."""
    assert rounded(percentage(81, 263)) == (30.80, 25.53, 36.62)
    assert rounded(percentage(15, 148)) == (10.14, 6.24, 16.05)
    assert rounded(percentage(0, 20)) == (0.0, 0.0, 16.11)
    assert rounded(percentage(1, 29)) == (3.45, 0.61, 17.18)


def test_the_interval_of_a_loss_is_newcombes_for_pairs() -> None:
    """Where all pictures are right both times, Wilson's interval of one share is what remains."""
    assert rounded(percentage_lost(12, 2, 36, 50)) == (20.0, 5.69, 34.04)
    assert rounded(percentage_lost(0, 0, 54, 54)) == (0.0, -6.64, 6.64)
    assert rounded(percentage(54, 54))[1] == 100 - 6.64


def test_the_interval_of_a_loss_covers_the_true_one_about_95_times_in_100() -> None:
    """800 pictures, of which 96 % are right both times, 2 % only before and 1 % only after."""
    drawn = np.random.default_rng(3).multinomial(800, [0.02, 0.01, 0.96, 0.01], 1000)
    intervals = [percentage_lost(int(lost), int(gained), int(both), 800) for lost, gained, both, _ in drawn]
    assert 930 <= sum(item.low <= 1.0 <= item.high for item in intervals) <= 985


def test_a_gain_is_a_negative_loss() -> None:
    lost, gained = percentage_lost(12, 2, 36, 50), percentage_lost(2, 12, 36, 50)
    assert rounded(gained) == (-rounded(lost)[0], -rounded(lost)[2], -rounded(lost)[1])
