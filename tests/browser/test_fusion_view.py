"""FusionView and SubgraphView in JupyterLab: a network before and after, looked at and changed by hand."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
from graph_steps import canvas, click, drawn, lit, shown
from jupyterlab_page import Lab, button, cell_errors, command, open_notebook, run_cell, take_screenshots, write_notebook
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser
RECORDED = "data/recorded/tensorrt-8.6.0-h200/resnet18"
RESIDUAL = "/layer1/layer1.0/conv2/Conv + /layer1/layer1.0/Add + /layer1/layer1.0/relu_1/Relu"
DYNAMIC = (
    "import logging; logging.getLogger().setLevel('ERROR')",
    "from onnxruntime.quantization import QuantType, quantize_dynamic",
    "quantize_dynamic('data/models/fashion_cnn.onnx', 'dynamic.onnx', weight_type=QuantType.QUInt8)",
)


def show(page: Page, lab: Lab, name: str, *lines: str) -> Locator:
    """The widget that the last line makes."""
    open_notebook(page, lab, write_notebook(lab, name, ["\n".join(lines)]))
    run_cell(page, 0)
    widget = page.locator(".wb").first
    expect(widget).to_be_visible()
    return widget


def graph(widget: Locator) -> Locator:
    return drawn(widget.locator(".wbg"))


def number_of(widget: Locator, fact: str) -> Locator:
    return widget.locator(".wb-facts div", has_text=fact).locator("b").first


def test_a_recorded_engine_is_looked_into(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    widget = show(
        page, lab, "recorded",
        "from workbench.widgets import FusionView",
        f"files = dict(model='{RECORDED}_classic.nodes.json.gz', log='{RECORDED}_fp32.build.log.xz')",
        f"FusionView('{RECORDED}_fp32.inspector.json.gz', against='{RECORDED}_int8.inspector.json.gz', **files)",
    )  # fmt: skip
    expect(number_of(widget, "nodes with a known fate")).to_have_text("65 of 65")
    view = graph(widget)
    button(view, "None").click()  # nothing stays folded
    click(view, "after", RESIDUAL)
    assert lit(view, "before") == RESIDUAL.split(" + ")
    take_screenshots(page, widget, request.node.name, "residual")

    canvas(view, "before").press("0")  # all of it in sight
    click(view, "before", "/conv1/Conv")
    assert lit(view, "after") == ["/conv1/Conv + /relu/Relu"]
    view.get_by_role("searchbox").fill("maxpool")
    expect(view).to_have_attribute("data-matches", re.compile("[1-9]"))

    button(widget, "▸ How the builder got there, pass by pass").click()
    for _ in range(2):
        button(widget, "Next pass").click()
    expect(widget.locator(".wb-story .wb-here")).to_contain_text("Myelin optimization")
    expect(widget.locator(".wb-story ul")).to_contain_text("Fusing fc.bias with")
    button(widget, "▸ Every layer").click()
    expect(widget.get_by_text("conv + bias + add + relu", exact=True).first).to_be_visible()
    take_screenshots(page, widget, request.node.name, "story")
    assert not cell_errors(page)


def test_a_built_engine_is_saved_as_a_drawing(page: Page, lab: Lab) -> None:
    widget = show(
        page, lab, "saved",
        "import workbench as wb",
        "from workbench.widgets import FusionView",
        "FusionView(wb.build(wb.load_model('data/models/fashion_cnn.onnx'), wb.BuildConfig('fp16'), 'rtx'))",
    )  # fmt: skip
    view = graph(widget)
    with page.expect_download() as download:
        button(view, "SVG").click()
    texts = [element.text for element in ElementTree.parse(download.value.path()).iter() if element.text]
    assert any("conv + batch norm + relu" in text for text in texts) and "image" in texts


def test_the_slider_divides_the_model_anew(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    widget = show(
        page, lab, "slider", *DYNAMIC, "from workbench.widgets import SubgraphView", "SubgraphView('dynamic.onnx')"
    )
    expect(number_of(widget, "engines")).to_have_text("8")
    view = graph(widget)
    assert "trt_7" in shown(view, "after")
    click(view, "after", "trt_0")
    assert len(lit(view, "before")) > 0
    take_screenshots(page, widget, request.node.name, "eight")

    handle = widget.get_by_role("slider")
    for _ in range(3):
        handle.press("ArrowRight")
    expect(number_of(widget, "engines")).to_have_text("2")
    expect(widget.locator("tr", has=page.locator("b")).first).to_contain_text("98.3 KB")
    page.wait_for_function(
        "root => !root.graph.sides.after.pane.boxes.some(box => box.name === 'trt_2')", arg=view.element_handle()
    )

    button(widget, "Build and run").click()
    expect(widget.get_by_text("All parts ran, compared with ONNX Runtime alone")).to_be_visible(timeout=90_000)
    expect(number_of(widget, "largest relative difference")).to_have_text(re.compile(r"0\.0e\+00|e-0[5-9]"))
    button(widget, "▸ Refused nodes: 16").click()
    expect(widget.get_by_text("TensorRT has no such operator").first).to_be_visible()
    take_screenshots(page, widget, request.node.name, "built")
    assert not cell_errors(page)


def test_unknown_sizes_have_two_ways_out(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    widget = show(
        page, lab, "sizes",
        "import numpy as np",
        "from workbench.export.text_encoder import text_encoder",
        "from workbench.widgets import SubgraphView",
        "words = text_encoder('words.onnx', vocabulary=100)",
        "SubgraphView(words, samples=[{'tokens': np.arange(32).reshape(2, 16)}])",
    )  # fmt: skip
    expect(number_of(widget, "engines")).to_have_text("1")
    button(widget, "Build and run").click()
    expect(widget.get_by_text("some trt inputs dynamic shape info not set")).to_be_visible(timeout=60_000)
    expect(button(widget, "Raise min_subgraph_size to 52: leaves 0 engines")).to_be_visible()
    command(page, "application:toggle-left-area")  # with the list of files the widget has 470 pixels
    take_screenshots(page, widget, request.node.name, "unknown-beside-files")
    command(page, "application:toggle-left-area")
    take_screenshots(page, widget, request.node.name, "unknown")

    widget.locator(".wb-error + *, .wb-actions").get_by_role("button", name="Collect shapes").last.click()
    expect(widget.get_by_text("Shapes collected:")).to_be_visible(timeout=60_000)
    button(widget, "Build and run").click()
    expect(widget.get_by_text("All parts ran, compared with ONNX Runtime alone")).to_be_visible(timeout=90_000)
    take_screenshots(page, widget, request.node.name, "collected")
    assert not cell_errors(page)


def test_a_name_that_the_model_lacks_is_told(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    widget = show(
        page, lab, "native", "from workbench.widgets import SubgraphView",
        "SubgraphView('data/models/fashion_cnn.onnx')",
    )  # fmt: skip
    expect(number_of(widget, "engines")).to_have_text("1")
    field = widget.get_by_placeholder("operators or nodes, with commas")
    field.fill("Rellu")
    field.press("Tab")
    button(widget, "Ask again").click()
    expect(widget.locator(".wb-error")).to_contain_text("did you mean")
    take_screenshots(page, widget, request.node.name, "mistake")
    field.fill("Relu")
    field.press("Tab")
    button(widget, "Ask again").click()
    expect(number_of(widget, "engines")).not_to_have_text("1", timeout=60_000)
    expect(widget.locator(".wb-error")).to_have_count(0)
