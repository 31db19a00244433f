"""Times summed by fusion group, and the share that no layer accounts for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers_fusion import RECORDED, layer, node

from workbench.errors import ConfigError
from workbench.fusion import Fusion, link, open_fusion
from workbench.fusion.shares import UNACCOUNTED, GroupTimes, group_times, paired_times

NODES = (
    node("conv", "Conv", ["x", "w"], ["c"], ["w"]),
    node("relu", "Relu", ["c"], ["r"]),
    node("exp", "Exp", ["r"], ["y"]),
)
FUSED = (layer("conv + relu", "conv", "relu", reads="x", writes="r"), layer("exp", "exp", reads="r", writes="y"))
COPY = layer("Reformatting CopyNode for Input Tensor 0 to conv", kind="Reformat", reads="x", writes="x2")


def fused(*times_ms: float) -> Fusion:
    return link(FUSED, NODES, times_ms=dict(zip(("conv + relu", "exp"), times_ms, strict=False)))


def recorded(engine: str, whole_ms: float | None) -> GroupTimes:
    profile = RECORDED / f"resnet18_{engine}_b1.profile.json.gz"
    layers = RECORDED / f"resnet18_{engine}_b1.inspector.json.gz"
    return group_times(open_fusion(layers, RECORDED / "resnet18.nodes.json.gz", profile).fusion, whole_ms, engine)


def test_the_longest_group_comes_first_and_what_no_layer_accounts_for_is_a_row() -> None:
    found = group_times(fused(0.1, 0.3), 0.5)
    assert [(item.label, item.time_ms) for item in found.groups] == [("exp", 0.3), ("conv + relu", 0.1)]
    assert found.unaccounted_ms == pytest.approx(0.1)
    assert found.rows[-1] == (UNACCOUNTED, "", "", "", "", "0.1", "20.0")
    assert found.note == ""


def test_kernels_that_share_a_node_are_one_group() -> None:
    kernels = (
        layer("first", "conv", reads="x", writes="half"),
        layer("second", "conv", "relu", reads="half", writes="r"),
        FUSED[1],
    )
    found = group_times(link(kernels, NODES, times_ms={"first": 0.25, "second": 0.5, "exp": 0.125}))
    assert [(item.nodes, item.layers, item.time_ms) for item in found.groups] == [
        (("conv", "relu"), ("first", "second"), 0.75),
        (("exp",), ("exp",), 0.125),
    ]


def test_layers_that_do_no_nodes_work_are_summed_by_kind() -> None:
    copies = (COPY, replace(COPY, name="Reformatting CopyNode for Output Tensor 0 to exp"))
    times = {"conv + relu": 0.5, copies[0].name: 0.25, copies[1].name: 0.125}
    found = group_times(link((*copies, *FUSED), NODES, times_ms=times))
    (other,) = [item for item in found.groups if not item.nodes]
    assert (other.label, other.time_ms, len(other.layers)) == ("reformats and copies", 0.375, 2)


def test_layers_that_sum_to_more_than_the_whole_run_are_told_in_words_never_as_a_negative_share() -> None:
    found = group_times(fused(0.4, 0.3), 0.5)
    assert found.unaccounted_ms is None
    assert "0.7 ms together, the whole run 0.5 ms" in found.note
    assert all(row[0] != UNACCOUNTED for row in found.rows)
    assert [row[-1] for row in found.rows[1:]] == ["57.1", "42.9"]  # of all layers


def test_without_the_time_of_a_whole_run_the_rest_is_not_known() -> None:
    found = group_times(fused(0.4, 0.3))
    assert found.unaccounted_ms is None
    assert "not known" in found.note


def test_an_engine_without_times_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Timing\(layers=True\)"):
        group_times(fused())


def test_groups_of_two_engines_are_paired_by_the_nodes_that_neither_shares_with_others() -> None:
    apart = (layer("conv", "conv", reads="x", writes="c"), layer("relu", "relu", reads="c", writes="r"), FUSED[1])
    before = group_times(link(apart, NODES, times_ms={"conv": 0.25, "relu": 0.125, "exp": 0.5}))
    after = group_times(fused(0.125, 0.0625))
    found = {pair.nodes: (pair.before_ms, pair.after_ms) for pair in paired_times(before, after)}
    assert found == {("exp",): (0.5, 0.0625), ("conv", "relu"): (0.375, 0.125)}


def test_engines_of_different_models_are_not_paired() -> None:
    other = link([layer("lstm", "lstm")], (node("lstm", "LSTM", ["x"], ["y"]),), times_ms={"lstm": 1.0})
    with pytest.raises(ConfigError, match="different models"):
        paired_times(group_times(fused(0.1)), group_times(other))


def test_no_time_of_a_recorded_engine_is_lost() -> None:
    found = recorded("fp32", 0.9)
    assert found.layers_ms == pytest.approx(found.fusion.time_ms)
    assert found.layers_ms + (found.unaccounted_ms or 0) == pytest.approx(0.9)
    shares = [float(row[-1]) for row in found.rows[1:]]
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(shares))


def test_no_time_of_two_recorded_engines_is_lost_when_they_are_paired() -> None:
    before, after = recorded("fp32", None), recorded("int8", None)
    pairs = paired_times(before, after)
    assert sum(pair.before_ms or 0 for pair in pairs) == pytest.approx(before.layers_ms)
    assert sum(pair.after_ms or 0 for pair in pairs) == pytest.approx(after.layers_ms)
    assert [pair.longest_ms for pair in pairs] == sorted((pair.longest_ms for pair in pairs), reverse=True)
