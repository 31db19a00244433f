"""What plots are drawn with. All that matplotlib's settings could change is told, so that all plots look alike."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from workbench.plots.palette import GRID, PAPER, QUIET, TEXT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FONT = "DejaVu Sans"
"""matplotlib brings it along; it is wider than what browsers show, so what fits here fits there."""
SIZE_PX, SMALL_PX, TITLE_PX = 12.0, 11.0, 14.5
_HINTING = 1.05
"""Letters that keep to whole pixels may be so much wider."""
_BROKEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]+")
_TICK_PX, _MOST_TICKS = 65, 8


@dataclass(frozen=True)
class Pen:
    """How words are written. frame: what a place counts in, 'data', 'row' (x from 0 to 1 over the width), 'column'
    (y from 0 to 1 over the height) or 'axes' (both). shift_px: from there to the right and up. on_paper: nothing shines
    through between the letters."""

    color: str = TEXT
    size_px: float = SIZE_PX
    bold: bool = False
    ha: str = "left"
    va: str = "center"
    frame: str = "data"
    shift_px: tuple[float, float] = (0.0, 0.0)
    on_paper: bool = False


def clean(text: str) -> str:
    """Without what no XML may hold, such as the separators in NVIDIA's names."""
    return _BROKEN.sub(" ", text)


def write(axes: Axes, place: tuple[float, float], text: str, pen: Pen) -> Any:
    """Words as they are: no '$' starts a formula."""
    paper = {"boxstyle": "square,pad=0.15", "facecolor": PAPER, "edgecolor": "none", "linewidth": 0}
    return axes.text(
        *place, clean(text), transform=_shifted(axes, pen.frame, pen.shift_px), color=pen.color, ha=pen.ha, va=pen.va,
        fontsize=points(pen.size_px), fontfamily=FONT, fontweight="bold" if pen.bold else "normal",
        fontstyle="normal", parse_math=False, usetex=False, clip_on=False, zorder=6,
        bbox=paper if pen.on_paper else None,
    )  # fmt: skip


def line(axes: Axes, xs: Sequence[float], ys: Sequence[float], color: str, **options: Any) -> None:
    """options: width_px, style, frame, over (its place above others)."""
    from matplotlib.lines import Line2D

    axes.add_line(
        Line2D(
            xs, ys, color=color, linewidth=points(options.get("width_px", 1.0)), linestyle=options.get("style", "-"),
            marker="None", transform=frame_of(axes, options.get("frame", "data")), zorder=options.get("over", 2),
            clip_on=False, solid_capstyle="butt", dash_capstyle="butt", antialiased=True,
        )
    )  # fmt: skip


def mark(axes: Axes, x: float, y: float, look: tuple[str, str], size_px: float = 9.0, frame: str = "data") -> None:
    """look: colour and marker."""
    from matplotlib.lines import Line2D

    axes.add_line(
        Line2D(
            [x], [y], color=look[0], marker=look[1], markersize=points(size_px), linestyle="None", fillstyle="full",
            markerfacecolor=look[0], markeredgecolor=PAPER, markeredgewidth=points(1), zorder=5, clip_on=False,
            antialiased=True, transform=frame_of(axes, frame),
        )
    )  # fmt: skip


def bar(axes: Axes, span: tuple[float, float], middle: float, height: float, color: str) -> None:
    """From span[0] to span[1], around the middle."""
    area(axes, [span[0], span[1], span[1], span[0]], [middle + side * height / 2 for side in (-1, -1, 1, 1)], color)


def area(axes: Axes, xs: Sequence[float], ys: Sequence[float], color: str) -> None:
    from matplotlib.patches import Polygon

    corners = list(zip(xs, ys, strict=True))
    axes.add_patch(
        Polygon(corners, closed=True, facecolor=color, edgecolor="none", linewidth=0, zorder=3, clip_on=False)
    )


def whisker(axes: Axes, low: float, high: float, at: float, color: str = TEXT, *, upright: bool = False) -> None:
    """A horizontal or upright interval with ends; none where an end is infinite."""
    from matplotlib.lines import Line2D

    if not (math.isfinite(low) and math.isfinite(high)):
        return
    xs, ys = ([at, at], [low, high]) if upright else ([low, high], [at, at])
    line(axes, xs, ys, color, width_px=1.4, over=4)
    for x, y in zip(xs, ys, strict=True):
        axes.add_line(
            Line2D(
                [x], [y], color=color, marker="_" if upright else "|", markersize=points(7), linestyle="None",
                markeredgewidth=points(1.4), markeredgecolor=color, zorder=4, clip_on=False, antialiased=True,
            )
        )  # fmt: skip


def blank(axes: Axes, right: float, bottom: float, top: float, left: float = 0.0) -> None:
    """Nothing of matplotlib's own is drawn; the data's limits are these."""
    axes.set_axis_off()
    axes.set_xscale("linear")
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)


def bottom_axis(axes: Axes, ticks: Sequence[tuple[float, str]], title: str) -> None:
    """Grid lines, what they stand for, and below them the title with the unit."""
    for at, text in ticks:
        line(axes, [at, at], [0, 1], GRID, frame="column", over=1)
        write(axes, (at, 0), text, Pen(QUIET, SMALL_PX, ha="center", va="top", frame="column", shift_px=(0, -5)))
    shift = -21 if ticks else -5
    write(axes, (0.5, 0), title, Pen(QUIET, SMALL_PX, ha="center", va="top", frame="axes", shift_px=(0, shift)))


def left_axis(axes: Axes, ticks: Sequence[tuple[float, str]], title: str) -> None:
    """As `bottom_axis`; the title stands above, as people read."""
    for at, text in ticks:
        line(axes, [0, 1], [at, at], GRID, frame="row", over=1)
        write(axes, (0, at), text, Pen(QUIET, SMALL_PX, ha="right", frame="row", shift_px=(-6, 0)))
    write(axes, (0, 1), title, Pen(QUIET, SMALL_PX, va="bottom", frame="axes", shift_px=(0, 10)))


def legend(axes: Axes, entries: Sequence[tuple[str, tuple[str, str]]], *, right: bool = False) -> None:
    """What the looks stand for, in a line above the axes, from the left or up to the right."""
    most = width_px(axes) / len(entries) - 30
    names = shortened([name for name, _ in entries], max(most, 40), SMALL_PX)
    widths = [text_px(name, SMALL_PX) + 30 for name in names]
    x = width_px(axes) - sum(widths) + 12 if right else 0.0
    for name, width, (_, look) in zip(names, widths, entries, strict=True):
        place = ((x + 6) / width_px(axes), 1 + 16 / height_px(axes))
        mark(axes, *place, look, frame="axes")
        write(axes, place, name, Pen(TEXT, SMALL_PX, frame="axes", shift_px=(9, 0)))
        x += width


Ticks = list[tuple[float, str]]
"""Where, and the words there."""


def ticks_to(limit: float, length_px: float, *, start: float = 0.0, apart_px: float = _TICK_PX) -> Ticks:
    """Round numbers from `start`, 0 or below, to the limit."""
    span = limit - start
    wanted = span / min(max(1, int(length_px / apart_px)), _MOST_TICKS)
    power = 10.0 ** math.floor(math.log10(wanted))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= wanted * 0.999)
    first, last = math.ceil(start / step - 1e-9), math.floor(limit / step + 1e-9)
    return [(number * step, f"{number * step:,.10g}") for number in range(first, last + 1)]


def width_px(axes: Axes) -> float:
    """Of the axes, in the unit of CSS."""
    box = axes.get_position()
    return float(box.width * axes.figure.get_figwidth() * 96)  # type: ignore[union-attr]


def height_px(axes: Axes) -> float:
    box = axes.get_position()
    return float(box.height * axes.figure.get_figheight() * 96)  # type: ignore[union-attr]


def figure_px(axes: Axes) -> float:
    """The width of the whole figure."""
    return float(axes.figure.get_figwidth() * 96)  # type: ignore[union-attr]


def text_px(text: str, size_px: float = SIZE_PX, bold: bool = False) -> float:
    """How wide words are at most."""
    return _hundredths(clean(text), bold) * size_px / 100 * _HINTING


def shorten(text: str, most_px: float, size_px: float = SIZE_PX) -> str:
    """Cut in the middle, as names differ at their ends."""
    text = clean(text)
    if text_px(text, size_px) <= most_px:
        return text
    low, high = 1, len(text) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_px(_cut(text, middle), size_px) <= most_px else (low, middle - 1)
    return _cut(text, low)


def _cut(text: str, keep: int) -> str:
    return f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"


def shortened(texts: Sequence[str], most_px: float, size_px: float = SIZE_PX) -> list[str]:
    """As `shorten`; what would be the same then gets its number in front."""
    cut = [shorten(text, most_px, size_px) for text in texts]
    return [
        item if cut.count(item) == 1 or item == text else shorten(f"{number} · {text}", most_px, size_px)
        for number, (item, text) in enumerate(zip(cut, texts, strict=True), 1)
    ]


def wrap(text: str, most_px: float, size_px: float) -> list[str]:
    """Lines no wider than this; a word that is too wide is cut in its middle."""
    lines: list[str] = []
    for word in clean(text).split(" "):
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and text_px(joined, size_px) <= most_px:
            lines[-1] = joined
        else:
            lines.append(shorten(word, most_px, size_px))
    return lines


def points(size_px: float) -> float:
    """1/72 inch from CSS's 1/96."""
    return size_px * 0.75


def frame_of(axes: Axes, frame: str) -> Any:
    return {
        "data": axes.transData,
        "axes": axes.transAxes,
        "row": axes.get_yaxis_transform(),
        "column": axes.get_xaxis_transform(),
    }[frame]


def _shifted(axes: Axes, frame: str, shift_px: tuple[float, float]) -> Any:
    from matplotlib.transforms import ScaledTranslation

    moved = ScaledTranslation(shift_px[0] / 96, shift_px[1] / 96, axes.figure.dpi_scale_trans)  # type: ignore[union-attr]
    return frame_of(axes, frame) + moved


@lru_cache(4096)
def _hundredths(text: str, bold: bool) -> float:
    """The width at a size of 100."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    font = FontProperties(family=FONT, weight="bold" if bold else "normal", size=100)
    return float(TextToPath().get_text_width_height_descent(text, font, False)[0]) if text else 0.0
