"""Folders for nodes: from names, and from blocks that repeat."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workbench.picture.folders import find_repeats, folders_of


def test_folders_are_the_parts_of_a_name() -> None:
    names = ["/layer1/layer1.0/conv1/Conv", "/layer1/layer1.0/Add", "/layer1/layer1.1/Add", "/fc/Gemm"]
    assert folders_of(names, ["Conv", "Add", "Add", "Gemm"]) == [
        ("layer1", "layer1.0"),  # conv1 and layer1.1 hold one node each
        ("layer1", "layer1.0"),
        ("layer1",),
        (),
    ]


def test_names_without_folders_lie_in_the_blocks_that_repeat() -> None:
    labels = ["Conv", *["Conv", "Relu", "Add"] * 2, "Gemm"]
    found = folders_of([f"node_{index}" for index in range(8)], labels)
    assert found[0] == found[7] == ()
    assert found[1:4] == [("blocks 1", "block 1.1")] * 3
    assert found[4:7] == [("blocks 1", "block 1.2")] * 3


def test_a_few_names_with_folders_do_not_hide_the_blocks() -> None:
    labels = ["Conv", "Relu", "Add"] * 3
    names = ["/only/this/one", *(f"node_{index}" for index in range(8))]
    assert folders_of(names, labels)[0] == ("blocks 1", "block 1.1")


def test_one_operator_in_a_row_is_no_block() -> None:
    assert find_repeats(["Relu"] * 20) == []


def test_the_run_that_covers_most_is_taken() -> None:
    labels = [*["a", "b", "c"] * 4, *["d", "e", "f"] * 2]
    assert find_repeats(labels) == [(0, 3, 4), (12, 3, 2)]


def test_nothing_is_found_in_nothing() -> None:
    assert find_repeats([]) == [] and folders_of([], []) == []


@given(st.lists(st.sampled_from("abc"), max_size=60))
def test_every_run_repeats_and_none_overlaps_another(labels: list[str]) -> None:
    end = 0
    for start, period, count in find_repeats(labels):
        assert start >= end and count >= 2
        end = start + period * count
        blocks = np.array(labels[start:end]).reshape(count, period)
        assert (blocks == blocks[0]).all()
