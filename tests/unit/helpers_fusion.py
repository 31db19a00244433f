"""Recorded engines of ResNet-18 and TensorRT-RTX, and small nodes and layers made by hand."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from workbench.fusion import Fusion, Node, link
from workbench.fusion.files import read_nodes, read_text
from workbench.fusion.story import read_build_log
from workbench.inspector import parse_inspection
from workbench.layers import LayerInfo, LayerTensor
from workbench.types import LogLine

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "data" / "recorded" / "tensorrt-8.6.0-h200"
RTX_RECORDED = ROOT / "tests" / "data" / "tensorrt_rtx-1.7.1-cpu"
ENGINES = ("fp32", "fp16", "int8", "fp16_b128", "fp16_dynamic")


def inspector_text(engine: str) -> str:
    return read_text(RECORDED / f"resnet18_{engine}.inspector.json.gz")


@cache
def layers(engine: str) -> tuple[LayerInfo, ...]:
    return parse_inspection(inspector_text(engine)).layers


@cache
def resnet_nodes() -> tuple[Node, ...]:
    return read_nodes(RECORDED / "resnet18_classic.nodes.json.gz")


def node(name: str, op_type: str, inputs: list[str], outputs: list[str], weights: list[str] | None = None) -> Node:
    results = tuple(name for name in outputs if name in ("output", "y"))
    return Node(name, op_type, tuple(inputs), tuple(outputs), tuple(weights or ()), results)


@cache
def resnet_log() -> tuple[LogLine, ...]:
    """Of the fp32 build."""
    return read_build_log(read_text(RECORDED / "resnet18_fp32.build.log.xz"))


def resnet(engine: str, **options: object) -> Fusion:
    return link(layers(engine), resnet_nodes(), **options)  # type: ignore[arg-type]


def layer(name: str, *nodes: str, kind: str = "kgen", reads: str = "", writes: str = "") -> LayerInfo:
    """A layer that reads and writes the tensors named, with spaces between them, all in fp16."""
    inputs, outputs = (tuple(LayerTensor(item, (1,), "Half") for item in names.split()) for names in (reads, writes))
    return LayerInfo(name, kind, inputs, outputs, "", nodes)


def lines(*texts: str) -> tuple[LogLine, ...]:
    return tuple(LogLine("verbose", text) for text in texts)
