"""The command line starts quickly: a command imports what it needs, and nothing that only others need."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_runs import filled
from models import FASHION_CNN

from workbench.cli import _parser, _verb

HEAVY = {"torch", "onnxruntime", "matplotlib", "tensorrt", "tensorrt_rtx", "pycuda", "psutil", "yaml", "PIL"}
START = """
import sys
from workbench import cli
try:
    status = cli.main(sys.argv[1:]) if sys.argv[1:] else 0
except SystemExit as stop:  # argparse
    status = stop.code or 0
print(*sys.modules, sep="\\n", file=sys.stderr)
sys.exit(status)
"""


def started(*words: str) -> tuple[str, set[str]]:
    """What `workbench` with these words prints, and the modules that it has imported. Without any: of the import."""
    done = subprocess.run([sys.executable, "-c", START, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, set(done.stderr.split())


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def commands(modules: set[str]) -> set[str]:
    """The modules of workbench.commands among these."""
    return {name.rpartition(".")[2] for name in modules if name.startswith("workbench.commands.")}


def verbs() -> dict[str, argparse.ArgumentParser]:
    (action,) = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(action.choices)


@pytest.fixture(scope="module")
def bare() -> set[str]:
    """The modules that importing the command line imports."""
    return started()[1]


def test_importing_the_command_line_imports_nothing_heavy(bare: set[str]) -> None:
    assert "workbench.cli" in bare
    assert not HEAVY & packages(bare)
    assert "workbench.widgets" not in bare


def test_importing_the_command_line_imports_no_command(bare: set[str]) -> None:
    assert commands(bare) == {"data_options", "options", "tuning_options"}


@pytest.mark.parametrize("part", ["calibration", "export", "deploy", "report", "plots", "qdq", "contest", "study"])
def test_the_command_line_starts_without_what_few_commands_need(part: str, bare: set[str]) -> None:
    assert not {name for name in bare if name.startswith(f"workbench.{part}")}


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_questions_about_the_program_import_no_command(word: str) -> None:
    printed, modules = started(word)
    assert printed.startswith("workbench " if word == "--version" else "usage: workbench ")
    assert commands(modules) == {"data_options", "options", "tuning_options"}


def test_listing_runs_imports_no_other_command(home: Path) -> None:
    _, runs = filled(home, count=3)
    printed, modules = started("runs")
    assert all(run.id[:8] in printed for run in runs)
    assert commands(modules) == {"data_options", "options", "tuning_options", "history"}
    assert not HEAVY & packages(modules)


@pytest.mark.rtx
def test_an_engine_that_is_reused_is_told_without_the_back_ends_libraries() -> None:
    command = ("build", str(FASHION_CNN), "--backend", "rtx", "--json")
    assert not json.loads(started(*command)[0])["reused"]
    printed, modules = started(*command)
    assert json.loads(printed)["reused"]
    assert not (HEAVY - {"yaml"}) & packages(modules)


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_every_verb_finds_its_function(verb: str) -> None:
    function = _verb(verbs()[verb].get_default("run"))
    assert callable(function)
    assert function.__module__.startswith("workbench.commands.")
