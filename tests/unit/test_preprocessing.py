"""A picture becomes an input: sizes, crops, borders, channels and values, each against numbers known beforehand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.errors import ConfigError, FeedError
from workbench.preprocessing import (
    INTERPOLATIONS,
    Preprocessing,
    apply,
    describe,
    preprocessing_from_json,
    preprocessing_to_json,
)

PICTURES = Path(__file__).parents[2] / "data" / "pictures"
RAW = Preprocessing(resize="none", scale=1.0)


def columns(height: int, width: int) -> np.ndarray:
    """A picture whose pixels hold the number of their column in red, of their row in green, 7 in blue."""
    picture = np.full((height, width, 3), 7, np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(width), np.arange(height)[:, None]
    return picture


def test_pixels_keep_their_place_and_channels_come_first() -> None:
    result = apply(RAW, columns(4, 6))
    assert result.dtype == np.float32 and result.shape == (1, 3, 4, 6) and result.flags.c_contiguous
    assert result[0, 0, 2].tolist() == [0, 1, 2, 3, 4, 5]
    assert result[0, 1, :, 0].tolist() == [0, 1, 2, 3]


def test_nhwc_keeps_the_channels_last() -> None:
    assert apply(Preprocessing(resize="none", scale=1.0, layout="NHWC"), columns(4, 6))[0, 1, 5].tolist() == [5, 1, 7]


def test_values_are_scaled_before_mean_and_deviation() -> None:
    how = Preprocessing(resize="none", scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    white = np.full((1, 1, 3), 255, np.uint8)
    assert np.allclose(apply(how, white).ravel(), [2.2489, 2.4286, 2.6400], atol=1e-4)  # torchvision's well-known ends


def test_bgr_turns_the_channels_and_its_means_follow_that_order() -> None:
    how = Preprocessing(resize="none", scale=1.0, channels="BGR", mean=(7.0, 0.0, 0.0))
    assert apply(how, columns(2, 3))[0, :, 1, 2].tolist() == [0, 1, 2]


def test_gray_is_luma() -> None:
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    result = apply(Preprocessing(resize="none", scale=1.0, channels="GRAY"), red)
    assert result.shape == (1, 1, 2, 2)
    assert np.all(result == 76)  # 0.299 * 255


def test_stretching_ignores_the_ratio() -> None:
    assert apply(Preprocessing(size=(8, 20)), columns(10, 10)).shape == (1, 3, 8, 20)


def test_making_smaller_averages() -> None:
    chess = np.zeros((8, 8, 3), np.uint8)
    chess[::2, ::2] = chess[1::2, 1::2] = 200
    middle = apply(Preprocessing(size=(2, 2), scale=1.0), chess)
    assert np.all(np.abs(middle - 100) < 8)


def test_the_shorter_side_is_scaled_and_the_centre_cropped() -> None:
    how = Preprocessing(size=(100, 100), resize="shorter", resize_to=100, scale=1.0)
    result = apply(how, columns(100, 200))
    assert result.shape == (1, 3, 100, 100)
    assert (result[0, 0, 0, 0], result[0, 0, 0, -1]) == (50, 149)


def test_an_odd_pixel_is_cropped_at_the_right_and_bottom() -> None:
    how = Preprocessing(size=(4, 4), resize="shorter", resize_to=5, scale=1.0)
    result = apply(how, columns(5, 7))
    assert result[0, 0, 0].tolist() == [1, 2, 3, 4]
    assert result[0, 1, :, 0].tolist() == [0, 1, 2, 3]


def test_the_longer_side_is_rounded_to_the_nearest() -> None:
    how = Preprocessing(resize="shorter", resize_to=32)
    assert apply(how, columns(50, 77)).shape[2:] == (32, 49)  # 49.28
    assert apply(how, columns(64, 99)).shape[2:] == (32, 50)  # 49.5


def test_without_a_size_the_shorter_side_decides_and_nothing_is_cropped() -> None:
    assert apply(Preprocessing(resize="shorter", resize_to=64), columns(300, 150)).shape[2:] == (128, 64)


def test_a_crop_larger_than_the_picture_is_refused() -> None:
    with pytest.raises(FeedError, match="crop of 224x224 does not fit into 200x200"):
        apply(Preprocessing(size=(224, 224), resize="shorter", resize_to=200), columns(20, 20))


def test_a_letterbox_keeps_the_ratio_and_centres() -> None:
    how = Preprocessing(size=(20, 20), resize="letterbox", scale=1.0, pad=114)
    result = apply(how, np.full((5, 10, 3), 30, np.uint8))
    assert np.all(result[0, :, :5] == 114) and np.all(result[0, :, 15:] == 114)
    assert np.all(result[0, :, 5:15] == 30)


def test_a_letterbox_without_a_size_pads_to_the_next_multiple() -> None:
    result = apply(Preprocessing(resize="letterbox", multiple_of=32, scale=1.0), np.full((33, 64, 3), 9, np.uint8))
    assert result.shape[2:] == (64, 64)
    assert np.count_nonzero(result[0, 0] == 9) == 33 * 64


@pytest.mark.parametrize(("side", "rounded"), [(1, 32), (47, 32), (48, 64), (100, 96), (640, 640)])
def test_sides_go_to_the_nearest_multiple(side: int, rounded: int) -> None:
    assert apply(Preprocessing(resize="none", multiple_of=32), columns(side, 64)).shape[2:] == (rounded, 64)


def test_a_picture_of_another_size_is_refused_where_nothing_is_resized() -> None:
    with pytest.raises(FeedError, match="4x6, the network takes 8x8"):
        apply(Preprocessing(size=(8, 8), resize="none"), columns(4, 6))


def test_a_file_gives_what_its_pixels_give() -> None:
    path = PICTURES / "chelsea.jpg"
    how = Preprocessing(size=(64, 64))
    with Image.open(path) as image:
        assert np.array_equal(apply(how, path), apply(how, np.asarray(image)))


def test_a_gray_file_becomes_three_equal_channels() -> None:
    result = apply(RAW, str(PICTURES / "camera.jpg"))
    assert result.shape == (1, 3, 512, 512)
    assert np.array_equal(result[0, 0], result[0, 2])


def test_a_turned_photograph_is_set_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(columns(4, 6)).save(tmp_path / "turned.png", exif=exif)
    assert apply(RAW, tmp_path / "turned.png").shape[2:] == (6, 4)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.zeros((4, 4), np.uint8), "uint8 of the shape .4, 4."),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), "height, width, 3"),
        ("nowhere.png", "there is no such picture"),
        (Path(__file__), "not a picture"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(picture: np.ndarray | str | Path, words: str) -> None:
    with pytest.raises(FeedError, match=words):
        apply(RAW, picture)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (Preprocessing(resize="squeeze"), "no resize 'squeeze'; choose one of stretch"),
        (Preprocessing(channels="RGBA"), "no channels 'RGBA'"),
        (Preprocessing(layout="CHW"), "no layout 'CHW'"),
        (Preprocessing(size=(30, 32), multiple_of=32), "not multiples of 32"),
        (Preprocessing(channels="GRAY", mean=(0.1, 0.2, 0.3)), "3 values for 1 channels"),
        (Preprocessing(std=(1.0, 0.0, 1.0)), "divides by nothing"),
        (Preprocessing(scale=0.0), "a scale of 0 leaves nothing"),
        (Preprocessing(interpolation="cubic"), "no interpolation 'cubic'; choose one of bilinear"),
        (Preprocessing(placement="left"), "no placement 'left'; choose one of center, top-left"),
        (Preprocessing(resize="longer"), "give resize_to and no size"),
        (Preprocessing((8, 8), "at_most", resize_to=8), "sizes that follow the picture"),
        (Preprocessing(size=(0, 8)), "pixels from 1 on"),
        (Preprocessing(resize="shorter", resize_to=-1), "pixels from 1 on"),
        (Preprocessing(resize="letterbox", pad=256), "0 to 255, not 256"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(how: Preprocessing, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        apply(how, columns(4, 4))


@pytest.mark.parametrize(
    ("resize", "picture", "wanted"),
    [
        ("longer", (50, 200), (25, 100)),
        ("longer", (20, 10), (100, 50)),
        ("at_most", (50, 200), (25, 100)),
        ("at_most", (50, 80), (50, 80)),
        ("at_least", (50, 200), (100, 400)),
        ("at_least", (101, 200), (101, 200)),
    ],
)
def test_a_side_is_brought_to_its_limit(resize: str, picture: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert apply(Preprocessing(resize=resize, resize_to=100), columns(*picture)).shape[2:] == wanted


def test_a_limited_side_is_cut_to_whole_pixels_before_it_is_rounded_up() -> None:
    """640.6 pixels are 640, five times 128; rounded to 641 they would become 768."""
    how = Preprocessing(resize="longer", resize_to=960, multiple_of=128, round_up=True)
    assert apply(how, columns(427, 640)).shape[2:] == (640, 1024)  # 640.5


def test_a_very_flat_picture_keeps_one_pixel() -> None:
    assert apply(Preprocessing(resize="longer", resize_to=10), columns(1, 100)).shape[2:] == (1, 10)


def test_a_letterbox_may_have_the_picture_in_the_corner() -> None:
    how = Preprocessing(size=(20, 20), resize="letterbox", scale=1.0, pad=114, placement="top-left")
    result = apply(how, np.full((5, 10, 3), 30, np.uint8))
    assert np.all(result[0, :, :10] == 30) and np.all(result[0, :, 10:] == 114)


def test_interpolations_differ_as_their_names_say() -> None:
    ramp = np.zeros((1, 4, 3), np.uint8)
    ramp[0, :, :] = np.array([0, 0, 90, 200])[:, None]
    made = {name: apply(Preprocessing((1, 2), scale=1.0, interpolation=name), ramp)[0, 0, 0] for name in INTERPOLATIONS}
    assert made["area"].tolist() == [0, 145]  # means of two
    assert set(made["nearest"].tolist()) <= {0, 90, 200}
    assert len({tuple(values) for values in made.values()}) == len(INTERPOLATIONS)
    assert np.array_equal(made["bilinear"], apply(Preprocessing((1, 2), scale=1.0), ramp)[0, 0, 0])


@pytest.mark.parametrize(
    "how",
    [
        Preprocessing(),
        Preprocessing((480, 640), "letterbox", multiple_of=32, channels="BGR", pad=114, placement="top-left"),
        Preprocessing(None, "longer", 960, 128, round_up=True, interpolation="area", source="inference.yml"),
        Preprocessing((8, 8), "shorter", 9, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0), layout="NHWC"),
    ],
)
def test_a_preprocessing_comes_back_from_json(how: Preprocessing) -> None:
    assert preprocessing_from_json(json.loads(json.dumps(preprocessing_to_json(how)))) == how


def test_what_json_does_not_tell_has_its_default() -> None:
    assert preprocessing_from_json({"size": [4, 6]}) == Preprocessing((4, 6))


@pytest.mark.parametrize(
    "data",
    [
        {"colour": "RGB"},
        {"size": [4]},
        {"size": 4},
        {"size": ["a", "b"]},
        {"mean": None},
        {"std": [1, 2]},
        {"scale": "x"},
        {"scale": 10**400},
        {"resize": ["none"]},
        {"pad": "x"},
        {"multiple_of": None},
    ],
)
def test_json_that_is_no_preprocessing_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="preprocessing"):
        preprocessing_from_json(data)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e39])
@pytest.mark.parametrize("name", ["scale", "mean", "std"])
def test_numbers_that_float32_does_not_hold_are_refused(name: str, value: float) -> None:
    how = Preprocessing(**{name: value if name == "scale" else (1.0, value, 1.0)})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="are numbers, not infinite and not NaN"):
        apply(how, columns(4, 6))


@pytest.mark.parametrize("how", [Preprocessing(std=(1.0, 1e-60, 1.0)), Preprocessing(scale=1e-60)])
def test_what_is_0_as_float32_is_refused_as_0_is(how: Preprocessing) -> None:
    with pytest.raises(ConfigError, match="divides by nothing"):
        apply(how, columns(4, 6))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (Preprocessing((224, 224)), "RGB, stretched to 224x224, pixels / 255"),
        (Preprocessing(resize="none", scale=1.0, multiple_of=32), "RGB, sides to multiples of 32, pixels as they are"),
        (
            Preprocessing((4, 6), "shorter", 8, mean=(0.5,) * 3, std=(0.1, 0.2, 0.3)),
            "RGB, shorter side to 8, cropped to 4x6, pixels / 255, mean 0.5, deviation 0.1 0.2 0.3",
        ),
        (Preprocessing(resize="longer", resize_to=960), "RGB, longer side to 960, pixels / 255"),
    ],
)
def test_a_preprocessing_is_told_in_words(how: Preprocessing, words: str) -> None:
    assert describe(how) == words
