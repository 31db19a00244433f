"""VisualDL's graph page in the notebook: the page of the installed package, answered from here.

VisualDL's own server is not started: importing it writes to the home folder, it reports to Baidu unless told not to,
takes uploads, can run pip, and its page needs two small answers and the model only.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from workbench.errors import ViewError
from workbench.model import Model, load_model
from workbench.view.package import (
    folder_of,
    own_memory,
    page,
    script,
    static_files,
    title_of,
    unknown_layout,
    with_own_memory,
)
from workbench.view.server import Content, Server
from workbench.view.subject import Subject, subject_of
from workbench.view.viewer import HEIGHT, Viewer

_PACKAGE = ("visualdl", "VisualDL")
_KNOWN = "2.5.3"
MOST_NODES = 1400
"""Above this VisualDL's page stops with a native dialog, and 2,000 nodes take more than half a minute."""
_ENVIRONMENT = "environment.js"
_GRAPH = "graph/static_graph"
_DRAWING = "__snowpack__/link/packages/netron/dist/index.d8acc26a33c3950d58c4.js"
_REPAIRS = {
    # Names with a / are taken for Paddle's groups, which ONNX has not: nothing of PyTorch's exports would be drawn.
    'if(s){let e=t.name.split("/")': 'if(s&&t.show_name){let e=t.name.split("/")',
    # Only the dynamic graph has all of it in `_allGraph`: a click, or a find, ended in an error.
    "for(const t of this._allGraph.nodes)if(t.name===e.name){this.showNodeProperties(t)": (
        "for(const t of(this._allGraph||this._activeGraph).nodes)if(t.name===e.name){this.showNodeProperties(t)"
    ),
}
"""What is mended in VisualDL's code that draws, and how."""
_LEFT_OUT = ("static/", "__snowpack__/link/packages/trace/", "__snowpack__/link/packages/wasm/")
_POLICY = {
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' blob: data:",
    "frame-src": "'self'",
}


def visualdl(model: Model | str | Path, *, height: int = HEIGHT) -> Viewer:
    """VisualDL's graph page with this model in a frame of the notebook.

    model: a Model, shown with its edits, or an .onnx or .pdmodel file, of at most 1,400 nodes.
    height: of the frame, in pixels.
    Raises ModelError: an .onnx file that is missing or broken. Raises ViewError: another file that is, another format,
    more nodes, or VisualDL is missing or of a release that this workbench does not know.
    """
    if not isinstance(model, Model) and str(model).lower().endswith(".onnx"):
        model = load_model(model)
    subject = subject_of(model)
    _refuse(subject)
    token = secrets.token_urlsafe()
    contents = _contents(folder_of(*_PACKAGE) / "server" / "dist", f"/{token}", subject)
    server = Server(contents.get, _POLICY, token=token)
    title = f"{subject.title} in {title_of(*_PACKAGE)}"
    return Viewer(server, server.url + _GRAPH, title, height)


def _refuse(subject: Subject) -> None:
    if subject.suffix not in (".onnx", ".pdmodel"):
        raise ViewError(f"{subject.name}: VisualDL draws .onnx and .pdmodel files here; use view.netron for others.")
    if subject.nodes is None:
        raise ViewError(f"{subject.name}: not a Paddle model, or cut off; export or copy it again.")
    if subject.nodes > MOST_NODES:
        count = f"{subject.nodes:,} nodes"
        raise ViewError(
            f"{subject.name} has {count}, and VisualDL draws up to {MOST_NODES:,}; use view.netron instead."
        )


def _contents(dist: Path, base: str, subject: Subject) -> dict[str, Content]:
    """Everything below the base address: VisualDL's page, and what it asks its server for to draw a static graph."""
    values = {
        "PUBLIC_PATH": base,
        "BASE_URI": base,
        "API_URL": f"{base}/api",
        "THEME": "",
        "TELEMETRY_ID": "",
        "API_TOKEN_KEY": "",
    }
    contents = static_files(dist, lambda path: not path.startswith(_LEFT_OUT))
    values_script = "__snowpack__/env.local.js"
    html, inline = _without_inline_script(_fill(dist / "index.html", values), f"{base}/{_ENVIRONMENT}")
    index = page(with_own_memory(html, f"{base}/"))
    contents |= {
        **own_memory(),
        _ENVIRONMENT: script(inline),
        values_script: script(_fill(dist / values_script, values)),
        _DRAWING: script(_repair(dist / _DRAWING)),
        "index": index,
        _GRAPH: index,
        "api/component_tabs": _answer(["static_graph"]),
        "api/components": _answer([]),
        "api/graph/static_graph": Content(
            subject.read,
            "application/octet-stream",
            {"Content-Disposition": f'attachment; filename="{quote(subject.name)}"'},
        ),
    }
    return contents


def _fill(path: Path, values: Mapping[str, str]) -> str:
    """As VisualDL's server fills its templates."""
    text = _read(path)
    for name, value in values.items():
        text = text.replace("{{" + name + "}}", value)
    return text


def _repair(path: Path) -> str:
    text = _read(path)
    for wrong, right in _REPAIRS.items():
        if text.count(wrong) != 1:
            raise unknown_layout(*_PACKAGE, _KNOWN)
        text = text.replace(wrong, right)
    return text


def _read(path: Path) -> str:
    if not path.is_file():
        raise unknown_layout(*_PACKAGE, _KNOWN)
    return path.read_text(encoding="utf-8")


def _without_inline_script(html: str, address: str) -> tuple[str, str]:
    """The page with its script moved to an address, as the policy allows no script inside a page; and that script."""
    found = re.findall(r"<script type=module>(.*?)</script>", html, re.DOTALL)
    if len(found) != 1:
        raise unknown_layout(*_PACKAGE, _KNOWN)
    return html.replace(f"<script type=module>{found[0]}", f"<script type=module src={address}>"), found[0]


def _answer(data: object) -> Content:
    text = json.dumps({"status": 0, "msg": "", "data": data})
    return Content(text.encode, "application/json")
