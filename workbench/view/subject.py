"""What a viewer is to show: a Model as it is now, edits included, or a file as it lies on disk."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import ViewError
from workbench.model import Model

_NODES = {".onnx": (7, 1), ".pdmodel": (1, 4)}
"""Fields of the protobuf that lead to the nodes: ModelProto.graph.node, ProgramDesc.blocks.ops."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Subject:
    """name: of the file, by whose ending viewers know the format. nodes: of the largest graph, None if unknown."""

    name: str
    read: Callable[[], bytes]
    nodes: int | None
    edits: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name and what was edited since."""
        return f"{self.name} ({', '.join(self.edits)})" if self.edits else self.name

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix.lower()


def subject_of(model: Model | str | Path) -> Subject:
    """Raises ViewError if there is no such file."""
    if isinstance(model, Model):
        return Subject(f"{model.name}.onnx", model.to_bytes, len(model.nodes), model.edits)
    path = Path(os.path.abspath(Path(model).expanduser()))
    try:
        if path.is_dir():
            raise ViewError(f"{path}: a folder; name the model's file in it.")
        if not path.is_file():
            raise ViewError(f"{path}: there is no such file.")
        return Subject(path.name, path.read_bytes, _count_nodes(path))
    except (OSError, ValueError) as error:
        raise ViewError(f"{str(path)[:200]}: cannot be read ({error}).") from error


def _count_nodes(path: Path) -> int | None:
    """Counts without parsing, so that weights are not touched; None for a format it does not know or a broken file."""
    fields = _NODES.get(path.suffix.lower())
    if fields is None or path.stat().st_size == 0:
        return None
    outer, inner = fields
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            counts = [
                sum(number == inner for number, _, _ in _fields(data, start, end))
                for number, start, end in _fields(data, 0, len(data))
                if number == outer
            ]
        except (IndexError, ValueError):
            return None
    return max(counts, default=None)


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of one protobuf message: number, and where the value lies. Raises ValueError for other bytes.

    https://protobuf.dev/programming-guides/encoding
    """
    at = start
    while at < end:
        key, at = _varint(data, at)
        value = at
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(data, at)
        elif kind == _BYTES:
            length, value = _varint(data, at)
            at = value + length
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at > end:
            raise ValueError("cut off")
        yield key >> 3, value, at


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
