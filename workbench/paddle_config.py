"""How pictures become inputs, as the projects around Paddle write it beside their models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from workbench.errors import ConfigError
from workbench.preprocessing import INTERPOLATIONS, Preprocessing, floats, next_multiple

FILES = ("infer_cfg.yml", "inference.yml")
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_STRIDE, _LONG_STRIDE = 32, 128
_HALVES = (0.5, 0.5, 0.5)
_GREY = 127
_PAD = 114.0
_CORNER: Mapping[str, Any] = {"resize": "letterbox", "placement": "top-left"}
_LIMITS = {"min": "at_least", "max": "at_most", "resize_long": "longer"}
_LIMIT = 736
_OPENCV = {"0": "nearest", "1": "bilinear", "2": "bicubic", "3": "area", "4": "lanczos"}
_SYNONYMS = {"linear": "bilinear", "cubic": "bicubic", "box": "area"}

Step = tuple[str, Mapping[str, Any]]
"""('Resize', its options)"""


def read_preprocessing(folder: str | Path) -> Preprocessing | None:
    """What PaddleDetection's infer_cfg.yml, or PaddleOCR's, PaddleClas' and PaddleX's inference.yml, say of pictures.

    Paddle pads at the right and the bottom, mostly with what is 0 after normalisation; here the border has the pixel
    value nearest to that. What keeps the ratio and is padded to a multiple afterwards becomes a letterbox of one size.
    None where there is no such file, or it speaks of no pictures. Raises ConfigError for a file that is damaged.
    """
    for name in FILES:
        path = Path(folder).expanduser() / name
        if path.is_file():
            try:
                config = yaml.safe_load(path.read_text(encoding="utf-8"))
                found = _from_config(config if isinstance(config, dict) else {})
            except (yaml.YAMLError, UnicodeDecodeError, ValueError, TypeError, KeyError, IndexError) as error:
                reason = str(error).split("\n")[0]
                raise ConfigError(f"{path}: cannot be understood ({reason}); correct it, or remove it.") from error
            return replace(found, source=str(path)) if found else None
    return None


def _from_config(config: Mapping[str, Any]) -> Preprocessing | None:
    if isinstance(config.get("Preprocess"), list):
        return _detection([(step["type"], step) for step in config["Preprocess"]])
    operations = (config.get("PreProcess") or {}).get("transform_ops")
    return _operations(list(_named(operations))) if operations else None


def _named(operations: Sequence[Any]) -> Iterator[Step]:
    """`- DecodeImage: {img_mode: BGR}`, `- ToCHWImage: null`, `- ToCHWImage` -> name and options."""
    for operation in operations:
        items = operation.items() if isinstance(operation, dict) else [(operation, None)]
        for name, options in items:
            yield str(name), options or {}


def _detection(steps: Sequence[Step]) -> Preprocessing:
    """PaddleDetection decodes to RGB; its layout is CHW after Permute."""
    found = Preprocessing(scale=1.0, layout="NHWC", resize="none")
    for name, options in steps:
        if name == "Resize":
            size, interpolation = _pair(options["target_size"]), _interpolation(options.get("interp"))
            way = _CORNER if options.get("keep_ratio", True) else {"resize": "stretch"}
            found = replace(found, size=size, interpolation=interpolation, **way)
        elif name == "LetterBoxResize":
            size = _pair(options["target_size"])
            found = replace(found, size=size, resize="letterbox", pad=_GREY, interpolation="area")
        elif name in ("NormalizeImage", "Normalize"):
            found = replace(found, scale=1 / 255 if options.get("is_scale", True) else 1.0)
            if options.get("norm_type", "mean_std") != "none":
                found = replace(found, mean=floats(options["mean"]), std=floats(options["std"]))
        elif name in ("PadStride", "PadBatch"):
            stride = int(options.get("stride") or options.get("pad_to_stride") or 1)
            found = replace(found, multiple_of=max(1, stride), **(_CORNER if found.resize == "none" else {}))
        elif name == "Pad" and options.get("size"):
            fill = floats(options.get("fill_value") or (_PAD,))[0]
            found = replace(found, size=_pair(options["size"]), pad=round(fill), **_CORNER)
        elif name == "Permute":
            found = replace(found, layout="NCHW")
            if options.get("to_bgr"):  # old configurations turn the channels round after they are normalised
                found = replace(found, channels="BGR", mean=found.mean[::-1], std=found.std[::-1])
    if found.resize == "letterbox":
        border = found.pad or round(sum(found.mean) / len(found.mean) / found.scale)
        found = replace(found, size=_to_multiples(found.size, found.multiple_of), pad=border)
    return found


def _to_multiples(size: tuple[int, int] | None, multiple: int) -> tuple[int, int] | None:
    return (next_multiple(size[0], multiple), next_multiple(size[1], multiple)) if size else None


def _operations(steps: Sequence[Step]) -> Preprocessing:
    """PaddleOCR's and PaddleClas' operations, each with its options. PaddleOCR decodes to BGR, PaddleClas to RGB."""
    names = {name for name, _ in steps}
    is_text = bool(names & {"DetResizeForTest", "RecResizeImg", "ClsResizeImg", "SVTRRecResizeImg"})
    found = Preprocessing(
        scale=1.0,
        layout="NCHW" if names & {"ToCHWImage"} else "NHWC",
        resize="none",
        channels="BGR" if is_text else "RGB",
    )
    for name, options in steps:
        if name == "DecodeImage":
            found = replace(found, channels=str(options.get("img_mode", found.channels)))
        elif name == "NormalizeImage":
            mean, std = floats(options.get("mean", _IMAGENET[0])), floats(options.get("std", _IMAGENET[1]))
            found = replace(found, scale=_number(options.get("scale", 1 / 255)), mean=mean, std=std)
        elif name == "ResizeImage":
            found = _resize_image(found, options)
        elif name == "CropImage":
            found = replace(found, size=_pair(options.get("size", 224)))
        elif name == "DetResizeForTest":
            found = _resize_for_text(found, options)
        elif name in ("RecResizeImg", "ClsResizeImg", "SVTRRecResizeImg"):
            _, height, width = options["image_shape"]  # scales to -1 .. 1 itself, and pads at the right
            found = replace(
                found,
                size=(int(height), int(width)),
                layout="NCHW",
                scale=1 / 255,
                mean=_HALVES,
                std=_HALVES,
                pad=_GREY,
                **_CORNER,
            )
    return found


def _resize_image(found: Preprocessing, options: Mapping[str, Any]) -> Preprocessing:
    found = replace(found, interpolation=_interpolation(options.get("interpolation")))
    if options.get("resize_short"):
        short = int(options["resize_short"])
        return replace(found, resize="shorter", resize_to=short, size=found.size or (short, short))
    size = options["size"]
    width, height = (size, size) if isinstance(size, int) else size  # PaddleClas writes the width first
    return replace(found, resize="stretch", size=(int(height), int(width)))


def _resize_for_text(found: Preprocessing, options: Mapping[str, Any]) -> Preprocessing:
    if options.get("image_shape"):
        height, width = options["image_shape"][-2:]
        return replace(found, resize="stretch", size=(int(height), int(width)))
    if "resize_long" in options and "limit_side_len" not in options:
        side = int(options["resize_long"])
        return replace(found, resize="longer", resize_to=side, multiple_of=_LONG_STRIDE, round_up=True)
    way = _LIMITS[options.get("limit_type", "min")]
    return replace(found, resize=way, resize_to=int(options.get("limit_side_len", _LIMIT)), multiple_of=_STRIDE)


def _interpolation(value: Any) -> str:
    """A number as OpenCV counts them, or a name; bilinear where none is said."""
    name = "bilinear" if value is None else str(value).lower()
    name = _OPENCV.get(name) or _SYNONYMS.get(name, name)
    if name not in INTERPOLATIONS:
        raise ValueError(f"there is no interpolation {value!r}")
    return name


def _pair(value: Any) -> tuple[int, int]:
    height, width = (value, value) if isinstance(value, int) else value
    return int(height), int(width)


def _number(value: Any) -> float:
    """0.00392, or text as PaddleOCR writes it: '1./255.'."""
    match = re.fullmatch(r"\s*([\d.eE+-]+)\s*(?:/\s*([\d.eE+-]+)\s*)?", str(value))
    if not match:
        raise ValueError(f"{value!r} is not a number")
    return float(match[1]) / float(match[2] or 1)
