"""Tuner in JupyterLab: fill in, search, pause, finish, look into a trial, take it over; recorded ones."""

from __future__ import annotations

import re

import pytest
from jupyterlab_page import Lab, button, cell_errors, fill, run_cell, show_widget, take_screenshots
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser
LOCKS = "import os, tempfile; os.environ['WORKBENCH_LOCKS'] = tempfile.mkdtemp()"


def tuner(page: Page, lab: Lab, name: str, *before: str, arguments: str = "") -> Locator:
    """Tuner in a new notebook, after some lines, with a second cell that asks the kernel for a sum."""
    lines = [LOCKS, *before, "from workbench.widgets import Tuner", f"tuner = Tuner({arguments})", "tuner"]
    return show_widget(page, lab, name, ["\n".join(lines), "6*7"])


def fold(widget: Locator, title: str) -> Locator:
    return widget.get_by_role("button", name=re.compile(f"{title}$"))


def make_small(widget: Locator) -> None:
    """Fewer samples, so that a trial takes a second."""
    fold(widget, "Samples, ranges and sizes").click()
    fill(widget, "calibrated", "30")
    fill(widget, "compared", "100")
    fold(widget, "Samples, ranges and sizes").click()


def test_a_search_is_watched_paused_finished_and_a_trial_taken_over(
    page: Page, lab: Lab, request: pytest.FixtureRequest
) -> None:
    widget = tuner(page, lab, "tuner")
    test = request.node.name
    expect(widget.locator(".wb-sizes")).to_contain_text("4 after rules")
    take_screenshots(page, widget, test, "empty")

    fill(widget, "data", "data/fashion_mnist_test")
    expect(widget.locator(".wb-sizes")).to_contain_text("72 combinations, 28 after rules")
    expect(widget.locator(".wb-idle")).to_have_count(5)
    fill(widget, "limits", "accuracy<0.2")
    expect(widget.get_by_role("alert")).to_contain_text("'accuracy<0.2' is no limit")
    expect(button(widget, "Start")).to_be_disabled()
    fill(widget, "limits", "accuracy<=50")
    fill(widget, "layers in float", "0, 1")
    fill(widget, "threads", "1, 2")
    fill(widget, "calibration", "entropy, sorcery")
    expect(widget.locator(".wb-knob.wb-wrong")).to_contain_text("there is no 'sorcery'")
    fill(widget, "calibration", "entropy, minmax, percentile")
    expect(widget.locator(".wb-sizes")).to_contain_text("36 combinations, 16 after rules")
    make_small(widget)

    button(widget, "Start").click()
    expect(widget.locator("[data-search]")).to_have_attribute("data-state", "running")
    expect(widget.locator(".wb-spot").first).to_be_attached()
    button(widget, "Pause").click()
    expect(widget.get_by_role("status").filter(has_text="Paused")).to_be_visible()
    expect(widget.locator("[data-search]")).to_have_attribute("data-state", "paused")
    expect(widget.locator("[data-running]")).to_have_count(0)
    known = widget.locator(".wb-trials tbody tr").count()
    expect(widget.locator(".wb-trials tbody tr")).to_have_count(known)
    button(widget, "Resume").click()
    expect(widget.locator(".wb-trials tbody tr")).not_to_have_count(known)
    expect(widget.locator("[data-running]")).to_be_visible()
    take_screenshots(page, widget, test, "running")
    expect(widget.locator(".wb-trials tbody tr").filter(has_text="int8").first).to_be_attached()
    button(widget, "Finish now").click()
    card = widget.locator("[data-search]")
    expect(card).to_have_attribute("data-state", "finished")
    expect(card).to_contain_text("best")
    look_into_a_trial(page, widget, test)
    look_into_the_other_sections(page, widget, test)
    assert not cell_errors(page)


def look_into_a_trial(page: Page, widget: Locator, test: str) -> None:
    """By mouse and by keys, its code, and into EngineBuilder."""
    widget.locator(".wb-trials tbody tr").filter(has_text="int8").first.click()
    shown = widget.locator(".wb-card[data-trial]")
    expect(shown).to_contain_text("onnxruntime int8")
    expect(shown).to_contain_text("median latency in ms")
    expect(widget.locator(".wb-spot[aria-pressed='true']")).to_have_count(1)
    spots = widget.locator(".wb-spot")
    spots.last.dispatch_event("click")
    chosen = spots.last.get_attribute("data-trial")
    expect(widget.locator("tr[aria-selected='true']")).to_have_attribute("data-trial", chosen or "")
    spots.last.press("Home")
    expect(spots.first).to_have_attribute("aria-pressed", "true")
    expect(spots.first).to_be_focused()
    expect(shown).to_have_attribute("data-trial", spots.first.get_attribute("data-trial") or "")

    widget.locator(".wb-trials tbody tr").filter(has_text="int8").first.click()
    fold(widget, "Show the code of this trial").click()
    expect(widget.locator(".wb-code").first).to_contain_text("precision='int8'")
    take_screenshots(page, widget, test, "trial")
    fold(widget, "Show the code of this trial").click()
    button(widget, "Use this in EngineBuilder").click()
    builder = widget.locator(".wb").last
    expect(button(builder, "int8")).to_have_attribute("aria-pressed", "true")
    button(builder, "Build").click()
    expect(builder.locator(".wb-card[data-reused]")).to_be_visible()


def look_into_the_other_sections(page: Page, widget: Locator, test: str) -> None:
    widget.get_by_label("across", exact=True).select_option("size")
    expect(widget.locator(".wb-points")).to_contain_text("size of the plan in MB")
    for section, words in (("Progress", "trial"), ("Finalists", "median"), ("What matters", "measured trials")):
        button(widget, section).click()
        expect(widget.locator("[data-plot], [data-empty]").last).to_contain_text(words)
    take_screenshots(page, widget, test, "knobs")
    fold(widget, "Show the code of the search").click()
    expect(widget.locator(".wb-code").last).to_contain_text("algorithm=('entropy', 'minmax', 'percentile')")


def test_what_was_cancelled_goes_on_and_the_kernel_answers(
    page: Page, lab: Lab, request: pytest.FixtureRequest
) -> None:
    space = "Space(('onnxruntime',), ('fp32', 'fp16'), batch=(1, 2, 4, 8), threads=(1,))"
    before = f"from workbench.tuning import Space\nspace = {space}"
    widget = tuner(page, lab, "cancelled", before, arguments="space=space")
    expect(widget.locator(".wb-sizes")).to_contain_text("24 combinations, 8 after rules")
    button(widget, "Start").click()
    expect(widget.locator("[data-search]")).to_have_attribute("data-state", "running")
    expect(widget.locator(".wb-spot").first).to_be_attached()
    button(widget, "Cancel").click()
    expect(widget.get_by_role("heading", name="Cancelled")).to_be_visible()
    expect(widget.get_by_text("the next start goes on from there")).to_be_visible()
    expect(run_cell(page, 1)).to_have_text("42")
    take_screenshots(page, widget, request.node.name, "cancelled")
    button(widget, "Go on").click()
    expect(widget.locator("[data-search]")).to_have_attribute("data-state", "finished", timeout=60_000)
    expect(widget.locator(".wb-trials tbody tr")).to_have_count(8)
    assert not cell_errors(page)


def test_a_start_that_fails_leaves_what_was_looked_at(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    (lab.root / "broken.calib").write_text("no ranges")
    space = "Space(('onnxruntime',), ('int8',), threads=(1,))"
    before = f"from workbench.tuning import Space\nspace = {space}"
    widget = tuner(page, lab, "failing", before, arguments="space=space")
    expect(widget.locator(".wb-spot").first).to_be_attached()
    fold(widget, "Samples, ranges and sizes").click()
    fill(widget, "ranges", "broken.calib")
    button(widget, "Start").click()
    error = widget.locator(".wb-error")
    expect(error).to_contain_text("broken.calib")
    expect(error).to_contain_text("The result from before stands below")
    expect(widget.locator("[data-search]")).to_contain_text("Recorded on")
    expect(widget.locator(".wb-spot").first).to_be_attached()
    take_screenshots(page, widget, request.node.name, "failed")
    assert not cell_errors(page)


def test_a_recorded_search_is_explored_without_a_gpu(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    widget = tuner(page, lab, "recorded")
    search, spots = widget.get_by_label("search", exact=True), widget.locator(".wb-spot")
    of_another = spots.last.get_attribute("data-trial") or ""
    search.select_option(label=search.locator("option", has_text="resnet18").first.inner_text())
    card = widget.locator("[data-search]")
    expect(card).to_contain_text("Recorded on NVIDIA H200")
    expect(card).to_contain_text("Not measured here")
    expect(spots.last).not_to_have_attribute("data-trial", of_another)
    spots.last.press("End")
    shown = widget.locator(".wb-card[data-trial]")
    expect(shown).to_contain_text("tensorrt")
    expect(button(widget, "Use this in EngineBuilder")).to_be_disabled()
    expect(widget.get_by_text("choose that model above")).to_be_visible()
    search.select_option(label=search.locator("option", has_text="fashion_cnn,").first.inner_text())
    expect(spots.last).to_have_attribute("data-trial", of_another)
    expect(shown).to_have_count(0)
    widget.locator(".wb-trials tbody tr").filter(has_text="int8 minmax").first.click()
    expect(shown).to_contain_text("points of top-1 accuracy lost")
    take_screenshots(page, widget, request.node.name, "recorded")
    button(widget, "Use this in EngineBuilder").click()
    builder = widget.locator(".wb").last
    expect(builder).to_contain_text("ranges.calib: there is no such calibration file")
    expect(builder).to_contain_text("ranges by minmax")
    expect(button(widget, "Start")).to_be_enabled()
    assert not cell_errors(page)
