"""Models of which TensorRT-RTX takes a part only, made from real ones and from text, with feeds for them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from helpers_shapes import floats, network, saved, scalar
from models import FASHION_CNN, OCR_CLS, parse
from onnxruntime.quantization import QuantType, quantize_dynamic

from workbench.model import Model, load_model
from workbench.reference import random_feeds
from workbench.types import Feeds


def quantized(folder: Path, source: Path, nodes: tuple[str, ...] = ()) -> Model:
    """Dynamically: DynamicQuantizeLinear, ConvInteger, MatMulInteger. nodes: all that can be, if none is named."""
    path = folder / f"{source.stem}_quantized.onnx"
    copy = shutil.copy(source, folder)  # ONNX Runtime writes a file beside it
    quantize_dynamic(copy, path, weight_type=QuantType.QUInt8, nodes_to_quantize=list(nodes))
    return load_model(path)


def optimized(folder: Path, source: Path) -> Model:
    """Offline by ONNX Runtime, which puts operators of its own in."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / f"{source.stem}_optimized.onnx")
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return load_model(options.optimized_model_filepath)


LAYER = """
    h{i} = MatMul(x{i}, wq{i}) q{i} = Add(h{i}, bq{i}) k{i} = MatMul(x{i}, wk{i}) v{i} = MatMul(x{i}, wv{i})
    kt{i} = Transpose<perm = [0, 2, 1]>(k{i}) qk{i} = MatMul(q{i}, kt{i}) scores{i} = Mul(qk{i}, scale)
    attention{i} = Softmax<axis = -1>(scores{i}) mixed{i} = MatMul(attention{i}, v{i})
    proj{i} = MatMul(mixed{i}, wo{i}) projected{i} = Add(proj{i}, bo{i})
    skip{i} = Add(x{i}, projected{i}) n{i} = LayerNormalization(skip{i}, g{i}, b{i})
    up{i} = MatMul(n{i}, wu{i}) biased{i} = Add(up{i}, bu{i}) scaled{i} = Div(biased{i}, root)
    erf{i} = Erf(scaled{i}) more{i} = Add(erf{i}, one) product{i} = Mul(biased{i}, more{i})
    gelu{i} = Mul(product{i}, half) down{i} = MatMul(gelu{i}, wd{i}) lowered{i} = Add(down{i}, bd{i})
    again{i} = Add(n{i}, lowered{i}) x{j} = LayerNormalization(again{i}, g{i}, b{i})
"""


def transformer(folder: Path) -> Model:
    """Two layers as BERT's, which ONNX Runtime fuses to FusedMatMul, SkipLayerNormalization and BiasGelu."""
    body = LAYER.format(i=0, j=1) + LAYER.format(i=1, j=2)
    graph = f"(int64[n,s] ids) => (float[n,s,16] y) {{ x0 = Gather(table, ids) {body} y = Identity(x2) }}"
    generator = np.random.default_rng(0)
    sizes = {"table": (32, 16)}
    for i in range(2):
        sizes |= {f"w{kind}{i}": (16, 16) for kind in "qkvo"} | {
            f"wu{i}": (16, 32),
            f"wd{i}": (32, 16),
            f"bu{i}": (32,),
        }
        sizes |= dict.fromkeys((f"b{kind}{i}" for kind in ("q", "o", "d", "")), (16,)) | {f"g{i}": (16,)}
    weights = {name: (generator.standard_normal(size) / 4).astype(np.float32) for name, size in sizes.items()}
    numbers = {"scale": 0.25, "root": 2**0.5, "one": 1.0, "half": 0.5}
    weights |= {name: np.array(value, np.float32) for name, value in numbers.items()}
    return optimized(folder, saved(folder, parse(graph, **weights), "transformer").path)


UNIQUE = """(float[n,m] x) => (float[k] y, float[k] z) {
    r = Relu(x) f = Sigmoid(r) values, where, back, counts = Unique<sorted = 1>(f)
    s = Sqrt(values) t = Add(s, values) y = Exp(t)
    c = Cast<to = 1>(counts) d = Mul(c, values) e = Add(d, s) z = Tanh(e) }"""
BRANCHES = """(float[n,4] x, int64 steps) => (float[n,4] y) {
    r = Sigmoid(x) total = ReduceSum<keepdims = 0>(r) many = Greater(total, two)
    chosen = If(many) <
        then_branch = then () => (float[n,4] a) { a = com.microsoft.Gelu(r) },
        else_branch = other () => (float[n,4] b) { b = Neg(r) }>
    e = Add(chosen, r) f = Tanh(e)
    looped = Loop(steps, yes, f) <body = body (int64 i, bool on, float[n,4] v) => (bool still, float[n,4] w) {
        still = Identity(on) w = com.microsoft.QuickGelu(v) }>
    g = Add(looped, r) h = Exp(g) y = Sub(h, e) }"""
SEQUENCE = """(float[n,4] x) => (float[n,?] y) {
    r = Sigmoid(x) columns = SplitToSequence<axis = 1>(r) first = SequenceAt(columns, zero)
    a = Tanh(first) b = Mul(a, a) c = Abs(b)
    more = SequenceInsert(columns, c) joined = ConcatFromSequence<axis = 1>(more)
    e = Abs(joined) f = Exp(e) y = Sqrt(f) }"""


def branches(folder: Path) -> Model:
    proto = parse(BRANCHES, two=np.array(2, np.float32), yes=np.array(True))
    proto.opset_import.add(domain="com.microsoft", version=1)
    return saved(folder, proto, "branches")


def _random(*shapes: tuple[int, ...]) -> Callable[[Model], list[Feeds]]:
    return lambda model: [random_feeds(model.inputs, {model.inputs[0].name: shape}) for shape in shapes]


def _with_steps(model: Model) -> list[Feeds]:
    return [{"x": floats(rows, 4), "steps": scalar(steps)} for rows, steps in ((1, 2), (3, 0))]


CONVS = ("Conv@10", "Conv@25", "Conv@26", "Conv@48")
MODELS: dict[str, tuple[Callable[[Path], Model], Callable[[Model], list[Feeds]]]] = {
    "quantized CNN": (lambda folder: quantized(folder, FASHION_CNN), _random((1, 1, 28, 28), (3, 1, 28, 28))),
    "quantized OCR": (lambda folder: quantized(folder, OCR_CLS, CONVS), _random((1, 3, 48, 192), (2, 3, 48, 100))),
    "optimized OCR": (lambda folder: optimized(folder, OCR_CLS), _random((1, 3, 48, 192), (2, 3, 48, 100))),
    "optimized transformer": (transformer, _random((1, 7), (2, 3))),
    "sizes that depend on data": (lambda folder: network(folder, UNIQUE), _random((2, 3), (4, 4))),
    "branches and a loop": (branches, _with_steps),
    "a sequence": (lambda folder: network(folder, SEQUENCE, zero=scalar(0)), _random((2, 4), (5, 4))),
}
