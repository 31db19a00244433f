"""How a search shows itself in a notebook: the best, its plots with their tables, the front, and what to know."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from workbench.plots import Plot, svg
from workbench.tables import Table
from workbench.tuning.findings import Column, Findings, trials_of
from workbench.tuning.plots import plots_of

_IMPORTANCE_PX = 520
_QUIET = "style='opacity: 0.75; margin: 4px 0'"


def tuned_html(tuned: Findings) -> str:
    """The body of `_repr_html_`; nothing in it can be more than text."""
    head = f"{tuned.model}: {tuned.goals}"
    recorded = f"<p><b>{_words(tuned.recorded)}</b></p>" if tuned.recorded else ""
    parts = [f"<h4 style='margin: 8px 0'>{escape(head)}</h4>", recorded, f"<p>{_words(told(tuned))}</p>"]
    parts += [_lane(tuned, item, named=len(tuned.columns) > 1) for item in tuned.columns]
    parts.append(_paragraphs(tuned.notes))
    return f"<div class='wb-tuned'>{''.join(parts)}</div>"


def told(tuned: Findings) -> str:
    """'finished after 44 s. 28 trials: 20 measured, ...'; nothing is said of seconds that nobody has counted."""
    after = f" after {tuned.seconds:,.0f} s" if tuned.seconds else ""
    return f"{tuned.state}{after}. {tuned.summary}."


def _words(text: str) -> str:
    return escape(f"{text[:1].upper()}{text[1:]}")


def _lane(tuned: Findings, lane: Column, *, named: bool) -> str:
    head = f"<p><b>{escape(lane.name)}</b></p>" if named else ""
    plots = "".join(_figure(plot, place) for place, plot in enumerate(plots_of(tuned, lane.name)))
    front = tuned.rows(lane.name)
    shown = front._repr_html_() if front.rows else "<p>Nothing is on the front yet.</p>"
    sizes = [f"{lane.sizes[:1].upper()}{lane.sizes[1:]}."] if lane.sizes else []
    return f"{head}{_best(tuned, lane)}{shown}{plots}{_paragraphs([*sizes, *lane.left_out])}"


def _best(tuned: Findings, lane: Column) -> str:
    best = lane.best
    if best is None:
        return ""
    name = next((str(item.candidate) for item in trials_of(tuned, lane.name) if item.id == best.trial), best.trial)
    keys = ", ".join(f"<code>{escape(key[:12])}</code>" for key in best.engines)
    engines = f" Engine in the store: {keys}." if keys else ""
    return f"<p><b>Best: {escape(name)}</b>. {escape(best.reason)}{engines}</p>"


def _figure(plot: Plot, place: int) -> str:
    """The first one, the front, in full; the others are folded and smaller."""
    rows = Table(plot.title, plot.rows[0], plot.rows[1:])
    data = f"<details><summary>As a table</summary>{rows._repr_html_()}</details>"
    if place == 0:
        return f"<div style='margin: 12px 0'>{svg(plot)}{data}</div>"
    drawn = svg(plot, width_px=_IMPORTANCE_PX)
    return f"<details style='margin: 4px 0'><summary>{escape(plot.title)}</summary>{drawn}{data}</details>"


def _paragraphs(sentences: Iterable[str]) -> str:
    return "".join(f"<p {_QUIET}>{escape(text)}</p>" for text in sentences)
