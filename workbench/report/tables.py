"""The tables of a report, the same in HTML and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from workbench.comparison import Comparison
from workbench.report.facts import EngineFacts, joined
from workbench.study import Study
from workbench.tables import Table

NOT_COMPARED = (
    "No outputs were compared, so nothing tells what speed costs in accuracy.",
    "What each candidate loses stands with the search above.",
)
"""Without a search in the report, and with one."""
_NUMBER = re.compile(r"[-+]?[\d,.]*\d(?:e[-+]?\d+)?(?:/s)?|-?∞|NaN|-|")


def is_number(text: str) -> bool:
    """Or nothing, as in a column of numbers."""
    return _NUMBER.fullmatch(text) is not None


def engine_table(engines: Sequence[EngineFacts]) -> Table:
    heads = (
        "engine", "key", "back end", "precision", "build s", "plan MB", "nodes", "layers", "runs on", "built (UTC)",
    )  # fmt: skip
    rows = tuple(
        (
            joined(item.names) or item.model, item.key[:12], f"{item.backend} {item.release}".strip(),
            item.precision,
            None if item.build_s is None else round(item.build_s, 1),
            None if item.plan_bytes is None else round(item.plan_bytes / 1e6, 2),
            item.nodes, item.layers, item.runs_on or None, item.built_at[:16].replace("T", " ") or None,
        )
        for item in engines
    )  # fmt: skip
    return Table("", heads, rows)


def timing_table(study: Study) -> Table:
    head, *rows = study.rows()
    return Table("Latency by each one's own clock", ("measured", *head[1:]), tuple(rows))


def provenances(study: Study) -> list[str]:
    """How each was measured, once for those of which the same is told; whether in turns, the report says by itself."""
    names: dict[str, list[str]] = {}
    for item in study.measurements:
        names.setdefault(replace(item, rivals=()).provenance, []).append(item.name)
    return [f"{joined(group)}: {told}." for told, group in names.items()]


def accuracy_tables(found: Comparison) -> tuple[Table, ...]:
    """Scores, and how far outputs lie apart; without those that have no row."""
    return tuple(item for item in (found.score_rows(), found.output_rows()) if item.rows)


def value_table(found: Comparison) -> Table | None:
    """The first values of every output, or None where none were kept."""
    item = found.value_rows()
    return item if item.rows else None
