"""Small ONNX models for tests, written in ONNX's own text form: IR 8 and opset 17, which every back end takes."""

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, numpy_helper

MODELS = Path(__file__).parents[1] / "data" / "models"
FASHION_CNN, OCR_DET, OCR_CLS = (
    MODELS / f"{name}.onnx" for name in ("fashion_cnn", "ppocrv4_det", "ppocr_mobile_v2_cls")
)
LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("light_*.onnx"))

RELU = "(float[n,4] x) => (float[n,4] y) { [relu] y = Relu(x) }"
MATMUL = "(float[n,4] x) => (float[n,4] y) { [matmul] y = MatMul(x, w) }"
SCALE = "(float[n,2] x) => (float[n,2] y) { [scale] y = Mul(x, w) }"
FOREIGN = "(float[n,4] x) => (float[n,4] y) { [first] t = Relu(x) [frob] y = foreign.Frobnicate(t) }"


def parse(graph: str, **weights: np.ndarray) -> ModelProto:
    """`graph` as '(inputs) => (outputs) { [node name] nodes }', with these initializers."""
    header = '<ir_version: 8, opset_import: ["" : 17, "foreign" : 1], producer_name: "tests", producer_version: "1">'
    proto = onnx.parser.parse_model(f"{header} graph {graph}")
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return proto


def save(path: Path, graph: str, **weights: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(parse(graph, **weights).SerializeToString())
    return path


def save_external(path: Path, location: str = "weights.bin", **entries: str) -> Path:
    """MATMUL with its 64 bytes of weights said to lie at `location`; other entries (offset, length) as given."""
    tensor = TensorProto(name="w", dims=[4, 4], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": "0", "length": "64", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    proto = parse(MATMUL)
    proto.graph.initializer.append(tensor)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(proto.SerializeToString())
    return path


def save_over_2gb(path: Path) -> Path:
    """A MatMul whose weights, all 0, take 2,147,580,964 bytes: a file with a hole, so it costs no disk."""
    size = 23171
    assert 4 * size**2 > 2**31
    graph = MATMUL.replace("4", str(size))
    tensor = TensorProto(name="w", dims=[size, size], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", "offset": "0", "length": str(4 * size**2)}.items():
        tensor.external_data.add(key=key, value=value)
    proto = parse(graph)
    proto.graph.initializer.append(tensor)
    path.write_bytes(proto.SerializeToString())
    with path.with_name("weights.bin").open("wb") as file:
        file.truncate(4 * size**2)
    return path


def save_chain(path: Path, nodes: int) -> Path:
    """`nodes` nodes one after another: convolutions, each followed by a Relu."""
    body = "".join(
        f"[conv{i}] c{i} = Conv<pads = [1, 1, 1, 1]>(t{i}, w) [relu{i}] t{i + 1} = Relu(c{i})\n"
        for i in range(nodes // 2)
    )
    graph = f"(float[n,4,8,8] t0) => (float[n,4,8,8] t{nodes // 2}) {{ {body} }}"
    return save(path, graph, w=np.full((4, 4, 3, 3), 0.01, np.float32))
