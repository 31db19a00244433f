"""Environments for converters: asked for, made whole or not at all, looked over, removed. pip finds a local wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from workbench.errors import Cancelled, ConfigError, ExportError
from workbench.export import environments, installing
from workbench.export.environments import ENVIRONMENTS, Environment, Made
from workbench.export.installing import PipLines, read_record
from workbench.export.interpreters import Interpreter, find_interpreter, probe, python_in
from workbench.types import LogLine, Progress, ignore

HERE = (sys.version_info[0], sys.version_info[1])
TINY = Environment(
    name="tiny",
    title="Tiny",
    requirements=("tinypackage==1.0",),
    modules=("tinypackage",),
    releases=(HERE,),
    download_bytes=1_000_000,
    installed_bytes=20_000_000,
)


def write_wheel(folder: Path, version: str) -> None:
    info = f"tinypackage-{version}.dist-info"
    with zipfile.ZipFile(folder / f"tinypackage-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tinypackage.py", f"version = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tinypackage\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"tinypackage.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    write_wheel(folder, "1.0")
    write_wheel(folder, "2.0")
    return folder


@pytest.fixture(autouse=True)
def pip_finds_wheels(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user would configure pip; nothing comes from the network."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))


@pytest.fixture(scope="session")
def made_once(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Progress | LogLine]]:
    """The folder of a finished environment, and what was told while it was made."""
    home, events = tmp_path_factory.mktemp("once"), list[Progress | LogLine]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(home))
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(wheels))
        made = environments.make(TINY, listener=events.append)
    return made.folder, events


@pytest.fixture
def made(made_once: tuple[Path, list[Progress | LogLine]], home: Path) -> Made:
    """A copy of the finished environment in this test's folder."""
    folder = home / "environments" / "tiny"
    shutil.copytree(made_once[0], folder, symlinks=True)
    found = environments.status(TINY)
    assert found is not None
    return found


def left(home: Path) -> list[str]:
    """What lies in the folder of environments, locks apart."""
    return sorted(path.name for path in (home / "environments").iterdir() if path.suffix != ".lock")


def site(made: Made) -> Path:
    return next((made.folder / "lib").glob("python*")) / "site-packages"


# ---- asking


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=list(ENVIRONMENTS))
def test_without_a_yes_the_error_says_what_where_how_large_and_how_to_say_yes(
    environment: Environment, home: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        environments.ensure(environment, yes=False, listener=ignore, cancel=threading.Event())
    text = str(caught.value)
    assert environment.title in text and environment.requirements[0] in text
    assert f"{environment.installed_bytes / 1e6:,.0f} MB on disk" in text
    assert str(home / "environments" / environment.name) in text
    for way in ("make_environment=True", "`workbench export --yes`", "button in the widget"):
        assert way in text
    assert left(home) == []


def test_what_is_not_made_has_no_status(home: Path) -> None:
    assert environments.status(TINY) is None


def test_no_environment_names_a_host_or_leaves_its_converter_unpinned() -> None:
    for environment in ENVIRONMENTS.values():
        assert not any("://" in text or text.startswith("-") for text in environment.requirements)
        assert all("==" in text for text in environment.requirements[:2])


# ---- making


def test_a_made_environment_runs_and_says_what_is_in_it(made: Made) -> None:
    told = subprocess.run(
        [str(made.python), "-I", "-c", "import tinypackage; print(tinypackage.version)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "1.0\n"
    assert any(text.startswith("tinypackage==1.0") for text in read_record(made.folder)["installed"])
    assert made.release == HERE
    assert made.size_bytes > 1_000_000


def test_making_tells_its_phases_under_one_title(made_once: tuple[Path, list[Progress | LogLine]]) -> None:
    events = made_once[1]
    phases = [event for event in events if isinstance(event, Progress)]
    title = "Making the Tiny environment"
    begun = [phase.phase for phase in phases if phase.done == 0]
    assert begun[0] == title
    assert begun[1:] == [
        "Creating a virtual environment",
        "Starting pip",
        "Processing tinypackage-1.0-py3-none-any.whl",
        "Installing 1 package",
        "Trying it",
        "Noting what was installed",
    ]
    assert all(phase.parent == title for phase in phases if phase.phase != title)
    assert {phase.phase for phase in phases if phase.finished} == set(begun)
    assert all(phase.total in (None, 1) for phase in phases)  # pip tells no share, so none is shown
    assert any("Successfully installed tinypackage-1.0" in event.text for event in events if isinstance(event, LogLine))


def test_pip_lines_become_phases() -> None:
    lines = PipLines()
    said = b"""Looking in links: /wheels
Collecting paddlepaddle==2.6.2 (from -r requirements.txt (line 1))
  Downloading paddlepaddle-2.6.2-cp311-cp311-manylinux1_x86_64.whl (126.0 MB)
  Using cached numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.whl (16.9 MB)
Installing collected packages: numpy, paddlepaddle
Successfully installed numpy-2.4.6 paddlepaddle-2.6.2"""
    events = [event for line in said.splitlines() for event in lines(line)]
    phases = [event.phase for event in events if isinstance(event, Progress) and not event.finished]
    assert phases == [
        "Collecting paddlepaddle==2.6.2",
        "Downloading paddlepaddle-2.6.2-cp311-cp311-manylinux1_x86_64.whl (126.0 MB)",
        "Using cached numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.whl (16.9 MB)",
        "Installing 2 packages",
    ]
    assert [event.phase for event in events if isinstance(event, Progress) and event.finished] == phases


def test_nothing_else_is_left_beside_a_made_environment(made_once: tuple[Path, list[Progress | LogLine]]) -> None:
    assert [path.name for path in made_once[0].parent.iterdir() if path.suffix != ".lock"] == ["tiny"]
    assert not (made_once[0] / "tmp").exists()


def test_a_made_environment_is_used_without_another_yes(made: Made) -> None:
    events: list[Progress | LogLine] = []
    found = environments.ensure(TINY, yes=False, listener=events.append, cancel=threading.Event())
    assert found == made and events == []


@pytest.mark.parametrize("moment", ["Creating a virtual environment", "Starting pip"])
def test_cancelling_stops_what_is_under_way_and_leaves_nothing(home: Path, moment: str) -> None:
    cancel, begun = threading.Event(), list[str]()

    def listener(event: Progress | LogLine) -> None:
        if isinstance(event, Progress) and event.done == 0:
            begun.append(event.phase)
            if event.phase == moment:
                cancel.set()

    with pytest.raises(Cancelled):
        environments.make(TINY, listener=listener, cancel=cancel)
    assert begun[-1] == moment, "nothing else was begun"
    assert left(home) == []


def test_what_pip_cannot_find_is_told_and_leaves_nothing(home: Path) -> None:
    with pytest.raises(ExportError, match=r"No matching distribution found for tinypackage==3\.0") as caught:
        environments.make(replace(TINY, requirements=("tinypackage==3.0",)))
    assert str(caught.value).startswith("the Tiny environment could not be made") and "\n" not in str(caught.value)
    assert left(home) == []


def test_an_environment_whose_module_does_not_import_is_not_kept(home: Path) -> None:
    with pytest.raises(ExportError, match="No module named 'absent'"):
        environments.make(replace(TINY, modules=("tinypackage", "absent")))
    assert left(home) == []


def test_a_full_disk_is_noticed_before_anything_is_downloaded(home: Path) -> None:
    with pytest.raises(ExportError, match="are free; free some, or set WORKBENCH_HOME"):
        environments.make(replace(TINY, installed_bytes=10**18))
    assert left(home) == []


def test_two_that_want_it_make_it_once_and_sweep_what_a_maker_that_died_left(home: Path) -> None:
    (home / "environments" / ".tiny-1-dead").mkdir(parents=True)
    events: list[list[str]] = [[], []]
    results: list[Made] = []

    def want(index: int) -> None:
        def listener(event: Progress | LogLine) -> None:
            if isinstance(event, Progress):
                events[index].append(event.phase)

        results.append(environments.make(TINY, listener=listener))

    threads = [threading.Thread(target=want, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2 and results[0] == results[1]
    assert sorted("Starting pip" in phases for phases in events) == [False, True]
    waiting = "Making the Tiny environment: waiting for another process that does"
    assert sorted(waiting in phases for phases in events) == [False, True]
    assert left(home) == ["tiny"]


# ---- looking over


def spoil_python(made: Made) -> None:
    made.python.unlink()


def spoil_package(made: Made) -> None:
    shutil.rmtree(next(site(made).glob("tinypackage-*.dist-info")))


def spoil_module(made: Made) -> None:
    (site(made) / "tinypackage.py").unlink()


def spoil_version(made: Made) -> None:
    metadata = next(site(made).glob("tinypackage-*.dist-info")) / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "2.0"))


def spoil_record(made: Made) -> None:
    (made.folder / "environment.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_python, "No such file"),
        (spoil_package, "tinypackage is missing"),
        (spoil_module, "the module tinypackage is missing"),
        (spoil_version, r"it holds tinypackage 2\.0, not 1\.0"),
        (spoil_record, "damaged"),
    ],
)
def test_a_broken_environment_is_reported_and_left_as_it_is_without_a_yes(
    made: Made, home: Path, spoil: Callable[[Made], None], reason: str
) -> None:
    spoil(made)
    with pytest.raises(ExportError, match=f"is broken: .*{reason}"):
        environments.status(TINY)
    words = f"which is broken: .*{reason}.*; say yes to make it again.*make_environment=True.*--yes.*button"
    with pytest.raises(ConfigError, match=words):
        environments.ensure(TINY, yes=False, listener=ignore, cancel=threading.Event())
    assert environments.why_make(TINY).startswith("is broken: ")
    assert left(home) == ["tiny"]


def hang(made: Made) -> None:
    made.python.unlink()
    made.python.write_text("#!/bin/sh\nexec sleep 600\n")
    made.python.chmod(0o755)


def be_killed(made: Made) -> None:
    made.python.unlink()
    made.python.write_text("#!/bin/sh\nkill -9 $$\n")
    made.python.chmod(0o755)


def be_foreign(made: Made) -> None:
    """As on a shared disk that another kind of machine has mounted."""
    made.python.unlink()
    made.python.write_bytes(b"\x7fELF" + bytes(60))
    made.python.chmod(0o755)


@pytest.mark.parametrize(("spoil", "said"), [(hang, "timed out"), (be_killed, "SIGKILL"), (be_foreign, "format error")])
@pytest.mark.parametrize("yes", [False, True])
def test_what_cannot_be_told_is_no_reason_to_take_an_environment_away(
    made: Made, home: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Made], None], said: str, yes: bool
) -> None:
    if spoil is hang:
        monkeypatch.setattr(installing, "_PATIENCE_S", 0.5)
    spoil(made)
    with pytest.raises(ExportError, match=rf"cannot be told \(.*{said}.*\); try again, or .*--remove tiny"):
        environments.ensure(TINY, yes=yes, listener=ignore, cancel=threading.Event())
    assert left(home) == ["tiny"] and (made.folder / "environment.json").exists()


def test_a_broken_environment_stays_while_another_process_holds_the_lock(made: Made, home: Path) -> None:
    """And when that process has mended it, it is used."""
    metadata = next(site(made).glob("tinypackage-*.dist-info")) / "METADATA"
    whole, seen = metadata.read_text(), list[list[str]]()
    spoil_version(made)

    def listener(event: Progress | LogLine) -> None:
        if isinstance(event, Progress) and "waiting for another process" in event.phase and not event.finished:
            seen.append(left(home))
            metadata.write_text(whole)
            lock.release()

    lock = environments._lock(TINY)
    lock.acquire()
    assert environments.ensure(TINY, yes=True, listener=listener, cancel=threading.Event()) == made
    assert seen == [["tiny"]]


def test_with_a_yes_a_broken_environment_is_made_anew(made: Made, home: Path) -> None:
    spoil_package(made)
    events: list[Progress | LogLine] = []
    again = environments.ensure(TINY, yes=True, listener=events.append, cancel=threading.Event())
    assert again.python.exists() and environments.status(TINY) == again
    assert any(
        isinstance(event, LogLine) and event.severity == "warning" and "broken" in event.text for event in events
    )
    assert left(home) == ["tiny"]


def test_an_environment_of_an_older_workbench_is_not_taken(made: Made) -> None:
    with pytest.raises(ExportError, match=r"it holds tinypackage 1\.0, not 2\.0"):
        environments.status(replace(TINY, requirements=("tinypackage==2.0",)))


def test_a_removed_environment_is_gone_and_says_what_it_freed(made: Made, home: Path) -> None:
    assert environments.remove(TINY) > 1_000_000
    assert left(home) == [] and environments.status(TINY) is None
    assert environments.remove(TINY) == 0


# ---- Python


def test_the_own_python_comes_first_and_is_not_that_of_a_virtual_environment() -> None:
    found = find_interpreter((HERE,))
    assert found is not None and found.release == HERE
    told = subprocess.run(
        [str(found.path), "-I", "-c", "import sys; print(sys.prefix == sys.base_prefix)"],
        capture_output=True,
        text=True,
    )
    assert told.stdout == "True\n"


def test_another_python_is_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = probe(Path(sys.executable))
    assert own is not None
    other = tmp_path / f"python{HERE[0]}.{HERE[1]}"
    other.write_text(f'#!/bin/sh\nexec "{own.path}" "$@"\n')
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = find_interpreter((HERE,), here=Interpreter(Path("/elsewhere"), (3, 1)))
    assert found is not None and found.release == HERE


def test_a_python_that_does_not_start_is_passed_over(tmp_path: Path) -> None:
    stub = tmp_path / "python3.12"
    stub.write_text("#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n")
    stub.chmod(0o755)
    assert probe(stub) is None
    assert probe(tmp_path / "absent") is None


def test_without_a_python_that_suits_the_error_says_what_to_install(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs Python 3\.99 with venv.*apt-get install python3\.99-venv"):
        environments.make(replace(TINY, releases=((3, 99),)))
    assert not (home / "environments").exists()


def test_the_record_can_be_read_by_people(made: Made) -> None:
    record = json.loads((made.folder / "environment.json").read_text())
    assert record["requirements"] == list(TINY.requirements)
    assert python_in(made.folder).is_file()
