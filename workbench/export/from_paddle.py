"""Paddle's saved models -> Model: 2.x programs (.pdmodel) and 3.x programs (.json), each by a Paddle of its time."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import ConfigError, ExportError
from workbench.export.calling import PADDLE_ADAPTER, Order, Trials, export_from
from workbench.export.environments import PADDLE_2, PADDLE_3, Environment, ensure
from workbench.export.exported import Exported, default_path
from workbench.export.paddle_weights import check_whole
from workbench.paddle_config import read_preprocessing
from workbench.types import Feeds, Listener, Shape, ignore

_HOW_TO_SAVE = "save it with paddle.jit.save(layer, 'NAME', input_spec=[...]), or the project's export_model.py"
_OLD_PARAMETERS = {"__model__": "__params__", "model": "params"}
_UNKNOWN = re.compile(r"operators not supported yet, including ([\w., ]*\w)|unknown operators: ([\w., ]*\w)")
_REFUSED = re.compile(r"\[OP: ([\w.]+)\] ([^\n]+)")
_ERROR = re.compile(r"\[ERROR\](?:\[Paddle2ONNX\])? ?([^\n]+)|\[Paddle2ONNX\] \[ERROR\] ([^\n]+)")
_BROKEN = (
    "Failed to parse paddlepaddle model",
    "json.exception",
    "is undefined!",
    "Failed to load parameters",
    "is not output of any previous nodes",
)


@dataclass(frozen=True)
class PaddleModel:
    """The two files of a saved model, and the environment that converts it."""

    program: Path
    weights: Path
    environment: Environment

    @property
    def name(self) -> str:
        """The program's, or its folder's where that says nothing."""
        says_nothing = self.program.stem in ("inference", "model", "__model__")
        return self.program.parent.name if says_nothing else self.program.stem


def export_paddle(
    source: str | Path,
    *,
    output: str | Path | None = None,
    opset: int = 17,
    shapes: Sequence[Mapping[str, Shape]] | None = None,
    feeds: Sequence[Feeds] | None = None,
    make_environment: bool = False,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Exported:
    """Convert a saved Paddle model with paddle2onnx and compare it with Paddle's own predictor.

    source: the program's file, or a folder that holds one model. output: `exports/NAME.onnx` in the workbench's folder
    if not named. opset: raised by the converter where an operator needs it. shapes: sets of input shapes to compare on;
    without them two are chosen, with sides of pictures that are multiples of 32. feeds: real inputs to compare on, by
    name: worth more than made-up ones, above all for quantized models. An open dimension that shapes and feeds leave
    at one size is tried at another; where Paddle itself does not run there it becomes fixed. make_environment: the
    user's yes to making the converter's environment where it is not there yet.

    An export whose outputs differ by more than `workbench.export.parity` says is refused; of a quantized model the
    agreement is stated, and only outputs that have nothing to do with Paddle's are refused. Biases in INT32, which
    NVIDIA's parser rejects, become float.
    Raises ExportError, ConfigError (no environment and no yes, or no Python for it), ShapeError, Cancelled.
    """
    found = find_paddle_model(source)
    cancel = cancel or threading.Event()
    made = ensure(found.environment, yes=make_environment, listener=listener, cancel=cancel)
    order = Order(
        path=found.program,
        adapter=PADDLE_ADAPTER,
        source={"model": str(found.program), "params": str(found.weights)},
        explain=explain,
    )
    where = Path(output).expanduser() if output else default_path(found.name, found.program)
    return export_from(order, made, where, opset, Trials(shapes, feeds), listener, cancel, _notes(found))


def find_paddle_model(source: str | Path) -> PaddleModel:
    """The model that a file or folder is. Raises ExportError saying what is missing, or which of several to name."""
    path = Path(source).expanduser().absolute()
    if path.is_dir():
        path = _only_program(path)
    elif not path.is_file():
        raise ExportError(f"{path}: there is no such file or folder.")
    if path.suffix in (".pdparams", ".pdopt", ".pdema", ".pdstates"):
        raise ExportError(f"{path}: a checkpoint of a training holds weights and no network; {_HOW_TO_SAVE}.")
    if path.suffix == ".pdiparams":
        path = _only_program(path.parent, path.stem)
    if path.suffix == ".json":
        _check_program(path)
        return PaddleModel(path, _weights(path), PADDLE_3)
    if path.suffix == ".pdmodel" or path.name in _OLD_PARAMETERS:
        return PaddleModel(path, _weights(path), PADDLE_2)
    raise ExportError(f"{path}: not a Paddle model; name its .pdmodel (2.x) or .json (3.x) file, or their folder.")


def _only_program(folder: Path, stem: str = "*") -> Path:
    """The one program in a folder."""
    programs = sorted(folder.glob(f"{stem}.pdmodel"))
    programs += [path for path in sorted(folder.glob(f"{stem}.json")) if path.with_suffix(".pdiparams").is_file()]
    if stem == "*":
        programs += [folder / name for name in _OLD_PARAMETERS if (folder / name).is_file()]
    if len(programs) > 1:
        names = ", ".join(path.name for path in programs)
        raise ExportError(f"{folder}: holds several models ({names}); name one of these files.")
    if programs:
        return programs[0]
    if any(folder.glob("*.pdparams")):
        raise ExportError(f"{folder}: holds a checkpoint of a training, with weights and no network; {_HOW_TO_SAVE}.")
    raise ExportError(f"{folder}: holds no Paddle model, which is NAME.pdmodel or NAME.json beside NAME.pdiparams.")


def _weights(program: Path) -> Path:
    name = _OLD_PARAMETERS.get(program.name, f"{program.stem}.pdiparams")
    path = program.with_name(name)
    if path.is_file() and path.stat().st_size:
        check_whole(path)
        return path
    what = "is empty" if path.is_file() else "is missing"
    if program.name == "__model__" and not path.is_file():
        what += " (weights in a file each are not taken: load and save the model anew with one file for all)"
    raise ExportError(f"{path}: the model's weights: the file {what}; copy it again, beside {program.name}.")


def _check_program(path: Path) -> None:
    try:
        program = json.loads(path.read_text(encoding="utf-8"))
        is_program = program["base_code"]["magic"] == "pir"
    except (ValueError, KeyError, TypeError) as error:
        what = "cut off, or not a Paddle 3 program"
        raise ExportError(f"{path}: {what} ({path.stat().st_size:,} bytes); copy or save it again.") from error
    if not is_program:
        raise ExportError(f"{path}: not a Paddle 3 program; {_HOW_TO_SAVE}.")


def explain(log: str) -> str:
    """What paddle2onnx's log means: the operators it does not know or take, or files it cannot read; else ''."""
    unknown = _UNKNOWN.search(log)
    if "unsupported operators" in log:
        names = (unknown[1] or unknown[2]) if unknown else "some operators, which it does not name"
        remedy = "express it with other operators and save the model again"
        if "fake_" in names:
            remedy = "save the quantized model with onnx_format=True, which paddle2onnx reads"
        return f"paddle2onnx has no ONNX form for {names}: {remedy}."
    refused = _REFUSED.search(log)
    if refused:
        return f"operator {refused[1]}: {refused[2].rstrip('.')}; change it in the network and save the model again."
    if "Opset Version must be between" in log:
        return "paddle2onnx does not write this opset; 17 fits TensorRT 8.6 and newer."
    if any(sign in log for sign in _BROKEN):
        return "the program or its weights are cut off, or do not belong together; copy or save both again."
    errors = [first or second for first, second in _ERROR.findall(log)]
    return f"{errors[0].rstrip('.')}; try another opset, or express that part otherwise." if errors else ""


def _notes(found: PaddleModel) -> tuple[str, ...]:
    try:
        preprocessing = read_preprocessing(found.program.parent)
    except ConfigError as error:  # of no consequence for the network
        return (str(error),)
    if preprocessing is None:
        return ()
    path = Path(preprocessing.source)
    call = f"workbench.export.read_preprocessing({str(path.parent)!r})"
    return (f"{path.name} says how pictures become inputs: {call}.",)
