"""ShapeExplorer in JupyterLab: dimensions changed and sizes typed by hand."""

from __future__ import annotations

import re

import pytest
from jupyterlab_page import Lab, button, cell_errors, run_cell, show_widget, take_screenshots
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser
CLASSIFIER = "data/models/ppocr_mobile_v2_cls.onnx"


def explorer(page: Page, lab: Lab, name: str, model: str) -> Locator:
    cells = [
        f"from workbench.widgets import EngineBuilder, ShapeExplorer\nshapes = ShapeExplorer({model!r})\nshapes",
        "EngineBuilder(shapes.model, profile=shapes.profile)",
    ]
    return show_widget(page, lab, name, cells)


def size_field(widget: Locator, dimension: str, bound: str) -> Locator:
    line = widget.locator(".wb-shape", has=widget.page.locator(".wb-dim b", has_text=re.compile(f"^{dimension}$")))
    return line.locator("input").nth(("min", "opt", "max").index(bound))


def change(widget: Locator, text: str) -> None:
    field = widget.get_by_placeholder("batch=4, batch=n or x:2=height")
    field.fill(text)
    field.press("Tab")
    button(widget, "Change").click()


def test_a_bad_profile_is_refused_in_words_and_a_good_one_goes_to_the_builder(
    page: Page, lab: Lab, request: pytest.FixtureRequest
) -> None:
    widget = explorer(page, lab, "explore", CLASSIFIER)
    expect(widget.get_by_text("one name for two dimensions")).to_be_visible()
    take_screenshots(page, widget, request.node.name, "shared-name")

    change(widget, "x:2=height")
    change(widget, "x:3=width")
    expect(widget.get_by_text("Done: x:3=width")).to_be_visible()
    for bound, size in zip(("min", "opt", "max"), ("48", "48", "48"), strict=True):
        size_field(widget, "height", bound).fill(size)
    size_field(widget, "width", "min").fill("900")
    expect(widget.get_by_text("min 900 is larger than opt 640")).to_be_visible()
    expect(widget.get_by_text("Correct the sizes first.")).to_be_visible()
    take_screenshots(page, widget, request.node.name, "mistake")

    size_field(widget, "width", "min").fill("192")
    expect(widget.locator("[data-memory]")).to_contain_text("MB")
    widget.get_by_placeholder("search tensors and operators").fill("softmax")
    expect(widget.get_by_text("1 tensor;")).to_be_visible()
    take_screenshots(page, widget, request.node.name, "good")

    run_cell(page, 1)
    builder = page.locator(".wb").nth(1)
    expect(size_field(builder, "width", "min")).to_have_value("192")
    assert not cell_errors(page)


def test_what_the_graph_cannot_take_is_told_with_the_node(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    widget = explorer(page, lab, "conflict", "data/models/ppocrv4_det.onnx")
    size_field(widget, r"p2o\.DynamicDimension\.1", "opt").fill("100")
    expect(widget.get_by_text("The graph does not take these sizes")).to_be_visible()
    expect(widget.locator(".wb-error")).to_contain_text("p2o.Add.248")
    take_screenshots(page, widget, request.node.name, "conflict")

    change(widget, "x:1=channels")
    expect(widget.get_by_text("dimension 1 cannot be opened: the graph takes 3 only")).to_be_visible()
    take_screenshots(page, widget, request.node.name, "refused")
