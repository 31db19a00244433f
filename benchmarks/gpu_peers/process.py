"""A peer in a process of its own, asked over its standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[1]
PEERS = {
    "workbench": ("gpu_peers.workbench_peer",),
    "bare": ("gpu_peers.bare",),
    "polygraphy": ("gpu_peers.polygraphy_peer",),
    "eager": ("gpu_peers.torch_peer", "eager"),
    "compile": ("gpu_peers.torch_peer", "compile"),
}
TORCH = ("eager", "compile")
STUDY = "study"
"""The contestant of gpu_study.py."""
TITLES = {"bare": "bare loop", "eager": "torch eager", "compile": "torch compile"}


class PeerError(Exception):
    """What a peer could not do."""


def without_kit(environment: Mapping[str, str]) -> dict[str, str]:
    """For PyTorch's own Python, which must not find the packages and libraries of the other one."""
    return {name: value for name, value in environment.items() if name not in ("PYTHONPATH", "LD_LIBRARY_PATH")}


class Peer:
    """Started when first asked. log: the file its standard error goes to."""

    def __init__(self, name: str, torch_python: str, log: Path) -> None:
        self.name, self.log = name, log
        has_torch = name in (*TORCH, STUDY)
        self._python = torch_python if has_torch else sys.executable
        self._environment = without_kit(os.environ) if has_torch else dict(os.environ)
        self._process: subprocess.Popen[str] | None = None

    def ask(self, do: str, **what: Any) -> Any:
        """Raises PeerError."""
        if self._process is None:
            self._start()
        process = self._process
        assert process and process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps({"do": do, **what}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process = None
            raise PeerError(f"{self.name}: its process ended ({process.wait()}); see {self.log}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{self.name}: {answer['error']}")
        return answer["answer"]

    def stop(self) -> None:
        if self._process and self._process.stdin:
            self._process.stdin.close()
            self._process.wait(30)
        self._process = None

    def _start(self) -> None:
        command = [self._python, "-m", *(("gpu_peers.study_torch",) if self.name == STUDY else PEERS[self.name])]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=BENCHMARKS,
                env=self._environment,
            )


def gpu_state() -> dict[str, str] | None:
    """Clocks, temperature and power as nvidia-smi tells them; None without one."""
    names = ("name", "driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "temperature.gpu", "power.draw")
    command = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(names, said.splitlines()[0].split(", "), strict=False))
