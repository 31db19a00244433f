"""The operators that releases of TensorRT take: on any machine one sees what an older one would leave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from onnx import NodeProto

from workbench.errors import ConfigError
from workbench.model import Model, subgraphs


@dataclass(frozen=True)
class Release:
    """newest_opset: the operator set whose definitions it knows. operators: of the standard domain."""

    newest_opset: int
    operators: frozenset[str]


_8_6 = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu Clip
    Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout
    Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gemm GlobalAveragePool
    GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Identity
    If ImageScaler InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax Loop LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mod Mul Neg Not
    OneHot Or PRelu Pad ParametricSoftplus Pow QuantizeLinear RNN RandomNormal RandomNormalLike RandomUniform
    RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence Round ScaledTanh Scan
    Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign
    SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample
    Where Xor
"""
"""What IParser::supportsOperator answers in libnvonnxparser.so.8 of the wheel tensorrt 8.6.0; parsing a model takes
three more, whose outputs are as long as the data makes them."""
_SINCE_8_6 = """
    Attention BlackmanWindow CastLike DeformConv Gelu HammingWindow HannWindow Hardmax Mish NonMaxSuppression
    NonZero RMSNormalization RoiAlign RotaryEmbedding STFT TensorScatter
"""
"""docs/operators.md of onnx/onnx-tensorrt (Apache-2.0) at commit fa5aa9f61e7781d2ca8f5351d42c1f19525a6124."""
RELEASES = {
    "8.6": Release(17, frozenset(_8_6.split())),
    "10.15": Release(24, frozenset((_8_6 + _SINCE_8_6).split())),
}


def refused_by_release(model: Model, name: str) -> dict[str, str]:
    """Node -> why this release does not take it, as far as its list of operators tells: an operator it lacks, or one
    that was defined anew since. Operators of other domains are judged by nobody. Raises ConfigError."""
    if name not in RELEASES:
        raise ConfigError(f"no list of operators is known for release {name!r}; choose one of {', '.join(RELEASES)}.")
    release = RELEASES[name]
    functions = {(item.domain, item.name): tuple(item.node) for item in model.proto.functions}
    found = {}
    for node in model.nodes:
        for inner in _with_inner(node, functions):
            reason = _reason(inner, model.opset, release)
            if reason:
                found[node.name] = f"TensorRT {name} {reason}"
                break
    return found


def _with_inner(node: NodeProto, functions: dict[tuple[str, str], tuple[NodeProto, ...]]) -> Iterator[NodeProto]:
    """The node, or those of the model's own function that it calls, with the nodes in their bodies."""
    called = functions.get((node.domain, node.op_type))
    if called is None:
        yield node
    bodies = (inner for body in subgraphs(node) for inner in body.node)
    for inner in (*(called or ()), *bodies):
        yield from _with_inner(inner, functions)


def _reason(node: NodeProto, opset: int, release: Release) -> str:
    """Goes on after the release's name; empty where there is none."""
    if node.domain not in ("", "ai.onnx"):
        return ""
    if node.op_type not in release.operators:
        return f"has no operator {node.op_type}"
    if opset > release.newest_opset:
        defined = onnx.defs.get_schema(node.op_type, opset, "").since_version
        if defined > release.newest_opset:
            newest, kind = release.newest_opset, node.op_type
            return (
                f"knows definitions up to opset {newest}, {kind} is of opset {defined}: export it with opset {newest}"
            )
    return ""
