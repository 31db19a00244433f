"""A Report as one HTML page that needs nothing else: no script of its own, no request, its pictures inside."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from html import escape as _escape

from workbench.picture.page import page as picture_page
from workbench.plots import Plot, svg
from workbench.report.facts import (
    AccuracyFacts,
    CalibrationFacts,
    EngineFacts,
    FusionFacts,
    ModelFacts,
    RecordedFacts,
    Repeat,
    Report,
    SearchColumn,
    SearchFacts,
    TimingFacts,
    WinnerFacts,
)
from workbench.report.style import STYLE
from workbench.report.tables import (
    NOT_COMPARED,
    accuracy_tables,
    engine_table,
    is_number,
    provenances,
    timing_table,
    value_table,
)
from workbench.tables import Table, cell_text

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' blob:; worker-src blob:; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)
"""What the browser itself makes sure of: nothing is fetched. Scripts run in the frames of pictures only."""
_IN_TURNS = "Measured in turns, so what changed on the machine meanwhile hit all alike."
_AT_OTHER_TIMES = (
    "Measured one after the other, not in turns: what changed on the machine between them is in the differences, too."
)
_NOTHING_SEEN = "Nothing was seen that makes the times less than they seem."
_LONG = 30
"""Cells with more letters than that may break into lines."""
_BROKEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]+")

_Section = tuple[str, str, Callable[[Report], str]]


def html(report: Report) -> str:
    """The whole page."""
    steps = report.steps
    told: list[_Section] = [("steps", "Steps", lambda _: table(steps))] if steps is not None else []
    told += [("search", "Search", lambda item: _each(item.searches, _search, ""))] if report.searches else []
    sections: Sequence[_Section] = (
        ("short", "In short", _short),
        *told,
        ("model", "Model", lambda item: _each(item.models, _model, "The runs name no model.")),
        ("shapes", "Shapes", _shapes),
        ("engines", "Engines", _engines),
        ("fusion", "Fusion", _fusions),
        ("calibration", "Calibration", _calibrations),
        ("accuracy", "Accuracy", _accuracies),
        ("timing", "Timing", lambda item: _each(item.timings, _timing, "None of these runs was timed.")),
        ("repeat", "How to repeat", lambda item: _each(item.repeats, _repeat, "There is nothing to repeat.")),
        ("recorded", "Recorded on a GPU", _recordings),
    )
    contents = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, _ in sections)
    heading = escape(report.title)
    body = "".join(f'<section id="{name}"><h2>{title}</h2>{write(report)}</section>' for name, title, write in sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{heading}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{STYLE}</style></head>\n'
        f"<body><header><h1>{heading}</h1><p class='quiet'>Written {_when(report.written_at)}.</p></header>"
        f"<nav aria-label='Contents'><ol>{contents}</ol></nav><main>{body}</main>{_footer(report)}</body></html>\n"
    )


def escape(text: str) -> str:
    """For text and for attributes in quotes."""
    return _escape(_BROKEN.sub(" ", text), quote=True)


def _when(text: str) -> str:
    """'2026-12-01 05:51 UTC'."""
    return escape(f"{text[:16].replace('T', ' ')} UTC") if text else ""


def _footer(report: Report) -> str:
    runs = ", ".join(f"`{name}`" for name in report.runs)
    told = [f"From the runs {runs} of the history; `workbench runs show ID` tells all of one."] if runs else []
    told += [f"From the search `{item.id}`; `workbench runs --kind trial` lists trials." for item in report.searches]
    return f"<footer>{_paragraphs([*(told or ['From a saved study.']), *report.notes], 'quiet')}</footer>"


# ---- sections


def _short(report: Report) -> str:
    found = "".join(f"<p class='verdict'>{escape(text)}</p>" for text in report.verdict)
    return found or "<p>Nothing was timed, so nothing is said about speed.</p>"


def _search(item: SearchFacts) -> str:
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in item.facts if value)
    recorded = f"<p><b>{escape(item.recorded[:1].upper() + item.recorded[1:])}</b></p>" if item.recorded else ""
    trials = f"<details><summary>{escape(item.trials.title)}</summary>{table(item.trials)}</details>"
    return (
        f"<h3>{escape(item.heading)}</h3>{recorded}<dl>{pairs}</dl>{_list(item.notes, 'warn')}"
        f"{''.join(map(_search_column, item.columns))}{trials}{_repeat(item.again)}"
    )


def _search_column(item: SearchColumn) -> str:
    front = table(item.front) if item.front is not None else ""
    best = _winner(item.best) if item.best is not None else ""
    first, others = ("".join(map(_plot, part)) for part in (item.plots[:1], item.plots[1:]))
    return f"<h3>{escape(item.name)}</h3>{best}{first}{front}{others}{_paragraphs(item.notes, 'quiet')}"


def _winner(item: WinnerFacts) -> str:
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{_code(name, value)}</dd>" for name, value in item.facts)
    code = "".join(
        f"<p class='quiet'>{escape(name)}</p><pre>{escape(text)}</pre>" for name, text in item.again.code.items()
    )
    fold = f"<details><summary>How to build it again</summary>{code}</details>" if code else ""
    note = _paragraphs([item.again.note] if item.again.note else [], "quiet")
    return f"<p><b>Best: {escape(item.name)}</b>. {escape(item.reason)}</p><dl>{pairs}</dl>{fold}{note}"


def _model(item: ModelFacts) -> str:
    facts = [("content", item.sha256), ("file", item.path), *item.facts]
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{_code(name, value)}</dd>" for name, value in facts if value)
    return f"<h3>{escape(item.name or 'A model without a name')}</h3><dl>{pairs}</dl>{_paragraphs(item.notes, 'quiet')}"


def _code(name: str, value: str) -> str:
    """Names of files and tensors as they are typed."""
    is_code = name in ("content", "file", "input", "output", "inputs", "outputs", "engine", "engines")
    return f"<code>{escape(value)}</code>" if is_code else escape(value)


def _shapes(report: Report) -> str:
    if report.shapes is not None:
        return table(report.shapes)
    if not report.engines:
        return "<p>No engine is in these runs, so there are no profiles.</p>"
    return "<p>No engine has a profile: all of its sizes are fixed, or it takes any.</p>"


def _engines(report: Report) -> str:
    if not report.engines:
        return "<p>No engine of the store is in these runs.</p>"
    items = "".join(_engine(item) for item in report.engines)
    return f"{table(engine_table(report.engines))}<dl>{items}</dl>"


def _engine(item: EngineFacts) -> str:
    told = " ".join(filter(None, (item.why, item.note)))
    return f"<dt>{escape(item.title)}</dt><dd><code>{escape(item.key)}</code><br>{escape(told)}</dd>"


def _fusions(report: Report) -> str:
    if not report.fusions:
        return "<p>No engine of the store is in these runs, so there are no layers to show.</p>"
    change = _paragraphs([report.change[:1].upper() + report.change[1:]] if report.change else [])
    left = len(report.engines) - len(report.fusions)
    more = [f"{left} more in the table above; `workbench fusion KEY --html FILE.html` draws each."] if left > 0 else []
    return change + "".join(map(_fusion, report.fusions)) + _paragraphs(more, "quiet")


def _fusion(item: FusionFacts) -> str:
    frame = ""
    if item.picture is not None:
        frame = (
            f'<iframe title="{escape(f"What became of the network in {item.title}")}" loading="lazy" '
            f'sandbox="allow-scripts allow-downloads" srcdoc="{_escape(picture_page(item.picture))}"></iframe>'
            "<p class='paper quiet'>The picture is for the screen: open the page to look into it.</p>"
        )
    summary = f"<p>{escape(item.summary)}.</p>" if item.summary else ""
    return f"<h3>{escape(item.title)}</h3>{summary}{frame}{_paragraphs(item.notes, 'quiet')}"


def _calibrations(report: Report) -> str:
    return _each(report.calibrations, _calibration, "No engine here computes in int8, so nothing was calibrated.")


def _calibration(item: CalibrationFacts) -> str:
    facts = [("file", item.file), ("algorithm", item.algorithm)]
    facts += [("ranges", f"{item.ranges:,} tensors")] if item.ranges is not None else []
    pairs = "".join(f"<dt>{name}</dt><dd>{_code(name, value)}</dd>" for name, value in facts if value)
    fine = "<p>Checked against the model: nothing speaks against the ranges.</p>"
    is_checked = item.ranges is not None and not item.notes
    found = _list(item.findings, "warn") if item.findings else fine if is_checked else ""
    return f"<h3>{escape(item.engine)}</h3><dl>{pairs}</dl>{found}{_paragraphs(item.notes)}"


def _accuracies(report: Report) -> str:
    parts = [_accuracy(item) for item in report.accuracies] + [table(item) for item in report.losses]
    return "".join(parts) or f"<p>{NOT_COMPARED[bool(report.searches)]}</p>"


def _accuracy(item: AccuracyFacts) -> str:
    tables = "".join(map(table, accuracy_tables(item.comparison)))
    values = value_table(item.comparison)
    shown = (
        f"<details><summary>{escape(values.title)}, side by side</summary>{table(values)}</details>" if values else ""
    )
    return f"<h3>{escape(item.heading)}</h3>{_paragraphs(item.comparison.notes)}{tables}{shown}"


def _timing(item: TimingFacts) -> str:
    study = item.study
    turns = _IN_TURNS if item.in_turns else _AT_OTHER_TIMES
    apart = f"<p>{turns}</p>" if len(study.measurements) > 1 else ""
    clock = _list(provenances(study), "quiet")
    warnings = _list(study.notes, "warn") or f"<p class='quiet'>{_NOTHING_SEEN}</p>"
    plots = "".join(map(_plot, item.plots))
    recorded = f"<p><b>{escape(study.recorded)}</b></p>" if study.recorded else ""
    return (
        f"<h3>{escape(item.heading)}</h3>{recorded}{apart}{table(timing_table(study))}{warnings}{plots}"
        f"{_paragraphs(item.notes, 'quiet')}<h4>How it was measured</h4>{clock}"
    )


def _plot(plot: Plot) -> str:
    rows = Table(plot.title, plot.rows[0], plot.rows[1:])
    return f"<figure>{svg(plot)}<details><summary>As a table</summary>{table(rows)}</details></figure>"


def _repeat(item: Repeat) -> str:
    code = "".join(f"<p class='quiet'>{escape(name)}</p><pre>{escape(text)}</pre>" for name, text in item.code.items())
    return f"<h3>{escape(item.what)}</h3>{code}{_paragraphs([item.note] if item.note else [])}"


def _recordings(report: Report) -> str:
    return _each(report.recorded, _recording, "Nothing that was recorded on a GPU is of these models.")


def _recording(item: RecordedFacts) -> str:
    found = item.recorded
    same = "the same content" if item.same_content else "a model of the same name; its weights may be others"
    about = f"{found.label[:1].upper()}{found.label[1:]}, not here: {same}."
    return f"<h3>{escape(about)}</h3><div class='wide'>{found._repr_html_()}</div>"


# ---- parts


def _each(items: Iterable[object], write: Callable[..., str], nothing: str) -> str:
    return "".join(map(write, items)) or f"<p>{escape(nothing)}</p>"


def _paragraphs(sentences: Iterable[str], kind: str = "") -> str:
    mark = f" class='{kind}'" if kind else ""
    return "".join(f"<p{mark}>{_sentence(text)}</p>" for text in sentences)


def _sentence(text: str) -> str:
    """What stands in backticks as code."""
    return re.sub("`([^`<>]+)`", r"<code>\1</code>", escape(text))


def _list(sentences: Iterable[str], kind: str) -> str:
    items = "".join(f"<li>{_sentence(text)}</li>" for text in sentences)
    return f"<ul class='{kind}'>{items}</ul>" if items else ""


def table(item: Table) -> str:
    """It scrolls in its box where it is too wide; numbers stand on the right."""
    rows = [[cell_text(cell, item.digits) for cell in row] for row in item.rows]
    right = [all(is_number(row[place]) for row in rows) for place in range(len(item.headers))]
    heads = "".join(f"<th{_mark(right[place])}>{escape(text)}</th>" for place, text in enumerate(item.headers))
    body = "".join(
        f"<tr>{''.join(_cell(text, is_right) for text, is_right in zip(row, right, strict=True))}</tr>" for row in rows
    )
    caption = f"<caption>{escape(item.title)}</caption>" if item.title else ""
    return f"<div class='wide'><table>{caption}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(text: str, is_right: bool) -> str:
    return f"<td class='l'>{escape(text)}</td>" if len(text) > _LONG else f"<td{_mark(is_right)}>{escape(text)}</td>"


def _mark(is_right: bool) -> str:
    return " class='n'" if is_right else ""
