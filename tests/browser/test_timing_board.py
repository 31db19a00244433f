"""TimingBoard in JupyterLab: choose, run, look, write files; stop; what fails."""

from __future__ import annotations

import re

import pytest
from jupyterlab_page import HEIGHT, Lab, button, cell_errors, fill, run_cell, show_widget, take_screenshots, too_wide
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser
H200 = "recorded on NVIDIA H200, TensorRT 8.6.0, 2026-11-20"
RECORDED_ROWS = 7
NARROW_PX = 720
"""A cell of about 600 px."""


def board(page: Page, lab: Lab, name: str, *before: str, arguments: str = "") -> Locator:
    """TimingBoard in a new notebook, after some lines, with a second cell that asks the kernel for a sum."""
    lines = [*before, "from workbench.widgets import TimingBoard", f"board = TimingBoard({arguments})", "board"]
    return show_widget(page, lab, name, ["\n".join(lines), "6*7"])


def test_engines_and_a_baseline_are_measured_looked_at_and_written(
    page: Page, lab: Lab, request: pytest.FixtureRequest
) -> None:
    widget = board(page, lab, "board")
    expect(widget.get_by_text("Nothing was measured here yet")).to_be_visible()
    expect(widget.locator("[data-plot='medians']")).to_contain_text("TensorRT int8 (entropy)")
    expect(button(widget, "tf32")).to_be_disabled()
    take_screenshots(page, widget, request.node.name, "empty")

    button(widget, "fp16").click()
    expect(button(widget, "✓ fp16")).to_have_attribute("aria-pressed", "true")
    fill(widget, "data", "data/fashion_mnist_test")
    expect(widget.get_by_text("10,000 samples with labels")).to_be_visible()
    for label, text in (("iterations", "60"), ("batches", "1, 4"), ("count", "100")):
        fill(widget, label, text)
    button(widget, "Run").click()
    expect(widget.locator(".wb-phases")).to_contain_text("Making engines ready")
    card = widget.locator("[data-study]")
    expect(card).to_contain_text("3 measured in turns")
    expect(card).to_contain_text("perf_counter around InferenceSession.run")
    own = widget.locator(".wb-sheet tbody:not(.wb-recorded) tr")
    expect(own).to_have_count(3)
    expect(widget.locator(".wb-recorded td:first-child")).to_have_count(RECORDED_ROWS)
    expect(widget.locator(".wb-recorded th")).to_contain_text(H200)
    expect(widget.locator("[data-plot='medians']")).to_contain_text("plain ONNX Runtime")
    take_screenshots(page, widget, request.node.name, "latency")
    button(widget, "distribution").click()
    expect(widget.locator("[data-plot='distribution']")).to_contain_text("p99")

    button(widget, "table").click()
    expect(widget.locator("[data-table='distribution'] tbody tr")).to_have_count(3)
    for form in ("CSV", "PNG", "SVG"):
        button(widget, form).click()
        expect(widget.get_by_text(f"fashion_cnn-distribution.{form.lower()}")).to_be_visible()
    rows = (lab.root / "fashion_cnn-distribution.csv").read_text().splitlines()
    assert rows[0].startswith(",clock,runs,p50 ms") and [row.rpartition(",")[2] for row in rows[1:]] == ["here"] * 3
    button(widget, "CSV").click()
    expect(widget.get_by_text("fashion_cnn-distribution-2.csv")).to_be_visible()

    look_into_the_other_sections(page, widget, request.node.name)
    widget.get_by_role("button", name=re.compile("Show code$")).click()
    expect(widget.locator(".wb-code")).to_contain_text("onnxruntime_baseline(model)")
    page.set_viewport_size({"width": NARROW_PX, "height": HEIGHT})
    assert too_wide(widget) == []
    assert not cell_errors(page)


def look_into_the_other_sections(page: Page, widget: Locator, test: str) -> None:
    """As tables, then as plots."""
    button(widget, "Throughput").click()
    expect(widget.locator("[data-table='throughput'] tbody:not(.wb-recorded) tr")).to_have_count(6)
    button(widget, "plot").click()
    expect(widget.locator("[data-plot='throughput'] svg")).to_have_count(2)
    take_screenshots(page, widget, test, "throughput")
    button(widget, "Accuracy against latency").click()
    expect(widget.locator("[data-plot='pareto']")).to_contain_text("top-1 points lost")
    take_screenshots(page, widget, test, "accuracy")
    button(widget, "Layers").click()
    expect(widget.locator("[data-plot='layers']")).to_contain_text("median time in ms")
    widget.get_by_label("layers of", exact=True).select_option("recorded fp32, batch 32")
    widget.get_by_label("beside", exact=True).select_option("recorded int8 (entropy), batch 32")
    expect(widget.locator("[data-plot='layers']")).to_contain_text("conv + batch norm + relu")
    take_screenshots(page, widget, test, "layers")
    button(widget, "Outputs").click()
    expect(widget.locator("[data-table='outputs-scores']")).to_contain_text("top-1, %")
    expect(button(widget, "PNG")).to_be_disabled()
    take_screenshots(page, widget, test, "outputs")
    widget.get_by_label("recorded model").select_option(label="resnet18 · NVIDIA H200")
    expect(widget.get_by_text("Recorded of another model, resnet18")).to_be_visible()
    button(widget, "Latency").click()
    expect(widget.locator(".wb-recorded th")).to_contain_text(f"resnet18, {H200}")
    expect(widget.locator("[data-plot='medians']")).to_contain_text("PyTorch compiled fp16")
    take_screenshots(page, widget, test, "another-recorded")


SLEEPER = """import time
from workbench.baselines import baseline
sleeper = baseline(lambda feeds: time.sleep(600))"""


def test_cancel_answers_at_once_even_within_a_long_run(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    widget = board(page, lab, "cancelled", SLEEPER, arguments="contestants={'sleeper': sleeper}")
    expect(button(widget, "✓ sleeper")).to_be_visible()
    button(widget, "Run").click()
    expect(widget.get_by_text("Measuring …")).to_be_visible()
    expect(widget.locator(".wb-phases")).to_contain_text("Opening engines")
    take_screenshots(page, widget, request.node.name, "running")
    button(widget, "Cancel").click()
    expect(widget.get_by_role("heading", name="Cancelled")).to_be_visible()
    expect(button(widget, "Run")).to_be_enabled()
    expect(run_cell(page, 1)).to_have_text("42")
    take_screenshots(page, widget, request.node.name, "cancelled")


BROKEN = """from workbench.baselines import baseline
def broken(feeds):
    raise ValueError("the weights are gone")"""


def test_what_fails_is_told_and_the_kernel_lives_on(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    widget = board(page, lab, "failing", BROKEN, arguments="contestants={'mine': baseline(broken)}")
    fill(widget, "iterations", "none")
    expect(widget.locator(".wb-actions").get_by_role("alert")).to_contain_text("Runs: 'none' is none")
    expect(button(widget, "Run")).to_be_disabled()
    fill(widget, "iterations", "20")
    button(widget, "Run").click()
    error = widget.locator(".wb-error")
    expect(error).to_contain_text("ValueError: the weights are gone")
    expect(run_cell(page, 1)).to_have_text("42")
    take_screenshots(page, widget, request.node.name, "error")

    button(widget, "plain ONNX Runtime").click()
    fill(widget, "batches", "")
    button(widget, "Run").click()
    card = widget.locator("[data-study]")
    expect(card.locator(".wb-warnings")).to_contain_text("mine: the baseline fails on this input")
    expect(card).to_contain_text("measured alone")
    expect(error).to_have_count(0)
    assert not cell_errors(page)
