"""A study as Python and for the shell, to copy."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from workbench import snippets
from workbench.profiles import format_shapes
from workbench.widgets.timing_choices import BASELINE, BUILD, GIVEN, Candidate
from workbench.widgets.timing_run import Order

_PLAIN = "plain"
"""What `workbench compare` calls the baseline."""


def timing_code(order: Order, batch: int, *, own_feeds: bool) -> dict[str, str]:
    """By title: Python, Command line. batch: of the feeds, which the notebook gave if own_feeds; the order's are not
    looked at."""
    return {"Python": "\n".join(_python(order, batch, own_feeds)), "Command line": "\n".join(_shell(order))}


def _python(order: Order, batch: int, own_feeds: bool) -> list[str]:
    model = order.offer.model
    imports = {"workbench.study": "study", "workbench.timing": "Timing"}
    lines = [f"model = wb.load_model({snippets.shown_path(model.path)!r})"]
    lines += [f"model = wb.edit(model, {change!r})" for change in model.edits]
    if any(item.kind == BASELINE for item in order.chosen):
        imports["workbench.baselines"] = "onnxruntime_baseline"
    lines += [*_profile_lines(order), "contestants = {", *(_contestant(item, order) for item in order.chosen), "}"]
    if own_feeds:
        lines.append("feeds = ...  # yours: one array for each input, by its name")
    else:
        imports |= {"workbench.profiles": "opt_shapes", "workbench.reference": "random_feeds"}
        profiles = "(profile,)" if order.offer.profile.ranges else "()"
        lines.append(f"feeds = random_feeds(model.inputs, opt_shapes(model.inputs, {profiles}))")
    options = [f"reference={order.reference!r}"]
    if order.data:
        imports["workbench.calibration.samples"] = "batches, choose, open_samples, read_samples"
        lines += _samples_lines(order, batch)
        options.append("samples=samples")
    lines += [f"found = study(contestants, feeds, {_timing(order)}, {', '.join(options)})", "print(found)"]
    if order.sweep is not None:
        imports |= {"workbench.timing.throughput": "throughput_sweep", "numpy": "resize"}
        lines += _sweep_lines(order)
    origin = [f"from {module} import {names}" for module, names in sorted(imports.items())]
    return ["import workbench as wb", *origin, "", *lines]


def _profile_lines(order: Order) -> list[str]:
    shapes = format_shapes(order.offer.profile)
    return [f"profile = wb.parse_shapes({shapes!r})"] if shapes else []


def _contestant(item: Candidate, order: Order) -> str:
    if item.kind == GIVEN:
        return f"    {item.name!r}: ...,  # yours"
    if item.kind == BASELINE:
        return f"    {item.name!r}: onnxruntime_baseline(model),"
    if item.kind != BUILD:
        return f"    {item.name!r}: wb.EngineStore().by_prefix({item.engine[:12]!r}),"
    config = order.offer.config(item.backend, item.precision)
    words = [repr(item.precision)]
    words += ["profiles=(profile,)"] if config.profiles else []
    if config.calibration is not None:
        words.append(f"calibration=wb.Calibration({snippets.shown_path(Path(config.calibration.path))!r})")
    return f"    {item.name!r}: wb.build(model, wb.BuildConfig({', '.join(words)}), {item.backend!r}),"


def _timing(order: Order) -> str:
    timing = order.timing
    words = [f"iterations={timing.iterations}"]
    words += [f"limit_s={timing.limit_s:g}"] if timing.limit_s is not None else []
    words += ["layers=True"] if timing.layers else []
    return f"Timing({', '.join(words)})"


def _samples_lines(order: Order, batch: int) -> list[str]:
    return [
        f"samples = open_samples({snippets.shown_path(Path(order.data))!r}, model)",
        f"chosen = choose(len(samples), {order.count})",
        f"samples = batches(read_samples(samples, chosen, skipped=[]), {batch})",
    ]


def _sweep_lines(order: Order) -> list[str]:
    """For the first engine: the others go alike."""
    assert order.sweep is not None
    name = next((item.name for item in order.chosen if item.kind not in (BASELINE, GIVEN)), None)
    if name is None:
        return []
    sweep = order.sweep
    opened = [spec.name for spec in order.offer.model.inputs if spec.open_axes[:1] == (0,)]
    return [
        f"engine = found.subject({name!r}).engine  # the others alike",
        "rows = lambda array, batch: resize(array, (batch, *array.shape[1:]))",
        f"grown = lambda batch: {{**feeds, **{{name: rows(feeds[name], batch) for name in {opened!r}}}}}",
        f"batches, streams = {list(sweep.batches)}, {list(sweep.streams)}",
        "opened = lambda: wb.open_engine(engine)",
        f"points = throughput_sweep(opened, grown, batches, streams, seconds={sweep.seconds:g})",
        "for item in points:",
        "    print(f'batch {item.batch}, {item.streams} streams: {item.per_s.value:,.0f} per second')",
    ]


def _shell(order: Order) -> list[str]:
    """One `compare` for all that it knows, in turns; `bench` for the others one by one."""
    known = [item for item in order.chosen if item.kind in (BUILD, BASELINE)]
    if len(known) < 2:
        return list(_bench_lines(order.chosen, order))
    others = [item for item in order.chosen if item not in known]
    return [_compare_line(known, order), *_bench_lines(others, order)]


def _compare_line(known: Sequence[Candidate], order: Order) -> str:
    """The reference stands first."""
    ordered = sorted(known, key=lambda item: item.name != order.reference)
    names = [_PLAIN if item.kind == BASELINE else f"{item.backend}:{item.precision}" for item in ordered]
    path, *dims = _model_words(order)
    words = ["workbench", "compare", path, *names, *dims, *_shapes(order), *_calibration(known, order)]
    return shlex.join([*words, *_timing_words(order)])


def _bench_lines(items: Sequence[Candidate], order: Order) -> Iterator[str]:
    for item in items:
        if item.kind in (GIVEN, BASELINE):
            yield f"# {' '.join(item.name.split())}: as in Python"
            continue
        words = ["workbench", "bench"]
        if item.kind == BUILD:
            words += [*_model_words(order), "--backend", item.backend, "--precision", item.precision, *_shapes(order)]
            words += _calibration([item], order)
        else:
            words += ["--engine", item.engine[:12]]
        yield shlex.join([*words, *_timing_words(order)])


def _calibration(items: Sequence[Candidate], order: Order) -> list[str]:
    """Where one of them is built with it."""
    builds = [item for item in items if item.kind == BUILD]
    found = [order.offer.config(item.backend, item.precision).calibration for item in builds]
    return next((["--calibration", snippets.shown_path(Path(item.path))] for item in found if item is not None), [])


def _timing_words(order: Order) -> list[str]:
    limit = [] if order.timing.limit_s is None else ["--limit-s", f"{order.timing.limit_s:g}"]
    return ["--iterations", str(order.timing.iterations), *limit]


def _model_words(order: Order) -> list[str]:
    model = order.offer.model
    return [snippets.shown_path(model.path), *(f"--dim={change}" for change in model.edits)]


def _shapes(order: Order) -> list[str]:
    return [f"--shapes={text}" for text in format_shapes(order.offer.profile)]
