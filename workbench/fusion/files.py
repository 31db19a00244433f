"""Files around an engine: text and JSON, compressed or not, and lists of ONNX nodes."""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.errors import ViewError
from workbench.fusion.nodes import Node
from workbench.inspector import load_json

_UNPACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".xz": lzma.decompress}


def read_text(path: str | Path) -> str:
    """Raises ViewError for a file that cannot be read; one that ends in .gz or .xz is decompressed."""
    path = Path(path).expanduser()
    try:
        data = path.read_bytes()
        return _UNPACK.get(path.suffix, bytes)(data).decode("utf-8", errors="replace")
    except (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ViewError(f"{path}: it is no whole compressed file ({error}).") from error
    except OSError as error:
        raise ViewError(f"{path}: cannot be read ({error.strerror}).") from error


def read_nodes(path: str | Path) -> tuple[Node, ...]:
    """A model's nodes where the model itself was not kept: [{'name', 'op_type', 'inputs', 'outputs', 'weights',
    'results'}, ...].

    weights: the inputs that are initializers. results: the model's outputs among the outputs; where it is left out,
    what no node reads. Raises ViewError.
    """
    try:
        items = load_json(read_text(path))
        read = {name for item in items for name in item["inputs"]}
        return tuple(_node(item, read) for item in items)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ViewError(f"{path}: neither an ONNX file nor a list of nodes ({error}).") from error


def _node(item: dict[str, Any], read: set[str]) -> Node:
    results = item.get("results", [name for name in item["outputs"] if name not in read])
    return Node(
        str(item["name"]),
        str(item["op_type"]),
        tuple(item["inputs"]),
        tuple(item["outputs"]),
        tuple(item.get("weights", ())),
        tuple(results),
    )


def write_nodes(path: Path, nodes: Iterable[Node]) -> None:
    """The inverse, compressed."""
    path.write_bytes(gzip.compress(json.dumps([asdict(node) for node in nodes]).encode(), compresslevel=1))
