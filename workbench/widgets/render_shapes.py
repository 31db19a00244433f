"""Dimensions and tensors -> HTML: pure functions, as in `render`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from workbench.model import Model
from workbench.openings import InputDimension
from workbench.tensor_shapes import ShapeConflict, TensorShape, TensorShapes
from workbench.types import Dim

_MOST_ROWS = 200


def dimension_table(model: Model, dimensions: Sequence[InputDimension], asks: Mapping[str, str]) -> str:
    """Inputs and outputs with open dimensions as '?' and their names, and what is to be known of each."""
    rows, times = [], "<span class='wb-times'>×</span>"
    for kind, specs in (("input", model.inputs), ("output", model.outputs)):
        for spec in specs:
            mine = [item for item in dimensions if item.tensor == spec.name and item.is_input == (kind == "input")]
            signs = [*[times] * (len(mine) - 1), *[""][: len(mine)]]
            chips = (
                f"<span class='wb-axis'>{_chip(item.dim)}{sign}</span>" for item, sign in zip(mine, signs, strict=True)
            )
            shape = " ".join(chips) if mine else "a single value"
            notes = "".join(f"<div>{note}</div>" for note in _notes(mine))
            rows.append(
                f"<tr><td class='wb-quiet'>{kind}</td><td><b>{escape(spec.name)}</b>"
                f"<div class='wb-quiet'>{escape(spec.dtype)}</div></td><td>{shape}</td><td>{notes}</td></tr>"
            )
    asked = "".join(
        f"<div class='wb-quiet'><b>{escape(name)}</b> will ask for {escape(text)}</div>" for name, text in asks.items()
    )
    head = "<tr><th></th><th>tensor</th><th>shape</th><th>its dimensions, counted from 0</th></tr>"
    return f"<table class='wb-table wb-dims'><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>{asked}"


def _chip(dim: Dim) -> str:
    if isinstance(dim, int):
        return f"<span class='wb-size'>{dim}</span>"
    name = f" <i>{escape(dim)}</i>" if dim else ""
    return f"<span class='wb-size wb-opened'>?{name}</span>"


def _notes(dimensions: Sequence[InputDimension]) -> list[str]:
    """What is to be known, several axes in one line where the same holds for them."""
    said: dict[str, list[str]] = {}
    for item in dimensions:
        said.setdefault(_note(item), []).append(str(item.axis))
    return [f"<b>{', '.join(axes)}</b> {text}" for text, axes in said.items()]


def _note(item: InputDimension) -> str:
    if not item.is_open:
        if item.blocker:
            by, node, why = map(escape, (item.blocker.op_type, item.blocker.node, item.blocker.reason))
            return f"fixed by {by} <code>{node}</code>: {why}"
        if item.is_input:
            return "fixed, but no node insists on it: it can be opened"
        return "fixed"
    here = [axis for tensor, axis in item.same_as if tensor == item.tensor]
    elsewhere = [f"{tensor}[{axis}]" for tensor, axis in item.same_as if tensor != item.tensor]
    if not item.dim:
        text = "open, without a name"
    elif here:
        text = "open, one name for two dimensions: back ends take them for equal"
    else:
        text = "open"
    if elsewhere:
        text += f", always equal to {escape(', '.join(elsewhere))}"
    if item.blocker:
        text += f"; <span class='wb-bad'>frozen inside all the same:</span> {escape(str(item.blocker))}"
    return text


def memory_card(shapes: Mapping[str, TensorShapes]) -> str:
    """What activations take at min, opt and max."""
    facts = "".join(
        f"<div><span>at {bound}</span><b>{escape(format_bytes(item.peak_bytes))}</b></div>"
        for bound, item in shapes.items()
    )
    after_conflict = max((len(item.unknown) for item in shapes.values() if item.conflicts), default=0)
    by_data = max((len(item.unknown) for item in shapes.values() if not item.conflicts), default=0)
    unknown = f" Not counted: {_count(after_conflict)} behind the node that fails." if after_conflict else ""
    unknown += f" Not counted: {_count(by_data)} whose sizes only data can tell." if by_data else ""
    return (
        f"<div class='wb-facts' data-memory='1'>{facts}</div><div class='wb-quiet'>Activation memory: the most that is "
        f"alive at once when every operator runs on its own, weights not counted. Fusion lowers it.{unknown}</div>"
    )


def conflict_card(conflicts: Sequence[tuple[str, ShapeConflict]]) -> str:
    """Where the graph itself cannot take the sizes."""
    if not conflicts:
        return ""
    lines = "".join(
        f"<p>At {bound}: <code>{escape(item.node)}</code> ({escape(item.op_type)}): {escape(item.reason)}</p>"
        for bound, item in conflicts[:5]
    )
    more = f"<p class='wb-quiet'>and {len(conflicts) - 5} more nodes</p>" if len(conflicts) > 5 else ""
    return (
        "<div class='wb-card wb-error' role='alert'><h4>The graph does not take these sizes</h4>"
        f"{lines}{more}<p><b>What to do:</b> choose sizes that fit; pictures often need multiples of 32.</p></div>"
    )


def tensor_table(rows: Sequence[tuple[TensorShape, TensorShape | None]], bound: str) -> str:
    """Every tensor by names and at one bound, in the order of the graph."""
    if not rows:
        return "<div class='wb-quiet'>No tensor fits the search.</div>"
    lines = []
    for item, sized in rows[:_MOST_ROWS]:
        size = format_bytes(sized.bytes) if sized and sized.bytes is not None else ""
        lines.append(
            f"<tr><td>{escape(item.op_type or 'input')}</td><td>{escape(item.name)}</td><td>{escape(item.dtype)}</td>"
            f"<td>{_shape(item)}</td><td>{_shape(sized) if sized else ''}</td><td class='wb-right'>{size}</td></tr>"
        )
    head = (
        "<tr><th>made by</th><th>tensor</th><th>type</th><th>shape</th>"
        f"<th>at {bound}</th><th class='wb-right'>bytes</th></tr>"
    )
    count = _count(len(rows)) if len(rows) <= _MOST_ROWS else f"the first {_MOST_ROWS} of {len(rows):,} tensors"
    table = f"<table class='wb-table'><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table>"
    found = f"<div class='wb-quiet'>{count}; search to narrow them down</div>"
    return f"{found}<div class='wb-layers wb-tensors'>{table}</div>"


def _count(tensors: int) -> str:
    return "1 tensor" if tensors == 1 else f"{tensors:,} tensors"


def _shape(item: TensorShape) -> str:
    if item.shape is None:
        return "<span class='wb-quiet'>unknown</span>"
    return "×<wbr>".join("?" if dim is None else escape(str(dim)) for dim in item.shape) or "a single value"


def format_bytes(size: int) -> str:
    """1500000 -> '1.5 MB'"""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size:,} B"
