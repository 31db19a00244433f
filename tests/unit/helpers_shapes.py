"""Models in text form at any operator set, and the shapes that ONNX Runtime really makes in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from workbench.model import Model, load_model
from workbench.reference import random_feeds
from workbench.tensor_shapes import TensorShapes


def network(folder: Path, graph: str, opset: int = 17, name: str = "net", **weights: np.ndarray) -> Model:
    """`graph` as '(inputs) => (outputs) { [node name] nodes }', with these initializers."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}, "foreign" : 1]> graph {graph}')
    proto.graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in weights.items())
    return saved(folder, proto, name)


def saved(folder: Path, proto: onnx.ModelProto, name: str = "net") -> Model:
    path = folder / f"{name}.onnx"
    path.write_bytes(proto.SerializeToString())
    return load_model(path)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def scalar(value: int) -> np.ndarray:
    return np.array(value, np.int64)


def floats(*shape: int) -> np.ndarray:
    return np.full(shape, 0.5, np.float32)


def made(
    model: Model, shapes: Mapping[str, tuple[int, ...]], feeds: Mapping[str, np.ndarray] | None = None
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """dtype and shape of every tensor that the nodes make, as ONNX Runtime runs them one by one."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    known = {output.name for output in proto.graph.output}
    for node in proto.graph.node:
        for output in node.output:
            if output and output not in known:
                proto.graph.output.add().name = output
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if model.external_files:
        folder = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(folder, str(model.path.parent))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, dict(feeds or random_feeds(model.inputs, shapes)))
    return {
        name: (value.dtype.name, value.shape)
        for name, value in zip(names, values, strict=True)
        if isinstance(value, np.ndarray | np.generic)
    }


def told(shapes: TensorShapes) -> dict[str, tuple[str, tuple[int | str | None, ...] | None]]:
    """What the workbench says of the tensors that nodes make."""
    return {item.name: (item.dtype, item.shape) for item in shapes.tensors if item.op_type}
