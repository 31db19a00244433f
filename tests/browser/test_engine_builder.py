"""EngineBuilder in JupyterLab: real builds, clicked by hand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from jupyterlab_page import Lab, button, open_notebook, run_cell, take_screenshots, write_notebook
from onnx import TensorProto, helper, numpy_helper
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser
FASHION = "data/models/fashion_cnn.onnx"


def builder(page: Page, lab: Lab, name: str, model: str = FASHION) -> Locator:
    """EngineBuilder in a new notebook, with a second cell that asks the kernel for a sum."""
    path = write_notebook(lab, name, [f"from workbench.widgets import EngineBuilder\nEngineBuilder({model!r})", "6*7"])
    open_notebook(page, lab, path)
    run_cell(page, 0)
    widget = page.locator(".wb")
    expect(widget).to_be_visible()
    return widget


def fold(widget: Locator, title: str) -> None:
    widget.get_by_role("button", name=re.compile(rf"^. {title}$")).click()


def card(widget: Locator, *, reused: bool) -> Locator:
    return widget.locator(f".wb-card[data-reused={str(reused).lower()}]")


def fact(card: Locator, name: str) -> str:
    return card.locator(".wb-facts > div", has=card.page.get_by_text(name, exact=True)).locator("b").inner_text()


def size_field(widget: Locator, dimension: str, bound: str) -> Locator:
    line = widget.locator(".wb-shape", has=widget.page.locator(".wb-dim b", has_text=re.compile(f"^{dimension}$")))
    return line.locator("input").nth(("min", "opt", "max").index(bound))


def save(
    model_nodes: list[onnx.NodeProto], path: Path, shape: list[int], *weights: onnx.TensorProto, **domains: int
) -> None:
    """A model from the tensor x to the last node's output, both of this shape."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", model_nodes[-1].output[0])]
    graph = helper.make_graph(model_nodes, path.stem, ends[:1], ends[1:], list(weights))
    opsets = [helper.make_opsetid(domain, version) for domain, version in {"": 17, **domains}.items()]
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opsets), path)


def long_model(path: Path, nodes: int = 12_000) -> None:
    """TensorRT-RTX takes a minute to build it."""
    weight = numpy_helper.from_array(np.eye(8, dtype=np.float32).reshape(8, 8, 1, 1), "w")
    kinds = [("Conv", ["w"]), ("Add", ["x"]), ("Relu", [])]
    chain, last = [], "x"
    for index in range(nodes):
        kind, more = kinds[index % 3]
        chain.append(helper.make_node(kind, [last, *more], [f"t{index}"], name=f"{kind}{index}"))
        last = f"t{index}"
    save(chain, path, [1, 8, 64, 64], weight)


def test_build_then_reuse_then_time(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    widget = builder(page, lab, "build")
    take_screenshots(page, widget, request.node.name, "empty")

    button(widget, "Build").click()
    built = card(widget, reused=False)
    expect(built).to_be_visible()
    expect(widget.locator(".wb-phases")).to_contain_text("Building engine")
    expect(widget.locator(".wb-phases .wb-over")).not_to_have_count(0)
    assert 0 < int(fact(built, "layers after")) <= int(fact(built, "nodes before"))
    expect(button(widget, "Build")).to_be_enabled()
    take_screenshots(page, widget, request.node.name, "built")

    button(widget, "Build").click()
    reused = card(widget, reused=True)
    expect(reused.locator("h4")).to_contain_text("reused")
    assert fact(reused, "found and checked in").endswith(" ms")

    widget.get_by_role("button", name=re.compile("^Time it")).click()
    timed = widget.locator(".wb-card", has_text="Timed: onnxruntime")
    expect(timed).to_be_visible()
    assert re.fullmatch(r"[\d.,]+ ms", fact(timed, "median"))
    take_screenshots(page, widget, request.node.name, "reused")


def test_cancel_a_long_build(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    long_model(lab.root / "long.onnx")
    widget = builder(page, lab, "cancel", "long.onnx")
    button(widget, "Build").click()
    phases = widget.locator(".wb-phases")
    expect(phases).to_contain_text("Optimizing graph", timeout=120_000)
    before = phases.inner_text()
    expect(phases).not_to_have_text(before)
    assert lab.builds_under_way() == 1
    take_screenshots(page, widget, request.node.name, "building")

    button(widget, "Cancel").click()
    expect(widget.get_by_role("heading", name="Cancelled")).to_be_visible()
    assert lab.builds_under_way() == 0
    left_behind = list((lab.store / "work").iterdir())
    expect(button(widget, "Build")).to_be_enabled()
    take_screenshots(page, widget, request.node.name, "cancelled")
    assert left_behind == []


def test_a_file_that_is_no_model(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    (lab.root / "text.onnx").write_text("This is not a model.\n")
    widget = builder(page, lab, "no_model", "text.onnx")
    expect(widget.locator(".wb-form").get_by_role("alert")).to_contain_text("text.onnx")
    expect(button(widget, "Build")).to_be_disabled()
    take_screenshots(page, widget, request.node.name, "no-model")


def test_an_unsupported_operator_is_named_and_the_kernel_lives_on(
    page: Page, lab: Lab, request: pytest.FixtureRequest
) -> None:
    foo = helper.make_node("Foo", ["x"], ["y"], name="foo1", domain="com.foo")
    save([foo], lab.root / "foo.onnx", [1, 8], **{"com.foo": 1})
    widget = builder(page, lab, "broken", "foo.onnx")
    button(widget, "Build").click()
    error = widget.locator(".wb-error")
    expect(error).to_contain_text("foo1")
    expect(error).to_contain_text("What to do:")
    expect(run_cell(page, 1)).to_have_text("42")
    expect(button(widget, "Build")).to_be_enabled()
    take_screenshots(page, widget, request.node.name, "error")


def test_wrong_sizes_are_told_while_typing(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    widget = builder(page, lab, "sizes")
    batch = size_field(widget, "batch", "min")
    batch.fill("9")
    expect(widget.locator(".wb-shapes").get_by_role("alert")).to_have_text("min 9 is larger than opt 1")
    expect(button(widget, "Build")).to_be_disabled()
    take_screenshots(page, widget, request.node.name, "wrong-size")
    batch.fill("1")
    expect(widget.locator(".wb-shapes").get_by_role("alert")).to_have_count(0)
    expect(button(widget, "Build")).to_be_enabled()


def test_keys_stay_in_the_widget_and_controls_have_names(page: Page, lab: Lab) -> None:
    widget = builder(page, lab, "keys")
    cells = page.locator(".jp-Notebook-cell")
    expect(cells).to_have_count(2)
    widget.get_by_role("button", name="fp16").press("Enter")
    expect(widget.get_by_role("button", name="fp16")).to_have_attribute("aria-pressed", "true")
    expect(widget.get_by_role("button", name="fp32")).to_have_attribute("aria-pressed", "false")
    widget.get_by_role("button", name="fp16").press("b")  # in a notebook: insert a cell below
    expect(widget.get_by_label("batch min")).to_have_value("1")
    expect(cells).to_have_count(2)


def test_an_uploaded_model_is_taken(page: Page, lab: Lab) -> None:
    widget = builder(page, lab, "upload")
    with page.expect_file_chooser() as chooser:
        widget.get_by_role("button", name=re.compile("Upload")).click()
    chooser.value.set_files(lab.root / "data" / "models" / "ppocrv4_det.onnx")
    expect(widget.get_by_text("672 nodes")).to_be_visible()
    assert [path.name for path in (lab.store / "uploads").glob("*/*")] == ["ppocrv4_det.onnx"]


def test_onnxruntime_asks_for_no_shapes(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    widget = builder(page, lab, "onnxruntime")
    expect(size_field(widget, "batch", "min")).to_be_visible()
    button(widget, "ONNX Runtime").click()
    expect(size_field(widget, "batch", "min")).to_be_hidden()
    widget.get_by_label("reuse a stored engine").uncheck()
    button(widget, "Build").click()
    expect(card(widget, reused=False).locator("h4")).to_contain_text("onnxruntime")
    take_screenshots(page, widget, request.node.name, "onnxruntime")


def test_code_and_log_follow(page: Page, lab: Lab, request: pytest.FixtureRequest) -> None:
    widget = builder(page, lab, "folds", "data/models/ppocr_mobile_v2_cls.onnx")
    fold(widget, "Show code")
    code = widget.locator(".wb-code")
    tabs = {"Python": "precision='fp16'", "Command line": "--precision fp16", "trtexec": "--fp16", "Paddle-TRT": "Half"}
    for tab, text in tabs.items():
        button(widget, tab).click()
        button(widget, "fp32").click()
        expect(code).not_to_contain_text(text)
        expect(code).not_to_be_empty()
        button(widget, "fp16").click()
        expect(code).to_contain_text(text)

    button(widget, "Build").click()
    expect(card(widget, reused=False)).to_be_visible()
    fold(widget, "Build log")
    log = widget.locator(".wb-log")
    expect(log.locator(".wb-quiet")).to_have_count(0)
    button(widget, "verbose").click()
    expect(log.locator(".wb-quiet")).not_to_have_count(0)
    widget.get_by_placeholder("search the log").fill("tactic")
    expect(log.locator("span").filter(has_not_text=re.compile("tactic", re.IGNORECASE))).to_have_count(0)
    expect(log.locator("span").first).to_contain_text(re.compile("tactic", re.IGNORECASE))
    fold(widget, "Advanced options")
    take_screenshots(page, widget, request.node.name, "folds")
