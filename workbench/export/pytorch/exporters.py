"""PyTorch's two exporters, run quietly: what they write, with temporary names of inputs and dimensions."""

from __future__ import annotations

import contextlib
import linecache
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto

from workbench.export.pytorch import dims
from workbench.export.pytorch.errors import explain
from workbench.export.pytorch.module import Inputs, adapter, import_torch
from workbench.export.pytorch.quiet import quiet
from workbench.export.pytorch.trials import Trial
from workbench.export.user_code import user_line
from workbench.types import Listener, LogLine, TensorSpec

EXPORTERS = ("dynamo", "classic")
_DYNAMO_OPSET = 18
"""The lowest that PyTorch's dynamo exporter writes; `lower_opset` goes on from there."""


@dataclass
class Job:
    """What is exported, and what comes up on the way. trial[0] is the example; `tracing` is what the exporter sees."""

    name: str
    module: Any
    inputs: Inputs
    specs: tuple[TensorSpec, ...]
    trials: tuple[Trial, ...]
    tracing: Trial
    exporter: str
    opset: int
    listener: Listener
    notes: list[str] = field(default_factory=list)


def run_exporter(job: Job, folder: Path) -> ModelProto:
    """What PyTorch's exporter writes, with temporary names of inputs and dimensions."""
    torch = import_torch()
    lines: list[LogLine] = []
    told: list[warnings.WarningMessage] = []
    # Copies, because torch.export takes one tensor given twice for one input.
    tensors = tuple(torch.from_numpy(np.array(array)) for array in job.tracing.feeds.values())
    run = _dynamo if job.exporter == "dynamo" else _classic
    try:
        with quiet(torch, lines, told), _slow_attention(torch):
            return run(job, tensors, folder)
    except Exception as error:  # the exporters run the user's code and raise many kinds
        raise explain(error, job.name, job.exporter) from error
    finally:
        for warning in told:
            if warning.category.__name__ == "TracerWarning":
                place = (warning.filename, warning.lineno)
                where = user_line(*place, linecache.getline(*place))
                note = f"{where} was decided while tracing, once and for all, as the example has it"
                if where and note not in job.notes:
                    job.notes.append(note)
            elif not issubclass(warning.category, (DeprecationWarning, FutureWarning)):
                lines.append(LogLine("verbose", str(warning.message)))
        for line in lines:
            job.listener(line)


def _dynamo(job: Job, tensors: tuple[Any, ...], folder: Path) -> ModelProto:
    torch = import_torch()
    symbols = {dim: torch.export.Dim(token) for dim, token in dims.tokens(job.specs).items()}
    axes = tuple({axis: symbols[str(spec.shape[axis])] for axis in spec.open_axes} for spec in job.specs)
    program = torch.onnx.export(
        adapter(job.module, job.inputs),
        tensors,
        dynamo=True,
        dynamic_shapes=(axes,) if symbols else None,
        input_names=[temporary(index) for index in range(len(tensors))],
        opset_version=max(job.opset, _DYNAMO_OPSET),
        verbose=False,
    )
    proto: ModelProto = program.model_proto
    return proto


def _classic(job: Job, tensors: tuple[Any, ...], folder: Path) -> ModelProto:
    torch = import_torch()
    names = dims.tokens(job.specs)
    module = job.module
    call: dict[str, Any] = {"args": tensors}
    if not isinstance(module, torch.jit.ScriptModule):
        module = adapter(module, job.inputs)
    elif job.inputs.by_name:  # it cannot be traced inside an adapter
        call = {"args": (), "kwargs": dict(zip(job.inputs.parameters, tensors, strict=True))}
    with tempfile.TemporaryDirectory(dir=folder) as work:
        path = Path(work) / "model.onnx"
        torch.onnx.export(
            module,
            f=str(path),
            dynamo=False,
            **call,
            dynamic_axes={
                temporary(index): {axis: names[str(spec.shape[axis])] for axis in spec.open_axes}
                for index, spec in enumerate(job.specs)
            },
            input_names=[temporary(index) for index in range(len(tensors))],
            opset_version=job.opset,
        )
        return onnx.load(str(path))


def temporary(index: int) -> str:
    return f"workbench_input_{index}"


@contextlib.contextmanager
def _slow_attention(torch: Any) -> Iterator[None]:
    """nn.TransformerEncoder's fast path is one operator that no exporter knows."""
    mha = torch.backends.mha
    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(before)
