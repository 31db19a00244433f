"""The engine inspector's JSON of every release and trtexec's profile, read completely or refused in words."""

import json
from collections import Counter
from typing import Any

import pytest
from helpers_fusion import ENGINES, inspector_text, layers

from workbench.inspector import parse_inspection, parse_layer_times
from workbench.layers import LayerTensor, covered_nodes

KINDS = {
    "fp32": {"CaskConvolution": 20, "Constant": 16, "MyelinReformat": 16, "Reformat": 6, "NoOp": 5, "CaskPooling": 2,
             "CaskGemmConvolution": 1},
    "fp16": {"CaskConvolution": 20, "Constant": 16, "MyelinReformat": 12, "Reformat": 6, "CaskPooling": 2,
             "CaskGemmConvolution": 1, "NoOp": 1},
    "int8": {"CaskConvolution": 20, "Constant": 16, "MyelinReformat": 16, "Reformat": 3, "NoOp": 2,
             "CaskConvActPool": 1, "CaskPooling": 1},
    "fp16_b128": {"CaskConvolution": 20, "Constant": 16, "MyelinReformat": 12, "Reformat": 6, "CaskPooling": 2,
                  "CaskGemmConvolution": 1, "NoOp": 1},
    "fp16_dynamic": {"CaskConvolution": 20, "Constant": 16, "MyelinReformat": 16, "Reformat": 2, "CaskPooling": 1,
                     "Reduce": 1, "CaskGemmConvolution": 1, "NoOp": 1},
}  # fmt: skip


def text_of(*items: Any, **more: Any) -> str:
    return json.dumps({"Layers": list(items), **more})


def tensor(name: str, **fields: Any) -> dict[str, Any]:
    return {"Name": name, "Location": "Device", "Dimensions": [1, 64], **fields}


# ---- TensorRT 8.6, recorded


@pytest.mark.parametrize("engine", ENGINES)
def test_every_layer_of_a_recorded_engine_is_read(engine: str) -> None:
    found = layers(engine)
    assert Counter(layer.kind for layer in found) == KINDS[engine]
    raw = json.loads(inspector_text(engine), strict=False)["Layers"]
    assert [layer.name for layer in found] == [item["Name"] for item in raw]
    assert [len(layer.inputs) for layer in found] == [len(item["Inputs"]) for item in raw]
    assert len(covered_nodes(found)) == 48
    assert sum(bool(layer.nodes) for layer in found) == (23 if engine == "int8" else 24)


def test_a_fused_convolution_is_read_with_all_that_is_told_of_it() -> None:
    (conv,) = (layer for layer in layers("fp16") if layer.name == "/conv1/Conv + /relu/Relu")
    assert (conv.kind, conv.nodes, conv.stream) == ("CaskConvolution", ("/conv1/Conv", "/relu/Relu"), 0)
    assert conv.tactic.startswith("sm80_xmma_fprop_implicit_gemm_indexed_wo_smem_f16f16")
    layout = "Channel major FP16 format where channel % 8 == 0"
    assert conv.outputs == (LayerTensor("/relu/Relu_output_0", (1, 64, 112, 112), "FP16", layout),)
    details = dict(conv.details)
    assert (details["Kernel"], details["Activation"], details["HasBias"]) == ("[7, 7]", "RELU", "1")
    assert conv.precision == "fp16"


def test_types_are_found_in_the_words_of_a_format() -> None:
    assert {item.dtype for layer in layers("int8") for item in (*layer.inputs, *layer.outputs)} == {
        "FP32", "FP16", "Int8"
    }  # fmt: skip
    assert Counter(layer.precision for layer in layers("int8") if layer.nodes) == {"fp16": 17, "int8": 5, "fp32": 1}


def test_an_engine_with_open_sizes_tells_its_precision_by_its_weights() -> None:
    (conv,) = (layer for layer in layers("fp16_dynamic") if layer.name == "/conv1/Conv + /relu/Relu")
    assert conv.outputs[0].shape[0] == -1
    assert (conv.outputs[0].dtype, conv.outputs[0].format) == ("", "N/A due to dynamic shapes")
    assert conv.precision == "fp16"


# ---- other releases


def test_names_only_are_read_where_the_engine_was_built_without_detailed_verbosity() -> None:
    found = parse_inspection(text_of("Conv_0 + Relu_1", "[trainStation1]", Bindings=["x", "y"]))
    assert [layer.name for layer in found.layers] == ["Conv_0 + Relu_1", "[trainStation1]"]
    assert not found.is_detailed
    assert parse_inspection(inspector_text("fp16")).is_detailed


def test_release_10_separates_nodes_by_unit_separators_and_names_types_alone() -> None:
    kernel = {
        "Name": "__myl_AddRelu_myl0_3", "LayerType": "kgen", "TacticName": "__myl_AddRelu_0x1", "StreamId": 1,
        "Inputs": [tensor("a", **{"Format/Datatype": "Half"})], "Outputs": [tensor("b", **{"Format/Datatype": "Half"})],
        "Metadata": "[ONNX Layer: add]\x1f[ONNX Layer: relu]",
    }  # fmt: skip
    (found,) = parse_inspection(text_of(kernel, Bindings=["a", "b"])).layers
    assert (found.nodes, found.stream, found.precision) == (("add", "relu"), 1, "fp16")
    assert found.inputs == (LayerTensor("a", (1, 64), "Half", ""),)


@pytest.mark.parametrize("key", ["Datatype", "DataType"])
def test_release_11_tells_type_and_format_apart(key: str) -> None:
    layer = {
        "Name": "conv_myl0_1", "LayerType": "correlation", "Metadata": "[ONNX Layer: conv]",
        "Inputs": [tensor("x", **{key: "BFloat16", "Format": "(NHWC) Channel major format"})], "Outputs": [],
    }  # fmt: skip
    (found,) = parse_inspection(text_of(layer, **{"I/O Tensors": [{"Name": "x"}], "Engine Metadata": {}})).layers
    assert found.inputs == (LayerTensor("x", (1, 64), "BFloat16", "(NHWC) Channel major format"),)
    assert found.precision == "bf16"


def test_an_unknown_format_keeps_its_words() -> None:
    layer = {"Name": "a", "LayerType": "b", "Inputs": [tensor("x", **{"Format/Datatype": "Unknown format"})]}
    (found,) = parse_inspection(text_of(layer)).layers
    assert found.inputs == (LayerTensor("x", (1, 64), "", "Unknown format"),)


def test_layers_of_one_name_are_told_apart_in_layers_and_times_alike() -> None:
    found = parse_inspection(text_of("copy", "conv", "copy"))
    rows = [{"name": name, "timeMs": 3, "averageMs": time} for name, time in (("copy", 1), ("conv", 2), ("copy", 3))]
    times = parse_layer_times(json.dumps([{"count": 3}, *rows]))
    assert [layer.name for layer in found.layers] == ["copy", "conv", "copy #2"]
    assert times.times_ms == {"copy": 1, "conv": 2, "copy #2": 3}


def test_the_first_optimization_profile_is_shown_and_the_others_are_kept() -> None:
    found = parse_inspection(text_of("conv + relu", "pool", "conv + relu [profile 1]", "pool [profile 1]"))
    assert [layer.name for layer in found.layers] == ["conv + relu", "pool"]
    assert [layer.name for layer in found.other_profiles] == ["conv + relu [profile 1]", "pool [profile 1]"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"Layers": [', "no JSON"),
        ("[]", "no list of layers"),
        ('{"Bindings": []}', "no list of layers"),
        ('{"Layers": {}}', "no list of layers"),
        ('[{"count": 3}]', "the times of layers"),
        ('{"Layers": [7]}', "a layer without a name: 7"),
        ('{"Layers": [{"LayerType": "conv"}]}', "a layer without a name"),
        ('{"Layers": [{"Name": "a"}]}', "a layer without a type"),
        ('{"Layers": [{"Name": "a", "LayerType": "b", "Inputs": "x"}]}', "Inputs of a in an unknown form"),
        ('{"Layers": [{"Name": "a", "LayerType": "b", "Outputs": [{"Name": "x"}]}]}', "a tensor in an unknown form"),
        ('{"Layers": [{"Name": "a", "LayerType": "b", "Inputs": [{"Name": "x", "Dimensions": ["n"]}]}]}', "tensor"),
        ('{"Layers": [{"Name": "a", "LayerType": "b", "Inputs": [{"Name": "x", "Dimensions": [1e999]}]}]}', "tensor"),
        ('{"Layers": [{"Name": "a", "LayerType": "b", "Metadata": null}]}', "Metadata of a in an unknown form: null"),
        ('{"Layers": [{"Name": "a", "LayerType": "b", "TacticName": 5}]}', "TacticName of a in an unknown form: 5"),
        ('{"Layers": [{"Name": "a", "LayerType": "b", "StreamId": "x"}]}', "StreamId of a in an unknown form"),
        ('{"Layers": ' + "[" * 100_000, "no JSON"),
    ],
)
def test_a_form_that_is_not_known_is_refused_and_never_lost(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_inspection(text)


# ---- times


def test_the_median_is_taken_or_the_mean_where_there_is_none() -> None:
    rows = [
        {"name": "conv", "timeMs": 16.7, "averageMs": 1.52, "medianMs": 1.09, "percentage": 80.0},
        {"name": "pool", "timeMs": 4.4, "averageMs": 0.4, "percentage": 20.0},
    ]
    times = parse_layer_times(json.dumps([{"count": 11}, *rows]))
    assert (times.count, times.times_ms) == (11, {"conv": 1.09, "pool": 0.4})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "no times of layers"),
        ("nonsense", "no JSON"),
        ('[{"count": 1}, {"name": "a"}]', "a layer without a time"),
        ('[{"count": 1}, {"timeMs": 1}]', "a layer without a name"),
        ('[{"count": null}, {"name": "a", "averageMs": 1}]', "no times of layers"),
    ],
)
def test_a_file_that_is_no_profile_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_layer_times(text)
