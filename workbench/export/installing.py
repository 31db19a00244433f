"""A virtual environment in a folder: made with venv, filled by pip, tried."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.engine import folder_bytes
from workbench.errors import ExportError
from workbench.export.interpreters import Interpreter, python_in
from workbench.process import Decode, Ended, run_process
from workbench.types import Listener, LogLine, Progress

RECORD = "environment.json"
_PATIENCE_S = 60.0
_CHECK = """
import importlib.metadata, importlib.util, json, sys
request = json.loads(sys.argv[1])
for name, wanted in request["packages"].items():
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        sys.exit(f"{name} is missing")
    if wanted and found != wanted:
        sys.exit(f"it holds {name} {found}, not {wanted}")
for name in request["modules"]:
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        sys.exit(f"the module {name} is missing")
"""
_PIP_LINE = re.compile(
    r"\s*(Collecting|Downloading|Processing|Using cached|Installing collected packages:|Successfully) (.*)"
)


def install(
    requirements: Sequence[str],
    modules: Sequence[str],
    interpreter: Interpreter,
    folder: Path,
    listener: Listener,
    cancel: threading.Event,
) -> None:
    """Make the environment in an empty folder, import the modules once, and note in RECORD what was installed.

    Raises ExportError with what venv, pip or the import said; Cancelled. The caller removes the folder then.
    """
    began = time.monotonic()
    scratch = folder / "tmp"
    scratch.mkdir()

    def run(command: list[Any], phase: str, decode: Decode) -> None:
        variables = {"PIP_USER": "0"}
        ended = run_process(
            command, listener, cancel, environment=variables, scratch=scratch, starting=phase, decode=decode
        )
        if ended.status:
            raise ExportError(_failure(phase, ended))

    run([interpreter.path, "-I", "-m", "venv", folder], "Creating a virtual environment", _Lines())
    pip = [python_in(folder), "-I", "-u", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    options = ["--progress-bar", "off", "--no-compile", "--no-warn-script-location"]
    run([*pip, "install", *options, *requirements], "Starting pip", PipLines())
    # zlib first: Paddle 2.6 brings one of its own, and Python's crashes when it is loaded later.
    run([python_in(folder), "-I", "-c", f"import zlib, {', '.join(modules)}"], "Trying it", _Lines())
    freeze = _Lines()
    run([*pip, "freeze"], "Noting what was installed", freeze)
    shutil.rmtree(scratch)
    record = {
        "requirements": list(requirements),
        "release": interpreter.release,
        "installed": freeze.lines,
        "size_bytes": folder_bytes(folder),
        "made_s": round(time.monotonic() - began, 1),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1))


def fault(folder: Path, requirements: Sequence[str], modules: Sequence[str]) -> str:
    """What is damaged in the environment in this folder, asked of its own Python; empty if it can be used.

    Raises OSError and subprocess.SubprocessError where that cannot be told: no answer in time, a busy machine.
    """
    pinned = [re.match(r"([\w.-]+)(?:==([\w.+-]+))?", text) for text in requirements]
    packages = {match[1]: match[2] or "" for match in pinned if match}
    request = json.dumps({"packages": packages, "modules": modules})
    try:
        if set(read_record(folder)) != {"requirements", "release", "installed", "size_bytes", "made_s"}:
            return f"{RECORD} is damaged"
        command = [str(python_in(folder)), "-I", "-c", _CHECK, request]
        told = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S)
    except (FileNotFoundError, NotADirectoryError) as error:
        return f"{error.filename}: {error.strerror}"
    except ValueError as error:
        return f"{RECORD}: {error}"
    if told.returncode < 0:  # killed: nothing is known of what is on the disk
        raise subprocess.CalledProcessError(told.returncode, "its Python")
    if told.returncode:
        return (told.stderr.strip().split("\n")[-1] or f"its Python ends with status {told.returncode}")[:300]
    return ""


def read_record(folder: Path) -> dict[str, Any]:
    """What `install` noted. Raises OSError or ValueError where there is nothing of the kind."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    if not isinstance(record, dict):
        raise ValueError("not a record")
    return record


class _Lines:
    """Lines of text, kept and told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, raw: bytes) -> list[Any]:
        self.lines.append(raw.decode(errors="replace").rstrip())
        return [LogLine("info", self.lines[-1])]


class PipLines:
    """pip's lines as log and phases: each package as it is collected, then the installation of all."""

    def __init__(self) -> None:
        self.phase = ""

    def __call__(self, raw: bytes) -> list[Any]:
        text = raw.decode(errors="replace").rstrip()
        events: list[Any] = [LogLine("info", text)] if text.strip() else []
        match = _PIP_LINE.match(text)
        if not match:
            return events
        verb, what = match.groups()
        if self.phase:
            events.append(Progress(self.phase, 1, 1))
        self.phase = ""
        if verb.startswith("Installing"):
            count = what.count(",") + 1
            self.phase = f"Installing {count} package{'s' if count > 1 else ''}"
        elif verb != "Successfully":
            self.phase = f"{verb} {what.split(' (from')[0].rpartition('/')[2]}"
        if self.phase:
            events.append(Progress(self.phase, 0, None))
        return events


def _failure(phase: str, ended: Ended) -> str:
    if ended.status < 0:
        reason = ended.how()
    else:
        said = [line.text.removeprefix("ERROR: ") for line in ended.log if line.text.startswith("ERROR:")]
        last = " ".join(said) or " ".join(ended.tail[-2:]) or f"exit status {ended.status}"
        reason = f"failed: {last[:600].rstrip('.')}"
    return f"'{phase}' {reason}. Nothing was left behind; check the network and `pip config list`."
