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
from workbench.export.converters.shapes import check_fit, name_input_dimensions, name_output_dimensions, trial_shapes
from workbench.export.environments import Made
from workbench.export.exported import MOST_RELATIVE, Exported, check_parity, staged
from workbench.export.quantized import fold_int32_biases
from workbench.model import load_model, operator
from workbench.process import Ended, run_process
from workbench.types import Feeds, Listener, Progress, Shape, TensorSpec

_CHILD = Path(__file__).with_name("child.py")
PADDLE_ADAPTER = Path(__file__).with_name("paddle_converter.py")
TENSORFLOW_ADAPTER = Path(__file__).with_name("tensorflow_converter.py")
_COMPARING = "Comparing the export with its framework"

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
        answers = _answers(order, made, inputs, trials, was_quantized, Path(folder), listener, cancel)
        answers = [(feeds, _by_name(proto, given)) for feeds, given in answers]
        _save(name_output_dimensions(proto, answers), draft, order, told["converter"])
        listener(Progress(_COMPARING, 0, None))
        parity = check_parity(draft, answers, most_relative=None if was_quantized else MOST_RELATIVE)
        listener(Progress(_COMPARING, 1, 1))
    model = load_model(output)
    said = (*(_openness(spec) for spec in model.inputs), *_quantization(was_quantized, is_quantized), *notes)
    elapsed_s = round(time.monotonic() - began, 3)
    return Exported(model, told["framework"], told["converter"], parity, said, elapsed_s)


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
        raise ExportError(_failure(order, made, task["task"], ended, log))
    return ended.answer, log


def _failure(order: Order, made: Made, task: str, ended: Ended, log: str) -> str:
    title = made.environment.title
    what = f"{order.path}: " + ("the conversion failed" if task == "convert" else f"{title} itself does not answer")
    if ended.killed:
        return f"{what}: the process was killed by the system, most likely because memory ran out; free some."
    answer = ended.answer or {}
    if answer.get("kind") in ("ImportError", "ModuleNotFoundError"):
        return (
            f"{what}: {answer['message']}. The {title} environment in {made.folder} seems damaged: "
            f"`workbench environments --remove {made.environment.name}`, and say yes to a new one."
        )
    said = answer.get("message") or f"the process ended early (exit status {ended.status})"
    if ended.crash:
        said = f"the converter crashed ({ended.crash})"
    explained = order.explain(f"{log}\n{answer.get('message', '')}")
    if explained:
        return f"{what}: {explained}"
    if task == "answer":
        return f"{what} on the shapes it was asked with: {_short(said)}. Give shapes=[...] that it takes."
    last = "" if answer.get("message") else f" The last it said: {' '.join(ended.tail[-2:])}"
    return f"{what}: {_short(said)}.{last}"


def _short(text: str) -> str:
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
) -> Answers:
    """Feeds and what the framework answers to them, outputs in its order. many: more rows, to count agreement."""
    sets: list[dict[str, Any]] = []
    for index, feeds in enumerate(_twice(inputs, trials.feeds or ())):
        check_fit(inputs, {name: np.shape(array) for name, array in feeds.items()})
        arrays: dict[str, Any] = {
            str(place): np.asarray(feeds[spec.name]).astype(spec.dtype) for place, spec in enumerate(inputs)
        }
        np.savez(folder / f"given-{index}.npz", **arrays)
        sets.append({"file": str(folder / f"given-{index}.npz"), "inputs": [{"name": spec.name} for spec in inputs]})
    if trials.shapes is not None or not trials.feeds:
        for shapes in trial_shapes(inputs, trials.shapes, many=many):
            described = [{"name": spec.name, "dtype": spec.dtype, "shape": shapes[spec.name]} for spec in inputs]
            sets.append({"inputs": described})
    told, _ = _ask(order, made, {"task": "answer", "sets": sets, "folder": str(folder)}, listener, cancel)
    found: Answers = []
    for index in range(len(sets)):
        with np.load(folder / f"feeds-{index}.npz") as file:
            given = {spec.name: file[str(place)] for place, spec in enumerate(inputs)}
        with np.load(folder / f"answers-{index}.npz") as file:
            found.append((given, {name: file[str(place)] for place, name in enumerate(told["outputs"])}))
    return found


def _twice(inputs: Sequence[TensorSpec], feeds: Sequence[Feeds]) -> list[Feeds]:
    """The user's feeds, and where there is one set of several rows, half of it too: two sizes tell what is frozen."""
    rows = {np.shape(array)[:1] for array in feeds[0].values()} if len(feeds) == 1 else set()
    if len(rows) != 1 or not all(0 in spec.open_axes for spec in inputs):
        return list(feeds)
    ((count, *_),) = rows or {(1,)}
    halves = {name: np.asarray(array)[: count // 2] for name, array in feeds[0].items()}
    return [*feeds, halves] if count > 1 else list(feeds)


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


def _quantization(was: bool, is_now: bool) -> tuple[str, ...]:
    if was and not is_now:
        return (
            "the model is quantized, but the converter dropped its scales: it is an ordinary float model now; "
            "calibrate it anew, or save it with paddleslim's or paddle.quantization.imperative's QAT.",
        )
    if was:
        return ("quantized: it rounds at other places than the framework does, so only the agreement is stated.",)
    return ()
