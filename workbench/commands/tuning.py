"""`workbench tune`: the best engine found, its front, and a report."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.commands.calibrating import read_data
from workbench.commands.common import read_model
from workbench.errors import Cancelled, ConfigError, WorkbenchError
from workbench.model import Model
from workbench.profiles import parse_profiles
from workbench.store import EngineStore
from workbench.terminal import Printer
from workbench.timing import Timing
from workbench.traffic import propose, read_traffic
from workbench.tuning import Budget, Controls, Data, Goals, Space, Tuned, parse_limit, save_tuned
from workbench.tuning import tune as tune_model
from workbench.tuning.report import save_tuning_report
from workbench.tuning.space_text import with_knobs
from workbench.tuning.task import TIMING
from workbench.types import LogLine, Progress, count_of

TRIALS = 25
"""How many, where neither --trials nor --minutes says."""
PROFILES = 3
"""Sets of 1 to so many optimization profiles are searched with --traffic."""


def tune(options: argparse.Namespace) -> tuple[Any, str, int]:
    """Ctrl-C once: no further trial, and the finalists of what was found are measured; twice: it ends there, and the
    same command goes on. The exit status is 1 where nothing is within the limits."""
    model, goals = read_model(options), _goals(options)
    trials = options.trials or (None if options.minutes else TRIALS)
    budget = Budget(trials, options.minutes, finals_again=options.finals_again)
    report, shown = _target(options.output), _Shown(options.verbose)
    with _ctrl_c() as controls:
        found = tune_model(
            model,
            lambda usual: _space(options, usual, model),
            goals,
            _data(options, model),
            budget=budget,
            scheduler=options.scheduler,
            profile=next(iter(parse_profiles(options.shapes)), None),
            timing=Timing(TIMING.iterations, limit_s=options.limit_s or TIMING.limit_s),
            sampler=options.sampler,
            again={"Shell": options.line},
            controls=controls,
            each=shown.begun,
            listener=shown,
        )
    try:
        written = _written(found, report, options.save)
    except WorkbenchError:
        print(found, file=sys.stderr)  # what was found is not lost with the place for it
        raise
    data = {**found.to_json(), "report": str(written[0])}
    text = "\n".join([str(found), *(f"written: {path}" for path in written)])
    return data, text, int(found.best is None)


def _written(found: Tuned, report: Path | None, save: str | None) -> list[Path]:
    written = [save_tuning_report(found, report or EngineStore().folder / "reports" / f"tuning-{found.id}.html")]
    return [*written, save_tuned(found, save)] if save else written


def _goals(options: argparse.Namespace) -> Goals:
    limits, metric = [], options.metric
    for text in options.limit:
        limit, named = parse_limit(text)
        if named and metric and named != metric:
            raise ConfigError(f"{text!r}: accuracy is told in one metric, and {metric} was asked for already.")
        limits.append(limit)
        metric = named or metric
    names = [name.strip().lower() for name in options.objective.split(",") if name.strip()]
    return Goals(tuple(names), tuple(limits), metric)


def _data(options: argparse.Namespace, model: Model) -> Data:
    if options.calibration is not None and not Path(options.calibration).exists():
        raise ConfigError(f"--calibration {options.calibration}: there is no such file; name a collection or a table.")
    samples = read_data(options, model) if options.data else None
    return Data(samples, None, options.calibration, options.calibrated, options.compared or None)


def _space(options: argparse.Namespace, usual: Space, model: Model) -> Space:
    texts = list(options.space)
    for knob, value in (("backend", options.backend), ("precision", options.precision)):
        if value:
            texts.append(f"{knob}={value}")
    if options.traffic:
        proposals = propose(read_traffic(options.traffic, model.inputs), model.inputs, PROFILES)
        found = {f"{count_of(len(item.profiles), 'profile')} of traffic": item.profiles for item in proposals}
        usual = replace(usual, profiles={**usual.profiles, **found})
    return with_knobs(usual, texts)


def _target(text: str | None) -> Path | None:
    if text is None:
        return None
    try:
        Path(text).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {text}: nothing can be written there ({error.strerror}).") from error
    if Path(text).suffix.lower() not in (".html", ".md"):
        raise ConfigError(f"--output {text}: a report is .html or .md; name the file so.")
    return Path(text)


@contextmanager
def _ctrl_c() -> Iterator[Controls]:
    controls = Controls()
    if threading.current_thread() is not threading.main_thread():
        yield controls
        return

    def stop(number: int, frame: object) -> None:
        if controls.stop.is_set():
            controls.cancel.set()
            return
        controls.stop.set()
        print("\nstopping; Ctrl-C again leaves it at once, to go on later", file=sys.stderr)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield controls
    except Cancelled as error:
        print(f"workbench: {error}", file=sys.stderr)
        raise KeyboardInterrupt from error
    finally:
        signal.signal(signal.SIGINT, before)


class _Shown(Printer):
    """What is searched, and a line for every trial, besides what a build tells."""

    def __init__(self, verbose: bool) -> None:
        super().__init__(verbose)
        self._has_begun = False

    def begun(self, found: Tuned) -> None:
        if not self._has_begun and found.columns:
            self._has_begun = True
            for column in found.columns:
                print(f"{found.model}: {found.goals}; {column.sizes} on {column.name}", file=sys.stderr)
                print(*(f"  {text}" for text in column.left_out), sep="\n", file=sys.stderr)

    def __call__(self, event: Progress | LogLine) -> None:
        if isinstance(event, LogLine) and event.text.startswith("trial "):
            print(f"\r\x1b[K{event.text}" if self.in_place else event.text, file=sys.stderr)
        else:
            super().__call__(event)
