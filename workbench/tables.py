"""A table as plain data, for whoever draws it: text, HTML, a widget, a report."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from workbench import terminal

Cell = str | int | float | None
"""None where there is nothing to tell."""


@dataclass(frozen=True)
class Table:
    """rows: each as long as `headers`, which tell the units. digits: of numbers, when they are written."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    digits: int = 4

    def __str__(self) -> str:
        return f"{self.title}\n{terminal.table([self.headers, *self._words])}"

    def _repr_html_(self) -> str:
        heads = "".join(f"<th>{escape(header)}</th>" for header in self.headers)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in self._words)
        caption = f"<caption>{escape(self.title)}</caption>" if self.title else ""
        return f"<table>{caption}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"

    @property
    def _words(self) -> list[tuple[str, ...]]:
        return [tuple(cell_text(cell, self.digits) for cell in row) for row in self.rows]


def cell_text(cell: Cell, digits: int = 4) -> str:
    """0.123456 -> '0.1235', infinity -> '∞', NaN -> 'NaN', None -> '-'."""
    if cell is None:
        return "-"
    if not isinstance(cell, float):
        return str(cell)
    if math.isfinite(cell):
        return f"{cell:.{digits}g}"
    return "NaN" if math.isnan(cell) else "∞" if cell > 0 else "-∞"


def html_of(sentences: Iterable[str], tables: Iterable[Table]) -> str:
    """Sentences as paragraphs, then the tables, with everything escaped."""
    told = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return told + "".join(table._repr_html_() for table in tables)


def text_of(sentences: Iterable[str], tables: Iterable[Table]) -> str:
    """Sentences one to a line, then the tables, parted by empty lines."""
    told = "\n".join(sentences)
    return "\n\n".join(([told] if told else []) + [str(table) for table in tables])
