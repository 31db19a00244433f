"""From a picture to what a network was trained on: size, colour order, scale and normalisation, stated once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import ConfigError, FeedError

RESIZES = ("stretch", "shorter", "letterbox", "none")
CHANNELS = {"RGB": 3, "BGR": 3, "GRAY": 1}
LAYOUTS = ("NCHW", "NHWC")


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes an input.

    size: (height, width) of the network's input, None where it takes any. resize: 'stretch' to that size, 'shorter'
    (the shorter side becomes `resize_to`, then the centre is cropped), 'letterbox' (keeps the ratio and pads), or
    'none'. multiple_of: sides are rounded to a multiple of it. channels: 'RGB', 'BGR' or 'GRAY'. Values are
    pixel * scale, then (value - mean) / std for each channel in the order of `channels`. layout: 'NCHW' or 'NHWC'.
    source: the file it was read from, empty when made by hand. pad: the pixel value of a letterbox's borders.
    """

    size: tuple[int, int] | None = None
    resize: str = "stretch"
    resize_to: int | None = None
    multiple_of: int = 1
    channels: str = "RGB"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    layout: str = "NCHW"
    source: str = ""
    pad: int = 0


def apply(preprocessing: Preprocessing, picture: np.ndarray | str | Path) -> np.ndarray:
    """The input for a picture: float32, [1, channels, height, width] or [1, height, width, channels].

    picture: uint8[height, width, 3] in RGB, or a file that Pillow reads, turned as its EXIF data says. Sizes are
    rounded to the nearest whole number, halves up; so are sides to a multiple, at least one, except that a letterbox
    without a size pads up to the next. Resizing is Pillow's bilinear filter, which averages when it makes smaller.
    Crops and borders are centred; an odd pixel is cut or added at the bottom and right. GRAY is ITU-R 601 luma.

    Raises FeedError for a picture that is none or does not fit, ConfigError for settings that contradict each other.
    """
    _check(preprocessing)
    pixels = np.asarray(_resized(preprocessing, _image(picture)))
    if preprocessing.channels == "BGR":
        pixels = pixels[..., ::-1]
    elif preprocessing.channels == "GRAY":
        pixels = np.asarray(_pillow().fromarray(pixels).convert("L"))[..., None]
    count = CHANNELS[preprocessing.channels]
    mean, std = (_per_channel(values, count) for values in (preprocessing.mean, preprocessing.std))
    values = (pixels.astype(np.float32) * np.float32(preprocessing.scale) - mean) / std
    if preprocessing.layout == "NCHW":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values[None])


def _pillow() -> Any:
    import PIL.Image

    return PIL.Image


def _image(picture: np.ndarray | str | Path) -> Any:
    pillow = _pillow()
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            what = f"{picture.dtype} of the shape {picture.shape}"
            raise FeedError(f"a picture is uint8 of the shape (height, width, 3) in RGB; this one is {what}.")
        return pillow.fromarray(np.ascontiguousarray(picture))
    import PIL.ImageOps

    path = Path(picture).expanduser()
    try:
        with pillow.open(path) as image:
            return PIL.ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError as error:
        raise FeedError(f"{path}: there is no such picture.") from error
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise FeedError(f"{path}: not a picture that Pillow reads ({error}).") from error


def _resized(how: Preprocessing, image: Any) -> Any:
    """The image in its final size; PIL counts (width, height)."""
    height, width = image.height, image.width
    if how.resize == "letterbox":
        return _letterboxed(how, image)
    if how.resize == "shorter":
        target = how.resize_to or min(how.size or (height, width))
        height, width = (_rounded(side * target / min(image.height, image.width)) for side in (height, width))
        if how.size:
            return _cropped(_scaled(image, height, width), how.size)
    elif how.resize == "stretch" and how.size:
        height, width = how.size
    elif how.size and how.size != (height, width):
        raise FeedError(f"the picture is {height}x{width}, the network takes {how.size[0]}x{how.size[1]}: resize it.")
    return _scaled(image, *(_to_multiple(side, how.multiple_of) for side in (height, width)))


def _letterboxed(how: Preprocessing, image: Any) -> Any:
    height, width = how.size or (-(-side // how.multiple_of) * how.multiple_of for side in (image.height, image.width))
    if how.size:
        scale = min(height / image.height, width / image.width)
        image = _scaled(image, *(max(1, _rounded(side * scale)) for side in (image.height, image.width)))
    framed = _pillow().new("RGB", (width, height), (how.pad,) * 3)
    framed.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return framed


def _cropped(image: Any, size: tuple[int, int]) -> Any:
    top, left = (image.height - size[0]) // 2, (image.width - size[1]) // 2
    if top < 0 or left < 0:
        raise FeedError(
            f"a crop of {size[0]}x{size[1]} does not fit into {image.height}x{image.width}: raise resize_to."
        )
    return image.crop((left, top, left + size[1], top + size[0]))


def _scaled(image: Any, height: int, width: int) -> Any:
    if (height, width) == (image.height, image.width):
        return image
    return image.resize((width, height), _pillow().Resampling.BILINEAR)


def _rounded(value: float) -> int:
    return int(value + 0.5)


def _to_multiple(side: int, multiple: int) -> int:
    return max(1, _rounded(side / multiple)) * multiple


def _per_channel(values: tuple[float, ...], count: int) -> np.ndarray:
    """One value for each channel, from as many or from equal ones."""
    if len(values) != count and len(set(values)) != 1:
        raise ConfigError(f"preprocessing: {list(values)} are {len(values)} values for {count} channels.")
    return np.array(values if len(values) == count else values[:1] * count, np.float32)


def _check(how: Preprocessing) -> None:
    for name, value, known in (
        ("resize", how.resize, RESIZES),
        ("channels", how.channels, tuple(CHANNELS)),
        ("layout", how.layout, LAYOUTS),
    ):
        if value not in known:
            raise ConfigError(f"preprocessing: there is no {name} {value!r}; choose one of {', '.join(known)}.")
    if how.multiple_of < 1 or (how.size and any(side % how.multiple_of for side in how.size)):
        raise ConfigError(f"preprocessing: sides of {how.size} are not multiples of {how.multiple_of}.")
    if 0 in how.std:
        raise ConfigError("preprocessing: a standard deviation of 0 divides by nothing.")
