"""What part a layer plays in an engine, and the ONNX nodes that its name tells."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from workbench.layers import LayerInfo

SYNC, COPY, CONSTANT, REGION, COMPUTE = "sync", "copy", "constant", "region", "compute"

_SYNC_KINDS = {"signal", "wait", "trainstation"}
_COPY_KIND = re.compile(r"reformat|(?:shape)?(?:host|device)to\w+", re.IGNORECASE)
_REFORMAT = "Reformatting CopyNode for "
_COPY_NAME = re.compile(rf"{_REFORMAT}.*|.* copy|.*\[(?:Host|Device)[Tt]o\w+.*\]", re.DOTALL)
_NO_WORK = re.compile(r"NoOp|.*\bReorder(?:Input|Output)")
_MOVES = re.compile(r"__myl_(?:Move|Repl|Tran|Resh|Cast|Conc|Slic|Copy|Pad)+(?:_.*)?")
_REGION_NAME = re.compile(r"\{ForeignNode\[(.*)\.\.\.(.*)\]\}", re.DOTALL)
_STATION = re.compile(r"\[trainStation\d+\]")

_SEPARATOR = re.compile(r" \+ | \|\| |, ")
_AFFIX = re.compile(
    r"^(?:reshape_(?:before|after)_|(?:copied_)?(?:un)?squeeze_(?:node_)?(?:before|after)_)|_clone_\d+$"
)
_POINTWISE = re.compile(r"^(?:PWN\()+")
_HELPER = re.compile(r"\(Unnamed Layer\* \d+\)")


def role(layer: LayerInfo) -> str:
    """SYNC, COPY (nothing is computed), CONSTANT, REGION (compiled as a whole by Myelin) or COMPUTE."""
    if layer.kind.lower() in _SYNC_KINDS or _STATION.fullmatch(layer.name):
        return SYNC
    if layer.kind == "Myelin" or _REGION_NAME.fullmatch(layer.name):
        return REGION
    if layer.kind == "Constant" or (layer.outputs and not layer.inputs and not layer.nodes):
        return CONSTANT
    is_copy = was_added(layer) or _COPY_KIND.search(layer.kind)
    return COPY if is_copy or (moves_only(layer) and not layer.nodes) else COMPUTE


def was_added(layer: LayerInfo) -> bool:
    """A view of a tensor or a copy that the builder added, whatever node it is made for."""
    return bool(_NO_WORK.fullmatch(layer.kind) or _COPY_NAME.fullmatch(layer.name))


def reformats(layer: LayerInfo) -> bool:
    """A copy that the builder added, of a whole tensor in another type or layout; other copies may be of a part."""
    return layer.name.startswith(_REFORMAT) and len(layer.inputs) == len(layer.outputs) == 1


def moves_only(layer: LayerInfo) -> bool:
    """A Myelin kernel that by its name moves values and computes none."""
    return _MOVES.fullmatch(layer.name) is not None


def named_nodes(layer: LayerInfo, known: Collection[str]) -> tuple[str, ...]:
    """The nodes in names such as 'conv + relu', 'a + b || c', 'PWN(sigmoid, mul)' or '{ForeignNode[a...b]}'.

    known: the model's nodes, and only those are taken; when empty, all parts of the name that TensorRT did not make up.
    """
    if layer.name in known:
        return (layer.name,)
    if role(layer) in (SYNC, CONSTANT) or _COPY_NAME.fullmatch(layer.name):
        return ()
    region = _REGION_NAME.fullmatch(layer.name)
    parts = region.groups() if region else tuple(_parts(layer.name))
    return tuple(dict.fromkeys(name for part in parts if (name := _node(part, known))))


def split_name(name: str) -> tuple[str, ...]:
    """'a + b || PWN(c)' -> ('a', 'b', 'c')."""
    return tuple(_parts(name))


def _parts(name: str) -> Iterator[str]:
    for part in _SEPARATOR.split(name):
        part = _POINTWISE.sub("", part)
        closing = len(part) - len(part.rstrip(")"))
        surplus = max(0, min(closing, part.count(")") - part.count("(")))
        yield part[: len(part) - surplus]


def _node(part: str, known: Collection[str]) -> str:
    """The node a part of a name stands for: itself, or what is left without TensorRT's own additions; '' for none."""
    if part in known:
        return part
    plain = _AFFIX.sub("", part)
    if known:
        return plain if plain in known else ""
    return "" if _HELPER.match(plain) else plain
