"""A Plot as SVG text, and as a file: .svg, .png or .csv."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path

import numpy as np

from workbench.errors import ConfigError
from workbench.plots import ink
from workbench.plots.figure import Drawable, figure_of
from workbench.plots.palette import css_value
from workbench.saving import replace_file

_TAG = re.compile(r"<[^>]*>")
"""What is changed; words that users chose stand between tags, and matplotlib escapes '>' in attributes."""
_ID = re.compile(r' id="([^"]*)"')
_REFERENCE = re.compile(r'href="#([^"]+)"|url\(#([^)]+)\)')
_STYLE = re.compile(r"\s*<defs>\s*<style[^>]*>.*?</style>\s*</defs>", re.DOTALL)
"""matplotlib's, which would hold for all of a page."""
_COLOR = re.compile(r"(?<=: )#[0-9a-f]{6}(?=[;\"])")
_FAMILY = "system-ui, sans-serif"
_PIXELS = 2


def svg(plot: Drawable, *, themed: bool = True, width_px: int | None = None) -> str:
    """An <svg> element that needs nothing else, also inside a page; the same text for the same plot.

    themed: colours are CSS variables (`palette.LIGHT` and DARK tell their names) with fallbacks, the font is
    JupyterLab's or the system's, the ground is transparent. Otherwise plain colours on white.
    """
    from workbench.plots.svg_text import draw

    figure = figure_of(plot, width_px)
    if themed:
        figure.patch.set_visible(False)
    width, height = (round(float(inches) * 96) for inches in figure.get_size_inches())
    text = draw(figure)
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = _STYLE.sub("", body, count=1)
    if themed:
        body = _TAG.sub(lambda tag: _COLOR.sub(lambda color: css_value(color[0]), tag[0]), body)
    family = f"var(--jp-ui-font-family, {_FAMILY})" if themed else _FAMILY
    label = escape(ink.clean(". ".join([plot.title.rstrip("."), *plot.notes])), quote=True)
    style = f"max-width: 100%; height: auto; font-family: {family}; stroke-linejoin: round; stroke-linecap: butt"
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" class="wb-plot" '
        f'role="img" aria-label="{label}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width * 0.75:g} {height * 0.75:g}" style="{style}">'
    )
    return head + _own_ids(body).rstrip()


def _own_ids(body: str) -> str:
    """Ids that something refers to get names that no other plot of a page has; the others go."""
    tags = "".join(_TAG.findall(body))
    referred = {name for pair in _REFERENCE.findall(tags) for name in pair if name}
    names = [name for name in dict.fromkeys(_ID.findall(tags)) if name in referred]

    def renamed(prefix: str) -> str:
        own = {name: f"{prefix}{number}" for number, name in enumerate(names)}
        return _TAG.sub(lambda match: _renamed(match[0], own), body)

    return renamed(f"wb{hashlib.sha256(renamed('').encode()).hexdigest()[:10]}-")


def _renamed(tag: str, own: Mapping[str, str]) -> str:
    def reference(match: re.Match[str]) -> str:
        return f'href="#{own[match[1]]}"' if match[1] else f"url(#{own[match[2]]})"

    tag = _ID.sub(lambda match: f' id="{own[match[1]]}"' if match[1] in own else "", tag)
    return _REFERENCE.sub(reference, tag)


def png(plot: Drawable, *, width_px: int | None = None) -> bytes:
    """On white, two pixels for each of CSS."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure = figure_of(plot, width_px)
    figure.dpi = 96 * _PIXELS
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    stream = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(stream, "PNG", dpi=(192, 192))
    return stream.getvalue()


def csv_text(plot: Drawable) -> str:
    """The rows, the head first."""
    stream = io.StringIO()
    csv.writer(stream).writerows(plot.rows)
    return stream.getvalue()


def _svg_file(plot: Drawable) -> bytes:
    return f'<?xml version="1.0" encoding="utf-8"?>\n{svg(plot, themed=False)}\n'.encode()


_FORMS: dict[str, Callable[[Drawable], bytes]] = {
    ".png": png,
    ".svg": _svg_file,
    ".csv": lambda plot: csv_text(plot).encode(),
}


def save(plot: Drawable, path: str | Path) -> Path:
    """Write it as the path's ending says, in one step; makes its folder. Returns where.

    Raises ConfigError for another ending, and where it cannot be written.
    """
    path = Path(path).expanduser()
    form = _FORMS.get(path.suffix.lower())
    if form is None:
        raise ConfigError(f"{path}: a plot is written as .png, .svg or .csv; end the file's name with one of them.")
    data = form(plot)
    try:
        replace_file(path, data)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{str(path)[:200]}: cannot be written ({why}); name a file in another folder.") from error
    return path
