"""Progress where TensorRT tells it in its log only, with the log of a real build by TensorRT 8.6.0 on an H200."""

import lzma
from pathlib import Path

from workbench.backends.nvidia_log import ENGINE, OPTIMIZING, PROFILES, TIMING, LogPhases
from workbench.types import LogLine, Progress

LOG = Path(__file__).parents[2] / "data" / "recorded" / "tensorrt-8.6.0-h200" / "resnet18_fp32.build.log.xz"


def events(lines: list[str]) -> list[Progress | LogLine]:
    heard: list[Progress | LogLine] = []
    phases = LogPhases(heard.append)
    for line in lines:
        phases(LogLine("verbose", line))
    return heard


def recorded() -> list[str]:
    with lzma.open(LOG, "rt") as file:
        return [line.rstrip("\n").partition("] ")[2] for line in file]


def test_a_recorded_build_shows_its_phases_in_order_and_each_ends() -> None:
    heard = [event for event in events(recorded()) if isinstance(event, Progress)]
    assert list(dict.fromkeys(event.phase for event in heard)) == [OPTIMIZING, TIMING, PROFILES, ENGINE]
    last = {event.phase: event for event in heard}
    assert all(event.finished for event in last.values())
    assert heard[-1] == Progress(PROFILES, 1, 1)


def test_layers_are_counted_as_they_are_timed_and_no_total_is_invented() -> None:
    timed = [event for event in events(recorded()) if isinstance(event, Progress) and event.phase == TIMING]
    assert [event.done for event in timed] == [*range(41), 40]
    assert [event.total for event in timed] == [None] * 41 + [40]


def test_every_line_is_passed_on() -> None:
    lines = recorded()
    assert [event.text for event in events(lines) if isinstance(event, LogLine)] == lines


def test_profiles_are_counted_of_those_there_are() -> None:
    told = events([f"Constructing optimization profile number {index} [{index + 1}/3]." for index in range(3)])
    assert [event for event in told if isinstance(event, Progress)] == [
        Progress(PROFILES, index, 3) for index in range(3)
    ]
