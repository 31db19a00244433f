"""What a viewer is to show: a Model as it is now, edits included, or a file as it lies on disk."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import ViewError
from workbench.model import Model
from workbench.protobuf import fields

_NODES = {".onnx": (7, 1), ".pdmodel": (1, 4)}
"""Fields of the protobuf that lead to the nodes: ModelProto.graph.node, ProgramDesc.blocks.ops."""


@dataclass(frozen=True)
class Subject:
    """name: of the file, by whose ending viewers know the format. read: its content, or where that lies. nodes: of the
    largest graph, None if unknown."""

    name: str
    read: Callable[[], bytes] | Path
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
        return Subject(path.name, path, _count_nodes(path))
    except (OSError, ValueError) as error:
        raise ViewError(f"{str(path)[:200]}: cannot be read ({error}).") from error


def _count_nodes(path: Path) -> int | None:
    """Counts without parsing, so that weights are not touched; None for a format it does not know or a broken file."""
    numbers = _NODES.get(path.suffix.lower())
    if numbers is None or path.stat().st_size == 0:
        return None
    outer, inner = numbers
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            counts = [
                sum(number == inner for number, _, _ in fields(data, start, end))
                for number, start, end in fields(data, 0, len(data))
                if number == outer
            ]
        except (IndexError, ValueError):
            return None
    return max(counts, default=None)
