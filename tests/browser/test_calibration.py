"""CalibrationStudio in JupyterLab: collect, look, choose, write, stop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from jupyterlab_page import Lab, button, cell_errors, fill, run_cell, show_widget, take_screenshots
from models import save
from playwright.sync_api import Locator, Page, expect

from workbench.calibration.collection import Collection, save_collection
from workbench.calibration.histograms import Counter
from workbench.model import load_model

pytestmark = pytest.mark.browser
MODEL, DATA = "data/models/fashion_cnn.onnx", "data/fashion_mnist_test"


def studio(page: Page, lab: Lab, name: str, arguments: str) -> Locator:
    cells = [
        f"from workbench.widgets import CalibrationStudio\nstudio = CalibrationStudio({arguments})\nstudio",
        "print('chosen:', studio.calibration)",
    ]
    return show_widget(page, lab, name, cells)


def tensor(widget: Locator, name: str) -> Locator:
    return widget.locator(f"tr[data-tensor='{name}']")


def form_row(widget: Locator, label: str) -> Locator:
    return widget.locator(".wb-row", has=widget.page.locator(".wb-label", has_text=label))


def collect(widget: Locator, samples: str) -> None:
    fill(widget, "number of samples", samples)
    button(widget, "Collect").click()
    expect(widget.locator(f"[data-samples='{samples}']")).to_be_visible()


def test_ranges_are_collected_looked_at_chosen_and_written(
    page: Page, lab: Lab, request: pytest.FixtureRequest
) -> None:
    widget = studio(page, lab, "calibrate", repr(MODEL))
    expect(widget.get_by_text("Nothing was collected yet")).to_be_visible()
    take_screenshots(page, widget, request.node.name, "empty")
    fill(widget, "data", "data/nothing")
    expect(widget.get_by_role("alert")).to_contain_text("data/nothing")
    take_screenshots(page, widget, request.node.name, "mistake")

    fill(widget, "data", DATA)
    expect(widget.locator(".wb-seen img")).to_have_count(6)
    fill(widget, "scale", "abc")
    expect(widget.get_by_text("scale: 'abc' is not a number")).to_be_visible()
    button(widget, "As found").click()
    expect(widget.get_by_label("scale")).to_have_value("1/255")
    take_screenshots(page, widget, request.node.name, "data")
    collect(widget, "128")
    take_screenshots(page, widget, request.node.name, "collected")

    rows = widget.locator("tr[data-tensor]")
    expect(rows.first).to_have_attribute("data-tensor", "image")
    widget.locator("button[data-order='error']").click()
    expect(rows.first).not_to_have_attribute("data-tensor", "image")
    rows.first.click()
    expect(rows.first).to_have_attribute("aria-selected", "true")
    rows.first.press("ArrowDown")
    expect(rows.nth(1)).to_have_attribute("aria-selected", "true")
    chosen = rows.nth(1).get_attribute("data-tensor")
    expect(widget.locator("[data-selected]")).to_have_attribute("data-selected", str(chosen))
    expect(widget.locator(".wb-limit")).to_have_count(4)

    button(form_row(widget, "Its algorithm"), "min-max").click()
    expect(widget.locator(".wb-limit.wb-on")).to_have_attribute("data-algorithm", "minmax")
    expect(tensor(widget, str(chosen))).to_contain_text("minmax")
    button(widget, "linear counts").click()
    button(widget, "log magnitudes").click()
    expect(widget.get_by_text("values next to 0 left out")).to_be_visible()
    take_screenshots(page, widget, request.node.name, "chosen")
    widget.get_by_placeholder("search tensors and operators").fill("stem conv")
    expect(rows).to_have_count(1)

    button(widget, "trt-cache").click()
    fill(widget, "path to write to", "written.cache")
    button(widget, "Write").click()
    expect(widget.locator("[data-written='trt-cache']")).to_contain_text("written.cache")
    assert (lab.root / "written.cache").read_text().startswith("TRT-8600-EntropyCalibration2\n")
    take_screenshots(page, widget, request.node.name, "written")
    expect(run_cell(page, 1).get_by_text("chosen: Calibration(path=")).to_be_visible()
    assert not cell_errors(page)


def save_slow(path: Path) -> None:
    """10,000 pictures of Fashion-MNIST take it a minute or more."""
    generator = np.random.default_rng(0)
    first, second = (generator.standard_normal((64, count, 7, 7)) / (7 * count**0.5) for count in (1, 64))
    graph = """(float[n,1,28,28] image) => (float[n,64,28,28] y) {
        [one] a = Conv<pads = [3,3,3,3]>(image, first) [two] b = Conv<pads = [3,3,3,3]>(a, second)
        [three] c = Conv<pads = [3,3,3,3]>(b, second) [relu] y = Relu(c) }"""
    save(path, graph, first=first.astype(np.float32), second=second.astype(np.float32))


def test_a_stopped_collection_goes_on(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    save_slow(lab.root / "slow.onnx")
    widget = studio(page, lab, "stopped", f"'slow.onnx', {DATA!r}")
    widget.get_by_label("stop when no range grows any more").uncheck()
    fill(widget, "number of samples", "")
    button(widget, "Collect").click()
    expect(widget.get_by_text("s left")).to_be_visible()
    take_screenshots(page, widget, request.node.name, "running")
    button(widget, "Cancel").first.click()
    expect(widget.get_by_text("Stopped after")).to_be_visible()
    take_screenshots(page, widget, request.node.name, "stopped")
    fill(widget, "number of samples", "64")
    button(widget, "Go on").click()
    expect(widget.locator("[data-samples]")).to_be_visible(timeout=120_000)


def test_layers_plan_and_accuracy_are_measured(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    widget = studio(page, lab, "costs", f"{MODEL!r}, {DATA!r}")
    collect(widget, "64")
    for label in ("layer count", "plan count", "accuracy count"):
        fill(widget, label, "48")
    button(widget, "Find a plan").click()
    expect(widget.locator("[data-plan]")).to_be_visible()
    button(widget, "Measure accuracy").click()
    expect(widget.locator("[data-accuracy]")).to_contain_text("FP32")
    expect(widget.locator(".wb-harm")).to_be_visible()
    take_screenshots(page, widget, request.node.name, "costs")
    assert not cell_errors(page)


def save_large(folder: Path, tensors: int) -> None:
    """A model and a collection of it that is as large as those of large networks."""
    body = " ".join(f"[n{i}] t{i + 1} = Tanh(t{i})" for i in range(tensors - 1))
    path = save(folder / "large.onnx", f"(float[n,4] t0) => (float[n,4] t{tensors - 1}) {{ {body} }}")
    generator, histograms = np.random.default_rng(0), {}
    for index in range(tensors):
        counter = Counter()
        counter.add(generator.standard_normal(2000) * (1 + index % 7) + index % 3)
        histograms[f"t{index}"] = counter.histogram()
    save_collection(Collection("large", load_model(path).sha256, histograms, data="Made up."), folder / "large.calib")


def test_2000_tensors_are_shown_by_the_page(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    save_large(lab.root, 2000)
    widget = studio(page, lab, "large", "'large.onnx', 'large.calib'")
    rows = widget.locator("tr[data-tensor]")
    expect(widget.get_by_text("1 to 50 of 2,000 tensors")).to_be_visible()
    expect(rows).to_have_count(50)
    button(widget, "More").click()
    expect(rows.first).to_have_attribute("data-tensor", "t50")
    rows.nth(3).click()
    expect(widget.locator("[data-selected='t53']")).to_be_visible()
    expect(widget.locator("[data-found='2000']")).to_be_visible()
    widget.locator("button[data-order='clipped']").click()
    expect(widget.get_by_text("1 to 50 of 2,000 tensors")).to_be_visible()
    widget.get_by_placeholder("search tensors and operators").fill("t1999")
    expect(rows).to_have_count(1)
    take_screenshots(page, widget, request.node.name, "found")
    assert not cell_errors(page)
