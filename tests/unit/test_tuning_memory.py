"""What an open engine takes: this process's share where it is told, else what everybody took."""

import pytest

from workbench.tuning.memory import Reading, memory_now

MB = 1 << 20


@pytest.mark.parametrize(
    ("before", "after", "taken"),
    [
        (Reading(100 * MB, 10 * MB), Reading(190 * MB, 50 * MB), 40 * MB),  # another program took 50 MB meanwhile
        (Reading(100 * MB), Reading(140 * MB), 40 * MB),
        (Reading(100 * MB, None), Reading(140 * MB, 50 * MB), 40 * MB),
        (Reading(100 * MB, 10 * MB), Reading(140 * MB, 10 * MB), 40 * MB),  # another process has this one's number
        (Reading(100 * MB), Reading(90 * MB), 0),
    ],
)
def test_what_was_taken_is_this_process_s_share_where_both_readings_tell_it(
    before: Reading, after: Reading, taken: int
) -> None:
    assert after.since(before) == taken


def test_on_the_processor_it_is_what_the_process_holds() -> None:
    before = memory_now("onnxruntime", "")
    block = bytearray(b"\1") * (64 * MB)
    after = memory_now("onnxruntime", "")
    assert before.own is None and after.own is None
    assert after.since(before) > 48 * MB
    assert len(block) == 64 * MB


def test_where_no_driver_tells_the_number_of_the_whole_device_or_process_does() -> None:
    assert memory_now("tensorrt", "GPU-of-nobody").own is None
