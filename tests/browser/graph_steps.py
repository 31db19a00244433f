"""Pictures for the browser tests of GraphView, and what a user does with it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from jupyterlab_page import Lab, open_notebook, run_cell, write_notebook
from playwright.sync_api import Locator, Page, expect

from workbench.picture import Arrow, Box, Pane, Picture
from workbench.picture.page import save_page

EMPTY = Pane("", (), ())


def residual_picture(stages: int = 4) -> Picture:
    """Stages of two alike residual blocks before; after, kernels of Conv + Relu and Conv + Add + Relu."""
    before: list[Box] = []
    arrows: list[Arrow] = []

    def node(label: str, name: str, group: str | None, *sources: int) -> int:
        facts = (("out", "float32[1×64×56×56]"),)
        kind, folders = "vertical" if group else "single", tuple(name.split("/")[1:-1])
        before.append(Box(label, name, folders, group, kind, "fp16", facts=facts))
        arrows.extend(Arrow(source, len(before) - 1, "float32[1×64×56×56]") for source in sources)
        return len(before) - 1

    last = node("MaxPool", "/pool/MaxPool", None)
    for stage in range(1, stages + 1):
        for block in range(2):
            path = f"/layer{stage}/layer{stage}.{block}"
            first = node("Conv", f"{path}/conv1/Conv", f"{path} a", last)
            first = node("Relu", f"{path}/relu/Relu", f"{path} a", first)
            second = node("Conv", f"{path}/conv2/Conv", f"{path} b", first)
            last = node(
                "Relu", f"{path}/relu_1/Relu", f"{path} b", node("Add", f"{path}/Add", f"{path} b", second, last)
            )
    last = node("Softmax", "/softmax/Softmax", None, last)
    before[last] = replace(before[last], side="native")
    return Picture(
        "resnet fp16",
        Pane("Before: ONNX", tuple(before), tuple(arrows)),
        *_kernels(before, arrows),
        ("fusion", "kind", "precision", "time", "side"),
    )


def _kernels(before: list[Box], arrows: list[Arrow]) -> tuple[Pane, tuple[tuple[int, int], ...]]:
    names = list(dict.fromkeys(box.group or box.name for box in before))
    of = [names.index(box.group or box.name) for box in before]
    boxes = []
    for place, name in enumerate(names):
        nodes = [box for box, kernel in zip(before, of, strict=True) if kernel == place]
        label = " + ".join(box.label.lower() for box in nodes)
        facts = (("tactic", "sm80_xmma_fprop_implicit_gemm_f16f16_tilesize128x64x32_stage3_warpsize2x2x1"),)
        precision = "int8" if place % 5 == 4 else "fp16"
        box = Box(
            label, f"kernel {name}", (), nodes[0].group, nodes[0].kind, precision, 0.01 * (1 + place % 4), facts=facts
        )
        boxes.append(replace(box, side=nodes[0].side))
    pairs = sorted({(of[arrow.source], of[arrow.target]) for arrow in arrows if of[arrow.source] != of[arrow.target]})
    pane = Pane("After: TensorRT", tuple(boxes), tuple(Arrow(*pair, "float16[1×64×56×56]") for pair in pairs))
    return pane, tuple(enumerate(of))


def chain(count: int) -> Pane:
    boxes = tuple(Box(("Conv", "Relu", "Add", "Sigmoid")[place % 4], f"node{place}") for place in range(count))
    skips = [Arrow(place - 2, place) for place in range(2, count, 4)]
    return Pane("Before", boxes, (*(Arrow(place, place + 1) for place in range(count - 1)), *skips))


def open_page(page: Page, folder: Path, picture: Picture) -> Locator:
    """The picture in a page of its own, drawn."""
    page.goto(save_page(picture, folder / "picture.html").as_uri())
    return drawn(page.locator(".wbg"))


def drawn(view: Locator) -> Locator:
    expect(view).to_have_attribute("data-first-picture-ms", re.compile(r"\d"))
    return view


def canvas(view: Locator, pane: str) -> Locator:
    return view.locator(f"[data-pane={pane}] .wbg-canvas")


def spot(view: Locator, pane: str, key: str, part: str = "item") -> dict[str, float]:
    """Where on the canvas an item (by the name of a box, or a folder's title) or the sign of an open folder is."""
    return view.evaluate(
        """async (root, [name, key, part]) => {
            for (let frames = 2; frames; frames--) await new Promise(requestAnimationFrame);  // sizes have settled
            const pane = root.graph.panes[name], { camera, scene } = pane;
            const places = part === 'frame' ? scene.frames : scene.items;
            const found = places.find(one => one.key === key || one.title === key || one.full === key);
            const right = { item: found.width / 3, badge: found.width - 15, frame: 11 }[part];
            const y = part === 'frame' ? found.y + 11 : found.y + found.height / 2;
            return { x: (found.x + right - camera.x) * camera.scale, y: (y - camera.y) * camera.scale };
        }""",
        [pane, key, part],
    )


def click(view: Locator, pane: str, key: str, part: str = "item", **options: Any) -> None:
    canvas(view, pane).click(position=spot(view, pane, key, part), **options)


def lit(view: Locator, pane: str, marks: str = "linked") -> list[str]:
    """The keys of the items that are marked in a pane: names of boxes, paths of folders."""
    return view.evaluate(
        """(root, [name, which]) => {
            const { marks, scene } = root.graph.panes[name];
            return [...marks[which] ?? []].map(index => scene.items[index].key);
        }""",
        [pane, marks],
    )


def shown(view: Locator, pane: str) -> list[str]:
    return view.evaluate("(root, name) => root.graph.panes[name].scene.items.map(item => item.key)", pane)


def scale(view: Locator, pane: str) -> float:
    return float(view.locator(f"[data-pane={pane}]").get_attribute("data-scale") or 0)


def in_sight(view: Locator, pane: str, key: str) -> bool:
    place, box = spot(view, pane, key), canvas(view, pane).bounding_box()
    assert box is not None
    return 0 < place["x"] < box["width"] and 0 < place["y"] < box["height"]


def show_in_lab(page: Page, lab: Lab, name: str, picture: Picture, *cells: str) -> Locator:
    """The view of the first cell in a new notebook; the others are not run."""
    first = (
        "from workbench.picture import *\nfrom workbench.widgets import GraphView\n"
        f"picture = {picture!r}\nview = GraphView(picture)\nview"
    )
    open_notebook(page, lab, write_notebook(lab, name, [first, *cells]))
    run_cell(page, 0)
    return drawn(page.locator(".wbg"))
