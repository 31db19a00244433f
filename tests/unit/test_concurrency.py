"""Several processes, and several threads of one, on the same store at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_building import PATIENCE_S, folders_left, long, small, start_python, wait_until
from onnx import numpy_helper

from workbench.building import WAITING, Built, build
from workbench.engine import open_engine, verify
from workbench.errors import StoreError, WorkbenchError
from workbench.model import Model, load_model
from workbench.store import EngineStore
from workbench.types import LogLine, Progress

BUILD = """
import json, sys
from workbench.building import build
from workbench.model import load_model
from workbench.store import EngineStore
model, backend = load_model(sys.argv[1]), sys.argv[3]
print("ready", flush=True)
sys.stdin.readline()
built = build(model, None, backend, store=EngineStore(sys.argv[2]))
print(json.dumps([built.reused, built.why_missed, built.engine.key]))
"""

MAKE_STORE = """
import sys
from workbench.store import EngineStore
print("ready", flush=True)
sys.stdin.readline()
print(EngineStore(sys.argv[1])._secret.hex())
"""


def ready(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdout is not None and process.stdout.readline() == "ready\n", process.communicate()
    return process


def go(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Let all start at the same moment; returns what each prints."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = []
    for process in processes:
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err
        answers.append(out)
    return answers


@pytest.mark.parametrize(
    ("count", "backend"),
    [
        pytest.param(2, "rtx", marks=pytest.mark.rtx),
        pytest.param(4, "rtx", marks=pytest.mark.rtx),
        (4, "onnxruntime"),
    ],
)
def test_processes_that_want_the_same_engine_at_once_build_it_once(
    store: EngineStore, model: Model, count: int, backend: str
) -> None:
    processes = [ready(start_python(BUILD, model.path, store.folder, backend)) for _ in range(count)]
    answers = [json.loads(text) for text in go(processes)]
    assert sorted(reused for reused, _, _ in answers) == [False] + [True] * (count - 1)
    assert len({key for _, _, key in answers}) == 1
    assert all((why is None) == reused for reused, why, _ in answers)
    (engine,) = store.engines()
    verify(engine)
    assert not folders_left(store)


def test_threads_of_one_process_that_want_the_same_engine_build_it_once(store: EngineStore, model: Model) -> None:
    results: list[Built] = []
    start = threading.Barrier(3)

    def work() -> None:
        start.wait(PATIENCE_S)
        results.append(build(model, None, "onnxruntime", store=store))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(built.reused for built in results) == [False, True, True]


def test_builds_of_different_engines_do_not_wait_for_each_other(store: EngineStore, tmp_path: Path) -> None:
    """The first build is held in its listener until the second, of another model, is done."""
    one, other = small(tmp_path / "one.onnx", seed=1), small(tmp_path / "other.onnx", seed=2)
    second: list[Built] = []
    heard: list[Progress | LogLine] = []

    def hold(event: Progress | LogLine) -> None:
        if not second and isinstance(event, Progress):
            second.append(build(other, None, "onnxruntime", store=store, listener=heard.append))

    first = build(one, None, "onnxruntime", store=store, listener=hold)
    assert not first.reused and not second[0].reused
    assert not any(isinstance(event, Progress) and event.phase == WAITING for event in heard)
    assert {engine.model_name for engine in store.engines()} == {"one", "other"}


@pytest.mark.rtx
def test_prune_while_another_process_builds_takes_neither_its_folder_nor_its_engine(
    store: EngineStore, tmp_path: Path
) -> None:
    process = ready(start_python(BUILD, long(tmp_path / "long.onnx", 800).path, store.folder, "rtx"))
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    wait_until(lambda: folders_left(store) or process.poll() is not None, "the build is staged")
    pruned = 0
    while process.poll() is None and not store.engines():
        assert not store.prune(1 << 40)
        pruned += 1
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert pruned and json.loads(out)[0] is False
    verify(store.engines()[0])


def test_prune_while_others_look_up_and_build_never_breaks_a_build(store: EngineStore, model: Model) -> None:
    """Whoever prunes may cost the others a build, never an error."""
    code = """
import sys
from workbench.building import build
from workbench.model import load_model
from workbench.store import EngineStore
model, store = load_model(sys.argv[1]), EngineStore(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(6):
    built = build(model, None, "onnxruntime", store=store)
    assert built.reused or "damaged" not in built.why_missed, built.why_missed
"""
    processes = [ready(start_python(code, model.path, store.folder)) for _ in range(2)]
    stop = threading.Event()

    def prune() -> None:
        while not stop.wait(0.02):
            store.prune(0)

    pruner = threading.Thread(target=prune)
    pruner.start()
    try:
        answers = go(processes)
    finally:
        stop.set()
        pruner.join()
    assert len(answers) == len(processes), "none of them ended with an error"


def test_removing_while_others_look_up_is_a_miss_and_never_damage(store: EngineStore, model: Model) -> None:
    """remove() and find() in turns of two processes; a removed engine is gone, it was not damaged."""
    key = build(model, None, "onnxruntime", store=store).engine.key
    code = """
import sys, time
from workbench.store import EngineStore
store, key = EngineStore(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
end = time.monotonic() + 2
while time.monotonic() < end:
    with store.lock(key):
        found = store.find(key)
    assert found.damage is None, found.damage
"""
    finder = ready(start_python(code, store.folder, key))
    (template,) = store.engines()
    kept = shutil.copytree(template.folder, store.folder / "template")
    (kept / "engine.json").unlink()
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            store.remove(template)
            with store.lock(key), store.staging() as folder:
                store.add(replace(template, folder=Path(shutil.copytree(kept, folder / "out"))))

    churner = threading.Thread(target=churn)
    churner.start()
    try:
        go([finder])
    finally:
        stop.set()
        churner.join()
    assert not list((store.folder / "damaged").iterdir())


def test_the_secret_is_made_once_by_eight_processes_that_start_at_once(tmp_path: Path) -> None:
    home = tmp_path / "fresh"
    secrets = go([ready(start_python(MAKE_STORE, home)) for _ in range(8)])
    assert len(set(secrets)) == 1 and len(bytes.fromhex(secrets[0])) == 32
    assert [path.name for path in home.glob("secret*")] == ["secret"]


def test_an_open_engine_runs_on_although_it_is_pruned(store: EngineStore, model: Model) -> None:
    engine = build(model, None, "onnxruntime", store=store).engine
    with open_engine(engine) as session:
        assert store.prune(0) == (engine,)
        assert session.run({"x": np.zeros((1, 3, 8, 8), np.float32)})["y"].shape == (1, 4, 8, 8)
    with pytest.raises(StoreError, match="missing"):
        open_engine(engine)


def test_weights_that_change_while_a_build_waits_for_its_turn_never_get_the_old_key(
    store: EngineStore, tmp_path: Path
) -> None:
    """The key was made from the old weights; an engine of the new ones must not lie under it."""
    path = tmp_path / "m.onnx"
    graph = '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 4] x) => (float[1, 4] y) { y = MatMul (x, w) }'
    proto = onnx.parser.parse_model(graph)
    proto.graph.initializer.append(numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"))
    onnx.save(proto, path, save_as_external_data=True, location="m.data", size_threshold=0)
    model = load_model(path)
    waiting = threading.Event()
    failures: list[BaseException] = []

    def listener(event: Progress | LogLine) -> None:
        if isinstance(event, Progress) and event.phase == WAITING:
            waiting.set()

    def ask() -> None:
        try:
            build(model, None, "onnxruntime", store=store, listener=listener)
        except WorkbenchError as error:
            failures.append(error)

    key = build(model, None, "onnxruntime", store=store).engine.key
    store.remove(store.by_prefix(key))
    with store.lock(key):
        thread = threading.Thread(target=ask)
        thread.start()
        assert waiting.wait(PATIENCE_S)
        (tmp_path / "m.data").write_bytes((np.eye(4, dtype=np.float32) * 2).tobytes())
    thread.join(PATIENCE_S)
    assert "changed meanwhile" in str(failures[0])
    assert store.engines() == ()


def test_prune_leaves_an_engine_alone_that_is_added_meanwhile(store: EngineStore, tmp_path: Path) -> None:
    models = [small(tmp_path / f"{index}.onnx", seed=index) for index in range(6)]
    stop = threading.Event()

    def prune() -> None:
        while not stop.is_set():
            store.prune(10**12)

    thread = threading.Thread(target=prune)
    thread.start()
    for model in models:
        build(model, None, "onnxruntime", store=store)
    stop.set()
    thread.join(PATIENCE_S)
    assert len(store.engines()) == len(models)
