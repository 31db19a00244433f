"""A web server for one viewer: on 127.0.0.1 alone, behind a secret address, giving out only what it was handed."""

from __future__ import annotations

import io
import secrets
import shutil
import socketserver
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from workbench.errors import ViewError

_ADDRESS = "127.0.0.1"
_IDLE_S = 60.0
"""How long a browser's connection may stand open without asking anything."""
_POLL_S = 0.1
"""So long `stop` waits at most."""
_POLICY = {
    "default-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "object-src": "'none'",
    # No pop-ups, no leaving for another page in the whole tab, no native dialogs that stop JupyterLab.
    "sandbox": "allow-scripts allow-same-origin allow-downloads",
}
_HEADERS = {
    "Cache-Control": "no-store",
    # A process of its own in the browser. Without, 10,000 nodes in Netron hold JupyterLab up for 2 s; with, for 50 ms.
    "Origin-Agent-Cluster": "?1",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True)
class Content:
    """What stands at one address. read: called for every request, in a thread of its own; may raise OSError. A path in
    its place is passed on piece by piece, however large the file."""

    read: Callable[[], bytes] | Path
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)
    status: HTTPStatus = HTTPStatus.OK


ABSENT = Content(lambda: b"", "text/plain", status=HTTPStatus.NO_CONTENT)
"""For what a page asks for but can do without: a 404 would stand as an error in the browser's console."""

Site = Callable[[str], Content | None]
"""The path behind the secret, without a leading slash -> what stands there."""


class Server:
    """Serves a site until `stop`, or until this process ends; it runs in a daemon thread.

    policy: directives of the Content-Security-Policy beyond the strictest; outside addresses have no place in it.
    Raises ViewError when the machine gives no port.
    """

    def __init__(self, site: Site, policy: Mapping[str, str], *, token: str | None = None) -> None:
        self.token = token or secrets.token_urlsafe()
        directives = {**_POLICY, **policy}
        headers = {
            **_HEADERS,
            "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in directives.items()),
        }
        try:
            self._listener = _Listener(site, self.token, headers)
        except OSError as error:
            raise ViewError(
                f"the viewer cannot listen on {_ADDRESS} ({error.strerror or error}); "
                "stop other viewers or restart the kernel, then try again."
            ) from error
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(_POLL_S,), daemon=True, name="workbench viewer"
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._listener.server_address[1])

    @property
    def url(self) -> str:
        """Ends with a slash; who knows it can see the model."""
        return f"http://{_ADDRESS}:{self.port}/{self.token}/"

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Closes the port; a second call does nothing."""
        if self.running:
            self._listener.shutdown()
            self._thread.join()
            self._listener.server_close()


class _Listener(socketserver.ThreadingTCPServer):
    """Not http.server's own, which asks the name service for its name."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, site: Site, token: str, headers: Mapping[str, str]) -> None:
        super().__init__((_ADDRESS, 0), _Handler)
        self.site, self.token, self.headers = site, token.encode(), headers
        port = self.server_address[1]
        self.hosts = (f"{_ADDRESS}:{port}", f"localhost:{port}")

    def handle_error(self, request: object, client_address: object) -> None:
        """Silence: a browser that went away is no news, and a thread's traceback would land in any cell's output."""


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    server_version, sys_version = "workbench", ""
    timeout = _IDLE_S

    def do_GET(self) -> None:
        content = self._found()
        try:
            body = content.read.open("rb") if isinstance(content.read, Path) else io.BytesIO(content.read())
        except OSError:
            content = _text(HTTPStatus.NOT_FOUND, "this file is gone")
            body = io.BytesIO(b"this file is gone")
        with body:
            self._send(content, body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _found(self) -> Content:
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:  # another name for this machine: DNS rebinding
            return _text(HTTPStatus.FORBIDDEN, "this viewer answers to its own address only")
        _, _, secret_and_rest = unquote(self.path.partition("?")[0]).partition("/")
        secret, _, path = secret_and_rest.partition("/")
        known = secrets.compare_digest(secret.encode(), self.server.token)
        return (self.server.site(path) if known else None) or _text(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _send(self, content: Content, body: IO[bytes]) -> None:
        self.send_response(content.status)
        self.send_header("Content-Type", content.media_type)
        self.send_header("Content-Length", str(body.seek(0, io.SEEK_END)))
        body.seek(0)
        for name, value in {**self.server.headers, **content.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            shutil.copyfileobj(body, self.wfile)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


def _text(status: HTTPStatus, sentence: str) -> Content:
    return Content(sentence.encode, "text/plain; charset=utf-8", status=status)
