"""The cells of notebook 01 that `make test` leaves out, because they need the converters' environments."""

from __future__ import annotations

import configparser
import os
import re
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "01_export.ipynb"
DIFFERENCES = (r"\b\d(\.\d+)?e-\d+\b", "DIFFERENCE")  # processors round differently

pytestmark = pytest.mark.skipif(
    os.environ.get("WORKBENCH_TEST_TORCH") == "0", reason="PyTorch is left out: WORKBENCH_TEST_TORCH=0"
)


def sanitized(text: str) -> str:
    """As nbval does with what differs from machine to machine."""
    rules = configparser.RawConfigParser()
    rules.read(ROOT / "tests" / "nbval_sanitize.cfg")
    for pattern, word in (*((rules[name]["regex"], rules[name]["replace"]) for name in rules.sections()), DIFFERENCES):
        text = re.sub(pattern, word, text)
    return text


def said(cell: Any) -> str:
    """What a cell prints and shows as text; an error is its last line."""
    texts = []
    for output in cell.outputs:
        if output.output_type == "error":
            texts.append(f"{output.ename}: {output.evalue}")
        else:
            texts.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return sanitized("".join(texts))


def test_the_cells_that_need_environments_say_what_is_stored(ocr_models: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    left_out = [cell for cell in cells if "nbval-skip" in cell.metadata.get("tags", [])]
    stored = [said(cell) for cell in left_out]
    assert left_out and all(stored), "nothing is stored to compare with"
    for cell in left_out:
        cell.outputs = []
    notebook.cells = [cells[0], *left_out]
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": NOTEBOOK.parent}}).execute()
    assert [said(cell) for cell in left_out] == stored
