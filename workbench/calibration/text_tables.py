"""Tables of ranges as text: TensorRT's calibration cache, NVIDIA's dynamic-range file, ONNX Runtime's plain list.

All three are lines of a tensor's name and a number, and none has a checksum: a digit that changed in a number, a letter
that changed in a name and whole lines that are gone cannot be told from the file alone. `lint` compares the names with
the model and the ranges with one another.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from workbench.errors import ConfigError

HEADERS = {
    "EntropyCalibration2": "entropy",
    "EntropyCalibration": "entropy",
    "MinMaxCalibration": "minmax",
    "LegacyCalibration": "legacy",
}
"""TensorRT's own name for what made a table -> the algorithm."""
LEVELS = 127
"""A scale is the range / 127."""

_HEADER = re.compile(r"TRT-([0-9X]+)-(\w+)")  # Paddle2ONNX writes 8XXX for the release
_LEGACY = re.compile(r"\d+ [0-9a-f]{16} [0-9a-f]{16}")
"""How caches of the legacy calibrator begin, without a release: regression cutoff and quantile, bits of float64."""
_LEGACY_NAME = "LegacyCalibration"
USUAL_LEGACY = f"{_LEGACY_NAME} 0 3ff0000000000000 3fefff2e48e8a71e"
"""The same with its name; cutoff 1.0, quantile 0.9999."""
_CACHE_LINE = re.compile(r"(.+): ([0-9a-fA-F]{1,8})", re.DOTALL)
_FLOAT = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGES_LINE = re.compile(rf"(.+): *({_FLOAT})", re.DOTALL | re.ASCII)
_PLAIN_LINE = re.compile(rf"(.+) ({_FLOAT})", re.DOTALL | re.ASCII)
_BITS = re.compile(r"[0-9a-f]{8}")
CUT_OFF = "the last line has no end: the file may be cut off"


class Ranges(NamedTuple):
    """What a file tells: largest absolute value by tensor, in the file's order; notes: what to know about them."""

    amax: dict[str, float]
    notes: tuple[str, ...] = ()


def read_cache(where: str, text: str) -> tuple[str, str, Ranges]:
    """Release, TensorRT's name of the algorithm, and ranges of a calibration cache. Raises ConfigError.

    The legacy calibrator's names no release; after its name stand the numbers that its first line holds.
    """
    first, _, body = text.partition("\n")
    form = "tensor name: 8 hexadecimal digits"
    if _LEGACY.fullmatch(first.rstrip()):
        return "", f"{_LEGACY_NAME} {first.rstrip()}", _read(where, body, 2, form, _CACHE_LINE, _from_bits)
    header = _HEADER.fullmatch(first.rstrip())
    if header is None or header[2] not in HEADERS:
        raise ConfigError(
            f"{where}: not a calibration table: it begins with {first[:60]!a}, not with a line like "
            "TRT-8600-EntropyCalibration2; calibrate again."
        )
    return header[1], header[2], _read(where, body, 2, form, _CACHE_LINE, _from_bits)


def is_cache(text: str) -> bool:
    """Whether a text begins as TensorRT's calibration caches do."""
    return text.startswith("TRT-") or _LEGACY.fullmatch(text.partition("\n")[0].rstrip()) is not None


def release_digits(release: str) -> str:
    """'8.6.1' -> '8601', '10.3.0' -> '100300', as caches write it; digits stay as they are. Raises ConfigError."""
    if re.fullmatch(r"[0-9X]{4,6}", release):
        return release
    match = re.fullmatch(r"(\d{1,2})\.(\d{1,2})(?:\.(\d{1,2})(?:[.\w-]*))?", release)
    if match is None:
        raise ConfigError(f"{release!r} is no release of TensorRT; write it like 8.6.1, or like 8601.")
    major, minor, patch = (int(part or 0) for part in match.groups())
    return str(major * (10_000 if major >= 10 else 1000) + minor * 100 + patch)


def write_cache(amax: Mapping[str, float], release: str, header: str) -> str:
    """A calibration cache, byte for byte as TensorRT writes it; a range of 0 stands in it as 0."""
    name, _, numbers = header.partition(" ")
    first = numbers or f"TRT-{release}-{name}"
    return f"{first}\n" + "".join(f"{tensor}: {_to_bits(value)}\n" for tensor, value in amax.items())


def read_numbers(where: str, text: str) -> tuple[str, Ranges]:
    """'ranges' or 'ort', and the ranges, of a file of lines 'name: number' or 'name number'. Raises ConfigError."""
    if text.strip() and _RANGES_LINE.fullmatch(_clean(text.partition("\n")[0])):
        return "ranges", _read(where, text, 1, "tensor name: number", _RANGES_LINE, _number)
    if text.strip() and _PLAIN_LINE.fullmatch(_clean(text.partition("\n")[0])):
        found = _read(where, text, 1, "tensor name number", _PLAIN_LINE, _number)
        if not any(name.endswith(":") for name in found.amax):  # else a space is missing or too much somewhere
            return "ort", found
    begin = f"it begins with {text[:60]!a}" if text.strip() else "it is empty"
    raise ConfigError(f"{where}: not a calibration table: {begin}; give a table of a known form, or samples as .npz.")


def write_ranges(amax: Mapping[str, float]) -> str:
    """NVIDIA's dynamic-range file. Tensors without a range are left out: NVIDIA's samples would set a range of 0.

    Numbers are written so that they read back as the same ones. NVIDIA's samples split a line at its first colon, so
    they do not find tensors with a colon in their name; the workbench does.
    """
    return "".join(f"{name}: {value!r}\n" for name, value in amax.items() if value)


def _read(
    where: str, text: str, first: int, form: str, line: re.Pattern[str], number: Callable[[str], float | None]
) -> Ranges:
    amax: dict[str, float] = {}
    for index, item in _lines(text, first):
        match = line.fullmatch(item)
        value = number(match[2]) if match else None
        if match is None or value is None:
            raise ConfigError(f"{where}, line {index}: {item[:80]!a} is no {form!r}; calibrate again.")
        if match[1] in amax:
            raise ConfigError(f"{where}, line {index}: {match[1]!a} stands in it twice; calibrate again.")
        amax[match[1]] = value
    if not amax:
        raise ConfigError(f"{where}: it names no tensor; calibrate again.")
    return Ranges(amax, () if text.endswith("\n") else (CUT_OFF,))


def _lines(text: str, first: int) -> Iterator[tuple[int, str]]:
    """Split at line feeds only: tensor names may hold what Python takes for other ends of lines."""
    for index, line in enumerate(text.split("\n"), first):
        if line.strip():
            yield index, _clean(line)


def _clean(line: str) -> str:
    return line.rstrip(" \t\r")


def _from_bits(digits: str) -> float:
    return float(struct.unpack(">f", bytes.fromhex(digits.zfill(8)))[0]) * LEVELS


def _to_bits(amax: float) -> str:
    return f"{int.from_bytes(struct.pack('>f', amax / LEVELS), 'big'):x}"


def _number(text: str) -> float | None:
    """None for what looks like the bits of a scale: a line of a calibration cache that lost its first line."""
    return None if _BITS.fullmatch(text) else float(text)
