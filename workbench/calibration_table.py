"""Calibration tables as TensorRT's calibrators write them (the 'calibration cache'): tensor name -> scale.

The first line names release and algorithm, `TRT-8600-EntropyCalibration2`; every other one is `tensor name: hhhhhhhh`,
the bits of a float32 in hexadecimal. A scale is the largest absolute value / 127; 0 means that no range is known.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import ConfigError

_HEADER = re.compile(r"TRT-(\d+)-(\w+)")
_LINE = re.compile(r"(.*): ([0-9a-fA-F]{1,8})")
ALGORITHMS = {
    "EntropyCalibration2": "entropy",
    "EntropyCalibration": "entropy",
    "MinMaxCalibration": "minmax",
    "LegacyCalibration": "legacy",
}


@dataclass(frozen=True)
class CalibrationTable:
    """release: its digits as the table writes them ('8600'). algorithm: as the table writes it. scales: by tensor."""

    release: str
    algorithm: str
    scales: Mapping[str, float]

    @property
    def calibrator(self) -> str:
        """The one of CALIBRATORS that the algorithm belongs to."""
        return ALGORITHMS[self.algorithm]


def read_table(path: str | Path) -> CalibrationTable:
    """Raises ConfigError for a file that cannot be read or is no calibration table."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: the calibration table cannot be read ({error.strerror}).") from error
    header = _HEADER.fullmatch(lines[0].strip()) if lines else None
    if header is None or header[2] not in ALGORITHMS:
        found = f"{lines[0][:60]!a}" if lines else "nothing"
        raise ConfigError(
            f"{path}: not a calibration table: it begins with {found}, not with a line like "
            "TRT-8600-EntropyCalibration2; give a table that TensorRT wrote, or samples as .npz."
        )
    return CalibrationTable(header[1], header[2], dict(_entry(path, number, line) for number, line in _body(lines)))


def _body(lines: list[str]) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(lines[1:], 2) if line.strip()]


def _entry(path: str | Path, number: int, line: str) -> tuple[str, float]:
    match = _LINE.fullmatch(line.rstrip())
    if match is None:
        raise ConfigError(f"{path}, line {number}: {line[:80]!a} is no 'tensor name: scale'; calibrate again.")
    return match[1], struct.unpack(">f", bytes.fromhex(match[2].zfill(8)))[0]
