"""What several commands share: loading, building, feeds, and values that JSON can hold."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any
from zipfile import BadZipFile

import numpy as np

from workbench import building
from workbench.backends import Session
from workbench.errors import FeedError
from workbench.model import Model, load_model
from workbench.openings import edit
from workbench.profiles import opt_shapes, parse_profiles
from workbench.reference import random_feeds
from workbench.terminal import Printer
from workbench.types import BuildConfig, OptimizationProfile, TensorSpec


def read_model(options: argparse.Namespace) -> Model:
    model = load_model(options.model)
    for change in options.dim:
        model = edit(model, change)
    return model


def read_config(options: argparse.Namespace) -> BuildConfig:
    return BuildConfig(
        precision=options.precision or "fp32",
        profiles=parse_profiles(options.shapes),
        workspace_bytes=options.workspace,
        targets=tuple(name for name in options.targets.lower().split(",") if name),
        keep_io_types=not options.convert_io,
    )


def read_disabled(options: argparse.Namespace) -> list[str]:
    return [name.strip() for text in options.disable_ops for name in text.split(",") if name.strip()]


def build_shown(
    model: Model, config: BuildConfig, backend: str | None, *, reuse: bool = True, verbose: bool = False
) -> building.Built:
    return building.build(model, config, backend, reuse=reuse, listener=Printer(verbose))


def read_feeds(
    options: argparse.Namespace, session: Session, profiles: tuple[OptimizationProfile, ...]
) -> Mapping[str, np.ndarray]:
    """What --feeds names, or random arrays in the profile's opt shapes."""
    if options.feeds is None:
        return random_feeds(session.inputs, opt_shapes(session.inputs, profiles))
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
