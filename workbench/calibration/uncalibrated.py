"""INT8 without a calibration: one range for every tensor, as when nobody looked. It shows what that costs."""

from __future__ import annotations

from pathlib import Path

from workbench.calibration.exposed import float_tensors
from workbench.calibration.table import CalibrationTable
from workbench.calibration.writing import write_table
from workbench.model import Model
from workbench.types import Calibration

AMAX = 4.0


def uncalibrated(model: Model, path: str | Path, *, amax: float = AMAX) -> Calibration:
    """Write a file of ranges in which every activation reaches to `amax`, and return it for BuildConfig.

    Larger values are clipped, whatever they mean. Raises ConfigError where the file cannot be written.
    """
    counted, repeated = float_tensors(model)
    ranges = dict.fromkeys((*counted, *repeated), amax)
    return Calibration(str(write_table(CalibrationTable(ranges, format="ranges"), path, "ranges")))
