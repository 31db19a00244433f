"""A history that is damaged, of a later workbench, not to be written, or held by others."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers_building import PATIENCE_S, start_python
from helpers_runs import as_a_stranger, filled, timed

from workbench.errors import StoreError, UnknownRun
from workbench.runs import Filter, History, Run
from workbench.runs.database import Database
from workbench.runs.rows import TABLES, VERSION
from workbench.types import LogLine, Progress

PAGE = 4096
WRITES_AND_DIES = """
import os, sqlite3, sys
from workbench.runs import History
from helpers_runs import timed
history = History(sys.argv[1])
keeper = sqlite3.connect(history.path)  # its log stays, as nobody is the last to close it
keeper.execute("SELECT count(*) FROM runs").fetchone()
run = timed(7.0, note="in the log")
history.add(run)
print(run.id, flush=True)
os._exit(9)
"""


class Listening:
    """What a History is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, event: Progress | LogLine) -> None:
        assert isinstance(event, LogLine) and event.severity == "warning"
        self.texts.append(event.text)


def set_aside(history: History) -> list[Path]:
    return sorted(history.path.parent.glob("runs-damaged-*.sqlite"))


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def leave_a_log(folder: Path) -> str:
    """A writer is killed whose run is in the write-ahead log only; returns the run's id."""
    process = start_python(WRITES_AND_DIES, folder)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 9, err
    assert (folder / "runs.sqlite-wal").stat().st_size
    return out.strip()


def replace_in(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) == 1 and len(old) == len(new)
    path.write_bytes(content.replace(old, new))


# ---- damage

DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: os.truncate(path, 0),
    "cut off within its header": lambda path: os.truncate(path, 60),
    "cut off within its tables": lambda path: os.truncate(path, 2 * PAGE),
    "no database": lambda path: path.write_text("id,median_ms\n" * 1000),
    "header overwritten": lambda path: overwrite(path, 0, b"\xff" * 100),
    "all but the header overwritten": lambda path: overwrite(path, 100, b"\xa5" * (path.stat().st_size - 100)),
    "tables overwritten": lambda path: overwrite(path, PAGE, b"\xa5" * (path.stat().st_size - PAGE)),
    "a definition that is no text": lambda path: replace_in(path, b"TABLE setups (number", b"TABLE setups \xf1number"),
    "a definition without numbers": lambda path: replace_in(path, b"setups (number INTEGER", b"setups (number INTEGES"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_history_is_kept_beside_the_new_one_that_begins(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    filled(tmp_path, 200)
    listening = Listening()
    history, run = History(tmp_path, listener=listening), timed(1.0)
    damage(history.path)
    content = history.path.read_bytes()
    history.add(run)
    assert history.list(Filter(limit=None)) == (run,) and history.data(run) == {}
    (kept,) = set_aside(history)
    assert kept.read_bytes() == content
    (text,) = listening.texts
    assert text.startswith(f"{history.path} was damaged (") and f"it is kept as {kept.name}" in text


def test_damage_is_found_by_whoever_reads(tmp_path: Path) -> None:
    filled(tmp_path, 200)
    listening = Listening()
    history = History(tmp_path, listener=listening)
    DAMAGES["tables overwritten"](history.path)
    assert history.list() == () and len(listening.texts) == 1 == len(set_aside(history))
    assert not history.path.exists()
    history.add(timed(1.0))
    assert len(history.list()) == 1


def test_python_warns_where_nobody_listens(tmp_path: Path) -> None:
    history, _ = filled(tmp_path)
    DAMAGES["empty"](history.path)
    with pytest.warns(UserWarning, match="was damaged .it holds no history.; it is kept as runs-damaged-"):
        history.add(timed(1.0))


def test_another_programs_database_is_set_aside(tmp_path: Path) -> None:
    listening = Listening()
    history = History(tmp_path, listener=listening)
    with sqlite3.connect(history.path) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    connection.close()
    history.add(timed(1.0))
    assert len(set_aside(history)) == 1 and "it holds no history" in listening.texts[0]


def test_text_that_is_none_is_damage(tmp_path: Path) -> None:
    history, _ = filled(tmp_path)
    with sqlite3.connect(history.path) as connection:
        connection.execute("UPDATE runs SET study = CAST(x'ff' AS TEXT) WHERE number = 3")
    connection.close()
    listening = Listening()
    assert History(tmp_path, listener=listening).list() == ()
    assert "Could not decode" in listening.texts[0]


def numbered(number: int) -> Run:
    """The same run each time: by its id it has its place in the file, and with it what damage does to it."""
    return timed(1.0 + number, id=f"{number * 0x9E3779B97F4A % (1 << 48):012x}", at="2026-12-01T12:00:00.000+00:00")


def test_bits_that_flip_are_found_or_do_no_harm(tmp_path: Path) -> None:
    """Whatever the damage: what is added afterwards is there, or a sentence says why not."""
    history = History(tmp_path / "intact")
    history.add_many((numbered(number), {"times_ms": [1.0 + number] * 50}) for number in range(30))
    intact, dice = history.path.read_bytes(), random.Random(7)
    outcomes = {"added": 0, "set aside": 0, "refused": 0}
    for number in range(150):
        history = History(tmp_path / str(number), listener=Listening())
        content = bytearray(intact)
        for _ in range(dice.choice((1, 4, 64))):
            content[dice.randrange(len(content)) if dice.random() < 0.7 else dice.randrange(100)] ^= (
                1 << dice.randrange(8)
            )
        history.path.write_bytes(content)
        run = numbered(1000 + number)
        try:
            history.add(run, {"mine": number})
            found = history.list(Filter(limit=None))
            data = history.data(run)
        except UnknownRun:  # the damage came to light after the run was written: the file set aside keeps it
            assert set_aside(history)
        except StoreError as error:
            outcomes["refused"] += 1
            assert str(history.path) in str(error) or f"the data of the run {run.id} are" in str(error)
            continue
        else:
            assert run in found and data == {"mine": number}
        outcomes["set aside" if set_aside(history) else "added"] += 1
    assert min(outcomes.values()) > 0, outcomes


def test_many_that_find_the_damage_at_once_set_it_aside_once_and_lose_nothing(tmp_path: Path) -> None:
    filled(tmp_path, 200)
    DAMAGES["tables overwritten"](tmp_path / "runs.sqlite")
    listening, errors, start = Listening(), list[BaseException](), threading.Barrier(8)
    runs = [[timed(1.0 + number) for number in range(5)] for _ in range(8)]

    def work(number: int) -> None:
        history = History(tmp_path, listener=listening)
        start.wait(PATIENCE_S)
        try:
            for run in runs[number]:
                history.add(run)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not errors
    history = History(tmp_path)
    assert {run.id for run in history.list(Filter(limit=None))} == {run.id for some in runs for run in some}
    assert len(set_aside(history)) == 1 == len(listening.texts)


def test_the_log_goes_with_the_database_that_it_belongs_to(tmp_path: Path) -> None:
    filled(tmp_path)
    written = leave_a_log(tmp_path)
    run, history = timed(1.0), History(tmp_path, listener=Listening())
    overwrite(history.path, 0, b"\xff" * 100)
    history.add(run)
    assert history.list() == (run,)
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("runs-damaged-*"))  # SQLite may have joined them
    assert written.encode() in kept


def test_the_log_of_a_database_that_is_gone_never_gets_into_a_new_one(tmp_path: Path) -> None:
    """Killed after the database was renamed and before its log was."""
    filled(tmp_path)
    leave_a_log(tmp_path)
    (tmp_path / "runs.sqlite").rename(tmp_path / "runs-damaged-now.sqlite")
    (tmp_path / ".runs.sqlite.part").write_bytes(b"half a database")
    history, run = History(tmp_path), timed(1.0)
    history.add(run)
    assert history.list() == (run,)
    assert len(list(tmp_path.glob("runs-damaged-*-wal"))) == 1
    assert not list(tmp_path.glob(".runs*"))


def test_nothing_is_set_aside_while_anybody_uses_it(tmp_path: Path) -> None:
    filled(tmp_path, 200)
    reading, go_on, order = threading.Event(), threading.Event(), list[str]()
    lock = tmp_path / "locks" / "runs.sqlite.lock"
    database = Database(tmp_path / "runs.sqlite", lock, TABLES, VERSION, PATIENCE_S, Listening())

    def read(connection: sqlite3.Connection) -> None:
        connection.execute("SELECT count(*) FROM runs").fetchone()
        reading.set()
        assert go_on.wait(PATIENCE_S)
        order.append("read")

    def write() -> None:
        History(tmp_path, listener=lambda event: order.append("set aside")).add(timed(1.0))

    reader = threading.Thread(target=lambda: database.read(read, None))
    reader.start()
    assert reading.wait(PATIENCE_S)
    DAMAGES["tables overwritten"](tmp_path / "runs.sqlite")
    writer = threading.Thread(target=write)
    writer.start()
    writer.join(0.1)
    assert writer.is_alive() and not order
    go_on.set()
    reader.join(PATIENCE_S)
    writer.join(PATIENCE_S)
    assert order == ["read", "set aside"]


# ---- killed, later, busy, full


def test_what_a_killed_writer_was_told_is_there(tmp_path: Path) -> None:
    history, runs = filled(tmp_path)
    written = leave_a_log(tmp_path)
    assert [run.id for run in history.list()] == [written, *(run.id for run in runs[::-1])]
    assert history.get(written).note == "in the log"


def test_a_history_of_a_later_workbench_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    history, runs = filled(tmp_path)
    with sqlite3.connect(history.path) as connection:
        connection.execute("PRAGMA user_version=2")
    connection.close()
    for ask in (history.list, lambda: history.add(timed(1.0)), lambda: history.get(runs[0].id)):
        with pytest.raises(
            StoreError, match=r"later workbench \(its form is 2, this one knows 1\); update the workbench"
        ):
            ask()
    assert not set_aside(history)
    with sqlite3.connect(history.path) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (len(runs),)
        connection.execute("PRAGMA user_version=1")
    connection.close()
    assert len(history.list()) == len(runs)


def test_readers_do_not_wait_for_a_writer_and_a_writer_says_that_it_waited(tmp_path: Path) -> None:
    _, runs = filled(tmp_path)
    history = History(tmp_path, patience_s=0.1)
    with sqlite3.connect(history.path, isolation_level=None) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM runs")
        assert len(history.list()) == len(runs)
        with pytest.raises(StoreError, match=r"other programs kept the history busy for 0\.1 s; try again"):
            history.add(timed(1.0))
        connection.execute("ROLLBACK")
    connection.close()
    history.add(timed(1.0))
    assert len(history.list()) == len(runs) + 1


def test_a_full_disk_costs_the_run_and_nothing_else(tmp_path: Path) -> None:
    history, runs = filled(tmp_path)
    code = """
import resource, signal, sys
from workbench.runs import History
from helpers_runs import timed
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
History(sys.argv[1]).add(timed(1.0), {"times_ms": [i * 0.1234567 for i in range(40_000)]})
"""
    process = start_python(code, tmp_path)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1 and "StoreError" in err and "runs.sqlite: the " in err
    assert [run.id for run in history.list()] == [run.id for run in runs[::-1]]
    history.add(timed(1.0))
    assert not set_aside(history)


def test_a_folder_in_its_place_is_a_sentence(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.path.mkdir()
    for ask in (history.list, lambda: history.add(timed(1.0))):
        with pytest.raises(StoreError, match="the history cannot be used"):
            ask()


# ---- stores that can only be read


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder whose way everybody may go, unlike pytest's."""
    folder = Path(tempfile.mkdtemp())
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(folder)


def protect(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def test_a_store_that_can_only_be_read_lists_and_refuses_to_write(shared: Path) -> None:
    history, runs = filled(shared)
    history.name_baseline("v1", runs[0].id)
    protect(shared)

    def ask() -> object:
        mine = History(shared)
        return [run.id for run in mine.list()], mine.data(runs[3]), mine.baseline("v1").runs[0].id

    expected = [run.id for run in runs[::-1]], {"times_ms": [runs[3].median_ms] * 50}, runs[0].id
    assert as_a_stranger(ask) == str(expected)
    refused = as_a_stranger(lambda: History(shared).add(timed(1.0)))
    assert refused == f"StoreError: {shared}/runs.sqlite cannot be written; set WORKBENCH_HOME to a folder you own."


def test_what_a_killed_writer_left_in_the_log_is_read_there_too(shared: Path) -> None:
    filled(shared)
    written = leave_a_log(shared)
    protect(shared)
    assert as_a_stranger(lambda: History(shared).list()[0].id) == written


def test_a_store_without_a_history_that_can_only_be_read_is_empty(shared: Path) -> None:
    History(shared)
    (shared / "secret").write_bytes(b"s" * 32)
    protect(shared)
    assert as_a_stranger(lambda: History(shared).list()) == "()"


def test_damage_in_a_store_that_can_only_be_read_is_a_sentence(shared: Path) -> None:
    history, _ = filled(shared)
    overwrite(history.path, 0, b"\xff" * 100)
    protect(shared)
    refused = as_a_stranger(lambda: History(shared).list())
    assert refused.startswith(f"StoreError: {history.path} is damaged (file is not a database)")
    assert not set_aside(history)


def test_intact_histories_warn_of_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history, runs = filled(tmp_path)
        assert len(history.list()) == len(runs)
