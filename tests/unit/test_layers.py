"""Layer records of real TensorRT-RTX logs, recorded on a machine without a GPU, read completely."""

import json
import lzma
import re
from collections import Counter
from pathlib import Path

import pytest

from workbench.layers import (
    LayerInfo,
    LayerTensor,
    covered_nodes,
    layers_from_json,
    layers_to_json,
    parse_layer_records,
)

RECORDED = Path(__file__).parents[1] / "data" / "tensorrt_rtx-1.7.1-cpu"
CONV = (RECORDED / "conv_bn_relu.layers.txt").read_text()
RELU = CONV.split("\n")[3]
SQUEEZENET = lzma.decompress((RECORDED / "light_squeezenet.build.log.xz").read_bytes()).decode()


def test_three_layers_of_a_convolution_are_read() -> None:
    move, conv, relu = parse_layer_records(CONV)
    assert (move.name, move.kind, move.nodes, move.stream) == ("__myl_Move_myl0_0", "kgen", (), 0)
    assert move.inputs == (LayerTensor("x", (1, 3, 16, 16), "Float", "(Linear) Row major linear format"),)
    assert (conv.kind, conv.tactic, conv.nodes) == ("correlation", "__myelin_CASK_STUB", ("conv0",))
    assert [tensor.name for tensor in conv.inputs] == ["c.1_2_myl0"]
    assert relu.nodes == ("bn0", "relu0")
    assert relu.tactic == "__myl_MulAddMoveRelu_0x91e0639a61863be9ccdd5b9b0ef026c1"
    assert relu.outputs == (LayerTensor("y", (1, 8, 16, 16), "Float", "(Linear) Row major linear format"),)


def test_squeezenet_is_read_completely() -> None:
    layers = parse_layer_records(SQUEEZENET)
    kinds = Counter(layer.kind for layer in layers)
    assert kinds == {"correlation": 26, "signal": 16, "wait": 16, "kgen": 5, "maxpool": 3}
    assert len({layer.name for layer in layers}) == 66
    assert sum(layer.kind in ("signal", "wait") for layer in layers) == 32
    assert {layer.stream for layer in layers} == {0, 1}
    assert sum(len(layer.inputs) for layer in layers) == 35
    assert all(tensor.shape and tensor.dtype for layer in layers for tensor in (*layer.inputs, *layer.outputs))


def test_squeezenets_layers_name_their_nodes() -> None:
    layers = {layer.name: layer for layer in parse_layer_records(SQUEEZENET)}
    assert layers["n0_myl0_1"].nodes == ("n0", "n1")
    assert layers["n0_myl0_1"].outputs[0].shape == (1, 64, 111, 111)
    assert layers["__myl_ReshMaxrSubExpSumDiv_myl0_65"].nodes == ("n65",)
    assert len(covered_nodes(layers.values())) == 57  # all but 8 Concat and a Dropout, which vanish


def test_the_io_tensors_after_the_layers_are_no_layers() -> None:
    assert "x" not in {layer.name for layer in parse_layer_records(CONV)}


@pytest.mark.parametrize(
    "record", ["Name: a", "Name: a, LayerType: kgen, Inputs: [ {", "Name: a, LayerType: b, Outputs: []"]
)
def test_a_record_of_an_unknown_form_is_an_error_and_never_lost(record: str) -> None:
    with pytest.raises(ValueError, match=re.escape(record)):
        parse_layer_records(f"{CONV.splitlines()[1]}\n{record}")


@pytest.mark.parametrize(
    "separator", ["", "\x1e", "\x1f", " "], ids=["nothing", "record separator", "unit separator", "space"]
)
def test_nodes_are_found_whatever_separates_them(separator: str) -> None:
    record = RELU.replace("]\x1f[ONNX", f"]{separator}[ONNX")
    assert (record == RELU) == (separator == "\x1f")
    assert parse_layer_records(record)[0].nodes == ("bn0", "relu0")


def test_node_names_may_hold_brackets_commas_and_colons() -> None:
    record = RELU.replace("bn0", "block[0], scale: x]")
    assert parse_layer_records(record)[0].nodes == ("block[0], scale: x]", "relu0")


def test_layers_survive_json() -> None:
    layers = parse_layer_records(SQUEEZENET)
    assert layers_from_json(json.loads(json.dumps(layers_to_json(layers)))) == layers


def test_layers_stored_by_earlier_versions_are_still_read() -> None:
    old = [
        {name: value for name, value in item.items() if name not in ("weights_dtype", "details")}
        for item in layers_to_json(parse_layer_records(CONV))
    ]
    assert layers_from_json(old) == parse_layer_records(CONV)


def test_details_survive_json() -> None:
    layer = LayerInfo("a", "conv", (), (), "", (), weights_dtype="Int8", details=(("Kernel", "[3, 3]"),))
    assert layers_from_json(json.loads(json.dumps(layers_to_json([layer])))) == (layer,)


@pytest.mark.parametrize(
    ("weights", "reads", "writes", "precision"),
    [
        ("Int8", "Half", "Float", "int8"),
        ("", "Half", "Float", "fp16"),
        ("", "", "Float", "fp32"),
        ("", "", "", ""),
        ("", "BFloat16", "Half", "bf16"),
        ("", "Bool", "Half", "bool"),
        ("", "Int32", "Float", "fp32"),
        ("", "Int64", "Int32", "int64"),
    ],
)
def test_a_layers_precision_is_that_of_its_weights_or_else_of_its_first_tensor(
    weights: str, reads: str, writes: str, precision: str
) -> None:
    tensors = [(LayerTensor("t", (1,), dtype),) for dtype in (reads, writes)]
    assert LayerInfo("a", "conv", *tensors, "", (), weights_dtype=weights).precision == precision
