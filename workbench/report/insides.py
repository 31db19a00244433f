"""What is inside of engines: the fusions of up to two of them, and where int8 has its ranges from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from workbench.backends import CALIBRATION
from workbench.calibration.lint import lint
from workbench.calibration.table import read_table
from workbench.engine import Engine
from workbench.errors import WorkbenchError
from workbench.fusion import diff, open_fusion
from workbench.fusion.shares import group_times
from workbench.layer_times import median_times
from workbench.picture.figures import fusion_picture
from workbench.report.choosing import Group
from workbench.report.engines import Stock
from workbench.report.facts import CalibrationFacts, EngineFacts, FusionFacts
from workbench.study import comparable
from workbench.timing import Measurement

_UNTOLD = ("percentile", "mse")
"""Algorithms of which the head of TensorRT's cache knows nothing."""
_MOST_BOXES = 4000
"""A page with larger pictures takes long to open."""


def shown_engines(engines: Sequence[EngineFacts], groups: Sequence[Group], stock: Stock) -> list[EngineFacts]:
    """The one or two whose fusions are drawn: what the first study compares with, if it is an engine, else its slowest
    one; and its fastest."""
    stored = {item.key: item for item in engines if item.key in stock.engines}
    for group in groups:
        latencies, _ = comparable(group.study.measurements)
        keys = {item.name: item.engine.key for item in group.study.subjects if item.engine is not None}
        order = sorted((name for name in keys if keys[name] in stored), key=lambda name: latencies[name].value)
        if order:
            first = group.study.reference if group.study.reference in order else order[-1]
            return [stored[key] for key in dict.fromkeys((keys[first], keys[order[0]]))]
    return list(stored.values())[:2]


def measured_by_engine(groups: Sequence[Group]) -> dict[str, Measurement]:
    """By key: the first measurement with times of layers, else the first one."""
    found: dict[str, Measurement] = {}
    for group in groups:
        for item in group.study.measurements:
            engine = group.study.subject(item.name).engine
            if engine is not None and (
                engine.key not in found or (item.layer_times_ms and not found[engine.key].layer_times_ms)
            ):
                found[engine.key] = item
    return found


def fusion_facts(shown: Sequence[EngineFacts], measured: Mapping[str, Measurement]) -> tuple[FusionFacts, ...]:
    return tuple(_fusion(item, measured.get(item.key)) for item in shown)


def _fusion(item: EngineFacts, measured: Measurement | None) -> FusionFacts:
    times = median_times(measured.layer_times_ms) if measured is not None else {}
    try:
        opened = open_fusion(item.key, times_ms=times)
    except WorkbenchError as error:
        return FusionFacts(item.title, "", (f"Nothing is known of its layers: {error}",))
    notes = [f"{note[:1].upper()}{note[1:]}" for note in opened.notes]
    picture = fusion_picture(opened.fusion, item.title)
    boxes = len(picture.before.boxes) + len(picture.after.boxes)
    if boxes > _MOST_BOXES:
        notes.append(
            f"The picture of {boxes:,} boxes is left out; `workbench fusion {item.key[:12]} --html FILE.html` draws it."
        )
    whole = measured.median_ms if measured is not None else None
    name = item.names[0] if item.names else item.title
    shares = group_times(opened.fusion, whole, name) if opened.fusion.time_ms is not None else None
    return FusionFacts(
        item.title, opened.fusion.summary, tuple(notes), picture if boxes <= _MOST_BOXES else None, shares
    )


def change_between(shown: Sequence[EngineFacts]) -> str:
    """What differs between two engines, in a sentence; '' where it cannot be told."""
    if len(shown) != 2:
        return ""
    try:
        before, after = (open_fusion(item.key).fusion for item in shown)
    except WorkbenchError:  # its own entry says why
        return ""
    return diff(before, after).summary


# ---- calibration


def calibration_facts(engines: Sequence[EngineFacts], stock: Stock) -> tuple[CalibrationFacts, ...]:
    """One for every int8 engine."""
    return tuple(_calibration(item, stock.engines.get(item.key), stock) for item in engines if item.precision == "int8")


def _calibration(item: EngineFacts, engine: Engine | None, stock: Stock) -> CalibrationFacts:
    if engine is None:
        return CalibrationFacts(
            item.title, "", "", None, (), ("The engine is no longer in the store, nor its ranges.",)
        )
    asked = engine.config.calibration
    if asked is None:
        return CalibrationFacts(item.title, "", "", None, (), ("The model brought its ranges along, as Q/DQ nodes.",))
    if CALIBRATION not in engine.files:
        why = "No table of ranges was kept with the engine."
        return CalibrationFacts(item.title, "", asked.algorithm, None, (), (why,))
    path = Path(asked.path)
    try:
        table = read_table(path)
    except WorkbenchError as error:
        return CalibrationFacts(item.title, str(path), asked.algorithm, None, (), (f"It cannot be read: {error}",))
    model = stock.models.get(str(engine.recipe["model"]))
    notes = (
        () if model is not None else ("The model's file is not at hand, so the ranges cannot be checked against it.",)
    )
    findings = tuple(f"{found.severity}: {found}" for found in lint(table, model)) if model is not None else ()
    algorithm = asked.algorithm if asked.algorithm in _UNTOLD else table.algorithm or asked.algorithm
    return CalibrationFacts(item.title, str(path), algorithm, len(table.amax), findings, notes)
