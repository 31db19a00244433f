"""A picture becomes an input: sizes, crops, borders, channels and values, each against numbers known beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.errors import ConfigError, FeedError
from workbench.preprocessing import Preprocessing, apply

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
    ],
)
def test_settings_that_contradict_each_other_are_refused(how: Preprocessing, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        apply(how, columns(4, 4))
