"""Pictures of what happened to a network: fused into an engine's layers, or cut into engines and native parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from workbench.fusion import Fate, Fusion, Group, Node, nodes_of
from workbench.fusion.nodes import NodeGraph
from workbench.picture import ENGINE, NATIVE, VARIABLE, Arrow, Box, Pane, Picture
from workbench.picture.folders import folders_of
from workbench.subgraphs import Part, Partition
from workbench.tensor_shapes import TensorShape
from workbench.types import Dim, count_of

_SILENT = ("constant", "sync")
"""Layers that pass no activation on: tables list them, the picture does not."""


@dataclass(frozen=True)
class _Item:
    """A box with the tensors it reads and makes; arrows follow from them."""

    box: Box
    inputs: Sequence[str]
    outputs: Sequence[str]


def fusion_picture(fusion: Fusion, title: str) -> Picture:
    """The network's nodes before, the engine's layers after, linked. What works on constants only is not drawn."""
    groups = [group for group in fusion.groups if group.kind not in _SILENT]
    constants = {item.name for group in fusion.groups if group.kind == "constant" for item in group.layer.outputs}
    tensors = [item for group in groups for item in (*group.layer.inputs, *group.layer.outputs)]
    shapes = {item.name: f"{item.dtype}{_dims(item.shape)}" for item in tensors}
    layers = [_layer_item(group, shapes) for group in groups]
    variables = _variables(layers, constants, shapes)
    after = replace(_pane("Engine", [*variables[0], *layers, *variables[1]], shapes), noun="layer")
    if not fusion.nodes:
        return Picture(title, Pane("", (), ()), after, (), _fusion_colors(groups))
    by_layer = {group.layer.name: group for group in groups}
    fates = {fate.node: fate for fate in fusion.fates}
    folded = NodeGraph(fusion.nodes).constants
    drawn = [node for node in fusion.nodes if node.name not in folded]
    folders = folders_of([node.name for node in drawn], [node.op_type for node in drawn])
    nodes = [
        _node_item(node, path, fates.get(node.name), by_layer, shapes)
        for node, path in zip(drawn, folders, strict=True)
    ]
    ends = _ends_of(nodes, {item.box.name for side in variables for item in side})
    before = _pane("ONNX network", [*ends[0], *nodes, *ends[1]], shapes)
    before = replace(before, left_out=len(fusion.nodes) - len(drawn))
    pairs = [(node, group.layer.name) for group in groups for node in group.nodes]
    return Picture(title, before, after, _links(before, after, pairs), _fusion_colors(groups))


def partition_picture(partition: Partition, shapes: Mapping[str, TensorShape] | None = None) -> Picture:
    """The network before, what runs after: a block for every engine, native nodes as they are, borders in red.

    shapes: of the tensors inside, for the arrows; those at borders are known.
    """
    known = {name: _shape_text(item) for name, item in (shapes or {}).items()}
    known |= {item.name: _shape_text(item) for part in partition.parts for item in (*part.inputs, *part.outputs)}
    drawn = [node for node in nodes_of(partition.model) if node.op_type != "Constant"]
    part_of = {name: part for part in partition.parts for name in part.nodes}
    reasons = {refusal.node: refusal.reason for refusal in partition.refusals}
    folders = folders_of([node.name for node in drawn], [node.op_type for node in drawn])
    nodes = {
        node.name: _partitioned_item(node, path, part_of.get(node.name), reasons.get(node.name, ""), known)
        for node, path in zip(drawn, folders, strict=True)
    }
    weights = {tensor.name for tensor in partition.model.proto.graph.initializer}
    inputs = [_variable(spec.name, known, outputs=[spec.name]) for spec in partition.model.inputs]
    outputs = [_variable(spec.name, known, inputs=[spec.name]) for spec in partition.model.outputs]
    before = _pane("Original network", [*inputs, *nodes.values(), *outputs], known, weights)
    borders = {item.name for part in partition.engines for item in (*part.inputs, *part.outputs)}
    borders -= {spec.name for spec in (*partition.model.inputs, *partition.model.outputs)}
    converted = _through_variables([*inputs, *_converted(partition, nodes), *outputs], borders, known)
    after = replace(_pane("Converted network", converted, known, weights), noun="step")
    pairs = [(name, part.id if part.is_engine else name) for part in partition.parts for name in part.nodes]
    title = f"{partition.model.name} · min_subgraph_size {partition.min_subgraph_size}"
    return Picture(title, before, after, _links(before, after, pairs), ("side", "part"))


def _converted(partition: Partition, nodes: Mapping[str, _Item]) -> Iterable[_Item]:
    for part in partition.parts:
        if part.is_engine:
            yield _engine_item(part)
        else:
            yield from (nodes[name] for name in part.nodes if name in nodes)


def _through_variables(items: Sequence[_Item], names: set[str], known: Mapping[str, str]) -> list[_Item]:
    """The same items with a variable of its own for each of these tensors, between its maker and its readers."""
    after = {name: f"{name}\0" for name in names}
    found: list[_Item] = []
    for item in items:
        found.append(replace(item, inputs=[after.get(name, name) for name in item.inputs]))
        found += [
            _variable(name, known, inputs=[name], outputs=[after[name]]) for name in item.outputs if name in names
        ]
    return found


def _engine_item(part: Part) -> _Item:
    facts = (
        ("engine", part.backend),
        ("operators", f"{len(part.nodes):,}"),
        *(("in", f"{item.name}  {_shape_text(item)}") for item in part.inputs),
        *(("out", f"{item.name}  {_shape_text(item)}") for item in part.outputs),
    )
    box = Box(f"{part.id} · {count_of(len(part.nodes), 'operator')}", part.id, side=ENGINE, part=part.id, facts=facts)
    return _Item(box, [item.name for item in part.inputs], [item.name for item in part.outputs])


def _partitioned_item(
    node: Node, folders: tuple[str, ...], part: Part | None, reason: str, known: Mapping[str, str]
) -> _Item:
    is_engine = part is not None and part.is_engine
    facts = [("refused", reason)] if reason else []
    facts.append(("runs in", part.id if part else NATIVE))
    box = Box(
        node.op_type, node.name, folders, side=ENGINE if is_engine else NATIVE, part=part.id if part else "",
        facts=(*facts, *_made(node, known)),
    )  # fmt: skip
    return _Item(box, node.inputs, node.outputs)


def _node_item(
    node: Node,
    folders: tuple[str, ...],
    fate: Fate | None,
    layers: Mapping[str, Group],
    shapes: Mapping[str, str],
) -> _Item:
    group = next((layers[name] for name in (fate.layers if fate else ()) if name in layers), None)
    facts: list[tuple[str, str]] = []
    if fate is not None and fate.kind != "kernel":
        facts.append(("fate", f"{fate.kind}: {fate.reason}"))
    facts += [("in kernel", name) for name in (fate.layers if fate else ())]
    box = Box(
        node.op_type,
        node.name,
        folders,
        group=group.layer.name if group else None,
        kind=group.kind if group else fate.kind if fate else "",
        precision=group.layer.precision if group else "",
        time_ms=group.time_ms if group else None,
        facts=(*facts, *_made(node, shapes)),
    )
    return _Item(box, node.inputs, node.outputs)


def _layer_item(group: Group, shapes: Mapping[str, str]) -> _Item:
    layer = group.layer
    facts = [("kind", group.kind), ("layer type", layer.kind), ("tactic", layer.tactic)]
    facts += [("time", f"{group.time_ms:.4f} ms")] if group.time_ms is not None else []
    facts += [("does", node) for node in group.nodes]
    facts += [("in", f"{item.name}  {shapes[item.name]}") for item in layer.inputs]
    facts += [("out", f"{item.name}  {shapes[item.name]}") for item in layer.outputs]
    box = Box(
        group.label,
        layer.name,
        group=layer.name if group.nodes else None,
        kind=group.kind,
        precision=layer.precision,
        time_ms=group.time_ms,
        facts=tuple((name, value) for name, value in facts if value),
    )
    return _Item(box, [item.name for item in layer.inputs], [item.name for item in layer.outputs])


def _made(node: Node, known: Mapping[str, str]) -> list[tuple[str, str]]:
    return [("out", f"{name}  {known.get(name, '')}".rstrip()) for name in node.outputs if name]


def _variable(name: str, known: Mapping[str, str], *, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> _Item:
    facts = (("tensor", known[name]),) if known.get(name) else ()
    return _Item(Box(name, name, kind="variable", side=VARIABLE, facts=facts), inputs, outputs)


def _variables(
    layers: Sequence[_Item], constants: set[str], shapes: Mapping[str, str]
) -> tuple[list[_Item], list[_Item]]:
    """What an engine reads and nobody makes, and what it makes and nobody reads."""
    read = dict.fromkeys(name for item in layers for name in item.inputs if name not in constants)
    made = dict.fromkeys(name for item in layers for name in item.outputs)
    return (
        [_variable(name, shapes, outputs=[name]) for name in read if name not in made],
        [_variable(name, shapes, inputs=[name]) for name in made if name not in read],
    )


def _ends_of(nodes: Sequence[_Item], names: Iterable[str]) -> tuple[list[_Item], list[_Item]]:
    """Inputs and outputs of a network of which only the nodes are known: the variables of its engine."""
    wanted = set(names)
    read = {name for item in nodes for name in item.inputs}
    made = {name for item in nodes for name in item.outputs}
    return (
        [_variable(name, {}, outputs=[name]) for name in sorted(wanted & read - made)],
        [_variable(name, {}, inputs=[name]) for name in sorted(wanted & made)],
    )


def _pane(title: str, items: Sequence[_Item], shapes: Mapping[str, str], weights: Iterable[str] = ()) -> Pane:
    """An arrow from what makes a tensor to everything that reads it."""
    makers: dict[str, int] = {}
    for place, item in enumerate(items):
        for name in item.outputs:
            makers.setdefault(name, place)
    for name in weights:
        makers.pop(name, None)
    arrows = dict.fromkeys(
        (makers[name], place, name)
        for place, item in enumerate(items)
        for name in item.inputs
        if name in makers and makers[name] != place
    )
    return Pane(
        title,
        tuple(item.box for item in items),
        tuple(Arrow(source, target, shapes.get(name, "")) for source, target, name in arrows),
    )


def _links(before: Pane, after: Pane, pairs: Iterable[tuple[str, str]]) -> tuple[tuple[int, int], ...]:
    """Places of the named boxes; variables of both panes belong together if they share their name."""
    left = {(box.name, box.kind == "variable"): place for place, box in enumerate(before.boxes)}
    right = {(box.name, box.kind == "variable"): place for place, box in enumerate(after.boxes)}
    same = [(left[key], right[key]) for key in left if key[1] and key in right]
    named = [
        (left[node, False], right[layer, False])
        for node, layer in pairs
        if (node, False) in left and (layer, False) in right
    ]
    return tuple(sorted({*same, *named}))


def _fusion_colors(groups: Iterable[Group]) -> tuple[str, ...]:
    timed = any(group.time_ms is not None for group in groups)
    return ("fusion", "kind", "precision", *(["time"] if timed else []))


def _shape_text(item: TensorShape) -> str:
    return f"{item.dtype}{'[?]' if item.shape is None else _dims(item.shape)}"


def _dims(shape: Iterable[Dim]) -> str:
    return f"[{'×'.join('?' if dim is None or dim == -1 else str(dim) for dim in shape)}]"
