"""What `torch.export.load` would run of a .pt2 file, found before it is loaded.

It unpickles without limits, evaluates symbolic sizes and guards as Python, writes names into Python source that it
runs, and opens libraries that lie in the file. PyTorch promises no safety: what is known is looked for. The layout is
that of `torch.export.pt2_archive`, and of PyTorch 2.7 and before: `serialized_*` without a folder.
"""

from __future__ import annotations

import ast
import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.export.pytorch.module import import_torch

_OBJECTS = ("custom_obj_", "opaque_obj_")
_NAMED = ("Symbol", "Dummy", "Float", "Integer")
"""Of SymPy's, what takes a text: a name or a number."""
_NAME = re.compile(r"[\w.]*")
_NAMES = ("name", "forward_arg_names")
_SMALL = ("floor", "ceiling", "max", "min", "size", "stride", "storage_offset", "dim", "int", "float", "len", "range")
_GUARD_ATTRIBUTES = (*_SMALL, "math", "trunc", "ceil", "sqrt", "ndim", "shape", "dtype", "device", "torch", "sym_max")
_NAMED_TYPES = ("float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool")


def code_in_pt2(path: Path) -> str:
    """What in the file would run code of whoever wrote it, as 'a pickled os.system'; empty where nothing would.

    That is not proof: it is what is known of PyTorch 2.6 to 2.13. Raises OSError, zipfile.BadZipFile and ValueError
    for a file that is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if len(set(names)) < len(names):
            raise ValueError("it holds two files of one name")
        if any("aotinductor/" in name for name in names):
            return "a compiled library"
        if any(name.rpartition("/")[2].startswith(_OBJECTS) for name in names):
            return "a pickled object"
        pickled: set[str] = set()
        for member in members:
            if _is_json(member.filename):
                data = json.loads(archive.read(member))
                found = next(_code_in_json(data), "")
                if found:
                    return found
                pickled |= _pickled_members(data)
        for member in members:
            if member.filename.endswith((".pt", *pickled)) or _is_old_artifact(member.filename):
                found = _code_in_pickle(archive.read(member))
                if found:
                    return f"a pickled {found}"
    return ""


def _is_json(name: str) -> bool:
    """Whatever lies in models/ is read as a program, whatever its ending."""
    return "models/" in name or (name.endswith(".json") and not _is_old_artifact(name))


def _is_old_artifact(name: str) -> bool:
    return name.startswith("serialized_") and name != "serialized_exported_program.json"


def _pickled_members(data: Any) -> set[str]:
    """The files that a list of weights or constants says are pickled."""
    config = data.get("config") if isinstance(data, dict) else None
    items = config.values() if isinstance(config, dict) else ()
    return {str(item.get("path_name")) for item in items if isinstance(item, dict) and item.get("use_pickle")}


def _code_in_pickle(data: bytes) -> str:
    """The type that is more than weights, or why it cannot be read: PyTorch reads without limits what it so cannot."""
    if not data:
        return ""
    try:
        import_torch().load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        return pickled_type(error) or "object that is damaged"
    except Exception:  # it raises many kinds
        return "object that is damaged"
    return ""


def pickled_type(error: pickle.UnpicklingError) -> str:
    """What PyTorch refuses to unpickle without trust; empty where the file is no pickle at all."""
    named = re.search(r"GLOBAL (\S+)", str(error))
    return named[1] if named else ""


def _code_in_json(data: Any) -> Iterator[str]:
    """Sizes and guards that are more than arithmetic and names that are none, anywhere in a program."""
    if isinstance(data, dict):
        for key, value in data.items():
            if key in _NAMES:
                texts = value if isinstance(value, list) else [value]
                yield from (
                    f"a name that is code ({_short(text)})"
                    for text in texts
                    if isinstance(text, str) and not _NAME.fullmatch(text)
                )
            if key == "expr_str" and not _is_arithmetic(str(value), ()):
                yield f"a size that is code ({_short(value)})"
            if key == "guards_code":
                yield from (
                    f"a guard that is code ({_short(text)})"
                    for text in value or ()
                    if not _is_arithmetic(str(text), _GUARD_ATTRIBUTES)
                )
            yield from _code_in_json(value)
    elif isinstance(data, list):
        for item in data:
            yield from _code_in_json(item)


def _is_arithmetic(text: str, attributes: tuple[str, ...]) -> bool:
    """Whether it calls only SymPy's and PyTorch's functions, and holds texts only as names of symbols or inputs.

    attributes: that may be read; none in sizes.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        return False
    texts = {id(node) for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if node.attr not in attributes and node.attr not in _NAMED_TYPES:
                return False
        elif isinstance(node, ast.Call):
            if not isinstance(node.func, (ast.Name, ast.Attribute)):
                return False
            name = node.func.id if isinstance(node.func, ast.Name) else "size"
            if not re.fullmatch(r"[A-Z]\w*", name) and name not in _SMALL:
                return False
            if name in _NAMED:
                texts -= {id(item) for item in node.args if _NAME.fullmatch(str(getattr(item, "value", "-")))}
        elif isinstance(node, ast.Subscript) and attributes:
            texts.discard(id(node.slice))
    return not texts


def _short(value: Any) -> str:
    return str(value)[:60]
