"""Where a PyTorch model comes from, as one word for the command line: a function, or a file that holds a module."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import ConfigError, ExportError
from workbench.export.functions import loaded_function
from workbench.export.pytorch.module import import_torch
from workbench.export.pytorch.pt2 import code_in_pt2, pickled_type
from workbench.export.user_code import failure, first_line
from workbench.types import Listener, LogLine, Shape, ignore

_FORMS = "FILE.py:NAME or package.module:NAME (a function that returns (module, example)), a .pt2 or a TorchScript file"


@dataclass(frozen=True)
class TorchSource:
    """What export_torch needs, read from somewhere. open_dims is empty where nothing was said of them."""

    module: Any
    example: Any
    open_dims: Mapping[str, Mapping[int, str]] = field(default_factory=dict)


def load_torch(
    source: str,
    *,
    shapes: Mapping[str, Shape] | None = None,
    trust: bool = False,
    listener: Listener = ignore,
) -> TorchSource:
    """The module and example that `source` names: 'net.py:make', 'package.module:make', a .pt2 or a TorchScript file.

    A function returns (module, example) or (module, example, open_dims); its code is run. shapes: for TorchScript, the
    example's shapes by forward's arguments; it is filled with random float32. A file of weights is refused, a pickled
    module too: to read it would run code of whoever wrote it. A .pt2 that would do so is read with `trust` only.
    Raises ConfigError and ExportError.
    """
    head, colon, name = source.rpartition(":")
    if colon and name.isidentifier():
        with loaded_function(head, name, _FORMS) as function:
            return _checked(_called(function, source), source)
    path = Path(source).expanduser()
    if path.suffix == ".py":
        raise ConfigError(f"{source}: name the function too: {source}:NAME.")
    if not path.is_file():
        raise ConfigError(f"{source}: there is no such file; give {_FORMS}.")
    kind = _kind(path)
    if kind == "pt2":
        return _from_pt2(path, trust, listener)
    if kind == "torchscript":
        return _from_torchscript(path, shapes)
    raise _weights_only(path)


# ---- functions


def _called(function: Callable[[], Any], source: str) -> Any:
    try:
        return function()
    except ExportError:
        raise
    except Exception as error:  # the user's own code may raise anything
        raise failure(error, source) from error


def _checked(value: Any, source: str) -> TorchSource:
    torch = import_torch()
    if not isinstance(value, tuple) or len(value) not in (2, 3) or not isinstance(value[0], torch.nn.Module):
        raise ConfigError(
            f"{source}: it shall return (module, example) or (module, example, open_dims), such as "
            '(net, torch.rand(1, 3, 224, 224), {"x": {0: "batch"}}).'
        )
    return TorchSource(*value)


# ---- files


def _kind(path: Path) -> str:
    """By what is in it: 'pt2', 'torchscript', or 'pickle' for all others."""
    if not zipfile.is_zipfile(path):
        return "pickle"
    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2] for name in archive.namelist()} | set(archive.namelist())
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "torchscript"
    if names & {"archive_format", "serialized_exported_program.json"}:
        return "pt2"
    return "pickle"


def _from_pt2(path: Path, trust: bool, listener: Listener) -> TorchSource:
    torch = import_torch()
    if not trust:
        _check_pt2(path)
    looked = "it was not looked for, as you trust it" if trust else "none was found, but open only what you trust"
    listener(LogLine("warning", f"{path.name}: a .pt2 file can hold code, by way of pickle and others; {looked}."))
    try:
        program = torch.export.load(str(path))
    except Exception as error:  # it raises many kinds
        raise ExportError(f"{path}: this PyTorch cannot read it: {first_line(error)}.") from error
    if program.example_inputs is None:
        raise ExportError(
            f"{path}: it holds no example inputs; write a FILE.py:NAME that loads it and adds an example."
        )
    args, kwargs = program.example_inputs
    if args and kwargs:
        raise ExportError(f"{path}: it takes positional and keyword arguments; export it with one kind of them.")
    return TorchSource(program.module(), kwargs or args, _open_dims(program))


def _check_pt2(path: Path) -> None:
    try:
        found = code_in_pt2(path)
    except (OSError, ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise ExportError(f"{path}: not a file of PyTorch's, or damaged: {first_line(error)}.") from error
    if found:
        raise ExportError(
            f"{path}: it holds {found}; to read it runs code of whoever wrote it. If you trust the file, say "
            "trust=True, or --trust on the command line."
        )


def _open_dims(program: Any) -> dict[str, dict[int, str]]:
    """What was left open when the program was exported: 'batch' for the first axis, '<input>_<axis>' for others."""
    names: dict[str, str] = {}
    found: dict[str, dict[int, str]] = {}
    for node in program.graph.nodes:
        if node.op != "placeholder" or node.name not in program.graph_signature.user_inputs:
            continue
        for axis, size in enumerate(node.meta["val"].shape):
            if not isinstance(size, int):
                named = names.setdefault(str(size), f"{node.name}_{axis}" if axis else "batch")
                found.setdefault(node.name, {})[axis] = named
    return found


def _from_torchscript(path: Path, shapes: Mapping[str, Shape] | None) -> TorchSource:
    torch = import_torch()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TorchScript is old
            module = torch.jit.load(str(path), map_location="cpu")
    except RuntimeError as error:
        raise ExportError(f"{path}: this PyTorch cannot read it: {first_line(error)}.") from error
    arguments = [item.name for item in module.forward.schema.arguments[1:]]
    if not shapes:
        raise ConfigError(
            f"{path}: TorchScript does not say what shapes it takes: give an example's, "
            f"--shapes {arguments[0]}:1x3x224x224."
        )
    unknown = [name for name in shapes if name not in arguments]
    if unknown:
        raise ConfigError(f"{path}: forward has no argument {unknown[0]!r}; it takes {', '.join(arguments)}.")
    generator = torch.Generator().manual_seed(0)
    given = [name for name in arguments if name in shapes]
    return TorchSource(module, {name: torch.rand(shapes[name], generator=generator) for name in given})


def _weights_only(path: Path) -> ExportError:
    torch = import_torch()
    write = (
        "write a FILE.py with a function that makes the module, loads them with "
        f"module.load_state_dict(torch.load({path.name!r})) and returns (module, example); then name it: FILE.py:NAME."
    )
    try:
        content = torch.load(str(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = pickled_type(error)
        if not what:
            return ExportError(f"{path}: not a file of PyTorch's, or damaged; give {_FORMS}.")
        return ExportError(
            f"{path}: it holds a pickled {what}; to read it runs code of whoever wrote it. If you trust the file, load "
            "it in a FILE.py with torch.load(..., weights_only=False), return (module, example), and name FILE.py:NAME."
        )
    except Exception as error:  # it raises many kinds
        return ExportError(f"{path}: this PyTorch cannot read it: {first_line(error)}; give {_FORMS}.")
    keys = ", ".join(str(key) for key in list(content)[:3]) if isinstance(content, Mapping) else type(content).__name__
    return ExportError(f"{path}: it holds weights only ({keys} ...), not the module that uses them: {write}")
