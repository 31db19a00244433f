"""Looking into widgets without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ipywidgets import HTML, Button


def parts(widget: Any) -> Iterator[Any]:
    """A widget and all in it, in the order in which they are shown."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from parts(child)


def texts(widget: Any) -> str:
    return " ".join(item.value for item in parts(widget) if isinstance(item, HTML))


def find(widget: Any, label: str) -> Button:
    return next(item for item in parts(widget) if isinstance(item, Button) and item.description == label)


def in_order(widget: Any, *words: str) -> bool:
    """Whether all of them are shown, one below the other."""
    places = [texts(widget).find(item) for item in words]
    return -1 not in places and places == sorted(places)
