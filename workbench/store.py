"""EngineStore: serialized engines by content key; atomic, locked, checked; explains a miss."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout
from platformdirs import user_cache_path

from workbench.engine import RECORD, Engine, folder_bytes, read_record, verify, write_record
from workbench.errors import StoreError, UnknownEngine
from workbench.recipe import differences
from workbench.saving import replace_file

_SECRET_BYTES = 32
_PATIENCE_S = 10.0
_WEEK_S = 7 * 24 * 3600


@dataclass(frozen=True)
class Lookup:
    """What a key leads to. `damage` says why a stored engine was set aside."""

    engine: Engine | None
    damage: str | None = None


class EngineStore:
    """The folder of engines: `engines/KEY/`, with `work/` for builds under way and `damaged/` for what was set aside.

    folder: default is WORKBENCH_HOME, else the user's cache folder. Safe for several processes at once.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        default = os.environ.get("WORKBENCH_HOME") or user_cache_path("tensorrt-workbench")
        self.folder = Path(folder or default).expanduser().resolve()
        self._engines, self._work, self._damaged, self._locks = (
            self.folder / name for name in ("engines", "work", "damaged", "locks")
        )
        self._uploads, self.parcels = self.folder / "uploads", self.folder / "parcels"
        self._tuning = self.folder / "tuning"
        try:
            for path in (self._engines, self._work, self._damaged, self._locks, self._uploads):
                path.mkdir(parents=True, exist_ok=True)
            self._secret = self._read_secret()
        except OSError as error:
            raise StoreError(
                f"{self.folder}: engines cannot be stored here ({error.strerror}); "
                "set WORKBENCH_HOME to a folder you own."
            ) from error

    @property
    def writable(self) -> bool:
        """Whether engines can be added; a shared store may be there to read only."""
        return os.access(self._locks, os.W_OK) and os.access(self._engines, os.W_OK)

    # ---- finding

    def find(self, key: str, check: Callable[[], None] = lambda: None) -> Lookup:
        """The engine of this key, every file checked. A damaged one is set aside and counts as a miss.

        Call under `lock`, so that nobody replaces the engine meanwhile. In a store that cannot be written, where
        there are no locks either, a damaged engine stays where it is.
        """
        folder = self._engines / key
        if not folder.exists():
            return Lookup(None)
        try:
            engine = read_record(folder, self._secret)
            if engine.key != key:
                raise StoreError(f"{folder}: holds the engine {engine.key}.")
            verify(engine, check)
        except StoreError as error:
            self._set_aside(folder)
            return Lookup(None, f"the stored engine was damaged and set aside: {error}")
        with contextlib.suppress(OSError):
            os.utime(folder / RECORD)  # prune removes what was not used for longest
        return Lookup(engine)

    def load(self, folder: str | Path, *, trust: bool = False) -> Engine:
        """An engine from any folder, every file checked.

        Raises UntrustedEngine for one that this store did not build, unless trust=True: a plan is executable code.
        """
        engine = read_record(Path(folder).expanduser().resolve(), self._secret, trust=trust)
        verify(engine)
        return engine

    def engines(self) -> tuple[Engine, ...]:
        """All engines with an intact record, the last used first."""
        found = []
        for folder in self._engines.iterdir():
            with contextlib.suppress(StoreError, OSError):
                found.append(((folder / RECORD).stat().st_mtime, read_record(folder, self._secret)))
        return tuple(engine for _, engine in sorted(found, key=lambda item: item[0], reverse=True))

    def by_prefix(self, prefix: str) -> Engine:
        """The engine whose key starts with `prefix`. Raises UnknownEngine if none or several do."""
        matches = [engine for engine in self.engines() if prefix and engine.key.startswith(prefix)]
        if len(matches) != 1:
            what = "no stored engine" if not matches else f"{len(matches)} stored engines"
            raise UnknownEngine(f"{what} has a key that starts with {prefix!r}; `workbench engines` lists them.")
        return matches[0]

    def why_missed(self, recipe: Mapping[str, Any], model_name: str) -> str:
        """Name the nearest stored engine and how its recipe differs from the wanted one."""
        stored = self.engines()
        if not stored:
            return "the store holds no engine yet"
        same_model = [engine for engine in stored if engine.recipe["model"] == recipe["model"]]
        candidates = same_model or [engine for engine in stored if engine.model_name == model_name]
        if not candidates:
            return f"no engine of {model_name} is stored yet"
        candidates = [engine for engine in candidates if engine.backend == recipe["backend"]]
        if not candidates:
            return f"no engine of {model_name} is stored for {recipe['backend']} yet"
        nearest = min(candidates, key=lambda engine: len(differences(engine.recipe, recipe)))
        parts = differences(nearest.recipe, recipe)
        if not parts:
            return "an engine like this was stored a moment ago"
        return f"the nearest stored engine ({nearest.key[:8]}) differs in {'; '.join(parts)}"

    # ---- building and adding

    def keep_upload(self, name: str, content: bytes) -> Path:
        """Write an uploaded file into a folder of its own content, so that equal names never meet; returns its path.

        The name is reduced to harmless characters. Raises StoreError when it cannot be written.
        """
        plain = re.sub(r"[^\w.-]+", "_", Path(name.replace("\0", "")).name).strip(".")[-80:] or "model.onnx"
        path = self._uploads / hashlib.sha256(content).hexdigest()[:12] / plain
        try:
            replace_file(path, content)
        except OSError as error:
            raise StoreError(f"{plain}: the upload cannot be stored ({error.strerror}).") from error
        return path

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder for a build under way, removed afterwards, even if this process dies (by the next one)."""
        self._sweep()
        name = f"{os.getpid()}-{secrets.token_hex(8)}"
        folder, lock = self._work / name, FileLock(self._work / f"{name}.lock")
        try:
            with lock:
                folder.mkdir()
                try:
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)

    def lock(self, key: str) -> BaseFileLock:
        """Held while looking up, building or removing this key, by one process at a time."""
        return FileLock(self._locks / f"{key}.lock")

    def add(self, engine: Engine) -> Engine:
        """Seal a finished engine and move its folder, from `staging`, to its place in one step. Call under `lock`."""
        place = self._engines / engine.key
        engine = write_record(engine, self._secret)
        _sync(engine.folder)
        if place.exists():
            self._discard(place)
        os.rename(engine.folder, place)
        _sync(place.parent, files=False)
        return read_record(place, self._secret)

    # ---- keeping house

    def size_bytes(self) -> int:
        """What `prune` can make room in: engines, uploads, what was sent here and what was set aside. Searches of the
        tuner, below `tuning/`, do not count."""
        places = (self._engines, self._damaged, self._work, self._uploads, self.parcels)
        return sum(folder_bytes(path) for path in places)

    def remove(self, engine: Engine) -> None:
        """Forget a stored engine."""
        if engine.folder.parent != self._engines:
            raise StoreError(f"{engine.folder} does not lie in this store; delete it yourself.")
        try:
            with self.lock(engine.key).acquire(timeout=_PATIENCE_S):
                self._discard(engine.folder)
        except Timeout as error:
            raise StoreError(f"{engine.key[:8]} is being built at this moment; remove it afterwards.") from error

    def prune(self, max_bytes: int) -> tuple[Engine, ...]:
        """Remove uploads, what was sent here and what is damaged or foreign, then the engines unused for longest, down
        to max_bytes.

        Samples, ranges and models below `tuning/` that no search has used for a week go too; they are made again when
        they are needed. Kept searches stay. An engine that another process builds at this moment is left alone. Returns
        the removed ones.
        """
        self._sweep()
        for folder in list(self._engines.iterdir()):
            with contextlib.suppress(Timeout), self.lock(folder.name).acquire(timeout=0):
                try:
                    read_record(folder, self._secret)
                except StoreError:
                    self._set_aside(folder)
        for place in (self._damaged, self._uploads, self.parcels):
            for folder in place.iterdir() if place.exists() else ():
                shutil.rmtree(folder, ignore_errors=True)
        for folder in self._tuning.iterdir() if self._tuning.exists() else ():
            if folder.is_dir() and _unused_s(folder) > _WEEK_S:
                shutil.rmtree(folder, ignore_errors=True)
        removed = []
        size = self.size_bytes()
        for engine in reversed(self.engines()):
            if size <= max_bytes:
                break
            with contextlib.suppress(Timeout), self.lock(engine.key).acquire(timeout=0):
                size -= engine.size_bytes
                self._discard(engine.folder)
                removed.append(engine)
        return tuple(removed)

    def _discard(self, folder: Path) -> None:
        """Out of its place in one step, then deleted, so that no reader meets half an engine."""
        with self.staging() as work, contextlib.suppress(FileNotFoundError):
            os.rename(folder, work / "discarded")

    def _set_aside(self, folder: Path) -> None:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            os.rename(folder, self._damaged / f"{folder.name}-{time.time_ns()}")

    def _sweep(self) -> None:
        """Delete the staging folders of processes that died: their locks are free."""
        for path in self._work.iterdir():
            folder = path.with_suffix("")
            if path.suffix == ".lock" and (folder.exists() or _age_s(path) < _PATIENCE_S):
                continue  # the folder's own turn comes, or its maker is about to make it
            lock = FileLock(self._work / f"{folder.name}.lock")
            with contextlib.suppress(Timeout), lock.acquire(timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
                Path(lock.lock_file).unlink(missing_ok=True)

    def _read_secret(self) -> bytes:
        """The key that seals this store's records, made once; only its owner can read it."""
        path = self.folder / "secret"
        secret = path.read_bytes() if path.exists() else b""
        if len(secret) == _SECRET_BYTES:
            return secret
        with FileLock(self._locks / "secret.lock"):
            secret = path.read_bytes() if path.exists() else b""
            if len(secret) != _SECRET_BYTES:  # damaged: the engines it sealed count as foreign and are built again
                secret = secrets.token_bytes(_SECRET_BYTES)
                draft = path.with_suffix(".part")
                draft.unlink(missing_ok=True)
                with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(secret)
                draft.replace(path)
        return secret


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:  # just removed by its owner
        return 0.0


def _unused_s(folder: Path) -> float:
    """Since a file of it was written or, where the file system notes that, read."""
    times = [folder.stat().st_mtime]
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            times += [path.stat().st_mtime] if path.is_dir() else [path.stat().st_mtime, path.stat().st_atime]
    return time.time() - max(times)


def _sync(folder: Path, *, files: bool = True) -> None:
    """Onto the disk before the rename says that it is there."""
    if os.name == "nt":
        return
    for path in (*(folder.iterdir() if files else ()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
