"""Engine layers as the back ends report them, read into LayerInfo."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

_RECORD = re.compile(
    r"^Name: (?P<name>.*), LayerType: (?P<kind>[^,]*), Inputs: \[(?P<inputs>(?:.*?\})?)\], "
    r"(?:Constants: \[(?:.*?\})?\], )?Outputs: \[(?P<outputs>(?:.*?\})?)\], (?P<rest>TacticName: .*|[A-Z]\w*: .*)$"
)
_TENSOR = re.compile(
    r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<shape>[^\]]*)\].*?(?:Datatype: (?P<dtype>[^,}]+).*?)?"
    r"(?:Format: (?P<format>[^}]*?))? ?\}"
)
_TACTIC = re.compile(r"TacticName: (.*?), StreamId:")
_STREAM = re.compile(r"StreamId: (\d+)")
_NODE = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x1e\x1f\s]*(?:\[ONNX Layer: |$))")
_PRECISIONS = {"float": "fp32", "float32": "fp32", "half": "fp16", "float16": "fp16", "bfloat16": "bf16"}
_INDICES = ("int32", "int64")


@dataclass(frozen=True)
class LayerTensor:
    """A tensor a layer reads or writes; -1 in `shape` is open. dtype as the back end calls it ('Half', 'float32')."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    format: str = ""


@dataclass(frozen=True)
class LayerInfo:
    """One step of an engine. `nodes` are the ONNX nodes it does the work of; empty for copies and synchronization.

    weights_dtype: of its kernel, as the back end calls it, or ''. details: what else the back end tells, by its names.
    """

    name: str
    kind: str
    inputs: tuple[LayerTensor, ...]
    outputs: tuple[LayerTensor, ...]
    tactic: str
    nodes: tuple[str, ...]
    stream: int = 0
    weights_dtype: str = ""
    details: tuple[tuple[str, str], ...] = ()

    @property
    def precision(self) -> str:
        """What it computes in: 'fp16', 'int8'; the type of its weights, else of its first tensor that holds no
        indices, if there is one; '' if untold."""
        types = (self.weights_dtype, *(tensor.dtype for tensor in (*self.inputs, *self.outputs)))
        names = [precision_name(dtype) for dtype in types if dtype]
        return next((name for name in names if name not in _INDICES), names[0] if names else "")


def precision_name(dtype: str) -> str:
    """'Half', 'FP16', 'float16' -> 'fp16'; other types in small letters: 'int8', 'bool'."""
    return _PRECISIONS.get(dtype.lower(), dtype.lower())


def parse_layer_records(text: str) -> tuple[LayerInfo, ...]:
    """Read the records TensorRT-RTX prints under 'Layers:' in its VERBOSE log (detailed profiling verbosity).

    Raises ValueError for a record in a form it does not know, so that no layer is silently lost.
    """
    body = text.split("\n\nI/O Tensors:", 1)[0]
    return tuple(_layer(line) for line in body.split("\n") if line.startswith("Name: "))


def _layer(line: str) -> LayerInfo:
    match = _RECORD.match(line)
    if match is None:
        raise ValueError(f"layer record in an unknown form: {line[:200]}")
    fields, _, metadata = match["rest"].partition("Metadata: ")
    tactic, stream = _TACTIC.search(fields), _STREAM.search(fields)
    return LayerInfo(
        name=match["name"],
        kind=match["kind"],
        inputs=_tensors(match["inputs"]),
        outputs=_tensors(match["outputs"]),
        tactic=tactic[1] if tactic else "",
        nodes=metadata_nodes(metadata),
        stream=int(stream[1]) if stream else 0,
    )


def metadata_nodes(text: str) -> tuple[str, ...]:
    """The names in '[ONNX Layer: a][ONNX Layer: b]', whatever separates the entries."""
    return tuple(dict.fromkeys(_NODE.findall(text)))


def _tensors(text: str) -> tuple[LayerTensor, ...]:
    return tuple(
        LayerTensor(
            name=item["name"],
            shape=tuple(int(size) for size in item["shape"].split(",") if size),
            dtype=item["dtype"] or "",
            format=item["format"] or "",
        )
        for item in _TENSOR.finditer(text)
    )


def covered_nodes(layers: Iterable[LayerInfo]) -> frozenset[str]:
    """The ONNX nodes that at least one layer names."""
    return frozenset(node for layer in layers for node in layer.nodes)


def layers_to_json(layers: Iterable[LayerInfo]) -> list[dict[str, Any]]:
    return [asdict(layer) for layer in layers]


def layers_from_json(data: Iterable[dict[str, Any]]) -> tuple[LayerInfo, ...]:
    def tensors(items: list[dict[str, Any]]) -> tuple[LayerTensor, ...]:
        return tuple(LayerTensor(**{**item, "shape": tuple(item["shape"])}) for item in items)

    return tuple(
        LayerInfo(
            **{
                **item,
                "inputs": tensors(item["inputs"]),
                "outputs": tensors(item["outputs"]),
                "nodes": tuple(item["nodes"]),
                "details": tuple((name, value) for name, value in item.get("details", ())),
            }
        )
        for item in data
    )
