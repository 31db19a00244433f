"""TensorFlow's saved models -> Model: SavedModel folders, Keras files, frozen graphs."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from workbench.errors import ConfigError, ExportError
from workbench.export.calling import TENSORFLOW_ADAPTER, Order, Trials, export_from
from workbench.export.environments import TENSORFLOW, ensure
from workbench.export.exported import Exported, default_path
from workbench.types import Feeds, Listener, LogLine, Shape, ignore

_KERAS = (".keras", ".h5", ".hdf5")
_BROKEN = (
    "Error parsing message",
    "ensure the file is an accessible",
    "file signature not found",
    "truncated file",
    "not a zip file",
    "DecodeError",
)


def export_tensorflow(
    source: str | Path,
    *,
    output: str | Path | None = None,
    opset: int = 17,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    shapes: Sequence[Mapping[str, Shape]] | None = None,
    feeds: Sequence[Feeds] | None = None,
    make_environment: bool = False,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Exported:
    """Convert a saved TensorFlow or Keras model with tf2onnx and compare it with TensorFlow itself.

    source: a SavedModel's folder (its signature 'serving_default', or the only one), a .keras or .h5 file, or a
    frozen graph's .pb file. inputs, outputs: names of a frozen graph's nodes; without them its placeholders and the
    nodes that no other reads. outputs: also those to keep of a SavedModel. shapes: sets of input shapes to compare on;
    without them two are chosen. An input that does not tell its rank needs one. feeds: real inputs to compare on. An
    open dimension that they leave at one size is tried at another, and fixed where TensorFlow does not run there.
    make_environment: the user's yes to making the converter's environment where it is not there yet.

    A graph is a program: TensorFlow runs it for the comparison, and it may read and write files. A warning says so.

    Raises ExportError, ConfigError (no environment and no yes, or names that do not apply), ShapeError, Cancelled.
    """
    path = Path(source).expanduser().absolute()
    kind, path = kind_of(path)
    if inputs and kind != "frozen":
        raise ConfigError(f"{path}: inputs are named for frozen graphs only; a {kind} names its own.")
    if outputs and kind == "keras":
        raise ConfigError(f"{path}: a Keras model has its own outputs; leave `outputs` out.")
    cancel = cancel or threading.Event()
    listener(
        LogLine(
            "warning", f"{path.name}: a graph of TensorFlow's can write files as it runs; open only what you trust."
        )
    )
    made = ensure(TENSORFLOW, yes=make_environment, listener=listener, cancel=cancel)
    first = (shapes or [{}])[0] if not feeds else {name: array.shape for name, array in feeds[0].items()}
    order = Order(
        path=path,
        adapter=TENSORFLOW_ADAPTER,
        source={
            "kind": kind,
            "path": str(path),
            "inputs": [name.removesuffix(":0") for name in inputs or ()],
            "outputs": [name.removesuffix(":0") for name in outputs or ()],
            "ranks": {name: len(shape) for name, shape in first.items()},
        },
        explain=explain,
    )
    where = Path(output).expanduser() if output else default_path(path.stem if path.suffix else path.name, path)
    return export_from(order, made, where, opset, Trials(shapes, feeds), listener, cancel)


def kind_of(path: Path) -> tuple[str, Path]:
    """'saved_model', 'keras' or 'frozen', and the path to load. Raises ExportError for anything else."""
    if path.suffix == ".uff":
        raise ExportError(
            f"{path}: UFF is gone: TensorRT 8.6 was the last release to read it, TensorRT 10 has no parser for it. "
            "Export the frozen graph or SavedModel that it was made from to ONNX instead: "
            "`workbench export model.pb`, or export.tensorflow('model.pb')."
        )
    if path.name == "saved_model.pb":
        path = path.parent
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "saved_model", path
        raise ExportError(f"{path}: no SavedModel, which is a folder with saved_model.pb in it.")
    if not path.is_file():
        raise ExportError(f"{path}: there is no such file or folder.")
    if path.suffix in _KERAS:
        return "keras", path
    if path.suffix == ".pb":
        return "frozen", path
    if path.suffix in (".ckpt", ".meta", ".index") or ".data-" in path.name:
        raise ExportError(
            f"{path}: a checkpoint of a training; save the model with model.export('FOLDER') and name that."
        )
    if path.suffix == ".tflite":
        raise ExportError(f"{path}: a TensorFlow Lite model; export the SavedModel that it was made from.")
    raise ExportError(
        f"{path}: not a TensorFlow model; name a SavedModel's folder, a .keras, .h5 or a frozen .pb file."
    )


def explain(log: str) -> str:
    """What TensorFlow's or tf2onnx's log means, with what to try; '' where that is not known."""
    match = re.search(r"Could not locate class '(\w+)'|Unknown layer:? '?(\w+)'?", log)
    if match:
        return (
            f"it holds a layer of your own, {match[1] or match[2]}, which a file does not carry: "
            "save it with model.export('FOLDER') where the class is known, and export that folder."
        )
    if "Lambda" in log and "safe_mode" in log:
        return (
            "it holds a Lambda layer, which is code that would be run while loading: save it with "
            "model.export('FOLDER') where you trust it, and export that folder."
        )
    if "could not be deserialized properly" in log:
        return (
            "it was saved by another release of Keras than the environment's: save it with model.export('FOLDER') "
            "where it was made, and export that folder."
        )
    if any(sign in log for sign in _BROKEN):
        return "the file is cut off or not what its name says; copy or save it again."
    return ""
