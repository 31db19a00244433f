"""An engine on disk: a folder with plan, layers, log and a sealed record of what it was made from."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import hmac
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from workbench import backends
from workbench.backends import CALIBRATION, Session
from workbench.errors import StoreError, UntrustedEngine
from workbench.layers import LayerInfo, layers_from_json, layers_to_json
from workbench.machine import usable_cores
from workbench.types import BuildConfig, LogLine, config_from_json

_PIECE = 1 << 21
_digests: dict[tuple[int, ...], str] = {}
"""By device, inode, size and times of a file; nobody can set back the time of its last change."""
_CLOCK_TICK_NS = 50_000_000
"""Two changes within one tick of the file system's clock bear the same time."""
RECORD, LAYERS, NODES, LOG = "engine.json", "layers.json", "nodes.json.gz", "build.log.gz"


@dataclass(frozen=True)
class Engine:
    """A serialized engine and where it came from.

    recipe: all that makes two engines differ; its hash is `key`. plan: the plan's file name in `folder`.
    nodes: ONNX nodes of the model; nodes_covered: how many of them the layers name. build_s: seconds the build took.
    built_at: ISO 8601, UTC. machine: where it was built. files: digest of every file beside the record.
    """

    folder: Path
    key: str
    recipe: Mapping[str, Any]
    model_name: str
    model_path: str
    plan: str
    plan_bytes: int
    layers: int
    nodes: int
    nodes_covered: int
    build_s: float
    built_at: str
    machine: Mapping[str, Any]
    files: Mapping[str, str]

    @property
    def plan_path(self) -> Path:
        return self.folder / self.plan

    @property
    def backend(self) -> str:
        return str(self.recipe["backend"])

    @property
    def release(self) -> str:
        return str(self.recipe["ingredients"]["release"])

    @property
    def precision(self) -> str:
        return self.config.precision

    @property
    def targets(self) -> tuple[str, ...]:
        return self.config.targets

    @property
    def config(self) -> BuildConfig:
        """What was built, defaults filled in. Its profiles are empty where all shapes are fixed or any will do.

        Its calibration is the table in the engine's own folder, whatever the ranges were found with."""
        table = self.recipe["calibration"]
        if table:
            table = {**table, "path": str(self.folder / CALIBRATION)}
        return config_from_json({**self.recipe, "calibration": table})

    @property
    def size_bytes(self) -> int:
        """What the whole folder takes on disk."""
        return folder_bytes(self.folder)


def folder_bytes(folder: Path) -> int:
    """The size of all files below a folder; what another process removes meanwhile counts nothing."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_size
    return total


def write_record(engine: Engine, secret: bytes) -> Engine:
    """Hash the folder's files and write the sealed record; returns the engine with its hashes."""
    files = {path.name: _digest(path) for path in sorted(engine.folder.iterdir()) if path.name != RECORD}
    engine = replace(engine, files=files)
    body = {name: value for name, value in asdict(engine).items() if name != "folder"}
    text = json.dumps({"seal": _seal(body, secret), "engine": body}, indent=1)
    (engine.folder / RECORD).write_text(text)
    return engine


def read_record(folder: Path, secret: bytes, *, trust: bool = False) -> Engine:
    """Read an engine's record.

    Raises StoreError when the record cannot be read, and UntrustedEngine when its seal is not the one of this
    store: the record was changed, or another store built the engine. `trust` waives the seal, nothing else.
    """
    try:
        data = json.loads((folder / RECORD).read_text())
        body, seal = data["engine"], str(data["seal"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder}: holds no readable engine record ({error}); build the engine again.") from error
    if not trust and not hmac.compare_digest(_seal(body, secret).encode(), seal.encode()):
        raise UntrustedEngine(
            f"{folder}: this store did not build the engine, or its record was changed. A plan is executable code: "
            "build it here, or pass trust=True (--trust) if you know where it comes from."
        )
    try:
        engine = Engine(folder=folder, **body)
        _ = engine.config, engine.backend, engine.release
        missing = {engine.plan, LAYERS, LOG} - set(engine.files)
        elsewhere = [name for name in engine.files if name != Path(name).name]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{folder}: its record lacks or garbles {error}; build the engine again.") from error
    if missing or elsewhere:
        names = ", ".join(sorted(missing) or elsewhere)
        raise StoreError(f"{folder}: its record vouches for no {names}; build the engine again.")
    return engine


def verify(engine: Engine, check: Callable[[], None] = lambda: None) -> None:
    """Raise StoreError if any file of the engine is missing or differs from its digest.

    Calls `check` every few megabytes, which may raise to stop.
    """
    for name, wanted in engine.files.items():
        path = engine.folder / name
        if not path.is_file():
            raise StoreError(f"{engine.folder}: {name} is missing; build the engine again.")
        if _digest(path, check) != wanted:
            raise StoreError(f"{path}: damaged (its digest has changed); build the engine again.")


def read_layers(engine: Engine) -> tuple[LayerInfo, ...]:
    return layers_from_json(json.loads((engine.folder / LAYERS).read_text()))


def write_layers(folder: Path, layers: Iterable[LayerInfo]) -> None:
    (folder / LAYERS).write_text(json.dumps(layers_to_json(layers)))


def read_log(engine: Engine) -> tuple[LogLine, ...]:
    with gzip.open(engine.folder / LOG, "rt") as file:
        return tuple(LogLine(*json.loads(line)) for line in file)


def write_log(folder: Path, lines: Iterable[LogLine]) -> None:
    with gzip.open(folder / LOG, "wt", compresslevel=1) as file:
        file.writelines(json.dumps([line.severity, line.text]) + "\n" for line in lines)


def _seal(body: Mapping[str, Any], secret: bytes) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def _digest(path: Path, check: Callable[[], None] = lambda: None) -> str:
    """SHA-256 of a file; of one that is larger than a piece, over the digests of its pieces, so that all processors can
    work at it. A file that nobody has written to since it was hashed is not read again by this process."""
    status = path.stat()
    state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if state in _digests:
        return _digests[state]
    is_settled = time.time_ns() - status.st_ctime_ns > _CLOCK_TICK_NS
    digest = _read_digest(path, status.st_size, check)
    if is_settled:
        _digests[state] = digest
    return digest


def _read_digest(path: Path, size: int, check: Callable[[], None]) -> str:
    if size <= _PIECE:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    whole = hashlib.sha256()
    with ThreadPoolExecutor(min(8, usable_cores())) as pool:
        for digest in pool.map(lambda start: _piece_digest(path, start), range(0, size, _PIECE)):
            check()
            whole.update(digest)
    return whole.hexdigest()


def _piece_digest(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return hashlib.sha256(file.read(_PIECE)).digest()


def export_plan(engine: Engine, path: Path) -> Path:
    """Copy the plan to `path`, checked and in one step; weights in a file of their own go beside it.

    Raises StoreError when it is damaged or cannot be written.
    """
    verify(engine)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for name in engine.files:
            if name.startswith(engine.plan):
                target = path if name == engine.plan else path.with_name(name)
                draft = target.with_name(f".{target.name}.part")
                shutil.copyfile(engine.folder / name, draft)
                draft.replace(target)
    except OSError as error:
        raise StoreError(f"{path}: the plan cannot be written ({error.strerror}).") from error
    return path


def open_engine(engine: Engine, *, threads: int | None = None, in_turns: bool = False) -> Session:
    """Check the engine's files once more and open it for running.

    threads: processors one run may use (ONNX Runtime); None for all. in_turns: between its runs other sessions run.
    Raises StoreError when a file has changed since the look-up, BackendError when the engine cannot run here.
    """
    verify(engine)
    backend = backends.load(engine.backend)
    return backend.open(engine.plan_path, engine.config, threads=threads, in_turns=in_turns)
