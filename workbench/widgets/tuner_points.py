"""PointPlot and RowTable: the trials of a search as marks and as rows, drawn in the browser, one of them selected."""

from __future__ import annotations

import anywidget
from traitlets import Dict, List, Unicode

from workbench.tuning import Trial
from workbench.widgets.browser import script
from workbench.widgets.tuner_plot import Spot
from workbench.widgets.tuner_results import STATES, TrialRow, score_facts

_TEXTS = (1, -1)
"""Columns that stand on the left."""


class PointPlot(anywidget.AnyWidget):
    """svg: as `picture_of` makes it. spots: as `shown_spot` makes them; set before svg. selected: a trial's id."""

    _esm = script("selecting", "tuner_points")

    svg = Unicode().tag(sync=True)
    spots = List(Dict()).tag(sync=True)
    selected = Unicode().tag(sync=True)


class RowTable(anywidget.AnyWidget):
    """heads, rows: as `shown_heads` and `shown_row` make them. selected: a trial's id."""

    _esm = script("selecting", "tuner_rows")

    heads = List(Dict()).tag(sync=True)
    rows = List(Dict()).tag(sync=True)
    selected = Unicode().tag(sync=True)


def shown_spot(spot: Spot, trial: Trial) -> dict[str, object]:
    """label: what is read out and shown under the pointer."""
    told = [f"{title} {text}" for title, text in score_facts(trial.score)[:3]] if trial.score else []
    state = [] if trial.is_complete else [STATES[trial.state]]
    return {
        "id": spot.id,
        "left": spot.left,
        "top": spot.top,
        "label": "; ".join([str(trial.candidate), *state, *told]),
    }


def shown_heads(heads: tuple[str, ...]) -> list[dict[str, object]]:
    left = {place % len(heads) for place in _TEXTS}
    return [{"title": title, "right": place not in left} for place, title in enumerate(heads)]


def shown_row(row: TrialRow) -> dict[str, object]:
    """mark: how the row stands out."""
    mark = (
        "best" if row.is_best else "front" if row.is_front else "" if row.cells[-1] == STATES["complete"] else "quiet"
    )
    return {"id": row.id, "cells": list(row.cells), "sort": list(row.sort), "mark": mark}
