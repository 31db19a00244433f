"""A calibration -> HTML: pure functions, as in `render`."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from workbench.accuracy import Interval
from workbench.calibration.collection import Collection
from workbench.calibration.plan import Plan
from workbench.calibration.sensitivity import Sensitivity
from workbench.evaluation import Evaluation
from workbench.types import count_of
from workbench.widgets import render
from workbench.widgets.check_state import Accuracy
from workbench.widgets.preview import Preview, Values
from workbench.widgets.tensor_ranges import TensorRow, Threshold
from workbench.widgets.tensor_table import share
from workbench.widgets.write_state import COLLECTION_FORM, Written

STYLE = f"{render.STYLE}<style>{(Path(__file__).parent / 'static' / 'calibration.css').read_text()}</style>"
_MOST_BARS = 30
_MOST_FINDINGS = 12
EMPTY = "Nothing was collected yet: choose a model and data above and click Collect, or name a collection as data."


def section(title: str, about: str) -> str:
    return f"<h3>{escape(title)}</h3>{render.quiet(about)}"


# ---- data


def previews(shown: Sequence[Preview]) -> str:
    """Pictures with their label and range of values; a table of figures for what is none."""
    if any(item.png for item in shown):
        return f"<div class='wb-seen' data-shown='{len(shown)}'>{''.join(map(_figure, shown))}</div>"
    rows = []
    for item in shown:
        rows += [_figures(item, values) for values in item.values] or [[escape(item.id), escape(item.error), *[""] * 5]]
    heads = ("sample", "input", "type", "shape", "smallest", "largest", "mean")
    return f"<div class='wb-limits'>{render.html_table(heads, rows, numbers=(4, 5, 6))}</div>" if rows else ""


def _figure(item: Preview) -> str:
    if item.error:
        return f"<figure><div class='wb-bad'>{escape(item.error)}</div></figure>"
    data = base64.b64encode(item.png).decode()
    (values,) = item.values
    label = f"<b>label {item.label}</b> · " if item.label is not None else ""
    return (
        f"<figure><img alt='{escape(item.id, quote=True)}' src='data:image/png;base64,{data}'><figcaption>"
        f"{label}{values.low:.3g} to {values.high:.3g}<br>{'×'.join(map(str, values.shape))}"
        f"<span title='{escape(item.id, quote=True)}'>{escape(item.id)}</span></figcaption></figure>"
    )


def _figures(item: Preview, values: Values) -> list[str]:
    label = "" if item.label is None else f" <span class='wb-quiet'>label {item.label}</span>"
    figures = (f"{number:.4g}" for number in (values.low, values.high, values.mean))
    shape = "×".join(map(str, values.shape)) or "a single value"
    return [escape(item.id) + label, escape(values.name), values.dtype, shape, *figures]


def collection_card(collection: Collection, algorithm: str, overrides: int) -> str:
    """What was collected, and what is chosen of it."""
    facts = [
        ("samples", f"{len(collection.samples):,}"),
        ("tensors", f"{len(collection.tensors):,}"),
        ("algorithm", algorithm),
        ("of their own", count_of(overrides, "tensor") if overrides else ""),
        ("left out", count_of(len(collection.skipped), "sample") if collection.skipped else ""),
    ]
    settled = "Stopped early: no range grew any more. " if collection.settled else ""
    return (
        f"<div class='wb-card' data-samples='{len(collection.samples)}'><h4>{escape(collection.model_name)}: collected"
        f"<em>done</em></h4>{render.fact_row(facts)}"
        f"<p class='wb-quiet'>{settled}{escape(collection.data)} {escape(collection.made_with)}</p></div>"
    )


# ---- tensors


def tensor_facts(row: TensorRow, limits: Sequence[Threshold]) -> str:
    """The selected tensor's name, and a table of what every algorithm would do to it."""
    made_by = f"{row.op_type} {row.node}" if row.node else "an input of the model"
    lines = [
        [
            f"<b>{item.algorithm}</b>" if item.algorithm == row.chosen.algorithm else item.algorithm,
            f"{item.amax:.5g}",
            f"{item.amax / 127:.4g}",
            share(item.clipped),
            share(item.error),
        ]
        for item in limits
    ]
    table = render.html_table(("algorithm", "range", "step of int8", "clipped", "error"), lines, numbers=(1, 2, 3, 4))
    return (
        f"<div data-selected='{escape(row.tensor, quote=True)}'><b>{escape(row.tensor)}</b> "
        f"<span class='wb-quiet'>{escape(made_by)} · values from {row.minimum:.4g} to {row.maximum:.4g}</span></div>"
        f"<div class='wb-limits'>{table}</div>"
    )


# ---- what int8 costs


def harm_bars(measured: Sensitivity, keep: Sequence[str], gain: str = "") -> str:
    """The layers that add most error, those that the plan leaves in float marked; and the error as they return to
    float one after the other."""
    layers = sorted(measured.layers, key=lambda item: -item.harm)
    most = max((item.harm for item in layers if math.isfinite(item.harm)), default=0.0)
    cells = []
    for item in layers[:_MOST_BARS]:
        wide = 100 * min(item.harm / most, 1.0) if most else 0.0
        kept, mark = (" wb-kept", " · float in the plan") if item.node in keep else ("", "")
        cells.append(
            f"<div title='{escape(item.node, quote=True)}'>{escape(item.op_type)} "
            f"<span class='wb-quiet'>{escape(item.node)}{mark}</span></div>"
            f"<div class='wb-bar{kept}'><i style='width:{wide:.1f}%'></i></div>"
            f"<div class='wb-right'>{item.harm:.3g} %</div>"
        )
    head = f"{count_of(len(layers), 'layer')} of {measured.total} measured on {count_of(measured.samples, 'sample')}"
    more = f"; the {_MOST_BARS} most harmful are shown" if len(layers) > _MOST_BARS else ""
    note = "Relative error of the outputs that each one adds when it computes in int8."
    return (
        f"<div class='wb-quiet'>{head}{more}. {note}</div>"
        f"<div class='wb-harm' data-layers='{len(layers)}'>{''.join(cells)}</div>"
        f"<div class='wb-quiet'>{escape(gain)}</div>{_steps(measured)}"
    )


_STEPS_WIDTH, _STEPS_HEIGHT, _STEPS_LEFT, _STEPS_TOP = 720, 90, 56, 10


def _steps(measured: Sensitivity) -> str:
    """A line: relative error of the outputs by the number of layers that are in float."""
    errors = [(step.count, step.evaluation.drop("relative").value) for step in measured.steps]
    most = max((error for _, error in errors if math.isfinite(error)), default=0.0)
    if len(errors) < 2 or not most:
        return ""
    last, bottom = errors[-1][0], _STEPS_TOP + _STEPS_HEIGHT
    wide = _STEPS_WIDTH - _STEPS_LEFT - 12
    points = " ".join(
        f"{_STEPS_LEFT + wide * count / last:.1f},{bottom - _STEPS_HEIGHT * min(error / most, 1.0):.1f}"
        for count, error in errors
    )
    labels = [(0, "0"), (last, str(last))]
    marks = "".join(
        f"<text x='{_STEPS_LEFT + wide * count / last:.1f}' y='{bottom + 15}' text-anchor='middle'>{text}</text>"
        for count, text in labels
    )
    title = "error left when the most harmful layers are in float, one after the other"
    return (
        f"<div class='wb-histogram' data-steps='{len(errors)}'><svg viewBox='0 0 {_STEPS_WIDTH} {bottom + 22}' "
        f"role='img' aria-label='{title}'><line x1='{_STEPS_LEFT}' x2='{_STEPS_WIDTH - 12}' y1='{bottom}' "
        f"y2='{bottom}'/><polyline class='wb-left' points='{points}'/>"
        f"<text x='{_STEPS_LEFT - 6}' y='{_STEPS_TOP + 4}' text-anchor='end'>{most:.3g} %</text>"
        f"<text x='{_STEPS_LEFT - 6}' y='{bottom + 4}' text-anchor='end'>0</text>{marks}"
        f"<text x='{_STEPS_LEFT + wide / 2}' y='{bottom + 15}' text-anchor='middle'>{title}</text>"
        "</svg></div>"
    )


def plan_card(plan: Plan) -> str:
    """The verdict and the names of the layers."""
    names = "".join(f"<li><code>{escape(name)}</code></li>" for name in plan.keep[:_MOST_BARS])
    more = f"<li>and {len(plan.keep) - _MOST_BARS} more</li>" if len(plan.keep) > _MOST_BARS else ""
    title = f"{count_of(len(plan.keep), 'layer')} of {plan.total} in float" if plan.keep else "All layers in int8"
    kind, word = ("", "reached") if plan.reached else (" wb-error", "not reached")
    return (
        f"<div class='wb-card{kind}' data-plan='{len(plan.keep)}'><h4>The plan: {title}<em>{word}</em></h4>"
        f"<p>{escape(plan.verdict)}</p><ul class='wb-findings'>{names}{more}</ul></div>"
    )


_TITLES = {"top1": "top-1", "top5": "top-5"}


def accuracy_table(accuracy: Accuracy) -> str:
    """FP32, INT8, and INT8 with the plan, each with its 95 % confidence interval."""
    plain = accuracy.plain
    variants = [("INT8, all layers", plain)]
    if accuracy.planned is not None:
        variants.append((f"INT8, {count_of(len(accuracy.keep), 'layer')} in float", accuracy.planned))
    titles = {name: title for name, title in _TITLES.items() if getattr(plain, name) is not None}
    columns = list(titles)
    lost = [f"{titles[name]} lost" for name in columns[:1]]
    heads = ["", *titles.values(), *lost, "same answers", "relative error"]
    rows = [[name, *_scores(item, columns)] for name, item in variants]
    if columns:
        rows.insert(0, ["FP32", *(_interval(getattr(plain, name).reference) for name in columns), "", "", ""])
    warning = f"<p class='wb-bad' role='alert'>{escape(accuracy.warning)}</p>" if accuracy.warning else ""
    note = (
        f"{count_of(plain.count, 'sample')}; below each number where the true one lies with 95 % confidence. "
        "Rounding is simulated: it is the same on every processor."
    )
    table = render.html_table(heads, rows, note, numbers=range(1, len(heads)))
    return f"<div data-accuracy='{len(rows)}'>{warning}{table}</div>"


def _scores(evaluation: Evaluation, columns: Sequence[str]) -> list[str]:
    metrics = evaluation.metrics
    lost = [_interval(evaluation.drop(columns[0]), "points")] if columns else []
    same = ""
    if "argmax" in metrics:
        drop = evaluation.drop("argmax")
        same = _interval(Interval(100 - drop.value, 100 - drop.high, 100 - drop.low))
    scores = (_interval(getattr(evaluation, name).other) for name in columns)
    return [*scores, *lost, same, _interval(evaluation.drop("relative"))]


def _interval(item: Interval, unit: str = "%") -> str:
    return f"{item.value:.2f} {unit}<div class='wb-quiet'>{item.low:.2f} to {item.high:.2f}</div>"


# ---- writing


def written_card(written: Written, *, is_stale: bool = False) -> str:
    """The file, and what the check found. is_stale: other ranges are chosen by now."""
    what = "The collection" if written.form == COLLECTION_FORM else f"The table ({written.form})"
    if written.form == "qdq":
        what = "The model with Q/DQ nodes"
    items = [
        f"<li><span class='{'wb-bad' if item.severity == 'warning' else 'wb-quiet'}'>{escape(item.severity)}</span> "
        f"{escape(str(item))}</li>"
        for item in written.findings[:_MOST_FINDINGS]
    ]
    if len(written.findings) > _MOST_FINDINGS:
        items.append(f"<li>and {len(written.findings) - _MOST_FINDINGS} more</li>")
    fine = "" if written.form == COLLECTION_FORM else "<p class='wb-good'>Checked against the model: nothing found.</p>"
    found = f"<ul class='wb-findings'>{''.join(items)}</ul>" if items else fine
    kept = f"<p>{count_of(len(written.keep), 'layer')} of the plan stay in float.</p>" if written.keep else ""
    kept += "<p class='wb-bad'>Other ranges were chosen since: write it again.</p>" if is_stale else ""
    return (
        f"<div class='wb-card' data-written='{written.form}'><h4>{what}<em>written</em></h4>"
        f"<p><code>{escape(str(written.path))}</code></p>{kept}{found}</div>"
    )
