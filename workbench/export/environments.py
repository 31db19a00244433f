"""The virtual environments in which other frameworks' converters run: made once, with the user's yes.

Each lies in `environments/NAME` of the workbench's own folder, is made under a hidden name and renamed when it works.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from workbench.engine import folder_bytes
from workbench.errors import ConfigError, ExportError, StoreError
from workbench.export.installing import fault, install, read_record
from workbench.export.interpreters import Interpreter, Release, find_interpreter, python_in
from workbench.locking import hold
from workbench.store import EngineStore
from workbench.types import Listener, LogLine, Progress, ignore, under

_MEGABYTE = 10**6


@dataclass(frozen=True)
class Environment:
    """What a converter needs. Sizes are in bytes, measured on x86-64 Linux; releases the first that is tried.

    modules: what must be importable when it is made.
    """

    name: str
    title: str
    requirements: tuple[str, ...]
    modules: tuple[str, ...]
    releases: tuple[Release, ...]
    download_bytes: int
    installed_bytes: int

    def __str__(self) -> str:
        sizes = f"{_said(self.download_bytes)} to download, {_said(self.installed_bytes)} on disk"
        return f"the {self.title} environment ({', '.join(self.requirements)}; {sizes})"


PADDLE_2 = Environment(
    name="paddle-2",
    title="Paddle 2",
    requirements=("paddlepaddle==2.6.2", "paddle2onnx==1.3.1", "setuptools<81", "numpy==1.26.4", "protobuf<8"),
    modules=("paddle", "paddle.inference", "paddle2onnx"),
    releases=((3, 12), (3, 11), (3, 10)),
    download_bytes=159 * _MEGABYTE,
    installed_bytes=593 * _MEGABYTE,
)
PADDLE_3 = Environment(
    name="paddle-3",
    title="Paddle 3",
    requirements=(
        "paddlepaddle==3.3.1",
        "paddle2onnx==2.1.0",
        "onnx==1.17.0",
        "packaging",
        "setuptools<81",
        "numpy<2.5",
        "protobuf<8",
    ),
    modules=("paddle", "paddle.inference", "paddle2onnx"),
    releases=((3, 12), (3, 11), (3, 10)),
    download_bytes=244 * _MEGABYTE,
    installed_bytes=902 * _MEGABYTE,
)
TENSORFLOW = Environment(
    name="tensorflow",
    title="TensorFlow",
    requirements=("tensorflow-cpu==2.21.0", "tf2onnx==1.17.0", "numpy<2.5", "protobuf<8"),
    modules=("tensorflow", "keras", "tf2onnx"),
    releases=((3, 12), (3, 11), (3, 10), (3, 13)),
    download_bytes=345 * _MEGABYTE,
    installed_bytes=1548 * _MEGABYTE,
)
ENVIRONMENTS = {environment.name: environment for environment in (PADDLE_2, PADDLE_3, TENSORFLOW)}


@dataclass(frozen=True)
class Made:
    """An environment on disk. size_bytes: all its files when it was made."""

    environment: Environment
    folder: Path
    release: Release
    size_bytes: int

    @property
    def python(self) -> Path:
        return python_in(self.folder)


def folder_of(environment: Environment) -> Path:
    """Where the environment lies, or will lie."""
    return _home() / environment.name


def status(environment: Environment) -> Made | None:
    """The environment, looked over; None if it is not made.

    Raises ExportError, saying why, if it is broken, and if that cannot be told.
    """
    found, problem = _look(environment)
    if problem:
        raise ExportError(
            f"{folder_of(environment)}: the {environment.title} environment is broken: {problem}; make it again."
        )
    return found


def why_make(environment: Environment) -> str:
    """'is not there yet' or 'is broken: ...'; empty if it can be used. Raises ExportError if that cannot be told."""
    found, problem = _look(environment)
    if problem:
        return f"is broken: {problem}"
    return "" if found else "is not there yet"


def ensure(environment: Environment, *, yes: bool, listener: Listener, cancel: threading.Event) -> Made:
    """The environment, made if the user said yes, and made again if it is broken. Nothing is touched without a yes.

    Raises ConfigError: not there or broken, and no yes, or no Python for it; ExportError: it cannot be made, or
    whether it is whole cannot be told; Cancelled.
    """
    found, problem = _look(environment)
    if found:
        return found
    if not yes:
        state = f"is broken: {problem}; say yes to make it again" if problem else "is not there yet"
        raise ConfigError(
            f"this export needs {environment}, which {state}. It would be made in {folder_of(environment)}, "
            "by pip as you configured it: say yes with make_environment=True, with `workbench export --yes`, "
            "or with the button in the widget."
        )
    return make(environment, listener=listener, cancel=cancel)


def make(environment: Environment, *, listener: Listener = ignore, cancel: threading.Event | None = None) -> Made:
    """Make the environment, or return it if it is there; a broken one is removed first, which the log tells.

    listener: phases and pip's lines. cancel: stops within a second and leaves nothing.
    Raises ConfigError: no Python that suits; ExportError: no space, or pip fails, with what it said, or whether one
    that is there is whole cannot be told; Cancelled.
    """
    cancel = cancel or threading.Event()
    interpreter = find_interpreter(environment.releases)
    if interpreter is None:
        raise ConfigError(_no_python(environment))
    title = f"Making the {environment.title} environment"
    waiting = f"{title}: waiting for another process that does"
    with hold(_lock(environment), waiting, environment.name, listener, cancel):
        found, problem = _look(environment)  # again: another process may have made it
        if found:
            return found
        if problem:
            listener(LogLine("warning", f"{folder_of(environment)} is broken and removed: {problem}"))
        _set_aside(environment)
        _sweep(environment)
        _check_space(environment)
        listener(Progress(title, 0, None))
        _install(environment, interpreter, under(title, listener), cancel)
        listener(Progress(title, 1, 1))
        made = status(environment)
    if made is None:
        raise ExportError(f"{folder_of(environment)}: the environment was removed while it was made; make it again.")
    return made


def _look(environment: Environment) -> tuple[Made | None, str]:
    """The environment if it can be used, and else what is damaged; neither if it is not made.

    Raises ExportError where a disk or a busy machine does not let us know.
    """
    folder = folder_of(environment)
    if not folder.exists():
        return None, ""
    try:
        problem = fault(folder, environment.requirements, environment.modules)
        record = {} if problem else read_record(folder)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "strerror", None) or error
        raise ExportError(
            f"{folder}: whether the {environment.title} environment is whole cannot be told ({said}); try again, or "
            f"`workbench environments --remove {environment.name}`."
        ) from error
    if problem:
        return None, problem
    release = (record["release"][0], record["release"][1])
    return Made(environment, folder, release, record["size_bytes"]), ""


def remove(environment: Environment) -> int:
    """Delete the environment and broken ones of its name that were set aside; returns the bytes that were freed.

    Raises ExportError while another process makes it.
    """
    try:
        with _lock(environment).acquire(timeout=0):
            _set_aside(environment)
            return _sweep(environment)
    except Timeout as error:
        raise ExportError(
            f"the {environment.title} environment is being made by another process; wait for it."
        ) from error


# ---- making


def _install(environment: Environment, interpreter: Interpreter, listener: Listener, cancel: threading.Event) -> None:
    draft = _home() / f".{environment.name}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        draft.mkdir()
        install(environment.requirements, environment.modules, interpreter, draft, listener, cancel)
        os.rename(draft, folder_of(environment))
    except ExportError as error:
        raise ExportError(f"the {environment.title} environment could not be made: {error}") from error
    except OSError as error:
        raise ExportError(
            f"{_home()}: the {environment.title} environment cannot be made ({error.strerror})."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _no_python(environment: Environment) -> str:
    known = ", ".join(f"{major}.{minor}" for major, minor in sorted(environment.releases))
    best = ".".join(map(str, environment.releases[0]))
    return (
        f"{environment} needs Python {known} with venv and ensurepip, and none was found on PATH or under "
        f"~/.pyenv/versions: install one, such as `apt-get install python{best}-venv` or `pyenv install {best}`."
    )


def _check_space(environment: Environment) -> None:
    needed, free = environment.download_bytes + environment.installed_bytes, shutil.disk_usage(_home()).free
    if free < needed:
        raise ExportError(
            f"{_home()}: {_said(needed)} are needed to make {environment}, {_said(free)} are free; "
            "free some, or set WORKBENCH_HOME to another disk."
        )


# ---- keeping


def _set_aside(environment: Environment) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder_of(environment), _home() / f".{environment.name}-broken-{time.time_ns()}")


def _sweep(environment: Environment) -> int:
    """Delete what makers that died, and broken environments, left; call under the lock. Returns the bytes."""
    freed = 0
    for path in _home().glob(f".{environment.name}-*"):
        if path.is_dir():
            freed += folder_bytes(path)
            shutil.rmtree(path, ignore_errors=True)
    return freed


def _lock(environment: Environment) -> FileLock:
    return FileLock(_home() / f".{environment.name}.lock")


def _home() -> Path:
    folder = EngineStore().folder / "environments"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be written ({error.strerror}); set WORKBENCH_HOME to a folder you own."
        ) from error
    return folder


def _said(size: int) -> str:
    return f"{size / _MEGABYTE:,.0f} MB"
