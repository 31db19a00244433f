"""A search, and a single trial of it, as Python and for the shell, to copy."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path

from workbench import snippets
from workbench.preprocessing import Preprocessing
from workbench.profiles import format_shapes
from workbench.tuning import Goals, Space
from workbench.tuning.again import limit_text
from workbench.tuning.plan import CALIBRATED, COMPARED
from workbench.tuning.space_text import WRITABLE, format_values
from workbench.widgets.calibration_code import picture_words, preprocessing_text
from workbench.widgets.tuner_run import Order

ARRAYS = "arrays"


@dataclass(frozen=True)
class SearchWish:
    """data: path of the samples, '' where the program gave arrays. preprocessing: where it was changed by hand. usual:
    the space that is searched where none is given; None where the program gave one."""

    order: Order
    data: str
    preprocessing: Preprocessing | None
    usual: Space | None


def search_code(wish: SearchWish) -> dict[str, str]:
    """By title: Python, Command line."""
    return {"Python": "\n".join(_python(wish)), "Command line": "\n".join(_shell(wish))}


# ---- Python


def _python(wish: SearchWish) -> list[str]:
    order, names = wish.order, ["Budget", "tune"]
    model = order.model
    lines = [f"model = wb.load_model({snippets.shown_path(model.path)!r})"]
    lines += [f"model = wb.edit(model, {change!r})" for change in model.edits]
    words = ["model"]
    if order.space is not None:
        names.append("Space")
        lines += ["space = Space(", *(f"    {text}," for text in _space_words(order.space)), ")"]
        words.append("space")
    if order.goals != Goals():
        names += ["Goals", *(["Limit"] if order.goals.limits else [])]
        lines.append(f"goals = {_goals(order.goals)}")
        words.append("goals" if order.space is not None else "goals=goals")
    data = _data(wish)
    if data:
        names.append("Data")
        lines += [*(["arrays = ...  # yours: one array for each input, by its name"] if ARRAYS in data else []), data]
        words.append("data=data")
    words.append(f"budget={_budget(order)}")
    words += [f"scheduler={order.scheduler!r}"] if order.scheduler else []
    if order.profile is not None:
        lines.append(f"profile = wb.parse_shapes({format_shapes(order.profile)!r})")
        words.append("profile=profile")
    imports = ["import workbench as wb"]
    imports += ["from workbench.preprocessing import Preprocessing"] if wish.preprocessing else []
    imports.append(f"from workbench.tuning import {', '.join(sorted(names))}")
    return [*imports, "", *lines, f"tuned = tune({', '.join(words)})", "print(tuned)"]


def _space_words(space: Space) -> list[str]:
    """The knobs that do not have their default, one for each line; sets of profiles are the program's."""
    defaults = Space(("onnxruntime",))
    names = [item.name for item in fields(space)]
    shown = [name for name in names if name == "backend" or getattr(space, name) != getattr(defaults, name)]
    return [f"{name}={'...' if name == 'profiles' else repr(getattr(space, name))}" for name in shown]


def _goals(goals: Goals) -> str:
    words = [repr(goals.objectives)] if goals.objectives != Goals().objectives else []
    if goals.limits:
        told = ", ".join(f"Limit({item.objective!r}, {item.bound!r})" for item in goals.limits)
        words.append(f"limits=({told},)")
    words += [f"metric={goals.metric!r}"] if goals.metric else []
    return f"Goals({', '.join(words)})"


def _data(wish: SearchWish) -> str:
    data, words = wish.order.data, list[str]()
    if data.source is not None:
        words.append(repr(wish.data) if wish.data else ARRAYS)
    words += [f"preprocessing={preprocessing_text(wish.preprocessing)}"] if wish.preprocessing else []
    words += [f"calibration={snippets.shown_path(Path(data.calibration))!r}"] if data.calibration else []
    words += [f"calibrated={data.calibrated}"] if data.calibrated != CALIBRATED else []
    words += [f"compared={data.compared}"] if data.compared != COMPARED else []
    return f"data = Data({', '.join(words)})" if wish.order.data.has_ranges else ""


def _budget(order: Order) -> str:
    budget = order.budget
    words = [f"trials={budget.trials}"]
    words += [f"minutes={budget.minutes:g}"] if budget.minutes is not None else []
    return f"Budget({', '.join(words)})"


# ---- the shell


def _shell(wish: SearchWish) -> list[str]:
    order = wish.order
    model = order.model
    first = (
        [] if wish.data or order.data.source is None else ["# save your arrays with numpy.savez('samples.npz', ...)"]
    )
    words = ["workbench", "tune", snippets.shown_path(model.path), *(f"--dim={change}" for change in model.edits)]
    words += _data_words(wish)
    goals = order.goals
    words += ["--objective", ",".join(goals.objectives)] if goals.objectives != Goals().objectives else []
    for limit in goals.limits:
        words += ["--limit", limit_text(limit)]
    words += ["--metric", goals.metric] if goals.metric else []
    words += _space_options(wish)
    words += ["--trials", str(order.budget.trials)] if order.budget.trials else []
    words += ["--minutes", f"{order.budget.minutes:g}"] if order.budget.minutes else []
    words += ["--scheduler", order.scheduler] if order.scheduler else []
    words += [f"--shapes={text}" for text in format_shapes(order.profile)] if order.profile else []
    return [*first, shlex.join([*words, "-o", f"{model.name}-tuning.html"])]


def _data_words(wish: SearchWish) -> list[str]:
    data = wish.order.data
    words = ["--data", wish.data or "samples.npz"] if data.source is not None else []
    words += picture_words(wish.preprocessing)
    words += ["--calibration", snippets.shown_path(Path(data.calibration))] if data.calibration else []
    words += ["--calibrated", str(data.calibrated)] if data.calibrated != CALIBRATED else []
    return [*words, "--compared", str(data.compared or 0)] if data.compared != COMPARED else words


def _space_options(wish: SearchWish) -> list[str]:
    """The knobs that are not as usual where it runs; all of them where that is not this machine."""
    space, usual = wish.order.space, wish.usual
    if space is None:
        return []
    is_here = usual is not None and wish.order.scheduler in (None, "local")
    words: list[str] = []
    for knob in WRITABLE:
        if is_here and usual is not None and space.values(knob) == usual.values(knob):
            continue
        told = format_values(space, knob)
        name = knob.replace("_", "-")
        words += [f"--{name}", told] if knob in ("backend", "precision") else ["--space", f"{name}={told}"]
    return words
