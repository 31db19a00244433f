"""Our side of a conversion in another environment: ask `child` to convert and to answer, then check and compare."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto

from workbench.errors import ExportError, ModelError
from workbench.export.environments import Made
from workbench.export.exported import Exported, staged, writing
from workbench.export.parity import MOST_RELATIVE, check_parity, check_told
from workbench.export.shapes import (
    fix_dimensions,
    name_input_dimensions,
    name_output_dimensions,
    trial_sets,
)
from workbench.model import load_model, operator
from workbench.process import Ended, run_process
from workbench.quantized import fold_int32_biases
from workbench.types import Feeds, Listener, Progress, Shape, TensorSpec

_CONVERTERS = Path(__file__).parent / "converters"
_CHILD = _CONVERTERS / "child.py"
PADDLE_ADAPTER = _CONVERTERS / "paddle_converter.py"
TENSORFLOW_ADAPTER = _CONVERTERS / "tensorflow_converter.py"
_COMPARING = "Comparing the export with its framework"

_TENSORRT_8_OPSET = 17

Answers = list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]


@dataclass(frozen=True)
class Order:
    """What is to be exported.

    path: what the user named, for messages. adapter: its file; source: for the adapter. explain: what the log of a
    conversion that failed means, as a sentence with what to try, or '' where it does not know.
    """

    path: Path
    adapter: Path
    source: Mapping[str, Any]
    explain: Callable[[str], str]


@dataclass(frozen=True)
class Trials:
    """On what an export is compared. shapes: sets by input name. feeds: arrays instead of made-up ones."""

    shapes: Sequence[Mapping[str, Shape]] | None = None
    feeds: Sequence[Feeds] | None = None


def export_from(
    order: Order,
    made: Made,
    output: Path,
    opset: int,
    trials: Trials,
    listener: Listener,
    cancel: threading.Event,
    notes: tuple[str, ...] = (),
) -> Exported:
    """Convert, check, compare and put in its place. Raises ExportError, ShapeError, Cancelled; leaves nothing then."""
    began = time.monotonic()
    with staged(output) as draft, tempfile.TemporaryDirectory() as folder:
        task = {"task": "convert", "output": str(draft), "opset": opset}
        told, log = _ask(order, made, task, listener, cancel)
        proto = _read(draft, order, told["converter"], log)
        is_quantized = "DequantizeLinear" in {node.op_type for node in proto.graph.node}
        was_quantized = is_quantized or "is a quantized model" in log
        proto = name_input_dimensions(fold_int32_biases(proto))
        inputs = _save(proto, draft, order, told["converter"])
        answers, rigid = _answers(order, made, inputs, trials, was_quantized, Path(folder), listener, cancel)
        fix_dimensions(proto, rigid, answers)
        answers = [(feeds, _by_name(proto, given)) for feeds, given in answers]
        _save(name_output_dimensions(proto, answers), draft, order, told["converter"])
        listener(Progress(_COMPARING, 0, None))
        untold = check_told(draft.name, answers)
        most_relative = None if was_quantized else MOST_RELATIVE
        parity = check_parity(draft, answers, most_relative=most_relative)
        listener(Progress(_COMPARING, 1, 1))
    model = load_model(output)
    said = (*map(_openness, model.inputs), *_raised(model.opset, opset), *_quantization(was_quantized, is_quantized))
    elapsed_s = round(time.monotonic() - began, 3)
    said = (*said, *rigid.values(), *untold, *notes)
    return Exported(model, told["framework"], told["converter"], parity, said, elapsed_s, most_relative)


# ---- asking


def _ask(
    order: Order, made: Made, task: Mapping[str, Any], listener: Listener, cancel: threading.Event
) -> tuple[dict[str, Any], str]:
    """The answer of the child process and its log. Raises ExportError, Cancelled."""
    title = made.environment.title
    ended = run_process(
        [made.python, "-I", "-u", _CHILD],
        listener,
        cancel,
        request={"title": title, "adapter": str(order.adapter), "source": dict(order.source), **task},
        starting=f"Starting {title}",
    )
    log = "\n".join(line.text for line in ended.log)
    if ended.answer is None or ended.answer["event"] == "error":
        raise ExportError(_failure(order, made, task, ended, log))
    return ended.answer, log


def _failure(order: Order, made: Made, task: Mapping[str, Any], ended: Ended, log: str) -> str:
    title, converts = made.environment.title, task["task"] == "convert"
    what = f"{order.path}: " + ("the conversion failed" if converts else f"{title} itself does not answer")
    if ended.killed:
        return f"{what}: the process {ended.how()}; free some."
    answer = ended.answer or {}
    if answer.get("kind") in ("ImportError", "ModuleNotFoundError"):
        return (
            f"{what}: {answer['message']}. The {title} environment in {made.folder} seems damaged: "
            f"`workbench environments --remove {made.environment.name}`, and say yes to a new one."
        )
    said = f"the process {ended.how()}" if ended.crash or not answer.get("message") else answer["message"]
    explained = order.explain(f"{log}\n{answer.get('message', '')}")
    if explained:
        return f"{what}: {explained}"
    if not converts:
        if answer.get("kind") == "Refused":
            return f"{what}: {short(said)}."
        index = answer.get("set")
        on = "the shapes it was asked with" if index is None else task["sets"][index]["said"]
        return f"{what} on {on}: {short(said)}. Give shapes=[...] that it takes."
    last = "" if answer.get("message") else f" The last it said: {' '.join(ended.tail[-2:])}"
    return f"{what}: {short(said)}.{last}"


def short(text: str) -> str:
    """The end of a long message of a framework, where the reason stands."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines)[-500:].rstrip(".")


def _answers(
    order: Order,
    made: Made,
    inputs: tuple[TensorSpec, ...],
    trials: Trials,
    many: bool,
    folder: Path,
    listener: Listener,
    cancel: threading.Event,
) -> tuple[Answers, dict[str, str]]:
    """Feeds and what the framework answers to them, outputs in its order. many: more rows, to count agreement.

    Also the open dimensions at which the framework itself runs at one size only, each with a note on it.
    """
    sets = trial_sets(inputs, trials.shapes, trials.feeds or (), folder, many=many)
    told, _ = _ask(order, made, {"task": "answer", "sets": sets, "folder": str(folder)}, listener, cancel)
    rigid = {}
    if told["refused"] is not None:
        another = sets.pop()
        why = f"{made.environment.title} itself does not run on {another['said']} ({short(told['refused'])})"
        remedy = "give shapes=[..., ...] with two sizes that it takes, and it stays open"
        rigid = {
            name: f"{name} is fixed at the one size it was tried at: {why}; {remedy}." for name in another["opens"]
        }
    found: Answers = []
    for index in range(len(sets)):
        with np.load(folder / f"feeds-{index}.npz") as file:
            given = {spec.name: file[str(place)] for place, spec in enumerate(inputs)}
        with np.load(folder / f"answers-{index}.npz") as file:
            found.append((given, {name: file[str(place)] for place, name in enumerate(told["outputs"])}))
    return found, rigid


def _by_name(proto: ModelProto, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The framework's outputs under the names that they have in the ONNX model: the same, or in their order."""
    names = [value.name for value in proto.graph.output]
    if set(names) == set(outputs):
        return {name: outputs[name] for name in names}
    if len(names) != len(outputs):
        raise ExportError(
            f"the ONNX model has the outputs {', '.join(names)}, the framework answers with {', '.join(outputs)}: "
            "the converter lost some; name the ones you want when you save the model."
        )
    return dict(zip(names, outputs.values(), strict=True))


# ---- checking


def _read(draft: Path, order: Order, converter: str, log: str) -> ModelProto:
    """What the converter wrote. Raises ExportError where that is nothing of use, naming operators that are not ONNX."""
    try:
        proto = onnx.load(str(draft), format="protobuf")
    except (OSError, DecodeError, ValueError) as error:
        explained = order.explain(log) or "it said that all went well"
        raise ExportError(f"{order.path}: {converter} wrote no ONNX model: {explained}") from error
    known = {item.domain for item in proto.opset_import} - {""}
    strangers = {
        operator(node): node.name or node.output[0]
        for node in proto.graph.node
        if (node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type))
        or (node.domain and node.domain not in known)
    }
    if strangers:
        said = ", ".join(f"{name} (node {node})" for name, node in list(strangers.items())[:5])
        raise ExportError(
            f"{order.path}: {converter} has no ONNX form for {said}: express it with other operators, "
            "or name outputs that lie before it."
        )
    return proto


def _save(proto: ModelProto, draft: Path, order: Order, converter: str) -> tuple[TensorSpec, ...]:
    """Write and check the model; returns its inputs."""
    try:
        with writing(draft):
            onnx.save(proto, str(draft))
        return load_model(draft).inputs
    except (ModelError, ValueError) as error:
        reason = str(error).replace(str(draft), order.path.name).replace("\n", " ")
        explained = order.explain(reason)
        if explained:
            raise ExportError(f"{order.path}: the conversion failed: {explained}") from error
        raise ExportError(
            f"{order.path}: {converter} said that all went well and wrote an invalid ONNX model: {reason} "
            "Try another opset, or save the model anew with the release of the framework that it was trained with."
        ) from error


def _openness(spec: TensorSpec) -> str:
    """'input x is open in batch, height, width and fixed in dimension 1 (3).'"""
    names = [str(spec.shape[axis]) for axis in spec.open_axes]
    fixed = [f"dimension {axis} ({dim})" for axis, dim in enumerate(spec.shape) if isinstance(dim, int)]
    parts = [f"open in {', '.join(names)}"] if names else []
    parts += [f"fixed in {', '.join(fixed)}"] if fixed else []
    return f"input {spec.name} is {' and '.join(parts) or 'a scalar'}."


def _raised(opset: int, asked: int) -> tuple[str, ...]:
    if opset == asked:
        return ()
    older = f"; TensorRT 8.6 reads up to {_TENSORRT_8_OPSET}" if opset > _TENSORRT_8_OPSET else ""
    return (f"opset {opset} instead of {asked}: the converter chose it, most likely as an operator needs it{older}.",)


def _quantization(was: bool, is_now: bool) -> tuple[str, ...]:
    if was and not is_now:
        return (
            "the model is quantized, but the converter dropped its scales: it is an ordinary float model now; "
            "calibrate it anew, or save it with paddleslim's or paddle.quantization.imperative's QAT.",
        )
    if was:
        return ("quantized: it rounds at other places than the framework does, so only the agreement is stated.",)
    return ()
