"""How fast engines are built, opened and run on a GPU, beside bare TensorRT, Polygraphy and PyTorch.

python benchmarks/gpu_latency.py --output FILE.json [--models resnet18] [--precisions fp16] [--peers workbench bare]
python benchmarks/gpu_latency.py --merge A.json B.json --output FILE.json     one result of several calls

Each peer is a process of its own; they take turns, three rounds. Engines stay in --work and are used again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

from gpu_peers.cells import MODELS, PRECISIONS, SAMPLES, Cell, write_reference
from gpu_peers.process import BENCHMARKS, PEERS, TORCH, Peer, PeerError, gpu_state, without_kit
from gpu_peers.recording import about_models, keep_engine, keep_profile, write_recording
from gpu_peers.report import SHOWN, Result, merged, ratio_rows, ratios, summary, time_rows

from workbench.engine import NODES
from workbench.terminal import table

TORCH_PYTHON = "/opt/torch/.venv/bin/python3"
OPENINGS = 5
STARTED = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - STARTED:6.1f} s] {text}", file=sys.stderr, flush=True)


class Benchmark:
    """One call: `result` grows and is written after every step, so that a call that is cut short leaves its numbers."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work.resolve()
        self.models, self.records = self.work / "models", options.records.resolve() if options.records else None
        for folder in (self.models, self.records or self.models):
            folder.mkdir(parents=True, exist_ok=True)
        self.peers = {name: Peer(name, options.torch_python, self.work / f"{name}.log") for name in PEERS}
        self.engines: dict[Cell, dict[str, Any]] = {}
        self.sums: dict[str, str] = {}
        empty: dict[str, Any] = {name: [] for name in ("runs", "builds", "openings", "failures")}
        self.result: Result = {"machine": None, "releases": {}, "date": "", "how": "", "gpu": [], "models": {}}
        self.result |= {"cells": {}, **empty}

    def run(self) -> None:
        self.result["date"] = datetime.now(timezone.utc).date().isoformat()
        self.result["how"] = " ".join(["python", "benchmarks/gpu_latency.py", *sys.argv[1:]])
        state = gpu_state()
        self.result["gpu"].append({"when": "before", "state": state})
        self.make_models()
        about = self.ask("workbench", "about") or {}
        self.result["machine"] = about.pop("machine", None)
        self.result["releases"] = {**about, **({"driver": state["driver_version"]} if state else {})}
        self.ask("workbench", "warm_up")
        for cell in self.cells():
            self.build(cell)
        if not self.options.only_build:
            for name in (name for name in self.options.peers if name != "workbench"):
                self.result["releases"] |= self.ask(name, "about") or {}
            for cell in self.cells():
                self.measure(cell)
        self.result["gpu"].append({"when": "after", "state": gpu_state()})
        self.save()
        for peer in self.peers.values():
            peer.stop()

    def cells(self) -> list[Cell]:
        """fp16 first: its build in a fresh store is the cold one."""
        options = self.options
        precisions = sorted(options.precisions, key=lambda name: name != SHOWN.precision)
        return [
            Cell(model, precision, batch)
            for model in options.models
            for precision in precisions
            for batch in options.batches
        ]

    def make_models(self) -> None:
        missing = [name for name in self.options.models if not (self.models / f"{name}.onnx").exists()]
        if missing:
            say(f"making {', '.join(missing)}")
            command = [self.options.torch_python, str(BENCHMARKS / "gpu_models.py"), str(self.models), *missing]
            subprocess.run(command, check=True, env=without_kit(os.environ), stdout=sys.stderr)
        for name in self.options.models:
            write_reference(self.models, name)
            self.sums[name] = hashlib.sha256((self.models / f"{name}.onnx").read_bytes()).hexdigest()
        self.result["models"] = about_models(self.records or self.models, self.sums)
        say("models and ONNX Runtime's outputs are there")

    def ask(self, name: str, do: str, **what: Any) -> Any:
        """None, and a line among the failures, when the peer cannot."""
        try:
            return self.peers[name].ask(do, **what)
        except PeerError as error:
            say(f"FAILED: {error}")
            self.result["failures"].append({"peer": name, "do": do, "cell": what.get("cell"), "error": str(error)})
            return None

    # ---- building

    def build(self, cell: Cell) -> None:
        built = first = self._build_once(cell, reuse=True, anew=cell == SHOWN)
        if first and first["kind"] == "cold":
            built = self._build_once(cell, reuse=False) or first
        if first and first["kind"] == "cold" and cell == SHOWN:
            built = self._build_once(cell, reuse=False, anew=True) or built
        if not first or not built:
            return
        self.engines[cell] = built
        kept: dict[str, Any] = {"build_s": first["build_s"], "plan_bytes": built["plan_bytes"]}
        if self.records:
            kept |= keep_engine(self.records, cell.stem, Path(built["folder"]))
            shutil.copyfile(Path(built["folder"]) / NODES, self.records / f"{cell.model}.{NODES}")
            self.result["models"] = about_models(self.records, self.sums)
        self.result["cells"][cell.stem] = kept
        self.save()

    def _build_once(self, cell: Cell, reuse: bool, anew: bool = False) -> dict[str, Any] | None:
        say(f"building {cell}")
        store = self._store(cell)
        asked = {"folder": str(self.models), "cell": vars(cell), "store": store, "reuse": reuse, "anew": anew}
        built = self.ask("workbench", "build", **asked)
        if not built:
            return None
        fresh = "other" if built["cache_bytes_before"] else "cold"
        kind = "reused" if built["reused"] else fresh if reuse else "warm_anew" if anew else "warm"
        row = {**vars(cell), "kind": kind, **built}
        say(f"  {kind}: {built['build_s']:.1f} s, {built['plan_bytes']:,} bytes")
        self.result["builds"].append(row)
        return row

    def _store(self, cell: Cell) -> str:
        """A store for each model, so that each has a first build with an empty timing cache."""
        return str(self.work / f"store_{cell.model}")

    # ---- measuring

    def measure(self, cell: Cell) -> None:
        prepared = {name: answer for name in self.options.peers if (answer := self._prepare(name, cell))}
        rounds: dict[tuple[str, str], list[Any]] = {}
        for number in range(self.options.rounds):
            for name in list(prepared):
                taken = self.ask(name, "measure", iterations=self.options.iterations, limit_s=self.options.limit_s)
                for item in taken or []:
                    rounds.setdefault((name, item["what"]), []).append(item)
            say(f"{cell}: round {number + 1} of {self.options.rounds}")
        for (name, what), items in rounds.items():
            numbers = summary([item["times_ms"] for item in items], items[-1]["iterations"])
            heads = {"peer": name, "what": what, "clock": items[-1]["clock"], **prepared[name]}
            self.result["runs"].append({**vars(cell), **heads, **numbers})
        if "workbench" in prepared and self.records and (layers := self.ask("workbench", "layers")):
            self.result["cells"][cell.stem]["profile"] = keep_profile(self.records, cell.stem, layers)
        for name in prepared:
            self.ask(name, "release")
        self.open(cell, [name for name in ("workbench", "bare") if name in prepared])
        self.save()

    def _prepare(self, name: str, cell: Cell) -> dict[str, Any] | None:
        if name in TORCH and cell.precision == "int8":
            return None
        if name not in TORCH and cell not in self.engines:
            return None
        prepared: dict[str, Any] | None = self.ask(name, "prepare", **self._where(name, cell))
        if prepared:
            say(f"  {name} is ready, relative difference {prepared['relative']:.1e}")
        return prepared

    def _where(self, name: str, cell: Cell) -> dict[str, Any]:
        where: dict[str, Any] = {"folder": str(self.models), "cell": vars(cell)}
        if name == "workbench":
            where |= {"store": self._store(cell), "key": self.engines[cell]["key"]}
        elif name not in TORCH:
            where["plan"] = self.engines[cell]["plan"]
        return where

    def open(self, cell: Cell, names: list[str]) -> None:
        """In processes that have opened engines before, page cache warm; the first time is not counted."""
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(OPENINGS + 1):
            for name in names:
                if times := self.ask(name, "open_once", **self._where(name, cell)):
                    taken[name].append(times)
        for name, times in taken.items():
            if len(times) > 1:
                middle = {part: median(item[part] for item in times[1:]) for part in times[0]}
                total = middle.pop("total")
                row = {"peer": name, "total_ms": total, "parts_ms": middle, "count": len(times) - 1}
                self.result["openings"].append({**vars(cell), **row})
                say(f"  {name} opens in {total:.1f} ms: {', '.join(f'{part} {ms:.1f}' for part, ms in middle.items())}")

    def save(self) -> None:
        self.options.output.write_text(json.dumps(self.result, indent=1) + "\n")
        if self.records and self.result["runs"]:
            write_recording(self.records, self.result)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=[*MODELS])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=[*PRECISIONS])
    parser.add_argument("--batches", nargs="+", type=int, choices=range(1, SAMPLES + 1), default=[1, 64], metavar="N")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=[*PEERS])
    parser.add_argument("--only-build", action="store_true", help="build, and compare cold with warm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=1000, help="of each loop and round at most")
    parser.add_argument(
        "--limit-s", type=float, default=0.25, help="of each loop and round; slow models run less often"
    )
    parser.add_argument("--torch-python", default=TORCH_PYTHON, help="a Python with PyTorch")
    parser.add_argument("--work", type=Path, default=BENCHMARKS.parent / "build" / "gpu_latency")
    parser.add_argument("--records", type=Path, help="a folder for runs.json and the files it names")
    parser.add_argument(
        "--merge", type=Path, nargs="+", metavar="FILE", help="results of earlier calls; measures nothing"
    )
    parser.add_argument("--output", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    options = read_options()
    if options.merge:
        result = merged([json.loads(path.read_text()) for path in options.merge])
        options.output.write_text(json.dumps(result, indent=1) + "\n")
        if options.records:
            write_recording(options.records, result)
    else:
        benchmark = Benchmark(options)
        benchmark.run()
        result = benchmark.result
    print(table(time_rows(result)), table(ratio_rows(ratios(result))), sep="\n\n")
    for failure in result["failures"]:
        print(f"failed: {failure['error']}")


if __name__ == "__main__":
    main()
