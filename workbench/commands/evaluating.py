"""`workbench dataset`, `benchmark` and `accuracy`: what the steps of PaddleSlim's tutorial do, on any back end."""

from __future__ import annotations

import argparse
import math
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.calibration.paddle_dataset import write_paddle_dataset
from workbench.calibration.samples import Samples
from workbench.commands.calibrating import read_data
from workbench.commands.common import asks_for_yes, ctrl_c_cancels
from workbench.commands.spreading import comparing_there
from workbench.contest import Contest, Rules, Source, accuracy, benchmark, entrants, find_source, open_source
from workbench.contest.accuracy import check_engines
from workbench.contest.entrants import usual_precisions
from workbench.contest.feeding import fixed_batch
from workbench.errors import AccuracyError, Cancelled, ConfigError, StoreError
from workbench.openings import edit
from workbench.runs import History, Run
from workbench.terminal import Printer
from workbench.timing import Timing
from workbench.types import Calibration, count_of


def run_benchmark(options: argparse.Namespace) -> tuple[Any, str]:
    timing = Timing(options.iterations, limit_s=options.seconds)
    with _contest(options) as contest:
        found = benchmark(replace(contest, rules=replace(contest.rules, timing=timing)))
    kept = _recorded(found.runs, [part.study.id for part in found.rounds])
    return found.to_json(), "\n".join(filter(None, (found.source.note, str(found), kept)))


def run_accuracy(options: argparse.Namespace) -> tuple[Any, str]:
    """What is measured is shown in any case; losing more than --max-drop is a failure all the same."""
    most = options.max_drop
    if most is not None and not (math.isfinite(most) and most >= 0):
        raise ConfigError(f"--max-drop {most:g}: write how many points may be lost, 0 or more.")
    if options.batch_size and len(options.batch_size) > 1:
        raise ConfigError("--batch-size: accuracy does not depend on it; give one.")
    if options.scheduler:
        check_engines(entrants(_names(options.backend)))
    with _contest(options) as contest, comparing_there(options.scheduler) as elsewhere:
        found = accuracy(contest, elsewhere)
    kept = _recorded(found.runs, [found.id])
    text = "\n".join(filter(None, (found.source.note, str(found), kept)))
    if most is not None:
        try:
            found.check(most, options.metric)
        except AccuracyError:
            print(text, file=sys.stderr)
            raise
    return found.to_json(), text


@contextmanager
def _contest(options: argparse.Namespace) -> Iterator[Contest]:
    """What the options describe. Within, Ctrl-C ends the work where nothing is half done, and the command."""
    names, wished = _names(options.backend), _names(options.precision)
    entrants(names, wished)  # mistakes are told before Paddle is started
    printer = Printer(options.verbose)
    with ctrl_c_cancels() as cancel:
        try:
            source, yes = _read_source(options, printer, cancel)
            rules = _rules(options, source, yes)
            wanted = entrants(names, wished or usual_precisions(source, rules.calibration))
            yield Contest(source, _samples(options, source), wanted, rules, printer, cancel)
        except Cancelled as error:
            print(f"workbench: {error}", file=sys.stderr)
            raise KeyboardInterrupt from error


def _read_source(options: argparse.Namespace, printer: Printer, cancel: threading.Event) -> tuple[Source, bool]:
    """The model, exported where it is Paddle's, and whether its environment may be made."""
    found = find_source(options.model)
    yes = options.yes or (not isinstance(found, Path) and asks_for_yes(found.environment))
    source = open_source(options.model, make_environment=yes, listener=printer, cancel=cancel)
    for change in options.dim:
        source = replace(source, model=edit(source.model, change))
    return source, yes


def dataset(options: argparse.Namespace) -> tuple[Any, str]:
    printer = Printer(False)
    source, _ = _read_source(options, printer, threading.Event())
    written = write_paddle_dataset(_samples(options, source), options.output, strict=options.strict, listener=printer)
    data = {"file": str(written.path), "samples": written.count, "skipped": [item.id for item in written.skipped]}
    left_out = f", {len(written.skipped)} left out" if written.skipped else ""
    return data, f"{count_of(written.count, 'picture')} with labels{left_out}: {written.path}"


def _names(texts: Iterable[str]) -> list[str]:
    return [part.strip().lower() for text in texts for part in text.split(",") if part.strip()]


def _rules(options: argparse.Namespace, source: Source, yes: bool) -> Rules:
    return Rules(
        batches=tuple(options.batch_size or (fixed_batch(source.model) or 1,)),
        samples=options.samples or None,
        calibration=Calibration(options.calibration) if options.calibration else None,
        threads=options.threads,
        strict=options.strict,
        make_environment=yes,
    )


def _recorded(runs: Iterable[tuple[Run, Mapping[str, Any]]], studies: Sequence[str]) -> str:
    """Write the rows of the history, and say where; where that cannot be, only a warning."""
    try:
        History().add_many(runs)
    except StoreError as error:
        print(f"workbench: this is not in the history: {error}", file=sys.stderr)
        return ""
    return "In the history: " + ", ".join(f"workbench runs --study {study}" for study in studies)


def _samples(options: argparse.Namespace, source: Source) -> Samples:
    """A model that was exported lies elsewhere now; what its own folder says of pictures counts."""
    model = source.model
    return read_data(options, replace(model, path=source.folder / model.path.name))
