"""Errors of the workbench as a notebook shows them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from workbench import errors
from workbench.errors import BuildError, WorkbenchError

CELLS = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("from workbench import load_model")
shell.run_cell("load_model('nowhere.onnx')")
shell.run_cell("print('after')")
shell.run_cell("1 / 0")
"""


def test_a_notebook_shows_the_sentence_alone_and_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", CELLS], capture_output=True, text=True, check=True)
    ours, theirs = done.stdout.split("after\n")
    assert ours.startswith("ModelError: ") and "nowhere.onnx" in ours
    assert ours.count("\n") == 1 and "Traceback" not in ours
    assert "Traceback" in theirs and "ZeroDivisionError" in theirs, "other errors keep their way through the code"


@pytest.mark.parametrize(
    "kind", [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, WorkbenchError)]
)
def test_every_error_is_told_with_its_kind_and_sentence(kind: type[WorkbenchError]) -> None:
    assert kind("this went wrong.")._render_traceback_() == [f"{kind.__name__}: this went wrong."]


def test_a_failed_build_is_told_with_node_and_remedy() -> None:
    error = BuildError(
        "no kernel fits", node="conv1", remedy="Try fp32.", log_tail=("a", "b"), repeat="workbench build"
    )
    assert error._render_traceback_() == ["BuildError: node conv1: no kernel fits. Try fp32."]
