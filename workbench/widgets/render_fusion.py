"""Fusions and partitions -> HTML: pure functions, as in `render`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from workbench.fusion import Fate, Fusion, FusionDiff, Group, OpenedFusion, Pass
from workbench.widgets.render import fact_row, html_table

_MOST_ROWS = 300
_UNLISTED = ("constant", "sync")


def fusion_card(opened: OpenedFusion) -> str:
    """What was opened, in numbers, and what is missing."""
    found = opened.fusion
    facts = [("layers", f"{len(found.groups):,}"), ("kernels that compute", f"{len(found.kernels):,}")]
    if found.fates:
        facts = [("nodes before", f"{len(found.nodes):,}"), *facts[1:], ("nodes with a known fate", _share(found))]
    if found.time_ms is not None:
        facts.append(("time in layers", f"{found.time_ms:,.3f} ms"))
    notes = "".join(f"<p class='wb-quiet'>{escape(note)}</p>" for note in opened.notes)
    return (
        f"<div class='wb-card' data-coverage='{found.coverage:.4f}'><h4>{escape(opened.title)}</h4>{fact_row(facts)}"
        f"<p class='wb-quiet'>{escape(found.summary)}</p>{notes}</div>"
    )


def _share(found: Fusion) -> str:
    return f"{len(found.fates) - len(found.unmatched):,} of {len(found.fates):,}"


def group_table(found: Fusion) -> str:
    """Every layer with the nodes it does the work of: what the picture shows, for reading and for screen readers."""
    listed = [group for group in found.groups if group.kind not in _UNLISTED]
    timed = found.time_ms is not None
    heads = ["what it does", "kind", "precision", "layer", *(["time"] if timed else []), "ONNX nodes"]
    rows = [_group_row(group, timed) for group in listed[:_MOST_ROWS]]
    silent = len(found.groups) - len(listed)
    notes = [f"{silent:,} more bring constants or wait for another stream."] if silent else []
    notes += (
        [f"{len(listed) - _MOST_ROWS:,} more: `workbench fusion` lists them all."] if len(listed) > _MOST_ROWS else []
    )
    return html_table(heads, rows, " ".join(notes))


def _group_row(group: Group, timed: bool) -> list[str]:
    time = "" if group.time_ms is None else f"{group.time_ms:,.4f} ms"
    does = escape(group.label)
    nodes = "<br>".join(map(escape, group.nodes))
    row = [does, escape(group.kind), escape(group.layer.precision), f"<code>{escape(group.layer.name)}</code>"]
    return [*row, *([time] if timed else []), nodes]


def fate_table(fates: Iterable[Fate]) -> str:
    """The nodes that no kernel does the work of, with the reason."""
    rows = [
        [f"<code>{escape(fate.node)}</code>", escape(fate.kind), escape(fate.reason)]
        for fate in fates
        if fate.kind != "kernel"
    ]
    if not rows:
        return "<div class='wb-quiet'>None: every node is in a kernel.</div>"
    more = f"{len(rows) - _MOST_ROWS:,} more: `workbench fusion` lists them all." if len(rows) > _MOST_ROWS else ""
    return html_table(["node", "fate", "reason"], rows[:_MOST_ROWS], more)


def story_page(passes: Sequence[Pass], place: int) -> str:
    """All passes with their layer counts, the one at `place` with its steps."""
    heads = []
    for index, item in enumerate(passes):
        change = item.layers_after - item.layers_before
        here = " class='wb-here' aria-current='step'" if index == place else ""
        moved = f" <span class='wb-quiet'>{change:+d}</span>" if change else ""
        heads.append(f"<li{here}>{escape(item.title)} <b>{item.layers_after:,}</b>{moved}</li>")
    steps = [step for step in passes[place].steps if step.kind != "run"]
    told = "".join(f"<li><b>{escape(step.kind)}</b> {escape(step.text)}</li>" for step in steps[:_MOST_ROWS])
    silent = "The log tells no step of this pass that changed a layer."
    if place == 0:
        silent = "Here the builder starts: every operator, constant and reshape that the parser made is a layer."
    told = told or f"<li class='wb-quiet'>{silent}</li>"
    return f"<div class='wb-story'><ol>{''.join(heads)}</ol><ul>{told}</ul></div>"


def difference_card(found: FusionDiff, before: str, after: str) -> str:
    """What is grouped or computed in another way in the second engine."""
    timed = found.before.time_ms is not None and found.after.time_ms is not None
    heads = ["before", "after", "precision", *(["time"] if timed else [])]
    rows = []
    for change in found.changes[:_MOST_ROWS]:
        sides = ["<br>".join(escape(group.words or group.layer.name) for group in side) or "–" for side in
                 (change.before, change.after)]  # fmt: skip
        precision = " → ".join(escape(item or "–") for item in dict.fromkeys(change.precisions))
        times = [" → ".join("–" if item is None else f"{item:,.4f} ms" for item in change.times_ms)] if timed else []
        rows.append([*sides, precision, *times])
    came = "".join(
        f"<p class='wb-quiet'>{word}: {escape(', '.join(group.layer.name for group in groups[:6]))}"
        f"{f' and {len(groups) - 6} more' if len(groups) > 6 else ''}</p>"
        for word, groups in (("appeared", found.appeared), ("vanished", found.vanished))
        if groups
    )
    titles = f"<p class='wb-quiet'>before: {escape(before)} · after: {escape(after)}</p>"
    return f"{titles}<p>{escape(found.summary)}</p>{html_table(heads, rows) if rows else ''}{came}"
