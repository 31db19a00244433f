"""Where int8 takes ranges from: whatever file the user names, read as a table for a model."""

from __future__ import annotations

import zipfile
from pathlib import Path

from workbench.calibration.collection import is_collection, load_collection
from workbench.calibration.lint import lint, raise_for
from workbench.calibration.table import CalibrationTable, read_table
from workbench.calibration.thresholds import thresholds
from workbench.errors import ConfigError
from workbench.model import Model
from workbench.types import Listener, LogLine, ignore

SAMPLES, COLLECTION, TABLE = "samples", "collection", "table"


def kind_of(path: str | Path) -> str:
    """'samples' for .npz and .npy, 'collection', else 'table'. Raises ConfigError for a file that cannot be read."""
    path = Path(path).expanduser()
    try:
        with path.open("rb") as file:
            start = file.read(6)
    except IsADirectoryError:
        return TABLE  # Paddle's _opt_cache
    except OSError as error:
        raise ConfigError(f"{path}: the calibration file cannot be read ({error.strerror}).") from error
    if is_collection(path):
        return COLLECTION
    return SAMPLES if start == b"\x93NUMPY" or zipfile.is_zipfile(path) else TABLE


def read_ranges(
    path: str | Path, model: Model, algorithm: str = "entropy", *, listener: Listener = ignore
) -> CalibrationTable:
    """The table in a file, or what the algorithm makes of a collection; what speaks against it goes to the listener.

    Raises ConfigError for one of another model and for ranges that cannot be.
    """
    if kind_of(path) == COLLECTION:
        collection = load_collection(path)
        if collection.model_sha256 != model.sha256:
            raise ConfigError(
                f"{path} was collected from another model ({collection.model_name}, or {model.name} before it was "
                "changed): collect again."
            )
        return thresholds(collection, algorithm)
    table = read_table(path)
    findings = lint(table, model)
    raise_for(findings, str(path))
    for item in findings:
        listener(LogLine(item.severity, f"{path}: {item}"))
    return table
