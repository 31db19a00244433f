"""The hand-over to Python: one runner.py beside the plan."""

from __future__ import annotations

from pathlib import Path

from workbench.deploy import readme
from workbench.deploy.example import Example
from workbench.deploy.facts import Facts, placed, write_json
from workbench.deploy.joining import runner_text
from workbench.deploy.runner.arrays import write_arrays
from workbench.engine import Engine, export_plan


def refusal(engine: Engine) -> str:
    return ""


def write(engine: Engine, facts: Facts, example: Example, folder: Path) -> tuple[str, ...]:
    """Returns what whoever gets the folder ought to know."""
    export_plan(engine, folder / engine.plan)
    facts = placed(facts, folder, engine.plan)
    write_json(facts, folder)
    (folder / "runner.py").write_text(runner_text(facts.runtime), encoding="utf-8")
    write_vector(example, folder)
    notes = readme.notes(facts, example)
    (folder / "README.md").write_text(readme.python_text(facts, example, notes), encoding="utf-8")
    return notes


def write_vector(example: Example, folder: Path) -> None:
    (folder / "test_vector").mkdir()
    write_arrays(folder / "test_vector" / "inputs.npz", example.inputs)
    write_arrays(folder / "test_vector" / "outputs.npz", example.outputs)
