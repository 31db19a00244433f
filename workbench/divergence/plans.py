"""Tensors inside an engine of ONNX Runtime: its plan is the optimized model, so that a copy of it can give them out.

Nothing is built or fused anew. In the processor's blocked layout (NCHWc: channels in groups beside one another) tensors
have names of their own; a ReorderOutput node puts each back beside the network, which stays as it is.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, ValueInfoProto

from workbench.backends.onnxruntime_layers import BLOCKED, CAST, Network, readers_of
from workbench.engine import Engine, read_layers
from workbench.model import Model
from workbench.tensor_shapes import TensorShape

_REORDERED, _RESHAPED = (re.compile(rf"{word}(_token_\d+)?") for word in ("reorder", "reshape"))
_SHOWN = "given out: "


@dataclass(frozen=True)
class Place:
    """Where a tensor of the model lies in an engine.

    layer: the one that writes it. dtype: as the back end calls it, '' if untold. source: its name there. channels: how
    many it has where it lies in the blocked layout, else 0.
    """

    layer: str
    dtype: str = ""
    source: str = ""
    channels: int = 0


def read_plan(engine: Engine) -> ModelProto:
    """The optimized model, without weights that lie in a file of their own."""
    return onnx.load(str(engine.plan_path), load_external_data=False)


def places_in_plan(
    engine: Engine, plan: ModelProto, model: Model, types: Mapping[str, TensorShape]
) -> dict[str, Place]:
    """The model's tensors that the plan still computes. types: of the model's tensors.

    What optimizing renamed past recognition, or fused away, is left out.
    """
    made = {name for node in model.nodes for name in node.output if name}
    finder = _Finder(model, plan)
    found: dict[str, Place] = {}
    for node, layer in zip(plan.graph.node, read_layers(engine), strict=True):
        for name in filter(None, node.output):
            tensor = name.removeprefix(CAST)
            if tensor in made:  # the rounded one comes last, where both are there
                found[tensor] = Place(found[tensor].layer if tensor in found else layer.name, source=name)
        for tensor, source in finder.blocked(node):
            channels = _channels(types.get(tensor))
            if channels and tensor not in found:
                found[tensor] = Place(layer.name, source=source, channels=channels)
    return found


def write_copy(
    engine: Engine, plan: ModelProto, places: Mapping[str, Place], folder: Path
) -> tuple[Path, dict[str, str]]:
    """Write the plan with these tensors among its outputs into `folder`; returns its path and their names there."""
    copy = ModelProto()
    copy.CopyFrom(plan)
    graph, shown, names = copy.graph, {value.name for value in plan.graph.output}, {}
    for tensor, place in places.items():
        names[tensor] = _SHOWN + tensor if place.channels else place.source
        if place.channels:
            graph.node.append(_reorder(place, names[tensor]))
        if names[tensor] not in shown:
            shown.add(names[tensor])
            graph.output.append(ValueInfoProto(name=names[tensor]))
    path = folder / engine.plan
    path.write_bytes(copy.SerializeToString())
    for name in engine.files:
        if name.startswith(engine.plan) and name != engine.plan:
            _link(engine.folder / name, folder / name)
    return path, names


def _reorder(place: Place, name: str) -> NodeProto:
    return onnx.helper.make_node(
        "ReorderOutput", [place.source], [name], name=name, domain=BLOCKED, channels=place.channels
    )


def _link(source: Path, target: Path) -> None:
    """A second name for the file, or a copy where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _channels(tensor: TensorShape | None) -> int:
    """The size of the second axis, 0 if it is not known."""
    size = tensor.shape[1] if tensor is not None and tensor.shape is not None and len(tensor.shape) > 1 else None
    return size if isinstance(size, int) else 0


class _Finder:
    """Which tensor of the model a node of the plan writes in the blocked layout."""

    def __init__(self, model: Model, plan: ModelProto) -> None:
        self._nodes = {node.name: node for node in model.nodes}
        self._network, self._plan_readers = Network(model), readers_of(plan.graph.node)

    def blocked(self, node: NodeProto) -> Iterator[tuple[str, str]]:
        """Pairs of the model's name and the plan's."""
        if node.domain == BLOCKED and node.name.endswith("_nchwc"):
            tensor = self._network.blocked(node)
            if tensor:
                yield tensor, node.output[0]
            return
        own = self._nodes.get(node.name)
        if own is None or own.op_type != node.op_type or node.domain not in ("", "ai.onnx"):
            return
        for name, tensor in zip(node.output, own.output, strict=False):
            source = self._reordered(name)
            if source:
                yield tensor, source

    def _reordered(self, name: str) -> str:
        """Sums are taken of flattened blocks, which a Reshape then gives their four axes back."""
        if _REORDERED.fullmatch(name):
            return name
        readers = self._plan_readers.get(name, ())
        if _RESHAPED.fullmatch(name) and len(readers) == 1 and readers[0].op_type == "Reshape":
            return readers[0].output[0] if _REORDERED.fullmatch(readers[0].output[0]) else ""
        return ""
