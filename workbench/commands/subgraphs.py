"""`workbench subgraphs`: which nodes a back end takes, and what would cross between engines and the rest."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.backends import default_backend, load
from workbench.commands.common import read_disabled, read_model
from workbench.model import Model, operator
from workbench.picture.figures import partition_picture
from workbench.picture.page import save_page
from workbench.profiles import check_profile, default_profile, format_shapes, opt_shapes, parse_shapes
from workbench.subgraphs import Part, Partition, divide, find_support, step_words, steps
from workbench.tensor_shapes import TensorShape
from workbench.terminal import Printer, table
from workbench.types import OptimizationProfile, Refusal, Shape, ShapeRange, count_of

_MOST_KINDS = 3
"""Of operators shown for a part."""


def subgraphs(options: argparse.Namespace) -> tuple[Any, str]:
    model = read_model(options)
    backend = options.backend or default_backend()
    disabled = read_disabled(options)
    shapes = _shapes(model, options.shapes)
    support = find_support(model, backend, disable_ops=disabled, release=options.release, listener=Printer(False))
    if shapes:
        support = support.at(shapes)
    partition = divide(support, options.min_subgraph_size)
    sizes = steps(support)
    data: dict[str, Any] = {
        "model": str(model.path),
        "backend": backend,
        "min_subgraph_size": partition.min_subgraph_size,
        "disable_ops": disabled,
        "release": options.release,
        "shapes": {name: list(shape) for name, shape in shapes.items()},
        "subgraphs": [_part_to_json(part) for part in partition.parts],
        "refusals": [vars(refusal) for refusal in partition.refusals],
        "sizes": [{"min_subgraph_size": item.min_subgraph_size, **_costs(item)} for item in sizes],
        **_costs(partition),
    }
    if options.html:
        data["html"] = str(save_page(partition_picture(partition, support.tensors), options.html))
    texts = [
        _summary(partition),
        _parts_text(partition),
        _refusals_text(partition.refusals),
        _sizes_text(sizes),
        _why_unknown(model, shapes) if any(part.border_bytes is None for part in partition.parts) else "",
        f"In Paddle-TRT: {_paddle(options.min_subgraph_size, disabled)}",
        data.get("html", ""),
    ]
    return data, "\n\n".join(filter(None, texts))


def _shapes(model: Model, texts: Sequence[str]) -> dict[str, Shape]:
    """What sizes are counted at; empty where open dimensions are to stay open."""
    if not texts and any(spec.open_axes for spec in model.inputs):
        return {}
    profile = parse_shapes(texts)
    check_profile(model.inputs, profile)
    return dict(opt_shapes(model.inputs, (profile,)))


def _part_to_json(part: Part) -> dict[str, Any]:
    return {
        "id": part.id,
        "backend": part.backend,
        "nodes": list(part.nodes),
        "inputs": [_tensor_to_json(tensor) for tensor in part.inputs],
        "outputs": [_tensor_to_json(tensor) for tensor in part.outputs],
        "border_bytes": part.border_bytes,
    }


def _tensor_to_json(tensor: TensorShape) -> dict[str, Any]:
    shape = None if tensor.shape is None else list(tensor.shape)
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": shape, "bytes": tensor.bytes}


def _costs(partition: Partition) -> dict[str, Any]:
    return {
        "engines": len(partition.engines),
        "border_tensors": partition.border_tensors,
        "border_bytes": partition.border_bytes,
    }


def _summary(partition: Partition) -> str:
    taken = sum(len(part.nodes) for part in partition.engines)
    total = sum(len(part.nodes) for part in partition.parts)
    engines = count_of(len(partition.engines), f"{load(partition.backend).support().title} engine")
    native = count_of(len(partition.parts) - len(partition.engines), "native part")
    name, size = partition.model.path.name, partition.min_subgraph_size
    return f"{name}: {taken} of {total} operators in {engines}, {native} (min_subgraph_size {size})"


def _parts_text(partition: Partition) -> str:
    kinds = {node.name: operator(node) for node in partition.model.nodes}
    rows = [("part", "runs on", "operators", "", "reads", "gives", "bytes at its border")]
    for part in partition.parts:
        found = Counter(kinds[name] for name in part.nodes).most_common()
        shown = [kind if number == 1 else f"{number} {kind}" for kind, number in found[:_MOST_KINDS]]
        words = ", ".join([*shown, *(["..."] if len(found) > _MOST_KINDS else [])])
        runner = part.backend if part.is_engine else "ONNX Runtime"
        border = (_names(part.inputs), _names(part.outputs), _bytes(part.border_bytes))
        rows.append((part.id, runner, str(len(part.nodes)), words, *border))
    return table(rows)


def _names(tensors: Sequence[TensorShape]) -> str:
    more = f" +{len(tensors) - 1}" if len(tensors) > 1 else ""
    return tensors[0].name + more if tensors else "-"


def _bytes(size: int | None) -> str:
    return "?" if size is None else f"{size:,}"


def _why_unknown(model: Model, shapes: Mapping[str, Shape]) -> str:
    if shapes:
        return "?: some sizes depend on the data."
    example = " ".join(f"--shapes {text}" for text in format_shapes(_usual(model)))
    return f"?: some dimensions are open; at sizes such as {example} the bytes are counted."


def _usual(model: Model) -> OptimizationProfile:
    ranges = default_profile(model.inputs).ranges.items()
    return OptimizationProfile({name: ShapeRange(item.opt, item.opt, item.opt) for name, item in ranges})


def _refusals_text(refusals: Sequence[Refusal]) -> str:
    """One line for every operator and reason, with the first node."""
    if not refusals:
        return ""
    alike = Counter((item.op_type, item.reason) for item in refusals)
    first = {(item.op_type, item.reason): item.node for item in reversed(refusals)}
    lines = [
        f"  {op_type} {first[op_type, reason]}{f' and {number - 1} more' if number > 1 else ''}: {reason}"
        for (op_type, reason), number in alike.items()
    ]
    return "\n".join([f"{count_of(len(refusals), 'operator')} refused:", *lines])


def _sizes_text(sizes: Sequence[Partition]) -> str:
    rows = [("min_subgraph_size", "engines", "tensors between parts", "bytes in a run")]
    for item, span in zip(sizes, step_words(sizes), strict=True):
        rows.append((span, str(len(item.engines)), str(item.border_tensors), _bytes(item.border_bytes)))
    return table(rows)


def _paddle(min_subgraph_size: int, disabled: Sequence[str]) -> str:
    """The same wishes as Paddle's calls; it names operators its own way."""
    calls = [f"config.enable_tensorrt_engine(min_subgraph_size={min_subgraph_size}, ...)"]
    if disabled:
        calls.append(f"config.exp_disable_tensorrt_ops({disabled!r}), with Paddle's names of operators")
    return "; ".join(calls)
