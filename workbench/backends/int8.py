"""int8: where ranges come from, and the model with Q/DQ nodes for ONNX Runtime, TensorRT-RTX and TensorRT 11."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench import precision, qdq
from workbench.backends import CALIBRATION
from workbench.calibration.source import COLLECTION, SAMPLES, TABLE, kind_of, read_ranges
from workbench.calibration.table import CalibrationTable
from workbench.calibration.thresholds import COMPUTED, thresholds
from workbench.calibration.writing import write_table
from workbench.errors import ConfigError
from workbench.model import Model
from workbench.types import CALIBRATORS, BuildConfig, Calibration, Listener, LogLine

NOTE = (
    "convolutions, and matrix products with weights, compute in int8, all else in fp32; ranges come from a "
    "calibration, or with the model (Q/DQ nodes)."
)
_NEEDS_RANGES = (
    "int8 needs the range of every activation: give a calibration, that is a collection, a table or samples, "
    "BuildConfig('int8', calibration=Calibration('samples.npz')), or a model with Q/DQ nodes."
)


def settled(model: Model, config: BuildConfig) -> BuildConfig:
    """As Backend.resolve for what concerns int8 by Q/DQ nodes; other precisions stay as they are.

    Nodes that are to compute in fp16 stay in fp32, as the others beside int8 do.
    """
    if config.precision != "int8":
        return config
    kept = config.builder.layer_precisions
    if kept and model.is_quantized:
        raise ConfigError(
            f"{model.name} brings its Q/DQ nodes along, so {next(iter(kept))} computes in what they say: leave the "
            "precisions of nodes out, or give the model before it was quantized."
        )
    if not model.is_quantized:
        qdq.check_quantizable(model)
    calibration = check_calibration(model, config)
    if calibration is not None:
        check_computed(model, calibration)
        if kind_of(calibration.path) == TABLE:
            qdq.check_ranges(model, read_ranges(calibration.path, model).amax, kept)
    builder = replace(config.builder, layer_precisions=dict.fromkeys(kept, "fp32"))
    return replace(config, calibration=calibration, builder=builder)


def check_calibration(model: Model, config: BuildConfig) -> Calibration | None:
    """The calibration with its whole path and a table's own algorithm; None for a model that brings its ranges along.

    Raises ConfigError for a file that cannot be read, is of another model, or cannot serve the algorithm.
    """
    given = config.calibration
    if model.is_quantized:
        if given is not None:
            raise ConfigError(f"{model.name} brings its ranges along (Q/DQ nodes); leave the calibration out.")
        return None
    if given is None:
        raise ConfigError(_NEEDS_RANGES)
    if given.algorithm not in CALIBRATORS:
        raise ConfigError(f"there is no calibrator {given.algorithm!r}; choose one of {', '.join(CALIBRATORS)}.")
    path = Path(given.path).expanduser().absolute()
    kind = kind_of(path)
    if kind == TABLE:
        return Calibration(str(path), read_ranges(path, model).algorithm or Calibration.algorithm)
    if kind == COLLECTION:
        read_ranges(path, model, "minmax")  # the quickest; it is refused where it does not fit the model
    return Calibration(str(path), given.algorithm)


def check_computed(model: Model, calibration: Calibration) -> None:
    """Raise ConfigError or FeedError where the workbench itself cannot find ranges in these samples or collection."""
    kind = kind_of(calibration.path)
    if kind != TABLE and calibration.algorithm not in COMPUTED:
        raise ConfigError(
            f"{calibration.algorithm} is TensorRT's own calibrator, up to release 10, fed with samples; choose one of "
            f"{', '.join(COMPUTED)}."
        )
    if kind == SAMPLES:
        from workbench.calibration.samples import open_samples

        open_samples(calibration.path, model)


def ingredients(config: BuildConfig) -> dict[str, Any]:
    """What makes two engines differ where Q/DQ nodes are put into the model."""
    if config.calibration is None:
        return {}
    return {"converter": f"Q/DQ {qdq.RELEASE}, {precision.converter_release()}", **content(config.calibration)}


def content(calibration: Calibration) -> dict[str, str]:
    """The hash of the calibration's content, also of a folder's. Raises ConfigError."""
    digest, path = hashlib.sha256(), Path(calibration.path)
    try:
        for file in sorted(path.rglob("*")) if path.is_dir() else (path,):
            if not file.is_dir():
                digest.update(f"\0{file.relative_to(path)}\0".encode())
                with file.open("rb") as opened:
                    while chunk := opened.read(1 << 22):
                        digest.update(chunk)
    except OSError as error:
        raise ConfigError(f"{path}: the calibration file cannot be read ({error.strerror}).") from error
    return {"calibration_content": digest.hexdigest()}


# ---- in the build's process


def rewritten(model: Model, config: BuildConfig, work: Path, folder: Path, listener: Listener) -> Model:
    """The model as this configuration wants it, for back ends to which types are the model's business.

    work: for the new model. folder: of the engine; it gets the calibration table.
    """
    if config.precision != "int8":
        return precision.converted(model, config, work, listener)
    if config.calibration is None:
        listener(LogLine("info", "The model brings its ranges along (Q/DQ nodes): nothing is calibrated"))
        return model
    table = ranges(model, config.calibration, listener)
    write_table(table, folder / CALIBRATION, "trt-cache")
    return qdq.quantize(model, table.amax, work, keep=tuple(config.builder.layer_precisions), listener=listener)


def ranges(model: Model, calibration: Calibration, listener: Listener) -> CalibrationTable:
    """The table in a file, or what the algorithm makes of a collection, or of one that samples give first."""
    if kind_of(calibration.path) != SAMPLES:
        table = read_ranges(calibration.path, model, calibration.algorithm)
        listener(LogLine("info", f"Ranges come from {calibration.path}"))
        return table
    from workbench.calibration.collect import collect
    from workbench.calibration.samples import open_samples

    collection = collect(model, open_samples(calibration.path, model), count=None, listener=listener)
    return thresholds(collection, calibration.algorithm)
