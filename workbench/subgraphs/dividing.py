"""Which nodes of a model a back end takes, cut into subgraphs as Paddle-TRT's subgraph mode does."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from itertools import count
from pathlib import Path

from workbench import backends
from workbench.build_process import run_child
from workbench.cutting import Cutter
from workbench.errors import ConfigError, ShapeError
from workbench.model import Model, operator
from workbench.subgraphs.grouping import Group, group_nodes
from workbench.subgraphs.releases import refused_by_release
from workbench.tensor_shapes import TensorShape
from workbench.tensor_types import find_types
from workbench.types import Listener, Refusal, Shape, count_of, ignore

NATIVE = "native"
"""What runs the nodes that no engine takes: ONNX Runtime."""
DISABLED = "left native, as you wish (disable_ops)"


@dataclass(frozen=True)
class Part:
    """Nodes that run together: a subgraph that becomes an engine, or what lies between and stays native.

    id: 'trt_0', 'trt_1', ... or 'native_0', ...; backend: what builds it ('rtx'), or NATIVE. nodes: names, in the
    model's order. inputs, outputs: the tensors that cross its border, weights left out.
    """

    id: str
    backend: str
    nodes: tuple[str, ...]
    inputs: tuple[TensorShape, ...]
    outputs: tuple[TensorShape, ...]

    @property
    def is_engine(self) -> bool:
        return self.backend != NATIVE

    @property
    def border_bytes(self) -> int | None:
        """All that crosses its border in one run; None while a size is not known."""
        return _total_bytes((*self.inputs, *self.outputs))


@dataclass(frozen=True)
class Partition:
    """parts: every node in exactly one of them, in an order in which they can run; Constant nodes in none, as each
    part that reads one gets a copy, like a weight. refusals: the nodes that the back end does not take, with reasons;
    those of subgraphs below min_subgraph_size are native without being refused, and so are those that no output depends
    on, unless the model is taken as a whole."""

    model: Model
    backend: str
    min_subgraph_size: int
    parts: tuple[Part, ...]
    refusals: tuple[Refusal, ...]

    def __str__(self) -> str:
        engines, native = len(self.engines), len(self.parts) - len(self.engines)
        parts = f"{count_of(engines, f'{self.backend} engine')}, {count_of(native, 'native part')}"
        return f"{self.model.name}: {parts} (min_subgraph_size {self.min_subgraph_size})"

    @property
    def engines(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.is_engine)

    @cached_property
    def border(self) -> tuple[TensorShape, ...]:
        """What one part makes and another reads, each once."""
        read = {tensor.name for part in self.parts for tensor in part.inputs}
        return tuple(tensor for part in self.parts for tensor in part.outputs if tensor.name in read)

    @property
    def border_tensors(self) -> int:
        return len(self.border)

    @property
    def border_bytes(self) -> int | None:
        """What goes from one part to another in one run; None while a size is not known."""
        return _total_bytes(self.border)


@dataclass(frozen=True)
class NodeSupport:
    """What a back end says of every node of a model. tensors: type and shape of what is fed and made, by name."""

    model: Model
    backend: str
    refusals: tuple[Refusal, ...]
    tensors: Mapping[str, TensorShape]

    @cached_property
    def cutter(self) -> Cutter:
        return Cutter(self.model)

    def at(self, shapes: Mapping[str, Shape]) -> NodeSupport:
        """The same with every tensor's shape for inputs of these shapes. Raises ShapeError where they do not fit."""
        ranks = {spec.name: len(spec.shape) for spec in self.model.inputs}
        for name, shape in shapes.items():
            if ranks.get(name) != len(shape):
                told = ", ".join(map(str, self.model.inputs))
                raise ShapeError(f"{name} of shape {list(shape)} does not fit; the inputs are {told}.")
        return replace(self, tensors=find_types(self.model, shapes))


def find_support(
    model: Model,
    backend: str,
    *,
    disable_ops: Iterable[str] = (),
    release: str | None = None,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> NodeSupport:
    """Ask a back end for every node, in a process of its own.

    disable_ops: operators or names of nodes that stay native whatever it says. release: refuse also what this release
    of TensorRT lacks. Raises BackendError when the back end cannot be used here, ConfigError, BuildError when its
    process dies, ModelError when external weights are gone, Cancelled.
    """
    _ = model.stamps  # without its weights the parser would refuse what it takes
    backends.ready(backends.load(backend).support())
    excluded = {**(refused_by_release(model, release) if release else {}), **_disabled(model, disable_ops)}
    task = {"task": "find_support", "excluded": excluded}
    with tempfile.TemporaryDirectory() as folder:
        answer, _ = run_child(model, backend, task, Path(folder), listener, cancel or threading.Event())
    tensors = {item["name"]: TensorShape(**{**item, "shape": _shape(item["shape"])}) for item in answer["tensors"]}
    return NodeSupport(model, backend, tuple(Refusal(**item) for item in answer["refusals"]), tensors)


def divide(support: NodeSupport, min_subgraph_size: int = 3) -> Partition:
    """Cut the model at the nodes that are refused; quick, so that a slider may call it.

    An engine is as large as it can be without a cycle through other parts; one with fewer than min_subgraph_size
    nodes, Constant nodes not counted, stays native. Raises ConfigError for a min_subgraph_size below 1.
    """
    if min_subgraph_size < 1:
        raise ConfigError(f"min_subgraph_size is {min_subgraph_size}; an engine has at least 1 operator.")
    cutter = support.cutter
    refused = {item.node for item in support.refusals}
    taken = [node.name not in refused for node in cutter.nodes]
    if not refused and len(cutter.dead) < len(taken) >= min_subgraph_size:
        groups: tuple[Group, ...] = (Group(True, tuple(range(len(taken)))),)
    else:
        alive = [mine and index not in cutter.dead for index, mine in enumerate(taken)]
        groups = group_nodes(cutter.sources, alive, min_subgraph_size, cutter.unfed)
    numbers = {True: count(), False: count()}
    parts = tuple(_part(support, group, next(numbers[group.is_engine])) for group in groups)
    return Partition(support.model, support.backend, min_subgraph_size, parts, support.refusals)


def _part(support: NodeSupport, group: Group, number: int) -> Part:
    inputs, outputs = support.cutter.border(group.nodes)
    return Part(
        id=f"trt_{number}" if group.is_engine else f"native_{number}",
        backend=support.backend if group.is_engine else NATIVE,
        nodes=tuple(support.cutter.nodes[index].name for index in group.nodes),
        inputs=tuple(support.tensors[name] for name in inputs),
        outputs=tuple(support.tensors[name] for name in outputs),
    )


def steps(support: NodeSupport) -> tuple[Partition, ...]:
    """What every min_subgraph_size leaves: at 1, and at each larger one from which on something changes, down to no
    engine."""
    found = [divide(support, 1)]
    while found[-1].engines:
        found.append(divide(support, min(len(part.nodes) for part in found[-1].engines) + 1))
    return tuple(found)


def step_words(found: Sequence[Partition]) -> list[str]:
    """The sizes that each of `steps` stands for: '1 to 4', '5', '6 or more'."""
    ends = [item.min_subgraph_size - 1 for item in found[1:]]
    pairs = zip((item.min_subgraph_size for item in found), ends, strict=False)
    last = [f"{found[-1].min_subgraph_size} or more"] if found else []
    return [str(start) if start == end else f"{start} to {end}" for start, end in pairs] + last


def partition(
    model: Model,
    backend: str,
    min_subgraph_size: int = 3,
    *,
    disable_ops: Iterable[str] = (),
    release: str | None = None,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Partition:
    """What `divide` makes of what `find_support` finds, which tell the rest."""
    support = find_support(model, backend, disable_ops=disable_ops, release=release, listener=listener, cancel=cancel)
    return divide(support, min_subgraph_size)


def cut(model: Model, part: Part) -> Model:
    """A part as a model of its own: inputs and outputs are the tensors that cross its border, with these shapes."""
    names = set(part.nodes)
    nodes = (node for node in model.nodes if node.name in names)
    return Cutter(model).cut(nodes, part.inputs, part.outputs, part.id)


def _total_bytes(tensors: Iterable[TensorShape]) -> int | None:
    sizes = [tensor.bytes for tensor in tensors]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _disabled(model: Model, names: Iterable[str]) -> dict[str, str]:
    """Node -> reason, for operators and nodes of these names. Raises ConfigError for a name that the model lacks."""
    wanted = set(names)
    known = {*model.operators, *(node.name for node in model.nodes)}
    unknown = sorted(wanted - known)
    if unknown:
        near = get_close_matches(unknown[0], sorted(known), cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"its operators are {', '.join(model.operators)}."
        raise ConfigError(f"the model has no operator and no node {unknown[0]!r} to disable; {hint}")
    return {node.name: DISABLED for node in model.nodes if not wanted.isdisjoint((node.name, operator(node)))}


def _shape(sizes: list[int | str | None] | None) -> tuple[int | str | None, ...] | None:
    return None if sizes is None else tuple(sizes)
