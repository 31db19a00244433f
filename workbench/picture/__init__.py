"""A picture of a network before and after: boxes, arrows, and which box became which. What GraphView draws."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

ENGINE, NATIVE, VARIABLE = "engine", "native", "variable"
"""What `part` may say besides the id of a subgraph: the colours of Paddle-TRT's figures, green, yellow and red."""


@dataclass(frozen=True)
class Box:
    """A node, a layer, a subgraph's engine or a variable.

    label: a few words in the box ('Conv', 'conv + bias + relu'). name: in full. folders: of the name, outermost first.
    group: boxes of one value share a colour when coloured by fusion; None for those that no fusion concerns.
    kind: of fusion ('vertical', 'reformat', ...) or ''. side: ENGINE, NATIVE or VARIABLE. part: id of its subgraph,
    or ''. facts: what a tooltip lists, as (name, value).
    """

    label: str
    name: str
    folders: tuple[str, ...] = ()
    group: str | None = None
    kind: str = ""
    precision: str = ""
    time_ms: float | None = None
    side: str = ENGINE
    part: str = ""
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Arrow:
    """A tensor from one box to another, by their places in `Pane.boxes`. label: its shape and type."""

    source: int
    target: int
    label: str = ""


@dataclass(frozen=True)
class Pane:
    """noun: what its boxes are called that are no variables, such as 'node' or 'layer'. left_out: how many of these are
    not drawn, as they work on constants only."""

    title: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    noun: str = "node"
    left_out: int = 0


@dataclass(frozen=True)
class Picture:
    """links: pairs of places, in `before.boxes` and `after.boxes`, of boxes that belong together; many to many.

    colors: the ways of colouring that have something to tell, the first one being on: 'fusion', 'kind', 'precision',
    'time', 'side', 'part'.
    """

    title: str
    before: Pane
    after: Pane
    links: tuple[tuple[int, int], ...]
    colors: tuple[str, ...] = ("fusion",)


_FIELDS = tuple(item.name for item in fields(Box))


def picture_to_json(picture: Picture) -> dict[str, Any]:
    """Fields that say nothing are left out: 10,000 boxes travel to the browser at once."""
    return {
        "title": picture.title,
        "before": _pane(picture.before),
        "after": _pane(picture.after),
        "links": [list(pair) for pair in picture.links],
        "colors": list(picture.colors),
    }


def _pane(pane: Pane) -> dict[str, Any]:
    return {
        "title": pane.title,
        "noun": pane.noun,
        "left_out": pane.left_out,
        "boxes": [_box(box) for box in pane.boxes],
        "arrows": [[arrow.source, arrow.target, arrow.label] for arrow in pane.arrows],
    }


def _box(box: Box) -> dict[str, Any]:
    values = ((name, getattr(box, name)) for name in _FIELDS)
    return {name: value for name, value in values if value not in ("", None, ())}
