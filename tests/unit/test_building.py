"""build(): what it tells while it builds, what it returns, when it reuses, how it stops."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_building import (
    BOTH,
    PATIENCE_S,
    children,
    folders_left,
    leftovers,
    long,
    refused,
    small,
    start_python,
    wait_until,
)
from onnx import numpy_helper

from workbench import build_process
from workbench.backends import onnxruntime
from workbench.backends.plan_record import read_plan_header
from workbench.build_process import STARTING
from workbench.building import WAITING, Built, build, check_support
from workbench.engine import read_layers, read_log, verify
from workbench.errors import BuildError, Cancelled, ConfigError, ModelError, ShapeError
from workbench.model import Model, load_model
from workbench.profiles import parse_shapes
from workbench.store import EngineStore
from workbench.types import BuildConfig, LogLine, Progress


class Recorder:
    """A listener that keeps what it hears and the thread it hears it in."""

    def __init__(self) -> None:
        self.events: list[Progress | LogLine] = []
        self.threads: set[threading.Thread] = set()

    def __call__(self, event: Progress | LogLine) -> None:
        self.events.append(event)
        self.threads.add(threading.current_thread())

    @property
    def progress(self) -> list[Progress]:
        return [event for event in self.events if isinstance(event, Progress)]

    @property
    def lines(self) -> list[LogLine]:
        return [event for event in self.events if isinstance(event, LogLine)]


@pytest.mark.rtx
def test_phases_progress_and_log_lines_reach_the_listener_in_the_calling_thread(
    store: EngineStore, model: Model
) -> None:
    heard = Recorder()
    build(model, None, "rtx", store=store, listener=heard)
    assert heard.threads == {threading.current_thread()}
    assert heard.progress[0] == Progress(STARTING, 0, None)
    phases = [step.phase for step in heard.progress]
    assert {STARTING, "Building engine", "Optimizing graph"} <= set(phases)
    last = {step.phase: step for step in heard.progress}
    assert all(step.finished for step in last.values()), "every phase ends"
    known: set[str] = set()
    for step in heard.progress:
        assert step.parent is None or step.parent in known, f"{step.phase} came before its parent {step.parent}"
        known.add(step.phase)
    assert {line.severity for line in heard.lines} <= {"error", "warning", "info", "verbose"}
    assert any(line.text.startswith("Layers:") for line in heard.lines)


@pytest.mark.parametrize("backend", BOTH)
def test_the_result_tells_what_was_built(store: EngineStore, model: Model, backend: str) -> None:
    built = build(model, None, backend, store=store)
    engine = built.engine
    assert (built.reused, built.why_missed) == (False, "the store holds no engine yet")
    assert engine.folder == store.folder / "engines" / engine.key
    assert (engine.backend, engine.precision, engine.model_name) == (backend, "fp32", "small")
    assert (engine.nodes, engine.nodes_covered) == (2, 2)
    assert engine.layers == len(read_layers(engine)) > 0
    assert engine.plan_bytes == engine.plan_path.stat().st_size > 0
    assert 0 < engine.build_s <= built.elapsed_s
    assert engine.size_bytes > engine.plan_bytes
    assert set(engine.files) == {engine.plan, "layers.json", "nodes.json.gz", "build.log.gz"}
    verify(engine)
    assert "small fp32" in str(built)


@pytest.mark.rtx
def test_an_rtx_plan_says_itself_what_it_is_for(store: EngineStore, model: Model) -> None:
    engine = build(model, BuildConfig(targets=("sm89", "sm86")), "rtx", store=store).engine
    header = read_plan_header(engine.plan_path)
    assert header is not None
    assert (header.backend, set(header.targets)) == ("rtx", {"sm86", "sm89"})
    assert engine.release.startswith(header.release.rpartition(".")[0])


@pytest.mark.rtx
def test_the_stored_log_is_what_the_listener_heard(store: EngineStore, model: Model) -> None:
    heard = Recorder()
    engine = build(model, None, "rtx", store=store, listener=heard).engine
    assert list(read_log(engine)) == heard.lines


def test_the_second_call_reuses_the_engine_and_starts_no_process(store: EngineStore, model: Model) -> None:
    first = build(model, None, "onnxruntime", store=store)
    heard = Recorder()
    second = build(model, None, "onnxruntime", store=store, listener=heard)
    assert (second.reused, second.why_missed) == (True, None)
    assert second.engine == first.engine
    assert not heard.events
    assert "reused" in str(second)


def test_the_same_content_under_another_name_is_reused(store: EngineStore, model: Model, tmp_path: Path) -> None:
    build(model, None, "onnxruntime", store=store)
    (tmp_path / "copies").mkdir()
    assert build(small(tmp_path / "copies" / "other.onnx"), None, "onnxruntime", store=store).reused


def test_without_reuse_the_engine_is_built_anew_and_replaces_the_stored_one(store: EngineStore, model: Model) -> None:
    first = build(model, None, "onnxruntime", store=store)
    (first.engine.folder / "engine.json").touch()
    inode = first.engine.folder.stat().st_ino
    again = build(model, None, "onnxruntime", store=store, reuse=False)
    assert (again.reused, again.why_missed) == (False, "asked to build anew")
    assert again.engine.folder.stat().st_ino != inode
    assert [engine.key for engine in store.engines()] == [first.engine.key]
    assert not leftovers(store)
    assert build(model, None, "onnxruntime", store=store).engine == again.engine


def test_a_failed_rebuild_keeps_the_stored_engine(store: EngineStore, model: Model) -> None:
    build(model, None, "onnxruntime", store=store)

    def fail(event: Progress | LogLine) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(model, None, "onnxruntime", store=store, reuse=False, listener=fail)
    assert build(model, None, "onnxruntime", store=store).reused


# ---- why not reused


def why(store: EngineStore, model: Model, config: BuildConfig | None = None, backend: str = "onnxruntime") -> str:
    built = build(model, config, backend, store=store)
    assert not built.reused
    return str(built.why_missed)


def test_why_missed_names_the_nearest_engine_and_the_precision(store: EngineStore, model: Model) -> None:
    nearest = build(model, None, "onnxruntime", store=store).engine
    text = why(store, model, BuildConfig(precision="fp16"))
    assert text == f"the nearest stored engine ({nearest.key[:8]}) differs in precision (fp32 stored, fp16 wanted)"


@pytest.mark.rtx
def test_why_missed_names_targets_and_workspace(store: EngineStore, model: Model) -> None:
    build(model, BuildConfig(targets=("sm89",)), "rtx", store=store)
    text = why(store, model, BuildConfig(targets=("sm86", "sm89"), workspace_bytes=1 << 28), "rtx")
    assert "targets (sm89 stored, sm86+sm89 wanted)" in text
    assert "workspace (none stored, 256 MiB wanted)" in text


@pytest.mark.rtx
def test_why_missed_names_the_shapes(store: EngineStore, tmp_path: Path) -> None:
    model = small(tmp_path / "open.onnx", batch="n")
    build(model, BuildConfig(profiles=(parse_shapes(["x:1x3x8x8,2x3x8x8,4x3x8x8"]),)), "rtx", store=store)
    text = why(store, model, BuildConfig(profiles=(parse_shapes(["x:1x3x8x8,2x3x8x8,5x3x8x8"]),)), "rtx")
    assert "x 1x3x8x8/2x3x8x8/4x3x8x8 stored, x 1x3x8x8/2x3x8x8/5x3x8x8 wanted" in text


def test_why_missed_tells_that_the_model_changed_under_its_name(store: EngineStore, tmp_path: Path) -> None:
    build(small(tmp_path / "net.onnx", seed=1), None, "onnxruntime", store=store)
    assert "differs in the model's content" in why(store, small(tmp_path / "net.onnx", seed=2))


@pytest.mark.rtx
def test_why_missed_tells_that_only_the_other_back_end_has_it(store: EngineStore, model: Model) -> None:
    build(model, None, "rtx", store=store)
    assert why(store, model) == "no engine of small is stored for onnxruntime yet"


def test_why_missed_tells_that_no_engine_of_the_model_is_stored(
    store: EngineStore, model: Model, tmp_path: Path
) -> None:
    build(model, None, "onnxruntime", store=store)
    assert why(store, small(tmp_path / "another.onnx", seed=9)) == "no engine of another is stored yet"


@pytest.mark.rtx
def test_why_missed_chooses_the_engine_with_the_fewest_differences(store: EngineStore, model: Model) -> None:
    build(model, BuildConfig(targets=("sm89",)), "rtx", store=store)
    near = build(model, BuildConfig(targets=("sm86",), workspace_bytes=1 << 28), "rtx", store=store).engine
    text = why(store, model, BuildConfig(targets=("sm86",), workspace_bytes=1 << 29), "rtx")
    assert near.key[:8] in text and "targets" not in text


# ---- mistakes


@pytest.mark.rtx
def test_mistakes_are_told_before_a_process_starts(store: EngineStore, model: Model, tmp_path: Path) -> None:
    heard = Recorder()
    for config, backend in (
        (BuildConfig(precision="fp12"), "rtx"),
        (BuildConfig(precision="bf16"), "onnxruntime"),
        (BuildConfig(targets=("sm1",)), "rtx"),
        (BuildConfig(), "nonsense"),
    ):
        with pytest.raises(ConfigError):
            build(model, config, backend, store=store, listener=heard)
    with pytest.raises(ShapeError):
        wrong = BuildConfig(profiles=(parse_shapes(["x:9x9"]),))
        build(small(tmp_path / "open.onnx", batch="n"), wrong, "rtx", store=store, listener=heard)
    assert not heard.events


@pytest.mark.parametrize("backend", BOTH)
def test_an_unknown_operator_is_an_error_with_node_remedy_log_and_a_line_to_repeat(
    store: EngineStore, tmp_path: Path, backend: str
) -> None:
    with pytest.raises(BuildError) as caught:
        build(refused(tmp_path / "bad model.onnx"), None, backend, store=store)
    error = caught.value
    assert error.node == "culprit"
    assert error.remedy and error.remedy.endswith(".")
    assert error.repeat and error.repeat.startswith("workbench build ") and "'" in error.repeat
    assert "culprit" in str(error) and "Traceback" not in str(error)
    if backend == "rtx":
        assert error.log_tail
    assert not folders_left(store) and not store.engines() and not children()


@pytest.mark.rtx
@pytest.mark.parametrize("backend", BOTH)
def test_check_support_names_the_refused_node(tmp_path: Path, model: Model, backend: str) -> None:
    answer = check_support(refused(tmp_path / "bad.onnx"), backend)
    assert not answer.supported
    assert [item.node for item in answer.refusals] == ["culprit"]
    assert check_support(model, backend).supported


# ---- stopping


@pytest.mark.rtx
def test_an_error_in_the_listener_ends_the_build_and_leaves_nothing(store: EngineStore, tmp_path: Path) -> None:
    class Unforeseen(Exception):
        pass

    def listener(event: Progress | LogLine) -> None:
        if isinstance(event, Progress) and event.phase == "Building engine":
            raise Unforeseen

    model = long(tmp_path / "long.onnx")
    with pytest.raises(Unforeseen):
        build(model, None, "rtx", store=store, listener=listener)
    assert not folders_left(store) and not children() and not store.engines()


class Stopper:
    """Sets `cancel` from another thread once the build says `phase`, and notes when."""

    def __init__(self, phase: str) -> None:
        self.phase, self.cancel, self.at_s, self.said = phase, threading.Event(), 0.0, threading.Event()
        self.thread = threading.Thread(target=self._stop, daemon=True)
        self.thread.start()

    def __call__(self, event: Progress | LogLine) -> None:
        if isinstance(event, Progress) and event.phase == self.phase:
            self.said.set()

    def _stop(self) -> None:
        self.said.wait()
        self.at_s = time.monotonic()
        self.cancel.set()


def cancel_in(phase: str, model: Model, store: EngineStore) -> None:
    stopper = Stopper(phase)
    with pytest.raises(Cancelled):
        build(model, None, "rtx", store=store, listener=stopper, cancel=stopper.cancel)
    assert time.monotonic() - stopper.at_s < PATIENCE_S, "it went on"


@pytest.mark.rtx
@pytest.mark.parametrize("phase", [STARTING, "Building engine", "Computing profile costs"])
def test_cancel_from_another_thread_stops_the_builder_and_leaves_nothing(
    store: EngineStore, tmp_path: Path, phase: str
) -> None:
    """The build would take minutes."""
    cancel_in(phase, long(tmp_path / "long.onnx", 6000), store)
    assert not children() and not folders_left(store) and not store.engines()
    assert build(small(tmp_path / "small.onnx"), None, "rtx", store=store).reused is False


@pytest.mark.rtx
def test_a_cancelled_build_leaves_not_even_a_lock_file_in_work(store: EngineStore, model: Model) -> None:
    cancel_in(STARTING, model, store)
    assert not leftovers(store)


@pytest.mark.rtx
def test_after_a_cancel_the_same_build_can_be_taken_up_again(store: EngineStore, model: Model) -> None:
    stopper = Stopper(STARTING)
    stopper.cancel.set()
    with pytest.raises(Cancelled):
        build(model, None, "rtx", store=store, cancel=stopper.cancel)
    assert not build(model, None, "rtx", store=store).reused


def test_cancel_while_another_process_builds_the_engine_answers_at_once_and_leaves_that_build_alone(
    store: EngineStore, tmp_path: Path
) -> None:
    model = small(tmp_path / "small.onnx")
    key = build(model, None, "onnxruntime", store=store).engine.key
    holder = start_python(
        "import sys\nfrom workbench.store import EngineStore\n"
        "with EngineStore(sys.argv[1]).lock(sys.argv[2]):\n  print('held', flush=True)\n  sys.stdin.read()",
        store.folder,
        key,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    stopper, heard = Stopper(WAITING), Recorder()

    def listener(event: Progress | LogLine) -> None:
        stopper(event)
        heard(event)

    try:
        with pytest.raises(Cancelled, match="waiting"):
            build(model, None, "onnxruntime", store=store, listener=listener, cancel=stopper.cancel)
        assert any(WAITING in line.text for line in heard.lines)
        assert holder.poll() is None
    finally:
        holder.communicate("")
    assert build(model, None, "onnxruntime", store=store).reused


def test_who_waited_gets_the_engine_of_the_other_and_hears_that_waiting_is_over(
    store: EngineStore, model: Model
) -> None:
    key = build(model, None, "onnxruntime", store=store).engine.key
    lock, results, heard = store.lock(key), [], Recorder()
    lock.acquire()
    waiter = threading.Thread(
        target=lambda: results.append(build(model, None, "onnxruntime", store=store, listener=heard))
    )
    waiter.start()
    try:
        wait_until(lambda: heard.progress, "it says that it waits")
        assert not results
    finally:
        lock.release()
    waiter.join(PATIENCE_S)
    assert [item.reused for item in results] == [True]
    assert isinstance(results[0], Built)
    assert heard.progress == [Progress(WAITING, 0, None), Progress(WAITING, 1, 1)]
    assert not folders_left(store)


def test_a_store_that_can_only_be_read_serves_what_it_has(tmp_path: Path) -> None:
    """A team's shared folder. Asked by a process that may not write, as root always may."""
    folder = Path(tempfile.mkdtemp())
    try:
        store, model, other = EngineStore(folder), small(tmp_path / "m.onnx"), small(tmp_path / "o.onnx", seed=1)
        built = build(model, None, "onnxruntime", store=store)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        assert answer_of_a_stranger(lambda: build(model, None, "onnxruntime", store=EngineStore(folder))) == str(
            replace(built, reused=True)
        )
        refused = answer_of_a_stranger(lambda: build(other, None, "onnxruntime", store=EngineStore(folder)))
        assert "cannot be written, and no engine of o is stored yet; set WORKBENCH_HOME" in refused
        anew = answer_of_a_stranger(lambda: build(model, None, "onnxruntime", store=EngineStore(folder), reuse=False))
        assert "cannot be written, and nothing can be built anew" in anew
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
        shutil.rmtree(folder)


def answer_of_a_stranger(ask: Callable[[], object]) -> str:
    """What this prints, or its error, in a process of a user without rights."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            text = str(ask())
        except BaseException as error:
            text = str(error)
        os.write(sink, text.encode())
        os._exit(0)
    os.close(sink)
    os.waitpid(child, 0)
    with os.fdopen(source, "rb") as pipe:
        return pipe.read().decode()


def test_asking_for_support_needs_no_store(home: Path, model: Model) -> None:
    assert check_support(model, "onnxruntime").supported
    assert not home.exists()


def test_weights_that_are_gone_since_the_model_was_loaded_are_missed(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 4] x) => (float[1, 4] y) { y = MatMul (x, w) }'
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"))
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    model = load_model(tmp_path / "m.onnx")
    (tmp_path / "m.data").unlink()
    with pytest.raises(ModelError, match=r"m\.data: weights of m are gone"):
        build(model, None, "onnxruntime")


# ---- a build process that waits for more work


@pytest.fixture
def slow_to_start(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """ONNX Runtime, as if its build process took long to start."""
    monkeypatch.setattr(onnxruntime, "STARTS_SLOWLY", True)
    monkeypatch.setattr(build_process, "_waiting", {})
    yield
    build_process.dismiss_waiting()
    assert not children()


def test_the_next_build_goes_to_the_process_that_waits(slow_to_start: None, model: Model, store: EngineStore) -> None:
    build(model, BuildConfig(), "onnxruntime", store=store)
    first = children()
    assert len(first) == 1
    assert not build(model, BuildConfig("fp16"), "onnxruntime", store=store).reused
    assert children() == first


def test_several_builds_at_once_have_a_process_each(slow_to_start: None, model: Model, store: EngineStore) -> None:
    configs = [BuildConfig(), BuildConfig("fp16"), BuildConfig("fp16", keep_io_types=False)]
    threads = [
        threading.Thread(target=build, args=(model, item, "onnxruntime"), kwargs={"store": store}) for item in configs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.engines()) == 3 and len(children()) == 1, "one is enough to wait"


def test_a_process_that_waits_is_dismissed_after_a_while(
    slow_to_start: None, model: Model, store: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_process, "_IDLE_S", 0.5)
    build(model, BuildConfig(), "onnxruntime", store=store)
    wait_until(lambda: not children(), "it is dismissed")
    assert not build_process._waiting


def test_a_process_that_is_taken_again_is_not_dismissed_for_its_first_wait(
    slow_to_start: None, model: Model, store: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_process, "_IDLE_S", 10 * PATIENCE_S)
    build(model, BuildConfig(), "onnxruntime", store=store)
    first, process = build_process._waiting["onnxruntime"].timer, children()
    build(model, BuildConfig("fp16"), "onnxruntime", store=store)
    first.join(PATIENCE_S)
    assert not first.is_alive() and children() == process


def test_a_process_of_another_environment_is_not_taken(
    slow_to_start: None, model: Model, store: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(model, BuildConfig(), "onnxruntime", store=store)
    first = children()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    build(model, BuildConfig("fp16"), "onnxruntime", store=store)
    assert len(children()) == 1 and children() != first


def test_after_a_failure_no_process_waits(slow_to_start: None, tmp_path: Path, store: EngineStore) -> None:
    with pytest.raises(BuildError):
        build(refused(tmp_path / "refused.onnx"), BuildConfig(), "onnxruntime", store=store)
    assert not children()


def test_a_process_that_died_while_it_waited_is_replaced(slow_to_start: None, model: Model, store: EngineStore) -> None:
    build(model, BuildConfig(), "onnxruntime", store=store)
    (child,) = children()
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not children(), "it is dead")
    assert build(model, BuildConfig("fp16"), "onnxruntime", store=store).engine.precision == "fp16"
