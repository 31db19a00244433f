"""Accuracy against latency, recorded runs beside those measured here: hollow marks, never on the front of these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from workbench.accuracy import Interval
from workbench.plots import ink
from workbench.plots.palette import PAPER, by_precision
from workbench.plots.pareto import RELATIVE, ParetoFacts, ParetoPoint, draw_pareto, pareto
from workbench.plots.plot import Plot
from workbench.study import Study
from workbench.widgets.timing_recorded import RecordedRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOP1 = "top-1 points lost"
_NO_COMPARISON = "Only one was measured: choose another one to compare its outputs with."


@dataclass(frozen=True)
class Beside:
    """own: so many rows of the plots were measured here, the others are recorded. notes: what is missing."""

    plots: tuple[Plot, ...]
    own: int
    notes: tuple[str, ...] = ()


class BesideFacts(NamedTuple):
    """recorded: places of the recorded ones among `facts.points`."""

    facts: ParetoFacts
    recorded: tuple[int, ...]


def pareto_beside(study: Study | None, rows: Sequence[RecordedRow], label: str, *, same_model: bool) -> Beside:
    """One plot where both lose accuracy of the same model in the same unit; otherwise one for each.

    Each loss is against what it was compared with: the reference here, FP32 or ONNX Runtime where it was recorded.
    """
    unit, own = _measured(study)
    recorded_unit, recorded = _recorded(rows, unit)
    if own and recorded and same_model and unit == recorded_unit:
        return Beside((_together(own, recorded, unit, label),), len(own), _notes(study, own))
    plots = [pareto(own, unit)] if _drawable(own) else []
    if _drawable(recorded):
        plots.append(_alone(recorded, recorded_unit, label))
    return Beside(tuple(plots), len(own) if _drawable(own) else 0, _notes(study, own))


def _notes(study: Study | None, own: Sequence[ParetoPoint]) -> tuple[str, ...]:
    if study is None or (own and len(own) == len(study.measurements)):
        return ()
    if study.comparison is None:
        return (_NO_COMPARISON,)
    return tuple(f"{item.name}: {item.failure}" for item in study.comparison.contestants if item.failure)


def _drawable(points: Sequence[ParetoPoint]) -> bool:
    return any(math.isfinite(item.loss.value) for item in points)


def _measured(study: Study | None) -> tuple[str, list[ParetoPoint]]:
    """The unit, and all whose outputs were compared; the reference loses nothing."""
    if study is None or study.comparison is None:
        return "", []
    found = study.comparison
    scored = [item for item in found.contestants if item.evaluation is not None]
    metric = "top1" if all(item.evaluation and item.evaluation.top1 for item in scored) else "relative"
    points = []
    for item in scored:
        assert item.evaluation is not None
        loss = Interval(0, 0, 0) if item.name == found.reference else item.evaluation.drop(metric)
        points.append(ParetoPoint(item.name, study.subject(item.name).precision, study[item.name].median, loss))
    return (TOP1 if metric == "top1" else RELATIVE), points


def _recorded(rows: Sequence[RecordedRow], wanted: str) -> tuple[str, list[ParetoPoint]]:
    """In the wanted unit if it was recorded, else in the other one."""
    losses = {TOP1: _points_lost(rows), RELATIVE: _relative_errors(rows)}
    units = [unit for unit in dict.fromkeys((wanted, TOP1, RELATIVE)) if losses.get(unit)]
    if not units:
        return "", []
    found = losses[units[0]]
    return units[0], [
        ParetoPoint(row.name, row.run.precision, _unsure(row.run.median_ms), _unsure(found[row.name]))
        for row in rows
        if row.name in found
    ]


def _points_lost(rows: Sequence[RecordedRow]) -> dict[str, float]:
    """By name, against fp32 of the same peer; empty where that was not recorded."""
    plain = {row.run.peer: row.run.top1 for row in rows if row.run.precision == "fp32" and row.run.top1 is not None}
    return {
        row.name: plain[row.run.peer] - row.run.top1
        for row in rows
        if row.run.top1 is not None and row.run.peer in plain
    }


def _relative_errors(rows: Sequence[RecordedRow]) -> dict[str, float]:
    """In per cent, against ONNX Runtime."""
    return {row.name: 100 * row.run.relative for row in rows if row.run.relative is not None}


def _unsure(value: float) -> Interval:
    """A value without an interval."""
    return Interval(value, -math.inf, math.inf)


def _alone(points: Sequence[ParetoPoint], unit: str, label: str) -> Plot:
    plot = pareto(points, unit, f"{label[:1].upper()}{label[1:]}")
    front = "Steps: the front. Nothing recorded there is both faster and better than what lies on it."
    return replace(
        plot, facts=BesideFacts(plot.facts, tuple(range(len(plot.facts.points)))), drawn_by=draw_beside,
        notes=(front, *plot.notes[1:], f"Hollow: {label}, without intervals."),
    )  # fmt: skip


def _together(own: Sequence[ParetoPoint], recorded: Sequence[ParetoPoint], unit: str, label: str) -> Plot:
    """The front is that of what was measured here."""
    if not _drawable(own):
        return _alone(recorded, unit, label)
    mine, theirs = pareto(own, unit), pareto(recorded, unit)
    first = len(mine.facts.points)
    facts = mine.facts._replace(points=(*mine.facts.points, *theirs.facts.points))
    places = tuple(range(first, len(facts.points)))
    rows = (*mine.rows, *((*row[:-1], "") for row in theirs.rows[1:]))
    notes = (*mine.notes, f"Hollow: {label}, without intervals; never on the front.")
    return replace(mine, rows=rows, facts=BesideFacts(facts, places), drawn_by=draw_beside, notes=notes)


def draw_beside(given: BesideFacts, axes: Axes) -> None:
    draw_pareto(given.facts, axes)
    for place in given.recorded:
        item = given.facts.points[place]
        _hollow(axes, item.latency_ms.value, item.loss.value, by_precision(item.precision))


def _hollow(axes: Axes, x: float, y: float, look: tuple[str, str]) -> None:
    """Over the filled mark that is there. look: colour and marker."""
    from matplotlib.lines import Line2D

    axes.add_line(
        Line2D(
            [x], [y], color=look[0], marker=look[1], markersize=ink.points(10.5), linestyle="None", fillstyle="full",
            markerfacecolor=PAPER, markeredgecolor=look[0], markeredgewidth=ink.points(1.8), zorder=5.5, clip_on=False,
            antialiased=True,
        )
    )  # fmt: skip
