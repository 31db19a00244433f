"""GraphView in JupyterLab and as a page of its own: looked at, clicked, typed into and saved by hand."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from graph_steps import (
    EMPTY,
    canvas,
    chain,
    click,
    drawn,
    in_sight,
    lit,
    open_page,
    residual_picture,
    scale,
    show_in_lab,
    shown,
    spot,
)
from jupyterlab_page import Lab, button, run_cell, screenshot_path, set_theme, take_screenshots
from playwright.sync_api import Browser, Page, expect

from workbench.picture import Arrow, Box, Pane, Picture
from workbench.picture.page import save_page

pytestmark = pytest.mark.browser
KERNEL = "kernel /layer2/layer2.0 b"
ITS_NODES = [f"/layer2/layer2.0/{name}" for name in ("conv2/Conv", "Add", "relu_1/Relu")]


@pytest.fixture
def alone(browser: Browser) -> Iterator[Page]:
    """A page without JupyterLab or any network. The test fails if it asks for anything or reports an error."""
    context = browser.new_context(viewport={"width": 1400, "height": 800}, reduced_motion="reduce", offline=True)
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    context.on("request", lambda sent: asked.append(sent.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    yield page
    context.close()
    assert [url for url in asked if not url.startswith(("file:", "blob:", "data:"))] == []
    assert complaints == []


def test_a_kernel_and_its_nodes_light_up_together(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    picture = residual_picture()
    select = "view.selected = [{'pane': 'before', 'name': '/softmax/Softmax'}]"
    view = show_in_lab(page, lab, "link", picture, "print(view.selected)", select)
    assert not in_sight(view, "before", ITS_NODES[0])

    click(view, "after", "kernel /layer1/layer1.0 b")
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "Enter"):
        canvas(view, "after").press(key)
    assert lit(view, "before") == ITS_NODES
    assert all(in_sight(view, "before", name) for name in ITS_NODES)
    expect(run_cell(page, 1)).to_have_text(f"[{{'pane': 'after', 'name': '{KERNEL}'}}]")
    take_screenshots(page, view, request.node.name, "kernel")

    click(view, "before", ITS_NODES[1])
    assert lit(view, "after") == [KERNEL]
    assert lit(view, "before", "picked") == [ITS_NODES[1]]
    click(view, "before", ITS_NODES[2], modifiers=["Shift"])
    expect(view).to_have_attribute("data-selected", "2")

    run_cell(page, 2)
    expect(view).to_have_attribute("data-selected", "1")
    assert lit(view, "after") == ["kernel /softmax/Softmax"]
    assert in_sight(view, "before", "/softmax/Softmax")
    assert in_sight(view, "after", "kernel /softmax/Softmax")


def test_the_canvas_follows_the_theme(page: Page, lab: Lab) -> None:
    view = show_in_lab(page, lab, "theme", residual_picture())
    corner = "canvas => [...canvas.getContext('2d').getImageData(5, 5, 1, 1).data]"
    assert canvas(view, "before").evaluate(corner) == [255, 255, 255, 255]
    set_theme(page, "dark")
    expect(view).to_have_attribute("data-theme", "dark")
    page.wait_for_function(f"Math.max(...({corner})(document.querySelector('.wbg-canvas')).slice(0, 3)) < 60")
    set_theme(page, "light")
    expect(view).to_have_attribute("data-theme", "light")


def test_a_picture_is_replaced_under_the_eyes(page: Page, lab: Lab) -> None:
    """As by a slider: what stays the same stays where it is."""
    picture = residual_picture()
    after = replace(picture.after, boxes=(*picture.after.boxes, Box("copy", "kernel copy")))
    view = show_in_lab(
        page, lab, "live", picture, f"view.picture = {replace(picture, after=after)!r}", "view.height = 300"
    )
    click(view, "after", "kernel /layer1/layer1.0 b")
    canvas(view, "before").press("+")
    before = spot(view, "before", "/layer1/layer1.0/conv1/Conv")
    layout = (
        "root => { const old = window.kept; window.kept = root.graph.sides.before.layout; return old === window.kept; }"
    )
    view.evaluate(layout)

    run_cell(page, 1)
    expect(view).to_have_attribute("data-boxes-after", str(len(after.boxes)))
    expect(view).to_have_attribute("data-selected", "1")
    assert view.evaluate(layout), "a pane that stayed the same was laid out again"
    assert spot(view, "before", "/layer1/layer1.0/conv1/Conv") == before
    assert lit(view, "after", "picked") == ["kernel /layer1/layer1.0 b"]

    run_cell(page, 2)
    expect(view.locator("[data-pane=before]")).to_have_css("height", "300px")


def test_the_wheel_scrolls_the_notebook_until_the_canvas_is_clicked(page: Page, lab: Lab) -> None:
    view = show_in_lab(page, lab, "wheel", residual_picture(), *["pass"] * 30)
    start = scale(view, "before")
    box = canvas(view, "before").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 50, box["y"] + 200)
    page.mouse.wheel(0, 120)
    expect(view.locator("[data-pane=before] .wbg-hint")).to_have_class("wbg-hint wbg-on")
    page.wait_for_function(
        "y => document.querySelector('.wbg').getBoundingClientRect().top < y - 50", arg=box["y"] - 60
    )
    assert scale(view, "before") == start
    page.mouse.wheel(0, -120)
    page.wait_for_function(
        "y => document.querySelector('.wbg-canvas').getBoundingClientRect().top > y - 5", arg=box["y"]
    )
    page.mouse.click(box["x"] + 50, box["y"] + 200)
    page.mouse.wheel(0, 120)
    page.wait_for_function("start => document.querySelector('[data-pane=before]').dataset.scale < start", arg=start)
    assert canvas(view, "before").bounding_box() == box


def test_keys_in_the_view_are_no_commands_of_the_notebook(page: Page, lab: Lab) -> None:
    view = show_in_lab(page, lab, "keys", residual_picture())
    cells = page.locator(".jp-Notebook-cell")
    count = cells.count()
    click(view, "before", "/pool/MaxPool")
    for key in ("b", "x", "Enter", "ArrowDown", "d", "d"):
        page.keyboard.press(key)
    view.get_by_role("searchbox").fill("conv")
    view.get_by_role("searchbox").press("b")
    expect(view).to_have_attribute("data-matches", "0")
    assert cells.count() == count
    expect(view.get_by_role("searchbox")).to_have_value("convb")


def test_a_saved_page_works_by_itself(page: Page, lab: Lab, alone: Page, tmp_path: Path) -> None:
    view = show_in_lab(page, lab, "save", residual_picture())
    click(view, "after", "kernel /layer1/layer1.0 b")
    button(view, "time").click()
    with page.expect_download() as download:
        button(view, "HTML").click()
    assert download.value.suggested_filename == "resnet_fp16.html"
    download.value.save_as(tmp_path / "saved.html")

    alone.goto((tmp_path / "saved.html").as_uri())
    copy = drawn(alone.locator(".wbg"))
    assert (copy.get_attribute("data-color"), copy.get_attribute("data-selected")) == ("time", "1")
    click(copy, "before", "/pool/MaxPool")
    assert lit(copy, "after") == ["kernel /pool/MaxPool"]


def test_what_is_looked_for_is_found_in_both_panes(alone: Page, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    view = open_page(alone, tmp_path, residual_picture())
    canvas(view, "before").press("/")
    alone.keyboard.type("layer3.1/add")
    expect(view).to_have_attribute("data-matches", "1")
    assert lit(view, "before", "matched") == ["/layer3/layer3.1/Add"]
    alone.keyboard.press("Enter")
    assert in_sight(view, "before", "/layer3/layer3.1/Add")
    expect(view.get_by_text("1 of 1")).to_be_visible()

    search = view.get_by_role("searchbox")
    search.fill("LAYER3.1 B")  # names of kernels, in any case
    assert lit(view, "after", "matched") == ["kernel /layer3/layer3.1 b"]
    alone.screenshot(path=screenshot_path(request.node.name, "found"))
    search.fill("tilesize128x64")  # facts
    expect(view).to_have_attribute("data-matches", "18")
    search.press("Enter")
    search.press("Shift+Enter")
    expect(view.get_by_text("18 of 18")).to_be_visible()
    search.fill("nowhere")
    expect(view.get_by_text("none", exact=True)).to_be_visible()
    search.press("Escape")
    assert view.evaluate("root => root.graph.panes.before.marks.matched") is None


def test_folders_are_folded_and_unfolded(alone: Page, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    view = open_page(alone, tmp_path, residual_picture())
    button(view, "All").click()
    expect(view).to_have_attribute("data-boxes-before", "6")
    assert [name.split("\u0001")[-1] for name in shown(view, "before")] == [
        "/pool/MaxPool", "layer1", "layer2", "layer3", "layer4", "/softmax/Softmax",
    ]  # fmt: skip
    alone.screenshot(path=screenshot_path(request.node.name, "all"))

    click(view, "before", "layer2", "badge")
    expect(view).to_have_attribute("data-boxes-before", "7")
    canvas(view, "before").dblclick(position=spot(view, "before", "layer2.0"))
    expect(view).to_have_attribute("data-boxes-before", "8")  # its two groups stay folded
    place = spot(view, "before", "layer2.0", "frame")
    click(view, "before", "layer2.0", "frame")
    expect(view).to_have_attribute("data-boxes-before", "7")
    moved = spot(view, "before", "layer2.0", "item")
    assert abs(moved["y"] - place["y"]) < 20, "what was folded did not stay under the pointer"

    button(view, "None").click()
    expect(view).to_have_attribute("data-boxes-before", "42")
    button(view, "Fused groups").click()
    expect(view).to_have_attribute("data-boxes-before", "18")
    expect(button(view, "Fused groups")).to_have_attribute("aria-pressed", "true")
    button(view, "Fused groups").click()
    expect(view).to_have_attribute("data-boxes-before", "42")


def test_blocks_that_repeat_are_folded_by_one_button(alone: Page, tmp_path: Path) -> None:
    view = open_page(alone, tmp_path, residual_picture(1))
    assert button(view, "Repeats").is_visible()
    button(view, "Repeats").click()
    expect(view).to_have_attribute("data-boxes-before", "4")
    notes = view.evaluate("root => root.graph.sides.before.scene.items.map(item => `${item.label} · ${item.note}`)")
    assert notes[1:3] == ["layer1.0 · 5 nodes · ×2 alike", "layer1.1 · 5 nodes · ×2 alike"]


def test_names_that_only_number_operators_make_no_folders(alone: Page, tmp_path: Path) -> None:
    """Paddle's 'p2o.Relu.3': a folder of all Relus would tie the network into knots."""
    pane = chain(60)
    boxes = tuple(replace(box, folders=("p2o", box.label)) for box in pane.boxes)
    view = open_page(alone, tmp_path, Picture("paddle", replace(pane, boxes=boxes), EMPTY, ()))
    assert view.evaluate("root => root.graph.sides.before.tree.folders.length") == 0
    assert not button(view, "All").is_visible()


def test_the_keyboard_goes_everywhere(alone: Page, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    view = open_page(alone, tmp_path, residual_picture())
    said = view.locator("[aria-live]")
    click(view, "before", "/layer1/layer1.0/conv1/Conv")
    for key, heard in {
        "ArrowUp": "MaxPool, /pool/MaxPool",
        "ArrowDown": "Conv, /layer1/layer1.0/conv1/Conv",
        "Shift+Enter": "Conv, /layer1/layer1.0/conv1/Conv",
        "Backspace": "layer1.0 is folded",
    }.items():
        alone.keyboard.press(key)
        expect(said).to_contain_text(heard)
    expect(view).to_have_attribute("data-boxes-before", "38")
    expect(canvas(view, "before")).to_be_focused()
    start = scale(view, "before")
    alone.keyboard.press("+")
    alone.wait_for_function("start => document.querySelector('[data-pane=before]').dataset.scale > start", arg=start)
    alone.keyboard.press("0")
    alone.wait_for_function(
        "start => document.querySelector('[data-pane=before]').dataset.scale < start", arg=start / 2
    )
    alone.screenshot(path=screenshot_path(request.node.name, "all"))
    click(view, "before", "/pool/MaxPool")
    expect(view).to_have_attribute("data-selected", "1")
    alone.keyboard.press("Escape")
    expect(view).to_have_attribute("data-selected", "0")


def test_left_and_right_walk_along_a_layer(alone: Page, tmp_path: Path) -> None:
    boxes = tuple(Box(name, name) for name in ("start", "left", "middle", "right", "end"))
    arrows = tuple(Arrow(0, place) for place in (1, 2, 3)) + tuple(Arrow(place, 4) for place in (1, 2, 3))
    view = open_page(alone, tmp_path, Picture("fork", Pane("Before", boxes, arrows), EMPTY, ()))
    click(view, "before", "middle")
    heard = []
    for key in ("ArrowLeft", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowUp"):
        alone.keyboard.press(key)
        heard.append(view.locator("[aria-live]").inner_text().partition(",")[0])
    assert heard[1] == "middle"
    assert {heard[0], heard[2]} == {"left", "right"}
    assert heard[3:] == ["start", "start"]


def test_an_svg_has_real_text(alone: Page, tmp_path: Path) -> None:
    picture = residual_picture()
    view = open_page(alone, tmp_path, picture)
    with alone.expect_download() as download:
        button(view, "SVG").click()
    root = ElementTree.parse(download.value.path()).getroot()
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in root.iter(f"{space}text")]
    for pane in (picture.before, picture.after):
        assert pane.title in texts
        for label in {box.label for box in pane.boxes}:
            assert texts.count(label) == sum(
                box.label == label for one in (picture.before, picture.after) for box in one.boxes
            )
    assert {title.text for title in root.iter(f"{space}title")} >= {box.name for box in picture.before.boxes}
    assert "layer3.1" in texts


def test_a_png_shows_both_graphs(alone: Page, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    view = open_page(alone, tmp_path, residual_picture(1))
    with alone.expect_download() as download:
        button(view, "PNG").click()
    path = screenshot_path(request.node.name, "saved")
    download.value.save_as(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000


def test_the_tooltip_stays_inside(alone: Page, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    for width in (1400, 600):
        alone.set_viewport_size({"width": width, "height": 700})
        view = open_page(alone, tmp_path, residual_picture())
        for pane, key in (("after", "kernel /layer1/layer1.0 a"), ("before", "/pool/MaxPool")):
            canvas(view, pane).hover(position=spot(view, pane, key))
            tip = view.get_by_role("tooltip")
            expect(tip).to_contain_text(key)
            inner, outer = tip.bounding_box(), view.bounding_box()
            assert inner is not None and outer is not None
            assert inner["x"] >= outer["x"] and inner["x"] + inner["width"] <= outer["x"] + outer["width"]
            assert inner["y"] >= outer["y"] and inner["y"] + inner["height"] <= outer["y"] + outer["height"]
            alone.screenshot(path=screenshot_path(request.node.name, pane, width))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 900, 600])
def test_a_page_fits_its_window(alone: Page, tmp_path: Path, scheme: Any, width: int) -> None:
    alone.emulate_media(color_scheme=scheme)
    alone.set_viewport_size({"width": width, "height": 800})
    view = open_page(alone, tmp_path, residual_picture())
    expect(view).to_have_attribute("data-theme", scheme)
    for color in ("fusion", "time", "precision", "who runs it"):
        button(view, color).click()
        alone.screenshot(path=screenshot_path("graph-page", scheme, width, color.replace(" ", "-")))
    assert alone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    panes = [view.locator(f"[data-pane={name}]").bounding_box() for name in ("before", "after")]
    assert panes[0] is not None and panes[1] is not None
    assert (panes[0]["y"] == panes[1]["y"]) == (width >= 700)


def test_the_layout_runs_in_a_thread_of_its_own_or_else_in_the_page(alone: Page, tmp_path: Path) -> None:
    view = open_page(alone, tmp_path, residual_picture())
    assert view.evaluate("root => root.graph.worker.worker instanceof Worker")
    with_thread = view.evaluate("root => root.graph.sides.before.layout.y.join()")
    alone.add_init_script("Worker = class { constructor() { throw new Error('no threads here'); } }")
    view = open_page(alone, tmp_path, residual_picture())
    assert view.evaluate("root => root.graph.worker.worker") is None
    assert view.evaluate("root => root.graph.sides.before.layout.y.join()") == with_thread


def test_a_layout_that_its_thread_drops_is_made_in_the_page(alone: Page, tmp_path: Path) -> None:
    """As where a page's rules forbid threads: the browser tells it only later."""
    alone.add_init_script(
        "Worker = class { postMessage() { setTimeout(() => this.onerror(new Event('error'))); } terminate() {} }"
    )
    view = open_page(alone, tmp_path, residual_picture())
    expect(view).to_have_attribute("data-boxes-before", "42")


def test_two_fingers_zoom_and_one_pans(browser: Browser, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 800, "height": 600}, has_touch=True, reduced_motion="reduce")
    page = context.new_page()
    view = open_page(page, tmp_path, residual_picture())
    touch = context.new_cdp_session(page)

    def fingers(kind: str, *places: tuple[int, int]) -> None:
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    start, place = scale(view, "before"), spot(view, "before", "/pool/MaxPool")
    fingers("touchStart", (100, 300))
    fingers("touchMove", (100, 280))
    fingers("touchMove", (100, 260))
    fingers("touchEnd")
    moved = spot(view, "before", "/pool/MaxPool")
    assert (moved["x"], place["y"] - moved["y"]) == (place["x"], pytest.approx(40, abs=1))
    assert scale(view, "before") == start
    fingers("touchStart", (100, 300), (200, 300))
    fingers("touchMove", (80, 300), (220, 300))
    fingers("touchMove", (50, 300), (250, 300))
    fingers("touchEnd")
    page.wait_for_function(
        "start => document.querySelector('[data-pane=before]').dataset.scale > 1.8 * start", arg=start
    )
    expect(view).to_have_attribute("data-selected", "0")
    context.close()


def test_the_minimap_leads_to_where_it_is_clicked(alone: Page, tmp_path: Path) -> None:
    view = open_page(alone, tmp_path, residual_picture())
    assert not in_sight(view, "before", "/softmax/Softmax")
    small = view.locator("[data-pane=before] .wbg-map")
    box = small.bounding_box()
    assert box is not None
    small.click(position={"x": box["width"] / 2, "y": box["height"] - 3})
    assert in_sight(view, "before", "/softmax/Softmax")
    canvas(view, "before").press("0")
    expect(small).to_be_hidden()  # all is in sight


def test_a_picture_without_boxes_says_so(alone: Page, tmp_path: Path) -> None:
    alone.goto(save_page(Picture("empty", EMPTY, EMPTY, ()), tmp_path / "empty.html").as_uri())
    expect(alone.get_by_text("Nothing to draw yet: this picture has no boxes.")).to_be_visible()
    assert not alone.locator("canvas").first.is_visible()


def test_one_pane_alone_takes_the_whole_width(alone: Page, tmp_path: Path) -> None:
    view = open_page(alone, tmp_path, Picture("alone", chain(8), EMPTY, ()))
    assert not canvas(view, "after").is_visible()
    pane = view.locator("[data-pane=before]").bounding_box()
    assert pane is not None and pane["width"] > 1300


def test_ten_thousand_boxes_are_drawn_unfolded(alone: Page, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    view = open_page(alone, tmp_path, Picture("long", chain(10_000), EMPTY, ()))
    expect(view).to_have_attribute("data-boxes-before", "10000")
    canvas(view, "before").press("0")
    expect(view).to_have_attribute("data-drawn-before", "10000")
    alone.screenshot(path=screenshot_path(request.node.name, "all"))
    frames = int(view.get_attribute("data-frames") or 0)
    canvas(view, "before").press("+")
    alone.wait_for_function("frames => document.querySelector('main').dataset.frames > frames", arg=frames)


def test_a_large_picture_starts_folded(alone: Page, tmp_path: Path) -> None:
    pane = chain(4_000)
    boxes = tuple(
        replace(box, folders=(f"stage{place // 1000}", f"block{place // 20}")) for place, box in enumerate(pane.boxes)
    )
    view = open_page(alone, tmp_path, Picture("blocks", replace(pane, boxes=boxes), EMPTY, ()))
    assert int(view.get_attribute("data-boxes-before") or 0) == 200  # the blocks, in four open stages
    click(view, "before", "block0", "badge")
    expect(view).to_have_attribute("data-boxes-before", "219")
