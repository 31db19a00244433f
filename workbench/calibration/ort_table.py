"""ONNX Runtime's calibration table as its `write_calibration_table` writes it: .json, .flatbuffers and .cache.

Only the .json keeps the tensors' order and tells low and high ends apart; the others hold the high end alone. All
hold float32, so a range may change by its last bit.
"""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workbench.calibration.text_tables import Ranges
from workbench.errors import ConfigError

SUFFIXES = (".json", ".cache", ".flatbuffers")
STEM = "calibration"
"""What ONNX Runtime calls its files."""


def read_json(where: str, data: bytes) -> tuple[str, Ranges]:
    """The algorithm that the file names, or '', and the ranges. Raises ConfigError.

    Takes what ONNX Runtime writes (`write_calibration_table`, `save_tensors_data`) and, from older releases, pairs of
    low and high end by tensor.
    """
    try:
        content = json.loads(data, object_pairs_hook=_no_twins)
        tensors = content["data"] if content.get("CLS") == "TensorsData" else content
        method = content.get("calibration_method", {}) if tensors is not content else {}
        amax = {name.encode().decode(): _amax(value) for name, value in tensors.items()}  # no half characters
        algorithm = str(method.get("value", "")).rpartition(".")[2].lower()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{where}: no calibration table of ONNX Runtime ({error}); calibrate again.") from error
    if not amax:
        raise ConfigError(f"{where}: it names no tensor; calibrate again.")
    return algorithm if algorithm in ("entropy", "minmax", "percentile") else "", Ranges(amax)


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _amax(value: Any) -> float:
    """Of {'lowest': ..., 'highest': ...} or [low, high], whose ends are numbers or arrays: the larger magnitude."""
    low, high = (value["lowest"], value["highest"]) if isinstance(value, dict) else value
    ends = [_numbers(end) for end in (low, high)]
    if any(len(end) == 0 for end in ends) or (ends[0] > ends[1]).any():
        raise ValueError("a range whose low end lies above its high end")
    return float(np.abs(np.concatenate(ends)).max())


def _numbers(end: Any) -> np.ndarray:
    data = end["data"] if isinstance(end, dict) else end
    array = np.atleast_1d(np.asarray(data))
    if array.dtype.kind not in "if" or array.ndim > 1:
        raise TypeError("a range that is no number")
    return array.astype(np.float64)


def read_flatbuffers(where: str, data: bytes) -> Ranges:
    """Raises ConfigError, also when ONNX Runtime would store these ranges in other bytes: then some were changed."""
    try:
        amax = dict(_entries(data))
        whole = encode(amax)[".flatbuffers"] == data
    except (struct.error, ValueError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ConfigError(f"{where}: not a calibration table, or damaged ({error}); calibrate again.") from error
    if not amax or not whole:
        raise ConfigError(f"{where}: damaged, or not of ONNX Runtime; give the calibration.json that lies beside it.")
    return Ranges(dict(sorted(amax.items())))


def _entries(data: bytes) -> Iterator[tuple[str, float]]:
    from onnxruntime.quantization.CalTableFlatBuffers.TrtTable import TrtTable

    table = TrtTable.GetRootAs(data, 0)
    if table.DictLength() * 4 > len(data):
        raise ValueError("more entries than bytes")
    for index in range(table.DictLength()):
        entry = table.Dict(index)
        yield entry.Key().decode(), float(entry.Value())


def encode(amax: Mapping[str, float]) -> dict[str, bytes]:
    """What ONNX Runtime's own function writes, by suffix; from -amax to amax. Tensors without a range are left out."""
    from onnxruntime.quantization.calibrate import TensorData
    from onnxruntime.quantization.quant_utils import write_calibration_table

    ranges = {
        name: TensorData(lowest=np.array(-value, np.float32), highest=np.array(value, np.float32))
        for name, value in amax.items()
        if value
    }
    with tempfile.TemporaryDirectory() as folder:
        write_calibration_table(ranges, folder)
        return {suffix: (Path(folder) / f"{STEM}{suffix}").read_bytes() for suffix in SUFFIXES}
