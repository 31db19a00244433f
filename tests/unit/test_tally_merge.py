"""Tallies of parts of the pictures, merged, are the tally of all: in every number, not nearly."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.calibration.samples import Batch
from workbench.errors import FeedError
from workbench.evaluation import evaluation_of
from workbench.tally import Tally, merge_tallies

Step = tuple[dict[str, np.ndarray], dict[str, np.ndarray], Batch]


def steps(sizes: Sequence[int], *, classes: int = 7, labelled: bool = True, seed: int = 0) -> list[Step]:
    """Batches of these sizes with the outputs of two sessions: classes, and boxes with values that are infinite."""
    generator, found = np.random.default_rng(seed), list[Step]()
    for number, size in enumerate(sizes):
        left = {name: generator.standard_normal((size, *shape)) for name, shape in shapes(classes).items()}
        left["boxes"][generator.random(left["boxes"].shape) < 0.05] = np.inf
        right = {name: values + 0.3 * generator.standard_normal(values.shape) for name, values in left.items()}
        ids = tuple(f"{number}.{row}" for row in range(size))
        labels = generator.integers(0, classes, size) if labelled else None
        found.append((left, right, Batch({}, labels, ids, tuple(f"digest of {name}" for name in ids))))
    return found


def shapes(classes: int) -> dict[str, tuple[int, ...]]:
    return {"boxes": (2, 3, 4, 2), "classes": (classes,)}


def tally_of(found: Sequence[Step]) -> Tally:
    tally = Tally()
    for step in found:
        tally.add(*step)
    return tally


def facts(tally: Tally) -> tuple[Any, ...]:
    return evaluation_of(tally), tally.worst(), tally.ids


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_wherever_it_is_cut_the_merged_tally_is_that_of_the_whole(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    found = steps(sizes, classes=data.draw(st.sampled_from([1, 3, 7])), labelled=data.draw(st.booleans()))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(found)))) | {0, len(found)})
    parts = [tally_of(found[start:stop]) for start, stop in itertools.pairwise(cuts)]
    assert facts(merge_tallies(parts)) == facts(tally_of(found))


def test_what_was_added_after_a_merge_counts_as_well() -> None:
    found = steps([3, 2, 4])
    merged = merge_tallies([tally_of(found[:1]), tally_of(found[1:2])])
    merged.add(*found[2])
    assert facts(merged) == facts(tally_of(found))


def test_one_part_without_labels_leaves_no_task_score() -> None:
    first, second = steps([3]), steps([2], labelled=False, seed=1)
    merged = merge_tallies([tally_of(first), tally_of(second)])
    assert evaluation_of(merged).top1 is None
    assert facts(merged) == facts(tally_of(first + second))


def test_parts_in_another_order_are_another_tally() -> None:
    parts = [tally_of(steps([3], seed=seed)) for seed in (0, 1)]
    one, other = merge_tallies(parts), merge_tallies(reversed(parts))
    assert one.outputs() != other.outputs()  # pictures are drawn anew by their place


def test_parts_stay_as_they_were() -> None:
    part = tally_of(steps([3]))
    before = facts(part)
    merge_tallies([part, tally_of(steps([2], seed=1))])
    assert facts(part) == before


def test_of_nothing_nothing_is_told() -> None:
    assert merge_tallies([Tally(), Tally()]).count == 0
    part = tally_of(steps([2]))
    assert facts(merge_tallies([Tally(), part, Tally()])) == facts(part)


def test_parts_with_other_outputs_are_refused() -> None:
    left, right, batch = steps([2])[0]
    fewer = Tally()
    fewer.add({"classes": left["classes"]}, {"classes": right["classes"]}, batch)
    with pytest.raises(FeedError, match=r"outputs differ: \['boxes', 'classes'\] and \['classes'\]"):
        merge_tallies([tally_of(steps([2])), fewer])
