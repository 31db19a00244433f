"""INT32 biases become floats that say the same."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from workbench.building import build, check_support
from workbench.engine import read_layers
from workbench.model import load_model
from workbench.quantized import fold_int32_biases
from workbench.store import EngineStore
from workbench.types import BuildConfig

CHANNELS = 4


def quantized_conv(
    *, per_channel: bool, as_nodes: bool = False, zero_point: bool = True, axis: int = 0, opset: int = 17
) -> ModelProto:
    """x -> Q -> DQ -> Conv(weights in INT8, bias in INT32) -> y, as Paddle's QAT comes out of paddle2onnx."""
    random = np.random.default_rng(0)
    count = CHANNELS if per_channel else 1
    scale = (random.random(count, np.float32) + 0.5) / 1000
    constants = {
        "x_scale": np.float32(0.01),
        "x_zero": np.int8(0),
        "w": random.integers(-127, 128, (CHANNELS, 3, 3, 3)).astype(np.int8),
        "w_scale": (random.random(CHANNELS, np.float32) + 0.5) / 100,
        "w_zero": np.zeros(CHANNELS, np.int8),
        "b": random.integers(-40_000, 40_000, CHANNELS).astype(np.int32),
        "b_scale": scale if per_channel else scale[0],
        "b_zero": np.zeros(CHANNELS, np.int32) if per_channel else np.int32(0),
    }
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"], name="q_x"),
        helper.make_node("DequantizeLinear", ["xq", "x_scale", "x_zero"], ["xd"], name="dq_x"),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wd"], name="dq_w", axis=0),
        helper.make_node(
            "DequantizeLinear", ["b", "b_scale", *(["b_zero"] if zero_point else [])], ["bd"], name="dq_b", axis=axis
        ),
        helper.make_node("Conv", ["xd", "wd", "bd"], ["y"], name="conv", pads=[1] * 4),
    ]
    if as_nodes:
        nodes = [*(helper.make_node("Constant", [], [item.name], value=item) for item in tensors), *nodes]
        tensors = []
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CHANNELS, 8, 8])],
        tensors,
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])


def answers(proto: ModelProto) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8), np.float32)
    return session.run(None, {"x": x})[0]


def int32_dequantizations(proto: ModelProto) -> int:
    constants = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    constants |= {
        node.output[0]: node.attribute[0].t.data_type for node in proto.graph.node if node.op_type == "Constant"
    }
    nodes = [node for node in proto.graph.node if node.op_type == "DequantizeLinear"]
    return sum(constants.get(node.input[0]) == TensorProto.INT32 for node in nodes)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("as_nodes", [True, False])
@pytest.mark.parametrize("zero_point", [True, False])
@pytest.mark.parametrize("axis", [0, -1])
def test_a_folded_bias_computes_the_same(per_channel: bool, as_nodes: bool, zero_point: bool, axis: int) -> None:
    proto = quantized_conv(per_channel=per_channel, as_nodes=as_nodes, zero_point=zero_point, axis=axis)
    folded = fold_int32_biases(proto)
    assert (int32_dequantizations(proto), int32_dequantizations(folded)) == (1, 0)
    onnx.checker.check_model(folded, full_check=True)
    np.testing.assert_array_equal(answers(folded), answers(proto))


def test_only_the_bias_is_folded_and_what_it_was_made_of_is_gone() -> None:
    folded = fold_int32_biases(quantized_conv(per_channel=True))
    assert [node.name for node in folded.graph.node] == ["q_x", "dq_x", "dq_w", "conv"]
    names = {tensor.name for tensor in folded.graph.initializer}
    assert names == {"x_scale", "x_zero", "w", "w_scale", "w_zero", "bd"}


def test_the_given_model_is_left_as_it_was() -> None:
    proto = quantized_conv(per_channel=True)
    before = proto.SerializeToString(deterministic=True)
    fold_int32_biases(proto)
    assert proto.SerializeToString(deterministic=True) == before


def test_a_model_without_such_a_bias_is_returned_itself() -> None:
    proto = fold_int32_biases(quantized_conv(per_channel=True))
    assert fold_int32_biases(proto) is proto


def test_a_constant_that_another_node_reads_too_stays() -> None:
    proto = quantized_conv(per_channel=True)
    proto.graph.node.append(helper.make_node("Identity", ["b_scale"], ["scales"], name="reader"))
    proto.graph.output.append(helper.make_tensor_value_info("scales", TensorProto.FLOAT, [CHANNELS]))
    folded = fold_int32_biases(proto)
    onnx.checker.check_model(folded, full_check=True)
    assert "b_scale" in {tensor.name for tensor in folded.graph.initializer}


def test_a_bias_that_is_an_output_or_is_computed_is_left_alone() -> None:
    output = quantized_conv(per_channel=True)
    output.graph.output.append(helper.make_tensor_value_info("bd", TensorProto.FLOAT, [CHANNELS]))
    assert fold_int32_biases(output) is output
    computed = quantized_conv(per_channel=True)
    computed.graph.initializer.remove(next(item for item in computed.graph.initializer if item.name == "b"))
    computed.graph.input.append(helper.make_tensor_value_info("b", TensorProto.INT32, [CHANNELS]))
    assert fold_int32_biases(computed) is computed


def test_a_bias_inside_a_branch_is_folded() -> None:
    inner = quantized_conv(per_channel=True).graph
    del inner.input[:]
    inner.name = "then"
    other = onnx.GraphProto()
    other.CopyFrom(inner)
    other.name = "else"
    choice = helper.make_node("If", ["choice"], ["z"], name="if", then_branch=inner, else_branch=other)
    graph = helper.make_graph(
        [choice],
        "graph",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8]),
            helper.make_tensor_value_info("choice", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, CHANNELS, 8, 8])],
    )
    proto = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    folded = fold_int32_biases(proto)
    onnx.checker.check_model(folded, full_check=True)
    for attribute in folded.graph.node[0].attribute:
        assert [node.name for node in attribute.g.node] == ["q_x", "dq_x", "dq_w", "conv"]


@pytest.mark.rtx
@pytest.mark.parametrize("as_nodes", [True, False])
@pytest.mark.parametrize("external", [True, False])
def test_tensorrt_rtx_builds_a_model_with_an_int32_bias(
    tmp_path: Path, store: EngineStore, as_nodes: bool, external: bool
) -> None:
    """NVIDIA's parser refuses such a bias, so it is folded before."""
    proto = quantized_conv(per_channel=True, as_nodes=as_nodes)
    path = tmp_path / "net.onnx"
    onnx.save_model(proto, str(path), save_as_external_data=external, location="net.data", size_threshold=0)
    model = load_model(path)
    assert check_support(model, "rtx").supported
    engine = build(model, BuildConfig("int8"), "rtx", store=store).engine
    assert "int8" in {layer.precision for layer in read_layers(engine) if "conv" in layer.nodes}
