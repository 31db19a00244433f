"""`workbench bench`: how fast an engine is, in the history, and against a baseline; `workbench recorded`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.accuracy import Interval, finite
from workbench.backends import GpuSession, LayerClock, Session, available
from workbench.commands.common import build_shown, read_config, read_feeds, read_model
from workbench.engine import Engine, open_engine
from workbench.errors import BackendError, ConfigError, ViewError
from workbench.layer_times import save_layer_times
from workbench.machine import usable_cores
from workbench.recorded import load_recorded, recorded_folders, recorded_to_json
from workbench.runs import History, Regression, Run, check, match, parse_percentage, run_of_measurement
from workbench.runs.differences import INCOMPARABLE
from workbench.store import EngineStore
from workbench.terminal import Printer, table
from workbench.timing import Measurement, Timing, format_rate, measure
from workbench.timing.statistics import quantile_ms
from workbench.timing.throughput import Throughput, throughput_sweep
from workbench.types import BuildConfig, Feeds

SLOWDOWN = "5%"
_TRIES = 3


def bench(options: argparse.Namespace) -> tuple[Any, str, int]:
    """The exit status is 1 where the engine is surely slower than the baseline allows, three times in sessions of their
    own, or cannot be compared with it: what happens between two sessions is in no interval."""
    config, allowed = read_config(options), _allowed(options)
    baseline = History().baseline(options.against) if options.against else None
    engine = _engine(options, config)
    timing = Timing(options.iterations, options.warmup, options.limit_s)
    regression, profile = None, None
    for _ in range(_TRIES if baseline else 1):
        with open_engine(engine, threads=options.threads) as session:
            _prepare(session, options)
            feeds = read_feeds(options, session, config.profiles or engine.config.profiles)
            measured = replace(measure(session, feeds, timing, listener=Printer(False)), name=_title(engine))
            if options.profile and isinstance(session, LayerClock):
                profile = save_layer_times(session.layer_times_ms(options.iterations), options.profile)
        run = run_of_measurement(measured, engine=engine)
        regression = check(run, match(run, baseline), allowed) if baseline else None
        _remember(run, measured, options.name)
        if regression is None or not regression.failed:
            break
    swept = _sweep(engine, feeds, options)
    data = _bench_json(engine, measured, run)
    data["profile"] = None if profile is None else str(profile)
    data["threads"] = options.threads or usable_cores()
    data["throughput"] = [_throughput_json(item) for item in swept]
    data["regression"] = regression.to_json() if regression else None
    parts = [_bench_text(engine, measured), _throughput_text(swept), _regression_text(regression)]
    parts += [f"times of layers: {profile}" if profile else "", f"run {run.id}" + _named(options.name)]
    return data, "\n".join(filter(None, parts)), int(regression is not None and _is_failure(regression))


def _allowed(options: argparse.Namespace) -> float:
    if options.max_slowdown and not options.against:
        raise ConfigError("--max-slowdown says how much slower than a baseline: name one with --against.")
    return parse_percentage(options.max_slowdown or SLOWDOWN)


def _engine(options: argparse.Namespace, config: BuildConfig) -> Engine:
    """The stored engine or folder that was named, or one built for the model. Raises ConfigError."""
    if bool(options.engine) == bool(options.model):
        raise ConfigError("bench measures a model or an engine: give an ONNX file, or --engine KEY.")
    if not options.engine:
        return build_shown(read_model(options), config, options.backend or _runner()).engine
    if options.backend or options.dim or options.precision or replace(config, profiles=()) != BuildConfig():
        what = "--shapes, --feeds and what concerns the runs go with it, everything else with a model"
        raise ConfigError(f"an engine is built already: {what}.")
    store, folder = EngineStore(), Path(options.engine)
    return store.load(folder, trust=options.trust) if folder.is_dir() else store.by_prefix(options.engine)


def _prepare(session: Session, options: argparse.Namespace) -> None:
    """Raises ConfigError for what only a session on an NVIDIA GPU can do."""
    if options.no_cuda_graph:
        if not isinstance(session, GpuSession):
            why = "this engine replays no CUDA graph, as it does not run on an NVIDIA GPU"
            raise ConfigError(f"--no-cuda-graph: {why}; leave it away.")
        session.cuda_graph = False


def _sweep(engine: Engine, feeds: Feeds, options: argparse.Namespace) -> tuple[Throughput, ...]:
    """Every batch of --batches with every number of --streams; nothing where neither was asked for."""
    if not (options.batches or options.streams):
        return ()
    own = next((array.shape[0] for array in feeds.values() if array.ndim), 1)
    threads = options.threads or (1 if options.streams else None)
    return throughput_sweep(
        lambda: open_engine(engine, threads=threads, in_turns=True), lambda batch: _of_batch(feeds, own, batch),
        options.batches or [own], options.streams or [1], listener=Printer(False),
    )  # fmt: skip


def _of_batch(feeds: Feeds, own: int, batch: int) -> dict[str, np.ndarray]:
    """The same rows, repeated or cut; arrays of another first dimension stay."""
    rows = np.arange(batch) % own
    return {name: array[rows] if array.ndim and array.shape[0] == own else array for name, array in feeds.items()}


def _remember(run: Run, measured: Measurement, name: str | None) -> None:
    history = History()
    history.add(run, measured.to_json())
    if name:
        history.name_baseline(name, run.id)


def _title(engine: Engine) -> str:
    return f"{engine.backend} {engine.precision}"


def _bench_json(engine: Engine, measured: Measurement, run: Run) -> dict[str, Any]:
    return {
        "run": run.id,
        "median_ms": measured.median_ms,
        "median_interval_ms": _ends(measured.median),
        "p90_ms": measured.p90_ms,
        "p99_ms": measured.p99_ms,
        "mean_ms": measured.mean_ms,
        "host_median_ms": measured.host_median_ms,
        "host_median_interval_ms": _ends(measured.host_median),
        "iterations": len(measured.times_ms),
        "warmup": measured.warmup,
        "settled": measured.settled,
        "batch": measured.batch,
        "shapes": {name: list(shape) for name, shape in measured.shapes.items()},
        "throughput_per_s": measured.throughput_per_s,
        "clock": measured.clock,
        "host_clock": measured.host_clock,
        "copies": measured.copies,
        "cuda_graph": measured.cuda_graph,
        "warnings": list(measured.warnings),
        "conditions": measured.conditions.to_json() if measured.conditions else None,
        "releases": dict(measured.releases),
        "backend": engine.backend,
        "release": engine.release,
        "precision": engine.precision,
        "key": engine.key,
        "machine": measured.machine.to_json(),
    }


def _ends(interval: Interval | None) -> list[float | None] | None:
    return None if interval is None else [finite(interval.low), finite(interval.high)]


def _bench_text(engine: Engine, measured: Measurement) -> str:
    rows = [("", "median ms", "95 % interval", "p90 ms", "p99 ms"), _time_row("", measured.median, measured.times_ms)]
    if measured.host_median is not None:
        rows[1] = _time_row("on the GPU", measured.median, measured.times_ms)
        rows.append(_time_row("host to host", measured.host_median, measured.host_times_ms))
    clocks = "; ".join(filter(None, (measured.clock, measured.host_clock)))
    head = (
        f"{engine.model_name} {engine.precision} on {engine.backend} {engine.release}, {measured.inputs}: "
        f"{format_rate(measured.throughput_per_s)}"
    )
    runs = f"{len(measured.times_ms)} runs after {measured.warmup} to warm up; {clocks}"
    seen = [str(measured.conditions or ""), *(f"note: {text}" for text in measured.warnings)]
    return "\n".join([head, table(rows), runs, *filter(None, seen), str(measured.machine)])


def _time_row(name: str, median: Interval, times_ms: tuple[float, ...]) -> tuple[str, ...]:
    p90, p99 = (quantile_ms(times_ms, share) for share in (0.90, 0.99))
    return (name, f"{median.value:.3f}", f"{median.low:.3f} to {median.high:.3f}", f"{p90:.3f}", f"{p99:.3f}")


def _throughput_json(item: Throughput) -> dict[str, Any]:
    found = item.per_s
    numbers: Mapping[str, Any] = {"per_s": found.value, "interval_per_s": _ends(found), "latency_ms": item.latency_ms}
    return {"batch": item.batch, "streams": item.streams, **numbers}


def _throughput_text(swept: tuple[Throughput, ...]) -> str:
    if not swept:
        return ""
    rows = [("batch", "streams", "per second", "95 % interval", "latency ms")]
    for item in swept:
        found = item.per_s
        ends = f"{format_rate(found.low)} to {format_rate(found.high)}"
        rows.append((str(item.batch), str(item.streams), format_rate(found.value), ends, f"{item.latency_ms:.3f}"))
    return table(rows)


def _is_failure(found: Regression) -> bool:
    return found.failed or found.verdict == INCOMPARABLE


def _regression_text(found: Regression | None) -> str:
    return "" if found is None else f"{'FAILED: ' if _is_failure(found) else 'baseline: '}{found.sentence}"


def _named(name: str | None) -> str:
    return f", from now on the baseline {name!r}" if name else ""


def recorded(options: argparse.Namespace) -> tuple[Any, str]:
    """What was measured on a GPU and kept."""
    folders = [Path(options.folder)] if options.folder else recorded_folders()
    if not folders:
        raise ViewError("nothing recorded was found: name a folder that holds runs.json.")
    found = [load_recorded(folder) for folder in folders]
    return [recorded_to_json(item) for item in found], "\n\n".join(f"{item.folder}\n{item}" for item in found)


def _runner() -> str:
    """The first back end that can build and run here."""
    for name, support in available().items():
        if support.can_build and support.can_run:
            return name
    raise BackendError("no back end can run engines on this machine.")
