"""The program of GraphView, joined from its modules, and one HTML file that shows a picture by itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from workbench.errors import ViewError
from workbench.picture import Picture, picture_to_json

_FOLDER = Path(__file__).parent / "graph"
_IMPORT = re.compile(r'^import (\{.*\}) from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const) (\w+))", re.MULTILINE)


def program() -> str:
    """All modules as one JavaScript function, `graphView`, which returns {render, open, layoutGraph}.

    Its own text is what the layout's thread runs and what saved pages hold, so nothing is built or fetched.
    """
    texts = {"STYLE": "graph.css", "PAGE": "page.html"}
    constants = [f"const {name} = {_literal(_read(file))};" for name, file in texts.items()]
    modules = dict(_modules("start"))
    ends = "return { ...module_start, ...module_layout };"
    return "\n".join(["function graphView() {", '"use strict";', *constants, *modules.values(), ends, "}"])


def _modules(name: str) -> Iterator[tuple[str, str]]:
    """A module in a scope of its own, after those that it imports."""
    source = _read(f"{name}.js")
    for match in _IMPORT.finditer(source):
        yield from _modules(match[2])
    names = ", ".join(match[2] for match in _EXPORT.finditer(source))
    body = _EXPORT.sub(r"\1", _IMPORT.sub(r"const \1 = module_\2;", source))
    yield name, f"const module_{name} = (() => {{\n{body}return {{ {names} }};\n}})();"


def page(picture: Picture, **state: Any) -> str:
    """The text of an HTML page that shows the picture and needs nothing else.

    state: `selected`, `color_by` and `search` of GraphView, as the page is to open.
    """
    values = {
        "TITLE": escape(picture.title),
        "STATE": _literal({"picture": picture_to_json(picture), **state}),
        "PROGRAM": program(),
    }
    return re.sub(r"\{\{(TITLE|STATE|PROGRAM)\}\}", lambda match: values[match[1]], _read("page.html"))


def save_page(picture: Picture, path: str | Path) -> Path:
    """Write that page; returns where. Raises ViewError where that is not possible."""
    path = Path(path).expanduser()
    try:
        path.write_text(page(picture), encoding="utf-8")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ViewError(
            f"{str(path)[:200]}: the page cannot be written ({why}); name a file in another folder."
        ) from error
    return path


def _read(file: str) -> str:
    return (_FOLDER / file).read_text(encoding="utf-8")


def _literal(value: str | Mapping[str, Any]) -> str:
    """JSON that may stand inside <script>."""
    return json.dumps(value).replace("<", "\\u003c")
