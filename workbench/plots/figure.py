"""A plot as a figure of matplotlib: title above, notes below, and the axes in between, as wide as its words allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from workbench.plots import ink
from workbench.plots.palette import PAPER, QUIET, TEXT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 96
_EDGE_PX, _TITLE_LINE_PX, _NOTE_LINE_PX = 4.0, 20.0, 15.0


class Drawable(Protocol):
    """A Plot, as far as drawing it needs to know it."""

    @property
    def title(self) -> str: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def rows(self) -> tuple[tuple[str, ...], ...]: ...
    @property
    def size_px(self) -> tuple[int, int]: ...
    def draw(self, axes: Axes) -> None: ...


def figure_of(plot: Drawable, width_px: int | None = None) -> Figure:
    """width_px: default is the plot's own. The figure belongs to nobody else: pyplot does not know it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, room = width_px or plot.size_px[0], plot.size_px[1]
    title = ink.wrap(plot.title, width - 2 * _EDGE_PX, ink.TITLE_PX * 1.08)
    notes = [text for note in plot.notes for text in ink.wrap(note, width - 2 * _EDGE_PX, ink.SMALL_PX)]
    above = _TITLE_LINE_PX * len(title) + 8
    below = _NOTE_LINE_PX * len(notes) + (10 if notes else 0)
    height = above + room + below
    figure = Figure(
        figsize=(width / 96, height / 96), dpi=_DPI, facecolor=PAPER, edgecolor="none", linewidth=0, frameon=True,
    )  # fmt: skip
    figure.set_layout_engine("none")
    FigureCanvasAgg(figure)
    for place, text in enumerate(title):
        _put(figure, text, height - _TITLE_LINE_PX * (place + 0.5), (ink.TITLE_PX, TEXT, "bold"))
    for place, text in enumerate(notes):
        _put(figure, text, _NOTE_LINE_PX * (len(notes) - place - 0.5), (ink.SMALL_PX, QUIET, "normal"))
    _fit(figure, plot, (_EDGE_PX, below, width - _EDGE_PX, below + room))
    return figure


def _put(figure: Figure, text: str, y_px: float, look: tuple[float, str, str]) -> None:
    size_px, color, weight = look
    figure.text(
        _EDGE_PX / 96 / figure.get_figwidth(), y_px / 96 / figure.get_figheight(), text, color=color, va="center",
        ha="left", fontsize=ink.points(size_px), fontfamily=ink.FONT, fontweight=weight, fontstyle="normal",
        parse_math=False, usetex=False,
    )  # fmt: skip


def _fit(figure: Figure, plot: Drawable, region_px: tuple[float, float, float, float]) -> None:
    """Draw, see how far words reach beyond the axes, and draw once more with axes that leave room for them."""
    left, bottom, right, top = region_px
    axes = figure.add_axes((0.2, 0.2, 0.6, 0.6), label=plot.title)
    _place(axes, (left, bottom, right, top))
    plot.draw(axes)
    taken, box = axes.get_tightbbox(), axes.get_window_extent()
    assert taken is not None
    _place(
        axes,
        (left + max(box.x0 - taken.x0, 0), bottom + max(box.y0 - taken.y0, 0),
         right - max(taken.x1 - box.x1, 0), top - max(taken.y1 - box.y1, 0)),
    )  # fmt: skip
    axes.clear()
    plot.draw(axes)


def _place(axes: Axes, box_px: tuple[float, float, float, float]) -> None:
    """Left, bottom, right and top; ten pixels wide and high at least."""
    left, bottom, right, top = box_px
    width, height = axes.figure.get_figwidth() * 96, axes.figure.get_figheight() * 96  # type: ignore[union-attr]
    axes.set_position((left / width, bottom / height, max(right - left, 10) / width, max(top - bottom, 10) / height))
