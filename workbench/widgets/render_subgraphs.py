"""Partitions -> HTML: pure functions, as in `render`."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import median

from workbench.hybrid import HybridRun
from workbench.model import Model
from workbench.profiles import format_shapes
from workbench.subgraphs import Part, Partition, step_words
from workbench.tensor_shapes import TensorShape
from workbench.types import OptimizationProfile, count_of
from workbench.widgets.render import fact_row, html_table

_MOST_ROWS = 300


def model_line(model: Model, backend: str, profile: OptimizationProfile, samples: int) -> str:
    sizes = f" · sizes {escape(' '.join(format_shapes(profile)))}" if profile.ranges else ""
    sizes += f" · {count_of(samples, 'sample')}" if samples else ""
    return (
        f"<b>{escape(model.name)}</b> <span class='wb-quiet'>{len(model.nodes):,} nodes · opset {model.opset} · "
        f"asked: {escape(backend)}{sizes}</span>"
    )


def partition_facts(partition: Partition) -> str:
    native = sum(len(part.nodes) for part in partition.parts if not part.is_engine)
    taken = sum(len(part.nodes) for part in partition.engines)
    facts = [
        ("engines", f"{len(partition.engines):,}"),
        ("operators in engines", f"{taken:,} of {taken + native:,}"),
        ("border tensors", f"{partition.border_tensors:,}"),
        ("across borders in a run", bytes_text(partition.border_bytes)),
        ("native parts", f"{len(partition.parts) - len(partition.engines):,}"),
    ]
    return f"<div data-engines='{len(partition.engines)}'>{fact_row(facts)}</div>"


def bytes_text(size: int | None) -> str:
    """1536 -> '1.5 KB'; sizes that depend on data are not known."""
    if size is None:
        return "depends on the data"
    for unit, power in (("GB", 30), ("MB", 20), ("KB", 10)):
        if size >= 1 << power:
            return f"{size / (1 << power):,.1f} {unit}"
    return f"{size:,} bytes"


def step_table(steps: Sequence[Partition], size: int) -> str:
    """What every min_subgraph_size would leave; the row that holds now is marked."""
    if len(steps) < 2:
        return ""
    rows = []
    now = max((item.min_subgraph_size for item in steps if item.min_subgraph_size <= size), default=0)
    for partition, sizes in zip(steps, step_words(steps), strict=True):
        here = partition.min_subgraph_size == now
        cells = [sizes, str(len(partition.engines)), str(partition.border_tensors), bytes_text(partition.border_bytes)]
        rows.append([f"<b>{cell}</b>" if here else cell for cell in map(escape, cells)])
    heads = ["min_subgraph_size", "engines", "border tensors", "across borders"]
    return html_table(heads, rows[:_MOST_ROWS], numbers=(1, 2, 3))


def part_table(partition: Partition) -> str:
    rows = [_part_row(part) for part in partition.parts[:_MOST_ROWS]]
    more = len(partition.parts) - len(rows)
    note = f"{more:,} more: `workbench subgraphs` lists them all." if more else ""
    heads = ["part", "runs in", "operators", "in", "out", "bytes"]
    return html_table(heads, rows, note, numbers=(2, 5))


def _part_row(part: Part) -> list[str]:
    sides = ["<br>".join(_tensor(item) for item in side[:8]) + ("<br>…" if len(side) > 8 else "") for side in
             (part.inputs, part.outputs)]  # fmt: skip
    return [
        escape(part.id), escape(part.backend), f"{len(part.nodes):,}", *sides,
        escape(bytes_text(part.border_bytes)),
    ]  # fmt: skip


def _tensor(item: TensorShape) -> str:
    shape = "?" if item.shape is None else "×".join("?" if dim is None else escape(str(dim)) for dim in item.shape)
    return f"<code>{escape(item.name)}</code> <span class='wb-quiet'>{escape(item.dtype)} {shape}</span>"


def refusal_table(partition: Partition) -> str:
    if not partition.refusals:
        return "<div class='wb-quiet'>None: the whole model becomes one engine.</div>"
    rows = [
        [f"<code>{escape(item.node)}</code>", escape(item.op_type), escape(item.reason)]
        for item in partition.refusals[:_MOST_ROWS]
    ]
    more = len(partition.refusals) - len(rows)
    note = f"{more:,} more: `workbench subgraphs` lists them all." if more else ""
    return html_table(["node", "operator", "reason"], rows, note)


def outcome_card(run: HybridRun) -> str:
    """All parts as they were built and run, beside ONNX Runtime alone."""
    partition, built = run.hybrid.partition, run.hybrid.built
    worst = max((item.relative for item in run.differences), default=0.0)
    facts = [
        ("engines", f"{len(built):,}, {sum(item.reused for item in built):,} reused"),
        ("largest relative difference", f"{worst:.1e}"),
        ("all parts, median", f"{run.median_ms:,.3f} ms"),
        ("ONNX Runtime alone, median", f"{run.alone_median_ms:,.3f} ms"),
    ]
    rows = []
    for part in partition.parts[:_MOST_ROWS]:
        made = run.hybrid.by_part.get(part.id)
        how = f"{'reused' if made.reused else 'built'} · {count_of(made.engine.layers, 'layer')}" if made else "native"
        rows.append([escape(part.id), f"{len(part.nodes):,}", how, f"{median(run.part_times_ms[part.id]):,.3f} ms"])
    table = html_table(["part", "operators", "engine", "time"], rows, numbers=(1, 3))
    clock = f"{len(run.alone_times_ms)} runs. {escape(run.clock)}"
    return (
        f"<div class='wb-card' data-relative='{worst:.3e}'><h4>All parts ran, compared with ONNX Runtime alone</h4>"
        f"{fact_row(facts)}<p>{escape(run.note)}</p><p class='wb-quiet'>{clock}</p>{table}</div>"
    )
