"""`workbench compare`: outputs and latency of one model on several back ends or precisions, and where two part."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from workbench.accuracy import finite
from workbench.backends import available
from workbench.baselines import Baseline, onnxruntime_baseline
from workbench.commands.common import build_shown, read_arrays, read_model
from workbench.divergence import find_divergence
from workbench.engine import Engine
from workbench.errors import AccuracyError, ConfigError
from workbench.model import Model
from workbench.profiles import opt_shapes, opt_values, parse_profiles
from workbench.reference import random_feeds
from workbench.study import Study, save_study, study
from workbench.terminal import Printer
from workbench.timing import Timing
from workbench.types import BuildConfig, Calibration, Feeds, OptimizationProfile

PLAIN = "plain"
"""ONNX Runtime as it comes, as a contestant."""


def compare(options: argparse.Namespace) -> tuple[Any, str]:
    model, names = read_model(options), _names(options.engines)
    profiles = parse_profiles(options.shapes)
    if options.where and len(names) != 2:
        raise ConfigError(f"--where tells where two engines part: name two of them, not {len(names)}.")
    contestants = {name: _contestant(model, name, profiles, options) for name in names}
    feeds = _feeds(options, model, profiles)
    timing = Timing(options.iterations, limit_s=options.limit_s)
    found = study(contestants, feeds, timing, threads=options.threads, listener=Printer(False))
    notes = _precision_notes(names)
    data = {**_study_json(found), "notes": [*found.notes, *notes]}
    text = "\n".join(
        [f"{model.name}: {found.measurements[0].inputs}", str(found), *(f"note: {note}" for note in notes)]
    )
    if options.output:
        text += f"\nstudy: {save_study(found, options.output)}"
    if options.where:
        parted = find_divergence(
            *_engines(contestants), model, feeds, every_tensor=options.every_tensor, listener=Printer(False)
        )
        data["divergence"], text = parted.to_json(), f"{text}\n\n{parted}"
    _check(found, options.max_relative)
    return data, text


def _names(wanted: Sequence[str]) -> list[str]:
    """The contestants, the reference first; one alone is compared with its back end's fp32."""
    if len(wanted) == 1:
        wanted = [f"{wanted[0].partition(':')[0]}:fp32", *wanted]
    names = list(wanted) or ["onnxruntime:fp32", "onnxruntime:fp16"]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"{twice[0]} is named twice; name each once.")
    return names


def _contestant(
    model: Model, wanted: str, profiles: tuple[OptimizationProfile, ...], options: argparse.Namespace
) -> Engine | Baseline:
    if wanted == PLAIN:
        return onnxruntime_baseline(model, threads=options.threads)
    backend, _, precision = wanted.partition(":")
    calibration = None
    if precision == "int8" and options.calibration:
        calibration = Calibration(options.calibration)
    config = BuildConfig(precision=precision or "fp32", profiles=profiles, calibration=calibration)
    return build_shown(model, config, backend).engine


def _engines(contestants: dict[str, Engine | Baseline]) -> tuple[Engine, Engine]:
    one, other = contestants.values()
    if isinstance(one, Engine) and isinstance(other, Engine):
        return one, other
    raise ConfigError(f"--where looks into engines; {PLAIN} is none.")


def _feeds(options: argparse.Namespace, model: Model, profiles: tuple[OptimizationProfile, ...]) -> Feeds:
    if options.feeds is not None:
        return read_arrays(options.feeds)
    return random_feeds(model.inputs, opt_shapes(model.inputs, profiles), opt_values(profiles))


def _study_json(found: Study) -> dict[str, Any]:
    compared = found.comparison
    rows = []
    for item in found.measurements:
        middle, subject = item.median, found.subject(item.name)
        rows.append({
            "name": item.name, "backend": subject.backend, "precision": subject.precision,
            "key": subject.engine.key if subject.engine else None, "median_ms": middle.value,
            "median_interval_ms": [finite(middle.low), finite(middle.high)], "p90_ms": item.p90_ms,
            "p99_ms": item.p99_ms,
            "throughput_per_s": item.throughput_per_s, "verdict": found.verdict(item.name),
            "rank": list(found.ranks[item.name]), "outputs": _outputs_json(found, item.name), "clock": item.clock,
        })  # fmt: skip
    first = found.measurements[0]
    return {
        "study": found.id,
        "reference": found.reference,
        "contestants": rows,
        "failures": dict(found.failures),
        "comparison": compared.to_json() if compared else None,
        "shapes": {name: list(shape) for name, shape in first.shapes.items()},
        "machine": first.machine.to_json(),
    }


def _outputs_json(found: Study, name: str) -> list[dict[str, Any]]:
    if found.comparison is None or name == found.reference:
        return []
    item = next(item for item in found.comparison.contestants if item.name == name)
    return [] if item.evaluation is None else item.evaluation.to_json()["outputs"]


def _check(found: Study, allowed_relative: float | None) -> None:
    """Raises AccuracyError for an output that differs by more than is allowed."""
    if allowed_relative is None or found.comparison is None:
        return
    for item in found.comparison.others:
        if item.evaluation is None:
            raise AccuracyError(f"{item.name} cannot be compared: {item.failure}")
        worst = max(item.evaluation.outputs, key=lambda output: output.relative.value)
        if not worst.relative.value <= 100 * allowed_relative:
            share = f"{worst.relative.value / 100:.3g} where {allowed_relative:g} is allowed"
            raise AccuracyError(f"output {worst.output} of {item.name} differs by {share} (norm of the difference).")


def _precision_notes(names: Sequence[str]) -> list[str]:
    """What to know about these precisions on these back ends."""
    supports = available()
    notes = []
    for backend, _, precision in (name.partition(":") for name in names if name != PLAIN):
        note = (supports[backend].precision_notes or {}).get(precision)
        notes += [f"{backend} {precision}: {note}"] if note else []
    return notes
