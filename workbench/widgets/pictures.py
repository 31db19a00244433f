"""Pictures: photographs side by side with a caption each."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import ipywidgets as widgets
from PIL import Image

from workbench.errors import FeedError
from workbench.widgets import render

_HEIGHT = 120


class Pictures(widgets.HTML):
    """A row of pictures, `captions` below them in the same order. Raises FeedError for what is no picture."""

    def __init__(self, paths: Sequence[str | Path], captions: Sequence[str]) -> None:
        if len(paths) != len(captions):
            raise FeedError(f"{len(paths)} pictures and {len(captions)} captions: give one for each.")
        pairs = list(zip(map(Path, paths), captions, strict=True))
        figures = "".join(_figure(path, caption) for path, caption in pairs)
        super().__init__(f"{render.STYLE}<div class='wb-pictures'>{figures}</div>")
        self.add_class("wb")
        self._text = "\n".join(f"{path.name}: {caption}" for path, caption in pairs)

    def __repr__(self) -> str:
        return self._text


def _figure(path: Path, caption: str) -> str:
    """Small pictures inside the page: a notebook that is sent to somebody still shows them."""
    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB")
    except OSError as error:  # also what is no picture
        raise FeedError(f"{path}: cannot be shown as a picture ({error.strerror or error}).") from error
    small.thumbnail((4 * _HEIGHT, _HEIGHT))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    image = f"<img alt='{escape(path.stem, quote=True)}' src='data:image/jpeg;base64,{data}'>"
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
