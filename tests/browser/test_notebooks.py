"""The notebooks, run from top to bottom in JupyterLab."""

from __future__ import annotations

import os

import pytest
from jupyterlab_page import Lab, cell_errors, open_notebook, run_all, screenshot_path
from playwright.sync_api import Page

pytestmark = pytest.mark.browser


NEEDS_TORCH = pytest.mark.skipif(
    os.environ.get("WORKBENCH_TEST_TORCH") == "0", reason="left out by WORKBENCH_TEST_TORCH=0"
)


@pytest.mark.parametrize(
    "name",
    [
        "00_welcome",
        pytest.param("01_export", marks=NEEDS_TORCH),
        "02_input_shapes",
        "03_build_and_reuse",
        "04_subgraph_fusion",
        "05_calibrate",
        pytest.param("06_time_and_compare", marks=NEEDS_TORCH),
        "07_tune",
    ],
)
def test_notebook_runs(page: Page, lab: Lab, name: str) -> None:
    open_notebook(page, lab, f"notebooks/{name}.ipynb")
    run_all(page)
    assert cell_errors(page) == []
    panel = page.locator(".jp-WindowedPanel-outer")
    panel.evaluate("panel => panel.scrollTo(0, 0)")
    for part in range(16):  # JupyterLab draws only what is in sight
        page.wait_for_timeout(200)
        page.screenshot(path=screenshot_path("test_notebook_runs", name, part))
        panel.evaluate("panel => panel.scrollBy(0, 850)")
