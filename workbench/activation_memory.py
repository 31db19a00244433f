"""How much memory activations take: the tensors of a graph and how long each is needed."""

from __future__ import annotations

from collections.abc import Mapping

from workbench.model import Model, graphs, subgraphs

_VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"}


def peak_bytes(model: Model, tensor_bytes: Mapping[str, int]) -> int:
    """The most that is alive at once if every operator runs on its own, in the graph's order.

    A tensor lives from its node to its last reader, a view in what it looks at. tensor_bytes: by name; those that are
    not named, such as weights, count nothing.
    """
    sizes = dict(tensor_bytes)
    storage = {name: name for name in sizes}
    for node in model.nodes:
        if node.op_type in _VIEWS and node.input[0] in storage:
            storage[node.output[0]] = storage[node.input[0]]
            sizes[node.output[0]] = 0
    last: dict[str, int] = {}
    for index, node in enumerate(model.nodes):
        bodies = [graph for inner in subgraphs(node) for graph in graphs(inner)]
        captured = [name for graph in bodies for inner in graph.node for name in inner.input]
        captured += [output.name for graph in bodies for output in graph.output]
        for name in (*node.input, *captured, *node.output):
            if name in storage:
                last[storage[name]] = index
    for spec in model.outputs:
        if spec.name in storage:
            last[storage[spec.name]] = len(model.nodes)
    ending: dict[int, list[str]] = {}
    for name, index in last.items():
        ending.setdefault(index, []).append(name)
    alive = peak = sum(sizes[spec.name] for spec in model.inputs)
    for index, node in enumerate(model.nodes):
        alive += sum(sizes.get(name, 0) for name in node.output)
        peak = max(peak, alive)
        alive -= sum(sizes[name] for name in ending.get(index, ()))
    return peak
