"""Whether a file of Paddle's weights is whole: Paddle 3 and its converter read one that is cut off without a word."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

from workbench.errors import ExportError
from workbench.protobuf import fields, varint

_ITEM_BYTES = {0: 1, 1: 2, 2: 4, 3: 8, 4: 2, 5: 4, 6: 8, 19: 8, 20: 1, 21: 1, 22: 2, 23: 8, 24: 16}
"""Of each `VarType.Type` of Paddle's framework.proto."""


def check_whole(path: Path) -> int:
    """The number of tensors in a `.pdiparams` file, in which one follows the other, each with its own header.

    Raises ExportError where the last one is cut off, or where something else follows. A type that is not known here
    ends the check.
    """
    size, count = path.stat().st_size, 0
    with path.open("rb") as file:
        while file.tell() < size:
            try:
                _skip_tensor(file)
            except KeyError:
                return count
            except (struct.error, IndexError, ValueError, OSError, OverflowError):  # nonsense for a size
                file.seek(size + 1)
            if file.tell() > size:
                raise ExportError(
                    f"{path}: the weights are cut off in tensor {count + 1} ({size:,} bytes), or something else "
                    "follows them; copy the file again."
                )
            count += 1
    return count


def _skip_tensor(file: BinaryIO) -> None:
    """Read a header as `DenseTensor`'s serialization writes it, and go to its end."""
    version, levels = struct.unpack("<IQ", file.read(12))
    for _ in range(min(levels, 16)):
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(length, 1)
    inner, length = struct.unpack("<Ii", file.read(8))
    if version or inner or levels > 16 or not 0 < length < 4096:
        raise ValueError("not a tensor")
    description = file.read(length)
    if len(description) < length:
        raise ValueError("cut off")
    kind, dims = _description(description)
    file.seek(_ITEM_BYTES[kind] * math.prod(dims), 1)


def _description(data: bytes) -> tuple[int, list[int]]:
    """The type and dimensions in a TensorDesc message: field 1 and field 2, packed or not."""
    kind, dims = -1, list[int]()
    for number, start, end in fields(data, 0, len(data)):
        if number == 1:
            kind = varint(data, start)[0]
        while number == 2 and start < end:
            dim, start = varint(data, start)
            dims.append(dim)
    return kind, dims
