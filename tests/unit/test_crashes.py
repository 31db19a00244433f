"""Deaths: of the build process, of its parent, of whoever writes the store; at any moment."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from helpers_building import (
    alive,
    children,
    folders_left,
    kill_all,
    leftovers,
    long,
    small,
    start_python,
    sweep,
    wait_until,
)

from workbench.building import build
from workbench.engine import verify
from workbench.errors import BuildError
from workbench.store import EngineStore
from workbench.types import LogLine, Progress

BUILDS = """
import sys
from workbench.building import build
from workbench.model import load_model
from workbench.store import EngineStore
model = load_model(sys.argv[1])
print("ready", flush=True)
built = build(model, None, sys.argv[3], store=EngineStore(sys.argv[2]), reuse=sys.argv[4] == "reuse")
print("built", built.reused, flush=True)
"""

WRITES = """
import dataclasses, pathlib, shutil, sys
from workbench.store import EngineStore
store = EngineStore(sys.argv[1])
template = store.load(store.folder / "engines" / sys.argv[2])
print("ready", flush=True)
number = 0
while True:
    key = f"{number % 4:032x}"
    with store.lock(key), store.staging() as folder:
        out = folder / "out"
        shutil.copytree(template.folder, out)
        (out / "engine.json").unlink()
        engine = store.add(dataclasses.replace(template, folder=out, key=key, build_s=float(number)))
    if sys.argv[3] == "remove" and number % 2:
        store.remove(engine)
    if sys.argv[3] == "prune":
        store.prune(2 * template.size_bytes)
    number += 1
"""


class Killer:
    """A listener that sends the build process a signal once the build says `phase`."""

    def __init__(self, number: signal.Signals, phase: str) -> None:
        self.number, self.phase, self.victims = number, phase, 0

    def __call__(self, event: Progress | LogLine) -> None:
        if isinstance(event, Progress) and event.phase == self.phase and not self.victims:
            for pid in children():
                os.kill(pid, self.number)
                self.victims += 1


@pytest.mark.rtx
@pytest.mark.parametrize(
    ("number", "words", "phase"),
    [
        (signal.SIGKILL, "killed by the system", "Building engine"),
        (signal.SIGSEGV, "crashed (SIGSEGV)", "Building engine"),
        (signal.SIGABRT, "crashed (SIGABRT)", "Computing profile costs"),
    ],
)
def test_the_death_of_the_build_process_is_an_error_that_says_what_happened(
    store: EngineStore, tmp_path: Path, number: signal.Signals, words: str, phase: str
) -> None:
    model, killer = long(tmp_path / "long.onnx", 2000), Killer(number, phase)
    with pytest.raises(BuildError) as caught:
        build(model, None, "rtx", store=store, listener=killer)
    error = caught.value
    assert killer.victims == 1
    assert words in error.reason and error.reason in str(error)
    assert error.remedy and error.remedy.endswith(".")
    assert error.log_tail and all(isinstance(line, str) and line for line in error.log_tail)
    assert error.repeat and error.repeat.startswith(f"workbench build {model.path}")
    assert not children() and not folders_left(store) and not store.engines()
    following = build(small(tmp_path / "small.onnx"), None, "rtx", store=store)
    assert not following.reused and verify(following.engine) is None


@pytest.mark.rtx
def test_a_death_before_the_first_word_is_an_error_too_and_frees_the_lock(store: EngineStore, tmp_path: Path) -> None:
    model, killer = small(tmp_path / "small.onnx"), Killer(signal.SIGKILL, "Starting the build process")
    with pytest.raises(BuildError, match="killed"):
        build(model, None, "rtx", store=store, listener=killer)
    assert killer.victims == 1
    assert not build(model, None, "rtx", store=store).reused


def test_a_crash_leaves_not_even_a_lock_file_in_work(store: EngineStore, tmp_path: Path) -> None:
    with pytest.raises(BuildError):
        killer = Killer(signal.SIGKILL, "Starting the build process")
        build(small(tmp_path / "small.onnx"), None, "onnxruntime", store=store, listener=killer)
    assert not leftovers(store)


@pytest.mark.rtx
def test_a_build_process_whose_parent_is_killed_ends_by_itself_and_its_folder_is_swept(
    store: EngineStore, tmp_path: Path
) -> None:
    model = long(tmp_path / "long.onnx", 6000)  # would build for minutes
    parent = start_python(BUILDS, model.path, store.folder, "rtx", "reuse")
    try:
        wait_until(lambda: children(parent.pid), "the build process starts")
        time.sleep(1.0)  # in the middle of its work
        orphans = kill_all(parent, with_children=False)
    finally:
        parent.kill()
    assert len(orphans) == 1
    wait_until(lambda: not alive(orphans[0]), "the orphan ends")
    assert len(folders_left(store)) == 1
    sweep(store)
    assert not folders_left(store) and not store.engines()


FULL_DISK = """
import resource, signal, sys
from workbench.building import build
from workbench.errors import WorkbenchError
from workbench.model import load_model
from workbench.store import EngineStore
store, model = EngineStore(sys.argv[1]), load_model(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing further fails with an OSError, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    build(model, None, "onnxruntime", store=store, reuse=False)
except WorkbenchError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("most_bytes", [0, 100, 1000, 2000])
def test_a_full_disk_is_an_error_in_words_and_never_half_an_engine(
    store: EngineStore, tmp_path: Path, most_bytes: int
) -> None:
    """Files cannot grow beyond most_bytes: the model, the plan, the log or the record is the first that fails."""
    model = small(tmp_path / "small.onnx")
    stored = build(model, None, "onnxruntime", store=store).engine
    process = start_python(FULL_DISK, store.folder, model.path, most_bytes)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith(("BuildError", "StoreError")) or (not out and most_bytes > 1000), out
    found = store.find(stored.key)
    assert found.engine is not None and found.damage is None
    assert found.engine == stored or not out
    assert not folders_left(store)


def test_lock_files_of_the_dead_are_swept_too(store: EngineStore) -> None:
    """What a process leaves that was killed between taking its lock and making its folder, a moment ago."""
    orphan = store.folder / "work" / "123-0123456789abcdef.lock"
    orphan.touch()
    sweep(store)
    assert orphan.exists(), "its maker may be about to make the folder"
    os.utime(orphan, (time.time() - 60, time.time() - 60))
    sweep(store)
    assert not leftovers(store)


def check(store: EngineStore) -> None:
    """No wrong or half engine, whatever happened before."""
    names = sorted(path.name for path in (store.folder / "engines").iterdir())
    found = {engine.key: engine for engine in store.engines()}
    assert sorted(found) == names, "a folder in engines/ without a whole record"
    for engine in found.values():
        verify(engine)

    def is_swept() -> bool:
        sweep(store)
        return not folders_left(store)

    wait_until(is_swept, "work/ is swept")  # a child of the dead may have written meanwhile
    assert not list((store.folder / "damaged").iterdir()), "nothing was damaged"


@pytest.mark.parametrize("reuse", ["reuse", "anew"])
@pytest.mark.parametrize(("backend", "seed"), [pytest.param("rtx", 1, marks=pytest.mark.rtx), ("onnxruntime", 2)])
def test_kill_9_at_any_moment_of_a_build_never_leaves_half_an_engine(
    store: EngineStore, tmp_path: Path, backend: str, seed: int, reuse: str
) -> None:
    """7 rounds for each combination; in turns the parent alone and all its processes in one moment."""
    model, dice, last = small(tmp_path / "small.onnx"), random.Random(seed), 0.8
    if reuse == "anew":
        build(model, None, backend, store=store)
    for round_number in range(7):
        process = start_python(BUILDS, model.path, store.folder, backend, reuse)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(dice.uniform(0, last))
        orphans = kill_all(process, with_children=round_number % 2 == 0)
        check_ended(orphans)
        check(store)
        if reuse == "reuse":
            for engine in store.engines():
                store.remove(engine)
    assert verify(build(model, None, backend, store=store).engine) is None
    assert build(model, None, backend, store=store).reused


def check_ended(pids: list[int]) -> None:
    for pid in pids:
        wait_until(lambda pid=pid: not alive(pid), "the orphan ends")  # type: ignore[misc]


@pytest.mark.parametrize(("doing", "seed"), [("add", 3), ("remove", 4), ("prune", 5)])
def test_kill_9_while_the_store_is_written_never_leaves_half_an_engine(
    store: EngineStore, tmp_path: Path, doing: str, seed: int
) -> None:
    """10 rounds each; a process adds, replaces, removes and prunes engines hundreds of times a second."""
    key = build(small(tmp_path / "small.onnx"), None, "onnxruntime", store=store).engine.key
    template = tmp_path / "template"
    (store.folder / "engines" / key).rename(template)
    dice = random.Random(seed)
    for _ in range(10):
        process = start_python(WRITES.replace('store.folder / "engines" / sys.argv[2]', "sys.argv[2]"),
                               store.folder, template, doing)  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "ready\n", process.communicate()
        time.sleep(dice.uniform(0, 0.15))
        assert process.poll() is None, process.communicate()
        kill_all(process, with_children=False)
        check(store)
    for engine in store.engines():
        found = store.find(engine.key)
        assert found.engine == engine and found.damage is None
