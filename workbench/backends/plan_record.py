"""What is known of a plan before it is opened: its own header, and `plan.json`, which the build writes beside it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.errors import BackendError, BuildError
from workbench.machine import Gpu
from workbench.types import TensorSpec

RECORD = "plan.json"
_MAGIC = {b"ftrt": "tensorrt", b"vtrt": "rtx"}
RTX_TARGET_BITS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""Which compute capability each bit of an RTX plan's header stands for."""


@dataclass(frozen=True)
class PlanHeader:
    """What the first bytes of a plan tell. `targets` is empty where the plan does not say what GPUs it is for."""

    backend: str
    release: str
    targets: tuple[str, ...]


def read_plan_header(path: Path) -> PlanHeader | None:
    """Read a plan's kind, release and compute capabilities; None if it is not a plan."""
    with path.open("rb") as file:
        head = file.read(0x28)
    if len(head) < 0x28 or head[:4] not in _MAGIC:
        return None
    backend = _MAGIC[head[:4]]
    (mask,) = struct.unpack_from("<I", head, 0x20)
    targets = tuple(name for bit, name in enumerate(RTX_TARGET_BITS) if mask >> bit & 1) if backend == "rtx" else ()
    return PlanHeader(backend, ".".join(str(part) for part in head[0x18:0x1C]), targets)


def check_plan(path: Path, backend: str, targets: tuple[str, ...]) -> PlanHeader:
    """The header of a plan that was just built. Raises BuildError where it is not for this back end and these GPUs."""
    header = read_plan_header(path)
    if header is None or header.backend != backend or not set(targets) <= set(header.targets):
        raise BuildError(f"the plan is not the one that was asked for: its header says {header}")
    return header


@dataclass(frozen=True)
class PlanRecord:
    """What a plan of TensorRT's does not tell itself.

    gpu, compute_capability: of the GPU it was built on. target: one of the back end's targets. stripped: it holds no
    weights. inputs, outputs: with types and names of dimensions as the model has them (int64 stays int64, although
    TensorRT 8.6 knows int32 only).
    """

    release: str
    gpu: str
    compute_capability: str
    target: str
    version_compatible: bool
    refittable: bool
    stripped: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def write_plan_record(plan: Path, record: PlanRecord) -> None:
    plan.with_name(RECORD).write_text(json.dumps(asdict(record), indent=1))


def read_plan_record(plan: Path) -> PlanRecord:
    """Raises BackendError where it is missing or not readable."""
    path = plan.with_name(RECORD)
    try:
        data = json.loads(path.read_text())
        specs = {side: _specs(data[side]) for side in ("inputs", "outputs")}
        return PlanRecord(**{**data, **specs})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackendError(f"{path}: what the plan is for cannot be read ({error}); build the engine again.") from error


def _specs(items: Iterable[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(item["name"], item["dtype"], tuple(item["shape"])) for item in items)


def why_not_open(plan: Path, record: PlanRecord, release: str, gpu: Gpu) -> str:
    """Why TensorRT of this release cannot run the plan on this GPU, and what to do; '' where it can.

    A plan belongs to one release; a version-compatible one also runs with later ones of the same major release.
    """
    header = read_plan_header(plan)
    if header is None or header.backend != "tensorrt":
        return f"{plan}: not a plan of TensorRT; build the engine again."
    if record.stripped:
        return f"{plan}: it holds no weights, and sessions here do not put them in; build it without strip_weights."
    return _release_problem(record, header.release, release) or _gpu_problem(record, gpu)


def _release_problem(record: PlanRecord, built_with: str, release: str) -> str:
    built, here = _numbers(built_with)[:3], _numbers(release)[:3]
    if built == here or (record.version_compatible and built[0] == here[0] and built < here):
        return ""
    name = ".".join(map(str, built))
    if record.version_compatible:
        again = f"it opens with later releases of {built[0]} only: install one, or build the engine again here."
    else:
        again = f"build it again here, or install tensorrt=={name}; version-compatible engines open with later ones."
    return f"the engine was built with TensorRT {name}, here is {release}: {again}"


def _numbers(release: str) -> tuple[int, ...]:
    """'8.6.1.post1' -> (8, 6, 1, 0)."""
    return tuple(int(part) if part.isdigit() else 0 for part in release.split("."))


def _gpu_problem(record: PlanRecord, gpu: Gpu) -> str:
    built, here = (_numbers(item) for item in (record.compute_capability, gpu.compute_capability))
    what = f"the engine was built on the {record.gpu} (compute capability {record.compute_capability})"
    this = f"this is the {gpu.name} ({gpu.compute_capability})"
    if record.target == "ampere+":
        return "" if here >= (8, 0) else f"{what} for Ampere and later GPUs, {this}: build it again here."
    if record.target == "same-cc":
        return "" if here == built else f"{what} for GPUs of that compute capability, {this}: build it again here."
    if (record.gpu, built) == (gpu.name, here):
        return ""
    return f"{what} for that model only, {this}: build it again here, or there for the target ampere+."
