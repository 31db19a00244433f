"""From a picture to what a network was trained on: size, colour order, scale and normalisation, stated once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import ConfigError, FeedError

RESIZES = ("stretch", "shorter", "longer", "at_most", "at_least", "letterbox", "none")
_FREE = ("longer", "at_most", "at_least")
SIDED = ("shorter", *_FREE)
"""The ways of resizing that take `resize_to`."""
INTERPOLATIONS = {
    "bilinear": "BILINEAR", "nearest": "NEAREST", "bicubic": "BICUBIC", "area": "BOX", "lanczos": "LANCZOS",
}  # fmt: skip
"""Pillow's name of each filter."""
PLACEMENTS = ("center", "top-left")
CHANNELS = {"RGB": 3, "BGR": 3, "GRAY": 1}
LAYOUTS = ("NCHW", "NHWC")


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes an input.

    size: (height, width) of the network's input, None where it takes any. resize: 'stretch' to that size, 'shorter'
    (the shorter side becomes `resize_to`, then the centre is cropped), 'letterbox' (keeps the ratio and pads), or
    'none'; where the network takes any size also 'longer' (the longer side becomes `resize_to`), 'at_most' (so only
    where it is longer) and 'at_least' (the shorter side becomes `resize_to` where it is shorter). multiple_of: sides
    are rounded to a multiple of it. channels: 'RGB', 'BGR' or 'GRAY'. Values are pixel * scale, then
    (value - mean) / std for each channel in the order of `channels`. layout: 'NCHW' or 'NHWC'. source: the file it
    was read from, empty when made by hand. pad: the pixel value of a letterbox's borders. interpolation: one of
    INTERPOLATIONS. placement: where a letterbox has the picture, 'center' or 'top-left'. round_up: sides go up to the
    next multiple instead of to the nearest.
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
    interpolation: str = "bilinear"
    placement: str = "center"
    round_up: bool = False


def apply(preprocessing: Preprocessing, picture: np.ndarray | str | Path) -> np.ndarray:
    """The input for a picture: float32, [1, channels, height, width] or [1, height, width, channels].

    picture: uint8[height, width, 3] in RGB, or a file that Pillow reads, turned as its EXIF data says. Sizes are
    rounded to the nearest whole number, halves up; so are sides to a multiple, at least one, except that a letterbox
    without a size pads up to the next. 'longer', 'at_most' and 'at_least' cut the fraction off first, as PaddleOCR
    does. Resizing is done by Pillow's filters, which average when they make smaller; OpenCV's bilinear and bicubic do
    not. What is cropped or padded is centred; an odd pixel is cut or added at the bottom and right. GRAY is ITU-R 601
    luma.

    Raises FeedError for a picture that is none or does not fit, ConfigError for settings that contradict each other.
    """
    check_preprocessing(preprocessing)
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
    except Exception as error:  # the errors of Pillow's decoders have no common base but Exception
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
            return _cropped(_scaled(how, image, height, width), how.size)
    elif how.resize in _FREE:
        ratio = _ratio(how, min(height, width), max(height, width))
        height, width = int(height * ratio), int(width * ratio)
    elif how.resize == "stretch" and how.size:
        height, width = how.size
    elif how.size and how.size != (height, width):
        raise FeedError(f"the picture is {height}x{width}, the network takes {how.size[0]}x{how.size[1]}: resize it.")
    return _scaled(how, image, *(_to_multiple(how, side) for side in (height, width)))


def _ratio(how: Preprocessing, shorter: int, longer: int) -> float:
    """What the sides are multiplied by, computed as PaddleOCR does: it decides on single pixels."""
    wanted = float(how.resize_to or 0)
    if how.resize == "at_least":
        return wanted / shorter if shorter < wanted else 1.0
    return wanted / longer if longer > wanted or how.resize == "longer" else 1.0


def _letterboxed(how: Preprocessing, image: Any) -> Any:
    height, width = how.size or (next_multiple(side, how.multiple_of) for side in (image.height, image.width))
    if how.size:
        scale = min(height / image.height, width / image.width)
        image = _scaled(how, image, *(max(1, _rounded(side * scale)) for side in (image.height, image.width)))
    framed = _pillow().new("RGB", (width, height), (how.pad,) * 3)
    centered = ((width - image.width) // 2, (height - image.height) // 2)
    framed.paste(image, centered if how.placement == "center" else (0, 0))
    return framed


def _cropped(image: Any, size: tuple[int, int]) -> Any:
    top, left = (image.height - size[0]) // 2, (image.width - size[1]) // 2
    if top < 0 or left < 0:
        raise FeedError(
            f"a crop of {size[0]}x{size[1]} does not fit into {image.height}x{image.width}: raise resize_to."
        )
    return image.crop((left, top, left + size[1], top + size[0]))


def _scaled(how: Preprocessing, image: Any, height: int, width: int) -> Any:
    if (height, width) == (image.height, image.width):
        return image
    return image.resize((width, height), _pillow().Resampling[INTERPOLATIONS[how.interpolation]])


def _rounded(value: float) -> int:
    return int(value + 0.5)


def next_multiple(side: int, multiple: int) -> int:
    """65, 32 -> 96"""
    return -(-side // multiple) * multiple


def _to_multiple(how: Preprocessing, side: int) -> int:
    if how.round_up:
        return next_multiple(max(1, side), how.multiple_of)
    return max(1, _rounded(side / how.multiple_of)) * how.multiple_of


def _per_channel(values: tuple[float, ...], count: int) -> np.ndarray:
    """One value for each channel, from as many or from equal ones."""
    if len(values) != count and len(set(values)) != 1:
        raise ConfigError(f"preprocessing: {list(values)} are {len(values)} values for {count} channels.")
    return np.array(values if len(values) == count else values[:1] * count, np.float32)


def check_preprocessing(how: Preprocessing) -> None:
    """Raise ConfigError for settings that do not exist or contradict each other."""
    for name, value, known in (
        ("resize", how.resize, RESIZES),
        ("channels", how.channels, tuple(CHANNELS)),
        ("layout", how.layout, LAYOUTS),
        ("interpolation", how.interpolation, tuple(INTERPOLATIONS)),
        ("placement", how.placement, PLACEMENTS),
    ):
        if value not in known:
            raise ConfigError(f"preprocessing: there is no {name} {value!r}; choose one of {', '.join(known)}.")
    if how.size and len(how.size) != 2:
        raise ConfigError(f"preprocessing: size is (height, width), not {how.size}.")
    if how.multiple_of < 1 or (how.size and any(side % how.multiple_of for side in how.size)):
        raise ConfigError(f"preprocessing: sides of {how.size} are not multiples of {how.multiple_of}.")
    if (how.size and min(how.size) < 1) or (how.resize_to is not None and how.resize_to < 1):
        raise ConfigError("preprocessing: size and resize_to are numbers of pixels from 1 on.")
    if how.resize in _FREE and (how.size or not how.resize_to):
        raise ConfigError(
            f"preprocessing: {how.resize!r} makes sizes that follow the picture: give resize_to and no size, or "
            "resize by 'stretch', 'shorter' or 'letterbox'."
        )
    with np.errstate(over="ignore", under="ignore"):
        scale, mean, std = (np.asarray(values, np.float32) for values in (how.scale, how.mean, how.std))
    if not (np.isfinite(scale) and np.isfinite(mean).all() and np.isfinite(std).all()):
        raise ConfigError("preprocessing: scale, mean and standard deviation are numbers, not infinite and not NaN.")
    if not std.all() or not scale:
        raise ConfigError("preprocessing: a standard deviation of 0 divides by nothing, a scale of 0 leaves nothing.")
    for values in (how.mean, how.std):
        _per_channel(values, CHANNELS[how.channels])
    if not 0 <= how.pad <= 255:
        raise ConfigError(f"preprocessing: pad is the value of a pixel, 0 to 255, not {how.pad}.")


def describe(how: Preprocessing) -> str:
    """'RGB, shorter side to 256, cropped to 224x224, pixels / 255, mean 0.5, deviation 0.25', for the user."""
    size = f"{how.size[0]}x{how.size[1]}" if how.size else ""
    ways = {
        "stretch": f"stretched to {size}" if size else "",
        "letterbox": f"fitted into {size}, borders of {how.pad}" if size else f"borders of {how.pad}",
        "shorter": f"shorter side to {how.resize_to or 'that of the crop'}" + (f", cropped to {size}" if size else ""),
        "longer": f"longer side to {how.resize_to}",
        "at_most": f"longer side at most {how.resize_to}",
        "at_least": f"shorter side at least {how.resize_to}",
    }
    parts = [how.channels, ways.get(how.resize, size)]
    if how.multiple_of > 1:
        parts.append(f"sides to multiples of {how.multiple_of}")
    parts.append("pixels as they are" if how.scale == 1 else f"pixels / {1 / how.scale:g}")
    if any(how.mean) or set(how.std) != {1.0}:
        parts += (f"{word} {_listed(values)}" for word, values in (("mean", how.mean), ("deviation", how.std)))
    return ", ".join(filter(None, parts))


def _listed(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in (values[:1] if len(set(values)) == 1 else values))


def floats(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def preprocessing_to_json(how: Preprocessing) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(how).items()}


def preprocessing_from_json(data: Mapping[str, Any]) -> Preprocessing:
    """The inverse of preprocessing_to_json; what is missing has its default. Raises ConfigError."""
    try:
        values: dict[str, Any] = {}
        for name, value in data.items():
            values[name] = tuple(value) if isinstance(value, list) else value
        how = Preprocessing(**values)
        how = replace(how, scale=float(how.scale), mean=floats(how.mean), std=floats(how.std))
        check_preprocessing(how)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ConfigError(f"preprocessing: cannot be understood ({error}); state it again.") from error
    return how
