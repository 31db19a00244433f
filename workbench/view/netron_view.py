"""Netron in the notebook: its own page and this one model, without its consent page, its telemetry and its expiry.

Netron's own server is not used: it gives out every file of the model's folder, and one process shows one model only.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from urllib.parse import quote

from workbench.model import Model
from workbench.view.package import folder_of, own_memory, page, static_files, title_of, unknown_layout, with_own_memory
from workbench.view.server import ABSENT, Content, Server
from workbench.view.subject import Subject, subject_of
from workbench.view.viewer import HEIGHT, Viewer

_PACKAGE = ("netron", "Netron")
_KNOWN = "9.3.3"
SLOW_NODES = 5000
"""From this many nodes on a sentence under the frame asks for patience."""
_NODES_PER_SECOND = 1500  # measured in Chromium on two cores: 5,000 in 3 s, 10,000 in 5 to 7 s, 30,000 in 18 to 26 s
_POLICY = {
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' blob: data:",
    "frame-src": "'none'",
}


def netron(model: Model | str | Path, *, height: int = HEIGHT) -> Viewer:
    """Netron with this model in a frame of the notebook.

    model: a Model, shown with its edits, or any file that Netron opens (ONNX, Paddle, TensorFlow, ...). Weights that
    lie in other files are not shown. height: of the frame, in pixels.
    Raises ViewError: no such file, or Netron is missing or of a release that this workbench does not know.
    """
    subject = subject_of(model)
    folder = folder_of(*_PACKAGE)
    address = f"data/{subject.name}"
    contents = {
        **static_files(folder),
        "": page(_page(folder / "index.html", subject, address)),
        **own_memory(),
        address: Content(subject.read, "application/octet-stream"),
    }
    contents.pop("index.html", None)
    server = Server(
        lambda path: contents.get(path) or (ABSENT if path.startswith("data/") else None),
        _POLICY,
    )
    title = f"{subject.title} in {title_of(*_PACKAGE)}"
    return Viewer(server, server.url, title, height, _notes(subject))


def _page(index: Path, subject: Subject, address: str) -> str:
    """Netron's page for one file. As version 0.0.0 it reports nothing, without a date it never expires.

    Its links outside lead nowhere: a click on the logo would leave the model for a page of the internet.
    """
    metas = {
        "type": "Python",
        "version": "0.0.0",
        "file": f"/{quote(address)}",
        "identifier": subject.name,
        "name": subject.name,
    }
    head = "\n".join(f'<meta name="{name}" content="{escape(value)}">' for name, value in metas.items())
    html = index.read_text(encoding="utf-8") if index.is_file() else ""
    html = re.sub(r'<meta name="date" content="[^"]*">', "", html)
    html = html.replace(' href="javascript:void(0)"', "")
    html = re.sub(r' href="https?://[^"]*"( target="[^"]*")?', ' href="#"', html)
    html, versions = re.subn(r'<meta name="version" content="[^"]*">', lambda _: head, html)
    if versions != 1 or 'name="date"' in html:
        raise unknown_layout(*_PACKAGE, _KNOWN)
    return with_own_memory(html, "")


def _notes(subject: Subject) -> tuple[str, ...]:
    if subject.nodes is None or subject.nodes < SLOW_NODES:
        return ()
    seconds = round(subject.nodes / _NODES_PER_SECOND)
    return (
        f"Netron takes about {seconds} s to lay out {subject.nodes:,} nodes; "
        "its notice that this may take long is no error.",
    )
