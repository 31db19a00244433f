"""Run the guided notebooks and store their outputs, as nbval compares them: python scripts/run_notebooks.py [FILE ...]

Cells tagged nbval-ignore-output keep none, because it differs on every machine.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]


def main() -> None:
    for path in [Path(name) for name in sys.argv[1:]] or sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as home:
            os.environ["WORKBENCH_HOME"] = f"{home}/workbench"
            NotebookClient(
                notebook, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
            ).execute()
        notebook.metadata.pop("widgets", None)
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
            if "nbval-ignore-output" in cell.metadata.get("tags", ()):
                cell.outputs = []
        nbformat.write(notebook, path)
        print(f"ran {path.name}")


if __name__ == "__main__":
    main()
