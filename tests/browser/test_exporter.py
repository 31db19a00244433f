"""Exporter in JupyterLab: a PyTorch model exported by hand, a missing environment, mistakes."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest
from jupyterlab_page import Lab, button, show_widget, take_screenshots
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser
NET = """
import torch

def make():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
                              torch.nn.Flatten(), torch.nn.Linear(8, 5))
    return net, torch.rand(1, 3, 32, 32)

def broken():
    return torch.nn.Linear(2, 2), torch.rand(1, 3)
"""

ONE_WEIGHT = bytes(16) + struct.pack("<i", 4) + bytes([8, 5, 16, 1]) + bytes(4)
"""A .pdiparams file of one float32; whether the program beside it is one, only the environment can tell."""


@pytest.fixture
def silent_index() -> Iterator[str]:
    """A package index that takes every connection and answers none: pip waits, with or without a network."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/simple"


def exporter(page: Page, lab: Lab, name: str, *before: str) -> Locator:
    lines = [*before, "from workbench.widgets import Exporter", "widget = Exporter()", "widget"]
    return show_widget(page, lab, name, ["\n".join(lines)])


def name_source(widget: Locator, text: str) -> None:
    field = widget.get_by_placeholder("net.py:make_model")
    field.fill(text)
    field.press("Tab")


@pytest.mark.skipif(os.environ.get("WORKBENCH_TEST_TORCH") == "0", reason="PyTorch is left out: WORKBENCH_TEST_TORCH=0")
def test_a_torch_model_is_exported_and_a_mistake_told(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    (lab.root / "net.py").write_text(NET)
    widget = exporter(page, lab, "export")
    take_screenshots(page, widget, request.node.name, "empty")

    name_source(widget, "net.py:make")
    expect(widget.get_by_text("a model of PyTorch")).to_be_visible()
    widget.get_by_placeholder("input:0=batch").fill("input:0=batch")
    button(widget, "Export").click()
    card = widget.locator(".wb-card[data-parity]")
    expect(card).to_contain_text("net_make.onnx")
    expect(card).to_contain_text("input: float32[batch, 3, 32, 32]")
    take_screenshots(page, widget, request.node.name, "exported")

    name_source(widget, "net.py:broken")
    button(widget, "Export").click()
    expect(widget.locator(".wb-error")).to_contain_text("does not run on its own example")
    take_screenshots(page, widget, request.node.name, "failed")


def test_a_missing_environment_is_told_with_its_size_and_waits_for_a_yes(
    page: Page, lab: Lab, silent_index: str, request: pytest.FixtureRequest
) -> None:
    (lab.root / "old.pdmodel").write_bytes(b"x")
    (lab.root / "old.pdiparams").write_bytes(ONE_WEIGHT)
    pip = {"PIP_INDEX_URL": silent_index, "PIP_DEFAULT_TIMEOUT": "600"}
    widget = exporter(page, lab, "environment", "import os", f"os.environ.update({pip})")
    name_source(widget, "old.pdmodel")
    expect(widget.get_by_text("MB to download")).to_be_visible()
    expect(button(widget, "Export")).to_be_disabled()
    take_screenshots(page, widget, request.node.name, "asks")

    widget.get_by_label("yes, make it").check()
    expect(button(widget, "Export")).to_be_enabled()
    button(widget, "Export").click()
    expect(widget.locator(".wb-phases")).to_contain_text("Making the Paddle 2 environment")
    take_screenshots(page, widget, request.node.name, "making")
    button(widget, "Cancel").click()
    expect(widget.get_by_text("Cancelled")).to_be_visible()
    folder = lab.store / "environments"
    assert not [path for path in folder.iterdir() if path.is_dir()]
