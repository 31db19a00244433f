"""What only the browser can do: the clipboard, and manners towards keyboards and screen readers."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets

_STATIC = Path(__file__).parent / "static"


def script(*names: str) -> str:
    """Scripts of static/ as one module."""
    return "".join((_STATIC / f"{name}.js").read_text("utf-8") for name in names)


class CopyButton(anywidget.AnyWidget):
    """Copies `text` when clicked and says so for a moment."""

    _esm = _STATIC / "copy.js"

    label = traitlets.Unicode("Copy").tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)


class Manners(anywidget.AnyWidget):
    """Makes the widget it stands in accessible: see manners.js."""

    _esm = _STATIC / "manners.js"
