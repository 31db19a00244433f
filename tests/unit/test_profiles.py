"""Optimization profiles: text, proposals, and problems in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import OCR_CLS

from workbench import default_profile, load_model, parse_shapes
from workbench.errors import ShapeError
from workbench.profiles import (
    check_profile,
    format_shapes,
    open_dimensions,
    opt_shapes,
    opt_values,
    parse_profiles,
    profile_of,
    profile_problems,
)
from workbench.types import OptimizationProfile, ShapeRange, TensorSpec, profile_from_json, profile_to_json

IMAGE = TensorSpec("image", "float32", ("batch", 3, "height", "width"))
MASK = TensorSpec("mask", "float32", ("batch", 1))
TOKENS = TensorSpec("tokens", "int64", (None, None))
FIXED = TensorSpec("fixed", "float32", (1, 8))
GOOD = "image:1x3x64x64,4x3x224x224,8x3x640x640"

shapes = st.lists(st.integers(1, 10**6), max_size=6).map(tuple)
ranges = st.builds(ShapeRange, shapes, shapes, shapes)
contents = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6).map(tuple)
profiles = st.builds(
    OptimizationProfile,
    st.dictionaries(st.text(min_size=1), ranges),
    st.dictionaries(st.text(min_size=1), st.builds(ShapeRange, contents, contents, contents)),
)


def problems(*texts: str, inputs: tuple[TensorSpec, ...] = (IMAGE,)) -> list[str]:
    return [item.text for item in profile_problems(inputs, parse_shapes(texts))]


# ---- text


@given(profiles)
def test_what_is_formatted_parses_to_the_same(profile: OptimizationProfile) -> None:
    assert parse_shapes(format_shapes(profile)) == profile


@given(profiles)
def test_profiles_survive_json(profile: OptimizationProfile) -> None:
    assert profile_from_json(profile_to_json(profile)) == profile


def test_three_shapes_are_min_opt_max() -> None:
    assert parse_shapes([GOOD]).ranges == {"image": ShapeRange((1, 3, 64, 64), (4, 3, 224, 224), (8, 3, 640, 640))}


def test_one_shape_stands_for_all_three() -> None:
    assert parse_shapes(["x:1x8"]).ranges["x"] == ShapeRange((1, 8), (1, 8), (1, 8))


def test_the_last_colon_ends_the_name() -> None:
    assert list(parse_shapes(["serving_default:x:0:1x8"]).ranges) == ["serving_default:x:0"]


@pytest.mark.parametrize(
    "text", ["", "x", "x:", ":1x8", "1x8", "x:1x8,2x8", "x:1x8,2x8,4x8,8x8", "x:axb", "x:1x", "x:1.5"]
)
def test_text_that_is_no_profile_is_quoted(text: str) -> None:
    with pytest.raises(ShapeError) as error:
        parse_shapes([text])
    assert repr(text) in str(error.value)


def test_an_input_given_twice_is_refused() -> None:
    with pytest.raises(ShapeError, match="input x is given twice"):
        parse_shapes(["x:1x8", "x:2x8"])


SIZE = TensorSpec("size", "int64", (2,))


def test_brackets_hold_the_content_of_an_input_and_its_shape_may_stand_beside() -> None:
    profile = parse_shapes(["size:[64x64],[320x320],[640x640]", "size:2", "scale:[3]"])
    assert profile.values == {
        "size": ShapeRange((64, 64), (320, 320), (640, 640)),
        "scale": ShapeRange((3,), (3,), (3,)),
    }
    assert profile.ranges == {"size": ShapeRange((2,), (2,), (2,))}


@pytest.mark.parametrize("text", ["x:[", "x:[1x]", "x:[1],[2]", "x:[1,2,3]", "x:[axb]", "x:[1],2,3"])
def test_brackets_that_hold_no_content_are_quoted(text: str) -> None:
    with pytest.raises(ShapeError) as error:
        parse_shapes([text])
    assert repr(text) in str(error.value)


def test_a_content_given_again_starts_the_next_profile_and_one_beside_a_shape_does_not() -> None:
    first, second = parse_profiles(["x:1x3", "size:2", "size:[1x2]", "size:[3x4]"])
    assert (first.ranges.keys(), first.values["size"].opt) == ({"x", "size"}, (1, 2))
    assert (second.ranges.keys(), second.values["size"].opt) == (set(), (3, 4))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("other:[1x2]", "the model has no input other; its inputs are image, size"),
        ("size:[1x2x3]", "size: int64[2] holds 2 values; min, opt and max of its content have 3"),
        ("size:[1],[1x2],[1x2]", "size: int64[2] holds 2 values; min, opt and max of its content have 1 or 2"),
        ("size:[64x64],[32x640],[640x640]", "value 0 of its content goes from 64 over 32 to 640; it must not fall"),
        ("image:[1]", "image: float32[batch, 3, height, width] holds no sizes"),
    ],
)
def test_each_problem_of_a_content_is_told_in_words(text: str, says: str) -> None:
    (problem,) = problems(GOOD, text, inputs=(IMAGE, SIZE))
    assert problem.startswith(says)


def test_a_content_that_fits_has_no_problems_whether_the_length_is_fixed_or_open() -> None:
    assert problems("size:[64x64],[320x320],[640x640]", inputs=(SIZE,)) == []
    open_size = TensorSpec("size", "int64", ("n",))
    assert problems("size:3", "size:[1x2x3]", inputs=(open_size,)) == []


def test_the_content_to_run_with_is_the_first_profiles_opt() -> None:
    given_profiles = parse_profiles(["size:[1x2],[3x4],[5x6]", "size:[7x8]"])
    assert opt_values(given_profiles) == {"size": (3, 4)}
    assert opt_values(()) == {}
    assert opt_shapes((SIZE,), given_profiles) == {"size": (2,)}


# ---- open dimensions and proposals


def test_equal_names_are_one_dimension_and_nameless_ones_are_each_their_own() -> None:
    found = {item.key: item.places for item in open_dimensions((IMAGE, MASK, TOKENS))}
    assert found == {
        "batch": (("image", 0), ("mask", 0)),
        "height": (("image", 2),),
        "width": (("image", 3),),
        "tokens:0": (("tokens", 0),),
        "tokens:1": (("tokens", 1),),
    }


def test_bounds_by_dimension_make_a_profile_of_the_open_inputs() -> None:
    bounds = {"batch": (1, 2, 4), "height": (32, 64, 96), "width": (8, 8, 8)}
    assert profile_of((IMAGE, MASK, FIXED), bounds).ranges == {
        "image": ShapeRange((1, 3, 32, 8), (2, 3, 64, 8), (4, 3, 96, 8)),
        "mask": ShapeRange((1, 1), (2, 1), (4, 1)),
    }


def test_the_proposal_knows_pictures_and_sequences() -> None:
    assert default_profile((IMAGE, TOKENS, FIXED)).ranges == {
        "image": ShapeRange((1, 3, 1, 1), (1, 3, 640, 640), (8, 3, 1280, 1280)),
        "tokens": ShapeRange((1, 1), (1, 128), (8, 512)),
    }


@given(st.lists(st.sampled_from([IMAGE, MASK, TOKENS, FIXED]), unique=True))
def test_the_proposal_always_fits(inputs: list[TensorSpec]) -> None:
    assert profile_problems(inputs, default_profile(inputs)) == ()


def test_shapes_to_run_with_are_the_profiles_opt_or_the_proposals() -> None:
    given_shapes = opt_shapes((IMAGE, TOKENS, FIXED), (parse_shapes([GOOD]),))
    assert given_shapes == {"image": (4, 3, 224, 224), "tokens": (1, 128), "fixed": (1, 8)}


# ---- problems


def test_a_profile_that_fits_has_no_problems() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image:0x3x64x64,4x3x64x64,8x3x64x64", "min is 0; a size is at least 1"),
        ("image:5x3x64x64,4x3x64x64,8x3x64x64", "min 5 is larger than opt 4"),
        ("image:1x3x64x64,9x3x64x64,8x3x64x64", "opt 9 is larger than max 8"),
        ("image:1x3x64x64,1x4x64x64,1x3x64x64", "the model fixes it to 3; 4 does not fit"),
        ("image:1x3x64", "image: float32[batch, 3, height, width] has 4 dimensions, not 3"),
        ("image:1,1x3x64x64,1x3x64x64", "image: float32[batch, 3, height, width] has 4 dimensions, not 1 or 4"),
    ],
)
def test_each_problem_is_told_in_words(text: str, says: str) -> None:
    assert problems(text) == [says]


def test_an_unknown_input_is_told_with_the_known_ones() -> None:
    assert problems("picture:1x8", GOOD) == ["the model has no input picture; its inputs are image"]


def test_an_open_input_without_a_range_is_a_problem_and_a_fixed_one_is_not() -> None:
    assert problems(inputs=(TOKENS, FIXED)) == ["tokens: int64[?, ?] has open dimensions: give min, opt and max"]


def test_a_name_shared_by_two_inputs_needs_one_range() -> None:
    (text,) = problems(GOOD, "mask:1x1,2x1,8x1", inputs=(IMAGE, MASK))
    assert text.startswith(
        "it is called 'batch' like dimension 0 of image, so both need the same range (1, 4, 8 there, 1, 2, 8 here)"
    )


def test_the_trap_of_two_axes_called_question_mark_is_explained() -> None:
    inputs = load_model(OCR_CLS).inputs
    (problem,) = profile_problems(inputs, parse_shapes(["x:1x3x48x192"]))
    assert (problem.input, problem.axis) == ("x", 3)
    assert "called '?' like dimension 2 of x" in problem.text
    assert problem.text.endswith("rename one: --dim x:3=another")


def test_the_first_problem_is_raised_and_the_others_counted() -> None:
    with pytest.raises(ShapeError, match=r"profile of input image, dimension 0: min is 0.* \(and 2 more problems\)"):
        check_profile((IMAGE,), parse_shapes(["image:0x3x0x0,1x3x1x1,1x3x1x1"]))


def test_an_input_given_again_starts_the_next_profile() -> None:
    first, second = parse_profiles(["x:1x3", "ids:1", "x:2x3", "ids:2"])
    assert (first.ranges["x"].opt, first.ranges["ids"].opt) == ((1, 3), (1,))
    assert (second.ranges["x"].opt, second.ranges["ids"].opt) == ((2, 3), (2,))
    assert parse_profiles([]) == ()
