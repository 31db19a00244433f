"""TensorFlow's side of `child`: tf2onnx to convert, TensorFlow itself to answer. Runs in the TensorFlow environment.

source: {"kind": "saved_model", "keras" or "frozen", "path": ..., "inputs": names of a frozen graph's or [],
"outputs": names or [], "ranks": {input: rank} for inputs of a frozen graph that do not tell theirs}
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # its rounding depends on the number of threads

Tell = Callable[[str, str], None]
Predict = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]

_NO_OUTPUTS = {"Const", "NoOp", "Assert", "Placeholder", "PlaceholderWithDefault", "Print", "PrintV2"}


def releases() -> tuple[str, str]:
    tensorflow, tf2onnx = importlib.import_module("tensorflow"), importlib.import_module("tf2onnx")
    return f"TensorFlow {tensorflow.__version__}", f"tf2onnx {tf2onnx.__version__}"


def convert(source: dict[str, Any], output: str, opset: int, tell: Tell) -> None:
    """Write the ONNX file, its inputs and outputs called as in `predictor`."""
    converter = importlib.import_module("tf2onnx.convert")
    if source["kind"] == "keras":
        converter.from_keras(_keras_model(source["path"]), opset=opset, output_path=output)
        return
    loader = importlib.import_module("tf2onnx.tf_loader")
    if source["kind"] == "saved_model":
        names = [_signature_name(source["path"])]
        graph, inputs, outputs, called = loader.from_saved_model(
            source["path"], None, None, tag=None, signatures=names, return_tensors_to_rename=True
        )
        outputs = [name for name in outputs if not source["outputs"] or called.get(name, name) in source["outputs"]]
    else:
        inputs, outputs = _ends(_graph(source["path"]), source)
        graph, inputs, outputs = loader.from_graphdef(source["path"], inputs, outputs)
        called = {name: plain(name) for name in (*inputs, *outputs)}
    _give_ranks(graph, inputs, called, source["ranks"])
    converter._convert_common(
        graph,
        name=Path(source["path"]).stem,
        opset=opset,
        input_names=inputs,
        output_names=outputs,
        tensors_to_rename=called,
        output_path=output,
    )


def _give_ranks(graph: Any, inputs: list[str], called: dict[str, str], given: dict[str, int]) -> None:
    """Give inputs that do not tell how many dimensions they have as many open ones as the user's shapes have."""
    nodes = {node.name: node for node in graph.node}
    for tensor in inputs:
        name, shape = called.get(tensor, plain(tensor)), nodes[tensor.partition(":")[0]].attr["shape"].shape
        if shape.unknown_rank:
            if name not in given:
                what = f"input {name} does not tell how many dimensions it has"
                raise ValueError(f"{what}: give shapes=[{{{name!r}: (1, ...)}}] with a shape for it")
            shape.unknown_rank = False
            for _ in range(given[name]):
                shape.dim.add().size = -1


def predictor(source: dict[str, Any], tell: Tell) -> Predict:
    return {"keras": _keras, "saved_model": _saved_model, "frozen": _frozen}[source["kind"]](source)


def plain(tensor: str) -> str:
    """'image:0' -> 'image', as the ONNX model calls it."""
    return tensor[:-2] if tensor.endswith(":0") else tensor


# ---- Keras


def _keras_model(path: str) -> Any:
    return importlib.import_module("keras").models.load_model(path, compile=False, safe_mode=True)


def _keras(source: dict[str, Any]) -> Predict:
    tensorflow = importlib.import_module("tensorflow")
    model = _keras_model(source["path"])

    def predict(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = [tensorflow.constant(feeds[tensor.name]) for tensor in model.inputs]
        answers = tensorflow.nest.flatten(model(given if len(given) > 1 else given[0], training=False))
        return {name: answer.numpy() for name, answer in zip(model.output_names, answers, strict=True)}

    return predict


# ---- SavedModel


def _signature_name(path: str) -> str:
    signatures = sorted(importlib.import_module("tensorflow").saved_model.load(path).signatures)
    for name in ("serving_default", "serve", *(signatures if len(signatures) == 1 else ())):
        if name in signatures:
            return name
    raise ValueError(
        f"the SavedModel has the signatures {', '.join(signatures) or 'none'} and no 'serving_default': "
        "save it with signatures={'serving_default': function}"
    )


def _saved_model(source: dict[str, Any]) -> Predict:
    tensorflow = importlib.import_module("tensorflow")
    model = tensorflow.saved_model.load(source["path"])
    signature = model.signatures[_signature_name(source["path"])]

    def predict(feeds: dict[str, np.ndarray], keep: Any = model) -> dict[str, np.ndarray]:
        """keep: a signature does not hold its model's variables."""
        inputs = signature.structured_input_signature[1]
        answers = signature(**{name: tensorflow.constant(feeds[name]) for name in inputs})
        wanted = source["outputs"] or list(answers)
        return {name: answers[name].numpy() for name in wanted}

    return predict


# ---- frozen graphs


def _graph(path: str) -> Any:
    graph = importlib.import_module("tensorflow").compat.v1.GraphDef()
    graph.ParseFromString(Path(path).read_bytes())
    return graph


def _ends(graph: Any, source: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The names of the input and output tensors: the user's, or placeholders and what no other node reads."""
    known = {node.name for node in graph.node}
    read = {name.lstrip("^").partition(":")[0] for node in graph.node for name in node.input}
    inputs = source["inputs"] or [node.name for node in graph.node if node.op == "Placeholder"]
    ends = [node.name for node in graph.node if node.name not in read and node.op not in _NO_OUTPUTS]
    outputs = source["outputs"] or ends
    for name in (*inputs, *outputs):
        if name.partition(":")[0] not in known:
            raise ValueError(f"the graph has no node {name}; its outputs seem to be {', '.join(ends)}")
    if not inputs or not outputs:
        raise ValueError("the graph has no placeholders, or every node is read by another; name inputs and outputs")
    return [_tensor(name) for name in inputs], [_tensor(name) for name in outputs]


def _tensor(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _frozen(source: dict[str, Any]) -> Predict:
    tensorflow = importlib.import_module("tensorflow")
    graph = _graph(source["path"])
    inputs, outputs = _ends(graph, source)
    wrapped = tensorflow.compat.v1.wrap_function(lambda: tensorflow.import_graph_def(graph, name=""), [])
    function = wrapped.prune(inputs, outputs)

    def predict(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        answers = function(*(tensorflow.constant(feeds[plain(name)]) for name in inputs))
        return {plain(name): answer.numpy() for name, answer in zip(outputs, answers, strict=True)}

    return predict
