"""Two engines of one model compared; ResNet-18's numbers were counted by hand in the recorded files."""

from collections import Counter

from helpers_fusion import layer, layers, node, resnet

from workbench.fusion import Fusion, link
from workbench.fusion.difference import diff

NODES = [node("conv", "Conv", ["x", "w"], ["c"], ["w"]), node("relu", "Relu", ["c"], ["r"]),
         node("exp", "Exp", ["r"], ["y"])]  # fmt: skip


def test_an_engine_does_not_differ_from_itself() -> None:
    found = diff(resnet("fp16"), resnet("fp16"))
    assert (found.changes, found.appeared, found.vanished) == ((), (), ())
    assert found.summary == "kernels: 23 before, 23 after; 23 of 23 groups of nodes are unchanged."


def test_int8_regroups_the_first_convolution_and_recasts_five_groups() -> None:
    found = diff(resnet("fp16"), resnet("int8"))
    (first,) = (change for change in found.changes if change.regrouped)
    assert set(first.nodes) == {"/conv1/Conv", "/relu/Relu", "/maxpool/MaxPool"}
    assert [group.words for group in first.before] == ["conv + bias + relu", "max pool"]
    assert [group.words for group in first.after] == ["conv + bias + relu + max pool"]
    assert Counter(change.precisions for change in found.changes) == {("fp16", "int8"): 3, ("fp32", "int8"): 2}
    assert found.summary == (
        "kernels: 23 before, 22 after; 17 of 22 groups of nodes are unchanged, 1 fused in another way, "
        "3 in int8 instead of fp16, 2 in int8 instead of fp32, 4 other layers appeared, 2 vanished."
    )


def test_the_copies_that_come_and_go_are_named() -> None:
    found = diff(resnet("fp16"), resnet("int8"))
    assert {group.layer.name for group in found.vanished} == {
        "Reformatting CopyNode for Input Tensor 0 to /conv1/Conv + /relu/Relu",
        "Reformatting CopyNode for Input Tensor 0 to /avgpool/GlobalAveragePool",
    }
    assert all(group.kind == "reformat" for group in found.appeared)


def test_fp16_is_another_precision_for_all_but_the_average_pool_and_the_last_layer() -> None:
    found = diff(resnet("fp32"), resnet("fp16"))
    same = {name for part in found.parts if not part.is_change for name in part.nodes}
    assert same == {"/avgpool/GlobalAveragePool", "/fc/Gemm"}


def test_engines_are_compared_by_their_metadata_where_the_model_is_not_at_hand() -> None:
    found = diff(link(layers("fp16"), ()), link(layers("int8"), ()))
    assert sum(change.regrouped for change in found.changes) == 1


def test_every_node_of_a_kernel_is_in_one_part() -> None:
    found = diff(resnet("fp16"), resnet("int8"))
    nodes = [name for part in found.parts for name in part.nodes]
    assert len(nodes) == len(set(nodes)) == 48


def test_times_are_compared_where_all_kernels_of_a_part_were_measured() -> None:
    before = link([layer("a", "conv"), layer("b", "relu"), layer("e", "exp")], NODES, times_ms={"a": 2, "b": 1, "e": 5})
    after = link([layer("ab", "conv", "relu"), layer("e", "exp")], NODES, times_ms={"ab": 2.5})
    found = diff(before, after)
    assert [part.times_ms for part in found.parts] == [(3, 2.5), (5, None)]
    assert found.summary.endswith("1 fused in another way, 8 ms before, 2.5 ms after.")


def test_casts_that_a_conversion_added_part_nothing() -> None:
    found = diff(link([layer("k", "exp")], NODES), link([layer("k", "exp", "graph_output_cast0")], NODES))
    assert not found.changes


def test_a_node_that_lost_its_kernel_is_a_change() -> None:
    (change,) = diff(link([layer("k", "exp")], NODES), link([layer("l", "conv")], NODES)).changes[1:]
    assert (change.nodes, change.before, change.after[0].words) == (("conv",), (), "conv")


def test_layers_that_myelin_numbers_anew_are_the_same() -> None:
    sides = [link([layer(f"__myl_Move_myl0_{i}", reads="a", writes="b"), layer("k", "exp")], NODES) for i in (1, 7)]
    found = diff(*sides)
    assert (found.appeared, found.vanished) == ((), ())


def test_engines_of_different_models_are_told() -> None:
    other = [node("tanh", "Tanh", ["x"], ["y"])]
    found = diff(link([layer("k", "exp")], NODES), link([layer("t", "tanh")], other))
    assert found.summary == "kernels: 1 before, 1 after; they have no node in common, so they are of different models."


def test_engines_of_models_that_name_their_nodes_alike_are_not_compared() -> None:
    """'Conv_0' is in half of all models; the operators tell."""

    def fused(*operators: str) -> Fusion:
        nodes = [node(f"node_{i}", kind, [f"t{i}"], [f"t{i + 1}"]) for i, kind in enumerate(operators)]
        return link([layer("all", *(item.name for item in nodes))], nodes)

    found = diff(fused("Conv", "Relu", "Conv", "Add"), fused("Gemm", "Relu", "Softmax", "Mul"))
    assert found.summary == (
        "kernels: 1 before, 1 after; only 1 of 4 and 4 nodes have the same name and operator in both, so they are "
        "hardly of one model."
    )
    assert not diff(fused("Conv", "Relu"), fused("Conv", "Relu", "Add")).other_model
