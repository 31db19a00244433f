"""run_process: what a child says comes in as events, and whatever it does, it never outlives the call."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from helpers_building import PATIENCE_S, alive, wait_until

from workbench._child import _told
from workbench.build_process import error_in
from workbench.errors import BuildError, Cancelled, RunError, ShapeError, WorkbenchError
from workbench.process import Ended, run_process, text_line
from workbench.types import Listener, LogLine, Progress, ignore

LARGE = {"words": "x" * 1_000_000}
"""More than a pipe holds."""


def python(code: str, listener: Listener = ignore, **options: Any) -> Ended:
    options.setdefault("cancel", threading.Event())
    return run_process([sys.executable, "-S", "-c", f"import json, os, sys, time\n{code}"], listener, **options)


def cancel_when(ready: Path, code: str, **options: Any) -> None:
    """Cancels a child that would go on for ten minutes, once it has made the file `ready`."""
    cancel, ended = threading.Event(), threading.Event()

    def run() -> None:
        with pytest.raises(Cancelled, match="nothing was left behind"):
            python(code, cancel=cancel, **options)
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    wait_until(ready.exists, "the child starts")
    cancel.set()
    assert ended.wait(PATIENCE_S), "it goes on"


def pid_in(path: Path) -> int:
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"), "a process says its number")
    return int(path.read_text())


# ---- what it says


def test_the_request_arrives_and_the_last_answer_counts() -> None:
    ended = python(
        "request = json.loads(sys.stdin.readline())\n"
        "print(json.dumps({'event': 'done', 'sum': 0}))\n"
        "print(json.dumps({'event': 'done', 'sum': sum(request['numbers'])}))",
        request={"numbers": [1, 2, 3]},
    )
    assert ended == Ended({"event": "done", "sum": 6}, [], 0)


def test_steps_and_lines_are_told_in_order_after_the_start() -> None:
    heard: list[Progress | LogLine] = []
    python(
        "for done in (0, 2): print(json.dumps(dict(event='progress', phase='P', done=done, total=2, parent=None)))\n"
        "print(json.dumps(dict(event='log', severity='info', text='one\\ntwo')))",
        heard.append,
        starting="Starting it",
    )
    assert heard == [
        Progress("Starting it", 0, None), Progress("Starting it", 1, 1), Progress("P", 0, 2), Progress("P", 2, 2),
        LogLine("info", "one"), LogLine("info", "two"),
    ]  # fmt: skip


def test_what_is_printed_on_stderr_is_log_and_colours_are_taken_out() -> None:
    heard: list[Progress | LogLine] = []
    ended = python("os.write(2, b'\\x1b[31mred\\x1b[0m\\nbroken \\xff\\n')", heard.append)
    assert [line.text for line in ended.log] == ["red", "broken \N{REPLACEMENT CHARACTER}"]
    assert ended.log == [event for event in heard if isinstance(event, LogLine)]


@pytest.mark.parametrize(
    ("line", "severity", "text"),
    [
        (b"2026-01-01 10:00:00.1 [W:onnxruntime:, graph.cc:12 f] no type", "warning", "no type"),
        (b"2026-01-01 10:00:00.1 [F:onnxruntime:Default, a.cc:1 f] gone", "error", "gone"),
        (b"anything else\n", "warning", "anything else"),
    ],
)
def test_onnx_runtimes_lines_keep_their_severity(line: bytes, severity: str, text: str) -> None:
    assert text_line(line) == [LogLine(severity, text)]


@pytest.mark.parametrize("junk", ["hello", "1", "{}", "[]", '{"event": "progress"}', '{"event": "log", "text": 1}', ""])
def test_what_is_no_event_on_stdout_is_passed_over(junk: str) -> None:
    ended = python(f"print({junk!r}); print(json.dumps({{'event': 'done'}})); print({junk!r})")
    assert ended.answer == {"event": "done"}


def test_a_hundred_thousand_lines_before_the_answer_are_all_heard() -> None:
    ended = python("for i in range(100_000): os.write(2, b'line\\n')\nprint(json.dumps({'event': 'done'}))")
    assert (len(ended.log), ended.answer) == (100_000, {"event": "done"})


def test_folder_and_environment_are_those_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_OURS", "ours")
    names = "'WORKBENCH_OURS', 'WORKBENCH_MORE'"
    ended = python(
        f"print(json.dumps({{'event': 'done', 'folder': os.getcwd(), 'said': [os.environ[n] for n in ({names})]}}))",
        cwd=tmp_path,
        environment={"WORKBENCH_MORE": "more"},
    )
    assert ended.answer == {"event": "done", "folder": str(tmp_path.resolve()), "said": ["ours", "more"]}


@pytest.mark.parametrize("ending", ["", "os.kill(os.getpid(), 9)", "open('%s', 'w').close(); time.sleep(600)"])
def test_what_a_child_leaves_among_temporary_files_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    told, code = tmp_path / "told", "import tempfile; path = tempfile.mkstemp()[1]; os.mkdir(path + '.d')\n"
    code += f"with open({str(told)!r}, 'w') as file: file.write(path)\n"
    if "sleep" in ending:
        cancel_when(tmp_path / "ready", code + ending % (tmp_path / "ready"))
    else:
        python(code + ending)
    assert told.read_text().startswith(str(tmp_path / "temporary"))
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_listener_that_raises_ends_the_child_too(tmp_path: Path) -> None:
    def listener(event: Progress | LogLine) -> None:
        if isinstance(event, LogLine):
            raise RuntimeError("not this one")

    with pytest.raises(RuntimeError, match="not this one"):
        python(f"print(os.getpid(), file=open({str(tmp_path / 'pid')!r}, 'w'))\n"
               "print('x', file=sys.stderr)\ntime.sleep(600)", listener)  # fmt: skip
    assert not alive(pid_in(tmp_path / "pid"))


# ---- children that do not do as they should


def test_a_child_that_never_reads_its_request_is_cancelled_all_the_same(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    cancel_when(ready, f"open({str(ready)!r}, 'w').close(); time.sleep(600)", request=LARGE)


def test_a_child_that_ends_without_reading_its_request_is_told_by_its_status() -> None:
    assert python("sys.exit(3)", request=LARGE).status == 3


def test_a_child_that_talks_before_it_reads_is_heard_and_read() -> None:
    code = (
        "sys.stderr.write('x\\n' * 100_000)\n"
        "print(json.dumps({'event': 'done', 'got': len(json.loads(sys.stdin.readline())['words'])}))"
    )
    assert python(code, request=LARGE).answer == {"event": "done", "got": 1_000_000}


def test_a_child_that_closes_its_streams_and_goes_on_is_waited_for_and_cancelled(tmp_path: Path) -> None:
    assert python("os.close(1); os.close(2); time.sleep(0.3); os._exit(5)").status == 5
    ready = tmp_path / "ready"
    cancel_when(ready, f"os.close(1); os.close(2); open({str(ready)!r}, 'w').close(); time.sleep(600)")


GRANDCHILD = """
import subprocess
code = "import os, sys, time; print(os.getpid(), file=open(sys.argv[1], 'w')); time.sleep(600)"
subprocess.Popen([sys.executable, "-S", "-c", code, {path!r}], start_new_session={apart})
while not os.path.exists({path!r}) or not open({path!r}).read().endswith("\\n"): time.sleep(0.01)
"""


def test_children_of_a_cancelled_child_are_gone_with_it(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    cancel_when(path, GRANDCHILD.format(path=str(path), apart=False) + "time.sleep(600)")
    wait_until(lambda: not alive(pid_in(path)), "it has gone")  # the system takes a moment to bury it


def test_children_of_a_child_that_ended_are_gone_and_its_answer_counts(tmp_path: Path) -> None:
    path, began = tmp_path / "pid", time.monotonic()
    ended = python(GRANDCHILD.format(path=str(path), apart=False) + "print(json.dumps({'event': 'done'}))")
    assert ended.answer == {"event": "done"} and time.monotonic() - began < PATIENCE_S
    wait_until(lambda: not alive(pid_in(path)), "it has gone")  # the system takes a moment to bury it


def test_a_talkative_process_left_behind_does_not_keep_the_call_waiting() -> None:
    code = (
        "if os.fork() == 0:\n"
        "    for _ in range(30_000): os.write(2, b'still here\\n'); time.sleep(0.02)\n"
        "else: print(json.dumps({'event': 'done'}))"
    )
    began = time.monotonic()
    assert python(code).answer == {"event": "done"}
    assert time.monotonic() - began < PATIENCE_S, "it would talk for ten minutes"


def test_somebody_who_left_the_childs_group_is_not_waited_for(tmp_path: Path) -> None:
    path, began = tmp_path / "pid", time.monotonic()
    ended = python(GRANDCHILD.format(path=str(path), apart=True) + "print(json.dumps({'event': 'done'}))")
    assert ended.answer == {"event": "done"} and time.monotonic() - began < PATIENCE_S
    os.kill(pid_in(path), signal.SIGKILL)


# ---- how it ended


@pytest.mark.parametrize(
    ("number", "killed", "stopped_by", "crash"),
    [
        (signal.SIGKILL, True, None, None),
        (signal.SIGTERM, False, "SIGTERM", None),
        (signal.SIGINT, False, "SIGINT", None),
        (signal.SIGSEGV, False, None, "SIGSEGV"),
        (signal.SIGABRT, False, None, "SIGABRT"),
    ],
)
def test_a_death_by_a_signal_is_told_apart(
    number: signal.Signals, killed: bool, stopped_by: str | None, crash: str | None
) -> None:
    ended = python(f"import signal; signal.signal(2, signal.SIG_DFL); os.kill(os.getpid(), {int(number)})")
    assert (ended.killed, ended.stopped_by, ended.crash) == (killed, stopped_by, crash)
    assert (ended.answer, ended.status) == (None, -number)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (-9, "was killed by the system, most likely because memory ran out"),
        (-15, "was stopped (SIGTERM)"),
        (-11, "crashed (SIGSEGV) inside native code"),
        (7, "ended early (exit status 7)"),
    ],
)
def test_how_a_child_ended_is_said_in_words(status: int, words: str) -> None:
    assert Ended(None, [], status).how() == words


@pytest.mark.parametrize(
    ("status", "crash"), [(0, None), (3, None), (0xC0000005, "access violation"), (-200, "signal 200")]
)
def test_a_status_is_a_crash_only_where_native_code_died(status: int, crash: str | None) -> None:
    ended = Ended(None, [], status)
    assert (ended.crash, ended.killed, ended.stopped_by) == (crash, False, None)


def test_the_tail_is_the_last_lines_of_the_loudest_kind() -> None:
    def tail(*lines: tuple[str, str]) -> tuple[str, ...]:
        return Ended(None, [LogLine(*line) for line in lines], 1).tail

    assert tail() == ()
    assert tail(("verbose", "a"), ("verbose", " ")) == ("a",)
    assert tail(("verbose", "a"), ("info", "b")) == ("b",)
    assert tail(("info", "b"), ("warning", "c"), ("error", "d"), ("info", "e")) == ("c", "d")
    assert tail(("error", "--- Begin node ---"), ("error", "why")) == ("why",)
    assert tail(*(("error", str(index)) for index in range(9))) == ("3", "4", "5", "6", "7", "8")
    assert tail(("error", "x" * 1000)) == ("x" * 400,)


@pytest.mark.parametrize(
    "error",
    [RunError("sizes differ", node="conv1"), BuildError("refused", node="n", remedy="Try fp32."), ShapeError("no")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_crosses_from_the_child_with_all_its_parts(error: WorkbenchError) -> None:
    back = error_in(json.loads(json.dumps(_told(error))), ())
    assert (type(back), str(back), vars(back)) == (type(error), str(error), vars(error))
