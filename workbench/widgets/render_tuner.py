"""A search -> HTML: pure functions, as in `render`."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from workbench.plots.plot import Plot
from workbench.tuning import Column, Trial, Tuned
from workbench.tuning.html import told
from workbench.tuning.result import FINISHED
from workbench.tuning.trial import FAILED, PRUNED
from workbench.tuning.winning import gain
from workbench.types import count_of
from workbench.widgets import render, render_calibration, render_timing
from workbench.widgets.tuner_knobs import HINTS, KnobRow
from workbench.widgets.tuner_plot import Spot, picture_of
from workbench.widgets.tuner_results import STATES, knob_facts, score_facts

_STATIC = Path(__file__).parent / "static"
STYLE = (
    f"{render_timing.STYLE}{render_calibration.STYLE.removeprefix(render.STYLE)}"
    f"<style>{(_STATIC / 'tuner.css').read_text()}</style>"
)
_DRAWING = threading.Lock()
"""A search draws in its own thread."""
_KEY = 12


def drawn(plot: Plot) -> tuple[str, tuple[Spot, ...]]:
    with _DRAWING:
        return picture_of(plot)


# ---- the form


def size_lines(sizes: str, reasons: Sequence[str]) -> str:
    """How many there are, in sight; and why fewer."""
    if not sizes:
        return render.quiet("How many candidates there are is told when every knob has values.")
    why = "".join(f"<li>{escape(text)}</li>" for text in reasons)
    return f"<div class='wb-sizes' role='status'><b>{escape(sizes)}</b>{f'<ul>{why}</ul>' if why else ''}</div>"


def knob_note(row: KnobRow) -> str:
    if row.problem:
        return render.mistake(row.problem)
    return render.quiet(f"no effect here: {row.idle}" if row.idle else HINTS[row.knob])


# ---- while it runs


def status_line(tuned: Tuned | None, trials: int | None, minutes: float | None, elapsed_s: float) -> str:
    """'7 of 25 trials · 1 min 12 s of 3 min'."""
    count = len(tuned.trials) if tuned is not None else 0
    of = f"{count:,} of {count_of(trials, 'trial')}" if trials else count_of(count, "trial")
    limit = f" of {minutes:g} min" if minutes else ""
    return f"{of} · {duration(elapsed_s)}{limit}"


def duration(seconds: float) -> str:
    """'12.3 s', '2 min 5 s'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def running_table(tuned: Tuned | None) -> str:
    """What is tried where; '' while nothing is."""
    if tuned is None or not tuned.running:
        return ""
    several = len({item.column for item in tuned.running}) > 1
    heads = ("running", "where", *(["kind of machine"] if several else []), "phase", "s")
    rows = [
        (item.candidate, item.worker, *([item.column] if several else []), item.phase, f"{item.seconds:.1f}")
        for item in tuned.running
    ]
    shown = render.html_table(heads, [[escape(cell) for cell in row] for row in rows], numbers=(len(heads) - 1,))
    return f"<div class='wb-running' data-running='{len(rows)}'>{shown}</div>"


# ---- what came out


def search_card(tuned: Tuned, column: Column, *, form_has_changed: bool = False) -> str:
    """The best and why, what it gains, who cannot be told apart from it; or how far the search is."""
    best = column.best
    title = f"{tuned.model} on {column.name}" if column.name else tuned.model
    kind = "" if best or tuned.state == FINISHED else " wb-note"
    parts = [f"<div class='wb-card{kind}' data-search='{tuned.id}' data-state='{tuned.state}'><h4>{escape(title)}</h4>"]
    if best is not None:
        trial = tuned.trial(best.trial)
        other, verdict = gain(column)
        facts = [("best", str(trial.candidate)), (f"against {other}", verdict)]
        parts.append(f"{render.fact_row(facts)}<p data-tied='{len(best.tied)}'>{escape(best.reason)}</p>")
    else:
        parts.append(f"<p>{escape(_no_best(tuned, column))}</p>")
    mark = "wb-bad" if tuned.state == FINISHED and best is None and not tuned.recorded else "wb-quiet"
    parts += [f"<p class='{mark}'>{escape(text)}</p>" for text in tuned.notes]
    recorded = f"{_sentence(tuned.recorded)} Not measured here. " if tuned.recorded else ""
    about = f"{recorded}{_sentence(told(tuned))} {_sentence(str(tuned.goals))} {_sentence(column.sizes)}"
    changed = " The form has changed since." if form_has_changed else ""
    return f"{''.join(parts)}<p class='wb-quiet'>{escape(about.strip())}{changed}</p></div>"


def _no_best(tuned: Tuned, column: Column) -> str:
    front = tuned.front(column.name)
    if not tuned.trials:
        return "No trial has ended yet."
    if not front:
        return "Nothing measured so far stays within the limits." if tuned.goals.limits else "Nothing was measured yet."
    leader = f"the best {tuned.goals.objectives[0]} on the front is that of {front[0].candidate}"
    if tuned.recorded or tuned.state == FINISHED:
        return f"No finalists were measured in turns, so nobody is named the best; {leader}."
    return f"So far {leader}. The best is told when the finalists were measured in turns."


def _sentence(text: str) -> str:
    text = text.strip()
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


# ---- one trial


def trial_card(trial: Trial, notes: Iterable[str] = ()) -> str:
    """Its knobs and numbers side by side, what it took, its engines, and why it ended early."""
    kind = " wb-error" if trial.state == FAILED else " wb-note" if trial.state == PRUNED else ""
    text = f"{trial.reason.strip().rstrip('.')}."
    reason = f"<p><b>{STATES[trial.state].capitalize()}:</b> {escape(text)}</p>" if trial.reason else ""
    numbers = score_facts(trial.score) if trial.score is not None else []
    looked = ["The numbers are those of a short look."] if numbers and not trial.is_complete else []
    name = escape(str(trial.candidate))
    return (
        f"<div class='wb-card{kind}' data-trial='{escape(trial.id, quote=True)}'><h4>{name}</h4>"
        f"{reason}<div class='wb-pair'>{_list(knob_facts(trial))}{_list(numbers)}</div>"
        f"{_warnings(trial.warnings)}{_lines([*looked, *notes, *_history(trial)])}{_engines(trial)}</div>"
    )


def _list(pairs: Sequence[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in pairs)}</dl>"


def _warnings(texts: Sequence[str]) -> str:
    return render_timing.warnings(texts) if texts else ""


def _lines(texts: Iterable[str]) -> str:
    return "".join(f"<p class='wb-quiet'>{escape(text)}</p>" for text in texts)


def _history(trial: Trial) -> Iterable[str]:
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in trial.seconds.items())
    if took:
        yield f"It took: {took}."
    where = f"{trial.worker}, " if trial.worker else ""
    at = f", {trial.at[:16].replace('T', ' ')} UTC" if trial.at else ""
    tries = f", at the {trial.attempts}. attempt" if trial.attempts > 1 else ""
    known = " Known from an earlier search, and not measured again." if trial.known else ""
    yield f"Tried on {where}{trial.column}{at}{tries}.{known}"


def _engines(trial: Trial) -> str:
    """Enough of the keys for `workbench show`."""
    keys = " ".join(f"<code>{escape(key[:_KEY])}</code>" for key in trial.engines)
    return f"<p class='wb-quiet'>engine{'s' if len(trial.engines) > 1 else ''} {keys}</p>" if keys else ""
