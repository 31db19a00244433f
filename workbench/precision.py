"""Model -> Model in lower precision, for back ends where typing is the model's business."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper

from workbench.errors import ConfigError, ModelError
from workbench.model import Model, load_model

CONVERTED = ("fp16", "bf16")
"""The precisions that are reached by rewriting the model."""

_NOT_IN_BFLOAT16 = ("ConvTranspose",)  # TensorRT-RTX 1.7 has no such kernel: 'Could not infer output types'


def converter_release() -> str:
    """The converter belongs to what an engine was made from: another release may give another engine."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def convert(model: Model, precision: str, folder: Path, *, keep_io_types: bool = True) -> Model:
    """The model with float32 computation replaced by `precision` ('fp16' or 'bf16'); written into `folder`.

    Operators that have no such form stay float32 between casts. With keep_io_types the inputs and outputs stay
    float32. Uses ONNX Runtime's converter; bfloat16 takes that result with the types exchanged and the weights
    rounded from the original float32 values, so nothing passes through float16's narrow range.
    Raises ModelError when the converter cannot handle the model.
    """
    if precision not in CONVERTED:
        raise ConfigError(f"precision {precision!r} is not reached by converting the model; only fp16 and bf16 are.")
    from onnxruntime.transformers import float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    logging.getLogger(float16.__name__).setLevel(logging.ERROR)  # it warns once for every weight that underflows
    source = _with_weights(model, folder)
    weights = dict(_float_weights(source.graph)) if precision == "bf16" else {}
    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *(_NOT_IN_BFLOAT16 if precision == "bf16" else ())]
    try:
        proto = float16.convert_float_to_float16(
            source, keep_io_types=keep_io_types, disable_shape_infer=True, op_block_list=blocked
        )
    except (ValueError, RuntimeError, AssertionError, KeyError) as error:
        raise ModelError(f"{model.name}: cannot be converted to {precision}: {error}") from error
    OnnxModel.graph_topological_sort(proto.graph)
    if precision == "bf16":
        _to_bfloat16(proto.graph, weights)
    path = folder / f"{model.name}.{precision}.onnx"
    too_large = proto.ByteSize() > onnx.checker.MAXIMUM_PROTOBUF // 2
    onnx.save_model(proto, str(path), save_as_external_data=too_large, location=f"{path.name}.data")
    return load_model(path)


def _with_weights(model: Model, folder: Path) -> ModelProto:
    """The whole model in memory with inferred types of inner tensors; inference works on files, for any size."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        bare, inferred = Path(work) / "model.onnx", Path(work) / "inferred.onnx"
        bare.write_bytes(model.to_bytes())
        try:
            onnx.shape_inference.infer_shapes_path(str(bare), str(inferred))
        except (RuntimeError, onnx.shape_inference.InferenceError) as error:
            raise ModelError(f"{model.name}: shape inference fails: {error}") from error
        proto = onnx.load(str(inferred if inferred.exists() else bare), load_external_data=False)
    if model.external_files:
        onnx.load_external_data_for_model(proto, str(model.path.parent))
    return proto


def _float_weights(graph: GraphProto) -> Iterator[tuple[str, TensorProto]]:
    """Copies of the float32 initializers and constants by the name of their value."""
    named = [(tensor.name, tensor) for tensor in graph.initializer]
    named += [(node.output[0], item.t) for node in graph.node if node.op_type == "Constant" for item in node.attribute]
    for name, tensor in named:
        if tensor.data_type == TensorProto.FLOAT:
            copy = TensorProto()
            copy.CopyFrom(tensor)
            yield name, copy


def _to_bfloat16(graph: GraphProto, weights: dict[str, TensorProto]) -> None:
    """Turn every float16 of a converted graph into bfloat16."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    for tensor in graph.initializer:
        _round_to_bfloat16(tensor, weights.get(tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.BFLOAT16
            if attribute.HasField("t"):
                _round_to_bfloat16(attribute.t, weights.get(node.output[0]))
            for inner in _graphs(attribute):
                _to_bfloat16(inner, weights)


def _graphs(attribute: onnx.AttributeProto) -> Iterator[GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _round_to_bfloat16(tensor: TensorProto, original: TensorProto | None) -> None:
    if tensor.data_type != TensorProto.FLOAT16:
        return
    values = numpy_helper.to_array(original if original is not None else tensor).astype(np.float32)
    bfloat16 = onnx.helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)
    tensor.CopyFrom(numpy_helper.from_array(values.astype(bfloat16), tensor.name))
