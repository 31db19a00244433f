"""Plot: facts that were computed, the table that tells the same, and what draws them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.accuracy import Interval
from workbench.plots.output import svg
from workbench.terminal import table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_PX = 720
Draw = Callable[[Any, "Axes"], None]


@dataclass(frozen=True)
class Plot:
    """A picture of facts; `svg` and `save` draw it. A notebook shows it, `str` tells it as a table.

    rows: the same as a table, the head with its units first. facts: what `drawn_by` draws, a NamedTuple. height_px:
    what suits it, without title and notes. notes: what the picture alone does not tell, in sentences.
    """

    title: str
    rows: tuple[tuple[str, ...], ...]
    facts: Any
    drawn_by: Draw
    height_px: int
    notes: tuple[str, ...] = ()

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height that suit it, in the unit of CSS, without title and notes."""
        return WIDTH_PX, self.height_px

    def draw(self, axes: Axes) -> None:
        """Draw it on any axes of matplotlib, without title and notes."""
        self.drawn_by(self.facts, axes)

    def __str__(self) -> str:
        return "\n".join([self.title, table(self.rows), *self.notes])

    def _repr_html_(self) -> str:
        return svg(self)


def ends(interval: Interval) -> tuple[float | None, float | None]:
    """Low and high, None where so few runs tell nothing."""
    return (interval.low, interval.high) if math.isfinite(interval.high - interval.low) else (None, None)


def number(value: float | None) -> str:
    """Four digits at least, for tables: 0.1634, 1234.5 -> '1234' is never '1.234e+03'; '' for None."""
    if value is None:
        return ""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"
