"""JupyterLab and a browser of their own for these tests: temporary folders, nothing outside this machine."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from jupyterlab_page import Lab, screenshot_path
from playwright.sync_api import Browser, Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/models.py, tests/ports.py

from ports import free_port

REPOSITORY = Path(__file__).parents[2]
START_S = 180
CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab server over a copy of notebooks/ and data/."""
    home = tmp_path_factory.mktemp("lab")
    root = home / "root"
    for folder in ("notebooks", "data"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    port, token = free_port(), secrets.token_hex(16)
    folders = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython", "MPLCONFIGDIR": "matplotlib", "WORKBENCH_HOME": "workbench",
    }  # fmt: skip
    env = {**os.environ, **{name: str(home / folder) for name, folder in folders.items()}, "JUPYTER_TOKEN": token}
    options = [
        "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={root}", "--expose-app-in-browser", "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    log = home / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], cwd=root, env=env, stdout=output, stderr=output
        )
    started = Lab(f"http://127.0.0.1:{port}", token, root, home / "workbench", server.pid)
    try:
        _wait_until_it_answers(started, server, log)
        yield started
    finally:
        end_server(server)


def _wait_until_it_answers(lab: Lab, server: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < ends:
        try:
            with urllib.request.urlopen(f"{lab.url}/api/status?token={lab.token}", timeout=30):
                return
        except OSError:  # also URLError: it has not begun to listen
            time.sleep(0.1)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text(errors='replace')[-4000:]}")


def end_server(server: subprocess.Popen[bytes]) -> None:
    """The server and all it started; kernels lead process groups of their own."""
    family = psutil.Process(server.pid).children(recursive=True) if server.poll() is None else []
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    for process in psutil.wait_procs(family, timeout=3)[1]:
        process.kill()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or "/usr/bin/chromium", args=CHROMIUM_FLAGS
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, lab: Lab, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A fresh page and an empty store. The test fails if it asks anything outside 127.0.0.1 or reports an error."""
    shutil.rmtree(lab.store, ignore_errors=True)
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, reduced_motion="reduce")
    context.set_default_timeout(60_000)
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    context.on("request", lambda sent: asked.append(sent.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield page
    if getattr(request.node, "failed", False):
        page.screenshot(path=screenshot_path(request.node.name, "failure"))
    told = list(complaints)  # JupyterLab may complain of kernels that are gone
    page.evaluate("window.jupyterapp?.serviceManager.sessions.shutdownAll()")
    context.close()
    outside = [url for url in asked if urlsplit(url).scheme in ("http", "https", "ws", "wss", "ftp")
               and urlsplit(url).hostname != "127.0.0.1"]  # fmt: skip
    assert asked, "the network log is empty"
    assert not outside, f"the page asked outside this machine: {outside}"
    assert not told, f"errors in the browser's console: {told}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.failed = report.failed
    return report
