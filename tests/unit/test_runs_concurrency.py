"""Sixteen processes write while some are killed: benchmarks/runs_store.py, as long as a test may take."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from helpers_building import PATIENCE_S

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "runs_store.py"


def test_nothing_that_was_acknowledged_is_lost_when_writers_are_killed() -> None:
    command = [sys.executable, str(BENCHMARK), "--runs", "0", "--seconds", "6", "--processes", "16"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * PATIENCE_S)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["kills"]
    assert found["processes"] == 16 and found["killed"] > 16
    assert found["acknowledged"] > 100 and found["found"] >= found["acknowledged"]
    problems = ("lost", "half_written_studies", "damaged_data", "set_aside")
    assert {name: found[name] for name in problems} == dict.fromkeys(problems, 0)
    assert found["integrity_check"] == "ok"
