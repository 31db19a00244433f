"""One trial at a time holds a GPU or the host, whoever started it, and whatever becomes of it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers_building import PATIENCE_S
from helpers_tuning import H200, ground

from workbench.errors import Cancelled
from workbench.tuning.ground import Ground
from workbench.tuning.quiet import WAITING, alone_on, lock_folder
from workbench.types import Progress

ON_0, ON_1, ELSEWHERE = (ground("host", gpu, H200) for gpu in ("GPU-0", "GPU-1", "GPU/../2"))
CODE = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from helpers_tuning import ground
from workbench.tuning.quiet import alone_on
with alone_on(ground("host", sys.argv[2]), sys.argv[3] == "gpu", lambda event: None, threading.Event()):
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
    with contextlib.suppress(Cancelled), alone_on(on, uses_gpu, lambda event: cancel.set(), cancel):
        return not cancel.is_set()
    return False


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


def test_a_killed_process_holds_nothing(process: Callable[[str, str], subprocess.Popen[str]]) -> None:
    holder = process("GPU-0", "gpu")
    assert not is_free(ON_0, False)
    holder.kill()
    holder.wait(PATIENCE_S)
    assert is_free(ON_0, True)
    assert is_free(ON_0, False)


def test_a_trial_that_raises_holds_nothing() -> None:
    with pytest.raises(ZeroDivisionError), alone_on(ON_0, True, lambda event: None, threading.Event()):
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

    with alone_on(ON_0, True, hear, threading.Event()):
        assert [event.phase for event in told] == [WAITING, WAITING]
        assert (told[0].done, told[1].done) == (0, 1)


def test_waiting_can_be_cancelled(process: Callable[[str, str], subprocess.Popen[str]]) -> None:
    process("GPU-0", "gpu")
    cancel = threading.Event()
    with pytest.raises(Cancelled, match="nothing was measured"), alone_on(ON_0, True, lambda _: cancel.set(), cancel):
        pass
    assert is_free(ON_1, True), "nothing is held by one that was cancelled"


def test_who_waits_for_the_host_is_next(process: Callable[[str, str], subprocess.Popen[str]]) -> None:
    """Trials on GPUs that come later would share the host with one that is there, and wait all the same."""
    holder = process("GPU-0", "gpu")
    waits, has, may_end = threading.Event(), threading.Event(), threading.Event()

    def on_the_processor() -> None:
        with alone_on(ground("host"), False, lambda event: waits.set(), threading.Event()):
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
