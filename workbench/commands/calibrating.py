"""`workbench calibrate`, `calibration`, `sensitivity` and `dataset`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.calibration.collect import collect
from workbench.calibration.collection import SUFFIX, Collection, is_collection, load_collection, merge, save_collection
from workbench.calibration.lint import Finding, lint, raise_for
from workbench.calibration.paddle_dataset import write_paddle_dataset
from workbench.calibration.plan import plan as search
from workbench.calibration.samples import Samples, open_samples
from workbench.calibration.sensitivity import Sensitivity
from workbench.calibration.sensitivity import sensitivity as measure
from workbench.calibration.source import read_ranges
from workbench.calibration.table import CalibrationTable, read_table, table_to_json
from workbench.calibration.thresholds import thresholds
from workbench.calibration.work import gain_in_words, node_work
from workbench.calibration.writing import form_of, write_table
from workbench.commands.common import height_and_width, numbers, read_model
from workbench.errors import ConfigError, FeedError
from workbench.evaluation import overlap
from workbench.model import Model
from workbench.preprocessing import Preprocessing
from workbench.terminal import Printer
from workbench.terminal import table as table_of
from workbench.types import count_of

_SHOWN = 20


def calibrate(options: argparse.Namespace) -> tuple[Any, str]:
    """The collection is kept in any case: it serves every algorithm and every form."""
    model, output = read_model(options), Path(options.output)
    form = None if output.suffix == SUFFIX else form_of(output, options.to)
    samples = read_data(options, model)
    kept = output.with_suffix(SUFFIX)
    partial = kept.with_name(kept.name + ".partial")
    started, printer = time.perf_counter(), Printer(options.verbose)
    found = collect(
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
    )
    save_collection(found, kept)
    if form is not None:
        write_table(thresholds(found, options.algorithm), output, form, model=model, release=options.release)
    seconds = time.perf_counter() - started
    data = {**_collection_to_json(found), "collection": str(kept), "file": str(output), "format": form or "collection"}
    data |= {"algorithm": options.algorithm, "seconds": seconds}
    return data, _collected_text(found, samples, kept, seconds) + (f"\n{form}: {output}" if form else "")


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
    return open_samples(options.data, model, replace(usual, source="", **wished))


def dataset(options: argparse.Namespace) -> tuple[Any, str]:
    written = write_paddle_dataset(
        read_data(options, read_model(options)), options.output, strict=options.strict, listener=Printer(False)
    )
    data = {"file": str(written.path), "samples": written.count, "skipped": [item.id for item in written.skipped]}
    left_out = f", {len(written.skipped)} left out" if written.skipped else ""
    return data, f"{count_of(written.count, 'picture')} with labels{left_out}: {written.path}"


def calibration(options: argparse.Namespace) -> tuple[Any, str]:
    return {"show": _show, "convert": _convert, "merge": _merge}[options.do](options)


def _show(options: argparse.Namespace) -> tuple[Any, str]:
    path = _single(options)
    found, model = _ranges(path, options), read_model(options) if options.model else None
    findings = lint(found, model, release=options.release) if model else ()
    data = table_to_json(found)
    if is_collection(path):
        data = {**_collection_to_json(load_collection(path)), **data, "format": "collection"}
    if model:
        data["findings"] = [{"severity": item.severity, "tensor": item.tensor, "text": item.text} for item in findings]
    return data, _table_text(found, findings)


def _table_text(found: CalibrationTable, findings: Sequence[Finding]) -> str:
    head = ", ".join(
        filter(None, (found.format, f"TensorRT {found.release}" if found.release else "", found.algorithm))
    )
    rows = [(name, f"{amax:.6g}", f"{found.scale(name):.6g}") for name, amax in found.amax.items()]
    told = [f"{item.severity}: {item}" for item in findings]
    return "\n".join([head, table_of([("tensor", "amax", "scale"), *rows]), *told])


def _ranges(path: str, options: argparse.Namespace) -> CalibrationTable:
    return thresholds(load_collection(path), options.algorithm) if is_collection(path) else read_table(path)


def _convert(options: argparse.Namespace) -> tuple[Any, str]:
    path, output = _single(options), _output(options)
    model = read_model(options) if options.model else None
    found, form = _ranges(path, options), form_of(Path(output), options.to)
    findings = lint(found, model) if model else ()
    raise_for(findings, path)
    written = write_table(found, output, form, model=model, release=options.release)
    data = {"file": str(written), "format": form, "tensors": len(found.amax)}
    data["findings"] = [{"severity": item.severity, "tensor": item.tensor, "text": item.text} for item in findings]
    told = [f"{item.severity}: {item}" for item in findings]
    return data, "\n".join([f"{form}, {count_of(len(found.amax), 'tensor')}: {written}", *told])


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
    model, printer, seen = read_model(options), Printer(options.verbose), list[Sensitivity]()
    table, samples = (
        read_ranges(options.calibration, model, options.algorithm, listener=printer),
        read_data(options, model),
    )
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
    rows = [(item.node, item.op_type, f"{item.harm:.3g} %") for item in measured.layers[:_SHOWN]]
    more = f"\nand {len(measured.layers) - _SHOWN} more (--json)" if len(measured.layers) > _SHOWN else ""
    return table_of([("node", "operator", "error added"), *rows]) + more
