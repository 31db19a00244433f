"""Exports of what can be named in one word, as the command line and the widget do: which road, and going it."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.build_process import error_in
from workbench.errors import BuildError, ConfigError, ExportError
from workbench.export.environments import TENSORFLOW, Environment
from workbench.export.exported import Exported, default_path, exported_from_json, exported_to_json, staged
from workbench.export.from_paddle import export_paddle, find_paddle_model
from workbench.export.from_tensorflow import export_tensorflow, kind_of
from workbench.export.pytorch.exporting import export_torch
from workbench.export.pytorch.module import import_torch
from workbench.export.pytorch.source import load_torch
from workbench.export.user_code import failure
from workbench.process import Ended, run_process
from workbench.profiles import parse_profiles
from workbench.types import Listener, Shape, ignore

FRAMEWORKS = ("torch", "paddle", "tensorflow")
_TORCH = (".pt2", ".pt", ".pth", ".py", ".torchscript")
_TENSORFLOW = (".keras", ".h5", ".hdf5", ".pb", ".uff")
_PADDLE_ONLY = (".pdmodel", ".pdiparams", ".pdparams")
_PADDLE = (*_PADDLE_ONLY, ".json")
_MOST_FOLDERS = 100


@dataclass(frozen=True)
class ExportRequest:
    """What to export.

    source: FILE.py:NAME or package.module:NAME (a function that returns (module, example)), a file or a folder.
    framework: one of FRAMEWORKS, '' to tell by the source. exporter, open_dims (axis -> name by input): PyTorch's.
    inputs, outputs: names in a frozen TensorFlow graph. shapes: sets of input shapes to compare at; for TorchScript
    the first is the example's. trust: read a .pt2 file even if code of whoever wrote it runs.
    """

    source: str
    framework: str = ""
    output: str | None = None
    opset: int = 17
    exporter: str = "dynamo"
    open_dims: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    shapes: tuple[Mapping[str, Shape], ...] = ()
    trust: bool = False


def framework_of(source: str) -> str:
    """Which framework wrote it, by name and content. Raises ConfigError where that cannot be told."""
    path = _path(source)
    head, colon, name = source.rpartition(":")
    if colon and name.isidentifier() and head and not path.exists():
        return "torch"
    suffix = path.suffix.lower()
    if path.is_dir():
        found = _of_folder(path)
        if found:
            return found
        inside = [item for item in sorted(path.iterdir())[:_MOST_FOLDERS] if item.is_dir() and _of_folder(item)]
        holding = ", ".join(item.name for item in inside)
        hint = f"name a folder in it that does: {holding}" if inside else "name the folder or file of a saved model"
        raise ConfigError(f"{source}: this folder holds no model of Paddle or TensorFlow; {hint}.")
    if suffix in _TORCH:
        return "torch"
    if suffix in _TENSORFLOW:
        return "tensorflow"
    if suffix in _PADDLE or path.name == "__model__":
        return "paddle"
    if suffix == ".onnx":
        raise ConfigError(f"{source}: this is ONNX already; build or inspect it.")
    if not path.exists():
        raise ConfigError(f"{source}: there is no such file or folder.")
    raise ConfigError(f"{source}: whose model is it? Say --from torch, paddle or tensorflow.")


def _of_folder(folder: Path) -> str:
    """'' where it holds no model. Paddle 3's .json, as others have too, lies beside a .pdiparams; tutorials of Paddle 1
    name the two files model and params."""
    if (folder / "saved_model.pb").is_file():
        return "tensorflow"
    names = [item.name for item in folder.iterdir()] if os.access(folder, os.R_OK) else []
    has_program = "__model__" in names or {"model", "params"} <= set(names)
    return "paddle" if has_program or any(name.endswith(_PADDLE_ONLY) for name in names) else ""


def environment_for(request: ExportRequest) -> Environment | None:
    """The environment that the export needs; None for PyTorch, which runs in ours.

    Raises ConfigError and ExportError for a source that is none.
    """
    framework = _framework(request)
    if framework == "paddle":
        return find_paddle_model(request.source).environment
    if framework == "tensorflow":
        kind_of(Path(request.source).expanduser().absolute())
        return TENSORFLOW
    return None


def export_source(
    request: ExportRequest,
    *,
    make_environment: bool = False,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Exported:
    """Go the road that fits. Whatever the framework, its code runs in a process of its own and can be cancelled.

    Raises what the framework's own export raises.
    """
    cancel = cancel or threading.Event()
    framework = _framework(request)
    if framework == "torch":
        return _export_torch_apart(request, listener, cancel)
    _check_options(request, framework)
    common: dict[str, Any] = {
        "output": request.output,
        "opset": request.opset,
        "shapes": request.shapes or None,
        "make_environment": make_environment,
        "listener": listener,
        "cancel": cancel,
    }
    if framework == "paddle":
        return export_paddle(request.source, **common)
    return export_tensorflow(request.source, inputs=request.inputs or None, outputs=request.outputs or None, **common)


def _check_options(request: ExportRequest, framework: str) -> None:
    """Options that would have no effect are refused."""
    title = {"paddle": "Paddle", "tensorflow": "TensorFlow"}[framework]
    if request.open_dims or request.exporter != "dynamo":
        option = "open dimensions are" if request.open_dims else "the choice of an exporter is"
        raise ConfigError(f"{option} for PyTorch; {title}'s models say themselves which of their sizes are open.")
    if framework == "paddle" and (request.inputs or request.outputs):
        raise ConfigError("inputs and outputs are named for TensorFlow; a Paddle model names its own.")


def parse_shape_sets(texts: Iterable[str]) -> tuple[Mapping[str, Shape], ...]:
    """['x:1x3x64x64', 'x:4x3x64x64'] -> two sets: an input given again starts the next one. Raises ShapeError."""
    profiles = parse_profiles(texts)
    return tuple({name: item.opt for name, item in profile.ranges.items()} for profile in profiles)


def parse_open_dims(texts: Iterable[str]) -> dict[str, dict[int, str]]:
    """['image:0=batch', 'image:2=height'] -> {'image': {0: 'batch', 2: 'height'}}. Raises ConfigError."""
    found: dict[str, dict[int, str]] = {}
    for text in texts:
        place, equals, name = text.rpartition("=")
        tensor, colon, axis = place.rpartition(":")
        if not (equals and colon and name and tensor and axis.isdecimal()):
            raise ConfigError(f"open dimension {text!r}: write INPUT:AXIS=NAME, such as image:0=batch.")
        found.setdefault(tensor, {})[int(axis)] = name
    return found


def serve_torch(request: Mapping[str, Any], listener: Listener) -> dict[str, Any]:
    """What the child process does for `export_source`."""
    sys.stdin = io.StringIO()  # the real one is the parent's lifeline: who asks there would wait for ever
    wish = ExportRequest(**request)
    try:
        return _export_torch_here(wish, listener)
    except SystemExit as error:  # a script that was written to be run
        raise failure(error, wish.source) from error


def _export_torch_here(wish: ExportRequest, listener: Listener) -> dict[str, Any]:
    shapes = [{name: tuple(shape) for name, shape in item.items()} for item in wish.shapes]
    found = load_torch(wish.source, shapes=shapes[0] if shapes else None, trust=wish.trust, listener=listener)
    open_dims = {name: {int(axis): dim for axis, dim in axes.items()} for name, axes in wish.open_dims.items()}
    if isinstance(found.module, import_torch().jit.ScriptModule):
        shapes = shapes[1:]  # the first became the example
    return exported_to_json(
        export_torch(
            found.module,
            found.example,
            open_dims=open_dims or found.open_dims,
            output=wish.output,
            name=torch_name(wish.source),
            opset=wish.opset,
            exporter=wish.exporter,
            shapes=shapes or None,
            listener=listener,
        )
    )


def torch_name(source: str) -> str:
    """An export's name: 'nets/ocr.py:reader' and 'nets.ocr:reader' -> 'ocr_reader', 'reader.pt2' -> 'reader'."""
    head, colon, name = source.rpartition(":")
    if colon and name.isidentifier():
        place = Path(head).stem if head.endswith(".py") else head.rpartition(".")[2]
        return f"{place}_{name}"
    return Path(source).stem


def _path(text: str) -> Path:
    """Raises ConfigError for what cannot be one: a name that is too long, the home of a user who is not there."""
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        said = text if len(text) < 100 else f"{text[:100]} ..."
        raise ConfigError(f"{said}: not a path ({getattr(error, 'strerror', None) or error}).") from error
    return path


def _framework(request: ExportRequest) -> str:
    if request.framework and request.framework not in FRAMEWORKS:
        raise ConfigError(f"there is no framework {request.framework!r}; choose one of {', '.join(FRAMEWORKS)}.")
    _path(request.source)
    return request.framework or framework_of(request.source)


def _export_torch_apart(request: ExportRequest, listener: Listener, cancel: threading.Event) -> Exported:
    path = _path(request.output) if request.output else default_path(torch_name(request.source), Path(request.source))
    with staged(path) as draft:  # here, because a process that is killed cannot clear away
        ended = run_process(
            [sys.executable, "-m", "workbench._child"],
            listener,
            cancel,
            request={"task": "export_torch", **vars(request), "output": str(draft)},
            environment={"PYTHONSAFEPATH": "1"},  # nothing in the user's folder stands in for the standard library
            starting="Starting PyTorch",
        )
        if ended.answer is None:
            raise ExportError(_death(request.source, ended))
        if ended.answer["event"] == "error":
            error = error_in(ended.answer, ended.tail)
            raise ExportError(f"{request.source}: {error}") if isinstance(error, BuildError) else error
    return exported_from_json({**ended.answer["exported"], "onnx": str(path)})


def _death(source: str, ended: Ended) -> str:
    if ended.killed:
        more = "; free some"
    elif ended.stopped_by:
        more = "; export again"
    elif ended.crash:
        more = "; try the other exporter"
    else:
        last = " ".join(ended.tail[-2:])
        more = f"; what it said last: {last.rstrip('.')}" if last else ""
    return f"{source}: the process in which PyTorch exports {ended.how()}{more}."
