"""One trial at a time holds a GPU or the host, whoever started it, and whatever becomes of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers_building import PATIENCE_S
from helpers_tuning import H200, ground

from workbench.errors import Cancelled, StoreError
from workbench.tuning import quiet
from workbench.tuning.ground import Ground
from workbench.tuning.quiet import WAITING, alone_on, lock_folder
from workbench.types import Listener, Progress, ignore

ON_0, ON_1, ELSEWHERE = (ground("host", gpu, H200) for gpu in ("GPU-0", "GPU-1", "GPU/../2"))
CODE = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from helpers_tuning import ground
from workbench.tuning.quiet import alone_on
gpu = sys.argv[3] == "gpu"
with alone_on(ground("host", sys.argv[2]), lambda event: None, threading.Event(), gpu=gpu, host=not gpu):
    print("held", flush=True)
    sys.stdin.read()
"""
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks are not shared there")


@pytest.fixture
def process() -> Iterator[Callable[[str, str], subprocess.Popen[str]]]:
    """Another process that holds what a trial on this GPU, or on the processor, needs; until its input is closed."""
    started = []

    def start(gpu: str, what: str) -> subprocess.Popen[str]:
        found = subprocess.Popen(
            [sys.executable, "-c", CODE, str(Path(__file__).parent), gpu, what],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(found)
        assert found.stdout is not None
        assert found.stdout.readline() == "held\n"
        return found

    yield start
    for found in started:
        with found:
            found.kill()


def is_free(on: Ground, uses_gpu: bool) -> bool:
    """Whether a trial could begin at once; it stops waiting when it would have to."""
    cancel = threading.Event()
    with (
        contextlib.suppress(Cancelled),
        alone_on(on, lambda event: cancel.set(), cancel, gpu=uses_gpu, host=not uses_gpu),
    ):
        return not cancel.is_set()
    return False


def on_a_gpu(
    listener: Listener = ignore, cancel: threading.Event | None = None
) -> contextlib.AbstractContextManager[None]:
    return alone_on(ON_0, listener, cancel or threading.Event(), gpu=True, host=False)


def test_without_others_a_trial_begins_at_once() -> None:
    assert is_free(ON_0, True)
    assert is_free(ON_0, False)
    assert is_free(ON_0, True)


def test_what_other_processes_hold_keeps_trials_out(process: Callable[[str, str], subprocess.Popen[str]]) -> None:
    process("GPU-0", "gpu")
    assert not is_free(ON_0, True), "two trials on one GPU"
    assert is_free(ON_1, True), "GPUs of one host work side by side"
    assert not is_free(ON_0, False), "a trial on the processor has the host to itself"


def test_one_on_the_processor_keeps_everybody_out(process: Callable[[str, str], subprocess.Popen[str]]) -> None:
    process("", "processor")
    assert not is_free(ON_0, True)
    assert not is_free(ground("host"), False)


def test_who_needs_a_gpu_and_the_whole_host_waits_for_either(
    process: Callable[[str, str], subprocess.Popen[str]],
) -> None:
    """As finalists do, some of which run on the processor."""
    with alone_on(ON_0, ignore, threading.Event(), gpu=True, host=True):
        assert not is_free(ON_0, True)
        assert not is_free(ON_1, True), "it has the host to itself"
    process("GPU-1", "gpu")
    cancel = threading.Event()
    with pytest.raises(Cancelled), alone_on(ON_0, lambda _: cancel.set(), cancel, gpu=True, host=True):
        pass


def test_a_killed_process_holds_nothing(process: Callable[[str, str], subprocess.Popen[str]]) -> None:
    holder = process("GPU-0", "gpu")
    assert not is_free(ON_0, False)
    holder.kill()
    holder.wait(PATIENCE_S)
    assert is_free(ON_0, True)
    assert is_free(ON_0, False)


def test_a_trial_that_raises_holds_nothing() -> None:
    with pytest.raises(ZeroDivisionError), on_a_gpu(lambda event: None):
        raise ZeroDivisionError
    assert is_free(ON_0, True)


def test_who_waits_is_told_so_and_goes_on_when_the_other_ends(
    process: Callable[[str, str], subprocess.Popen[str]],
) -> None:
    holder, told = process("GPU-0", "gpu"), list[Progress]()

    def hear(event: object) -> None:
        if isinstance(event, Progress):
            told.append(event)
            assert holder.stdin is not None
            holder.stdin.close()

    with on_a_gpu(hear):
        assert [event.phase for event in told] == [WAITING, WAITING]
        assert (told[0].done, told[1].done) == (0, 1)


def test_a_wait_is_told_again_and_again(
    process: Callable[[str, str], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or whoever listens takes it for a hang."""
    monkeypatch.setattr(quiet, "TELL_EVERY_S", 0.0)
    holder, told, cancel = process("GPU-0", "gpu"), list[object](), threading.Event()
    late = threading.Timer(PATIENCE_S, cancel.set)
    late.start()

    def hear(event: object) -> None:
        told.append(event)
        if told.count(Progress(WAITING, 0, None)) == 3:
            holder.kill()

    with contextlib.closing(SimpleNamespace(close=late.cancel)), on_a_gpu(hear, cancel):
        assert told.count(Progress(WAITING, 0, None)) >= 3
        assert told[-1] == Progress(WAITING, 1, 1)


def test_waiting_can_be_cancelled(process: Callable[[str, str], subprocess.Popen[str]]) -> None:
    process("GPU-0", "gpu")
    cancel = threading.Event()
    with pytest.raises(Cancelled, match="nothing was measured"), on_a_gpu(lambda _: cancel.set(), cancel):
        pass
    assert is_free(ON_1, True), "nothing is held by one that was cancelled"


def test_who_waits_for_the_host_is_next(process: Callable[[str, str], subprocess.Popen[str]]) -> None:
    """Trials on GPUs that come later would share the host with one that is there, and wait all the same."""
    holder = process("GPU-0", "gpu")
    waits, has, may_end = threading.Event(), threading.Event(), threading.Event()

    def on_the_processor() -> None:
        with alone_on(ground("host"), lambda event: waits.set(), threading.Event(), gpu=False, host=True):
            has.set()
            may_end.wait(PATIENCE_S)

    thread = threading.Thread(target=on_the_processor)
    thread.start()
    assert waits.wait(PATIENCE_S)
    assert not is_free(ON_1, True)
    holder.kill()
    assert has.wait(PATIENCE_S)
    may_end.set()
    thread.join(PATIENCE_S)
    assert is_free(ON_1, True)


def test_names_of_gpus_stay_in_the_folder_of_locks() -> None:
    assert is_free(ELSEWHERE, True)
    assert {path.parent for path in lock_folder().rglob("*.lock")} == {lock_folder()}


# ---- where locks lie


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the folder that all users of this machine share."""
    monkeypatch.delenv("WORKBENCH_LOCKS")
    monkeypatch.setattr(quiet, "SHARED", tmp_path / "shared")
    return tmp_path / "shared"


def test_locks_lie_in_one_folder_for_all_users_and_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of a cluster have a TMPDIR of their own."""
    monkeypatch.setenv("TMPDIR", "/nowhere")
    assert Path("/tmp/tensorrt-workbench-locks") == quiet.SHARED


def test_whatever_the_umask_everybody_may_lock(shared: Path) -> None:
    before = os.umask(0o077)
    try:
        assert is_free(ON_0, True)
    finally:
        os.umask(before)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in shared.iterdir()}
    assert modes == dict.fromkeys(("gate.lock", "gpu-GPU-0.lock", "host.lock"), 0o666)


OTHERS = """
import os, sys, threading
sys.path.insert(0, sys.argv[1])
from helpers_tuning import ground
from workbench.tuning.quiet import alone_on
os.setuid(65534)
with alone_on(ground("host", "GPU-0"), lambda event: print("waits"), threading.Event(), gpu=True, host=False):
    print("held")
"""


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can be another user too")
def test_another_user_locks_the_same_files(shared: Path) -> None:
    """Also where Linux refuses to make files that others have made. pytest's folders are closed to others."""
    locks = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        locks.chmod(0o1777)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WORKBENCH_LOCKS", str(locks))
            assert is_free(ON_0, True)
            command = [sys.executable, "-c", OTHERS, str(Path(__file__).parent)]
            assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "held\n"
    finally:
        shutil.rmtree(locks)


@pytest.mark.parametrize("name", ["", "gpu-GPU-0.lock"])
def test_a_link_is_not_followed(shared: Path, tmp_path: Path, name: str) -> None:
    """It may be somebody else's, and lead anywhere."""
    anywhere = tmp_path / "anywhere"
    if name:
        shared.mkdir()
        anywhere.touch()
    else:
        anywhere.mkdir()
    (shared / name).symlink_to(anywhere)
    with pytest.raises(StoreError, match="set WORKBENCH_LOCKS to a folder"):
        is_free(ON_0, True)
    assert name or not list(anywhere.iterdir())


@pytest.mark.parametrize("place", ["/dev/null/locks", "/proc/locks"])
def test_a_folder_that_cannot_be_made_is_one_sentence_with_a_way_out(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_LOCKS", place)
    with pytest.raises(StoreError, match=rf"^{place}: locks cannot be kept here \(.+\); set WORKBENCH_LOCKS .+\.$"):
        is_free(ON_0, True)


def test_a_lock_that_cannot_be_opened_is_one_sentence_too(shared: Path) -> None:
    (shared / "gate.lock").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"gate.lock: this lock cannot be used \(.+\); set WORKBENCH_LOCKS"):
        is_free(ON_0, True)


@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="a way to open a file that can be locked by nobody")
def test_a_disk_without_locks_is_one_sentence_too(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_PATH)
    with pytest.raises(StoreError, match=r"host.lock: this lock cannot be used \(.+\); set WORKBENCH_LOCKS"):
        quiet._taken(descriptor, Path("host.lock"), False)
    os.close(descriptor)
