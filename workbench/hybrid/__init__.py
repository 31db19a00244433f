"""A model in parts: an engine for every subgraph, ONNX Runtime for the rest, run as one session.

collect_shapes(model, feeds)     sizes that tensors really take, where they do not follow from the inputs'
build_parts(partition, config)   an engine for every subgraph, each with a key of its own
HybridSession(hybrid)            all parts open, run one after another
run_hybrid, fragmentation        compared with ONNX Runtime alone: what cutting costs
"""

from workbench.hybrid.parts import HybridRun, build_parts, fragmentation, run_hybrid
from workbench.hybrid.session import HybridEngine, HybridSession
from workbench.hybrid.shapes import CollectedShapes, collect_shapes, load_shapes, save_shapes, usual_samples

__all__ = [
    "CollectedShapes",
    "HybridEngine",
    "HybridRun",
    "HybridSession",
    "build_parts",
    "collect_shapes",
    "fragmentation",
    "load_shapes",
    "run_hybrid",
    "save_shapes",
    "usual_samples",
]
