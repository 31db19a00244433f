"""The process in which a framework converts and answers: `ENVIRONMENT/bin/python -I child.py`, one request on stdin.

It speaks as `workbench._child` does (lines of JSON, see `process.answer_line`) but imports nothing of the workbench:
it runs in an environment that has only the framework. The request names the file of an adapter, which offers

    releases() -> (framework, converter)                    both with their release
    convert(source, output, opset, tell)                    writes the ONNX file
    predictor(source, tell) -> feeds by name -> outputs by name
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import threading
import time
import traceback
import zlib  # noqa: F401  Paddle 2.6 brings a zlib of its own; Python's crashes unless it is loaded first.
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_TELLING = 0.1
_PATIENCE_S = 10.0
_TRIES = 16

Array = np.ndarray
Tell = Callable[[str, str], None]
"""Takes the severity and the text of a line for the log."""
Predict = Callable[[dict[str, Array]], dict[str, Array]]
"""Feeds by name -> outputs by name."""


class Refused(Exception):
    """What no other shapes would change; the text is for the user."""


class _Feeds(dict[str, Any]):
    """Adapters feed what the framework asks for; the ONNX model, whose inputs these are, may have fewer."""

    def __missing__(self, name: str) -> Array:
        raise Refused(
            f"it asks for the input {name}, which the converter left out of the ONNX model: it plays no part in these "
            "outputs. Save the model without it"
        )


def main() -> None:
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever native code prints belongs to the log
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_die_with_parent, daemon=True).start()

    def send(message: dict[str, Any]) -> None:
        data = (json.dumps(message) + "\n").encode()
        while data:
            data = data[os.write(answers, data) :]

    def tell(severity: str, text: str) -> None:
        send({"event": "log", "severity": severity, "text": text})

    def phase(name: str, done: int, total: int | None) -> None:
        send({"event": "progress", "phase": name, "done": done, "total": total, "parent": None})

    try:
        send({"event": "done", **serve(request, tell, phase)})
    except MemoryError:
        send({"event": "error", "kind": "MemoryError", "message": "memory ran out"})
    except Exception as error:  # the edge of the process: whatever the framework raises is told
        tell("verbose", traceback.format_exc())
        kind, message = type(error).__name__, str(error).strip()
        send({"event": "error", "kind": kind, "message": message, "set": getattr(error, "of_set", None)})
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # some frameworks abort while they are taken down


def serve(request: dict[str, Any], tell: Tell, phase: Callable[[str, int, int | None], None]) -> dict[str, Any]:
    title = request["title"]
    loading = f"Loading {title}"
    phase(loading, 0, None)
    adapter = _adapter(request["adapter"])
    framework, converter = adapter.releases()
    phase(loading, 1, 1)
    if request["task"] == "convert":
        converting = f"Converting with {converter}"
        phase(converting, 0, None)
        adapter.convert(request["source"], request["output"], request["opset"], tell)
        phase(converting, 1, 1)
        return {"framework": framework, "converter": converter}
    names, refused = _ask_all(adapter.predictor(request["source"], tell), request, phase)
    return {"framework": framework, "outputs": names, "refused": refused}


def _ask_all(
    predict: Predict, request: dict[str, Any], phase: Callable[[str, int, int | None], None]
) -> tuple[list[str], str | None]:
    """Writes feeds and answers of every set; returns the outputs' names, and why a set with 'opens' does not run."""
    sets, where = request["sets"], Path(request["folder"])
    answering = f"Asking {request['title']} for its own answers"
    phase(answering, 0, len(sets))
    names: list[str] = []
    refused = None
    for index, given in enumerate(sets):
        try:
            feeds, outputs = _answer(predict, given, index)
        except Exception as error:
            error.of_set = index  # type: ignore[attr-defined]
            if "opens" not in given or isinstance(error, MemoryError):
                raise
            refused = str(error).strip()
        else:
            names = list(outputs)
            for name, array in outputs.items():
                if array.dtype.kind in "OSU":
                    raise Refused(f"output {name} holds strings, which engines do not give; name the other outputs")
            np.savez(where / f"feeds-{index}.npz", **_numbered(feeds))
            np.savez(where / f"answers-{index}.npz", **_numbered(outputs))
        phase(answering, index + 1, len(sets))
    return names, refused


def _adapter(path: str) -> Any:
    """The module in this file; its folder stays off the path, where other names could hide packages."""
    spec = importlib.util.spec_from_file_location("adapter", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _numbered(arrays: dict[str, Array]) -> dict[str, Any]:
    """Tensors may have names that are no file names."""
    return {str(index): array for index, array in enumerate(arrays.values())}


def _answer(predict: Predict, given: dict[str, Any], seed: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """The feeds of a set and what the framework answers: the user's, or made up until the answers tell something.

    A detector sees nothing in noise: its sigmoid answers 1e-12 everywhere, and a comparison there is one of rounding
    errors. So several kinds of pictures are tried, and the one with the largest answers is kept.
    """
    if "file" in given:
        with np.load(given["file"]) as file:
            feeds = {spec["name"]: file[str(index)] for index, spec in enumerate(given["inputs"])}
        return feeds, predict(_Feeds(feeds))
    best: tuple[float, dict[str, Array], dict[str, Array]] | None = None
    began = time.monotonic()
    for attempt in range(_TRIES):
        feeds = made_up(given["inputs"], attempt, seed)
        outputs = predict(_Feeds(feeds))
        told = _told(outputs)
        if best is None or told > best[0]:
            best = told, feeds, outputs
        if best[0] >= _TELLING or time.monotonic() - began > _PATIENCE_S:
            break
    assert best is not None
    return best[1], best[2]


def _told(outputs: dict[str, Array]) -> float:
    """The largest absolute value of the floating-point output that says least.

    One that is empty says nothing, nor do NaN and infinity.
    """
    peaks = [np.abs(array).max(initial=0) for array in outputs.values() if array.dtype.kind == "f"]
    return float(min(np.nan_to_num(peaks, nan=0.0, posinf=0.0))) if peaks else _TELLING


def made_up(inputs: list[dict[str, Any]], attempt: int, seed: int) -> dict[str, Array]:
    """Arrays for every input: floats in [0, 1) first, then strokes on a bright ground and noise, each time others.

    Integers and booleans are 0 or 1. PaddleDetection's `im_shape` and `scale_factor` get what its pictures have.
    """
    generator = np.random.default_rng([seed, attempt])
    pictures = [tuple(spec["shape"]) for spec in inputs if len(spec["shape"]) == 4]
    feeds: dict[str, Array] = {}
    for spec in inputs:
        shape, dtype = tuple(spec["shape"]), spec["dtype"]
        if spec["name"] == "im_shape" and pictures:
            feeds[spec["name"]] = np.broadcast_to(np.array(pictures[0][2:], dtype), shape).copy()
        elif spec["name"] == "scale_factor" and pictures:
            feeds[spec["name"]] = np.ones(shape, dtype)
        elif not dtype.startswith(("float", "bfloat")):
            feeds[spec["name"]] = generator.integers(0, 2, shape).astype(dtype)
        elif attempt == 0:
            feeds[spec["name"]] = generator.random(shape, dtype=np.float32).astype(dtype)
        elif attempt % 4 == 2:
            feeds[spec["name"]] = (generator.standard_normal(shape) * attempt / 2).astype(dtype)
        elif len(shape) == 4:
            feeds[spec["name"]] = _strokes(shape, generator).astype(dtype)
        else:
            feeds[spec["name"]] = (generator.random(shape) * 2 - 1).astype(dtype)
    return feeds


def _strokes(shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Dark strokes on white between -1 and 1, as written text looks; of pictures whose channels come first or last."""
    batch, height, width = (shape[0], *shape[1:3]) if shape[3] <= 4 < shape[1] else (shape[0], *shape[2:])
    plane = np.ones((batch, height, width), np.float32)
    for picture in plane:
        for _ in range(max(12, height * width // 400)):
            top, left = generator.integers(0, max(1, height - 4)), generator.integers(0, max(1, width - 4))
            tall, wide = generator.integers(2, 10, 2)
            ink = generator.random() * 0.6 - 1
            picture[top : top + tall, left : left + 2] = ink
            picture[top : top + 2, left : left + wide] = ink
    last = shape[3] <= 4 < shape[1]
    return np.broadcast_to(plane[..., None] if last else plane[:, None], shape).copy()


def _die_with_parent() -> None:
    """The parent keeps its end of standard input open as long as it lives and wants us."""
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
