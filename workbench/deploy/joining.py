"""One runner.py of the parts that a model needs, so that whoever gets it has one file to copy and to read."""

from __future__ import annotations

import ast
import textwrap
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

_PARTS = Path(__file__).parent / "runner"
_OWN = "workbench.deploy.runner."
_ENDING = """


if __name__ == "__main__":
    sys.exit(main(open_model, OPTION))
"""
PARTS = {
    "onnxruntime": ("arrays", "onnxruntime_model"),
    "triton": ("arrays", "triton_model"),
    "tensorrt": ("arrays", "gpu", "nvidia_model"),
    "tensorrt_rtx": ("arrays", "gpu", "nvidia_model"),
}
"""By what runs the model; the command comes last."""


def runner_text(runtime: str) -> str:
    """The text of the runner for one of PARTS."""
    sources = [(_PARTS / f"{name}.py").read_text(encoding="utf-8") for name in (*PARTS[runtime], "command")]
    bodies = [_body(source) for source in sources[:-1]]
    bodies.append(f"# ---- the command\n\n{_code(sources[-1])}")
    head = f'"""{ast.get_docstring(ast.parse(sources[-1]), clean=False)}"""'
    return "\n\n".join([head, _imports(sources)]) + "\n\n" + "\n\n\n".join(bodies) + _ENDING


def _body(source: str) -> str:
    """A part's code under its docstring's first sentence as a heading."""
    heading = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0].rstrip(".")
    return "\n".join(textwrap.wrap(f"# ---- {heading}", 120, subsequent_indent="# ")) + f"\n\n{_code(source)}"


def _code(source: str) -> str:
    """What follows the imports."""
    last = max(node.end_lineno or 0 for node in _import_nodes(source))
    return "\n".join(source.splitlines()[last:]).strip("\n")


def _import_nodes(source: str) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]


def _imports(sources: Iterable[str]) -> str:
    """Those of all parts, each once, in the usual order; what one part takes from another stands in the same file."""
    modules: set[str] = set()
    names: dict[str, set[str]] = defaultdict(set)
    for node in (node for source in sources for node in _import_nodes(source)):
        taken = {f"{alias.name} as {alias.asname}" if alias.asname else alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            modules |= taken
        elif not (node.module or "").startswith(_OWN):
            names[node.module or ""] |= taken
    future = names.pop("__future__", set())
    others = {name for name in modules if name.startswith("numpy")}
    lines = [f"import {name}" for name in sorted(modules - others)]
    lines += [f"from {name} import {', '.join(sorted(taken))}" for name, taken in sorted(names.items())]
    blocks = [[f"from __future__ import {name}" for name in future], lines, [f"import {name}" for name in others]]
    return "\n\n".join("\n".join(block) for block in blocks if block)
