"""Run the guided notebooks and store their outputs, as nbval compares them: python scripts/run_notebooks.py [FILE ...]

Cells tagged nbval-ignore-output keep none, because it differs on every machine. Cells tagged nbval-skip need the
converters' environments: they are recorded where WORKBENCH_EXPORTERS_HOME names a folder with them (`make
test-exporters` makes it, and compares them), and keep what was recorded otherwise.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
EXPORTERS = os.environ.get("WORKBENCH_EXPORTERS_HOME")


def main() -> None:
    for path in [Path(name) for name in sys.argv[1:]] or sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        recorded = {cell.id: cell.outputs for cell in notebook.cells if "nbval-skip" in cell.metadata.get("tags", ())}
        with tempfile.TemporaryDirectory() as home:
            os.environ["WORKBENCH_HOME"] = f"{home}/workbench"
            if EXPORTERS:
                for name in ("environments", "models"):
                    Path(home, "workbench").mkdir(exist_ok=True)
                    Path(home, "workbench", name).symlink_to(Path(EXPORTERS, name).resolve())
            NotebookClient(
                notebook, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
            ).execute()
        notebook.metadata.pop("widgets", None)
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
            if "nbval-ignore-output" in cell.metadata.get("tags", ()):
                cell.outputs = []
            if cell.id in recorded and not EXPORTERS:
                cell.outputs = recorded[cell.id]
        nbformat.write(notebook, path)
        print(f"ran {path.name}")


if __name__ == "__main__":
    main()
