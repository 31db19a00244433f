"""Build in a child process: live progress and log, cancel within a second, and no crash reaches the kernel."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from workbench import backends
from workbench.build_process import run_child
from workbench.engine import Engine, write_log
from workbench.errors import BuildError, Cancelled, StoreError
from workbench.locking import hold
from workbench.machine import this_machine
from workbench.model import Model
from workbench.recipe import FORMAT, recipe_entries, recipe_key
from workbench.snippets import shell_line
from workbench.store import EngineStore, Lookup
from workbench.types import (
    BuildConfig,
    Listener,
    LogLine,
    ModelSupport,
    Progress,
    Refusal,
    config_to_json,
    count_of,
    ignore,
)

READING = "Reading the model's weights"
WAITING = "Waiting for another process that builds this engine"


@dataclass(frozen=True)
class Built:
    """An engine and how it was come by. why_missed: None if it was reused. elapsed_s: what this call took."""

    engine: Engine
    reused: bool
    why_missed: str | None
    elapsed_s: float

    def __str__(self) -> str:
        engine = self.engine
        how = "reused" if self.reused else f"built in {engine.build_s:.1f} s"
        return (
            f"{engine.model_name} {engine.precision} on {engine.backend} {engine.release}: {how}, "
            f"{engine.plan_bytes / 1e6:.1f} MB, {count_of(engine.nodes, 'node')} -> {count_of(engine.layers, 'layer')}"
        )


@dataclass(frozen=True)
class Order:
    """What is to be built: a resolved configuration and the recipe that names everything that matters.

    stamps: of the model's external files, taken before they were read. task: what the child is asked to do. prepare:
    writes what it needs besides the model into its folder. repeat: a shell line that repeats the build.
    """

    model: Model
    backend: str
    config: BuildConfig
    recipe: Mapping[str, Any]
    stamps: tuple[tuple[int, int], ...]
    task: Mapping[str, Any]
    prepare: Callable[[Path], None] = lambda folder: None
    repeat: str | None = None

    @property
    def key(self) -> str:
        return recipe_key(self.recipe)


def build(
    model: Model,
    config: BuildConfig | None = None,
    backend: str | None = None,
    *,
    store: EngineStore | None = None,
    reuse: bool = True,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Built:
    """The engine for this model and configuration: from the store if it is there, built otherwise.

    backend: the first that can build on this machine if not named. reuse: Paddle's `use_static`; without it the
    engine is built anyway and replaces the stored one. listener: called in this thread with Progress and LogLine.
    cancel: set it from another thread to stop within a second.

    Raises ConfigError and ShapeError before anything is built, BuildError when the build fails or its process dies,
    StoreError when the engine cannot be written, Cancelled.
    """
    start = time.monotonic()
    store = store or EngineStore()
    cancel = cancel or threading.Event()
    order = _order(model, config or BuildConfig(), backend or backends.default_backend(), listener, cancel)
    order = replace(order, repeat=shell_line(model, order.config, order.backend, reuse=reuse))
    return fulfil(order, store=store, reuse=reuse, listener=listener, cancel=cancel, start=start)


def fulfil(
    order: Order, *, store: EngineStore, reuse: bool, listener: Listener, cancel: threading.Event, start: float
) -> Built:
    """Look the order up or build it, as `build` says. start: of the whole, by time.monotonic()."""
    if not store.writable:
        return _from_read_only(store, order, reuse, start)
    with hold(store.lock(order.key), WAITING, order.key[:8], listener, cancel):
        lookup = store.find(order.key, _raise_if(cancel))
        if reuse and lookup.engine:
            return Built(lookup.engine, True, None, time.monotonic() - start)
        missed = lookup.damage or (store.why_missed(order.recipe, order.model.name) if reuse else "asked to build anew")
        try:
            engine = _build_into(store, order, listener, cancel)
        except BuildError as error:
            error.repeat = order.repeat
            raise
        except OSError as error:
            what = f"{store.folder}: the engine cannot be written ({error.strerror})"
            raise StoreError(f"{what}; free some space, or set WORKBENCH_HOME to another folder.") from error
    from workbench.runs.history import record_build  # SQLite and all, which a look-up does not need

    record_build(engine, store.folder, listener)
    return Built(engine, False, missed, time.monotonic() - start)


def _from_read_only(store: EngineStore, order: Order, reuse: bool, start: float) -> Built:
    lookup = store.find(order.key) if reuse else Lookup(None, "nothing can be built anew")
    if lookup.engine is None:
        what = lookup.damage or store.why_missed(order.recipe, order.model.name)
        raise StoreError(f"{store.folder} cannot be written, and {what}; set WORKBENCH_HOME to a folder you own.")
    return Built(lookup.engine, True, None, time.monotonic() - start)


def _order(model: Model, config: BuildConfig, backend: str, listener: Listener, cancel: threading.Event) -> Order:
    resolved = backends.load(backend).resolve(model, config)
    stamps = model.stamps  # before the content is read, so that a later change is noticed
    if stamps:
        listener(Progress(READING, 0, None))
    recipe = recipe_of(model.hash_content(_raise_if(cancel)), backend, resolved)
    if stamps:
        listener(Progress(READING, 1, 1))
    return Order(model, backend, resolved, recipe, stamps, {"task": "build", "config": config_to_json(resolved)})


def recipe_of(content: str, backend: str, resolved: BuildConfig) -> dict[str, Any]:
    """content: hash of the model or the description."""
    ingredients = backends.load(backend).ingredients(resolved)
    entries = recipe_entries(resolved)
    return {"format": FORMAT, "model": content, "backend": backend, **entries, "ingredients": ingredients}


def _raise_if(cancel: threading.Event) -> Callable[[], None]:
    def check() -> None:
        if cancel.is_set():
            raise Cancelled("cancelled; nothing was left behind.")

    return check


def _build_into(store: EngineStore, order: Order, listener: Listener, cancel: threading.Event) -> Engine:
    """Build in a staging folder and hand it to the store."""
    model, plan = order.model, backends.load(order.backend).PLAN
    if order.config.precision == "fp32" and model.holds_half_precision:
        text = "The model holds 16-bit floating-point tensors; fp32 converts nothing, so they stay as they are."
        listener(LogLine("warning", text))
    with store.staging() as work:
        began = time.monotonic()
        order.prepare(work)
        caches = store.folder / "caches"
        caches.mkdir(exist_ok=True)
        task = {**order.task, "caches": str(caches)}
        result, log = run_child(model, order.backend, task, work, listener, cancel)
        build_s = time.monotonic() - began
        if model.stamps != order.stamps:
            raise BuildError("the model's external weights were changed meanwhile", remedy="Build again.")
        folder = work / "out"
        write_log(folder, log)
        engine = Engine(
            folder=folder,
            key=order.key,
            recipe=order.recipe,
            model_name=model.name,
            model_path=str(model.path),
            plan=plan,
            plan_bytes=sum(path.stat().st_size for path in folder.glob(f"{plan}*")),
            layers=result["layers"],
            nodes=result["nodes"],
            nodes_covered=result["nodes_covered"],
            build_s=round(build_s, 3),
            built_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            machine=this_machine().to_json(),
            files={},
        )
        return store.add(engine)


def check_support(model: Model, backend: str, *, listener: Listener = ignore) -> ModelSupport:
    """Ask a back end which nodes of the model it refuses. Raises BackendError when it cannot be used here."""
    backends.ready(backends.load(backend).support())
    with tempfile.TemporaryDirectory() as folder:
        result, _ = run_child(model, backend, {"task": "check"}, Path(folder), listener, threading.Event())
    return ModelSupport(backend, result["supported"], tuple(Refusal(**item) for item in result["refusals"]))
