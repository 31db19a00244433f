"""Files that travel by content key: a worker looks for them first, and is sent only what it does not have."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from workbench.errors import ModelError, StoreError
from workbench.model import Model, load_model
from workbench.saving import save_model, sha256_of
from workbench.store import EngineStore

PATIENCE_S = 300.0
"""For another process that writes the same files."""
_CLOCK_TICK_NS = 50_000_000
"""Two changes within one tick of the file system's clock bear the same time."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_checked: dict[tuple[Parcel, Path], tuple[tuple[int, ...], ...]] = {}
"""What this process found to be whole, with the stamps that the files had."""


class ParcelMissing(StoreError):
    """A worker that has files neither in a shared folder nor in its own store. keys: of the parcels, to be sent."""

    @property
    def keys(self) -> tuple[str, ...]:
        return self.args

    def __str__(self) -> str:
        return f"the files {', '.join(key[:8] for key in self.keys)} are not on this machine; send them along."


@dataclass(frozen=True)
class Parcel:
    """A file or folder with its content's key.

    key: a model's `sha256`; a file's SHA-256; a folder's over the names and digests in it. name: of the file or folder.
    path: where it lies on the machine that packed it. files: (name seen from the path's folder, SHA-256).
    """

    key: str
    name: str
    path: Path
    files: tuple[tuple[str, str], ...]


# ---- on the machine that sends


def pack(source: str | Path | Model) -> Parcel:
    """The parcel of a file, of a folder (such as an engine's), or of a model with its external data.

    A model that was changed since it was read is written into the store first. Raises StoreError, ModelError.
    """
    if isinstance(source, Model):
        path = _file_of(source)
        paths = [path, *(path.parent / file.relative_to(source.path.parent) for file in source.external_files)]
    else:
        path = Path(os.path.abspath(Path(source).expanduser()))
        paths = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    try:
        files = tuple((file.relative_to(path.parent).as_posix(), sha256_of(file)) for file in paths)
    except OSError as error:
        raise StoreError(f"{error.filename}: cannot be read ({error.strerror}).") from error
    if not files:
        raise StoreError(f"{path}: an empty folder; there is nothing to send.")
    return Parcel(source.sha256 if isinstance(source, Model) else _key_of(files), path.name, path, files)


def contents(parcel: Parcel) -> bytes:
    """All files as one zip archive, the same bytes for the same parcel. Raises StoreError where they have changed."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for name, digest in parcel.files:
            try:
                data = (parcel.path.parent / name).read_bytes()
            except OSError as error:
                raise StoreError(f"{error.filename}: cannot be read any more ({error.strerror}).") from error
            if hashlib.sha256(data).hexdigest() != digest:
                raise StoreError(f"{parcel.path.parent / name}: was changed since it was packed; start again.")
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return whole.getvalue()


def _file_of(model: Model) -> Path:
    """The model's own file, or one in the store where the model differs from it."""
    try:
        if not model.edits and load_model(model.path).sha256 == model.sha256:
            return model.path
    except ModelError:
        pass  # the file is gone, or another one
    folder, key = _folder(), model.sha256
    with _locked(folder, key):
        saved = save_model(model, folder / key / model.path.name)
    if saved.sha256 != key:
        raise ModelError(f"{model.name}: its weights were changed while it was written; start again.")
    return saved.path


# ---- on the machine that receives


def unpack(parcel: Parcel, data: bytes | None = None) -> Path:
    """Where the parcel's file or folder lies on this machine, whole.

    At its own path in a shared folder, else in this machine's store, else written there from `data`, which `contents`
    made. Raises ParcelMissing without data, StoreError where data are not what the parcel says, or another process is
    at these files for minutes.
    """
    _check_names(parcel)
    if parcel.path.is_absolute() and _is_whole(parcel, parcel.path.parent):
        return parcel.path
    folder = _folder()
    with _locked(folder, parcel.key):  # two workers of one host do not write twice
        place = folder / parcel.key
        if not _is_whole(parcel, place):
            if data is None:
                raise ParcelMissing(parcel.key)
            _write(parcel, data, place)
            if not _is_whole(parcel, place):
                raise StoreError(f"{parcel.name}: what was sent does not have the key {parcel.key[:8]}; refused.")
    return place / parcel.name


def unpack_all(parcels: Iterable[Parcel], data: Mapping[str, bytes]) -> dict[str, Path]:
    """The places of several parcels by key. data: by key. Raises ParcelMissing with all that are missing."""
    places, missing = dict[str, Path](), list[str]()
    for parcel in parcels:
        try:
            places[parcel.key] = unpack(parcel, data.get(parcel.key))
        except ParcelMissing as error:
            missing += error.keys
    if missing:
        raise ParcelMissing(*missing)
    return places


def _folder() -> Path:
    folder = EngineStore().parcels
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made ({error.strerror}).") from error
    return folder


@contextlib.contextmanager
def _locked(folder: Path, key: str) -> Iterator[None]:
    lock = FileLock(folder / f"{key}.lock")
    try:
        lock.acquire(timeout=PATIENCE_S)
    except Timeout as error:
        raise StoreError(
            f"{lock.lock_file}: another process has written the files {key[:8]} for more than {PATIENCE_S:g} s; end it "
            "if it hangs, and start again."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _check_names(parcel: Parcel) -> None:
    """Nothing may be written outside the parcel's own folder."""
    plain = all(character.isalnum() for character in parcel.key) and parcel.key
    for name in (parcel.name, *(name for name, _ in parcel.files)):
        parts = PurePosixPath(name).parts
        if not plain or not parts or parts[0] == "/" or ".." in parts or "\\" in name or ":" in name or "\0" in name:
            raise StoreError(f"{name!r}: no name for a file of a parcel; refused.")


def _write(parcel: Parcel, data: bytes, place: Path) -> None:
    """Each file appears when it is whole and has its digest. Raises StoreError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sorted(archive.namelist()) != sorted(name for name, _ in parcel.files):
                raise StoreError(f"{parcel.name}: other files were sent than the parcel holds; refused.")
            for name, digest in parcel.files:
                content = archive.read(name)
                if hashlib.sha256(content).hexdigest() != digest:
                    raise StoreError(f"{parcel.name}: {name} was damaged on its way; refused.")
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                draft = (place / name).with_name(f".{Path(name).name}.part")
                draft.write_bytes(content)
                draft.replace(place / name)
    except OSError as error:
        raise StoreError(f"{place}: cannot be written ({error.strerror}).") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        raise StoreError(f"{parcel.name}: what was sent is damaged ({error}); refused.") from error


# ---- on both


def _is_whole(parcel: Parcel, root: Path) -> bool:
    """Whether all files lie there with the content that the key stands for; read once, while nobody writes to them."""
    try:
        stamps = tuple(_stamp(root / name) for name, _ in parcel.files)
        if _checked.get((parcel, root)) == stamps:
            return True
        if any(sha256_of(root / name) != digest for name, digest in parcel.files):
            return False
        if _key_of(parcel.files) != parcel.key and load_model(root / parcel.name).sha256 != parcel.key:
            return False
    except (OSError, ModelError):
        return False
    if all(time.time_ns() - changed > _CLOCK_TICK_NS for *_, changed in stamps):
        _checked[parcel, root] = stamps
    return True


def _stamp(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _key_of(files: tuple[tuple[str, str], ...]) -> str:
    """Of a file or a folder; the name of the folder itself plays no part."""
    if len(files) == 1 and "/" not in files[0][0]:
        return files[0][1]
    lines = (f"{name.partition('/')[2]}\0{digest}\n" for name, digest in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
