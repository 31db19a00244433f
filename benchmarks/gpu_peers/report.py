"""From numbers to ratios: what issue 3 asks for, computed from a result of gpu_latency.py and nothing else.

A result is JSON: {machine, releases, date, how, gpu, models, cells, runs, builds, openings, failures}.
runs: {model, precision, batch, peer, what, clock, median_ms, p99_ms, mean_ms, iterations, rounds_ms, relative}.
builds: {model, precision, batch, kind, build_s, ...}; kind: 'cold' in a new process with an empty timing cache, 'warm'
when that build is repeated, 'warm_anew' in a new process again, 'other' with what other builds have left, 'reused'.
openings: {model, precision, batch, peer, total_ms, parts_ms}.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from gpu_peers.cells import Cell

Result = dict[str, Any]
KEYS = {
    "runs": ("model", "precision", "batch", "peer", "what"),
    "builds": ("model", "precision", "batch", "kind"),
    "openings": ("model", "precision", "batch", "peer"),
}
SHOWN = Cell("resnet18", "fp16", 1)
"""What the issue's own numbers are of."""


@dataclass(frozen=True)
class Ratio:
    """`target` None: shown for comparison, nothing was promised."""

    what: str
    cell: Cell
    value: float
    target: float | None
    at_most: bool

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        good = self.value <= self.target if self.at_most else self.value >= self.target
        return "reached" if good else "not reached"


@dataclass(frozen=True)
class Rule:
    """The median of `over` by that of `under`, each (peer, what). over_precision: where it is not the row's own.

    everywhere: the target holds for every row; else for SHOWN, and other rows show their ratio without one.
    """

    what: str
    over: tuple[str, str]
    under: tuple[str, str]
    target: float
    at_most: bool = False
    everywhere: bool = False
    over_precision: str | None = None


RULES = (
    Rule("graph replay: workbench / bare", ("workbench", "replay"), ("bare", "replay"), 1.03, True, True),
    Rule("host to host: workbench / by hand", ("workbench", "host"), ("bare", "host"), 1.10, True, True),
    Rule(
        "host to host in place: workbench / by hand",
        ("workbench", "host_in_place"),
        ("bare", "host_in_place"),
        1.10,
        True,
        True,
    ),
    Rule("host to host: Polygraphy infer / workbench", ("polygraphy", "host"), ("workbench", "host"), 4.0),
    Rule(
        "GPU: PyTorch eager fp32 / workbench fp16",
        ("eager", "gpu"),
        ("workbench", "replay"),
        8.0,
        over_precision="fp32",
    ),
    Rule("GPU: torch.compile / workbench, same precision", ("compile", "gpu"), ("workbench", "replay"), 1.3),
)
BUILD_BY_OPEN = ("building cold / opening a stored engine", 300.0, False)
OPEN_BY_BARE = ("opening a stored engine / bare deserializing and running", 1.5, True)
COLD_BY_WARM = ("building cold / with a warm timing cache, fp16", 4.0, False)
COLD_BY_ANEW = ("building cold / with a warm timing cache in a new process, fp16", None, False)


def summary(rounds: Sequence[Sequence[float]], iterations: int) -> dict[str, Any]:
    """Raw times of each round -> the median of the rounds' medians, 99th percentiles and means."""
    medians = [median(times) for times in rounds]
    return {
        "median_ms": median(medians),
        "p99_ms": median(sorted(times)[math.ceil(len(times) * 0.99) - 1] for times in rounds),
        "mean_ms": median(sum(times) / len(times) for times in rounds),
        "iterations": iterations,
        "rounds_ms": medians,
    }


def ratios(result: Result) -> list[Ratio]:
    """Those whose numbers are there."""
    times = {(cell_of(run), run["peer"], run["what"]): run["median_ms"] for run in result["runs"]}
    cells = sorted({cell for cell, _, _ in times}, key=_order)
    found = [ratio for rule in RULES for cell in cells if (ratio := _ratio(rule, cell, times))]
    return found + _ratios_of_builds(result)


def _ratio(rule: Rule, cell: Cell, times: Mapping[tuple[Cell, str, str], float]) -> Ratio | None:
    if rule.over_precision and cell.precision != "fp16":
        return None
    over = times.get((Cell(cell.model, rule.over_precision or cell.precision, cell.batch), *rule.over))
    under = times.get((cell, *rule.under))
    if over is None or under is None:
        return None
    return Ratio(rule.what, cell, over / under, rule.target if rule.everywhere or cell == SHOWN else None, rule.at_most)


def _ratios_of_builds(result: Result) -> list[Ratio]:
    seconds = {(cell_of(item), item["kind"]): item["build_s"] for item in result["builds"]}
    opened = {(cell_of(item), item["peer"]): item["total_ms"] for item in result["openings"]}
    found = []
    for cell in sorted({cell for cell, _ in [*seconds, *opened]}, key=_order):
        cold, warm = seconds.get((cell, "cold")), seconds.get((cell, "warm"))
        ours, bare = opened.get((cell, "workbench")), opened.get((cell, "bare"))
        if cold and ours:
            found.append(Ratio(BUILD_BY_OPEN[0], cell, 1e3 * cold / ours, *BUILD_BY_OPEN[1:]))
        if ours and bare:
            found.append(Ratio(OPEN_BY_BARE[0], cell, ours / bare, *OPEN_BY_BARE[1:]))
        if cold and warm and cell.precision == "fp16":
            found.append(Ratio(COLD_BY_WARM[0], cell, cold / warm, *COLD_BY_WARM[1:]))
        if cold and (anew := seconds.get((cell, "warm_anew"))):
            found.append(Ratio(COLD_BY_ANEW[0], cell, cold / anew, *COLD_BY_ANEW[1:]))
    order = [BUILD_BY_OPEN[0], OPEN_BY_BARE[0], COLD_BY_WARM[0], COLD_BY_ANEW[0]]
    return sorted(found, key=lambda ratio: order.index(ratio.what))


def cell_of(item: Mapping[str, Any]) -> Cell:
    return Cell(item["model"], item["precision"], item["batch"])


def _order(cell: Cell) -> tuple[Any, ...]:
    """The row the issue speaks of first."""
    return (cell.model != SHOWN.model, cell.model, cell.batch, cell.precision != SHOWN.precision, cell.precision)


def ratio_rows(found: Iterable[Ratio]) -> list[tuple[str, ...]]:
    """A head and a row for each ratio, for a table."""
    rows: list[tuple[str, ...]] = [("ratio", "model", "value", "target", "")]
    for ratio in found:
        target = "" if ratio.target is None else f"{'<=' if ratio.at_most else '>='} {ratio.target:g}"
        value = f"{ratio.value:.3f}" if ratio.value < 10 else f"{ratio.value:,.1f}"
        rows.append((ratio.what, str(ratio.cell), value, target, ratio.verdict))
    return rows


def time_rows(result: Result) -> list[tuple[str, ...]]:
    """Milliseconds: a row for each model, precision and batch, a column for each peer's loop."""
    times = {(cell_of(run), f"{run['peer']} {run['what']}"): run["median_ms"] for run in result["runs"]}
    columns = list(dict.fromkeys(column for _, column in times))
    cells = sorted({cell for cell, _ in times}, key=_order)
    body = [
        (str(cell), *(f"{times[cell, column]:.4f}" if (cell, column) in times else "" for column in columns))
        for cell in cells
    ]
    return [("median ms", *columns), *body]


def merged(results: Sequence[Result]) -> Result:
    """One result of several calls: of two numbers for the same thing the later stays; the rest is the last call's."""
    last = dict(results[-1])
    for name, keys in KEYS.items():
        found = {tuple(item[key] for key in keys): item for result in results for item in result[name]}
        last[name] = list(found.values())
    for name in ("releases", "models", "cells"):
        last[name] = {key: value for result in results for key, value in result[name].items()}
    for name in ("gpu", "failures"):
        last[name] = [item for result in results for item in result[name]]
    last["how"] = "; ".join(dict.fromkeys(result["how"] for result in results))
    return last
