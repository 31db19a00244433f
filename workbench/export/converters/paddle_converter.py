"""Paddle's side of `child`: paddle2onnx to convert, paddle.inference to answer. Runs in a Paddle environment.

source: {"model": NAME.pdmodel or NAME.json, "params": the weights' file or ""}
"""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Tell = Callable[[str, str], None]

_NOT_OPERATORS = {"data", "feed", "fetch", "combine", "shadow_output", "yield", "parameter", "if", "while"}
_OLD_NAMES = {
    "multiply": "elementwise_mul", "divide": "elementwise_div", "subtract": "elementwise_sub",
    "maximum": "elementwise_max", "minimum": "elementwise_min", "remainder": "elementwise_mod",
    "floor_divide": "elementwise_floordiv", "add_n": "sum", "arange": "range", "nonzero": "where_index",
}  # fmt: skip


def releases() -> tuple[str, str]:
    paddle, paddle2onnx = importlib.import_module("paddle"), importlib.import_module("paddle2onnx")
    return f"Paddle {paddle.__version__}", f"paddle2onnx {paddle2onnx.__version__}"


def convert(source: dict[str, Any], output: str, opset: int, tell: Tell) -> None:
    """Write the ONNX file. Raises RuntimeError when paddle2onnx answers with nothing; it may also abort the process.

    Its native function is called itself: the one around it catches every error, and by default lets a tool install
    packages.
    """
    importlib.import_module("paddle")
    native = importlib.import_module("paddle2onnx.paddle2onnx_cpp2py_export")
    model = Path(source["model"])
    with tempfile.TemporaryDirectory() as folder:
        if model.suffix == ".json":
            model = _single_floats(model, Path(folder) / model.name)
            unknown = _unknown_operators(model, native.get_all_supported_operators_pir())
            if unknown:  # said before, as paddle2onnx 2 aborts without naming them
                tell("warning", f"unknown operators: {', '.join(unknown)}")
        content = native.export(
            str(model),
            source["params"],
            opset,
            True,  # raise the opset where an operator needs it
            model.suffix != ".json",  # names the operators it does not know; a 3.x program would be printed whole
            True,  # check the model
            True,  # experimental operators
            True,  # fold what is constant
            {},
            "onnxruntime",  # keeps a quantized model's scales as QuantizeLinear and DequantizeLinear
            "",
            "",
            False,
        )
    if not content:
        raise RuntimeError("paddle2onnx wrote nothing")
    Path(output).write_bytes(content)


def predictor(source: dict[str, Any], tell: Tell) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Paddle's own predictor on the processor, without oneDNN, whose kernels lack some attributes in 3.3."""
    inference = importlib.import_module("paddle.inference")
    config = inference.Config(source["model"], source["params"])
    config.disable_gpu()
    config.disable_glog_info()
    for name in ("disable_onednn", "disable_mkldnn"):
        if hasattr(config, name):
            getattr(config, name)()
            break
    opened = inference.create_predictor(config)

    def predict(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for name in opened.get_input_names():
            handle = opened.get_input_handle(name)
            handle.reshape(feeds[name].shape)
            handle.copy_from_cpu(np.ascontiguousarray(feeds[name]))
        opened.run()
        return {name: opened.get_output_handle(name).copy_to_cpu() for name in opened.get_output_names()}

    return predict


def _single_floats(model: Path, copy: Path) -> Path:
    """A copy of a 3.x program whose attributes are float32.

    Paddle 3.3 writes scales and epsilons as float64, and paddle2onnx 2.1 reads those of lists not at all and single
    ones as whatever lies in memory (Paddle issue 77757, Paddle2ONNX issue 1646).
    """
    program = json.loads(model.read_text(encoding="utf-8"))
    for operation in _operations(program):
        for attribute in operation.get("A") or []:
            if isinstance(attribute, dict) and isinstance(attribute.get("AT"), dict):
                _narrow(attribute["AT"])
    copy.write_text(json.dumps(program), encoding="utf-8")
    return copy


def _narrow(value: dict[str, Any]) -> None:
    if value.get("#") == "0.a_f64":
        value["#"] = "0.a_f32"
    elif value.get("#") == "0.a_array":
        for item in value["D"]:
            _narrow(item)


def _operations(program: dict[str, Any]) -> list[dict[str, Any]]:
    """All operations of a 3.x program, those of inner regions too."""
    found: list[dict[str, Any]] = []
    regions = list(program["program"]["regions"])
    while regions:
        for block in regions.pop()["blocks"]:
            found += block["ops"]
            regions += [inner for operation in block["ops"] for inner in operation.get("regions") or []]
    return found


def _unknown_operators(model: Path, known: list[str]) -> list[str]:
    """Operators that paddle2onnx most likely does not know.

    It lists them under their old names ('elementwise_add', 'hard_swish'), so one counts as known
    if it is part of any.
    """
    program = json.loads(model.read_text(encoding="utf-8"))
    plain = [name.replace("_", "") for name in known]
    names = {operation["#"].partition(".")[2].rstrip("_") for operation in _operations(program)} - {""}
    old = {name: _OLD_NAMES.get(name, name).replace("_", "") for name in names - _NOT_OPERATORS}
    return sorted(name for name in old if not any(old[name] in other for other in plain))
