"""Searches in files: those of this store, which any later process finds again, and sweeps recorded on a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from workbench.errors import ConfigError, UnknownRun, ViewError
from workbench.store import EngineStore
from workbench.tuning.result import Tuned, load_tuned, save_tuned

SWEEP = ".sweep.json.gz"
"""How the files of recorded sweeps end, in data/recorded/*/."""
_ENDING = ".json.gz"
_FOLDER = "tuning"


def keep_search(tuned: Tuned, folder: str | Path | None = None) -> Path:
    """Write a search as it stands into the store, in place of what was kept of it before; columns that it did not come
    to this time stay as they were. Raises ConfigError."""
    earlier, names = kept_search(tuned.id, folder), {column.name for column in tuned.columns}
    if earlier is not None:
        columns = [column for column in earlier.columns if column.name not in names]
        trials = [trial for trial in earlier.trials if trial.column not in names]
        tuned = replace(tuned, columns=(*tuned.columns, *columns), trials=(*tuned.trials, *trials))
    return save_tuned(tuned, _folder(folder) / f"{tuned.id}{_ENDING}")


def kept_search(search_id: str, folder: str | Path | None = None) -> Tuned | None:
    """As `keep_search` wrote it last; None where that was never, or it cannot be read."""
    try:
        return load_tuned(_folder(folder) / f"{search_id}{_ENDING}")
    except ViewError:
        return None


def stored_searches(folder: str | Path | None = None) -> tuple[Path, ...]:
    """The files of the searches that were run here, the newest first. folder: of a store; the usual one by default."""
    found = [(path.stat().st_mtime_ns, path) for path in _folder(folder).glob(f"*{_ENDING}") if path.name[0] != "."]
    return tuple(path for _, path in sorted(found, reverse=True))


def stored_search(name: str, folder: str | Path | None = None) -> Tuned | None:
    """name: the id of a search that was run here, or its beginning. None where there is none; raises UnknownRun where
    there are several."""
    wanted = name.strip().lower()
    found = [item for item in stored_searches(folder) if wanted and item.name.startswith(wanted)]
    if len(found) > 1:
        raise UnknownRun(f"{len(found)} searches have an id that starts with {name!r}; write more of it.")
    return replace(load_tuned(found[0]), recorded="") if found else None


def find_search(name: str, folder: str | Path | None = None) -> Tuned:
    """name: a search's id or its beginning, or a file that `save_tuned` wrote; also the beginning of a recorded one's.

    What was run here is not labelled as recorded. Raises UnknownRun where there is none, or several; ViewError for a
    file that is no search.
    """
    path, wanted = Path(name).expanduser(), name.strip().lower()
    if path.is_file():
        return load_tuned(path)
    if found := stored_search(name, folder):
        return found
    for item in recorded_sweeps():
        if wanted and item.id.startswith(wanted):
            return item
    raise UnknownRun(f"there is no search whose id starts with {name!r}; `workbench tune` tells the id of each.")


def _folder(folder: str | Path | None) -> Path:
    return EngineStore(folder).folder / _FOLDER


def recorded_sweeps(folder: str | Path | None = None) -> tuple[Tuned, ...]:
    """The sweeps recorded in data/recorded of this folder, the one above it or the repository, by name; each says where
    it was recorded, and by its notes how. folder: where else to look for such files, and below it.

    Raises ViewError for a file that is no sweep, ConfigError for a folder that is none.
    """
    if folder is not None:
        start = Path(folder).expanduser()
        if not start.is_dir():
            raise ConfigError(f"{folder}: there is no such folder.")
        return tuple(map(load_tuned, sorted(start.rglob(f"*{SWEEP}"))))
    here = Path.cwd()
    for place in (here, here.parent, Path(__file__).parents[2]):
        paths = sorted((place / "data" / "recorded").glob(f"*/*{SWEEP}"))
        if paths:
            return tuple(map(load_tuned, paths))
    return ()


def is_search(path: str | Path) -> bool:
    """Whether a file holds a search, so that a report may be given studies and searches alike."""
    try:
        load_tuned(path)
    except ViewError:
        return False
    return True
