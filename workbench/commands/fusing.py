"""`workbench fusion`: what became of a network in an engine."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any

from workbench.errors import ConfigError
from workbench.fusion import Change, Fate, Fusion, FusionDiff, Group, OpenedFusion, Pass, diff, open_fusion, story
from workbench.layers import precision_name
from workbench.picture.figures import fusion_picture
from workbench.picture.page import save_page
from workbench.terminal import table

_WIDE, _MANY = 60, 10
_UNLISTED = ("constant", "sync")


def fusion(options: argparse.Namespace) -> tuple[Any, str]:
    profiles = options.profile or []
    if len(profiles) > 1 + bool(options.against):
        raise ConfigError("--profile goes once with the engine, and once more with the one of --against.")
    opened = open_fusion(options.source, options.model, next(iter(profiles), None), options.log)
    data: dict[str, Any] = _fusion_to_json(opened.fusion) | {"title": opened.title, "notes": list(opened.notes)}
    lines = [opened.title, _groups_table(opened.fusion), *_unlisted(opened.fusion), *_fates_text(opened.fusion)]
    lines += [opened.fusion.summary, *(f"note: {note}" for note in opened.notes)]
    if options.html:
        data["html"] = str(save_page(fusion_picture(opened.fusion, opened.title), options.html))
        lines.append(data["html"])
    if options.story:
        passes = _story(opened)
        data["story"] = [_pass_to_json(item) for item in passes]
        lines += ["", *_story_text(passes)]
    if options.against:
        other = open_fusion(options.against, options.model, next(iter(profiles[1:]), None))
        found = diff(opened.fusion, other.fusion)
        data["against"] = _diff_to_json(found) | {"title": other.title, "notes": list(other.notes)}
        lines += ["", f"before: {opened.title}; after: {other.title}", *_diff_text(found)]
        lines += [f"note: {note}" for note in other.notes]
    return data, "\n".join(lines)


def _story(opened: OpenedFusion) -> tuple[Pass, ...]:
    passes = story(opened.log)
    if not passes:
        what = "its build log counts no layers" if opened.log else "there is no build log"
        raise ConfigError(f"{opened.title}: {what}; name TensorRT's VERBOSE log with --log.")
    return passes


def _fusion_to_json(found: Fusion) -> dict[str, Any]:
    return {
        "nodes": len(found.nodes),
        "layers": len(found.groups),
        "kernels": len(found.kernels),
        "groups": [_group_to_json(group) for group in found.groups],
        "fates": [_fate_to_json(fate) for fate in found.fates],
        "counts": found.counts,
        "coverage": found.coverage,
        "unmatched": list(found.unmatched),
        "time_ms": found.time_ms,
        "summary": found.summary,
    }


def _group_to_json(group: Group) -> dict[str, Any]:
    return {
        "layer": group.layer.name,
        "kind": group.kind,
        "nodes": list(group.nodes),
        "time_ms": group.time_ms,
        "words": group.words,
        "precision": group.layer.precision,
        "tactic": group.layer.tactic,
    }


def _fate_to_json(fate: Fate) -> dict[str, Any]:
    return {"node": fate.node, "kind": fate.kind, "layers": list(fate.layers), "reason": fate.reason}


def _pass_to_json(item: Pass) -> dict[str, Any]:
    return {
        "title": item.title,
        "layers_before": item.layers_before,
        "layers_after": item.layers_after,
        "steps": [
            {"kind": step.kind, "transform": step.transform, "subjects": list(step.subjects), "text": step.text}
            for step in item.steps
        ],
    }


def _diff_to_json(found: FusionDiff) -> dict[str, Any]:
    return {
        "unchanged": len(found.parts) - len(found.changes),
        "changes": [_change_to_json(change) for change in found.changes],
        "appeared": [_group_to_json(group) for group in found.appeared],
        "vanished": [_group_to_json(group) for group in found.vanished],
        "summary": found.summary,
    }


def _change_to_json(change: Change) -> dict[str, Any]:
    return {
        "nodes": list(change.nodes),
        "regrouped": change.regrouped,
        "precisions": list(change.precisions),
        "times_ms": list(change.times_ms),
        "before": [_group_to_json(group) for group in change.before],
        "after": [_group_to_json(group) for group in change.after],
    }


# ---- for people


def _groups_table(found: Fusion) -> str:
    rows = [("layer", "kind", "what it fuses", "precision", "" if found.time_ms is None else "time")]
    for group in found.groups:
        if group.kind not in _UNLISTED:
            rows.append((_cut(group.layer.name), group.kind, _fused(group), _precision(group), _ms(group.time_ms)))
    return table(rows)


def _fused(group: Group) -> str:
    return _cut(group.words or " + ".join(group.nodes))


def _precision(group: Group) -> str:
    """'fp32 -> fp16' for a copy that converts."""
    types = [precision_name(item.dtype) for side in (group.layer.inputs, group.layer.outputs) for item in side[:1]]
    converts = group.kind == "reformat" and len(set(types)) == 2
    return " -> ".join(types) if converts else group.layer.precision


def _unlisted(found: Fusion) -> list[str]:
    kinds = Counter(group.kind for group in found.groups if group.kind in _UNLISTED)
    words = {"constant": "that bring constants", "sync": "that make a stream wait"}
    return ["layers not listed: " + ", ".join(f"{kinds[kind]} {words[kind]}" for kind in kinds)] if kinds else []


def _fates_text(found: Fusion) -> list[str]:
    """The nodes that no layer names, each with the reason; of many, the first."""
    lines = []
    for kind in ("removed", "absorbed", "unmatched"):
        fates = [fate for fate in found.fates if fate.kind == kind]
        lines += [f"{kind}: {fate.node}: {fate.reason}" for fate in fates[:_MANY]]
        if len(fates) > _MANY:
            lines.append(f"{kind}: {len(fates) - _MANY} more; --json lists them")
    return lines


def _story_text(passes: Sequence[Pass]) -> list[str]:
    lines: list[str] = []
    idle: list[str] = []
    for item in passes:
        change = item.layers_after - item.layers_before
        counted = f"{item.layers_after} layer{'s' * (item.layers_after != 1)}" + (f" ({change:+d})" if change else "")
        if item.steps or change or not lines:
            lines += [f"{item.title}: {counted}", *(f"  {step.text}" for step in item.steps)]
        else:
            idle.append(item.title)
    return [*lines, f"without effect: {', '.join(dict.fromkeys(idle))}"] if idle else lines


def _diff_text(found: FusionDiff) -> list[str]:
    timed = found.before.time_ms is not None or found.after.time_ms is not None
    rows = [("before", "after", "precision", "time" if timed else "")]
    for change in found.changes:
        before, after = (_cut("; ".join(map(_fused, side)) or "-") for side in (change.before, change.after))
        times = (_ms(change.times_ms[0]), _ms(change.times_ms[1]))
        rows.append((before, after, _pair(change.precisions), _pair(times)))
    lines = [table(rows)] if found.changes else []
    for word, groups in (("appeared", found.appeared), ("vanished", found.vanished)):
        lines += [f"{word}: {group.kind} {_cut(group.layer.name)}" for group in groups[:_MANY]]
        lines += [f"{word}: {len(groups) - _MANY} more; --json lists them"] if len(groups) > _MANY else []
    return [*lines, found.summary]


def _pair(values: tuple[str, str]) -> str:
    before, after = values
    return before if before == after else f"{before or '-'} -> {after or '-'}"


def _ms(time_ms: float | None) -> str:
    return "" if time_ms is None else f"{time_ms:.4g} ms"


def _cut(text: str) -> str:
    """In the middle, as names differ at their ends."""
    return text if len(text) <= _WIDE else f"{text[: _WIDE // 2 - 1]}…{text[-_WIDE // 2 :]}"
