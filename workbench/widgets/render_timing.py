"""A study -> HTML: pure functions, as in `render`."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from workbench.plots import palette
from workbench.plots.output import svg
from workbench.study import TIED, Study
from workbench.timing import Measurement
from workbench.widgets import render
from workbench.widgets.timing_choices import Candidate
from workbench.widgets.timing_recorded import Recording
from workbench.widgets.timing_results import Picture, Row, Sheet

_SHEET = (Path(__file__).parent / "static" / "timing.css").read_text()
_THEMES = {".wb": palette.LIGHT, 'body[data-jp-theme-light="false"] .wb': palette.DARK}
_SERIES = "".join(
    f"{selector} {{ {palette.variables({name: color for name, color in theme.items() if 'series' in name})} }}\n"
    for selector, theme in _THEMES.items()
)
_DRAWING = threading.Lock()
"""A run that ends draws in its own thread."""
STYLE = f"{render.STYLE}<style>{_SHEET}{_SERIES}</style>"
_ONE = r"(?:[-+]?(?:[\d.,]+(?:e[-+]?\d+)?|∞)|NaN)"
_NUMBER = re.compile(rf"{_ONE}(?: to {_ONE}| \({_ONE} to {_ONE}\))?(?:/s)?")
_INTERVAL, _NOTHING = "with 95 %", ("", "-", "–")
_APART = "<span class='wb-quiet'>· by medians alone; never ranked against this machine</span>"
EMPTY = "Nothing was measured here yet. Choose engines and baselines and click Run: they run in turns, on one input."


# ---- the form


def candidate_notes(candidates: Sequence[Candidate], chosen: Sequence[str]) -> str:
    """Why some are struck out, and what to know about those that are chosen, a line each."""
    struck = [(item.label, item.reason) for item in candidates if item.reason]
    known = [(item.label, item.note) for item in candidates if item.name in chosen and item.note and not item.reason]
    return render.reasons([*known, *_joined(struck)])


def _joined(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The same reason once, with all whom it keeps out."""
    found: dict[str, list[str]] = {}
    for name, reason in pairs:
        found.setdefault(reason, []).append(name)
    return [(", ".join(names), reason) for reason, names in found.items()]


def inputs_note(shapes: str, is_given: bool) -> str:
    where = "The notebook's arrays" if is_given else "Random arrays, always the same"
    return render.quiet(f"{where}: {shapes}. All run on them.") if shapes else ""


def recording_note(recording: Recording | None) -> str:
    """Where it was recorded, and how it is related to the model."""
    if recording is None:
        return render.quiet(
            "Runs that were recorded on a GPU can stand beside yours; choose a model that was recorded."
        )
    here = recording.note or "The very model that is measured here."
    label = f"{recording.label[:1].upper()}{recording.label[1:]}."
    return f"{render.quiet(label)} <span class='wb-quiet'>{escape(here)} Never ranked against this machine.</span>"


# ---- what came out


def study_card(study: Study, *, form_has_changed: bool = False) -> str:
    """What was measured, who is fastest, how and where, and everything that makes the numbers less than they seem."""
    first = study.measurements[0]
    runs = sorted({len(item.times_ms) for item in study.measurements})
    facts = [
        ("fastest" if len(study.measurements) > 1 else "measured", fastest(study)),
        ("compared with", study.reference if len(study.measurements) > 1 else ""),
        ("input", first.inputs),
        ("runs each", f"{runs[0]:,}" if len(runs) == 1 else f"{runs[0]:,} to {runs[-1]:,}"),
    ]
    notes = study.notes
    changed = " · The form has changed since." if form_has_changed else ""
    lines = "".join(f"<p class='wb-quiet'>{escape(text)}</p>" for text in provenance(study))
    return (
        f"<div class='wb-card' data-study='{escape(study.id, quote=True)}' data-warnings='{len(notes)}'>"
        f"<h4>{escape(study.model)} · {_how_many(study)}</h4>"
        f"{render.fact_row(facts)}{warnings(notes)}{lines}"
        f"<p class='wb-quiet'>measured {escape(study.at[:16].replace('T', ' '))} UTC{changed}</p></div>"
    )


def _how_many(study: Study) -> str:
    count = len(study.measurements)
    return f"{count} measured in turns" if count > 1 else "measured alone"


def fastest(study: Study) -> str:
    """The name of the fastest, or all that may be it."""
    best = [item.name for item in study.measurements if _may_be_first(study, item)]
    return best[0] if len(best) == 1 else f"{', '.join(best)}: {TIED}"


def _may_be_first(study: Study, item: Measurement) -> bool:
    """Whether nobody is measurably faster."""
    return all(item.median.low <= other.median.high for other in study.measurements)


def warnings(notes: Sequence[str]) -> str:
    """Always in sight, a line each."""
    if not notes:
        return "<p class='wb-quiet'>No throttling, no other load, no drift was seen.</p>"
    rows = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<ul class='wb-warnings' role='status' aria-label='Warnings'>{rows}</ul>"


def provenance(study: Study) -> list[str]:
    """How each was measured, those alike together; then the machine and what it did meanwhile, once."""
    how: dict[str, list[str]] = {}
    for item in study.measurements:
        how.setdefault(_how(item), []).append(item.name)
    first = study.measurements[0]
    where = ". ".join(filter(None, (str(first.machine), str(first.conditions or ""))))
    return [*(f"{', '.join(names)}: {text}" for text, names in how.items()), f"{where}."]


def _how(item: Measurement) -> str:
    """Clock, copies, graph, threads and releases."""
    alone = replace(item, rivals=(), conditions=None)
    return alone.provenance.removesuffix(str(item.machine)).strip(" .") + "."


def sheet_table(sheet: Sheet) -> str:
    """A table that scrolls in its box; recorded rows below, apart, under the words that say where they are from."""
    sheet = _with_intervals(sheet)
    columns = zip(*sheet.rows, *sheet.recorded, strict=True)
    numbers = [place > 0 and _is_number(column) for place, column in enumerate(columns)]
    numbers += [False] * (len(sheet.heads) - len(numbers))
    marks = [" class='wb-right'" if number else "" for number in numbers]
    head = "".join(f"<th{mark}>{escape(text)}</th>" for mark, text in zip(marks, sheet.heads, strict=True))
    body = f"<tbody>{''.join(_line(row, marks) for row in sheet.rows)}</tbody>" if sheet.rows else ""
    if sheet.recorded:
        label = f"<tr><th colspan='{len(sheet.heads)}' scope='rowgroup'>{escape(sheet.label)} {_APART}</th></tr>"
        rows = "".join(_line(row, marks) for row in sheet.recorded)
        body += f"<tbody class='wb-recorded' data-recorded='{len(sheet.recorded)}'>{label}{rows}</tbody>"
    table = f"<table class='wb-table wb-numbers'><thead><tr>{head}</tr></thead>{body}</table>"
    return f"<div class='wb-layers wb-wrap wb-sheet' data-rows='{len(sheet.rows)}'>{table}</div>"


def _with_intervals(sheet: Sheet) -> Sheet:
    """Intervals in the column of what they belong to: '93 (86.25 to 96.57)'."""
    places = [place for place, head in enumerate(sheet.heads) if head == _INTERVAL]

    def joined(row: Row) -> Row:
        cells = list(row)
        for place in places:
            cells[place - 1] += f" ({row[place]})" if row[place] not in _NOTHING else ""
        return tuple(cell for place, cell in enumerate(cells) if place not in places)

    heads = tuple(head for head in sheet.heads if head != _INTERVAL)
    return replace(sheet, heads=heads, rows=tuple(map(joined, sheet.rows)), recorded=tuple(map(joined, sheet.recorded)))


def _line(row: Row, marks: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<td{mark}>{escape(cell)}</td>' for mark, cell in zip(marks, row, strict=True))}</tr>"


def _is_number(column: Sequence[str]) -> bool:
    """Whether nothing but numbers and intervals stands in it: '0.3', '0.283 to 0.308', '3,262/s'."""
    return all(_NUMBER.fullmatch(cell) for cell in column if cell not in _NOTHING)


def picture_html(picture: Picture, *, as_table: bool) -> str:
    """The plots, or the table that tells the same, with what there is to know."""
    if picture.empty:
        return f"<div class='wb-nothing' data-empty='{picture.stem}'>{escape(picture.empty)}</div>"
    if as_table or not picture.plots:
        told = (*picture.notes, *(note for plot in picture.plots for note in plot.notes))
        return f"<div data-table='{picture.stem}'>{_lines(told)}{sheet_table(picture.sheet)}</div>"
    with _DRAWING:
        drawn = "".join(f"<div class='wb-plotted'>{svg(plot)}</div>" for plot in picture.plots)
    return f"<div data-plot='{picture.stem}'>{_lines(picture.notes)}{drawn}</div>"


def _lines(notes: Iterable[str]) -> str:
    return "".join(f"<div class='wb-quiet'>{escape(note)}</div>" for note in notes)


def export_note(paths: Sequence[str], error: str) -> str:
    """Where the files are."""
    if error:
        return render.mistake(error)
    written = ", ".join(f"<code>{escape(path)}</code>" for path in paths)
    return f"<span role='status'>Written: {written}</span>" if written else ""
