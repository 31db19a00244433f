"""A Report as Markdown for a pull request: the verdict, the tables, what to know, and how to repeat it. Short."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from workbench.report.facts import CalibrationFacts, RecordedFacts, Report, SearchFacts
from workbench.report.tables import NOT_COMPARED, accuracy_tables, engine_table, is_number, provenances, timing_table
from workbench.tables import Table, cell_text

_SPECIAL = re.compile(r"([\\`*\[\]|~#]|^[>+-]|(?<!\w)_|_(?!\w))")
_MOST_FINDINGS, _MOST_WARNINGS, _MOST_RECORDED = 3, 6, 6


def markdown(report: Report) -> str:
    """GitHub's flavour. Every name is escaped, so that none becomes a heading, a link or a mention."""
    parts = [f"# {text(report.title)}", *(f"**{text(item)}**" for item in report.verdict)]
    if report.steps is not None:
        parts += ["## Steps", f"{text(report.steps.title)}:", table(report.steps)]
    parts += [part for item in report.searches for part in _search(item)]
    parts += [*_timings(report), *_accuracies(report)]
    if report.engines:
        parts += ["## Engines", table(engine_table(report.engines))]
    parts += ["## What to know", "\n".join(f"- {text(item)}" for item in _facts(report))]
    parts += _repeats(report)
    parts += [_recorded(item) for item in report.recorded]
    parts.append(f"_Written {report.written_at[:16].replace('T', ' ')} UTC from {_sources(report)}._")
    return "\n\n".join(parts) + "\n"


def text(words: str) -> str:
    """As it is, whatever it holds."""
    words = " ".join(words.split()).replace("&", "&amp;").replace("<", "&lt;")
    return _SPECIAL.sub(r"\\\1", words).replace("@", "@\u200b")


def _sources(report: Report) -> str:
    told = [f"the runs {', '.join(f'`{name}`' for name in report.runs)}"] if report.runs else []
    told += [f"the search `{item.id}`" for item in report.searches]
    return " and ".join(told) or "a saved study"


def _search(item: SearchFacts) -> Iterator[str]:
    yield f"## Search: {text(item.heading)}"
    facts = [("recorded", item.recorded), *item.facts]
    yield "\n".join(f"- {text(name)}: {text(value)}" for name, value in facts if value)
    if item.notes:
        yield "\n".join(f"- ⚠ {text(note)}" for note in item.notes)
    for column in item.columns:
        yield f"### {text(column.name)}"
        if column.best is not None:
            yield f"Best: **{text(column.best.name)}**. {text(column.best.reason)}"
            yield "\n".join(f"- {text(name)}: {text(value)}" for name, value in column.best.facts)
        if column.front is not None:
            yield table(column.front)
        if column.notes:
            yield "\n".join(f"- {text(note)}" for note in column.notes)
    yield f"<details><summary>{text(item.trials.title)}</summary>"
    yield table(item.trials)
    yield "</details>"
    yield from _code(item)


def _code(item: SearchFacts) -> Iterator[str]:
    """Lines for a shell that search again, and that build the best ones."""
    repeats = [item.again, *(column.best.again for column in item.columns if column.best is not None)]
    for repeat in repeats:
        lines = [code for name, code in repeat.code.items() if name.startswith("Shell")]
        if lines:
            yield f"{text(repeat.what)}:"
            yield fenced("\n".join(lines))
        if repeat.note:
            yield text(repeat.note)


def _timings(report: Report) -> Iterator[str]:
    if not report.timings:
        yield "## Timing"
        yield "None of these runs was timed."
    for item in report.timings:
        yield f"## Timing: {text(item.heading)}"
        yield table(timing_table(item.study))
        notes = list(item.study.notes)
        notes += [] if item.in_turns else ["Measured one after the other, not in turns."]
        if len(notes) > _MOST_WARNINGS:
            notes = [*notes[: _MOST_WARNINGS - 1], f"and {len(notes) - _MOST_WARNINGS + 1} more; the page has all"]
        if notes:
            yield "\n".join(f"- ⚠ {text(note)}" for note in notes)
        yield "\n".join(f"- {text(found)}" for found in provenances(item.study))


def _accuracies(report: Report) -> Iterator[str]:
    yield "## Accuracy"
    if not report.accuracies and not report.losses:
        yield NOT_COMPARED[bool(report.searches)]
    for item in report.accuracies:
        for found in accuracy_tables(item.comparison):
            yield f"{text(found.title)}:"
            yield table(_without_empty(found))
        if item.comparison.notes:
            yield "\n".join(f"- {text(note)}" for note in item.comparison.notes)
    for loss in report.losses:
        yield f"{text(loss.title)}:"
        yield table(loss)


def _facts(report: Report) -> Iterator[str]:
    """Models, sizes, fusion and calibration, a line each."""
    for model in report.models:
        told = [f"{name} {value}" for name, value in model.facts if name not in ("operators", "made by")]
        known = "; ".join([*told, *model.notes]) or "nothing more is known"
        yield f"Model {model.name}, content {model.sha256[:12]}: {known}"
    if report.shapes is not None:
        for engine, _, tensor, low, best, high in report.shapes.rows:
            yield f"{engine} takes {tensor} from {low} over {best} to {high}"
    elif report.engines:
        yield "No engine has a profile: all of its sizes are fixed, or it takes any."
    for fusion in report.fusions:
        yield f"{fusion.title}: {'; '.join(filter(None, (fusion.summary, *fusion.notes)))}"
    if report.change:
        yield f"Between them: {report.change}"
    yield from map(_calibration, report.calibrations)
    yield from report.notes


def _calibration(item: CalibrationFacts) -> str:
    ranges = "" if item.ranges is None else f"{item.ranges:,} ranges by {item.algorithm} from {item.file}"
    more = len(item.findings) - _MOST_FINDINGS
    findings = (*item.findings[:_MOST_FINDINGS], f"{more} more findings" if more > 0 else "")
    return f"{item.engine}: {'; '.join(filter(None, (ranges, *findings, *item.notes)))}"


def _repeats(report: Report) -> Iterator[str]:
    """The lines for a shell; scripts are in the page."""
    lines = [code for item in report.repeats for name, code in item.code.items() if name.startswith("Shell")]
    if lines:
        yield "## How to repeat"
        yield fenced("\n".join(dict.fromkeys(lines)))
    notes = [f"- {text(item.what)}: {text(item.note)}" for item in report.repeats if item.note]
    if notes:
        yield "\n".join(notes)


def _recorded(item: RecordedFacts) -> str:
    found = item.recorded
    title = f"{found.label[:1].upper()}{found.label[1:]}, "
    title += "the same content" if item.same_content else "a model of the same name"
    runs = ([run for run in found.runs if run.peer == "workbench"] or list(found.runs))[:_MOST_RECORDED]
    heads = ("model", "precision", "input", "median ms", "p99 ms", "clock")
    rows = tuple((run.model, run.precision, run.inputs, run.median_ms, run.p99_ms, run.clock) for run in runs)
    more = len(found.runs) - len(rows)
    told = f"\n\n{more} more: `workbench recorded` lists them." if more else ""
    return f"## {text(title)}\n\n{table(Table('', heads, rows))}{told}"


# ---- parts


def table(item: Table) -> str:
    rows = [[cell_text(cell, item.digits) for cell in row] for row in item.rows]
    right = [all(is_number(row[place]) for row in rows) for place in range(len(item.headers))]
    rules = ["---:" if is_right else "---" for is_right in right]
    lines = [_line(map(text, item.headers)), _line(rules), *(_line(map(text, row)) for row in rows)]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _without_empty(item: Table) -> Table:
    """Without the columns that tell nothing."""
    kept = [place for place in range(len(item.headers)) if any(row[place] not in (None, "") for row in item.rows)]
    return Table(item.title, _picked(item.headers, kept), tuple(_picked(row, kept) for row in item.rows), item.digits)


def _picked(row: Sequence[object], kept: Sequence[int]) -> tuple:  # type: ignore[type-arg]
    return tuple(row[place] for place in kept)


def fenced(code: str) -> str:
    """Lines for a shell, with a fence that is longer than any in the code."""
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{code}\n{fence}"
