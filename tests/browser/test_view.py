"""Netron and VisualDL inside JupyterLab: they draw, ask nothing outside, and end with the kernel."""

from __future__ import annotations

import dataclasses
import re
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import onnx
import pytest
from jupyterlab_page import Lab, open_notebook, run_cell, screenshot_path, take_screenshots, write_notebook
from onnx import TensorProto, helper
from playwright.sync_api import Browser, FrameLocator, Locator, Page, expect

pytestmark = pytest.mark.browser
IMPORTS = "import workbench as wb\nfrom workbench import view\n"
FASHION = IMPORTS + 'model = wb.load_model("data/models/fashion_cnn.onnx")\n'


def show(page: Page, lab: Lab, name: str, *cells: str) -> list[Locator]:
    """The views of a new notebook's cells, all run."""
    open_notebook(page, lab, write_notebook(lab, name, cells))
    outputs = [run_cell(page, index).locator(".wb-view") for index in range(len(cells))]
    for output in outputs:
        expect(output).to_be_visible()
    return outputs


def netron_frame(widget: Locator) -> FrameLocator:
    return widget.frame_locator("iframe")


def visualdl_graph(widget: Locator) -> FrameLocator:
    """The drawing, which is a frame within VisualDL's page."""
    return widget.frame_locator("iframe").frame_locator("iframe")


def node(frame: FrameLocator, operator: str) -> Locator:
    return frame.locator(".node").get_by_text(operator, exact=True).first


def port_of(widget: Locator) -> int:
    address = widget.locator("iframe").get_attribute("src")
    assert address is not None
    port = urlsplit(address).port
    assert port is not None
    return port


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def save_chain(path: Path, operators: list[str]) -> None:
    steps = [helper.make_node(kind, [f"t{i}"], [f"t{i + 1}"], name=f"/{kind}/{i}") for i, kind in enumerate(operators)]
    ends = [helper.make_tensor_value_info(f"t{i}", TensorProto.FLOAT, [1]) for i in (0, len(steps))]
    graph = helper.make_graph(steps, "chain", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)


def test_netron_draws_the_model(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    (widget,) = show(page, lab, "netron", FASHION + "view.netron(model)")
    frame = netron_frame(widget)
    expect(node(frame, "Conv")).to_be_visible()
    expect(frame.locator("body")).to_have_class("default")  # no consent, no expiry, no welcome page
    expect(widget).to_contain_text(re.compile(r"fashion_cnn\.onnx in Netron \d"))
    take_screenshots(page, widget, request.node.name, "drawn")

    node(frame, "Conv").click()
    expect(frame.locator("#sidebar")).to_contain_text("/stem/conv/Conv")
    page.screenshot(path=screenshot_path(request.node.name, "node"))
    frame.locator("#sidebar-closebutton").click()
    with page.expect_download() as download:
        frame.locator("#menu-button").click()
        frame.get_by_text("Export as SVG").click()
    assert b"Conv" in Path(download.value.path()).read_bytes()


def test_visualdl_draws_the_model(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    (widget,) = show(page, lab, "visualdl", FASHION + "view.visualdl(model)")
    graph = visualdl_graph(widget)
    expect(node(graph, "Conv")).to_be_visible()
    expect(widget.frame_locator("iframe").get_by_text("Model Properties")).to_be_visible()
    take_screenshots(page, widget, request.node.name, "drawn")

    node(graph, "Conv").click()
    site = widget.frame_locator("iframe")
    expect(site.get_by_text("Node Properties")).to_be_visible()
    page.screenshot(path=screenshot_path(request.node.name, "node"))
    site.get_by_text("Close").click()
    site.get_by_text("Show Attributes").click()
    expect(node(graph, "kernel_shape")).to_be_visible()
    site.get_by_placeholder("Search").fill("gemm")
    site.get_by_text("/classifier/Gemm").first.click()
    expect(site.get_by_text("Node Properties")).to_be_visible()
    page.screenshot(path=screenshot_path(request.node.name, "found"))
    site.get_by_text("Close").click()
    with page.expect_download() as download:
        site.get_by_role("button", name="SVG").or_(site.get_by_text("SVG", exact=True)).first.click()
    assert b"Conv" in Path(download.value.path()).read_bytes()


def test_two_models_stand_side_by_side(page: Page, lab: Lab) -> None:
    save_chain(lab.root / "first.onnx", ["Relu", "Sigmoid"])
    save_chain(lab.root / "second.onnx", ["Tanh", "Exp"])
    first, second = show(page, lab, "two", IMPORTS + "view.netron('first.onnx')", "view.netron('second.onnx')")
    expect(node(netron_frame(first), "Sigmoid")).to_be_visible()
    expect(node(netron_frame(second), "Exp")).to_be_visible()
    expect(netron_frame(first).get_by_text("Exp")).to_have_count(0)


def test_weights_in_another_file_are_done_without(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    tensor = TensorProto(name="w", dims=[4, 4], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "weights.bin", "offset": "0", "length": "64"}.items():
        tensor.external_data.add(key=key, value=value)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    steps = [helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")]
    graph = helper.make_graph(steps, "external", ends[:1], ends[1:], [tensor])
    path = lab.root / "external.onnx"
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    (lab.root / "weights.bin").write_bytes(bytes(64))
    cells = (IMPORTS + "view.netron('external.onnx')", "view.visualdl('external.onnx')")
    netron, visualdl = show(page, lab, "external", *cells)
    node(netron_frame(netron), "MatMul").click()
    sidebar = netron_frame(netron).locator("#sidebar")
    expect(sidebar).to_contain_text("matmul")
    sidebar.get_by_text("+", exact=True).nth(1).click()
    expect(sidebar).to_contain_text("Tensor data is empty")
    page.screenshot(path=screenshot_path(request.node.name, "sidebar"))
    expect(node(visualdl_graph(visualdl), "MatMul")).to_be_visible()


def test_ten_thousand_nodes_are_drawn_with_a_word_of_patience(page: Page, lab: Lab) -> None:
    save_chain(lab.root / "large.onnx", ["Relu", "Sigmoid"] * 5000)
    (widget,) = show(page, lab, "large", IMPORTS + "view.netron('large.onnx')")
    expect(widget).to_contain_text("about 7 s to lay out 10,000 nodes")
    expect(netron_frame(widget).locator("body.default")).to_be_visible(timeout=120_000)
    expect(node(netron_frame(widget), "Sigmoid")).to_be_visible()


def test_both_draw_where_jupyterlab_stands_at_localhost(browser: Browser, lab: Lab) -> None:
    """The frame is another site's then: no cookies, no storage."""
    context = browser.new_context(viewport={"width": 1400, "height": 1600})
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    context.on("request", lambda sent: asked.append(sent.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    local = dataclasses.replace(lab, url=lab.url.replace("127.0.0.1", "localhost"))
    netron, visualdl = show(page, local, "localhost", FASHION + "view.netron(model)", "view.visualdl(model)")
    expect(node(netron_frame(netron), "Conv")).to_be_visible()
    expect(node(visualdl_graph(visualdl), "Conv")).to_be_visible()
    told = list(complaints)  # JupyterLab may complain of kernels that are gone
    page.evaluate("window.jupyterapp.serviceManager.sessions.shutdownAll()")
    context.close()
    hosts = {urlsplit(url).hostname for url in asked if urlsplit(url).scheme in ("http", "https")}
    assert hosts == {"localhost", "127.0.0.1"}
    assert told == []


def test_viewers_end_with_the_kernel(page: Page, lab: Lab) -> None:
    netron, visualdl = show(page, lab, "ends", FASHION + "view.netron(model)", "view.visualdl(model)")
    expect(node(netron_frame(netron), "Conv")).to_be_visible()
    expect(node(visualdl_graph(visualdl), "Conv")).to_be_visible()
    ports = [port_of(widget) for widget in (netron, visualdl)]
    assert all(map(answers, ports))
    # VisualDL's page would ask again every 15 s, and the browser report that nobody answers.
    page.evaluate("document.querySelectorAll('iframe').forEach(frame => frame.remove())")
    page.evaluate("window.jupyterapp.serviceManager.sessions.shutdownAll()")
    ends = time.monotonic() + 60
    while any(map(answers, ports)):
        assert time.monotonic() < ends, "a viewer outlived its kernel"
        time.sleep(0.1)
