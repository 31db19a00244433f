"""What TensorRT's engine inspector and trtexec write about an engine, of every release from 8.4 to 11.

Layers: `IEngineInspector` as JSON, `trtexec --exportLayerInfo`, the engine explorer's `.graph.json`. Times:
`trtexec --exportProfile`, the engine explorer's `.profile.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from workbench.layers import LayerInfo, LayerTensor, metadata_nodes

_DTYPE = re.compile(r"\b(?:B?Float\d*|Half|Double|FP\d+|BF16|U?Int\d+|Bool)\b", re.IGNORECASE)
_OTHER_PROFILE = re.compile(r"\[profile \d+\]")
_OWN_FIELDS = {"Name", "LayerType", "Inputs", "Outputs", "TacticName", "StreamId", "Metadata"}
_TIMES = ("medianMs", "averageMs")
_Told = TypeVar("_Told", str, int)


@dataclass(frozen=True)
class Inspection:
    """layers: of the first optimization profile, each name once. other_profiles: layers that serve other profiles."""

    layers: tuple[LayerInfo, ...]
    other_profiles: tuple[LayerInfo, ...] = ()

    @property
    def is_detailed(self) -> bool:
        """Whether more than the names is known."""
        return any(layer.kind for layer in self.layers)


@dataclass(frozen=True)
class LayerTimes:
    """count: runs that were timed. times_ms: the median of each layer, by name; the mean where no median was kept."""

    count: int
    times_ms: dict[str, float]


def load_json(text: str) -> Any:
    """Raises ValueError. TensorRT 8.6 and 10 write separators into names that JSON forbids; they are let through."""
    try:
        return json.loads(text, strict=False)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"it is no JSON ({error})") from error


def parse_inspection(text: str) -> Inspection:
    """Read the inspector's JSON. Raises ValueError, which tells what is not as expected, so that no layer is lost."""
    data = load_json(text)
    if is_profile(data):
        raise ValueError("it holds the times of layers, not the layers")
    if not isinstance(data, dict) or not isinstance(data.get("Layers"), list):
        raise ValueError("it holds no list of layers")
    names = unique_names(_name(item) for item in data["Layers"])
    layers = [_layer(name, item) for name, item in zip(names, data["Layers"], strict=True)]
    others = [layer for layer in layers if _OTHER_PROFILE.search(layer.name)]
    first = [layer for layer in layers if not _OTHER_PROFILE.search(layer.name)]
    return Inspection(tuple(first), tuple(others))


def parse_layer_times(text: str) -> LayerTimes:
    """Read trtexec's profile. Raises ValueError, which tells what is not as expected."""
    data = load_json(text)
    if not is_profile(data):
        raise ValueError("it holds no times of layers as trtexec --exportProfile writes them")
    rows = data[1:]
    names = unique_names(_name(item) for item in rows)
    return LayerTimes(int(data[0]["count"]), {name: _time(item) for name, item in zip(names, rows, strict=True)})


def is_profile(data: Any) -> bool:
    """Whether it is trtexec's profile: a list that starts with the number of runs."""
    return isinstance(data, list) and bool(data) and isinstance(data[0], dict) and isinstance(data[0].get("count"), int)


def _name(item: Any) -> str:
    """TensorRT gives a layer as an object when the verbosity is DETAILED, else as its name; trtexec writes 'name'."""
    name = item.get("Name", item.get("name")) if isinstance(item, dict) else item
    if not isinstance(name, str):
        raise ValueError(f"a layer without a name: {json.dumps(item)[:200]}")
    return name


def unique_names(names: Iterable[str]) -> list[str]:
    """Layers of one name are told apart by a number, in the list of layers and in that of times alike."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return found


def _time(item: dict[str, Any]) -> float:
    value = next((item[name] for name in _TIMES if name in item), None)
    if not isinstance(value, int | float):
        raise ValueError(f"a layer without a time: {json.dumps(item)[:200]}")
    return float(value)


def _layer(name: str, item: dict[str, Any] | str) -> LayerInfo:
    if isinstance(item, str):
        return LayerInfo(name, "", (), (), "", ())
    if not isinstance(item.get("LayerType"), str):
        raise ValueError(f"a layer without a type: {json.dumps(item)[:200]}")
    weights = item.get("Weights", item.get("ConvWeights"))
    weights_dtype = weights.get("Type", "") if isinstance(weights, dict) else ""
    return LayerInfo(
        name=name,
        kind=item["LayerType"],
        inputs=_tensors(item, "Inputs"),
        outputs=_tensors(item, "Outputs"),
        tactic=_told(item, "TacticName", ""),
        nodes=metadata_nodes(_told(item, "Metadata", "")),
        stream=_told(item, "StreamId", 0),
        weights_dtype=str(weights_dtype),
        details=tuple(
            (key, value if isinstance(value, str) else json.dumps(value))
            for key, value in item.items()
            if key not in _OWN_FIELDS
        ),
    )


def _told(item: dict[str, Any], key: str, default: _Told) -> _Told:
    value = item.get(key, default)
    if not isinstance(value, type(default)):
        raise ValueError(f"{key} of {item['Name']} in an unknown form: {json.dumps(value)[:200]}")
    return value


def _tensors(item: dict[str, Any], side: str) -> tuple[LayerTensor, ...]:
    tensors = item.get(side, [])
    if not isinstance(tensors, list) or not all(isinstance(tensor, dict) for tensor in tensors):
        raise ValueError(f"{side} of {item['Name']} in an unknown form: {json.dumps(tensors)[:200]}")
    return tuple(_tensor(tensor) for tensor in tensors)


def _tensor(tensor: dict[str, Any]) -> LayerTensor:
    """Up to release 10 'Format/Datatype' tells both: 'Channel major FP16 format where channel % 8 == 0', or 'Half'."""
    try:
        name, shape = tensor["Name"], tuple(int(size) for size in tensor["Dimensions"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"a tensor in an unknown form: {json.dumps(tensor)[:200]}") from error
    both = str(tensor.get("Format/Datatype", ""))
    found = _DTYPE.search(both)
    dtype = tensor.get("Datatype", tensor.get("DataType", found[0] if found else ""))
    layout = tensor.get("Format", "" if both == dtype else both)
    return LayerTensor(name, shape, str(dtype), str(layout))
