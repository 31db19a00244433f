"""What lies in an installed viewer's package: found without importing it, since that may write and call out."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

from workbench.errors import ViewError
from workbench.view.server import Content

_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
_SCRIPT = "workbench.js"
# In a frame of another site (JupyterLab at localhost, the viewer at 127.0.0.1) browsers give neither cookies nor
# storage, and VisualDL fails without; Netron asks for consent unless a cookie tells that it was given. Jupyter's own
# cookies, which know no ports, are none of their business.
_OWN_MEMORY = """
const kept = new Map(Object.entries({ vdlLng: "en" }));
const memory = {
  getItem: (key) => kept.get(String(key)) ?? null,
  setItem: (key, value) => { kept.set(String(key), String(value)); },
  removeItem: (key) => { kept.delete(String(key)); },
  clear: () => kept.clear(),
  key: (index) => [...kept.keys()][index] ?? null,
  get length() { return kept.size; },
};
for (const name of ["localStorage", "sessionStorage"]) Object.defineProperty(window, name, { get: () => memory });
Object.defineProperty(document, "cookie", { get: () => "consent=1", set: () => {} });
"""


def folder_of(package: str, title: str) -> Path:
    """Where the package is installed. Raises ViewError if it is not."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ViewError(f"{title} is not installed here; run `pip install {package}` in this environment.")
    return Path(next(iter(spec.submodule_search_locations)))


def title_of(package: str, title: str) -> str:
    """The viewer with its release, as in 'Netron 9.3.3'."""
    return f"{title} {importlib.metadata.version(package)}"


def unknown_layout(package: str, title: str, known: str) -> ViewError:
    """For a release whose files are not what they were."""
    found = title_of(package, title)
    return ViewError(f"{found} is made in a way this workbench does not know; run `pip install {package}=={known}`.")


def static_files(folder: Path, wanted: Callable[[str], bool] = lambda path: True) -> dict[str, Content]:
    """The files of a page by their path in the folder; code and whatever else browsers have no use for stays out."""
    paths = (path for path in folder.rglob("*") if path.suffix in _MEDIA_TYPES and path.is_file())
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: Content(path.read_bytes, _MEDIA_TYPES[path.suffix]) for name, path in files.items() if wanted(name)}


def with_own_memory(html: str, base: str) -> str:
    """The page with a script ahead of all others that gives it cookies and storage of its own, gone when it is closed.

    It stands at `base` in what `own_memory` adds to a site.
    """
    return re.sub(r"(?=<script\b)", f'<script src="{base}{_SCRIPT}"></script>\n', html, count=1)


def own_memory() -> dict[str, Content]:
    return {_SCRIPT: script(_OWN_MEMORY)}


def page(text: str) -> Content:
    return Content(text.encode, _MEDIA_TYPES[".html"])


def script(text: str) -> Content:
    return Content(text.encode, _MEDIA_TYPES[".js"])
