"""Viewer: a model on show in a frame of the notebook."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from workbench.view.server import Server

HEIGHT = 600
_STYLE = """<style>
.wb-view {
  color: var(--jp-ui-font-color1, #212121); font-family: var(--jp-ui-font-family, system-ui, sans-serif);
  font-size: var(--jp-ui-font-size1, 13px); line-height: 1.45;
}
.wb-view-title { display: flex; flex-wrap: wrap; gap: 0 12px; align-items: baseline; padding: 2px 2px 6px; }
.wb-view-title b { font-weight: 600; overflow-wrap: anywhere; }
.wb-view .wb-view-title a { margin-left: auto; color: var(--jp-content-link-color, #1976d2); }
.wb-view-quiet, .wb-view p { color: var(--jp-ui-font-color2, #616161); }
.wb-view p { margin: 6px 2px 0; font-size: inherit; }
.wb-view iframe {
  display: block; box-sizing: border-box; width: 100%; background: var(--jp-layout-color0, #fff);
  border: 1px solid var(--jp-border-color2, #e0e0e0); border-radius: 6px;
}
</style>"""
_HUBS = ("JUPYTERHUB_USER", "COLAB_RELEASE_TAG")


@dataclass(repr=False, eq=False)
class Viewer:
    """A model in a viewer until `stop()` or the end of this kernel; as the last line of a cell it shows its frame.

    The frame asks 127.0.0.1, so the browser must run on this machine. If JupyterLab runs on another, forward the
    viewer's port as you forward JupyterLab's: `ssh -N -L PORT:127.0.0.1:PORT HOST`, with the port in `url`.

    url: who knows it can see the model. height: of the frame in pixels; change it and show the viewer again.
    notes: sentences under the frame.
    """

    server: Server
    url: str
    title: str
    height: int = HEIGHT
    notes: tuple[str, ...] = ()

    @property
    def running(self) -> bool:
        return self.server.running

    def stop(self) -> None:
        """Closes the viewer's port; frames on show keep their picture until they are drawn anew."""
        self.server.stop()

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        if not self.running:
            return f"{self.title}: this viewer is stopped."
        return " ".join([f"{self.title}: open {self.url} in a browser on this machine.", *self.notes])

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._html()}

    def _html(self) -> str:
        if not self.running:
            return f"{_STYLE}<div class='wb-view wb-view-quiet'>{escape(repr(self))}</div>"
        title, url = escape(self.title), escape(self.url)
        notes = [*self.notes, *elsewhere(os.environ, self.server.port)]
        return (
            f"{_STYLE}<div class='wb-view'><div class='wb-view-title'><b>{title}</b>"
            f"<span class='wb-view-quiet'>as long as this kernel runs</span>"
            f"<a href='{url}' target='_blank' rel='noopener noreferrer'>Open in a tab</a></div>"
            f"<iframe src='{url}' title='{title}' style='height:{int(self.height)}px' referrerpolicy='no-referrer'>"
            f"</iframe>{''.join(f'<p>{escape(note)}</p>' for note in notes)}</div>"
        )


def elsewhere(environment: Mapping[str, str], port: int) -> list[str]:
    """What to tell where the browser most likely runs on another machine than this kernel."""
    if any(name in environment for name in _HUBS):
        return [f"This kernel runs on a server: the frame is empty unless your browser reaches its 127.0.0.1:{port}."]
    if "SSH_CONNECTION" in environment:
        return [
            "This kernel was started over ssh. If the frame is empty, run this where your browser is: "
            f"ssh -N -L {port}:127.0.0.1:{port} and the name of this machine."
        ]
    return []
