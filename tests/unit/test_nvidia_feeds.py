"""Which optimization profile takes which arrays."""

import numpy as np
import pytest

from workbench.backends.nvidia_feeds import fit
from workbench.errors import FeedError
from workbench.profiles import parse_profiles
from workbench.types import TensorSpec

IMAGE = (TensorSpec("image", "float32", ("batch", 3, "height", "width")),)
SMALL, LARGE = "image:1x3x32x32,1x3x64x64,4x3x64x64", "image:1x3x64x64,8x3x640x640,8x3x640x640"


def image(*shape: int) -> dict[str, np.ndarray]:
    return {"image": np.zeros(shape, np.float32)}


def test_without_profiles_there_is_one_and_shapes_are_those_of_the_arrays() -> None:
    spec = (TensorSpec("x", "float32", (2, 4)),)
    fitted = fit(spec, (), {"x": np.zeros((2, 4), np.float32)}, ())
    assert (fitted.profile, fitted.shapes, fitted.values) == (0, {"x": (2, 4)}, {})


@pytest.mark.parametrize(
    ("shape", "profile"), [((1, 3, 32, 48), 0), ((1, 3, 64, 64), 0), ((2, 3, 64, 65), 1), ((8, 3, 64, 64), 1)]
)
def test_the_profile_tuned_nearest_to_the_shape_is_taken(shape: tuple[int, ...], profile: int) -> None:
    assert fit(IMAGE, parse_profiles([SMALL, LARGE]), image(*shape), ()).profile == profile


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((9, 3, 640, 640), r"input image, dimension 0: 9 is outside of 1 to 8, .* \(optimization profile 2 of 2"),
        ((1, 3, 31, 64), r"dimension 2: 31 is outside of 32 to 64, .* \(optimization profile 1 of 2"),
        ((1, 3, 64, 700), r"dimension 3: 700 is outside"),
        ((1, 4, 64, 64), r"dimension 1: it must be 3"),
    ],
)
def test_a_shape_that_no_profile_takes_is_told_with_its_dimension(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(FeedError, match=words):
        fit(IMAGE, parse_profiles([SMALL, LARGE]), image(*shape), ())


def test_dimensions_of_one_name_are_equal() -> None:
    specs = (TensorSpec("a", "int64", ("batch", "words")), TensorSpec("b", "int64", ("batch", 4)))
    feeds = {"a": np.zeros((2, 7), np.int64), "b": np.zeros((3, 4), np.int64)}
    with pytest.raises(FeedError, match="dimension batch is 2 in input a and 3 in input b"):
        fit(specs, (), feeds, ())


def test_content_that_sizes_are_computed_from_counts_and_makes_another_key() -> None:
    specs = (TensorSpec("x", "float32", (1, "n")), TensorSpec("size", "int64", (2,)))
    profiles = parse_profiles(["x:1x1,1x4,1x8", "size:[1x1],[3x4],[6x8]"])
    feeds = {"x": np.zeros((1, 4), np.float32), "size": np.array([3, 4])}
    first = fit(specs, profiles, feeds, ("size",))
    other = fit(specs, profiles, {**feeds, "size": np.array([6, 4])}, ("size",))
    assert first.key != other.key and first.key == fit(specs, profiles, feeds, ("size",)).key
    with pytest.raises(FeedError, match="input size, value 1: 9 is outside of 1 to 8"):
        fit(specs, profiles, {**feeds, "size": np.array([3, 9])}, ("size",))
