"""Run the guided notebooks in order, as a newcomer would, and leave one report: python scripts/tour.py FOLDER

FOLDER/report.html is the story from export to hand-over, FOLDER/*.ipynb the notebooks as they ran. The engines and the
history of the tour lie in FOLDER/home, apart from the user's own.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[1]
LIMIT_S = 900
"""For a cell; nothing on the tour takes nearly as long."""


def main() -> int:
    folder = Path(sys.argv[1]).absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ["WORKBENCH_HOME"] = str(folder / "home")
    steps = []
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        print(f"{path.stem} ...", end=" ", flush=True)
        start, failure = time.monotonic(), run(notebook, path.parent)
        seconds = time.monotonic() - start
        nbformat.write(notebook, folder / path.name)
        print(failure or f"{seconds:.1f} s", flush=True)
        if failure:
            return 1
        steps.append((title_of(notebook), path.name, round(seconds, 1)))
    print(f"report: {report(folder, steps)}")
    return 0


def run(notebook: nbformat.NotebookNode, folder: Path) -> str:
    """Run all cells but those that need converters' environments; '' or the error of the cell that failed."""
    for cell in notebook.cells:
        if "nbval-skip" in cell.metadata.get("tags", ()):
            cell.metadata.tags.append("skip-execution")
    client = NotebookClient(
        notebook, timeout=LIMIT_S, kernel_name="python3", resources={"metadata": {"path": str(folder)}},
        skip_cells_with_tag="skip-execution",
    )  # fmt: skip
    try:
        client.execute()
    except CellExecutionError as error:
        return f"failed:\n{error}"
    return ""


def title_of(notebook: nbformat.NotebookNode) -> str:
    return str(notebook.cells[0].source.splitlines()[0].lstrip("# "))


def report(folder: Path, steps: list[tuple[str, str, float]]) -> Path:
    """On the study that the last notebook made, with what led there."""
    from workbench.report import collect, save_report
    from workbench.runs import Filter, History
    from workbench.tables import Table

    studies = [run.study for run in History().list(Filter(kind="measurement")) if run.study]
    largest = max(dict.fromkeys(studies), key=studies.count)
    found = collect([largest], "The tour: from export to hand-over")
    table = Table("Notebooks, in the order of their running", ("notebook", "file", "seconds"), tuple(steps))
    return save_report(replace(found, steps=table), folder / "report.html")


if __name__ == "__main__":
    sys.exit(main())
