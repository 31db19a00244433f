"""Functions of the user's: found by name, and as source text that another process can run."""

from __future__ import annotations
import __future__

import ast
import builtins
import contextlib
import dis
import importlib
import importlib.util
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

from workbench.errors import ConfigError, ExportError
from workbench.export.user_code import failure

_FLAGS = __future__.annotations.compiler_flag
"""Annotations are for readers; what they name need not exist where the source runs."""


@contextlib.contextmanager
def loaded_function(place: str, name: str, forms: str) -> Iterator[Callable[..., Any]]:
    """The function `name` of FILE.py or package.module, imported from its own or the current folder, from where
    modules can be imported as long as the block runs: what the function imports itself too.

    forms: what the user may write, for the message. Raises ConfigError when there is none, ExportError when the file's
    own code fails.
    """
    path = Path(place).expanduser()
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise ConfigError(f"{place}: there is no such file; give {forms}.")
    with _importable(path.parent if is_file else Path.cwd()):
        yield _function(place, name, forms, path if is_file else None)


def _function(place: str, name: str, forms: str, path: Path | None) -> Callable[..., Any]:
    try:
        module = _import_file(path) if path else importlib.import_module(place)
    except ModuleNotFoundError as error:
        if path is None and error.name == place.partition(".")[0]:
            raise ConfigError(f"{place}: there is no such module; give {forms}.") from error
        raise ExportError(f"{place}: needs {error.name}, which is not installed.") from error
    except Exception as error:  # the user's own code may raise anything
        raise failure(error, place) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        raise ConfigError(f"{place} has no function {name}; it has {', '.join(known) or 'none'}.")
    return function  # type: ignore[no-any-return]


def _import_file(path: Path) -> Any:
    name = f"workbench_source_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None and spec.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where torch.export and dataclasses look it up
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the user's code may change the path itself
            sys.path.remove(entry)


def source_of(function: Callable[..., Any]) -> str:
    """The source of a function that stands by itself: it uses its arguments, builtins and what it imports inside.

    Raises ConfigError for anything else, naming what is missing, and when the file has changed since its import.
    """
    name = getattr(function, "__name__", repr(function))
    if not inspect.isfunction(function) or name == "<lambda>":
        raise ConfigError(f"{name}: give a function made with def; its source is run in another process.")
    try:
        source = textwrap.dedent(inspect.getsource(function))
        tree = ast.parse(source)
    except (OSError, SyntaxError) as error:
        raise ConfigError(
            f"{name}: its source cannot be read ({error}); define it in a file or a notebook cell."
        ) from error
    definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef) or definition.name != name:
        raise ConfigError(f"{name}: its file has changed since it was imported; import it again.")
    if definition.decorator_list:
        raise ConfigError(f"{name}: a decorated function cannot be run in another process; take the decorator off.")
    code = compile(source, name, "exec", flags=_FLAGS, dont_inherit=True)
    outside = _outside(code) - {name}
    if function.__closure__ or outside:
        missing = ", ".join(sorted({*function.__code__.co_freevars, *outside}))
        raise ConfigError(
            f"{name} uses {missing} from outside of itself, which is not there in the process that runs it: "
            "import or define it inside the function, or hand it in with the weights."
        )
    if _gist(function.__code__) not in [_gist(item) for item in code.co_consts if isinstance(item, CodeType)]:
        raise ConfigError(f"{name}: its file has changed since it was imported; import it again.")
    return source


def _gist(code: CodeType) -> tuple[Any, ...]:
    """What tells two versions of a function apart; the byte code itself also depends on what stands around it."""
    texts = [repr(item) for item in code.co_consts if not isinstance(item, CodeType)]
    constants = [text for text in texts if "<locals>" not in text]  # Python 3.10 keeps inner functions' full names
    return code.co_varnames, sorted(code.co_names), constants


def _outside(code: CodeType) -> set[str]:
    """The global names that a piece of code and the functions in it read, without builtins."""
    names = {item.argval for item in dis.get_instructions(code) if item.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            names |= _outside(inner)
    return {name for name in names if not hasattr(builtins, name)}


def run_source(source: str, name: str, filename: str) -> Callable[..., Any]:
    """The function again, from what `source_of` gave. filename: what tracebacks call it."""
    namespace: dict[str, Any] = {}
    exec(compile(source, filename, "exec", flags=_FLAGS, dont_inherit=True), namespace)
    function: Callable[..., Any] = namespace[name]
    return function
