"""What Tuner shows of a search, as plain data: its pictures, its trials as rows, one trial, what was gained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from workbench.accuracy import Interval
from workbench.errors import ConfigError
from workbench.plots.medians import medians
from workbench.plots.plot import Plot
from workbench.tuning import Column, Score, Trial, Tuned
from workbench.tuning.candidate import TITLES, value_text
from workbench.tuning.findings import trials_of
from workbench.tuning.goals import OBJECTIVES
from workbench.tuning.plots import importance_plot, progress_plot
from workbench.tuning.result import FINISHED
from workbench.tuning.scale import scale
from workbench.tuning.trial import COMPLETE, FAILED, PRUNED
from workbench.types import count_of
from workbench.widgets.timing_results import Picture, Sheet
from workbench.widgets.tuner_plot import live_plot

FRONT, PROGRESS, KNOBS, FINALISTS = "front", "progress", "knobs", "finalists"
SECTIONS = {
    FRONT: "Front",
    PROGRESS: "Progress",
    KNOBS: "What matters",
    FINALISTS: "Finalists",
}
STATES = {COMPLETE: "measured", PRUNED: "given up early", FAILED: "failed"}
LEAST = 8
"""Of fewer complete trials nobody can say what a knob matters."""
NOT_SEARCHED = "Nothing was searched yet: say above what matters and click Start, or explore a recorded search."
NO_FINALS = "The finalists are measured in turns when the budget is spent, or when you click Finish now."
_LOST = {"top1": "top-1 lost", "top5": "top-5 lost", "argmax": "answers changed %", "relative": "error %"}
_DIGITS = {"latency": 3, "throughput": 0, "accuracy": 2, "size": 2, "memory": 1}


@dataclass(frozen=True)
class TrialRow:
    """A line of the table. cells: texts. sort: what each column is sorted by; None comes last."""

    id: str
    cells: tuple[str, ...]
    sort: tuple[float | str | None, ...]
    is_front: bool = False
    is_best: bool = False


def metric_of(tuned: Tuned) -> str:
    """What losses of this search are told in."""
    return next((item.score.metric for item in tuned.trials if item.score and item.score.metric), tuned.goals.metric)


def column_of(tuned: Tuned, name: str) -> Column:
    """The one of this name, else the first, else an empty one."""
    named = [item for item in tuned.columns if item.name == name]
    return next(iter([*named, *tuned.columns]), Column(name))


# ---- the table of trials


def trial_heads(tuned: Tuned) -> tuple[str, ...]:
    lost = _LOST.get(metric_of(tuned), "lost")
    return ("#", "candidate", "latency ms", "per second", lost, "plan MB", "memory MB", "took s", "")


def trial_rows(tuned: Tuned, column: str) -> tuple[TrialRow, ...]:
    """In the order in which they ended."""
    front = {item.id for item in tuned.front(column)}
    best = column_of(tuned, column).best
    return tuple(
        _row(number, item, item.id in front, best is not None and best.trial == item.id)
        for number, item in enumerate(trials_of(tuned, column), 1)
    )


def _row(number: int, trial: Trial, is_front: bool, is_best: bool) -> TrialRow:
    values = {name: _finite(scale(name).of(trial.score).value) if trial.score else None for name in OBJECTIVES}
    took = sum(trial.seconds.values())
    told = "best" if is_best else "front" if is_front else STATES[trial.state]
    texts = [_text(name, value) for name, value in values.items()]
    cells = (str(number), str(trial.candidate), *texts, f"{took:.1f}" if took else "", told)
    return TrialRow(trial.id, cells, (number, str(trial.candidate), *values.values(), took, told), is_front, is_best)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(objective: str, value: float | None) -> str:
    """Memory of 0 bytes was not seen: the engine is small, or a recording tells none."""
    is_seen = value is not None and not (objective == "memory" and not value)
    return f"{value:,.{_DIGITS[objective]}f}" if is_seen else ""


# ---- one trial


def score_facts(score: Score) -> list[tuple[str, str]]:
    """Every number that is known, with its interval: ('median latency in ms', '0.083 (0.081 to 0.085)')."""
    found = {name: scale(name, score.metric) for name in OBJECTIVES}
    told = [(axis.title, _with_interval(name, axis.of(score))) for name, axis in found.items()]
    return [(title, text) for title, text in told if text]


def _with_interval(objective: str, found: Interval) -> str:
    value = _text(objective, _finite(found.value))
    if not value or found.low == found.high or not (math.isfinite(found.low) and math.isfinite(found.high)):
        return value
    return f"{value} ({_text(objective, found.low)} to {_text(objective, found.high)})"


def knob_facts(trial: Trial) -> list[tuple[str, str]]:
    """Back end, precision and batch, and every other knob that was turned, in words."""
    always = ("backend", "precision", "batch")
    found = {name: getattr(trial.candidate, name) for name in TITLES}
    return [
        (TITLES[name], value_text(name, value))
        for name, value in found.items()
        if name in always or value is False or value not in (None, "", (), 0)
    ]


# ---- pictures


def picture_for(section: str, tuned: Tuned, column: Column, axes: tuple[str, str]) -> Picture:
    """What a section shows: plots and the same as a table, or why there is nothing."""
    if section == FRONT:
        return _front(tuned, column, axes)
    if section == PROGRESS:
        return _plotted(PROGRESS, lambda: progress_plot(tuned, column.name))
    if section == KNOBS:
        why = importance_note(tuned, column)
        return _nothing(KNOBS, why) if why else _plotted(KNOBS, lambda: importance_plot(tuned, column=column.name))
    return _finalists(tuned, column)


def _front(tuned: Tuned, column: Column, axes: tuple[str, str]) -> Picture:
    """The table has all trials, with all that was measured of them."""
    found = _plotted(FRONT, lambda: live_plot(tuned, column.name, *axes))
    rows = tuple(row.cells for row in trial_rows(tuned, column.name))
    return replace(found, sheet=Sheet(trial_heads(tuned), rows)) if rows else found


def _plotted(stem: str, make: Callable[[], Plot]) -> Picture:
    try:
        plot = make()
    except ConfigError as error:  # there is nothing to draw yet
        text = str(error)
        return _nothing(stem, f"{text[:1].upper()}{text[1:]}")
    heads, *rows = plot.rows
    return Picture(stem, stem, (plot,), Sheet(heads, tuple(rows)))


def _nothing(stem: str, why: str) -> Picture:
    return Picture(stem, stem, (), Sheet((), ()), empty=why)


def importance_note(tuned: Tuned, column: Column) -> str:
    """Why nothing tells what the knobs matter, in a sentence; '' where something does."""
    if any(column.importance.values()):
        return ""
    count = len(tuned.of(column.name))
    if count < LEAST:
        so_far = f"{count_of(count, 'trial')} {'is' if count == 1 else 'are'} measured so far"
        return f"What each knob matters is told from {LEAST} measured trials on; {so_far}."
    if tuned.state != FINISHED:
        return "What each knob matters is told when the search has ended."
    return "Only one value of every knob was in the space, so none can matter."


def _finalists(tuned: Tuned, column: Column) -> Picture:
    """Bars with intervals, or the table with verdicts against what one would pick by hand."""
    study = column.finals
    if study is None or not study.measurements:
        is_over = tuned.state == FINISHED or tuned.recorded
        return _nothing(FINALISTS, "No finalists were measured in turns in this search." if is_over else NO_FINALS)
    heads, *rows = study.rows()
    plot = medians(study.measurements)
    return Picture(FINALISTS, FINALISTS, (plot,), Sheet(heads, tuple(rows)), notes=study.notes)
