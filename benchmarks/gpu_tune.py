"""Searches on a GPU, kept as recorded sweeps: ResNet-18, EfficientNet-Lite0, MiniLM, 25 trials each.

On a CPU:  python benchmarks/gpu_models.py FOLDER resnet18 efficientnet_lite0 minilm_l6
           python benchmarks/gpu_tune.py FOLDER/resnet18.onnx ... --prepare             finds ranges and layer orders
On a GPU:  python benchmarks/gpu_tune.py FOLDER/resnet18.onnx ... --output FOLDER      writes NAME.sweep.json.gz

Ranges and accuracy are from NAME.npz beside the model; take the folder `tuning` of WORKBENCH_HOME along, and what was
found on the CPU costs no time of the GPU. Each search is held against what one would pick by hand, FP16
with everything else as TensorRT likes it, which is among its finalists: these are measured in turns at the end.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import workbench as wb
from workbench.model import Model
from workbench.tuning import Budget, Data, Goals, Limit, Space, Tuned, save_tuned, tune
from workbench.tuning.plan import make_plan

TRIALS = 25
LIMITS = {"resnet18": 5.0, "efficientnet_lite0": 10.0, "minilm_l6": 5.0}
"""Largest relative error of the outputs in percent: the weights are generated, so there is no top-1 to lose."""


SPACE = Space(
    backend=("tensorrt",),
    precision=("fp16", "fp32", "int8"),
    algorithm=("entropy", "minmax", "percentile"),
    in_float=(0, 1, 2, 4),
    optimization_level=(None, 5),
    cuda_graph=(True, False),
    workspace_bytes=(None, 64 << 20),
)
"""TensorRT alone: what one release lacks, the rules leave out."""


def asked(path: Path) -> tuple[Model, Space, Goals, Data]:
    goals = Goals(("latency", "accuracy"), (Limit("accuracy", LIMITS.get(path.stem, 5.0)),), "relative")
    return wb.load_model(path), SPACE, goals, Data(path.with_suffix(".npz"), calibrated=32)


def search(path: Path, trials: int, minutes: float | None) -> Tuned:
    began = time.monotonic()
    found = tune(
        *asked(path), budget=Budget(trials, minutes),
        listener=lambda event: print(event.text, flush=True) if getattr(event, "text", "")[:6] == "trial " else None,
    )  # fmt: skip
    print(found, f"{time.monotonic() - began:.0f} s in all", sep="\n", flush=True)
    return found


def against_by_hand(found: Tuned) -> str:
    """The winner against FP16 as it comes, both measured in turns."""
    finals = found.columns[0].finals
    if finals is None or found.best is None:
        return f"{found.model}: no finals"
    names = {trial: name for name, trial in found.columns[0].finalists.items()}
    best = names.get(found.best.trial, "")
    verdict = "it is what one would pick by hand" if best == finals.reference else finals.verdict(best)
    return f"{found.model}: {best} against {finals.reference}: {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    doing = parser.add_mutually_exclusive_group(required=True)
    doing.add_argument("--output", type=Path)
    doing.add_argument("--prepare", action="store_true")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--minutes", type=float)
    options = parser.parse_args()
    if options.prepare:
        for path in options.models:
            make_plan(*asked(path))
        return
    options.output.mkdir(parents=True, exist_ok=True)
    for path in options.models:
        found = search(path, options.trials, options.minutes)
        print(against_by_hand(found), flush=True)
        save_tuned(found, options.output / f"{path.stem}.sweep.json.gz")


if __name__ == "__main__":
    main()
