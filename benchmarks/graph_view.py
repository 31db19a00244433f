"""First picture and frames per second of GraphView and of Netron, for the same model in the same browser.

python benchmarks/graph_view.py [--nodes 10000] [--frames 120] [--runs 3]     JSON on standard output

GraphView draws every node in the pane before and every four of them as one layer in the pane after, all unfolded;
Netron draws the nodes. First picture: from asking for the page until it is drawn. Frames: while a script drags
(GraphView) or scrolls (Netron), and while it turns the wheel with Ctrl held down, a step for every frame;
of GraphView also while it drags with all 10,000 boxes in sight.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
from inspect_models import residual_chain
from playwright.sync_api import Browser, Page, sync_playwright

from workbench import load_model, this_machine, view
from workbench.model import Model
from workbench.picture import Arrow, Box, Pane, Picture
from workbench.picture.page import save_page

SIZE = {"width": 1400, "height": 900}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
FRAMES = """async (steps) => {
    const act = ACTION, times = [];
    const frame = () => new Promise(requestAnimationFrame);
    await frame();
    for (let step = 0; step < steps; step++) { act(step); times.push(await frame()); }
    const gaps = times.slice(1).map((time, index) => time - times[index]);
    return { fps: 1000 * gaps.length / (times.at(-1) - times[0]), slowest_frame_ms: Math.max(...gaps) };
}"""
WHEEL = """step => TARGET.dispatchEvent(new WheelEvent('wheel', { bubbles: true, cancelable: true, ctrlKey: true,
    deltaY: (step % 60 < 30 ? 1 : -1) * DELTA, clientX: 300, clientY: 400 }))"""
OURS, THEIRS = "document.querySelector('[data-pane=before] canvas')", "document.getElementById('target')"
DRAG = f"""(() => {{
    const target = {OURS};
    target.setPointerCapture = () => {{}};  // the pointer is a script
    const finger = {{ bubbles: true, pointerId: 1, button: 0, buttons: 1, clientX: 300 }};
    const send = (type, clientY) => target.dispatchEvent(new PointerEvent(type, {{ ...finger, clientY }}));
    let y = 800;
    send('pointerdown', y);
    return () => send('pointermove', y -= 40);
}})()"""
VIEWERS = {
    "graph_view": {
        "ready": "main[data-first-picture-ms]",
        "pan": DRAG,
        "zoom": WHEEL.replace("TARGET", OURS).replace("DELTA", "10"),
    },
    "netron": {
        "ready": "body.default #canvas .node",
        "pan": f"() => {{ {THEIRS}.scrollTop += 40; }}",
        "zoom": WHEEL.replace("TARGET", THEIRS).replace("DELTA", "7"),
    },
}


def picture_of(model: Model) -> Picture:
    """Every node, and every four as a layer; the arrows of the model."""
    made = {output: place for place, node in enumerate(model.nodes) for output in node.output}
    pairs = [(made[name], place) for place, node in enumerate(model.nodes) for name in node.input if name in made]
    before = tuple(Box(node.op_type, node.name) for node in model.nodes)
    layers = tuple(Box("conv + relu + add + sigmoid", f"layer {place}") for place in range(len(before) // 4))
    merged = sorted({(source // 4, target // 4) for source, target in pairs if source // 4 != target // 4})
    links = tuple((place, place // 4) for place in range(len(before)))
    arrows = tuple(Arrow(*pair, "1x3x64x64 float32") for pair in pairs)
    return Picture(
        model.name,
        Pane("Before", before, arrows),
        Pane("After", layers, tuple(Arrow(*pair) for pair in merged)),
        links,
    )


def measure(browser: Browser, url: str, name: str, frames: int) -> dict[str, Any]:
    page = browser.new_page(viewport=SIZE)
    page.set_default_timeout(300_000)
    start = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_selector(VIEWERS[name]["ready"], state="attached")
    evaluate(page, "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    found: dict[str, Any] = {"first_picture_s": time.perf_counter() - start}
    for action in ("pan", "zoom"):
        page.wait_for_timeout(1000)
        found[action] = evaluate(page, f"({FRAMES.replace('ACTION', VIEWERS[name][action])})({frames})")
    if name == "graph_view":
        page.locator("[data-pane=before] .wbg-canvas").press("0")
        page.wait_for_timeout(1000)
        found["pan_all"] = evaluate(page, f"({FRAMES.replace('ACTION', VIEWERS[name]['pan'])})({frames})")
    found |= facts(page, name)
    page.close()
    return found


def evaluate(page: Page, expression: str) -> Any:
    """Past `eval`, which Netron takes away."""
    options = {"expression": expression, "awaitPromise": True, "returnByValue": True}
    answer = page.context.new_cdp_session(page).send("Runtime.evaluate", options)
    if "exceptionDetails" in answer:
        raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
    return answer["result"].get("value")


def facts(page: Page, name: str) -> dict[str, Any]:
    if name == "netron":
        return {"boxes": page.locator("#canvas g.node").count()}
    data = page.evaluate("({...document.querySelector('main').dataset})")
    boxes = int(data["boxesBefore"]) + int(data["boxesAfter"])
    return {
        "boxes": boxes,
        "layout_ms": float(data["layoutMs"]),
        "scripts_first_picture_ms": float(data["firstPictureMs"]),
    }


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    def middle(values: list[float]) -> float:
        return round(statistics.median(values), 2)

    flat = {key: middle([run[key] for run in runs]) for key in runs[0] if not isinstance(runs[0][key], dict)}
    nested = {
        f"{action}_{key}": middle([run[action][key] for run in runs])
        for action, values in runs[0].items()
        if isinstance(values, dict)
        for key in values
    }
    return flat | nested


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "chain.onnx"
        onnx.save(residual_chain(options.nodes), path)
        html = save_page(picture_of(load_model(path)), Path(folder) / "chain.html")
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or "/usr/bin/chromium", args=FLAGS
        )
        with view.netron(path) as netron:
            urls = {"graph_view": html.as_uri(), "netron": netron.url}
            runs: dict[str, list[dict[str, Any]]] = {name: [] for name in urls}
            for _ in range(options.runs):
                for name, url in urls.items():
                    runs[name].append(measure(browser, url, name, options.frames))
        found = {name: medians(values) for name, values in runs.items()}
        ours, theirs = found["graph_view"], found["netron"]
        ratios = {
            "first_picture": theirs["first_picture_s"] / ours["first_picture_s"],
            "pan_fps": ours["pan_fps"] / theirs["pan_fps"],
            "zoom_fps": ours["zoom_fps"] / theirs["zoom_fps"],
        }
        versions = {"chromium": browser.version, "netron": version("netron")}
        browser.close()
    report = {
        "machine": str(this_machine()),
        "clock": "perf_counter around the page's load; requestAnimationFrame for frames; medians",
        "runs": options.runs,
        "nodes": options.nodes,
        "window": SIZE,
        "versions": versions,
        **found,
        "graph_view_is_better_by": {name: round(value, 1) for name, value in ratios.items()},
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
