"""Nodes linked with layers. ResNet-18's numbers were counted by hand in its list of nodes and the inspector's files."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_fusion import ENGINES, RTX_RECORDED, layer, layers, lines, node, resnet, resnet_log, resnet_nodes
from models import LIGHT, parse

from workbench.fusion import Fusion, Group, Node, link, nodes_of
from workbench.fusion.files import read_text
from workbench.fusion.story import read_build_log
from workbench.layers import parse_layer_records
from workbench.model import Model, load_model

(SQUEEZENET,) = (path for path in LIGHT if path.stem == "light_squeezenet")
SQUEEZENET_LOG = read_text(RTX_RECORDED / "light_squeezenet.build.log.xz")
CONV, RELU = node("conv", "Conv", ["x", "w", "b"], ["c"], ["w", "b"]), node("relu", "Relu", ["c"], ["y"])


def group(found: Fusion, name: str) -> Group:
    (item,) = (item for item in found.groups if item.layer.name == name)
    return item


def fates(found: Fusion) -> dict[str, str]:
    return {fate.node: fate.kind for fate in found.fates}


# ---- ResNet-18, TensorRT 8.6


@pytest.mark.parametrize("engine", ENGINES)
def test_every_node_of_resnet18_has_a_fate(engine: str) -> None:
    found = resnet(engine)
    assert [fate.node for fate in found.fates] == [item.name for item in resnet_nodes()]
    assert found.counts == {"kernel": 48, "folded": 16, "removed": 1}
    assert (found.coverage, found.unmatched) == (1.0, ())


@pytest.mark.parametrize("engine", ENGINES)
def test_every_layer_of_resnet18_that_computes_names_its_nodes(engine: str) -> None:
    found = resnet(engine)
    assert not [item.layer.name for item in found.groups if item.kind == "other"]
    computing = [item for item in found.groups if item.layer.kind.startswith(("Cask", "Reduce"))]
    assert len(computing) == len(found.kernels) == (22 if engine == "int8" else 23)
    assert all(item.nodes and item.kind in ("single", "vertical") for item in computing)


def test_resnet18s_twenty_convolutions_are_fused_as_its_blocks_say() -> None:
    found = resnet("fp16")
    words = Counter(item.words for item in found.groups if "conv" in item.words)
    assert words == {"conv + bias + relu": 9, "conv + bias + add + relu": 8, "conv + bias": 3}
    block = "/layer2/layer2.0/"
    shortcut = group(found, f"{block}downsample/downsample.0/Conv + {block}Add + {block}relu_1/Relu")
    assert shortcut.nodes == (f"{block}downsample/downsample.0/Conv", f"{block}Add", f"{block}relu_1/Relu")
    assert (shortcut.kind, shortcut.layer.precision) == ("vertical", "fp16")
    assert {item.nodes for item in found.kernels if item.kind == "single"} == {
        *((f"/layer{stage}/layer{stage}.0/conv2/Conv",) for stage in (2, 3, 4)),
        ("/maxpool/MaxPool",), ("/avgpool/GlobalAveragePool",), ("/fc/Gemm",),
    }  # fmt: skip


def test_int8_takes_the_pool_into_the_first_convolution() -> None:
    first = group(resnet("int8"), "/conv1/Conv + /relu/Relu + /maxpool/MaxPool")
    assert (first.words, first.kind, first.layer.precision) == ("conv + bias + relu + max pool", "vertical", "int8")


def test_copies_and_constants_are_told_apart_from_kernels() -> None:
    found = resnet("fp16")
    assert Counter(item.kind for item in found.groups) == {"constant": 32, "vertical": 17, "single": 6, "reformat": 3}
    view = group(found, "reshape_after_/fc/Gemm")
    assert (view.kind, view.nodes, view.words) == ("reformat", ("/fc/Gemm",), "")
    assert group(found, "Reformatting CopyNode for Input Tensor 0 to /conv1/Conv + /relu/Relu").nodes == ()


def test_an_identity_on_weights_is_folded_and_names_the_copy_that_the_engine_kept() -> None:
    found = resnet("fp16")
    identity = found.fates[0]
    assert (identity.node, identity.kind, identity.layers) == ("Identity_0", "folded", ("Identity_0",))
    assert group(found, "Identity_0").kind == "constant"


def test_without_a_log_the_flatten_is_removed_as_it_moves_no_data() -> None:
    (flatten,) = (fate for fate in resnet("fp16").fates if fate.kind == "removed")
    assert (flatten.node, flatten.reason) == ("/Flatten", "it changes the shape only, no data moves")


def test_with_the_log_the_flatten_was_absorbed_in_the_logs_words() -> None:
    found = resnet("fp32", log=resnet_log())
    (flatten,) = (fate for fate in found.fates if fate.kind not in ("kernel", "folded"))
    assert (flatten.node, flatten.kind) == ("/Flatten", "absorbed")
    fused = "ShuffleShuffleFusion: Fusing /Flatten with reshape_before_/fc/Gemm"
    assert flatten.reason == f"{fused}; Removing /Flatten + reshape_before_/fc/Gemm"
    words = "65 nodes -> 23 kernels; 48 in kernels, 16 folded, 1 absorbed, 0 unmatched; coverage 100 %"
    assert found.summary == words


def test_a_node_names_all_the_layers_that_work_for_it() -> None:
    (gemm,) = (fate for fate in resnet("fp16").fates if fate.node == "/fc/Gemm")
    assert gemm.layers == ("/fc/Gemm", "reshape_after_/fc/Gemm")


@pytest.mark.parametrize("engine", ENGINES)
def test_names_alone_tell_the_same_as_metadata(engine: str) -> None:
    """Releases before 8.6 write no metadata."""
    bare = [replace(item, nodes=()) for item in layers(engine)]
    told, guessed = resnet(engine), link(bare, resnet_nodes())
    assert [(item.kind, item.nodes) for item in guessed.groups] == [(item.kind, item.nodes) for item in told.groups]
    assert fates(guessed) == fates(told)


def test_without_a_model_layers_keep_their_nodes_and_kinds() -> None:
    found = link(layers("fp16"), ())
    assert (found.fates, found.coverage) == ((), 1.0)
    assert Counter(item.kind for item in found.kernels) == {"vertical": 17, "single": 6}
    assert found.summary == "58 layers, 23 kernels naming 48 nodes"


def test_times_are_those_of_the_layers() -> None:
    found = resnet("fp16", times_ms={"/maxpool/MaxPool": 0.25, "/fc/Gemm": 0.5})
    assert (group(found, "/maxpool/MaxPool").time_ms, found.time_ms) == (0.25, 0.75)
    assert group(found, "Identity_0").time_ms is None
    assert resnet("fp16").time_ms is None


# ---- TensorRT-RTX


def test_squeezenets_concatenations_are_absorbed_into_the_region() -> None:
    found = link(
        parse_layer_records(SQUEEZENET_LOG), nodes_of(load_model(SQUEEZENET)), log=read_build_log(SQUEEZENET_LOG)
    )
    assert found.counts == {"kernel": 57, "folded": 39, "absorbed": 8, "removed": 1}
    assert Counter(item.kind for item in found.groups) == {
        "sync": 32, "vertical": 26, "single": 5, "constant": 2, "reformat": 1
    }  # fmt: skip
    absorbed = [fate for fate in found.fates if fate.kind == "absorbed"]
    assert absorbed[0].reason.startswith("it is in the region {ForeignNode[tmp_refittable_weight_37...")


def test_what_only_the_log_tells_is_unmatched_without_it() -> None:
    nodes = nodes_of(load_model(SQUEEZENET))
    found = link(parse_layer_records(SQUEEZENET_LOG), nodes)
    assert len(found.unmatched) == 8
    assert {item.op_type for item in nodes if item.name in found.unmatched} == {"Concat"}
    assert found.coverage == 97 / 105


# ---- names


@pytest.mark.parametrize(
    "name",
    ["conv + relu", "w + conv + PWN(relu)", "PWN(conv, PWN(PWN((Unnamed Layer* 3) [Constant] + b), relu))",
     "PWN(PWN(conv, f(x)), relu)",
     "{ForeignNode[conv...relu]}", "conv_clone_1 + relu"],
)  # fmt: skip
def test_nodes_are_found_in_names(name: str) -> None:
    assert link([layer(name)], [CONV, RELU]).groups[0].nodes == ("conv", "relu")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("Reformatting CopyNode for Input Tensor 0 to conv + relu", "reformat"), ("conv + relu copy", "reformat"),
     ("[trainStation1]", "sync"), ("(Unnamed Layer* 3) [NMS]_1_output[DevicetoShapeHostCopy]", "reformat"),
     ("(Unnamed Layer* 1) [Shuffle]", "other")],
)  # fmt: skip
def test_layers_that_tensorrt_adds_have_no_nodes(name: str, kind: str) -> None:
    for nodes in ([CONV, RELU], []):
        (found,) = link([layer(name, kind="")], nodes).groups
        assert (found.nodes, found.kind) == ((), kind)


def test_a_name_is_taken_whole_where_a_node_has_it() -> None:
    odd = node("a + b", "Relu", ["x"], ["y"])
    assert link([layer("a + b")], [odd]).groups[0].nodes == ("a + b",)


def test_without_metadata_and_model_the_parts_of_a_name_stand_for_nodes() -> None:
    (found,) = link([layer("w + conv + (Unnamed Layer* 7) [Shuffle]")], ()).groups
    assert found.nodes == ("w", "conv")


# ---- kinds


def test_siblings_in_one_kernel_are_a_horizontal_fusion() -> None:
    nodes = [node(name, "Conv", ["x", "w"], [name], ["w"]) for name in ("a", "b")]
    nodes += [node(f"{item.name}_relu", "Relu", [item.name], [f"y_{item.name}"]) for item in nodes]
    (found,) = link([layer("a + a_relu || b + b_relu")], nodes).groups
    assert (found.kind, found.words) == ("horizontal", "2 x conv + relu")
    assert link([layer("a + a_relu || b + b_relu")], ()).groups[0].kind == "horizontal"


def test_unlike_siblings_are_told_side_by_side() -> None:
    nodes = [node("a", "Sigmoid", ["x"], ["s"]), node("b", "Tanh", ["x"], ["t"])]
    (found,) = link([layer("k", "a", "b")], nodes).groups
    assert (found.kind, found.words) == ("horizontal", "sigmoid | tanh")


def test_a_chain_stays_one_when_a_node_between_vanished() -> None:
    nodes = [CONV, node("drop", "Dropout", ["c"], ["d"]), node("relu", "Relu", ["d"], ["y"])]
    found = link([layer("k", "conv", "relu")], nodes)
    assert (found.groups[0].kind, fates(found)["drop"]) == ("vertical", "removed")


def test_a_region_counts_its_members() -> None:
    (found,) = link([layer("{ForeignNode[conv...relu]}", "conv", "relu", kind="Myelin")], [CONV, RELU]).groups
    assert (found.kind, found.words) == ("region", "1 conv + bias, 1 relu")


def test_a_region_without_metadata_has_the_nodes_between_its_tensors() -> None:
    names = "abcde"
    nodes = [node("k", "Identity", ["w"], ["kw"], ["w"])]
    nodes += [node(name, "Add", [f"t{i}", "kw"], [f"t{i + 1}"]) for i, name in enumerate(names)]
    region = layer("{ForeignNode[b...d]}", kind="Myelin", reads="t1", writes="t4")
    found = link([layer("a", reads="t0", writes="t1"), region, layer("e", reads="t4", writes="t5")], nodes)
    assert [item.nodes for item in found.groups] == [("a",), ("b", "c", "d"), ("e",)]


def test_a_region_whose_output_is_brought_into_another_layout_has_the_same_nodes() -> None:
    nodes = [node("one", "Add", ["x", "t"], ["h"]), node("two", "Mul", ["h", "t"], ["y"])]
    name = "{ForeignNode[w...(Unnamed Layer* 846) [Normalization]]}"
    region = layer(name, kind="Myelin", reads="x t", writes="inner")
    copies = [
        layer(f"Reformatting CopyNode for Output Tensor 0 to {name}", kind="Reformat", reads=reads, writes=writes)
        for reads, writes in (("inner", "half"), ("half", "y"))
    ]
    found = link([region, *copies], nodes)
    assert [(item.kind, item.nodes) for item in found.groups] == [
        ("region", ("one", "two")), ("reformat", ()), ("reformat", ()),
    ]  # fmt: skip
    part = layer("inner copy", kind="Reformat", reads="inner", writes="y")
    assert link([region, part], nodes).unmatched == ("one", "two"), "other copies may be of a part of a tensor"


@pytest.mark.parametrize(
    ("kind", "name", "wanted"),
    [("signal", "s", "sync"), ("wait", "w", "sync"), ("kgen", "__myl_Move_myl0_0", "reformat"),
     ("kgen", "__myl_Tran_myl0_7", "reformat"), ("kgen", "__myl_MulAdd_myl0_8", "other"), ("shape_call", "c", "other"),
     ("NoOp", "n", "reformat"), ("com.microsoft.nchwc.ReorderOutput", "r", "reformat")],
)  # fmt: skip
def test_layers_of_no_node_have_a_kind(kind: str, name: str, wanted: str) -> None:
    tensors = {"reads": "a", "writes": "b"} if kind != "shape_call" else {}
    assert link([layer(name, kind=kind, **tensors)], [CONV]).groups[0].kind == wanted


def test_a_layer_that_only_writes_brings_a_constant() -> None:
    assert link([layer("__myl_Repl_myl0_49", writes="zeros")], [CONV]).groups[0].kind == "constant"


def test_a_copy_that_is_made_for_a_kernels_node_is_no_kernel() -> None:
    """RTX in fp16: __myl_CastReplConc pads the channels and names the convolution, which another kernel does."""
    cast = layer("__myl_CastReplConc_myl0_1", "graph_input_cast0", "conv", reads="x", writes="h")
    found = link([cast, layer("conv_myl0_2", "conv", reads="h", writes="c")], [CONV])
    assert [item.kind for item in found.groups] == ["reformat", "single"]
    assert found.groups[0].nodes == ("conv", "graph_input_cast0")


def test_a_kernel_that_moves_is_the_work_of_its_own_nodes() -> None:
    nodes = [node("reshape", "Reshape", ["x", "s"], ["r"], ["s"]), node("transpose", "Transpose", ["r"], ["y"])]
    (found,) = link([layer("__myl_ReshTran_myl0_4", "reshape", "transpose")], nodes).groups
    assert (found.kind, found.words) == ("vertical", "reshape + transpose")


def test_a_kernel_of_one_node_and_its_constants_is_single() -> None:
    nodes = [node("widen", "Unsqueeze", ["w"], ["wide"], ["w"]), node("mul", "Mul", ["x", "wide"], ["y"])]
    found = link([layer("k", "widen", "mul")], nodes)
    assert (found.groups[0].kind, found.groups[0].words) == ("single", "mul")
    assert (found.fates[0].kind, found.fates[0].layers) == ("folded", ("k",))


def test_a_cast_that_the_build_added_makes_no_fusion_of_one_node() -> None:
    mixed = layer("__myl_CastCorr_myl0_1", "graph_input_cast0", "conv", reads="x", writes="c")
    (found,) = link([mixed], [CONV]).groups
    assert (found.kind, found.words) == ("single", "conv + bias")


def test_a_copy_that_was_added_is_a_reformat_though_its_metadata_name_a_node() -> None:
    copy = layer("Reformatting CopyNode for Input Tensor 0 to conv", "conv", kind="Reformat")
    assert link([copy, layer("conv", "conv")], [CONV]).groups[0].kind == "reformat"


def test_a_reformat_that_does_a_nodes_work_is_its_kernel() -> None:
    cast = layer("cast", "cast", kind="Reformat", reads="x", writes="y")
    assert link([cast], [node("cast", "Cast", ["x"], ["y"])]).groups[0].kind == "single"


@pytest.mark.parametrize(
    ("op_type", "word"),
    [("BatchNormalization", "batch norm"), ("MatMul", "matmul"), ("GlobalAveragePool", "global average pool"),
     ("LRN", "lrn"), ("PRelu", "prelu"), ("com.microsoft.Gelu", "com.microsoft.gelu")],
)  # fmt: skip
def test_words_are_those_that_people_say(op_type: str, word: str) -> None:
    assert link([layer("k", "n")], [node("n", op_type, ["x"], ["y"])]).groups[0].words == word


# ---- fates


def test_a_dead_node_is_removed() -> None:
    found = link([layer("relu", "relu")], [CONV, RELU, node("shout", "Exp", ["c"], ["never_read"])])
    assert fates(found) == {"conv": "unmatched", "relu": "kernel", "shout": "removed"}


def test_a_node_that_makes_an_output_is_not_dead_though_nobody_reads_it() -> None:
    assert fates(link([], [CONV, RELU])) == {"conv": "unmatched", "relu": "unmatched"}


def test_arithmetic_on_sizes_is_folded() -> None:
    nodes = [
        node("shape", "Shape", ["x"], ["s"]), node("gather", "Gather", ["s", "i"], ["g"], ["i"]),
        node("reshape", "Reshape", ["x", "g"], ["r"]), node("relu", "Relu", ["r"], ["y"]),
    ]  # fmt: skip
    found = link([layer("relu", "relu")], nodes)
    assert fates(found) == {"shape": "folded", "gather": "folded", "reshape": "removed", "relu": "kernel"}


def test_random_numbers_are_not_folded() -> None:
    assert fates(link([], [node("noise", "RandomNormal", [], ["y"])])) == {"noise": "unmatched"}


@pytest.mark.parametrize(
    "text",
    ["Merging layers: conv || relu", "Fusing convolution weights from conv with scale relu",
     "QuantizeDoubleInputNodes: fusing (relu and b) into conv", "Eliminating concatenation relu",
     "Removing w + relu + z"],
)  # fmt: skip
def test_what_the_log_takes_away_is_absorbed_in_its_words(text: str) -> None:
    found = link([layer("conv", "conv")], [CONV, RELU], log=lines("Original: 2 layers", text, "After all: 1 layers"))
    assert (found.fates[1].kind, found.fates[1].reason) == ("absorbed", text)


def test_ten_thousand_nodes_are_linked() -> None:
    nodes = [node(f"n{i}", "Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(10_000)]
    kernels = [layer(f"n{i} + n{i + 1}", f"n{i}", f"n{i + 1}") for i in range(0, 10_000, 2)]
    region = layer("{ForeignNode[n0...n9999]}", kind="Myelin", reads="t0", writes="t10000")
    assert Counter(item.kind for item in link(kernels, nodes).groups) == {"vertical": 5000}
    assert len(link([region], nodes).groups[0].nodes) == 10_000
    assert len(link([layer("last", "n9999")], nodes).unmatched) == 9_999


# ---- nodes of a model


def test_nodes_know_weights_and_outputs() -> None:
    graph = "(float[n,4] x) => (float[n,4] y) { [matmul] t = MatMul(x, w) [relu] y = Relu(t) }"
    matmul, relu = nodes_of(Model(parse(graph, w=np.zeros((4, 4), np.float32)), Path("net.onnx")))
    assert matmul == Node("matmul", "MatMul", ("x", "w"), ("t",), ("w",), ())
    assert relu == Node("relu", "Relu", ("t",), ("y",), (), ("y",))


def test_what_the_body_of_a_loop_reads_is_needed() -> None:
    body = onnx.parser.parse_graph("body (int64 i, bool c) => (bool c2, float[4] o) { c2 = Identity(c) o = Relu(t) }")
    outer = onnx.parser.parse_graph("outer (float[4] x, int64 m, bool k) => (float[s,4] y) { t = Exp(x) }")
    outer.node[0].name = "exp"
    outer.node.append(onnx.helper.make_node("Loop", ["m", "k"], ["y"], name="loop", body=body))
    exp, loop = nodes_of(Model(onnx.helper.make_model(outer), Path("net.onnx")))
    assert loop.inputs == ("m", "k", "t")
    assert fates(link([layer("loop", "loop")], [exp, loop])) == {"exp": "unmatched", "loop": "kernel"}
