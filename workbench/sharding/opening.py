"""What runs on workers: packed where it lies, opened where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import cast

from workbench.contest.feeding import Whole
from workbench.engine import Engine, open_engine
from workbench.errors import StoreError
from workbench.evaluation import Runs
from workbench.model import Model, load_model
from workbench.reference import Reference
from workbench.sharding.parcels import Parcel, pack
from workbench.store import EngineStore


def parcel_of(source: Model | Engine) -> Parcel:
    return pack(source.folder if isinstance(source, Engine) else source)


def opened(paths: Mapping[str, Path], key: str, threads: int, stack: ExitStack) -> Runs:
    """A model or an engine by its parcel's key; closed with the stack.

    The sender's store vouches for an engine: it was checked there, and has the content that it had."""
    path = paths[key]
    if not path.is_dir():
        model = model_of(path, key)
        resting = {"session.intra_op.allow_spinning": "0"}
        return Whole(Reference(model, intra_op_num_threads=threads, **resting), model)
    engine = EngineStore().load(path, trust=True)
    session = stack.enter_context(open_engine(engine, threads=threads, in_turns=True))
    return Whole(session, cast(Model, session))  # it looks at the inputs only


@lru_cache(maxsize=2)
def model_of(path: Path, key: str) -> Model:
    """Read once for all shards."""
    model = load_model(path)
    if model.sha256 != key:
        raise StoreError(f"{path}: was changed while it was read.")
    return model
