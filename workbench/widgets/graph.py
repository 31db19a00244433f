"""GraphView: a network before and after, side by side and linked."""

from __future__ import annotations

import anywidget
from traitlets import Dict, Instance, Int, List, Unicode

from workbench.picture import Picture, picture_to_json
from workbench.picture.page import program


class GraphView(anywidget.AnyWidget):
    """Draws a Picture; all of it can be used with the mouse, fingers or the keyboard.

    picture: may be replaced at any time; zoom, folding and selection are kept by name. selected: what the user picked
    or Python picks, as [{'pane': 'before' or 'after', 'name': of the box}, ...]; what is linked lights up by itself.
    color_by: one of `picture.colors`; anything else means the first. search: words to look for in names, labels and
    facts. height: of each pane, in pixels.
    """

    _esm = f"{program()}\nexport default {{ render: graphView().render }};\n"

    picture = Instance(Picture).tag(sync=True, to_json=lambda value, widget: picture_to_json(value))
    selected = List(Dict(per_key_traits={"pane": Unicode(), "name": Unicode()})).tag(sync=True)
    color_by = Unicode().tag(sync=True)
    search = Unicode().tag(sync=True)
    height = Int().tag(sync=True)

    def __init__(self, picture: Picture, *, height: int = 520) -> None:
        super().__init__(picture=picture, color_by=next(iter(picture.colors), ""), height=height)

    def __repr__(self) -> str:
        panes = [pane for pane in (self.picture.before, self.picture.after) if pane.boxes]
        sizes = [f"{pane.title} ({len(pane.boxes):,} box{'es' if len(pane.boxes) > 1 else ''})" for pane in panes]
        return f"{self.picture.title}: {' and '.join(sizes) or 'nothing to draw'}"
