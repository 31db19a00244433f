"""What a search itself costs for each trial: proposing, looking in the history, handing out, keeping, telling.

python benchmarks/tuning_cost.py [--at 100,1000,10000] [--over 100] [--sampler auto] [--roomy]    JSON on stdout

A real search, in a space of 17,360 candidates, with a simulated worker that answers at once. At each of these numbers
of trials the next `over` are timed, by part. `resume_s`: the same search opened anew then.
--roomy: in a space ten times as large, of which 10,000 trials use up little; with one sampler this tells whether the
history costs anything, where the smaller space also tells what proposals of known candidates cost.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit"))

import optuna
from helpers_tuning import SimulatedCrew, ground, huge_space, plan

from workbench.machine import this_machine
from workbench.runs import History
from workbench.store import EngineStore
from workbench.tuning import running
from workbench.tuning.budget import Budget, Clock
from workbench.tuning.goals import Goals, Limit
from workbench.tuning.lane import Lane, open_lane
from workbench.tuning.plan import Plan
from workbench.tuning.result import Tuned
from workbench.tuning.running import run_search
from workbench.tuning.search import Search

GOALS = Goals(("throughput", "accuracy"), (Limit("accuracy", 0.3),), "top1")


class Parts:
    """Seconds by part; what is called within another part counts for both."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*positional: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*positional, **named)
            finally:
                self.seconds[name] += time.perf_counter() - start

        return call

    def watch(self) -> None:
        """All searches of this process, from now on."""
        for name, owner, attribute in (
            ("ask", Search, "ask"),
            ("tell", Search, "tell"),
            ("rivals", Lane, "rivals"),
            ("find", running, "find_trial"),
            ("keep", running, "keep_trial"),
            ("show", running._Run, "_show"),
        ):
            setattr(owner, attribute, self.timed(name, getattr(owner, attribute)))


class Meter:
    """Takes the parts when a search has this many trials, and `over` later."""

    def __init__(self, parts: Parts, at: list[int], over: int) -> None:
        self.parts, self.at, self.over = parts, at, over
        self.rows: list[dict[str, Any]] = []
        self.begun: dict[int, tuple[float, float, dict[str, float]]] = {}

    def __call__(self, found: Tuned) -> None:
        count = len(found.trials)
        if count in self.at and count not in self.begun:
            self.begun[count] = time.perf_counter(), time.process_time(), dict(self.parts.seconds)
        start = count - self.over
        if start in self.begun and all(row["trials"] != start for row in self.rows):
            began, cpu, before = self.begun[start]
            row: dict[str, Any] = {
                "trials": start,
                "ms_per_trial": self._each(time.perf_counter() - began),
                "processor_ms_per_trial": self._each(time.process_time() - cpu),
            }
            row |= {name: self._each(value - before.get(name, 0)) for name, value in self.parts.seconds.items()}
            self.rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)

    def _each(self, seconds: float) -> float:
        return round(1000 * seconds / self.over, 2)


def resume_s(wanted: Plan) -> float:
    start = time.perf_counter()
    open_lane(wanted, ground("one", "GPU-0"), History(), EngineStore())
    return round(time.perf_counter() - start, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at", default="100,1000,10000")
    parser.add_argument("--over", type=int, default=100)
    parser.add_argument("--sampler", default="auto")
    parser.add_argument("--roomy", action="store_true")
    options = parser.parse_args()
    at = sorted(int(text) for text in options.at.split(","))
    with tempfile.TemporaryDirectory() as home:
        os.environ["WORKBENCH_HOME"] = home
        space = replace(huge_space(), batch=tuple(range(1, 101))) if options.roomy else huge_space()
        wanted = plan(space, GOALS, options.sampler)
        parts, load = Parts(), os.getloadavg()[0]
        parts.watch()
        meter = Meter(parts, at, options.over)
        for count in at:
            crew = SimulatedCrew({"worker": ground("one", "GPU-0")}, trial_s=0.0)
            clock = Clock(crew.clock.monotonic, crew.clock.sleep)
            run_search(wanted, crew, Budget(count + options.over), each=meter, clock=clock)
            meter.rows[-1]["resume_s"] = resume_s(wanted)
    told = {
        "machine": str(this_machine()),
        "optuna": optuna.__version__,
        "python": platform.python_version(),
        "load": [round(load, 2), round(os.getloadavg()[0], 2)],
        "clock": f"perf_counter, process_time; means of {options.over} trials",
        "sampler": options.sampler,
        "combinations": space.size,
        "rows": meter.rows,
    }
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
