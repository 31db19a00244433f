"""Model -> Model in lower precision, for back ends where typing is the model's business."""

from __future__ import annotations

import difflib
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper

from workbench.errors import ConfigError, ModelError
from workbench.model import LARGE_BYTES, Model, load_model, reads, subgraphs
from workbench.types import BuildConfig, Listener, Progress

CONVERTED = ("fp16", "bf16")
"""The precisions that are reached by rewriting the model."""

MIXES = {"fp16": ("fp32",), "bf16": ("fp32",), "int8": ("fp32", "fp16")}
"""What single nodes may keep computing in while the rest of the model is converted, by the precision of the rest."""

_LARGEST_FLOAT16 = 65504.0
_OWN_RELEASE = "2"
"""Counts up when `convert` makes other models; 2: variances beyond float16."""
_NOT_IN_BFLOAT16 = ("ConvTranspose",)  # TensorRT-RTX 1.7 has no such kernel: 'Could not infer output types'


def converter_release() -> str:
    """The converter belongs to what an engine was made from: another release may give another engine."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}, {_OWN_RELEASE}"


def check_mix(config: BuildConfig, mixes: Mapping[str, tuple[str, ...]]) -> None:
    """Raise ConfigError for a node's precision that does not go with that of the whole, which is a key of `mixes`."""
    allowed = mixes.get(config.precision, ())
    for node, wish in config.builder.layer_precisions.items():
        if wish not in allowed:
            whole = " or ".join(name for name, parts in mixes.items() if wish in parts)
            advice = f"choose {' or '.join(allowed)} for it" if allowed else "leave it out"
            advice += f", or {whole} for the whole" if whole else ""
            raise ConfigError(f"{node} cannot compute in {wish} while the whole is {config.precision}: {advice}.")


def check_nodes(model: Model, config: BuildConfig) -> None:
    """Raise ConfigError for a name in `layer_precisions` that no node of the model has."""
    check_names(model, config.builder.layer_precisions)


def check_names(model: Model, names: Iterable[str]) -> None:
    """Raise ConfigError for a name that no node of the model has."""
    known = [node.name for node in model.nodes]
    for name in set(names).difference(known):
        close = difflib.get_close_matches(name, known, n=1)
        raise ConfigError(f"{model.name} has no node {name!r}" + (f"; did you mean {close[0]!r}?" if close else "."))


def converted(model: Model, config: BuildConfig, folder: Path, listener: Listener) -> Model:
    """The model as this configuration wants it: converted in `folder` where the precision asks for it."""
    if config.precision not in CONVERTED:
        return model
    phase = f"Converting the model to {config.precision}"
    listener(Progress(phase, 0, 1))
    kept = config.builder.layer_precisions  # fp32, as `check_mix` allows nothing else here
    model = convert(model, config.precision, folder, keep_io_types=config.keep_io_types, keep=kept)
    listener(Progress(phase, 1, 1))
    return model


def convert(
    model: Model, precision: str, folder: Path, *, keep_io_types: bool = True, keep: Iterable[str] = ()
) -> Model:
    """The model with float32 computation replaced by `precision` ('fp16' or 'bf16'); written into `folder`.

    Operators that have no such form stay float32 between casts, and so do the nodes named in `keep`. With
    keep_io_types the inputs and outputs stay float32. Uses ONNX Runtime's converter; bfloat16 takes that result with
    the types exchanged and the weights rounded from the original float32 values, so nothing passes through float16's
    narrow range.
    Raises ModelError when the converter cannot handle the model.
    """
    if precision not in CONVERTED:
        raise ConfigError(f"precision {precision!r} is not reached by converting the model; only fp16 and bf16 are.")
    from onnxruntime.transformers import float16

    logging.getLogger(float16.__name__).setLevel(logging.ERROR)  # it warns once for every weight that underflows
    source = with_weights(model, folder)
    _spell_out_constants(source.graph)
    if precision == "fp16":
        _bring_variances_into_range(source.graph)
    weights = dict(_float_weights(source.graph)) if precision == "bf16" else {}
    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *(_NOT_IN_BFLOAT16 if precision == "bf16" else ())]
    try:
        proto = float16.convert_float_to_float16(
            source,
            keep_io_types=keep_io_types,
            disable_shape_infer=True,
            op_block_list=blocked,
            node_block_list=_with_constants(source.graph, set(keep)),
        )
    except (ValueError, RuntimeError, AssertionError, KeyError) as error:
        raise ModelError(f"{model.name}: cannot be converted to {precision}: {error}") from error
    _drop_repeated_casts(proto.graph)
    _sort_nodes(proto.graph)
    if precision == "bf16":
        _to_bfloat16(proto.graph, weights)
    path = folder / f"{model.name}.{precision}.onnx"
    too_large = sum(tensor.ByteSize() for tensor in proto.graph.initializer) > LARGE_BYTES
    onnx.save_model(proto, str(path), save_as_external_data=too_large, location=f"{path.name}.data")
    return load_model(path)


def _with_constants(graph: GraphProto, keep: set[str]) -> list[str]:
    """These nodes and the constants they read, whose values would be rounded else."""
    read = {name for node in graph.node if node.name in keep for name in node.input}
    constants = [node.name for node in graph.node if node.op_type == "Constant" and node.output[0] in read]
    return [*keep, *constants]


def with_weights(model: Model, folder: Path) -> ModelProto:
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
    for inner in _bodies(graph):
        yield from _float_weights(inner)


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
    for inner in _bodies(graph):
        _to_bfloat16(inner, weights)


def _bodies(graph: GraphProto) -> Iterator[GraphProto]:
    """The bodies of its If, Loop and Scan nodes."""
    for node in graph.node:
        yield from subgraphs(node)


def _spell_out_constants(graph: GraphProto) -> None:
    """Constants written as bare numbers become tensors, the only form the converter knows."""
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name in ("value_float", "value_floats"):
                values = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                tensor = numpy_helper.from_array(np.array(values, np.float32))
                attribute.CopyFrom(onnx.helper.make_attribute("value", tensor))
    for inner in _bodies(graph):
        _spell_out_constants(inner)


def _bring_variances_into_range(graph: GraphProto) -> None:
    """BatchNormalization divides by the root of a variance, which may lie beyond float16's range although what comes
    out does not: such a variance goes into the scale instead."""
    weights = dict(_float_weights(graph))
    for node in graph.node:
        if node.op_type != "BatchNormalization" or not {node.input[1], node.input[4]} <= weights.keys():
            continue
        scale, variance = (numpy_helper.to_array(weights[node.input[place]]).astype(np.float64) for place in (1, 4))
        if np.max(variance, initial=0.0) <= _LARGEST_FLOAT16:
            continue
        epsilon = next((item.f for item in node.attribute if item.name == "epsilon"), 1e-5)
        values = {1: scale / np.sqrt(variance + epsilon), 4: np.full_like(variance, 1 - epsilon)}
        for place, value in values.items():
            name = f"{node.input[place]}/{node.output[0]}/in_range"
            graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
            node.input[place] = name


def _drop_repeated_casts(graph: GraphProto) -> None:
    """The converter writes the same cast once for every kept node that reads it."""
    made: set[str] = set()
    nodes = []
    for node in graph.node:
        if node.op_type != "Cast" or node.output[0] not in made:
            nodes.append(node)
        made.update(node.output)
    del graph.node[:]
    graph.node.extend(nodes)


def _sort_nodes(graph: GraphProto) -> None:
    """The converter appends its casts; a node comes after whatever it and its bodies read."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    order = TopologicalSorter(
        {index: {makers[name] for name in reads(node) if name in makers} for index, node in enumerate(graph.node)}
    )
    nodes = [graph.node[index] for index in order.static_order()]
    del graph.node[:]
    graph.node.extend(nodes)
    for inner in _bodies(graph):
        _sort_nodes(inner)


def _round_to_bfloat16(tensor: TensorProto, original: TensorProto | None) -> None:
    if tensor.data_type != TensorProto.FLOAT16:
        return
    values = numpy_helper.to_array(original if original is not None else tensor).astype(np.float32)
    bfloat16 = onnx.helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)
    tensor.CopyFrom(numpy_helper.from_array(values.astype(bfloat16), tensor.name))
