"""`workbench inspect`: what a model takes, gives and is made of."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workbench import building
from workbench.backends import available
from workbench.commands.common import read_model, spec_to_json
from workbench.errors import ShapeError
from workbench.model import Model
from workbench.openings import InputDimension, describe_dimensions, what_back_ends_ask
from workbench.profiles import check_profile, opt_shapes, parse_shapes
from workbench.saving import save_model
from workbench.tensor_shapes import ShapeInference, TensorShapes
from workbench.terminal import table
from workbench.types import Support


def inspect(options: argparse.Namespace) -> tuple[Any, str]:
    model = read_model(options)
    supports = available()
    with ThreadPoolExecutor() as pool:  # each back end answers in a process of its own
        asked = {name: pool.submit(_ask, model, name, here) for name, here in supports.items()}
        dimensions = describe_dimensions(model)
        answers = {name: answer.result() for name, answer in asked.items()}
    if options.output:
        model = save_model(model, options.output)
    asks = what_back_ends_ask(model, supports)
    data: dict[str, Any] = {
        "model": str(model.path),
        "sha256": model.sha256,
        "producer": model.producer,
        "opset": model.opset,
        "parameters": model.parameters,
        "inputs": [spec_to_json(spec) for spec in model.inputs],
        "outputs": [spec_to_json(spec) for spec in model.outputs],
        "dimensions": [_dimension(item) for item in dimensions],
        "nodes": len(model.nodes),
        "ops": model.operators,
        "asks": asks,
        "backends": answers,
    }
    text = _text(model, dimensions, answers, asks)
    if options.tensors or options.shapes:
        shapes = _tensor_shapes(model, options)
        data["tensors"] = [
            {"name": item.name, "dtype": item.dtype, "made_by": item.op_type or "input", "node": item.node,
             "shape": None if item.shape is None else list(item.shape),
             "bytes": item.bytes}
            for item in shapes.tensors
        ]  # fmt: skip
        data["activation_bytes"] = shapes.peak_bytes if options.shapes else None
        text += "\n" + _tensors_text(shapes, sized=bool(options.shapes))
    return data, text + (f"\n{model.path}" if options.output else "")


def _ask(model: Model, name: str, here: Support) -> dict[str, Any]:
    if not here.can_build:
        return {"supported": None, "reasons": [here.build_reason]}
    support = building.check_support(model, name)
    reasons = [f"{item.node} ({item.op_type}): {item.reason}" for item in support.refusals[:5]]
    return {"supported": support.supported, "refused": len(support.refusals), "reasons": reasons}


def _tensor_shapes(model: Model, options: argparse.Namespace) -> TensorShapes:
    """By names, or at the opt of the sizes that were given. Raises ShapeError where the graph does not take them."""
    inference = ShapeInference(model)
    if not options.shapes:
        return inference.symbolic()
    profile = parse_shapes(options.shapes)
    check_profile(model.inputs, profile)
    shapes = inference.at(opt_shapes(model.inputs, (profile,)))
    if shapes.conflicts:
        raise ShapeError(f"the graph does not take these sizes: {shapes.conflicts[0]}.")
    return shapes


def _dimension(item: InputDimension) -> dict[str, Any]:
    return {
        "tensor": item.tensor,
        "axis": item.axis,
        "input": item.is_input,
        "dim": item.dim,
        "open": item.is_open,
        "same_as": [list(place) for place in item.same_as],
        "frozen_by": None if item.blocker is None else vars(item.blocker),
    }


def _text(
    model: Model,
    dimensions: tuple[InputDimension, ...],
    answers: Mapping[str, dict[str, Any]],
    asks: Mapping[str, str],
) -> str:
    lines = [f"{model.path.name}: {len(model.nodes)} nodes, opset {model.opset}, {model.parameters:,} parameters"]
    lines += [f"  input   {spec}" for spec in model.inputs] + [f"  output  {spec}" for spec in model.outputs]
    for item in dimensions:
        if item.blocker is not None:
            state = "open in name only" if item.is_open else f"fixed to {item.dim}"
            lines.append(f"  {item.tensor}, dimension {item.axis} is {state}: {item.blocker}")
        elif item.is_input and not item.is_open:
            opening = f"--dim {item.tensor}:{item.axis}=NAME opens it"
            lines.append(f"  {item.tensor}, dimension {item.axis} is fixed to {item.dim}: no node insists; {opening}")
        elif item.is_input and any(tensor == item.tensor and axis > item.axis for tensor, axis in item.same_as):
            shared = f"shares its name {item.dim!r} with another: they are taken for equal"
            parting = f"--dim {item.tensor}:{item.axis}=NAME parts them"
            lines.append(f"  {item.tensor}, dimension {item.axis} {shared}; {parting}")
    lines.append("  " + ", ".join(f"{count} {name}" for name, count in model.operators.items()))
    for name, answer in answers.items():
        word = {True: "takes every node", False: "refuses nodes:", None: "cannot be used:"}[answer["supported"]]
        asked = f"; asks for {asks[name]}" if answer["supported"] else ""
        lines.append(" ".join([name, word, "; ".join(answer["reasons"])]).rstrip() + asked)
    return "\n".join(lines)


def _tensors_text(shapes: TensorShapes, *, sized: bool) -> str:
    rows = [("tensor", "type", "shape", "made by")]
    for item in shapes.tensors:
        shape = "unknown" if item.shape is None else "x".join("?" if dim is None else str(dim) for dim in item.shape)
        rows.append((item.name, item.dtype, shape or "scalar", f"{item.op_type} {item.node}".strip() or "input"))
    memory = f"activation memory: {shapes.peak_bytes / 1e6:,.1f} MB if every operator runs on its own"
    return "\n".join([table(rows), *([memory] if sized else [])])
