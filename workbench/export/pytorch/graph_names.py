"""Names in an exported graph: inputs and outputs as the user wants them, nodes after the modules they come from."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from onnx import GraphProto, ModelProto, NodeProto, helper

from workbench.model import graphs, subgraphs

_SCOPES, _TRACE = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.stack_trace"
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in [^\n]+\n\s*(?P<code>[^\n]+)')


def set_interface(proto: ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[str, ...]:
    """Give the graph's inputs and outputs these names, in their order, whatever the exporter called them.

    An inner value that has one of the names gets another: exporters let both have it, and ONNX Runtime then refuses
    the file. An output that is an input, a weight or another output gets an Identity node of its own.
    Returns the inner names that had to yield.
    """
    graph = proto.graph
    _part_outputs(graph)
    new = dict(zip([value.name for value in graph.input], inputs, strict=True))
    new |= dict(zip([value.name for value in graph.output], outputs, strict=True))
    taken, wanted = _all_names(graph), {*inputs, *outputs}
    yielding = sorted((wanted & taken) - new.keys())
    for name in yielding:
        number = 1
        while f"{name}_{number}" in taken | wanted:
            number += 1
        new[name] = f"{name}_{number}"
        taken.add(new[name])
    rename_values(graph, new)
    return tuple(yielding)


def rename_values(graph: GraphProto, new: Mapping[str, str]) -> None:
    """Rename values everywhere, in the bodies of If, Loop and Scan too. All at once, so that names can be swapped."""
    for item in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.name = new.get(item.name, item.name)
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = new.get(name, name)
        for inner in subgraphs(node):
            rename_values(inner, new)


def _part_outputs(graph: GraphProto) -> None:
    taken = _all_names(graph)
    seen = {item.name for item in (*graph.input, *graph.initializer)}
    for output in graph.output:
        name, number = output.name, 1
        while output.name in seen:
            fresh = f"{name}_copy_{number}"
            number += 1
            if fresh not in taken:
                graph.node.append(helper.make_node("Identity", [name], [fresh], name=f"Identity_{fresh}"))
                taken.add(fresh)
                output.name = fresh
        seen.add(output.name)


def _all_names(graph: GraphProto) -> set[str]:
    names = {item.name for item in (*graph.input, *graph.output, *graph.value_info, *graph.initializer)}
    for node in graph.node:
        names.update(node.input, node.output)
        for inner in subgraphs(node):
            names |= _all_names(inner)
    return names - {""}


def name_nodes(proto: ModelProto, root: str) -> dict[str, str]:
    """Name nodes after the modules they come from, '/layer1/0/conv1/Conv', whichever exporter wrote them, and weights
    as in the module's state_dict.

    root: the attribute under which the exporter saw the user's module. What PyTorch noted on its nodes, with paths of
    this machine in it, is dropped. Returns the user's line of source for each node that has one, by its new name.
    """
    counts: Counter[str] = Counter()
    sources = {}
    weights = {tensor.name for tensor in proto.graph.initializer}
    taken = _all_names(proto.graph)
    for node in (node for graph in graphs(proto.graph) for node in graph.node):
        path = _path(node, root, weights)
        if path is None:
            continue
        name = f"{path}/{node.op_type}"
        counts[name] += 1
        node.name = name if counts[name] == 1 else f"{name}_{counts[name] - 1}"
        source = _source(_notes(node).get(_TRACE, ""))
        if source:
            sources[node.name] = source
    plain = {name: name.removeprefix(f"{root}.") for name in weights if name.startswith(f"{root}.")}
    rename_values(proto.graph, {old: new for old, new in plain.items() if new not in taken})
    drop_notes(proto)
    return sources


def drop_notes(proto: ModelProto) -> None:
    """Clear doc strings and metadata: they hold paths of this machine, and two exports would differ by them."""
    every = list(graphs(proto.graph))
    for graph in every:
        for item in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph):
            item.doc_string = ""
            del item.metadata_props[:]


def _path(node: NodeProto, root: str, weights: set[str]) -> str | None:
    """'/layer1/0/conv1' of a node; None where the exporter's own name is as good."""
    notes = _notes(node)
    if _SCOPES not in notes:
        return _classic_path(node.name, root)
    own = [name.removesuffix(".weight") for name in node.input if name in weights and name.endswith(".weight")]
    scopes = [] if own else [str(scope) for scope in ast.literal_eval(notes[_SCOPES])[:-1]]
    module = next(iter(own), scopes[-1] if scopes else "")
    module = module.removeprefix(root).lstrip(".")
    return f"/{module.replace('.', '/')}" if module and not module.startswith("_empty_nn_module_stack") else ""


def _classic_path(name: str, root: str) -> str | None:
    """The classic exporter writes '/module/layer1/layer1.0/conv1/Conv'."""
    first, *parts = name.split("/")[1:-1] or [""]
    if first != root:
        return None
    shorter = [part.removeprefix(f"{before}.") for before, part in zip(["", *parts], parts, strict=False)]
    return "".join(f"/{part}" for part in shorter)


def _notes(node: NodeProto) -> dict[str, str]:
    return {item.key: item.value for item in node.metadata_props}


def _source(trace: str) -> str:
    """'net.py:12 `x.view(2, -1)`' of the innermost frame that is not PyTorch's."""
    frames = [match for match in _FRAME.finditer(trace) if "/torch/" not in match["file"].replace("\\", "/")]
    return f"{frames[-1]['file']}:{frames[-1]['line']} `{frames[-1]['code'].strip()}`" if frames else ""
