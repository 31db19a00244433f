"""From a picture to what a network was trained on: size, colour order, scale and normalisation, stated once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes an input.

    size: (height, width) of the network's input, None where it takes any. resize: 'stretch' to that size, 'shorter'
    (the shorter side becomes `resize_to`, then the centre is cropped), 'letterbox' (keeps the ratio and pads), or
    'none'. multiple_of: sides are rounded to a multiple of it. channels: 'RGB', 'BGR' or 'GRAY'. Values are
    pixel * scale, then (value - mean) / std for each channel in the order of `channels`. layout: 'NCHW' or 'NHWC'.
    source: the file it was read from, empty when made by hand.
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
