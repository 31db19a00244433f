"""An engine brought from a worker's store into this one, file by file and in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.engine import Engine
from workbench.errors import StoreError
from workbench.recipe import recipe_key
from workbench.store import EngineStore

if TYPE_CHECKING:
    from distributed import Client

PIECE_BYTES = 16 << 20
_PIECE_S = 120.0


def bring_engine(client: Client, key: str, workers: Iterable[str]) -> Engine:
    """From this process's store, else from the first of these workers that has it; it is sealed as this store's own.

    Raises StoreError where none has it, or it is damaged on its way.
    """
    store, failures = EngineStore(), list[str]()
    with store.lock(key):
        found = store.find(key).engine
    if found is not None:
        return found
    for worker in workers:  # not under the lock: a worker that shares this store waits for it
        try:
            listed = _ask(client, worker, list_engine, key)
            if listed is not None:
                return _fetched(client, key, worker, store, *listed)
        except (Exception, asyncio.CancelledError) as error:  # Dask raises what its connections raise
            failures.append(f"{worker}: {error or type(error).__name__}")
    told = f" ({'; '.join(failures)})" if failures else ""
    raise StoreError(f"engine {key[:8]} lies in the store of no worker that is there{told}; build it here.")


def _fetched(client: Client, key: str, worker: str, store: EngineStore, folder: str, files: dict[str, int]) -> Engine:
    with store.staging() as place:
        for name, size in files.items():
            if name != Path(name).name or "\\" in name or name in (".", ".."):
                raise StoreError(f"{name!r} is no name for a file of an engine; refused.")
            with (place / name).open("wb") as file:
                while file.tell() < size:
                    piece = _ask(client, worker, read_piece, folder, name, file.tell())
                    if not piece:
                        raise StoreError(f"{name} became shorter while it was sent.")
                    file.write(piece)
        engine = store.load(place, trust=True)  # whoever may give works to a worker has to trust it
        if engine.key != key or recipe_key(engine.recipe) != key:
            raise StoreError(f"what was sent is the engine {engine.key[:8]}; refused.")
        with store.lock(key):
            return store.find(key).engine or store.add(replace(engine, folder=place))


def _ask(client: Client, worker: str, function: Any, *args: Any) -> Any:
    async def ask() -> Any:
        return await client.run(function, *args, workers=[worker])

    return client.sync(ask, callback_timeout=_PIECE_S)[worker]


# ---- on the worker, in a thread: it answers others meanwhile


async def list_engine(key: str) -> tuple[str, dict[str, int]] | None:
    """The engine's folder with names and sizes of its files, all checked; None where the store lacks it."""
    return await asyncio.to_thread(_list_engine, key)


def _list_engine(key: str) -> tuple[str, dict[str, int]] | None:
    store = EngineStore()
    with store.lock(key):
        engine = store.find(key).engine
    if engine is None:
        return None
    return str(engine.folder), {path.name: path.stat().st_size for path in sorted(engine.folder.iterdir())}


async def read_piece(folder: str, name: str, offset: int) -> bytes:
    """PIECE_BYTES of a file, less at its end."""
    return await asyncio.to_thread(_read_piece, Path(folder) / name, offset)


def _read_piece(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(PIECE_BYTES)
