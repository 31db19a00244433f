"""What can be drawn as a figure, an SVG or a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
