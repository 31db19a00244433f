"""What the machine did meanwhile: throttling, other programs and clocks are told as they were read."""

import json
import time
from dataclasses import replace

import pytest
from helpers_clock import FEEDS, FakeClock, noisy, probe

from workbench.conditions import (
    GPU_THROTTLING,
    Reading,
    Spread,
    Watch,
    conditions_from_json,
    conditions_of,
    machine_setting,
    read_machine,
)
from workbench.timing import Timing, measure

QUIET = Reading(at_s=0.0, busy_s=100.0, own_s=50.0, cpu_mhz=3000.0, held_back_s=1.0, heat_events=7, gpu_reasons=0)


def test_a_quiet_machine_warns_of_nothing() -> None:
    found = conditions_of([QUIET, replace(QUIET, at_s=2.0, busy_s=102.0, own_s=52.0)], {})
    assert found.warnings == () and found.seconds == 2.0 and found.other_load == 0.0


@pytest.mark.parametrize(("bit", "reason"), GPU_THROTTLING.items())
def test_every_reason_for_a_slower_gpu_is_told_with_how_often_it_was_seen(bit: int, reason: str) -> None:
    found = conditions_of([QUIET, replace(QUIET, at_s=1.0, gpu_reasons=bit), replace(QUIET, at_s=2.0)], {})
    assert found.warnings == (f"The GPU was slowed by {reason} in 1 of 3 readings.",)


@pytest.mark.parametrize("idle", [0x1, 0x2, 0x10])
def test_an_idle_gpu_and_clocks_that_were_set_are_no_throttling(idle: int) -> None:
    assert conditions_of([QUIET, replace(QUIET, at_s=1.0, gpu_reasons=idle)], {}).throttling == ()


def test_a_containers_quota_and_heat_are_throttling() -> None:
    found = conditions_of([QUIET, replace(QUIET, at_s=1.0, held_back_s=1.25, heat_events=9)], {})
    assert found.throttling == (
        "The container's processor quota stopped its programs for 0.25 s.",
        "Heat slowed a processor core 2 times.",
    )


def test_other_programs_are_what_is_busy_beyond_this_one() -> None:
    found = conditions_of([QUIET, replace(QUIET, at_s=10.0, busy_s=130.0, own_s=65.0)], {})
    assert found.other_load == pytest.approx(1.5)
    assert found.warnings == ("Other programs kept 1.5 processors busy meanwhile.",)


def test_other_programs_on_the_gpu_are_told() -> None:
    found = conditions_of([QUIET, replace(QUIET, at_s=1.0, gpu_others=2)], {})
    assert found.warnings == ("2 other programs were on the GPU.",)


def test_clocks_are_told_from_the_lowest_to_the_highest() -> None:
    found = conditions_of(
        [replace(QUIET, at_s=index, gpu_sm_mhz=mhz) for index, mhz in enumerate((345, 1980, 1755))], {"driver": "580"}
    )
    assert found.gpu_sm_mhz == Spread(345, 1755, 1980)
    assert str(found) == "processor 3,000 MHz; SM 345 to 1,980 MHz; driver 580"


def test_what_nobody_tells_stays_open() -> None:
    found = conditions_of([Reading(0.0), Reading(1.0)], {})
    assert (found.other_load, found.cpu_mhz, found.gpu_sm_mhz, found.warnings) == (None, None, None, ())


def test_conditions_survive_json() -> None:
    found = conditions_of([QUIET, replace(QUIET, at_s=3.0, gpu_sm_mhz=1980, gpu_reasons=4)], {"governor": "powersave"})
    assert conditions_from_json(json.loads(json.dumps(found.to_json()))) == found


def test_this_machine_tells_its_processors_work() -> None:
    watch, begun_s = Watch(), time.process_time()
    while time.process_time() - begun_s < 0.3 or len(watch.readings) < 3:
        sum(range(10_000))
        watch.look()
    found = watch.conditions()
    assert found.readings >= 3 and found.other_load is not None and machine_setting()["processors"]
    own = (watch.readings[-1].own_s or 0) - (watch.readings[0].own_s or 0)
    assert own > 0.1, "this program was busy, and that is its own work"


def test_a_reading_is_of_this_moment() -> None:
    one, other = read_machine(), read_machine()
    assert other.at_s > one.at_s and (other.busy_s or 0) >= (one.busy_s or 0)


def test_throttling_during_a_measurement_is_reported_with_it() -> None:
    """The third look and those after it find the GPU at its power limit."""

    def states(number: int) -> Reading:
        return Reading(at_s=float(number), gpu_sm_mhz=1980 - 300 * (number > 1), gpu_reasons=4 * (number > 1))

    result = measure(FakeClock(noisy(1.0)), FEEDS, Timing(50), probe=probe(states))
    assert result.conditions is not None and result.conditions.gpu_sm_mhz == Spread(1680, 1680, 1980)
    assert any("power limit" in text for text in result.warnings)
