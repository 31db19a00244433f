"""`make lab`, as a new user starts it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY, START_S, end_server
from playwright.sync_api import Browser, expect
from ports import free_port

pytestmark = pytest.mark.browser


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """What `make lab` prints for the browser; the set-up was done by whoever runs these tests."""
    port = free_port()
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR")
    names += ("JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR", "WORKBENCH_HOME")
    env = {**os.environ, **{name: str(tmp_path / name) for name in names}}
    log = tmp_path / "log"
    make = shutil.which("make")
    assert make is not None
    with log.open("wb") as output:
        command = [make, "lab", f"PORT={port}", "BROWSER=none"]
        server = subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=output, stderr=output)
    try:
        ends = time.monotonic() + START_S
        while not (found := re.search(rf"http://127\.0\.0\.1:{port}/lab\S*token=\w+", log.read_text(errors="replace"))):
            assert server.poll() is None and time.monotonic() < ends, log.read_text(errors="replace")[-3000:]
            time.sleep(0.2)
        yield found[0]
    finally:
        end_server(server)


def test_make_lab_opens_the_welcome_notebook_to_who_has_the_token(address: str, browser: Browser) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(address.split("/lab")[0] + "/api/contents", timeout=60)
    page = browser.new_context().new_page()
    page.goto(address)
    expect(page.get_by_role("heading", name="Welcome to the TensorRT workbench")).to_be_visible()
    expect(page.get_by_text("Would you like to get notified")).to_have_count(0)
    page.context.close()
