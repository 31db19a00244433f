"""Steps of the browser tests: what a user does in JupyterLab."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import psutil
from playwright.sync_api import Locator, Page, expect

WIDTHS = (1400, 900)
HEIGHT = 1000
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
_KERNEL_IS_READY = """() => {
    const context = window.jupyterapp?.shell.currentWidget?.context?.sessionContext;
    const kernel = context?.session?.kernel;
    return context?.isReady && kernel?.status === 'idle' && kernel?.connectionStatus === 'connected';
}"""

_CELL_ERRORS = """() => window.jupyterapp.shell.currentWidget.context.model.toJSON().cells
    .filter(cell => !cell.metadata.tags?.includes('raises-exception'))
    .flatMap(cell => cell.outputs ?? []).filter(output => output.output_type === 'error')
    .map(output => `${output.ename}: ${output.evalue}`)"""
_CELLS_NOT_RUN = """() => window.jupyterapp.shell.currentWidget.context.model.toJSON().cells
    .filter(cell => cell.cell_type === 'code' && !cell.execution_count)"""


@dataclass(frozen=True)
class Lab:
    """A running server. root: the folder it serves; store: the folder of its engines."""

    url: str
    token: str
    root: Path
    store: Path
    pid: int

    def builds_under_way(self) -> int:
        """Processes that build, among those this server's kernels started."""
        count = 0
        for process in psutil.Process(self.pid).children(recursive=True):
            try:
                count += "workbench._child" in process.cmdline()
            except psutil.NoSuchProcess:
                continue
        return count


def write_notebook(lab: Lab, name: str, cells: Sequence[str]) -> str:
    """A notebook of code cells in the served folder; returns its path there."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, lab.root / f"{name}.ipynb")
    return f"{name}.ipynb"


def open_notebook(page: Page, lab: Lab, path: str) -> None:
    """Open it in a workspace of its own, the side bar closed, and wait for the kernel."""
    workspace = Path(path).stem
    page.goto(f"{lab.url}/lab/workspaces/{workspace}/tree/{path}?token={lab.token}")
    page.wait_for_function(_KERNEL_IS_READY)
    command(page, "application:toggle-left-area")
    set_theme(page, "light")


def command(page: Page, name: str, **options: Any) -> None:
    """Start a command of JupyterLab; what it does is still under way when this returns."""
    page.evaluate("([name, options]) => { window.jupyterapp.commands.execute(name, options); }", [name, options])


def run_all(page: Page) -> None:
    """Run all cells and wait for the last one, or the first that fails without being tagged to do so."""
    page.evaluate(
        """() => { for (const cell of window.jupyterapp.shell.currentWidget.content.widgets) {
            if (cell.model.type === 'code') cell.model.executionCount = null;  // the stored one
        } }"""
    )
    command(page, "notebook:run-all-cells")
    page.wait_for_function(f"({_CELLS_NOT_RUN})().length == 0 || ({_CELL_ERRORS})().length > 0", timeout=600_000)


def run_cell(page: Page, index: int) -> Locator:
    """Run one cell; returns its output, which may still be on its way."""
    page.evaluate("index => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = index; }", index)
    command(page, "notebook:run-cell")
    return page.locator(".jp-Notebook-cell").nth(index).locator(".jp-OutputArea-output")


def show_widget(page: Page, lab: Lab, name: str, cells: Sequence[str]) -> Locator:
    """The widget that the first cell of a new notebook shows."""
    open_notebook(page, lab, write_notebook(lab, name, cells))
    run_cell(page, 0)
    widget = page.locator(".wb").first
    expect(widget).to_be_visible()
    return widget


def button(widget: Locator, name: str) -> Locator:
    return widget.get_by_role("button", name=name, exact=True)


def fill(widget: Locator, label: str, text: str) -> None:
    field = widget.get_by_label(label, exact=True)
    field.fill(text)
    field.press("Tab")


def cell_errors(page: Page) -> list[str]:
    """The errors among all outputs, as 'Name: text', but for cells that are tagged to raise one."""
    return page.evaluate(_CELL_ERRORS)


def set_theme(page: Page, theme: str) -> None:
    command(page, "apputils:change-theme", theme=THEMES[theme])
    page.wait_for_selector(f"body[data-jp-theme-light='{str(theme == 'light').lower()}']", state="attached")
    page.wait_for_selector("#jupyterlab-splash", state="detached")


def screenshot_path(test: str, *words: object) -> Path:
    folder = Path(os.environ.get("TEST_OUTPUT") or "test-output")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / ("-".join([test, *map(str, words)]) + ".png")


def take_screenshots(page: Page, widget: Locator, test: str, state: str) -> None:
    """The widget in both themes and widths, on a page high enough for all of it; nothing may stick out sideways."""
    for theme in THEMES:
        set_theme(page, theme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": HEIGHT})
            box = widget.bounding_box()
            assert box is not None
            page.set_viewport_size({"width": width, "height": max(HEIGHT, int(box["height"]) + 240)})
            widget.scroll_into_view_if_needed()
            wide, deadline = too_wide(widget), time.monotonic() + 30
            while wide and time.monotonic() < deadline:  # parts that Python draws anew come a moment later
                page.wait_for_timeout(100)
                wide = too_wide(widget)
            page.screenshot(path=screenshot_path(test, state, theme, width))
            assert not wide, f"{state} at {width} px: {wide}"
    set_theme(page, "light")
    page.set_viewport_size({"width": WIDTHS[0], "height": HEIGHT})


def too_wide(widget: Locator) -> list[str]:
    """The widget and those of its parts whose content sticks out sideways, with the pixels."""
    return widget.evaluate(
        """widget => [widget, ...widget.querySelectorAll('.wb-row, .wb-shape, .wb-actions, .wb-card, .wb-phases, pre')]
            .filter(part => getComputedStyle(part).overflowX !== 'auto')
            .filter(part => part.scrollWidth > part.clientWidth)
            .map(part => `${part.className || part.tagName}: ${part.scrollWidth - part.clientWidth} px`)"""
    )
