"""A report opened from disk in a real browser: it asks for nothing, its pictures draw, both themes, narrow, paper."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graph_steps import click, drawn, lit
from jupyterlab_page import screenshot_path
from playwright.sync_api import Browser, Page, expect

from workbench.baselines import baseline
from workbench.building import build
from workbench.model import load_model
from workbench.report import collect, save_report
from workbench.study import record, study
from workbench.timing import Measurement, Timing
from workbench.types import BuildConfig

pytestmark = pytest.mark.browser
MODEL = Path(__file__).parents[2] / "data" / "models" / "fashion_cnn.onnx"
HOSTILE = "</title><img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
WIDTHS = (1400, 600)


def as_if(item: Measurement, median_ms: float) -> Measurement:
    """It had taken so long, give or take 3 %: pictures are the same each time, whatever the machine does meanwhile."""
    draw = random.Random(item.name)
    times_ms = tuple(median_ms * draw.gauss(1, 0.03) for _ in range(60))
    layers_ms = {name: (0.01 * (1 + place % 5),) * 20 for place, name in enumerate(item.layer_times_ms)}
    return replace(item, times_ms=times_ms, layer_times_ms=layers_ms)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two engines and a function with a hostile name, measured in turns."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(folder / "home"))
        model = load_model(MODEL)
        built = {name.upper(): build(model, BuildConfig(name), "onnxruntime") for name in ("fp32", "fp16")}
        nothing = baseline(lambda feeds: {"logits": np.zeros((len(feeds["image"]), 10), np.float32)})
        image = np.random.default_rng(0).random((4, 1, 28, 28), np.float32)
        contestants = {**built, HOSTILE: nothing}
        found = study(contestants, {"image": image}, Timing(60, limit_s=1, layers=True), keep=False)
        medians_ms = (0.21, 0.24, 0.002)
        record(replace(found, measurements=tuple(map(as_if, found.measurements, medians_ms))))
        return save_report(collect([found.id], f"Report {HOSTILE}"), folder / "report.html")


@pytest.fixture(params=["light", "dark"])
def page(browser: Browser, report: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The report, opened without any network. The test fails if it asks for anything or reports an error."""
    context = browser.new_context(
        viewport={"width": WIDTHS[0], "height": 900}, color_scheme=request.param, reduced_motion="reduce", offline=True
    )
    opened = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    context.on("request", lambda sent: asked.append(sent.url))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda message: complaints.append(message.text))
    opened.goto(report.as_uri())
    yield opened
    context.close()
    assert [url for url in asked if not url.startswith(("file:", "blob:", "about:"))] == []
    assert [url for url in asked if url.startswith("file:")] == [report.as_uri()]
    assert complaints == []


def test_it_reads_well_in_both_themes_and_widths(page: Page, request: pytest.FixtureRequest) -> None:
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for place in range(page.locator("iframe").count()):
            page.locator("iframe").nth(place).scroll_into_view_if_needed()
            drawn(page.frame_locator("iframe").nth(place).locator(".wbg"))
        for name in ("short", "fusion", "accuracy", "timing", "repeat"):
            page.locator(f"#{name}").screenshot(path=screenshot_path(request.node.name, width, name))
    plots = page.locator("figure svg")
    assert plots.count() >= 4
    ground, ink = page.evaluate(
        "[document.body, document.querySelector('figure text')].map("
        "(item, place) => getComputedStyle(item)[['backgroundColor', 'fill'][place]])"
    )
    assert ground != ink
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) > 384) == ("light" in request.node.name)


def test_the_words_of_every_plot_stay_inside_and_apart(page: Page) -> None:
    """With the browser's own font, which is not the one that they were measured with."""
    trouble = page.evaluate(
        """() => [...document.querySelectorAll('figure svg')].flatMap(plot => {
            const around = plot.getBoundingClientRect(), found = [];
            const words = [...plot.querySelectorAll('text')]
                .map(item => [item.textContent, item.getBoundingClientRect()]);
            words.forEach(([text, box], place) => {
                if (box.left < around.left - 1 || box.right > around.right + 1) found.push(`outside: ${text}`);
                for (const [other, theirs] of words.slice(place + 1)) {
                    const across = Math.min(box.right, theirs.right) - Math.max(box.left, theirs.left);
                    const down = Math.min(box.bottom, theirs.bottom) - Math.max(box.top, theirs.top);
                    if (across > 1 && down > 4) found.push(`${text} on ${other}`);
                }
            });
            return found;
        })"""
    )
    assert trouble == []


def test_a_kernel_in_the_picture_can_be_clicked(page: Page) -> None:
    frame = page.locator("iframe").first
    frame.scroll_into_view_if_needed()
    view = drawn(page.frame_locator("iframe").first.locator(".wbg"))
    name = load_model(MODEL).nodes[0].name
    click(view, "before", name)
    assert lit(view, "before", "picked") == [name]
    assert lit(view, "after")


def test_a_hostile_name_is_only_words(page: Page) -> None:
    expect(page.locator("h1")).to_have_text(f"Report {HOSTILE}")
    expect(page).to_have_title(f"Report {HOSTILE}")
    assert page.locator("img").count() == 0
    assert page.evaluate("window.hacked") is None
    assert page.get_by_role("cell", name=HOSTILE).count() > 0


def test_the_table_of_contents_leads_to_its_sections(page: Page) -> None:
    for link in page.locator("nav a").all():
        link.click()
        target = page.locator(link.get_attribute("href") or "")
        expect(target).to_be_in_viewport()


def test_on_paper_the_ground_is_white_and_pictures_for_the_screen_are_left_out(
    page: Page, request: pytest.FixtureRequest
) -> None:
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(33, 33, 33)"
    expect(page.locator("iframe").first).to_be_hidden()
    expect(page.locator(".paper").first).to_be_visible()
    page.screenshot(path=screenshot_path(request.node.name), full_page=True)
    page.emulate_media(media="screen")
