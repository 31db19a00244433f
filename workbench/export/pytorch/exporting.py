"""PyTorch -> ONNX: opset 17 by either of PyTorch's exporters, open dimensions proven at several shapes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto

from workbench.errors import ConfigError, ExportError
from workbench.export.exported import Exported, default_path, staged, write_model
from workbench.export.parity import Parity, check_parity, check_told
from workbench.export.pytorch import dims
from workbench.export.pytorch.exporters import EXPORTERS, Job, run_exporter, temporary
from workbench.export.pytorch.graph_names import name_nodes, set_interface
from workbench.export.pytorch.module import ROOT, answer, at_rest, import_torch, read_example
from workbench.export.pytorch.opset import lower_opset
from workbench.export.pytorch.trials import Trial, open_specs, trial_at, trials
from workbench.export.user_code import first_line
from workbench.model import load_model
from workbench.types import Feeds, Listener, Progress, Shape, TensorSpec, ignore

LOWEST_OPSET = 9


def export_torch(
    module: Any,
    example: Any = None,
    *,
    open_dims: Mapping[str, Mapping[int, str]] | None = None,
    output: str | Path | None = None,
    name: str | None = None,
    opset: int = 17,
    exporter: str = "dynamo",
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    shapes: Sequence[Mapping[str, Shape]] | None = None,
    feeds: Sequence[Feeds] | None = None,
    listener: Listener = ignore,
) -> Exported:
    """Export a torch.nn.Module, an ExportedProgram or a TorchScript module; it is left as it was.

    example: a tensor, a tuple of tensors, or a dict of tensors by the names of forward's arguments. open_dims: by the
    name of an input or of forward's argument, the axes that stay open and what they are called; equal names mean
    equal sizes. name: of the model, its class if not given; output: the file, in the workbench's own folder if not
    given. opset: 17 is the newest that TensorRT 8.6 reads. exporter: 'dynamo' or 'classic' (TorchScript's tracer).
    input_names, output_names: else forward's own, and the keys or 'output_0' of what it returns. shapes, feeds:
    where the answers are compared besides the example, by input name: sizes, or arrays, which are worth more than
    made-up ones; else at two more sizes of every open dimension. One that they leave at one size is tried at another.

    Raises ConfigError and ShapeError for what the arguments say; ExportError when PyTorch cannot export the module,
    when a dimension would not stay open, or when ONNX Runtime answers differently.
    """
    start = time.monotonic()
    torch = import_torch()
    if isinstance(module, str | Path):
        raise ConfigError(
            f"{module}: give the module itself: found = export.load_torch({str(module)!r}), then "
            "export.torch(found.module, found.example)."
        )
    if example is None:
        raise ConfigError("give an example of what forward takes: a tensor, a tuple of tensors, or a dict by name.")
    if exporter not in EXPORTERS:
        raise ConfigError(f"there is no exporter {exporter!r}; choose one of {', '.join(EXPORTERS)}.")
    if not LOWEST_OPSET <= opset <= onnx.defs.onnx_opset_version():
        known = f"{LOWEST_OPSET} to {onnx.defs.onnx_opset_version()}"
        raise ConfigError(f"opset {opset}: choose one from {known}; 17 is the newest that TensorRT 8.6 reads.")
    title = name or getattr(module, "original_name", None) or type(module).__name__
    module = _module(torch, module, title)
    inputs = read_example(module, example, input_names)
    arrays = {key: tensor.numpy() for key, tensor in zip(inputs.names, inputs.tensors, strict=True)}
    specs = open_specs(arrays, open_dims or {}, dict(zip(inputs.parameters, inputs.names, strict=True)))
    tried = trials(specs, arrays, shapes, feeds)
    job = Job(title, module, inputs, specs, tried, _tracing(tried), exporter, opset, listener)
    if exporter == "dynamo" and isinstance(module, torch.jit.ScriptModule):
        job.exporter = "classic"
        job.notes.append("TorchScript holds no Python for the dynamo exporter; the classic one wrote this")
    path = Path(output).expanduser() if output else default_path(name or title.lower())
    with at_rest(module):
        answers = [_answer(job, trial) for trial in tried]
        parity = _into(path, job, answers, _output_names(job, answers, output_names))
    framework, converter = f"PyTorch {torch.__version__.partition('+')[0]}", f"torch.onnx ({job.exporter})"
    return Exported(load_model(path), framework, converter, parity, tuple(job.notes), time.monotonic() - start)


def _into(path: Path, job: Job, answers: list[dict[str, np.ndarray]], outputs: tuple[str, ...]) -> tuple[Parity, ...]:
    """Export, check and compare in a folder of its own; the file appears at `path` when all is well."""
    with staged(path) as draft:
        phase = f"Exporting with torch.onnx ({job.exporter})"
        job.listener(Progress(phase, 0, None))
        proto = run_exporter(job, draft.parent)
        specs = _read_inputs(job, proto, len(outputs))
        sources = name_nodes(proto, ROOT)
        yielded = set_interface(proto, [spec.name for spec in specs], outputs)
        job.notes += [f"a value inside the graph was called {name} too and has another name now" for name in yielded]
        dims.check_open(proto, specs, job.name, job.exporter, sources)
        wanted = [dict(zip(outputs, found.values(), strict=True)) for found in answers]
        dims.set_dims(proto, specs, [(trial.sizes, found) for trial, found in zip(job.trials, wanted, strict=True)])
        proto = lower_opset(proto, job.opset)
        if job.opset not in [item.version for item in proto.opset_import]:
            raise ExportError(
                f"{job.name}: the {job.exporter} exporter does not write opset {job.opset}: choose 17 or 18."
            )
        write_model(proto, draft)
        job.listener(Progress(phase, 1, 1))
        job.listener(Progress("Checking", 0, None))
        load_model(draft)
        job.listener(Progress("Checking", 1, 1))
        return _compared(job, draft, proto, specs, wanted, sources)


def _read_inputs(job: Job, proto: ModelProto, outputs: int) -> tuple[TensorSpec, ...]:
    """The inputs that the exporter kept, in the graph's order. Raises ExportError where inputs or outputs are lost."""
    written = {value.name for value in proto.graph.input}
    kept = tuple(spec for index, spec in enumerate(job.specs) if temporary(index) in written)
    if not kept:
        raise ExportError(
            f"{job.name}: what the {job.exporter} exporter wrote reads none of its inputs; "
            "forward may leave PyTorch on the way (.numpy(), .item(), .tolist()): keep to tensors."
        )
    if len(proto.graph.output) != outputs:
        wrote = len(proto.graph.output)
        raise ExportError(f"{job.name}: it returns {outputs} tensors, but the exporter wrote {wrote} outputs.")
    dropped = [spec.name for spec in job.specs if spec not in kept]
    job.notes += [
        f"input {name} plays no part in what the module returns; the export leaves it out" for name in dropped
    ]
    return kept


# ---- before


def _module(torch: Any, module: Any, name: str) -> Any:
    if isinstance(module, torch.export.ExportedProgram):
        module = module.module()
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    if not isinstance(module, torch.nn.Module):
        raise ConfigError(f"{name}: not a torch.nn.Module; wrap a function in a module whose forward calls it.")
    for parameter, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ExportError(
                f"{name}: {parameter} is {kind}; export the module in float32 (module.float()): "
                "the precision is chosen when the engine is built."
            )
    return module


def _tracing(tried: Sequence[Trial]) -> Trial:
    """What the exporter sees: sizes 0 and 1 count as constants for torch.export, so larger ones where there are."""
    return next((trial for trial in tried if all(size > 1 for size in trial.sizes.values())), tried[0])


def _answer(job: Job, trial: Trial) -> dict[str, np.ndarray]:
    try:
        found = answer(job.module, job.inputs, list(trial.feeds.values()))
        for name, array in found.items():
            if array.dtype.kind == "c":
                raise ExportError(
                    f"{job.name}: output {name} is complex, which ONNX has not: return torch.view_as_real."
                )
            if not np.isfinite(array).all():
                raise ExportError(
                    f"{job.name}: output {name} holds infinite or undefined values on {trial}, which nothing can be "
                    "compared with: give another example, and `shapes` where it stays finite."
                )
        return found
    except ExportError:
        raise
    except Exception as error:  # the user's own code may raise anything
        what = f"{type(error).__name__}: {first_line(error)}"
        if trial is job.trials[0]:
            raise ExportError(f"{job.name}: the module does not run on its own example ({trial}): {what}.") from error
        open_to = [dim for dim in trial.sizes if not _runs_at(job, dim, trial.sizes[dim])]
        dims = " and ".join(open_to or trial.sizes)
        raise ExportError(
            f"{job.name}: {dims} cannot be open: the module itself runs on {job.trials[0]} but not on {trial}: {what}. "
            "Leave it fixed, or say with `shapes` where the module runs."
        ) from error


def _runs_at(job: Job, dim: str, size: int) -> bool:
    trial = trial_at(job.specs, job.trials[0].feeds, {dim: size}, 0)
    try:
        answer(job.module, job.inputs, list(trial.feeds.values()))
    except Exception:  # told by the caller
        return False
    return True


def _output_names(
    job: Job, answers: Sequence[Mapping[str, np.ndarray]], wanted: Sequence[str] | None
) -> tuple[str, ...]:
    found = tuple(answers[0])
    for trial, other in zip(job.trials, answers, strict=True):
        if tuple(other) != found:
            raise ExportError(
                f"{job.name}: it returns {', '.join(found)} on the example, but {', '.join(other)} on {trial}."
            )
    if not found:
        raise ExportError(f"{job.name}: the module returns no tensor; there is nothing to export.")
    inputs = {spec.name for spec in job.specs}
    if wanted is None:
        return tuple(f"{name}_out" if name in inputs else name for name in found)
    if len(wanted) != len(found) or len({*wanted, *inputs}) != len(wanted) + len(inputs) or not all(wanted):
        raise ConfigError(
            f"output_names {list(wanted)}: give {len(found)} names, different from each other and from the inputs, "
            f"one for each of {', '.join(found)}."
        )
    return tuple(wanted)


# ---- after


def _compared(
    job: Job,
    draft: Path,
    proto: ModelProto,
    specs: Sequence[TensorSpec],
    answers: Sequence[Mapping[str, np.ndarray]],
    sources: Mapping[str, str],
) -> tuple[Parity, ...]:
    phase = f"Comparing with PyTorch at {len(answers)} {'shapes' if len(answers) > 1 else 'shape'}"
    job.listener(Progress(phase, 0, None))
    pairs = [
        ({spec.name: trial.feeds[spec.name] for spec in specs}, found)
        for trial, found in zip(job.trials, answers, strict=True)
    ]
    job.notes += check_told(job.name, pairs)
    try:
        parity = check_parity(draft, pairs)
    except ExportError as error:
        again = _answer(job, job.trials[0])
        if not all(np.allclose(one, two) for one, two in zip(again.values(), answers[0].values(), strict=True)):
            raise ExportError(
                f"{job.name}: the module answers differently each time on the same input; "
                "take dropout and random numbers out of forward."
            ) from error
        check_parity(draft, pairs[:1])  # raises when the shape is not to blame
        raise dims.frozen(error, proto, job.tracing.sizes, job.name, job.exporter, sources) from error
    if job.exporter == "classic":
        _compare_mirrored(job, draft, [spec.name for spec in specs], list(answers[0]))
    job.listener(Progress(phase, 1, 1))
    return parity


def _compare_mirrored(job: Job, draft: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """The exporter that records a single run knows one way through a branch: the example with its signs changed may go
    another, where the module takes it and answers with finite numbers."""
    feeds = {name: -array if array.dtype.kind == "f" else array for name, array in job.trials[0].feeds.items()}
    try:
        found = answer(job.module, job.inputs, list(feeds.values()))
    except Exception:  # the user's own code may raise anything; it need not take these
        return
    finite = all(np.isfinite(array).all() for array in found.values() if array.dtype.kind == "f")
    if not finite or len(found) != len(outputs):
        return
    try:
        wanted = dict(zip(outputs, found.values(), strict=True))
        check_parity(draft, [({name: feeds[name] for name in inputs}, wanted)])
    except ExportError as error:
        noted = f" ({'; '.join(job.notes)})" if job.notes else ""
        raise ExportError(
            f"{job.name}: the export answers as the module on the example, and not on the example with its signs "
            f"changed: the classic exporter records the one way that the example takes{noted}. Write the branch with "
            "torch.where or torch.cond, and use exporter='dynamo'."
        ) from error
