"""What a hand-over tells about itself, for the programs in it (deployment.json) and for people."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from workbench.deploy.example import Example, Tolerance, Wishes
from workbench.engine import Engine
from workbench.errors import ConfigError
from workbench.saving import sha256_of
from workbench.types import TensorSpec

_RUNTIMES = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx", "onnxruntime": "onnxruntime"}
_PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}


@dataclass(frozen=True)
class Facts:
    """runtime: the Python package that runs the plan, or 'triton'. plan: its place in the folder. install: how to get
    the runtime, a line for the shell. runs_on: which machines run the plan, in words. target, targets,
    compute_capability, gpu: what a plan of NVIDIA's is for. inputs, outputs: with the types that the model has."""

    name: str
    model: str
    key: str
    runtime: str
    release: str
    precision: str
    plan: str
    plan_sha256: str
    install: str
    runs_on: str
    gpu: str
    compute_capability: str
    target: str
    targets: tuple[str, ...]
    version_compatible: bool
    providers: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    tolerance: Tolerance
    made_by: str


def model_name(engine: Engine, wishes: Wishes) -> str:
    """What the model is called: a folder's name, and a part of an address. Raises ConfigError."""
    name = wishes.name or re.sub(r"[^\w.-]+", "_", engine.model_name, flags=re.ASCII).strip("._") or "model"
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ConfigError(f"the name {name!r} is not one for a folder: take letters, digits, '.', '-' and '_'.")
    return name


def described(engine: Engine, name: str, example: Example) -> Facts:
    """The plan's place and digest are empty until it is written."""
    parts, builder = engine.recipe["ingredients"], engine.config.builder
    is_rtx = engine.backend == "rtx"
    providers = _PROVIDERS[engine.targets[0]] if engine.backend == "onnxruntime" else []
    return Facts(
        name=name,
        model=engine.model_name,
        key=engine.key,
        runtime=_RUNTIMES[engine.backend],
        release=engine.release,
        precision=engine.precision,
        plan="",
        plan_sha256="",
        install=f"pip install {_package(engine)}=={engine.release}",
        runs_on=_runs_on(engine),
        gpu=str(parts.get("gpu", "")),
        compute_capability=str(parts.get("compute_capability", "")),
        target=engine.targets[0] if engine.backend == "tensorrt" and engine.targets else "",
        targets=engine.targets if is_rtx else (),
        version_compatible=builder.version_compatible,
        providers=tuple(providers),
        inputs=example.input_specs,
        outputs=example.output_specs,
        tolerance=example.tolerance,
        made_by=example.made_by,
    )


def _package(engine: Engine) -> str:
    if engine.backend == "onnxruntime":
        return "onnxruntime-gpu" if "cuda" in engine.targets else "onnxruntime"
    return _RUNTIMES[engine.backend].replace("_", "-")


def _runs_on(engine: Engine) -> str:
    parts, targets = engine.recipe["ingredients"], engine.targets
    if engine.backend == "onnxruntime":
        what = f"NVIDIA GPUs such as {' and '.join(parts.get('gpus', ()))}" if "cuda" in targets else "processors"
        return f"{what}; it was optimized on the {parts['cpu']}, and another kind may not take it or run it slower"
    if engine.backend == "rtx":
        numbers = [f"{target[2:-1]}.{target[-1]}" for target in targets]
        return f"GPUs of compute capability {', '.join(numbers)}, with a driver for CUDA 12.9 or later"
    capability = parts["compute_capability"]
    return {
        "ampere+": "GPUs of compute capability 8.0 and later",
        "same-cc": f"GPUs of compute capability {capability}",
    }.get(targets[0] if targets else "", f"the {parts['gpu']} (compute capability {capability}), and no other model")


def placed(facts: Facts, folder: Path, plan: str) -> Facts:
    """With the plan where it was written, and its digest."""
    return replace(facts, plan=plan, plan_sha256=sha256_of(folder / plan))


def write_json(facts: Facts, folder: Path) -> None:
    text = json.dumps({"format": 1, **asdict(facts)}, indent=1)
    (folder / "deployment.json").write_text(f"{text}\n", encoding="utf-8")
