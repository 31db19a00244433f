"""Runs the model in this folder, on its own: the workbench that made it is not needed.

    python runner.py --verify                   run the test vector and compare: exit status 0 alike, 1 apart
    python runner.py INPUT.npz -o OUTPUT.npz    run arrays of your own, by input name
    python runner.py --time 1000                how long one run takes, on the test vector

It needs Python 3.10 or later, numpy, and what README.md names. In a program of yours:

    from runner import open_model

    with open_model() as model:
        outputs = model.run({"image": pictures})  # numpy arrays by name, in any shapes that the model takes

bfloat16 tensors are float32 arrays here. What cannot be done raises Failure, whose text is a sentence; on the command
line the exit status is then 2. A model serves one thread at a time.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from workbench.deploy.runner.arrays import Facts, Failure, Model, read_arrays, read_facts, write_arrays

WORDS = {
    "relative": "relative difference", "absolute": "largest difference", "different": "share of different values"
}  # fmt: skip
Option = tuple[str, Any, str]


def main(open_model: Callable[[Path, Any], Model], option: Option, arguments: list[str] | None = None) -> int:
    """option: flag, default and meaning of what opening a model takes besides its folder."""
    flag, default, meaning = option
    parser = argparse.ArgumentParser(description="Runs the model in this folder.")
    parser.add_argument("input", nargs="?", metavar="INPUT.npz", help="arrays by input name")
    parser.add_argument("-o", "--output", metavar="OUTPUT.npz", help="where the outputs of INPUT.npz go")
    parser.add_argument("--verify", action="store_true", help="run the test vector; exit status 1 where it is apart")
    parser.add_argument("--time", type=int, metavar="N", help="time N runs")
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent, help="of the hand-over")
    parser.add_argument(flag, dest="place", type=type(default), default=default, help=meaning)
    options = parser.parse_args(arguments)
    if bool(options.input) != bool(options.output) or not (options.input or options.verify or options.time):
        parser.error("give --verify, --time N, or INPUT.npz with -o OUTPUT.npz")
    try:
        return act(open_model, options)
    except (Failure, OSError) as error:
        print(f"runner: {error}", file=sys.stderr)
        return 2


def act(open_model: Callable[[Path, Any], Model], options: argparse.Namespace) -> int:
    facts, is_alike = read_facts(options.folder), True
    if options.verify:
        check_plan(facts, options.folder)
    with open_model(options.folder, options.place) as model:
        if options.verify:
            is_alike = verify(model, facts, options.folder)
        if options.input:
            write_arrays(Path(options.output), model.run(read_arrays(Path(options.input))))
            print(options.output)
        if options.time:
            source = Path(options.input) if options.input else options.folder / "test_vector" / "inputs.npz"
            print(f"{summary(model.times_ms(read_arrays(source), options.time))}; {model.clock}")
    return 0 if is_alike else 1


def check_plan(facts: Facts, folder: Path) -> None:
    """Raise Failure where the plan is not the one that was handed over."""
    digest = hashlib.sha256((folder / facts["plan"]).read_bytes()).hexdigest()
    if digest != facts["plan_sha256"]:
        raise Failure(f"{facts['plan']} is not the file that was handed over (its SHA-256 differs); copy it again.")


def verify(model: Model, facts: Facts, folder: Path) -> bool:
    """Run the test vector and print how far each output lies from what is expected; False where one is apart."""
    expected = read_arrays(folder / "test_vector" / "outputs.npz")
    found = model.run(read_arrays(folder / "test_vector" / "inputs.npz"))
    is_alike = True
    for name, wanted in expected.items():
        if name not in found or found[name].shape != wanted.shape:
            shape = f"the shape {found[name].shape}" if name in found else "no such output"
            print(f"APART  {name}: the shape {wanted.shape} is expected, found {shape}")
            is_alike = False
            continue
        apart, allowed = differences(wanted, found[name]), facts["tolerance"]
        passes = any(value <= allowed[kind] for kind, value in apart.items())
        told = (f"{WORDS[kind]} {value:.3g} (allowed {allowed[kind]:g})" for kind, value in apart.items())
        print(f"{'alike' if passes else 'APART'}  {name}: {', '.join(told)}")
        is_alike &= passes
    print(f"The expected outputs are {facts['made_by']}.")
    return is_alike


def differences(expected: Any, found: Any) -> dict[str, float]:
    """Of floats the norm of the difference over the norm, and the largest difference: one of them must be small. Of
    others the share of values that are not equal."""
    if expected.dtype.kind != "f":
        is_other = expected != found.astype(expected.dtype)
        return {"different": float(np.mean(is_other)) if expected.size else 0.0}
    left, right = expected.astype(np.float64).ravel(), found.astype(np.float64).ravel()
    norm = float(np.linalg.norm(left[np.isfinite(left)]))
    is_apart = (left != right) & ~(np.isnan(left) & np.isnan(right))
    left, right = left[is_apart], right[is_apart]
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return {"relative": float("inf"), "absolute": float("inf")}
    distance, largest = float(np.linalg.norm(left - right)), float(np.max(np.abs(left - right), initial=0.0))
    return {"relative": distance / norm if norm else (float("inf") if distance else 0.0), "absolute": largest}


def summary(times: list[float]) -> str:
    ordered, mean = sorted(times), sum(times) / len(times)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return f"median {ordered[len(ordered) // 2]:.4f} ms, mean {mean:.4f} ms, p99 {p99:.4f} ms of {len(times)} runs"
