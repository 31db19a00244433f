"""Calibration tables: tensor name -> largest absolute value that int8 keeps, read from every form they are stored in.

'trt-cache': TensorRT's calibration cache, also as Paddle keeps it (`_opt_cache/trt_calib_...` beside a model).
'ranges': the per-tensor dynamic-range file of NVIDIA's samples. 'ort': ONNX Runtime's calibration.json, .cache and
.flatbuffers. 'qdq': an ONNX model with QuantizeLinear nodes. All but the last may be compressed by gzip.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.accuracy import finite
from workbench.calibration.ort_table import STEM, read_flatbuffers, read_json
from workbench.calibration.qdq_ranges import read_qdq
from workbench.calibration.text_tables import HEADERS, LEVELS, USUAL_LEGACY, Ranges, is_cache, read_cache, read_numbers
from workbench.errors import ConfigError
from workbench.model import load_model
from workbench.types import CALIBRATORS, TABLE_FORMATS

FORMATS = TABLE_FORMATS
ALGORITHMS = CALIBRATORS
_CACHES = {"entropy": "EntropyCalibration2", "minmax": "MinMaxCalibration", "legacy": USUAL_LEGACY}

# Where Paddle Inference keeps what TensorRT's calibrator gave it (GetTrtCalibPath in its analysis/helper.h).
_PADDLE_FOLDER, _PADDLE_PREFIX = "_opt_cache", "trt_calib_"
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class CalibrationTable:
    """amax: tensor -> largest absolute value kept, 0 where no range is known, in the file's order.

    algorithm: one of ALGORITHMS, '' where the file does not tell. release: TensorRT's, as its caches write it ('8600',
    '100300'). format: one of FORMATS. header: TensorRT's name of the algorithm ('EntropyCalibration2'), '' in other
    forms. notes: what its user should know about the file, without a full stop.
    """

    amax: Mapping[str, float]
    algorithm: str = ""
    release: str = ""
    format: str = "trt-cache"
    header: str = ""
    notes: tuple[str, ...] = ()

    def scale(self, name: str) -> float:
        """amax / 127 as the nearest float32; 0 where no range is known."""
        return float(np.float32(self.amax[name] / LEVELS))

    @property
    def cache_header(self) -> str:
        """TensorRT's name for the algorithm, its entropy calibrator's where it has none; no range depends on it."""
        return self.header or _CACHES.get(self.algorithm, _CACHES["entropy"])


def table_to_json(table: CalibrationTable) -> dict[str, Any]:
    """amax and scale are null where they are no finite number."""
    tensors = [
        {"tensor": name, "amax": finite(amax), "scale": finite(table.scale(name))} for name, amax in table.amax.items()
    ]
    return {"format": table.format, "release": table.release, "algorithm": table.algorithm, "tensors": tensors}


def read_table(path: str | Path) -> CalibrationTable:
    """A table of any form, told by its content; of a folder, ONNX Runtime's calibration.json or what Paddle keeps.

    What the file cannot tell, `lint` finds by the model. Raises ConfigError for a path that does not exist and a file
    that is no table, ModelError for a broken model.
    """
    file = _table_file(Path(path).expanduser())
    if file.suffix.lower() == ".onnx":
        return _table(read_qdq(load_model(file)), "qdq")
    data, where = _content(file), str(file)
    if data.startswith(b"PK"):
        raise ConfigError(f"{where}: an archive of arrays is not a calibration table; calibrate with it to get one.")
    if re.match(rb'\s*\{\s*["}]', data):
        algorithm, ranges = read_json(where, data)
        return _table(ranges, "ort", algorithm)
    if b"\0" in data[:4]:
        return _table(_flatbuffers(where, data), "ort")
    text = _text(data, where)
    if is_cache(text):
        release, header, ranges = read_cache(where, text)
        return CalibrationTable(ranges.amax, HEADERS[header.split()[0]], release, "trt-cache", header, ranges.notes)
    form, ranges = read_numbers(where, text)
    return _table(ranges, form)


def _flatbuffers(where: str, data: bytes) -> Ranges:
    try:
        return read_flatbuffers(where, data)
    except ConfigError as error:
        raise ConfigError(
            f"{where}: not a calibration table, or a damaged one. Beside ONNX Runtime's lies a calibration.json: give "
            "that. Of samples, such as Paddle's data set, `workbench calibrate` makes a collection."
        ) from error


def _table(ranges: Ranges, form: str, algorithm: str = "") -> CalibrationTable:
    return CalibrationTable(ranges.amax, algorithm, format=form, notes=ranges.notes)


def _content(file: Path) -> bytes:
    """Its bytes, unpacked where they are gzip's. Raises ConfigError."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: the calibration table cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise ConfigError(f"{str(file)[:200]!a}: not a path ({error}).") from error
    try:
        return gzip.decompress(data) if data.startswith(_GZIP) else data
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ConfigError(f"{file}: it is no whole gzip file ({error}); copy the calibration table again.") from error


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode()  # ONNX allows no other names
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: not a calibration table, or damaged: byte {error.start} is no text.") from error


def _table_file(path: Path) -> Path:
    """The path itself, or the one table that lies in this folder. Raises ConfigError."""
    try:
        if not path.is_dir():
            return path
        folder = path / _PADDLE_FOLDER if (path / _PADDLE_FOLDER).is_dir() else path
        found = sorted(folder.glob(f"{_PADDLE_PREFIX}*"))
        if not found and (path / f"{STEM}.json").is_file():
            return path / f"{STEM}.json"
    except (OSError, ValueError) as error:
        raise ConfigError(f"{str(path)[:200]!a}: cannot be read ({error}).") from error
    if not found:
        wanted = f"{STEM}.json or {_PADDLE_FOLDER}/{_PADDLE_PREFIX}..."
        raise ConfigError(f"{path}: a folder without a calibration table ({wanted}); name the file.")
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ConfigError(f"{folder}: {len(found)} tables, one for each part that Paddle gave TensorRT; name {names}.")
    return found[0]
