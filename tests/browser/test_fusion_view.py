"""FusionView and SubgraphView in JupyterLab: a network before and after, looked at by hand."""

from __future__ import annotations

import pytest
from jupyterlab_page import Lab, cell_errors, open_notebook, run_cell, take_screenshots, write_notebook
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser
RECORDED = "data/recorded/tensorrt-8.6.0-h200"


def show(page: Page, lab: Lab, name: str, *lines: str) -> Locator:
    """The widget that the last line makes."""
    open_notebook(page, lab, write_notebook(lab, name, ["\n".join(lines)]))
    run_cell(page, 0)
    widget = page.locator(".wb").first
    expect(widget).to_be_visible()
    return widget


def button(widget: Locator, name: str) -> Locator:
    return widget.get_by_role("button", name=name, exact=True)


def test_a_recorded_engine_is_looked_into(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    widget = show(
        page, lab, "recorded",
        "from workbench.widgets import FusionView",
        f"folder = {RECORDED!r}",
        "FusionView(f'{folder}/resnet18_fp32.inspector.json', model=f'{folder}/resnet18.nodes.json',",
        "           log=f'{folder}/resnet18_fp32.build.log.gz', against=f'{folder}/resnet18_int8.inspector.json')",
    )  # fmt: skip
    expect(widget.get_by_text("65 nodes -> 23 kernels")).to_be_visible()
    page.wait_for_timeout(2000)
    take_screenshots(page, widget, request.node.name, "start")


def test_subgraphs(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    widget = show(
        page, lab, "subgraphs",
        "from onnxruntime.quantization import quantize_dynamic",
        "from workbench.widgets import SubgraphView",
        "quantize_dynamic('data/models/fashion_cnn.onnx', 'dynamic.onnx')",
        "SubgraphView('dynamic.onnx', 'rtx')",
    )  # fmt: skip
    page.wait_for_timeout(8000)
    take_screenshots(page, widget, request.node.name, "start")
    button(widget, "Build and run").click()
    page.wait_for_timeout(9000)
    take_screenshots(page, widget, request.node.name, "built")
