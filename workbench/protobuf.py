"""The wire format of protobuf, read without a schema: https://protobuf.dev/programming-guides/encoding."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Bytes = bytes | mmap.mmap


def fields(data: Bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of one message: number, and where the value lies. Raises ValueError or IndexError for other bytes."""
    at = start
    while at < end:
        key, at = varint(data, at)
        value = at
        kind = key & 7
        if kind == VARINT:
            _, at = varint(data, at)
        elif kind == BYTES:
            length, value = varint(data, at)
            at = value + length
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at > end:
            raise ValueError("cut off")
        yield key >> 3, value, at


def varint(data: Bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends. Raises IndexError where it is cut off."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
