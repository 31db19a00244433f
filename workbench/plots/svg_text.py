"""matplotlib's SVG with text that stays text, whatever its settings are. Imported when the first SVG is drawn."""

from __future__ import annotations

import io
import math
from typing import Any

from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

_ANCHORS = {"left": "start", "center": "middle", "right": "end"}
_NORMAL = 400


class _Renderer(RendererSVG):
    """Its own, instead of the setting svg.fonttype, which is the same for all threads."""

    def draw_text(
        self, gc: Any, x: float, y: float, s: str, prop: Any, angle: float, ismath: Any = False, mtext: Any = None
    ) -> None:
        anchor = "start"
        if mtext is not None and not angle:
            x = float(mtext.get_transform().transform(mtext.get_unitless_position())[0])
            anchor = _ANCHORS[mtext.get_ha()]
        style = {"fill": to_hex(gc.get_rgb()[:3]), "font-size": f"{prop.get_size_in_points():.4g}px"}
        if prop.get_weight() not in ("normal", _NORMAL):
            style["font-weight"] = "600"
        if anchor != "start":
            style["text-anchor"] = anchor
        turned = {"transform": f"rotate({-angle:g} {x:.2f} {y:.2f})"} if not math.isclose(angle, 0) else {}
        css = "; ".join(f"{name}: {value}" for name, value in style.items())
        self.writer.element("text", s, attrib={"x": f"{x:.2f}", "y": f"{y:.2f}", "style": css, **turned})


def draw(figure: Figure) -> str:
    """An <svg> element in points, with matplotlib's own names and styles; without date or maker."""
    figure.dpi = 72
    width, height = figure.get_size_inches() * 72
    stream = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    renderer = _Renderer(width, height, stream, image_dpi=72, metadata=nothing)
    figure.draw(renderer)
    renderer.finalize()
    return stream.getvalue()
