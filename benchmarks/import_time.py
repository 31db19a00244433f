"""How long `import workbench` takes, beside numpy and onnx, which it cannot do without.

python benchmarks/import_time.py [--runs 15]     JSON on standard output
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from importlib.metadata import version
from statistics import median

from workbench import this_machine

STATEMENTS = {"python": "pass", "numpy and onnx": "import numpy, onnx", "workbench": "import workbench"}
"""What a process of its own runs, in turns."""


def run(*words: str, compiled: str) -> str:
    """What a Python process wrote to stderr. compiled: the folder for its compiled modules."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment = {**kept, "PYTHONPYCACHEPREFIX": compiled}
    command = [sys.executable, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stderr


def seconds(code: str, compiled: str) -> float:
    """Wall-clock seconds of a whole process that runs this."""
    start = time.perf_counter()
    run("-c", code, compiled=compiled)
    return time.perf_counter() - start


def self_times_us(code: str, compiled: str) -> dict[str, int]:
    """Microseconds that each module took by itself, as `-X importtime` counts; that makes the whole slower."""
    lines = run("-X", "importtime", "-c", code, compiled=compiled).splitlines()
    rows = [line.removeprefix("import time:").split("|") for line in lines if line.startswith("import time:")]
    return {name.strip(): int(own) for own, _, name in rows if own.strip().isdigit()}


def by_package(modules: dict[str, float]) -> dict[str, float]:
    """Milliseconds for each package; those of Python's own library are one."""
    total: defaultdict[str, float] = defaultdict(float)
    for name, own in modules.items():
        package = name.partition(".")[0]
        total["standard library" if package in sys.stdlib_module_names else package] += own / 1000
    return {name: round(own, 1) for name, own in sorted(total.items(), key=lambda item: -item[1]) if own >= 1}


def measure(runs: int, compiled: str) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each statement's processes, in turns, and the median microseconds of each module."""
    for code in STATEMENTS.values():
        seconds(code, compiled)  # modules are compiled, files come into the page cache
    taken: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    own: defaultdict[str, list[int]] = defaultdict(list)
    for _ in range(runs):
        for name, code in STATEMENTS.items():
            taken[name].append(seconds(code, compiled))
        for module, time_us in self_times_us(STATEMENTS["workbench"], compiled).items():
            own[module].append(time_us)
    return taken, {module: median(times) for module, times in own.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as compiled:
        taken, own = measure(options.runs, compiled)
    found = {
        "machine": str(this_machine()),
        "releases": {name: version(name) for name in ("numpy", "onnx")},
        "load_before": round(load, 2),
        "clock": "perf_counter around the process",
        "rows": [
            {"what": name, "median_s": round(median(times), 3), "best_s": round(min(times), 3)}
            for name, times in taken.items()
        ],
        "modules": len(own),
        "by_package_ms": by_package(own),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
