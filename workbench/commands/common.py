"""What several commands share: loading, building, feeds, and values that JSON can hold."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from workbench import building
from workbench.backends import Session
from workbench.calibration.source import TABLE, kind_of
from workbench.calibration.table import read_table
from workbench.errors import ConfigError, FeedError
from workbench.export.environments import Environment, folder_of, why_make
from workbench.model import Model, load_model
from workbench.openings import edit
from workbench.profiles import opt_shapes, opt_values, parse_profiles
from workbench.reference import random_feeds
from workbench.terminal import Printer
from workbench.types import (
    CALIBRATORS,
    BuildConfig,
    BuilderOptions,
    Calibration,
    OptimizationProfile,
    TensorSpec,
    parse_size,
)


@contextmanager
def ctrl_c_cancels() -> Iterator[threading.Event]:
    """Within, Ctrl-C sets the event, so that work ends where nothing is lost; only in the main thread."""
    cancel = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield cancel
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: cancel.set())
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)


def asks_for_yes(environment: Environment) -> bool:
    """Ask on a terminal; elsewhere the export itself says how to say yes."""
    reason = why_make(environment) if sys.stdin.isatty() else ""
    if not reason:
        return False
    print(f"This model needs {environment}, which {reason}; made once in {folder_of(environment)}.", file=sys.stderr)
    print("Make it now? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def read_model(options: argparse.Namespace) -> Model:
    model = load_model(options.model)
    for change in options.dim:
        model = edit(model, change)
    return model


def read_config(options: argparse.Namespace) -> BuildConfig:
    """Raises ConfigError and ShapeError for what cannot be read."""
    config = read_network_config(options)
    pairs = _pairs("--layer-precision", options.layer_precision, "NODE=fp32")
    precisions = {node: precision.lower() for node, precision in pairs}
    return replace(
        config,
        keep_io_types=not options.convert_io,
        calibration=_calibration(options),
        builder=replace(config.builder, strip_weights=options.strip_weights, layer_precisions=precisions),
    )


def read_network_config(options: argparse.Namespace) -> BuildConfig:
    """Without what only an ONNX model can be built with."""
    pools = _pairs("--pool", options.pool, "NAME=2G")
    return BuildConfig(
        precision=options.precision or "fp32",
        profiles=parse_profiles(options.shapes),
        workspace_bytes=options.workspace,
        targets=tuple(_names(options.targets.lower())),
        builder=BuilderOptions(
            optimization_level=_number("--opt-level", options.opt_level),
            tactic_sources=tuple(_names(options.tactic_sources.lower())),
            memory_pools={name.lower(): parse_size(size) for name, size in pools},
            timing_cache=not options.no_timing_cache,
            version_compatible=options.version_compatible,
            refittable=options.refittable,
            dla_core=_number("--dla", options.dla),
        ),
    )


def _calibration(options: argparse.Namespace) -> Calibration | None:
    if options.calibrator not in (None, *CALIBRATORS):
        choices = ", ".join(CALIBRATORS)
        raise ConfigError(f"--calibrator: there is no {options.calibrator!r}; choose one of {choices}.")
    if options.calibration is None:
        if options.calibrator:
            raise ConfigError("--calibrator needs a collection or samples: name them with --calibration FILE.")
        return None
    if not Path(options.calibration).exists():
        raise ConfigError(
            f"--calibration {options.calibration}: there is no such file; name a collection, a table or .npz."
        )
    if options.calibrator and kind_of(options.calibration) == TABLE:
        own = read_table(options.calibration).algorithm
        if options.calibrator != own:  # to name its own is harmless
            raise ConfigError(
                f"--calibrator: {options.calibration} is a table, whose ranges stay as they are; leave it out."
            )
    return Calibration(options.calibration, options.calibrator or Calibration.algorithm)


def _number(option: str, text: str | None) -> int | None:
    if text is not None and not text.isdecimal():
        raise ConfigError(f"{option} {text}: write a whole number, 0 or more.")
    return None if text is None else int(text)


def numbers(option: str, text: str) -> tuple[float, ...]:
    """'0.485,0.456,0.406' -> three numbers. Raises ConfigError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{option} {text}: write numbers with commas, one for each channel.") from error


def height_and_width(option: str, text: str) -> tuple[int, int]:
    """'224x320' -> (224, 320). Raises ConfigError."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise ConfigError(f"{option} {text}: write HEIGHTxWIDTH, such as 224x224.")
    return int(parts[0]), int(parts[1])


def _pairs(option: str, texts: list[str], example: str) -> Iterator[tuple[str, str]]:
    """Names may hold '='; the last one counts."""
    seen = set()
    for text in texts:
        name, _, value = text.rpartition("=")
        if not name or not value:
            raise ConfigError(f"{option} {text}: write {example}.")
        if name in seen:
            raise ConfigError(f"{option} {text}: {name} is given twice.")
        seen.add(name)
        yield name, value


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def read_disabled(options: argparse.Namespace) -> list[str]:
    return [name for text in options.disable_ops for name in _names(text)]


def build_shown(
    model: Model, config: BuildConfig, backend: str | None, *, reuse: bool = True, verbose: bool = False
) -> building.Built:
    return building.build(model, config, backend, reuse=reuse, listener=Printer(verbose))


def read_feeds(
    options: argparse.Namespace, session: Session, profiles: tuple[OptimizationProfile, ...]
) -> Mapping[str, np.ndarray]:
    """What --feeds names, or random arrays in the profile's opt shapes."""
    if options.feeds is None:
        return random_feeds(session.inputs, opt_shapes(session.inputs, profiles), opt_values(profiles))
    return read_arrays(options.feeds)


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, by name. Raises FeedError."""
    try:
        with np.load(path) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, TypeError, AttributeError, BadZipFile) as error:
        what = f"cannot be read as .npz with one array per input: {error}"
        raise FeedError(f"{path}: {what}.") from error


def spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "dtype": spec.dtype,
        "shape": [dim if isinstance(dim, int) else None for dim in spec.shape],
        "dims": [None if dim is None else str(dim) for dim in spec.shape],
    }
