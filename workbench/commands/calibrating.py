"""`workbench calibrate`, `calibration` and `sensitivity`."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.calibration.collect import collect
from workbench.calibration.collection import SUFFIX, Collection, is_collection, load_collection, merge, save_collection
from workbench.calibration.lint import Finding, activations_of, lint, lint_collection, raise_for
from workbench.calibration.plan import plan as search
from workbench.calibration.samples import Samples, open_samples
from workbench.calibration.sensitivity import Sensitivity
from workbench.calibration.sensitivity import sensitivity as measure
from workbench.calibration.source import read_ranges
from workbench.calibration.table import CalibrationTable, read_table, table_to_json
from workbench.calibration.thresholds import thresholds
from workbench.calibration.work import gain_in_words, node_work
from workbench.calibration.writing import check_place, check_target, form_of, write_table
from workbench.commands.common import ctrl_c_cancels, height_and_width, numbers, read_model
from workbench.commands.spreading import collect_there
from workbench.errors import Cancelled, ConfigError, FeedError
from workbench.evaluation import overlap
from workbench.model import Model
from workbench.preprocessing import SIDED, Preprocessing
from workbench.terminal import Printer
from workbench.terminal import table as table_of
from workbench.types import Calibration, count_of

_SHOWN = 20
_WITHOUT_EFFECT = {"show": ("output", "to"), "merge": ("to", "release", "algorithm", "model"), "convert": ()}
"""Options of `calibration` that one of its verbs would pass over."""


def calibrate(options: argparse.Namespace) -> tuple[Any, str]:
    """The collection is kept in any case: it serves every algorithm and every form."""
    model = read_model(options)
    form, output = _target(options, model)
    kept = _place_of_collection(output, model)
    if not activations_of(model):
        raise ConfigError(
            f"{model.name}: nothing to calibrate: no tensor that depends on the inputs is floating-point."
        )
    if options.scheduler and options.shard != "1/1":
        raise ConfigError("--shard is for machines that know nothing of each other; with --scheduler leave it out.")
    samples = read_data(options, model)
    partial = kept.with_name(kept.name + ".partial")
    started, printer = time.perf_counter(), Printer(options.verbose)
    with ctrl_c_cancels() as cancel:
        try:
            found = (
                collect_there(options, model, samples, printer, cancel)
                if options.scheduler
                else collect(
                    model,
                    samples,
                    count=options.samples or None,
                    skip=options.skip,
                    shard=_shard(options.shard),
                    budget_bytes=options.budget,
                    until_settled=not options.to_the_end,
                    strict=options.strict,
                    partial=partial,
                    listener=printer,
                    cancel=cancel,
                )
            )
        except Cancelled as error:
            print(f"workbench: {error} The same command goes on from there.", file=sys.stderr)
            raise KeyboardInterrupt from error
    save_collection(found, kept)
    partial.unlink(missing_ok=True)
    algorithm = options.algorithm or Calibration.algorithm
    if form:
        write_table(thresholds(found, algorithm), output, form, model=model, release=options.release)
    seconds = time.perf_counter() - started
    data = {**_collection_to_json(found), "collection": str(kept), "file": str(output), "format": form or "collection"}
    data |= {"algorithm": algorithm, "seconds": seconds}
    return data, _collected_text(found, samples, kept, seconds) + (f"\n{form}: {output}" if form else "")


def _target(options: argparse.Namespace, model: Model | None) -> tuple[str, Path]:
    """Form ('' for a collection) and absolute path of what shall be written, checked before long work."""
    path = Path(os.path.abspath(Path(options.output).expanduser()))
    if not options.output:
        raise ConfigError("-o is empty: name the file to write.")
    form = "" if path.suffix == SUFFIX else form_of(path, options.to)
    without_effect = ["release"] * (form != "trt-cache") + ["to", "algorithm"] * (not form)
    for name in without_effect:
        if getattr(options, name):
            what = f"in the form {form}" if form else "a collection, which serves every form and algorithm"
            raise ConfigError(f"--{name} has no effect on {path.name}, {what}; leave it out or name another file.")
    if form:
        check_target(path, form, model=model, release=options.release)
    return form, path


def _place_of_collection(output: Path, model: Model) -> Path:
    """Beside a table lies its collection. One that lies there already is replaced only if it is of the same model."""
    path = output.with_suffix(SUFFIX)
    check_place(path, model)
    if path != output and path.exists() and not _is_of(path, model):
        raise ConfigError(
            f"{path}: the collection goes there too, but what lies there is none of {model.name}; name another file "
            f"than {output.name}."
        )
    return path


def _is_of(path: Path, model: Model) -> bool:
    try:
        return load_collection(path).model_sha256 == model.sha256
    except ConfigError:
        return False


def _shard(text: str) -> tuple[int, int]:
    parts = text.split("/")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--shard {text}: write I/N, such as 2/4.")
    return int(parts[0]), int(parts[1])


def _collection_to_json(found: Collection) -> dict[str, Any]:
    return {
        "model": found.model_name,
        "samples": len(found.samples),
        "skipped": list(found.skipped),
        "settled": found.settled,
        "tensors": len(found.tensors),
        "data": found.data,
    }


def _collected_text(found: Collection, samples: Samples, path: Path, seconds: float) -> str:
    lines = [samples.about]
    settled = ", when ranges had settled" if found.settled else ""
    lines.append(
        f"{count_of(len(found.samples), 'sample')} in {seconds:.1f} s{settled}: "
        f"ranges of {count_of(len(found.tensors), 'tensor')}"
    )
    if found.skipped:
        lines.append(f"left out, for they cannot be read: {', '.join(found.skipped[:5])} ({len(found.skipped)} in all)")
    return "\n".join([*lines, f"collection: {path}"])


def read_data(options: argparse.Namespace, model: Model) -> Samples:
    """What --data names, pictures prepared as the options say, else as its own preprocessing does."""
    found: dict[str, Any] = {
        "size": height_and_width("--size", options.size) if options.size else None,
        "resize": options.resize,
        "resize_to": options.resize_to,
        "channels": options.channels,
        "scale": options.scale,
        "mean": numbers("--mean", options.mean) if options.mean else None,
        "std": numbers("--std", options.std) if options.std else None,
    }
    wished = {name: value for name, value in found.items() if value is not None}
    if not wished:
        return open_samples(options.data, model)
    try:
        usual = open_samples(options.data, model).preprocessing or Preprocessing()
    except (ConfigError, FeedError):  # what is missing may be among the wishes
        usual = Preprocessing()
    if options.size and usual.size is None:  # what was found is for pictures of any size
        usual = replace(usual, multiple_of=1, resize="stretch")
    how = replace(usual, source="", **wished)
    if options.resize_to and how.resize not in SIDED:
        raise ConfigError(f"--resize-to has no effect on --resize {how.resize}; choose one of {', '.join(SIDED)}.")
    return open_samples(options.data, model, how)


def calibration(options: argparse.Namespace) -> tuple[Any, str]:
    for name in _WITHOUT_EFFECT[options.do]:
        if getattr(options, name):
            raise ConfigError(f"--{name} has no effect on calibration {options.do}; leave it out.")
    return {"show": _show, "convert": _convert, "merge": _merge}[options.do](options)


def _show(options: argparse.Namespace) -> tuple[Any, str]:
    path = _single(options)
    if options.release and not options.model:
        raise ConfigError("--release has no effect without a model to check for: name it with --model FILE.onnx.")
    model = read_model(options) if options.model else None
    found, about = _ranges(path, options)
    findings = (*(lint(found, model, release=options.release) if model else ()), *about)
    data, form = table_to_json(found), found.format
    if is_collection(path):
        collection = load_collection(path)
        data = {**_collection_to_json(collection), **data, "format": "collection"}
        form = f"collection of {count_of(len(collection.samples), 'sample')}"
    return {**data, "findings": _findings_to_json(findings)}, _table_text(form, found, findings)


def _findings_to_json(findings: Sequence[Finding]) -> list[dict[str, str]]:
    return [{"severity": item.severity, "tensor": item.tensor, "text": item.text} for item in findings]


def _told(findings: Sequence[Finding]) -> list[str]:
    return [f"{item.severity}: {item}" for item in findings]


def _table_text(form: str, found: CalibrationTable, findings: Sequence[Finding]) -> str:
    head = ", ".join(filter(None, (form, f"TensorRT {found.release}" if found.release else "", found.algorithm)))
    rows = [(name, f"{amax:.6g}", f"{found.scale(name):.6g}") for name, amax in found.amax.items()]
    return "\n".join([head, table_of([("tensor", "amax", "scale"), *rows]), *_told(findings)])


def _ranges(path: str, options: argparse.Namespace) -> tuple[CalibrationTable, tuple[Finding, ...]]:
    """The table, and what is to be known about the collection that it was made of."""
    if is_collection(path):
        collected = load_collection(path)
        return thresholds(collected, options.algorithm or Calibration.algorithm), lint_collection(collected)
    _refuse_algorithm(path, options)
    return read_table(path), ()


def _refuse_algorithm(path: str, options: argparse.Namespace) -> None:
    if options.algorithm:
        raise ConfigError(
            f"--algorithm: {path} is no collection; the ranges of a table stay as they are: leave it out."
        )


def _convert(options: argparse.Namespace) -> tuple[Any, str]:
    path = _single(options)
    model = read_model(options) if options.model else None
    if Path(_output(options)).suffix == SUFFIX:
        raise ConfigError(f"{options.output}: no collection can be made of {path}; name a table, such as x.cache.")
    form, output = _target(options, model)
    found, about = _ranges(path, options)
    findings = (*(lint(found, model) if model else ()), *about)
    raise_for(findings, path)
    written = write_table(found, output, form, model=model, release=options.release)
    data = {"file": str(written), "format": form, "tensors": len(found.amax), "findings": _findings_to_json(findings)}
    return data, "\n".join([f"{form}, {count_of(len(found.amax), 'tensor')}: {written}", *_told(findings)])


def _merge(options: argparse.Namespace) -> tuple[Any, str]:
    if len(options.files) < 2:
        raise ConfigError("calibration merge joins collections: name two files or more.")
    found = load_collection(options.files[0])
    for path in options.files[1:]:
        found = merge(found, load_collection(path))
    written = save_collection(found, _output(options))
    return {**_collection_to_json(found), "file": str(written)}, f"{count_of(len(found.samples), 'sample')}: {written}"


def _single(options: argparse.Namespace) -> str:
    if len(options.files) != 1:
        raise ConfigError(f"calibration {options.do} reads one file; {len(options.files)} are named.")
    return str(options.files[0])


def _output(options: argparse.Namespace) -> str:
    if not options.output:
        raise ConfigError(f"calibration {options.do} writes a file: name it with -o FILE.")
    return str(options.output)


def sensitivity(options: argparse.Namespace) -> tuple[Any, str]:
    """Stopped, it tells what was measured until then."""
    if not (math.isfinite(options.max_drop) and options.max_drop >= 0):
        raise ConfigError(f"--max-drop {options.max_drop:g}: write how many points may be lost, 0 or more.")
    if not is_collection(options.calibration):
        _refuse_algorithm(options.calibration, options)
    model, printer, seen = read_model(options), Printer(options.verbose), list[Sensitivity]()
    algorithm = options.algorithm or Calibration.algorithm
    table = read_ranges(options.calibration, model, algorithm, listener=printer)
    samples = read_data(options, model)
    try:
        measured = measure(model, table, samples, count=options.samples or None, each=seen.append, listener=printer)
    except KeyboardInterrupt:
        if not seen:
            raise
        return {"sensitivity": seen[-1].to_json(), "plan": None, "warning": ""}, _layers_text(seen[-1])
    best = search(model, table, samples, measured, max_drop=options.max_drop, metric=options.metric, listener=printer)
    known = load_collection(options.calibration).samples.values() if is_collection(options.calibration) else ()
    warning = overlap(best.before.digests, known)
    work = node_work(model, {name: array.shape for name, array in samples.read(0).feeds.items()})
    data = {"sensitivity": measured.to_json(), "plan": best.to_json(), "work": [item.to_json() for item in work]}
    data |= {"gain": gain_in_words(work, best.keep), "warning": warning}
    told = [_layers_text(measured), best.verdict, *(f"--layer-precision {name}=fp16" for name in best.keep)]
    return data, "\n".join(filter(None, [*told, gain_in_words(work, best.keep), warning]))


def _layers_text(measured: Sensitivity) -> str:
    layers = sorted(measured.layers, key=lambda item: item.harm, reverse=True)
    rows = [(item.node, item.op_type, f"{item.harm:.3g} %") for item in layers[:_SHOWN]]
    more = f"\nand {len(measured.layers) - _SHOWN} more (--json)" if len(measured.layers) > _SHOWN else ""
    return table_of([("node", "operator", "error added"), *rows]) + more
