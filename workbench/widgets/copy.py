"""A button that copies text to the clipboard, which only the browser can do."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets

_STATIC = Path(__file__).parent / "static"


class CopyButton(anywidget.AnyWidget):
    """Copies `text` when clicked and says so for a moment."""

    _esm = _STATIC / "copy.js"

    label = traitlets.Unicode("Copy").tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
