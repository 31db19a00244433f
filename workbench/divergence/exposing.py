"""A model with inner tensors among its outputs, built as an engine was; and what that did to the fusion."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from onnx import ModelProto

from workbench.building import build
from workbench.calibration.exposed import float_tensors
from workbench.cutting import value_info
from workbench.divergence.plans import Place
from workbench.engine import Engine, read_layers
from workbench.errors import Cancelled
from workbench.fusion import Fusion, diff, link, nodes_of
from workbench.fusion.nodes import NodeGraph
from workbench.layers import precision_name
from workbench.model import Model
from workbench.store import EngineStore
from workbench.tensor_shapes import TensorShape
from workbench.tensor_types import find_types
from workbench.types import Listener, count_of, ignore

_BUILDS = 3


class Network:
    """What there is to see of a model: its tensors and the nodes that make them. types: of all its tensors."""

    def __init__(self, model: Model) -> None:
        self.model, self.types = model, find_types(model)
        self.nodes = nodes_of(model)
        self.graph = NodeGraph(self.nodes)

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """Floats that depend on what is fed and that an output needs, in the model's order, and the model's outputs."""
        outputs = {spec.name for spec in self.model.outputs}
        counted, repeated = float_tensors(self.model)
        floats = {*counted, *repeated}
        return tuple(
            name
            for node in self.nodes
            for name in node.outputs
            if name in outputs or (name in floats and node.name not in self.graph.dead)
        )

    def inner(self, names: Iterable[str]) -> list[str]:
        """Those that are no outputs of the model."""
        outputs = {spec.name for spec in self.model.outputs}
        return [name for name in names if name not in outputs]

    def makers(self, names: Collection[str]) -> set[str]:
        """The nodes that make these tensors."""
        return {self.graph.producers[name].name for name in names if name in self.graph.producers}


@dataclass(frozen=True)
class Workshop:
    """Where exposed engines are built, and who hears of it."""

    store: EngineStore
    listener: Listener = ignore
    cancel: threading.Event | None = None

    def check(self) -> None:
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled("cancelled; the engines were not compared.")

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """For a while; on the store's own disk where it can be written, so that large weights need no copy."""
        if self.store.writable:
            with self.store.staging() as folder:
                yield folder
        else:
            with tempfile.TemporaryDirectory() as name:
                yield Path(name)


@dataclass(frozen=True)
class FusionChange:
    """The kernels of an engine, before and after `exposed` of its tensors became outputs.

    unit: what is counted, 'kernel' or 'layer'. regrouped: nodes that run together with others than before. recast:
    nodes whose kernels compute in another precision.
    """

    exposed: int
    unit: str
    before: int
    after: int
    regrouped: frozenset[str]
    recast: frozenset[str]

    @property
    def touched(self) -> frozenset[str]:
        """The nodes that are done in another way."""
        return self.regrouped | self.recast

    @property
    def is_change(self) -> bool:
        return bool(self.touched or self.before != self.after)

    def __str__(self) -> str:
        tensors, kernels = count_of(self.exposed, "tensor"), count_of(self.before, self.unit)
        if not self.is_change:
            return f"exposing {tensors} left the fusion as it is: the same {kernels}."
        became = f"{kernels} became {self.after:,}" if self.before != self.after else f"there are {kernels} still"
        grouped = bool(self.regrouped) and self.unit == "kernel"
        parts = [f"{count_of(len(self.regrouped), 'node')} run together with others"] * grouped
        parts += [f"{count_of(len(self.recast), 'node')} compute in another precision"] * bool(self.recast)
        told = f" ({', '.join(parts)})" if parts else ""
        return (
            f"exposing {tensors} changed the fusion: {became}{told}; the error may be another one than in the engine "
            "you ship."
        )


def expose(network: Network, names: Sequence[str], halved: Collection[str] = ()) -> Model:
    """The model with these tensors among its outputs. Nothing is written: weights stay in the model's own files.

    halved: those that lie in float16 in an engine to be looked into, and are to be given out so. TensorRT makes its
    outputs what the ONNX file says, and would write them in float32 by another kernel else.
    """
    proto = ModelProto()
    proto.CopyFrom(network.model.proto)
    shown = {value.name for value in proto.graph.output}
    tensors = (network.types.get(name, TensorShape(name, "", None)) for name in names if name not in shown)
    given = (replace(tensor, dtype="float16") if tensor.name in halved else tensor for tensor in tensors)
    proto.graph.output.extend(map(value_info, given))
    path = network.model.path
    return Model(proto, path.with_name(f"{path.stem}.exposed.onnx"))


def build_exposed(
    engine: Engine, network: Network, names: Sequence[str], shop: Workshop
) -> tuple[Engine, FusionChange]:
    """The engine once more, of the same configuration, with these tensors as outputs. Raises as `build` does."""
    model = expose(network, names, _in_halves(engine, network))
    built = build(
        model, engine.config, engine.backend, store=shop.store, listener=shop.listener, cancel=shop.cancel
    ).engine
    return built, fusion_change(engine, built, network, len(network.inner(names)))


def _in_halves(engine: Engine, network: Network) -> set[str]:
    """The tensors that a TensorRT engine keeps in float16 by its own choice."""
    if engine.backend != "tensorrt" or engine.precision not in ("fp16", "int8"):
        return set()
    found = places_in_layers(fusion_of(engine, network))
    return {name for name, place in found.items() if precision_name(place.dtype) == "fp16"}


def build_harmless(
    engine: Engine, network: Network, names: Sequence[str], shop: Workshop
) -> tuple[Engine, FusionChange, list[str]]:
    """As build_exposed, without the inner tensors whose nodes are done in another way for it, if some are left then and
    a few builds suffice to find them; third, the tensors that remain, the model's outputs always among them."""
    left, inner = list(names), set(network.inner(names))
    for further in range(_BUILDS - 1, -1, -1):
        built, change = build_exposed(engine, network, left, shop)
        calm = [name for name in left if name not in inner or not network.makers([name]) & change.touched]
        if len(calm) == len(left) or not network.inner(calm) or not further:
            break
        left = calm
    return built, change, left


def fusion_change(before: Engine, after: Engine, network: Network, exposed: int) -> FusionChange:
    """ONNX Runtime does not always tell which nodes a layer does the work of, so that its layers are compared by their
    kinds."""
    if before.backend == "onnxruntime":
        counts = [Counter(layer.kind for layer in read_layers(engine)) for engine in (before, after)]
        totals = [sum(count.values()) for count in counts]
        changed = () if counts[0] == counts[1] else network.graph.by_name
        return FusionChange(exposed, "layer", totals[0], totals[1], frozenset(changed), frozenset())
    found = diff(fusion_of(before, network), fusion_of(after, network))
    regrouped = frozenset(name for part in found.parts if part.regrouped for name in part.nodes)
    recast = frozenset(name for part in found.parts if part.recast for name in part.nodes)
    return FusionChange(exposed, "kernel", len(found.before.kernels), len(found.after.kernels), regrouped, recast)


def fusion_of(engine: Engine, network: Network) -> Fusion:
    return link(read_layers(engine), network.nodes)


def places_in_layers(fusion: Fusion) -> dict[str, Place]:
    """The model's tensors that the layers of an engine write, each with the kernel that does its node's work."""
    makers = {name: node.name for node in fusion.nodes for name in node.outputs if name}
    kernels = {name: group for group in fusion.kernels for name in group.nodes}
    found: dict[str, Place] = {}
    for group in fusion.groups:
        for tensor in group.layer.outputs:
            if tensor.name in makers:
                writer = group if group.nodes else kernels.get(makers[tensor.name], group)  # not a copy of its result
                found[tensor.name] = Place(writer.layer.name, tensor.dtype or writer.layer.precision, tensor.name)
    return found


def places_by_nodes(fusion: Fusion, names: Sequence[str]) -> dict[str, Place]:
    """Tensors that are outputs: wherever they lie, the kernel that does their node's work; '' if none names it."""
    written = places_in_layers(fusion)
    makers = {name: node.name for node in fusion.nodes for name in node.outputs if name}
    layers = {name: group.layer for group in fusion.kernels for name in group.nodes}
    found = {}
    for name in names:
        layer = layers.get(makers[name])
        found[name] = written.get(name) or Place(layer.name if layer else "", layer.precision if layer else "", name)
    return found
